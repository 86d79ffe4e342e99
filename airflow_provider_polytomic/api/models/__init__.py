"""What Polytomic answers, as typed values with the API's own field names.

The models are open: unknown fields are kept, enumerations are plain text (new values may appear at any time),
everything but an id may be missing or null, and what has an unexpected type is None (see :mod:`.base_model`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from ..call import Page
from ..errors import printable
from ..plan import CONTROL_CHARACTERS
from .tolerant import Integer, Model, TolerantModel

NON_TERMINAL_STATUSES = frozenset(
    {
        "created",
        "scheduled",
        "queued",
        "waiting",
        "running",
        "exporting",
        "processing",
        "canceling",
    }
)
TERMINAL_STATUSES = frozenset({"completed", "canceled", "failed", "interrupted", "errors"})

FETCH_MODES = ("none", "incremental", "full")
RESYNC_MODES = ("refetch", "resync", "rebuild")


def _no_time(value: object) -> object:
    # An empty text, and the year 1 (how Go spells "no time"), are no times.
    return None if value == "" or (isinstance(value, str) and value.startswith("0001-")) else value


def _aware(value: datetime | None) -> datetime | None:
    return value.replace(tzinfo=timezone.utc) if value is not None and value.tzinfo is None else value


_AnyTime = Annotated[datetime | None, BeforeValidator(_no_time), AfterValidator(_aware)]
_any_time: TypeAdapter[datetime | None] = TypeAdapter(_AnyTime)
_YEAR_2 = datetime(2, 1, 1, tzinfo=timezone.utc)
_from_iso = datetime.fromisoformat  # looking it up each time takes half as long as what it does


def _time(value: Any) -> datetime | None:
    """What ``_AnyTime`` reads, sooner where it is written as the API writes it: an answer holds thousands of times."""
    if value is None:
        return None
    try:
        time = _from_iso(value)
        return time if time >= _YEAR_2 else None
    except (TypeError, ValueError):  # also of one without a time zone, which cannot be compared
        return _any_time.validate_python(value)


if sys.version_info >= (3, 11):
    Time = Annotated[datetime | None, BeforeValidator(_time)]
else:  # there, `fromisoformat` reads next to nothing of what the API writes
    Time = _AnyTime

# Ids are written into logs, URLs and databases. In a path, dots alone would lead elsewhere.
Id = Annotated[
    str,
    Field(max_length=1000, pattern=rf"^[^{CONTROL_CHARACTERS}]*[^{CONTROL_CHARACTERS}\s.][^{CONTROL_CHARACTERS}]*$"),
]

# So are the statuses of executions. One that is too long to be one is unknown as it is, and stays so.
_KNOWN = NON_TERMINAL_STATUSES | TERMINAL_STATUSES
Status = Annotated[str, AfterValidator(lambda status: status if status in _KNOWN else printable(status, 100))]


class SchemaExecution(Model):
    """What an execution did with one schema (table, object) of a bulk sync.

    A row without a readable status counts as one whose status is not given: the execution's own status decides.
    """

    __unreadable_element__ = "keep"  # nobody may take the list for complete

    schema_id: str | None = Field(None, alias="schema")
    output_name: str | None = None
    status: str | None = None
    status_message: str | None = None
    record_count: Integer | None = None
    error_count: Integer | None = None
    warning_count: Integer | None = None
    created_at: Time = None
    started_at: Time = None
    completed_at: Time = None
    updated_at: Time = None
    version: str | None = None


class Execution(Model):
    """What executions of bulk and of model syncs have in common.

    One whose id, status or time of completion is unreadable is unreadable, and so is a list with it: it might run.
    """

    __strict_fields__ = frozenset({"status", "completed_at"})
    __unreadable_element__ = "raise"

    id: Id
    status: Status | None = None
    type: str | None = None
    created_at: Time = None
    started_at: Time = None
    completed_at: Time = None
    updated_at: Time = None
    version: str | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether it has ended. A ``completed_at`` says so whatever the status is called."""
        return self.status in TERMINAL_STATUSES or self.completed_at is not None

    @property
    def succeeded(self) -> bool:
        """Whether it ended and everything in it went well."""
        return self.status == "completed" and not self.partially_failed

    @property
    def partially_failed(self) -> bool:
        """Whether it ended, but something in it did not go well."""
        raise NotImplementedError

    @property
    def has_known_status(self) -> bool:
        return self.status in _KNOWN

    @property
    def records(self) -> int | None:
        """How many records it moved, or None when the API did not say."""
        raise NotImplementedError

    @property
    def error_records(self) -> int | None:
        """How many records had errors, or None when the API did not say."""
        raise NotImplementedError

    @property
    def is_test_run(self) -> bool:
        """Whether it is a test run. Model syncs have none."""
        return False

    @property
    def schema_count(self) -> int:
        """How many schemas it has; 0 for model syncs."""
        return 0

    @property
    def failed_schema_count(self) -> int:
        """How many of its schemas failed; 0 for model syncs."""
        return 0

    def progress_details(self) -> list[str]:
        """Its counts for a progress line, such as ``1200 records``."""
        return []


