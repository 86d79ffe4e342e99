"""Executions of model syncs."""

from __future__ import annotations

from pydantic import ConfigDict

from .executions import Execution
from .tolerant import Integer, Model


class ModelSyncCounts(Model):
    """The numbers of records in an execution of a model sync, by operation."""

    delete: Integer | None = None
    error: Integer | None = None
    insert: Integer | None = None
    total: Integer | None = None
    update: Integer | None = None
    upserts: Integer | None = None
    warnings: Integer | None = None


class ModelSyncExecution(Execution):
    """An execution of a model sync."""

    model_config = ConfigDict(defer_build=False)

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
