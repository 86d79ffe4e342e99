"""Executions of bulk syncs, and what executions of both kinds have in common."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from .field_types import Id, Status, Time
from .statuses import KNOWN_STATUSES, NON_TERMINAL_STATUSES, TERMINAL_STATUSES
from .tolerant import Integer, Model


class SchemaExecution(Model):
    """The state of one schema (table, object) in an execution of a bulk sync.

    An unreadable status counts as missing: then the status of the execution decides.
    """

    __unreadable_element__ = "keep"  # otherwise the list would seem to be complete

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
    """The common base of executions of bulk syncs and model syncs.

    An execution with an unreadable id, status or completion time cannot be parsed, because it might be running. The
    same applies to a list that contains one.
    """

    model_config = ConfigDict(defer_build=True)  # there are only objects of the subclasses

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
    def unmerged(self) -> Execution:
        """The execution alone, without those of earlier tries that count together with it."""
        return self

    @property
    def is_terminal(self) -> bool:
        """Whether the execution has ended: its status is terminal, or it has a ``completed_at``."""
        return self.status in TERMINAL_STATUSES or self.completed_at is not None

    @property
    def succeeded(self) -> bool:
        """Whether the execution completed without errors."""
        return self.status == "completed" and not self.partially_failed

    @property
    def partially_failed(self) -> bool:
        """Whether the execution ended, but some schemas or records had errors."""
        raise NotImplementedError

    @property
    def has_known_status(self) -> bool:
        return self.status in KNOWN_STATUSES

    @property
    def records(self) -> int | None:
        """The number of records, or None if the API does not report it."""
        raise NotImplementedError

    @property
    def error_records(self) -> int | None:
        """The number of records with errors, or None if the API does not report it."""
        raise NotImplementedError

    @property
    def is_test_run(self) -> bool:
        """Whether it is a test run; False for model syncs."""
        return False

    @property
    def schema_count(self) -> int:
        """The number of schemas; 0 for model syncs."""
        return 0

    @property
    def failed_schema_count(self) -> int:
        """The number of failed schemas; 0 for model syncs."""
        return 0

    def progress_details(self) -> list[str]:
        """The counts for a progress line, such as ``1200 records``."""
        return []


class BulkSyncExecution(Execution):
    """An execution of a bulk sync."""

    model_config = ConfigDict(defer_build=False)

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
        """The failed schemas. While the execution is running: those that have failed so far."""
        not_failed = (None, "completed") if self.is_terminal else (None, "completed", *NON_TERMINAL_STATUSES)
        return [schema for schema in self.schemas or [] if schema.status not in not_failed]

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
            details.append(f"{done} of {len(self.schemas)} schemas completed")
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
        return max(counts) if counts else None  # each may omit errors that the other includes