class BulkSyncExecution(Execution):
    """One run of a bulk sync."""

    status_message: str | None = None
    fetch_mode: str | None = None
    output_disposition: str | None = None
    is_partial: bool | None = None
    is_resync: bool | None = None
    is_test: bool | None = None
    record_count: Integer | None = None
    error_count: Integer | None = None
    warning_count: Integer | None = None
    schemas: list[SchemaExecution] | None = None

    @property
    def partially_failed(self) -> bool:
        incomplete = bool(self.failed_schemas or self.error_records)
        return self.status == "errors" or (self.status == "completed" and incomplete)

    @property
    def failed_schemas(self) -> list[SchemaExecution]:
        """The schemas that did not end well. While the execution runs: those that have failed so far."""
        good = (None, "completed") if self.is_terminal else (None, "completed", *NON_TERMINAL_STATUSES)
        return [schema for schema in self.schemas or [] if schema.status not in good]

    @property
    def is_test_run(self) -> bool:
        return bool(self.is_test)

    @property
    def schema_count(self) -> int:
        return len(self.schemas or [])

    @property
    def failed_schema_count(self) -> int:
        return len(self.failed_schemas)

    def progress_details(self) -> list[str]:
        details = []
        if self.schemas:
            done = sum(schema.status == "completed" for schema in self.schemas)
            details.append(f"{done} of {len(self.schemas)} schemas")
        counts = ((self.error_count, "errors"), (self.warning_count, "warnings"))
        if self.records is not None:
            details.append(f"{self.records} records")
        return details + [f"{count} {name}" for count, name in counts if count]

    @property
    def records(self) -> int | None:
        if self.record_count is not None:
            return self.record_count
        counts = [schema.record_count for schema in self.schemas or []]
        known = [count for count in counts if count is not None]
        return sum(known) if known and len(known) == len(counts) else None

    @property
    def error_records(self) -> int | None:
        by_schema = [schema.error_count for schema in self.schemas or [] if schema.error_count is not None]
        counts = [count for count in (self.error_count, sum(by_schema) if by_schema else None) if count is not None]
        return max(counts) if counts else None  # either may say more than the other


class ModelSyncCounts(Model):
    """How many records a model sync's execution touched, by what it did with them."""

    delete: Integer | None = None
    error: Integer | None = None
    insert: Integer | None = None
    total: Integer | None = None
    update: Integer | None = None
    upserts: Integer | None = None
    warnings: Integer | None = None


class ModelSyncExecution(Execution):
    """One run of a model sync."""

    counts: ModelSyncCounts | None = None
    errors: list[str] | None = None

    @property
    def partially_failed(self) -> bool:
        return self.status == "errors" or (self.status == "completed" and bool(self.error_records))

    def progress_details(self) -> list[str]:
        counts = self.counts.model_dump(exclude_none=True) if self.counts else {}
        return [f"{value} {name}" for name, value in counts.items() if value]

    @property
    def records(self) -> int | None:
        return self.counts.total if self.counts else None

    @property
    def error_records(self) -> int | None:
        return self.counts.error if self.counts else None


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
    """When a bulk sync runs by itself; times are in UTC.

    It is spelled in two ways: in camel case where schedules are listed, and in snake case within a sync, where
    ``created_by`` and ``updated_by`` are objects. The ``id`` may be missing.
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
    """What a bulk sync does now, and did last."""

    current_execution: BulkSyncExecution | None = None
    last_execution: BulkSyncExecution | None = None
    ingestion_status: dict[str, Any] | None = None
    next_execution_time: Time = None


class SchemaStatus(SchemaExecution):
    """A row of a status summary: a schema's newest execution."""

    execution_id: str | None = None


class BulkSyncStatusSummary(Model):
    """A row of the status of many syncs. It can prove that an execution runs, never that one has ended."""

    sync_id: str
    status: str | None = None
    next_execution_time: Time = Field(None, alias="nextExecutionTime")
    schemas: list[SchemaStatus] | None = None


class BulkSyncSource(Model):
    """What a connection offers to bulk syncs as their source."""

    configuration: Any = None
    capabilities: dict[str, Any] | None = None
    schemas: list[dict[str, Any]] | None = None


class BulkSyncDestination(Model):
    """What a connection expects of bulk syncs as their destination."""

    configuration: dict[str, Any] | None = None
    modes: list[dict[str, Any]] | None = None
    supported_resync_modes: list[str] | None = None
    supports_history_mode: bool | None = None


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
    """What a model sync does now, and did last."""

    current_execution: ModelSyncExecution | None = None
    last_execution: ModelSyncExecution | None = None
    next_execution_time: Time = None


