"""Bulk syncs, with their schemas, schedules and status."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .executions import BulkSyncExecution, SchemaExecution
from .field_types import Id, Time
from .tolerant import Integer, Model


class BulkSync(Model):
    """A bulk sync (ELT): copies schemas of a source connection to a destination connection."""

    id: Id
    name: str | None = None
    active: bool | None = None
    mode: str | None = None
    source_connection_id: str | None = None
    destination_connection_id: str | None = None
    source_configuration: dict[str, Any] | None = None
    destination_configuration: dict[str, Any] | None = None
    default_schedule: dict[str, Any] | None = None
    additional_schedules: list[dict[str, Any]] | None = None
    automatically_add_new_fields: str | None = None
    automatically_add_new_objects: str | None = None
    concurrency_limit: Integer | None = None
    resync_concurrency_limit: Integer | None = None
    data_cutoff_timestamp: Time = None
    disable_record_timestamps: bool | None = None
    normalize_names: str | None = None
    organization_id: str | None = None
    policies: list[str] | None = None
    created_at: Time = None
    created_by: dict[str, Any] | None = None
    updated_at: Time = None
    updated_by: dict[str, Any] | None = None


class BulkSyncSchema(Model):
    """A schema (table, object) of a bulk sync, and how it is synced."""

    id: Id
    enabled: bool | None = None
    output_name: str | None = None
    user_output_name: str | None = None
    history_enabled: bool | None = None
    destination_history_output_name: str | None = None
    data_cutoff_timestamp: Time = None
    disable_data_cutoff: bool | None = None
    partition_key: str | None = None
    tracking_field: str | None = None
    fields: list[dict[str, Any]] | None = None
    filters: list[dict[str, Any]] | None = None


class BulkSyncSchedule(Model):
    """A schedule of a bulk sync, in UTC.

    The API uses camel case in lists of schedules, and snake case within a sync, where ``created_by`` and
    ``updated_by`` are objects. The ``id`` may be missing.
    """

    id: str | None = None
    frequency: str | None = None
    minute: str | None = None
    hour: str | None = None
    day_of_week: str | None = Field(None, alias="dayOfWeek")
    day_of_month: str | None = Field(None, alias="dayOfMonth")
    month: str | None = None
    is_default: bool | None = Field(None, alias="isDefault")
    schemas: list[str] | None = None
    selective_mode: str | None = Field(None, alias="selectiveMode")
    sync_id: str | None = Field(None, alias="syncId")
    sync_mode: str | None = Field(None, alias="syncMode")
    resync_mode: str | None = None
    created_at: Time = Field(None, alias="createdAt")
    created_by: str | dict[str, Any] | None = Field(None, alias="createdBy")
    updated_at: Time = Field(None, alias="updatedAt")
    updated_by: str | dict[str, Any] | None = Field(None, alias="updatedBy")
    deleted_at: Time = Field(None, alias="deletedAt")
    deleted_by: str | dict[str, Any] | None = Field(None, alias="deletedBy")


class BulkSyncStatus(Model):
    """The current and the last execution of a bulk sync."""

    current_execution: BulkSyncExecution | None = None
    last_execution: BulkSyncExecution | None = None
    ingestion_status: dict[str, Any] | None = None
    next_execution_time: Time = None


class SchemaStatus(SchemaExecution):
    """A row of a batch status response: the newest execution of a schema."""

    execution_id: str | None = None


class BulkSyncStatusSummary(Model):
    """The status of one sync in a batch status response.

    It can prove that an execution is running, but not that one has ended.
    """

    sync_id: str
    status: str | None = None
    next_execution_time: Time = Field(None, alias="nextExecutionTime")
    schemas: list[SchemaStatus] | None = None


class BulkSyncSource(Model):
    """The options of a connection as the source of bulk syncs."""

    configuration: Any = None
    capabilities: dict[str, Any] | None = None
    schemas: list[dict[str, Any]] | None = None


class BulkSyncDestination(Model):
    """The options of a connection as the destination of bulk syncs."""

    configuration: dict[str, Any] | None = None
    modes: list[dict[str, Any]] | None = None
    supported_resync_modes: list[str] | None = None
    supports_history_mode: bool | None = None
