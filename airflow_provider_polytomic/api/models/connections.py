"""Connections to databases, warehouses and services."""

from __future__ import annotations

from typing import Any

from .field_types import Id, Time
from .tolerant import Integer, Model


class Connection(Model):
    """A connection of Polytomic to a database, warehouse or service."""

    id: Id
    name: str | None = None
    type: dict[str, Any] | None = None
    configuration: dict[str, Any] | None = None
    status: str | None = None
    status_error: str | None = None
    saved: bool | None = None
    parent_connection_id: str | None = None
    policies: list[str] | None = None
    api_calls_last_24_hours: Integer | None = None
    rate_limit: dict[str, Any] | None = None
    organization_id: str | None = None
    created_at: Time = None
    created_by: dict[str, Any] | None = None
    updated_at: Time = None
    updated_by: dict[str, Any] | None = None


class SchemaCache(Model):
    """The state of Polytomic's cache of the schemas of a connection."""

    cache_status: str | None = None
    last_refresh_started: Time = None
    last_refresh_finished: Time = None
