"""Starts an execution exactly once, whatever dies on the way.

Every start carries an ``Idempotency-Key`` computed from who asks: the task, its DAG run, the try, and an attempt within
the try. The server remembers what each key started and returns it again, so its memory is the log: replaying a key
that was used returns the execution it started; sending one that was never used starts there.

:func:`start_or_resume` is one pass: list what runs, resume what an earlier try started, or start with a key of this
try. When another execution has to end first it returns :class:`Blocked`; the driver waits for that end and calls it
again, with nothing kept in memory. ``docs/promises.md`` says what this guarantees and what it cannot.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, replace
from datetime import datetime

from ..call import fetch_fitting_page
from ..errors import (
    PolytomicApiError,
    PolytomicConflictError,
    PolytomicNotFoundError,
    PolytomicServerError,
    add_context,
)
from ..idempotency import REPLICA_LAG, START, read_current, replay_key, resolve_outcome
from ..models import Execution
from ..plan import Plan, Response, current_time, sleep
from ..retry import backoff
from .cancel import CANCEL_TIMEOUT, cancel_execution
from .matching import does_enough, does_the_same
from .server_clock import ServerClock
from .start_request import MAX_ATTEMPTS, StartRequest

log = logging.getLogger(__name__)

LIST_LIMIT = 3  # executions that a list asks for: one runs at most, and each may hold thousands of schemas
SEARCH_LIMIT = 25  # executions that are searched for the effect of a failed start
UNDATED_EFFECT_LAG = 5.0  # seconds in which such an effect has to show in the list of a server that sends no Date
MAX_CLOCK_SAMPLES = 20  # requests, at most, that determine the server's clock: on a quiet machine six do
NEW_SYNC_DELAYS = (1.0, 2.0, 4.0)  # seconds between requests for a list that answers 404: the sync may be new


@dataclass(frozen=True)
class Acquired:
    """The execution to wait for. Its status may be that of its start: get it again before judging it.

    :param try_number: the try whose key started it.
    :param adopted: whether somebody else started it.
    :param resumed: whether it was there before this try began.
    """

    execution: Execution
    try_number: int
    adopted: bool = False
    resumed: bool = False


@dataclass(frozen=True)
class Blocked:
    """Another execution has to end first: wait for it, then call :func:`start_or_resume` again.

    :param attempts: how many keys of this try are used up: the next call goes on after them.
    """

    execution: Execution
    why: str
    attempts: int = 0


@dataclass(frozen=True)
class Skip:
    """Somebody else's execution runs, and ``if_running`` is ``skip``; None where the list does not show which."""

    execution: Execution | None


Decision = Acquired | Blocked | Skip


@dataclass(frozen=True)
class _Listed:
    """The newest executions, as a list returned them."""

    executions: list[Execution]

    @property
    def active(self) -> Execution | None:
        return next((execution for execution in self.executions if not execution.is_terminal), None)

    def has(self, execution: Execution) -> bool:
        return any(execution.id == listed.id for listed in self.executions)

    def is_older_than(self, execution: Execution) -> bool:
        """Whether ``execution`` began after this list was made: it is not in it, and no older than the newest."""
        if self.has(execution):
            return False
        times = [listed.created_at for listed in self.executions if listed.created_at]
        newest: datetime | None = max(times, default=None)
        return newest is None or execution.created_at is None or execution.created_at >= newest


def start_or_resume(request: StartRequest) -> Plan[Decision]:
    """One pass of the protocol. It may start an execution, and cancel one of this task from before a clear.

    :raises PolytomicConflictError: somebody else's execution runs and ``if_running`` is ``fail``, or five attempts
        met one.
    :raises PolytomicError: the server refused the start, or its outcome is unknown.
    """
    server_clock = ServerClock()
    return (yield from server_clock.observe(_start_or_resume(request, server_clock)))


def _start_or_resume(request: StartRequest, server_clock: ServerClock) -> Plan[Decision]:
    began = yield from current_time()
    baseline = yield from _list_when_known(request)
    resumed = yield from _resume_earlier_tries(request, baseline, began)
    if resumed is not None:
        return resumed
    # Where no earlier try had to be replayed, nothing has happened since the first list.
    listed = baseline if request.first_try == request.try_number else (yield from _list(request))
    error: PolytomicApiError = _conflict(request, f"{request.sync_kind.label.capitalize()} {request.sync_id}: no start")
    for attempt in range(request.attempts, MAX_ATTEMPTS + 1):
        if listed.active is not None:
            decision = yield from _handle_running(request, listed.active, baseline, began)
            return replace(decision, attempts=attempt) if isinstance(decision, Blocked) else decision
        if attempt == MAX_ATTEMPTS:
            break
        result = yield from _start_attempt(request, attempt, listed, server_clock)
        if isinstance(result, Execution):
            return Acquired(result, request.try_number)
        error = result
        if isinstance(error, PolytomicConflictError):
            found = yield from _list_until_conflict_shows(request, listed, error)
            if isinstance(found, Skip):
                return found
            listed = found
        else:
            listed = yield from _list(request)
    raise add_context(
        error, f"Gave up after {MAX_ATTEMPTS} attempts: each met a concurrent execution or a server error"
    )


