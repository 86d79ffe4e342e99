"""How an execution is started exactly once, whatever dies on the way.

Every start carries an ``Idempotency-Key`` that is computed from who asks: the task, its run, the try
and an attempt within the try. Such a (try, attempt) is a *slot*. The server remembers what each key
started and answers the same again, so its memory is our log: asking a slot again gives back what it
started, and asking a slot that was never used starts there. Nothing has to be stored on our side.

:func:`one_try` is one pass: look at what runs, resume what an earlier try started, or start in a slot
of our own. When something else is in the way it returns :class:`Blocked`; whoever drives it waits for
that end and begins again, with nothing kept in memory. ``docs/promises.md`` says what this guarantees
and what it cannot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .call import Call, fetch
from .errors import (
    PolytomicApiError,
    PolytomicConflictError,
    PolytomicServerError,
    more,
)
from .executions import CANCEL_PATIENCE, Kind, cancel, kind_of
from .http import Plan, Response, clock
from .models import BulkSyncExecution, Execution
from .once import START, as_it_is_now, held_by, key_of, outcome

log = logging.getLogger(__name__)

SLOTS = 5  # attempts of a try; a lost race or a recorded error burns one
POLICIES = ("wait", "attach", "fail", "skip", "cancel")
_RECENT = 25  # executions that a look asks for: the newest is what matters, at most one runs


@dataclass(frozen=True)
class Memo:
    """What a slot answered, kept by Airflow where it can: for executions older than the server's memory of keys."""

    try_number: int
    execution_id: str


@dataclass(frozen=True)
class Order:
    """What is to be started, and for whom.

    :param task: what tells this task of this run from all others: DAG, run, task, map index, the run's start.
    :param try_number: the try that asks.
    :param first: the first try since a person last cleared the task; a retry resumes, a clear restarts.
    :param arguments: the start's arguments, as the endpoint function takes them.
    :param if_running: what to do about somebody else's execution: one of :data:`POLICIES`.
    :param good: whether an execution that has ended is a success by the task's criteria.
    :param waits: whether the task waits for the end. If not, whatever was started counts.
    :param cancels: whether what an earlier try started before a clear is cancelled, or waited for.
    """

    kind: str
    sync_id: str
    task: tuple[str, ...]
    try_number: int = 1
    first: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    if_running: str = "wait"
    good: Callable[[Execution], bool] = lambda execution: execution.succeeded
    waits: bool = True
    cancels: bool = True
    memo: Memo | None = None

    @property
    def what(self) -> Kind:
        return kind_of(self.kind)

    @property
    def digest(self) -> str:
        body = self.what.start(self.sync_id, **self.arguments).request.json
        return key_of([self.kind, self.sync_id, body])

    def key(self, try_number: int, attempt: int) -> str:
        """The idempotency key of a slot."""
        return key_of([*self.task, self.digest, try_number, attempt])

    def call(self, try_number: int, attempt: int) -> Call[Execution]:
        key = self.key(try_number, attempt)
        return self.what.start(self.sync_id, **self.arguments, idempotency_key=key)


@dataclass(frozen=True)
class Mine:
    """The execution to wait for. Its status may be that of its start; ask again before judging it.

    :param try_number: the try in whose slot it is.
    :param adopted: whether somebody else started it.
    :param resumed: whether it was there before this try began.
    """

    execution: Execution
    try_number: int
    adopted: bool = False
    resumed: bool = False


@dataclass(frozen=True)
class Blocked:
    """Something is in the way: wait until it has ended, and begin again."""

    execution: Execution
    why: str


@dataclass(frozen=True)
class Skip:
    """Somebody else's execution runs, and ``if_running`` says to do nothing then."""

    execution: Execution


Decision = Mine | Blocked | Skip


@dataclass(frozen=True)
class _Seen:
    """The newest executions, as a look found them."""

    executions: list[Execution]

    @property
    def active(self) -> Execution | None:
        return next((execution for execution in self.executions if not execution.is_terminal), None)

    def knows(self, execution: Execution) -> bool:
        return any(execution.id == known.id for known in self.executions)

    def older_than(self, execution: Execution) -> bool:
        """Whether ``execution`` began after this look: it was not there, and is no older than the newest."""
        if self.knows(execution):
            return False
        times = [known.created_at for known in self.executions if known.created_at]
        newest: datetime | None = max(times, default=None)
        return newest is None or execution.created_at is None or execution.created_at >= newest


def one_try(order: Order) -> Plan[Decision]:
    """One pass of the protocol.

    :raises PolytomicConflictError: somebody else's execution runs and ``if_running`` is ``fail``, or it was
        faster five times in a row.
    :raises PolytomicError: the server refused the start, or its outcome is unknown.
    """
    began = yield from clock()
    mark = yield from _list(order)

    # What this logical run has started already: in order, every slot of every try of it.
    for earlier in range(order.first, order.try_number):
        if order.memo is not None and earlier < order.memo.try_number:
            continue  # spent: a later try has started something since
        found = yield from _started_by(order, earlier, began)
        if found is None:
            continue
        new = mark.older_than(found)  # it began because we asked
        if not order.waits:
            return Mine(found, earlier, resumed=not new)
        if not found.is_terminal and found.status == "canceling":
            return Blocked(found, "an earlier try's execution is being cancelled")
        if not found.is_terminal or order.good(found):
            return Mine(found, earlier, resumed=not new)
        if new:
            return Mine(found, earlier)  # it failed at once: this try's failure
        log.info("Try %d's execution %s ended with status %r: starting anew", earlier, found.id, found.status)

    # A slot of our own.
    before: _Seen | None = None  # what was there before a start that ended in a recorded server error
    error: PolytomicApiError | None = None
    for attempt in range(SLOTS + 1):
        seen = yield from _list(order)
        ours = _began_since(order, before, seen) if before is not None else None
        running = seen.active
        if running is not None:
            if ours is not None and ours.id == running.id and running.status != "canceling":
                return Mine(running, order.try_number)
            mine, execution = yield from _from_before(order, running, mark, began)
            if execution.id != running.id:
                return Mine(execution, order.try_number)
            if not mine and ours is None:
                decision = _policy(order, running)
                if decision is not None:
                    return decision
            return (yield from _make_way(order, running, mine))
        if ours is not None:
            return Mine(ours, order.try_number)
        if attempt == SLOTS:
            break
        started = yield from outcome(order.call(order.try_number, attempt), START)
        if isinstance(started, Execution):
            return Mine(started, order.try_number)
        error = started
        if isinstance(started, PolytomicServerError):
            before = seen
    assert error is not None  # noqa: S101  five slots were asked, and none held an execution
    raise more(error, f"tried {SLOTS} times; another execution of {order.sync_id} was faster, or the server failed")


