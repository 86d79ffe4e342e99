"""Repairs: retries that sync only what earlier tries left incomplete.

Replaying a key has to send the body that the key was first sent with. So what is left for a try depends only on the
executions of the tries before it, which have ended: every later try derives the same (ADR 0007).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .. import models
from ..errors import PolytomicNotFoundError
from ..kinds import SyncKind
from ..plan import Plan
from .wait import wait_for_execution

if TYPE_CHECKING:
    from ..models import BulkSyncExecution, Execution, SchemaExecution

POLL_INTERVAL = 10.0  # seconds between reads of an ended execution, while they fail


@dataclass(frozen=True)
class Repair:
    """What the earlier tries of a task have left to sync.

    :param executions: the ended executions that count together, oldest first: one of everything that the task syncs,
        and then those of what was left each time. None of them: everything is left.
    """

    executions: tuple[BulkSyncExecution, ...] = ()

    @cached_property
    def schemas(self) -> tuple[str, ...]:
        """The ids of the schemas that are left: those that did not complete or had errors. Empty: everything."""
        rows = self._rows(self.executions).values()
        return tuple(sorted(str(row.schema_id) for row in rows if not _is_done(row)))

    @property
    def schema_count(self) -> int:
        """How many schemas the executions have together."""
        return len(self._rows(self.executions))

    @property
    def execution_ids(self) -> list[str]:
        return [execution.id for execution in self.executions]

    def narrow(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a start, with the schemas that are left if those are not all."""
        return {**arguments, "schemas": list(self.schemas)} if self.schemas else arguments

    def describe(self) -> str:
        """What is left, for a log line: `` with 2 of 3 schemas``; empty for everything."""
        return f" with {len(self.schemas)} of {self.schema_count} schemas" if self.schemas else ""

    def after(self, execution: Execution, arguments: dict[str, Any]) -> Repair:
        """What is left after a further execution, which has ended without success.

        :param arguments: the arguments that it was started with.
        """
        if not isinstance(execution, models.BulkSyncExecution):
            return self
        requested = set(arguments.get("schemas") or ())
        rows = execution.schemas or []
        listed = {row.schema_id for row in rows}
        lists_all = requested <= listed
        if execution.status not in ("completed", "errors"):
            # It was cut short, and may not list what it did not begin.
            if execution.status == "canceled" or not requested or not lists_all:
                return self
        elif not lists_all:
            return Repair()  # the sync no longer has a schema that is left
        if None in listed or len(listed) != len(rows):
            return Repair()
        repair = Repair((*self.executions, execution))
        return repair if 0 < len(repair.schemas) < repair.schema_count else Repair()

    def merge(self, execution: Execution) -> Execution:
        """Merge a further execution with those before it. Judging the result judges all tries together."""
        if not self.executions or not isinstance(execution, models.BulkSyncExecution):
            return execution
        from .merged_execution import MergedExecution

        first, parts = self.executions[0], (*self.executions, execution)
        rows = list(self._rows(parts).values())
        status = execution.status
        listed = {row.schema_id for row in execution.schemas or []}
        if status == "completed" and not listed.issuperset(self.schemas):
            status = "errors"  # it did not sync everything that was left
        return MergedExecution(
            id=execution.id,
            execution_ids=[part.id for part in parts],
            last=execution,
            status=status,
            status_message=execution.status_message,
            type=execution.type,
            fetch_mode=execution.fetch_mode,
            output_disposition=execution.output_disposition,
            is_partial=first.is_partial,
            is_resync=execution.is_resync,
            is_test=execution.is_test,
            error_count=_count_errors(parts, rows),
            warning_count=_sum_known(row.warning_count for row in rows),
            created_at=first.created_at,
            started_at=first.started_at,
            completed_at=execution.completed_at,
            updated_at=execution.updated_at,
            schemas=rows,
        )

    @staticmethod
    def _rows(parts: Iterable[BulkSyncExecution]) -> dict[Any, SchemaExecution]:
        """Each schema as it was synced last, with the id of the execution that did it."""
        rows: dict[Any, SchemaExecution] = {}
        for part in parts:
            for number, row in enumerate(part.schemas or []):
                rows[row.schema_id or (part.id, number)] = row.model_copy(update={"execution_id": part.id})
        return rows


def _is_done(row: SchemaExecution) -> bool:
    return row.status == "completed" and not row.error_count


def _count_errors(parts: Iterable[BulkSyncExecution], rows: list[SchemaExecution]) -> int | None:
    """The errors of the rows, and those that only an execution's total contains: they may belong to any of its rows."""
    counts = [row.error_count for row in rows]
    for part in parts:
        of_rows = sum(row.error_count or 0 for row in part.schemas or [])
        counts.append(None if part.error_count is None else max(part.error_count - of_rows, 0))
    return _sum_known(counts)


def _sum_known(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def read_repair(kind: SyncKind, sync_id: str, execution_ids: Iterable[str]) -> Plan[Repair]:
    """Read the executions of earlier tries, which have ended. An execution that no longer exists is left out.

    :raises PolytomicError: reading one has failed for ten minutes.
    """
    executions = []
    for execution_id in execution_ids:
        execution = yield from _read_ended(kind, sync_id, execution_id)
        if isinstance(execution, models.BulkSyncExecution):
            executions.append(execution)
    return Repair(tuple(executions))


def merge_ended(kind: SyncKind, sync_id: str, execution: Execution, earlier_ids: Iterable[str]) -> Plan[Execution]:
    """Merge an execution that a trigger event reports with those of earlier tries.

    :param earlier_ids: the ids of the executions before it, oldest first.
    :raises PolytomicError: reading an execution has failed for ten minutes.
    """
    repair = yield from read_repair(kind, sync_id, earlier_ids)
    if not repair.executions:
        return execution
    if getattr(execution, "schemas_omitted", 0):
        execution = (yield from _read_ended(kind, sync_id, execution.id)) or execution
    return repair.merge(execution)


def _read_ended(kind: SyncKind, sync_id: str, execution_id: str) -> Plan[Execution | None]:
    """Read an execution that has ended, through outages of up to ten minutes; None if it no longer exists."""
    try:
        return (yield from wait_for_execution(kind, sync_id, execution_id, poke_interval=POLL_INTERVAL))
    except PolytomicNotFoundError:
        return None
