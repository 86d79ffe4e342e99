"""Types for DAG files that a type checker reads: fixed values, templates, schedules, and bodies of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NewType, TypeAlias

from typing_extensions import Required, TypedDict

from airflow_provider_polytomic._airflow.compat import DagParam, XComArg

__all__ = [
    "AdditionalSchedule",
    "BulkSyncChanges",
    "BulkSyncMode",
    "Discovery",
    "EventName",
    "FetchMode",
    "Frequency",
    "IfExists",
    "IfRunning",
    "KindName",
    "LogType",
    "ModelSyncChanges",
    "ModelSyncSchedule",
    "NameNormalization",
    "NewBulkSync",
    "NewModelSync",
    "Resolvable",
    "ResyncMode",
    "Schedule",
    "SchemaConfiguration",
    "SourceField",
    "SourceIdentity",
    "Template",
]

# --- values that are known when the task runs

Template = NewType("Template", str)
"""A Jinja template for an argument with fixed values: ``resync_mode=Template("{{ params.mode }}")``.

It is a plain string at run time. Arguments that accept any string need no mark.
"""

Resolvable: TypeAlias = XComArg | DagParam
"""The output of another task, or a parameter of the DAG (``dag.param("mode")``)."""

# --- fixed values

ResyncMode: TypeAlias = Literal["refetch", "resync", "rebuild"]
"""The values of ``resync_mode`` of a start."""
FetchMode: TypeAlias = Literal["none", "incremental", "full"]
"""The values of ``fetch_mode`` of a start."""
IfRunning: TypeAlias = Literal["wait", "attach", "fail", "skip", "cancel"]
"""The values of ``if_running`` of an operator."""
IfExists: TypeAlias = Literal["fail", "skip", "update"]
"""The values of ``if_exists`` of a creation."""
BulkSyncMode: TypeAlias = Literal["snapshot", "replicate", "append"]
"""The values of ``mode`` of a bulk sync."""
Discovery: TypeAlias = Literal["all", "onlyIncremental", "onlyNonIncremental", "none"]
"""The values of ``automatically_add_new_fields`` and ``automatically_add_new_objects`` of a bulk sync."""
NameNormalization: TypeAlias = Literal["enabled", "disabled", "legacy"]
"""The values of ``normalize_names`` of a bulk sync."""
Frequency: TypeAlias = Literal[
    "manual", "continuous", "hourly", "daily", "weekly", "custom", "builder", "runafter", "multi", "dbtcloud"
]
"""The values of ``frequency`` of a schedule."""
LogType: TypeAlias = Literal["records", "errors", "warnings", "inserts", "updates", "deletes"]
"""The values of ``log_type`` of ``hook.iter_model_sync_logs``."""
KindName: TypeAlias = Literal["bulk", "model"]
"""The values of ``kind`` of an event trigger."""
EventName: TypeAlias = Literal["completed", "completed_with_errors", "failed", "canceled"]
"""The values of ``events`` of an event trigger."""

# --- parts of bodies


class Schedule(TypedDict, total=False):
    """A schedule of a bulk sync. Times are in UTC, as text. It needs a ``frequency``."""

    frequency: Required[Frequency | Template]
    minute: str
    hour: str
    day_of_week: str
    day_of_month: str
    month: str


class AdditionalSchedule(Schedule, total=False):
    """A schedule for some of a bulk sync's schemas."""

    schemas: Sequence[str]
    resync_mode: Literal["normal"] | ResyncMode | Template
    selective_mode: Literal["none", "incrementalFields", "nonincrementalFields"] | Template


class SchemaConfiguration(TypedDict, total=False):
    """A schema that a bulk sync moves, and how. It needs an ``id``."""

    id: Required[str]
    enabled: bool
    user_output_name: str
    partition_key: str
    tracking_field: str
    fields: Sequence[str | dict[str, Any]]
    filters: Sequence[dict[str, Any]]
    data_cutoff_timestamp: str
    disable_data_cutoff: bool
    history_enabled: bool


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


class SourceField(TypedDict):
    """A field of a model."""

    model_id: str
    field: str


class SourceIdentity(TypedDict):
    """A record of a model sync, by the value of a field of its source."""

    source: SourceField
    value: Any


# --- bodies


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
