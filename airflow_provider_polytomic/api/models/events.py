"""Events in the organization."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .field_types import Id, Time
from .tolerant import Integer, Model


class EventDetails(Model):
    """The subject of an event: a sync, an execution or a connection."""

    sync_id: str | None = None
    sync_name: str | None = None
    execution_id: str | None = None
    source_connection_id: str | None = None
    destination_connection_id: str | None = None
    target_connection_id: str | None = None
    organization_id: str | None = None
    trigger_source: str | None = None
    trigger: str | None = None
    schedule: dict[str, Any] | None = None
    status: str | None = None
    error: str | None = None
    record_count: Integer | None = None
    inserted_count: Integer | None = None
    updated_count: Integer | None = None
    upserted_count: Integer | None = None
    error_count: Integer | None = None
    warning_count: Integer | None = None
    number_of_errors: Integer | None = None
    number_of_warnings: Integer | None = None
    total_records: list[str] | None = None
    inserted_records: list[str] | None = None
    updated_records: list[str] | None = None
    deleted_records: list[str] | None = None
    errored_records: list[str] | None = None
    warnings: list[str] | None = None
    logs_url: str | None = Field(None, repr=False)


class Event(Model):
    """An event in the organization."""

    id: Id
    type: str | None = None
    created_at: Time = None
    organization_id: str | None = None
    event: EventDetails | None = None
