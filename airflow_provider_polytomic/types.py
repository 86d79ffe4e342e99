"""Types of arguments, for type checkers: fixed values, templates, and dicts such as schedules."""

# Annotations are not strings here: a TypedDict would compile each of them, in every process that reads a DAG file.
from collections.abc import Sequence
from typing import Any, Literal, NewType, TypeAlias

from typing_extensions import Required, TypedDict

from airflow_provider_polytomic._airflow.compat import DagParam, XComArg

__all__ = [
    "AdditionalSchedule",
    "BulkSyncMode",
    "Discovery",
    "EventName",
    "FetchMode",
    "Frequency",
    "IfExists",
    "IfRunning",
    "KindName",
    "LogType",
    "NameNormalization",
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

# --- dicts


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


class SourceField(TypedDict):
    """A field of a model."""

    model_id: str
    field: str


class SourceIdentity(TypedDict):
    """A record of a model sync, by the value of a field of its source."""

    source: SourceField
    value: Any