# --- earlier tries


def _resume_earlier_tries(request: StartRequest, baseline: _Listed, began: float) -> Plan[Decision | None]:
    """What the tries since the last clear have started already: every attempt of every try, in order."""
    for earlier in range(request.first_try, request.try_number):
        if request.stored is not None and earlier < request.stored.try_number:
            continue  # a later try has started something since
        found = yield from _replay_try(request, earlier, began)
        if found is None:
            continue
        is_new = baseline.is_older_than(found)  # this replay has started it
        if not request.wait_for_completion:
            return Acquired(found, earlier, resumed=not is_new)
        if not found.is_terminal and found.status == "canceling":
            return Blocked(found, f"execution {found.id}, which try {earlier} of this task started, is being canceled")
        if not found.is_terminal or request.succeeded(found):
            return Acquired(found, earlier, resumed=not is_new)
        if is_new:
            return Acquired(found, earlier)  # it failed at once: this is the current try's failure
        log.info(
            "Execution %s, which try %d started, ended with status %r: starting a new one",
            found.id,
            earlier,
            found.status,
        )
    return None


def _replay_try(request: StartRequest, try_number: int, began: float) -> Plan[Execution | None]:
    """The execution that a try started, with its current status; None when it started nothing, or that is gone.

    Replaying a key that was never used starts an execution.
    """
    if request.stored is not None and request.stored.try_number == try_number:
        execution_id = request.stored.execution_id
    else:
        replayed = yield from _replay_try_attempts(request, try_number, began)
        if replayed is None:
            return None
        execution_id = replayed.id
    execution: Execution | None = yield from read_current(request.sync_kind.execution(request.sync_id, execution_id))
    if execution is None:
        log.warning("Execution %s, which try %d started, no longer exists", execution_id, try_number)
    return execution


def _replay_try_attempts(request: StartRequest, try_number: int, began: float) -> Plan[Execution | None]:
    """Replay every key of a try until one returns an execution. A key that was never used starts one."""
    for attempt in range(MAX_ATTEMPTS):
        result = yield from replay_key(request.call(try_number, attempt), START, began)
        if isinstance(result, Execution):
            return result
        # This key started nothing, and never will.
        log.info("Attempt %d of try %d started nothing: %s", attempt, try_number, result)
    return None


# --- this try


def _start_attempt(
    request: StartRequest, attempt: int, listed: _Listed, server_clock: ServerClock
) -> Plan[Execution | PolytomicConflictError | PolytomicServerError]:
    """Start with one key of this try.

    :returns: the execution, or the error that the server keeps for this key.
    """

    failed_exchange: list[tuple[float, float]] = []  # the first: a repetition is answered from the server's memory

    def find_effect() -> Plan[Execution | None]:
        failed_exchange.append(server_clock.last_exchange)
        return (yield from _find_effect(request, listed, server_clock, *failed_exchange[0]))

    return (yield from resolve_outcome(request.call(request.try_number, attempt), START, find_effect=find_effect))


def _find_effect(
    request: StartRequest, before: _Listed, server_clock: ServerClock, sent: float, failed: float
) -> Plan[Execution | None]:
    """The execution that a start has begun although the server answered it with an error.

    It is the oldest that does what was asked for and was created, by the server's clock, while the request was under
    way. What was created later is somebody else's. Without a ``Date`` it has to show in the list within seconds.

    :param before: the list before the start.
    :param sent: when the request was sent, by this machine's clock.
    :param failed: when its answer was received.
    """
    for _ in range(MAX_CLOCK_SAMPLES):
        listed = yield from _list(request, SEARCH_LIMIT)
        now = yield from current_time()
        within = server_clock.interval(sent, failed)
        candidates = [
            execution
            for execution in reversed(listed.executions)
            if not before.has(execution)
            and does_the_same(execution, request.arguments)
            and (
                (now - failed <= UNDATED_EFFECT_LAG and before.is_older_than(execution))
                if within is None
                else (execution.created_at and within[0] <= execution.created_at.timestamp() <= within[1])
            )
        ]
        if not candidates:
            return None
        if within is None or server_clock.is_precise:
            log.warning("The server answered the start with an error, but began execution %s", candidates[0].id)
            return candidates[0]
        # Within a second of the failure it may be somebody else's: the server's clock has to be known better.
        yield from sleep(server_clock.seconds_to_tick(now))
    return None  # in doubt it is not taken: two tasks must not report one execution