def _policy(order: Order, running: Execution) -> Decision | None:
    """What ``if_running`` says about somebody else's execution; None: it has to end first."""
    if order.if_running == "fail":
        what = (
            f"execution {running.id} of {order.what.label} {order.sync_id} is {running.status}, "
            "and if_running='fail': nothing was started"
        )
        request = order.call(order.try_number, 0).request
        error = PolytomicConflictError(request, Response(409), message=what, key=None)
        error.args = (what,)  # no request was refused: we did not send one
        raise error
    if order.if_running == "skip":
        return Skip(running)
    if order.if_running == "attach" and running.status != "canceling" and _does_enough(order, running):
        log.info("ADOPTED execution %s, which somebody else started (if_running='attach')", running.id)
        return Mine(running, order.try_number, adopted=True)
    return None


def _make_way(order: Order, running: Execution, mine: bool) -> Plan[Blocked]:
    whose = "which this task started before it was cleared" if mine else "which somebody else started"
    ends_it = (mine and order.cancels) or order.if_running == "cancel"
    if ends_it and running.status != "canceling":
        log.info("Cancelling execution %s, %s", running.id, whose)
        refused = yield from cancel(order.what, order.sync_id, running.id, CANCEL_PATIENCE)
        if refused:
            log.warning("Execution %s could not be cancelled: %s", running.id, refused)
    return Blocked(running, f"execution {running.id}, {whose}, has to end first")


def _started_by(order: Order, try_number: int, began: float) -> Plan[Execution | None]:
    """What a try has started, as it is now; None when it started nothing, or that is gone."""
    if order.memo is not None and order.memo.try_number == try_number:
        execution_id = order.memo.execution_id
    else:
        claimed = yield from _claim(order, try_number, began)
        if claimed is None:
            return None
        execution_id = claimed.id
    execution: Execution | None = yield from as_it_is_now(order.what.execution(order.sync_id, execution_id))
    if execution is None:
        log.warning("Try %d started execution %s, which is gone", try_number, execution_id)
    return execution


def _claim(order: Order, try_number: int, began: float) -> Plan[Execution | None]:
    """Ask every slot of a try; a slot that was never used starts there."""
    for attempt in range(SLOTS):
        started = yield from held_by(order.call(try_number, attempt), START, began)
        if isinstance(started, Execution):
            return started
        # Nothing was started in this slot, nor ever will be.
        log.info("Slot %d of try %d was refused: %s", attempt, try_number, started)
    return None


def _from_before(order: Order, running: Execution, mark: _Seen, began: float) -> Plan[tuple[bool, Execution]]:
    """Whether the running execution is one that this task started before a person cleared it."""
    if order.memo is not None and order.memo.execution_id == running.id:
        return True, running
    for earlier in range(order.first - 1, 0, -1):
        execution = yield from _claim(order, earlier, began)
        if execution is not None and (execution.id == running.id or mark.older_than(execution)):
            return True, execution
    return False, running


def _list(order: Order) -> Plan[_Seen]:
    page = yield from fetch(order.what.executions(order.sync_id, limit=_RECENT).page())
    return _Seen(page.items)


def _began_since(order: Order, before: _Seen, now: _Seen) -> Execution | None:
    """What began since a start that ended in a server error, and does what we asked for."""
    for execution in now.executions:
        if before.older_than(execution) and _does_the_same(order, execution):
            return execution
    return None


def _does_the_same(order: Order, execution: Execution) -> bool:
    if not isinstance(execution, BulkSyncExecution):
        return True  # executions of model syncs do not tell what they were asked for
    partial = bool(order.arguments.get("schemas"))
    return _same_mode(order, execution) and execution.is_partial in (None, partial)


def _does_enough(order: Order, execution: Execution) -> bool:
    """Whether somebody else's execution does at least what this task wants."""
    if not isinstance(execution, BulkSyncExecution):
        return not any(order.arguments.values())
    wanted = set(order.arguments.get("schemas") or ())
    named = {schema.schema_id for schema in execution.schemas or []}
    covered = not execution.is_partial or (bool(wanted) and wanted <= named)
    return _same_mode(order, execution) and covered


def _same_mode(order: Order, execution: BulkSyncExecution) -> bool:
    asked = order.arguments
    return (
        bool(execution.is_test) == bool(asked.get("test"))
        and bool(execution.is_resync) == bool(asked.get("resync_mode"))
        and (execution.fetch_mode or "none") == (asked.get("fetch_mode") or "none")
    )
