"""Model syncs, with their sources, targets and status."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .field_types import Id, Time
from .model_executions import ModelSyncExecution
from .tolerant import Model


class ModelSync(Model):
    """A model sync (reverse ETL): writes the records of models to a target object."""

    id: Id
    name: str | None = None
    active: bool | None = None
    mode: str | None = None
    model_ids: list[str] | None = None
    schedule: dict[str, Any] | None = None
    fields: list[dict[str, Any]] | None = None
    override_fields: list[dict[str, Any]] | None = None
    overrides: list[dict[str, Any]] | None = None
    filters: list[dict[str, Any]] | None = None
    filter_logic: str | None = None
    model_filters: dict[str, Any] | None = None
    target_filters: dict[str, Any] | None = None
    identity: dict[str, Any] | None = None
    identities: dict[str, Any] | None = None
    only_enrich_updates: bool | None = None
    skip_initial_backfill: bool | None = None
    sync_all_records: bool | None = None
    encryption_passphrase: str | None = Field(None, repr=False)
    policies: list[str] | None = None
    problems: list[dict[str, Any]] | None = None
    target: dict[str, Any] | None = None
    target_connection_id: str | None = None
    target_object: str | None = None
    organization_id: str | None = None
    created_at: Time = None
    created_by: dict[str, Any] | None = None
    updated_at: Time = None
    updated_by: dict[str, Any] | None = None


class ModelSyncStatus(Model):
    """The current and the last execution of a model sync."""

    current_execution: ModelSyncExecution | None = None
    last_execution: ModelSyncExecution | None = None
    next_execution_time: Time = None


class ModelSyncSource(Model):
    """The configuration that selects the records of a model in a connection."""

    configuration: dict[str, Any] | None = None
    items: dict[str, Any] | None = None
    requires_one_of: list[str] | None = None


class ModelField(Model):
    """A field that a connection offers to model syncs as their source."""

    id: str | None = None
    name: str | None = None
    label: str | None = None
    type: str | None = None
    remote_type: str | None = None
    description: str | None = None
    example: Any = None
    unique: bool | None = None
    user_added: bool | None = None
    created_at: Time = None
    created_by: dict[str, Any] | None = None
    updated_at: Time = None


class TargetObject(Model):
    """An object of a connection that model syncs can write to, with the supported modes."""

    id: str | None = None
    name: str | None = None
    modes: list[dict[str, Any]] | None = None


class ModelSyncTarget(Model):
    """A target object with its fields."""

    id: str | None = None
    name: str | None = None
    fields: list[dict[str, Any]] | None = None
    modes: list[dict[str, Any]] | None = None
    properties: dict[str, Any] | None = None
    refreshed_at: Time = None