def _list_until_conflict_shows(
    request: StartRequest, before: _Listed, conflict: PolytomicConflictError
) -> Plan[_Listed | Skip]:
    """List executions until the one behind a 409 is listed, for as long as the list may lag behind.

    :param before: the list before the conflict. What is not in it, but has ended now, explains the 409 as well.
    :raises PolytomicConflictError: it is not listed, and ``if_running`` is ``fail``.
    """
    began = yield from current_time()
    attempt = 0
    while True:
        listed = yield from _list(request)
        if listed.active is not None or any(not before.has(execution) for execution in listed.executions):
            return listed
        if not request.was_cleared:  # after a clear it may be this task's own, which has to be canceled
            if request.if_running == "fail":
                raise add_context(conflict, "if_running='fail': nothing was started")
            if request.if_running == "skip":
                return Skip(None)
        if attempt == 0:
            log.info(
                "%s %s: the server reports a running execution that its list does not show yet: listing again",
                request.sync_kind.label.capitalize(),
                request.sync_id,
            )
        attempt += 1
        if (yield from current_time()) - began >= REPLICA_LAG:
            return listed
        yield from sleep(backoff(attempt, random.random()))


def _list(request: StartRequest, limit: int = LIST_LIMIT) -> Plan[_Listed]:
    call = request.sync_kind.executions(request.sync_id, limit=limit)
    page, _ = yield from fetch_fitting_page(call, None, set())
    return _Listed(page.items)


def _list_when_known(request: StartRequest) -> Plan[_Listed]:
    """The first list. A sync that was just created may be unknown to a replica of the server for some seconds."""
    for delay in NEW_SYNC_DELAYS:
        try:
            return (yield from _list(request))
        except PolytomicNotFoundError as error:
            log.info("%s. The sync may be new: listing again in %g s", error, delay)
        yield from sleep(delay)
    return (yield from _list(request))


# --- an execution that runs


def _handle_running(request: StartRequest, running: Execution, baseline: _Listed, began: float) -> Plan[Decision]:
    """Decide about an execution that no try since the last clear has started."""
    is_own, execution = yield from _find_start_before_clear(request, running, baseline, began)
    if execution.id != running.id:
        return Acquired(execution, request.try_number)
    if not is_own:
        decision = _apply_policy(request, running)
        if decision is not None:
            return decision
    return (yield from _cancel_or_wait_for(request, running, is_own))


def _find_start_before_clear(
    request: StartRequest, running: Execution, baseline: _Listed, began: float
) -> Plan[tuple[bool, Execution]]:
    """Whether this task started the running execution before it was cleared.

    :returns: that, and the running execution; or True and another one, which a replayed key has just started.
    """
    if request.stored is not None and request.stored.execution_id == running.id:
        return True, running
    for earlier in range(request.first_try - 1, 0, -1):
        execution = yield from _replay_try_attempts(request, earlier, began)
        if execution is not None and (execution.id == running.id or baseline.is_older_than(execution)):
            return True, execution
    return False, running


def _apply_policy(request: StartRequest, running: Execution) -> Decision | None:
    """What ``if_running`` says about somebody else's execution; None: it has to end first."""
    if request.if_running == "fail":
        message = (
            f"Execution {running.id} of {request.sync_kind.label} {request.sync_id} is {running.status}, "
            "and if_running='fail': nothing was started"
        )
        raise _conflict(request, message)
    if request.if_running == "skip":
        return Skip(running)
    if request.if_running == "attach" and running.status != "canceling" and does_enough(running, request.arguments):
        log.info("Attaching to execution %s, which this task did not start (if_running='attach')", running.id)
        return Acquired(running, request.try_number, adopted=True)
    return None


def _conflict(request: StartRequest, message: str) -> PolytomicConflictError:
    call = request.call(request.try_number, 0)
    error = PolytomicConflictError(call.request, Response(409), message=message, key=None)
    error.args = (message,)  # without method and path: no request was sent, so none was refused
    return error


def _cancel_or_wait_for(request: StartRequest, running: Execution, is_own: bool) -> Plan[Blocked]:
    origin = "which this task started before it was cleared" if is_own else "which this task did not start"
    cancels = (is_own and request.cancel_on_kill) or request.if_running == "cancel"
    if cancels and running.status != "canceling":
        log.info("Canceling execution %s, %s", running.id, origin)
        refused = yield from cancel_execution(request.sync_kind, request.sync_id, running.id, CANCEL_TIMEOUT)
        if refused:
            log.warning("Execution %s could not be canceled: %s", running.id, refused)
    return Blocked(running, f"execution {running.id}, {origin}, has to end first")