class ModelSyncSource(Model):
    """What has to be said to get a model's records from a connection."""

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
    """An object of a connection that model syncs can write to, and in which modes."""

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
    """How fresh Polytomic's knowledge of a connection's schemas is."""

    cache_status: str | None = None
    last_refresh_started: Time = None
    last_refresh_finished: Time = None


class Identity(Model):
    """Whose key it is."""

    id: str | None = None
    email: str | None = None
    organization_id: str | None = None
    organization_name: str | None = None
    role: str | None = None
    is_user: bool | None = None
    is_organization: bool | None = None
    is_partner: bool | None = None
    is_system: bool | None = None
    credential: dict[str, Any] | None = None


class EventDetails(Model):
    """What an event is about."""

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
    """Something that happened in the organization."""

    id: Id
    type: str | None = None
    created_at: Time = None
    organization_id: str | None = None
    event: EventDetails | None = None


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
    """Signed URLs of an execution's log files. They are secrets: whoever has one can read the log."""

    expires: str | None = Field(None, alias="Expires")
    urls: list[str] | None = Field(None, alias="URLs", repr=False)


class ModelLogIndexEntry(Model):
    """The log files of one type: how many records they tell of, and the endpoint that gives their URLs."""

    count: Integer | None = None
    url: str | None = None


class ModelLogIndex(Model):
    """Which log files an execution of a model sync has, by type."""

    records: ModelLogIndexEntry | None = None
    errors: ModelLogIndexEntry | None = None
    warnings: ModelLogIndexEntry | None = None
    inserts: ModelLogIndexEntry | None = None
    updates: ModelLogIndexEntry | None = None
    deletes: ModelLogIndexEntry | None = None


class ModelLogFiles(Model):
    """The same as :class:`LogFiles` for model syncs, whose answer is spelled in lower case."""

    expires: str | None = None
    urls: list[str] | None = Field(None, repr=False)


class Job(Model):
    """Something that Polytomic does meanwhile: ``created``, ``running``, and at the end ``done`` or ``failed``.

    The ``result`` may hold a signed URL, which is a secret.
    """

    job_id: str | None = None
    type: str | None = None
    status: str | None = None
    result: Any = Field(None, repr=False)
    error: str | None = None


M = TypeVar("M")
E = TypeVar("E", bound=Execution)


class _Envelope(TolerantModel, Generic[M]):
    data: M


class _Pagination(TolerantModel):
    __strict_fields__ = frozenset({"next_page_token"})

    next_page_token: str | None = Field(None, max_length=4000)


class _ListEnvelope(TolerantModel, Generic[M]):
    # A list that could not be continued would look complete.
    __strict_fields__ = frozenset({"data", "pagination"})

    data: list[M] | None = None
    pagination: _Pagination | None = None


def parse_one(model: type[M]) -> Callable[[bytes], M]:
    """A parser of ``{"data": {...}}``."""
    envelope = _Envelope[model]  # type: ignore[valid-type]

    def parse(body: bytes) -> M:
        return envelope.model_validate_json(body).data

    return parse


class _Document(TolerantModel):
    data: dict[str, Any]


def parse_document(body: bytes) -> dict[str, Any]:
    """A parser of ``{"data": {...}}`` that replaces nothing: for what is written back."""
    return _Document.model_validate_json(body).data


def parse_execution(model: type[E], sync_id: str, execution_id: str) -> Callable[[bytes], E]:
    """A parser of one execution that refuses any other: a stale cache may answer with one that ended yesterday."""
    parse_any = parse_one(model)

    def parse(body: bytes) -> E:
        execution = parse_any(body)
        other_sync = getattr(execution, "sync_id", None)
        if execution.id.casefold() != execution_id.casefold():
            raise ValueError(f"it is about execution {printable(execution.id, 100)}, not {execution_id}")
        if isinstance(other_sync, str) and other_sync.casefold() != sync_id.casefold():
            raise ValueError(f"it is about an execution of sync {printable(other_sync, 100)}, not {sync_id}")
        return execution

    return parse


def parse_list(model: type[M]) -> Callable[[bytes], Page[M]]:
    """A parser of ``{"data": [...] | null, "pagination": {...}}``."""
    envelope = _ListEnvelope[model]  # type: ignore[valid-type]

    def parse(body: bytes) -> Page[M]:
        answer = envelope.model_validate_json(body)
        token = answer.pagination.next_page_token if answer.pagination else None
        return Page(answer.data or [], token or None, len(body))

    return parse


class _ExportEnvelope(TolerantModel):
    data: dict[str, Any] | None = None
    job: Job | None = None


def parse_export(body: bytes) -> Job:
    """A parser of ``{"job": {...}}``, or of ``{"data": {...}}`` where what is to be made is there already."""
    answer = _ExportEnvelope.model_validate_json(body)
    if answer.job is not None:
        return answer.job
    if answer.data is None:
        raise ValueError("neither a job nor its result")
    return Job(status="done", result=answer.data)


def parse_nothing(_body: bytes) -> None:
    """A parser of answers that say no more than their status."""
