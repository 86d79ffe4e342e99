"""Types for type checkers: the bodies of requests with which the hook creates and changes syncs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typing_extensions import Required, TypedDict

from airflow_provider_polytomic.types import (
    AdditionalSchedule,
    BulkSyncMode,
    Discovery,
    Frequency,
    NameNormalization,
    Schedule,
    SchemaConfiguration,
)

__all__ = ["BulkSyncChanges", "ModelSyncChanges", "ModelSyncSchedule", "NewBulkSync", "NewModelSync"]


class ModelSyncSchedule(TypedDict, total=False):
    """A schedule of a model sync. Times are in UTC, as text. It needs a ``frequency``."""

    frequency: Required[Frequency]
    minute: str
    hour: str
    day_of_week: str
    day_of_month: str
    month: str
    connection_id: str
    job_id: int
    run_after: dict[str, Any]
    run_after_success_only: bool


class _BulkSyncOptions(TypedDict, total=False):
    mode: BulkSyncMode
    active: bool
    source_configuration: dict[str, Any] | None
    schemas: Sequence[str | SchemaConfiguration]
    additional_schedules: Sequence[AdditionalSchedule] | None
    automatically_add_new_fields: Discovery
    automatically_add_new_objects: Discovery
    normalize_names: NameNormalization
    data_cutoff_timestamp: str | None
    disable_record_timestamps: bool
    concurrency_limit: int | None
    resync_concurrency_limit: int | None
    policies: Sequence[str] | None
    organization_id: str


class NewBulkSync(_BulkSyncOptions):
    """The fields with which ``hook.create_bulk_sync`` creates a bulk sync."""

    name: str
    source_connection_id: str
    destination_connection_id: str
    destination_configuration: dict[str, Any]
    default_schedule: Schedule


class BulkSyncChanges(_BulkSyncOptions, total=False):
    """The fields of a bulk sync that ``hook.update_bulk_sync`` changes."""

    name: str
    source_connection_id: str
    destination_connection_id: str
    destination_configuration: dict[str, Any]
    default_schedule: Schedule


class _ModelSyncOptions(TypedDict, total=False):
    active: bool
    identity: dict[str, Any] | None
    identities: dict[str, Any] | None
    filters: Sequence[dict[str, Any]] | None
    filter_logic: str | None
    model_filters: dict[str, Any] | None
    target_filters: dict[str, Any] | None
    overrides: Sequence[dict[str, Any]] | None
    override_fields: Sequence[dict[str, Any]] | None
    only_enrich_updates: bool
    skip_initial_backfill: bool
    sync_all_records: bool
    encryption_passphrase: str | None
    policies: Sequence[str] | None
    organization_id: str


class NewModelSync(_ModelSyncOptions):
    """The fields with which ``hook.create_model_sync`` creates a model sync."""

    name: str
    mode: str
    fields: Sequence[dict[str, Any]]
    target: dict[str, Any]
    schedule: ModelSyncSchedule


class ModelSyncChanges(_ModelSyncOptions, total=False):
    """The fields of a model sync that ``hook.update_model_sync`` changes."""

    name: str
    mode: str
    fields: Sequence[dict[str, Any]]
    target: dict[str, Any]
    schedule: ModelSyncSchedule
