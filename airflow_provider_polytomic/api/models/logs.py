"""Console logs and log files of executions."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .field_types import Time
from .tolerant import Integer, Model


class ConsoleLogEntry(Model):
    """One line of an execution's console log."""

    id: str | None = Field(None, max_length=1000)
    level: str | None = None
    message: str | None = None
    timestamp: Time = None
    payload: dict[str, Any] | None = None


class ConsoleLog(Model):
    """One page of an execution's console log."""

    entries: list[ConsoleLogEntry] | None = None
    next_cursor: str | None = Field(None, max_length=1000)


class LogFiles(Model):
    """Signed URLs of an execution's log files. They are secrets: they give access to the log."""

    expires: str | None = Field(None, alias="Expires")
    urls: list[str] | None = Field(None, alias="URLs", repr=False)


class ModelLogIndexEntry(Model):
    """The log files of one type: the number of records in them, and the endpoint that returns their URLs."""

    count: Integer | None = None
    url: str | None = None


class ModelLogIndex(Model):
    """The log files of an execution of a model sync, by type."""

    records: ModelLogIndexEntry | None = None
    errors: ModelLogIndexEntry | None = None
    warnings: ModelLogIndexEntry | None = None
    inserts: ModelLogIndexEntry | None = None
    updates: ModelLogIndexEntry | None = None
    deletes: ModelLogIndexEntry | None = None


class ModelLogFiles(Model):
    """The same as :class:`LogFiles` for model syncs, for which the API uses lower case."""

    expires: str | None = None
    urls: list[str] | None = Field(None, repr=False)
