"""The start protocol: starts an execution exactly once, even if processes die and responses are lost.

Every start carries an ``Idempotency-Key`` computed from the task, its DAG run, the try, and an attempt within the try.
The server records what each key started, and that record is the protocol's log: replaying a used key returns the
execution that it started. Replaying an unused key starts one.

:func:`start_or_resume` is one pass: list the executions, resume one of an earlier try, or start with a key of this try.
When another execution has to end first, it returns :class:`Blocked`. The caller waits for that end and calls again; no
state is kept in between. ``docs/promises.md`` lists what this guarantees and what it cannot.
"""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from .. import models
from ..errors import (
    PolytomicApiError,
    PolytomicConflictError,
    PolytomicError,
    PolytomicNotFoundError,
    PolytomicServerError,
    PolytomicValidationError,
    add_context,
)
from ..idempotency import REPLICA_LAG, read_current, replay_key, resolve_outcome
from ..plan import Plan, Response, current_time, sleep
from ..retry import backoff
from .cancel import CANCEL_TIMEOUT, cancel_execution
from .execution_list import ExecutionList, list_executions
from .freshness import find_fresh_execution
from .matching import covers_request
from .repair import Repair, read_repair
from .server_clock import ServerClock
from .start_decision import Blocked, Decision, Origin, ResolvedExecution, Skipped
from .start_effect import find_started_execution
from .start_request import MAX_ATTEMPTS, StartRequest

if TYPE_CHECKING:
    from ..models import Execution

log = logging.getLogger(__name__)

NEW_SYNC_DELAYS = (1.0, 2.0, 4.0)  # seconds between lists while they return 404: the sync may be new


def _resolve(request: StartRequest, execution: Execution, try_number: int, origin: Origin) -> ResolvedExecution:
    return ResolvedExecution(execution, try_number, origin, request.repair or Repair())


def start_or_resume(request: StartRequest) -> Plan[Decision]:
    """Run one pass of the protocol. It may start an execution and cancel another one.

    :raises PolytomicConflictError: another execution is running and ``if_running`` is ``fail``, or each of five
        attempts met one.
    :raises PolytomicError: the server refused the start, or its outcome is unknown.
    """
    server_clock = ServerClock()
    return (yield from server_clock.observe(_start_or_resume(request, server_clock)))


def _start_or_resume(request: StartRequest, server_clock: ServerClock) -> Plan[Decision]:
    sent_before = yield from current_time()  # by an earlier try, if at all
    try:
        baseline = yield from _list_when_known(request)
        request, resumed = yield from _replay_earlier_tries(request, baseline, sent_before)
    except PolytomicError as failure:
        raise _name_unresolved_execution(request, failure) from None
    if resumed is not None:
        return resumed
    # Without earlier tries, no request was sent since the first list.
    listed = baseline if request.first_try == request.try_number else (yield from list_executions(request))
    error: PolytomicApiError = _conflict_error(request, f"{_subject(request)}: no attempts are left")
    rejected_attempt: int | None = None  # the one in which the server rejected a start of some schemas
    for attempt in range(request.attempts, MAX_ATTEMPTS + 1):
        if listed.non_terminal is not None:
            decision = yield from _replay_or_apply_if_running(request, listed, baseline, sent_before, server_clock)
            # The next pass replays the rejection, because the attempts after it send another body.
            next_attempt = attempt if rejected_attempt is None else rejected_attempt
            return decision._replace(attempts=next_attempt) if isinstance(decision, Blocked) else decision
        fresh = yield from find_fresh_execution(request, listed, server_clock)
        if fresh is not None:
            return ResolvedExecution(fresh, request.try_number, "fresh")
        if attempt == MAX_ATTEMPTS:
            break
        result = yield from _start_attempt(request, attempt, listed, server_clock)
        if isinstance(result, models.Execution):
            return _resolve(request, result, request.try_number, "started")
        error = result
        if isinstance(error, PolytomicValidationError):
            rejected_attempt, request = attempt, _widen(request, error)
            continue
        if isinstance(error, PolytomicConflictError):
            found = yield from _list_until_conflict_shows(request, listed, error)
            if isinstance(found, Skipped):
                return found
            listed = found
        else:
            listed = yield from list_executions(request)
    raise add_context(
        error, f"Gave up after {MAX_ATTEMPTS} attempts: each met a concurrent execution or a server error"
    )


# --- earlier tries


def _replay_earlier_tries(
    request: StartRequest, baseline: ExecutionList, sent_before: float
) -> Plan[tuple[StartRequest, Decision | None]]:
    """Replay the earlier tries since the last clear, in order, to find an execution to resume.

    Replaying an unused key starts an execution, which is then taken as this try's own.

    :returns: the request with what the earlier tries have left to repair, and what to resume or to wait for.
    """
    for earlier in range(request.first_try, request.try_number):
        if request.stored is not None and earlier < request.stored.try_number:
            continue  # superseded by the start of a later try
        request, found = yield from _replay_try(request, earlier, sent_before)
        if found is None:
            continue
        is_new = baseline.predates(found)  # the replay started it
        origin: Origin = "started" if is_new else "resumed"
        if not request.wait_for_completion:
            return request, _resolve(request, found, earlier, origin)
        if not found.is_terminal and found.status == "canceling":
            reason = f"execution {found.id}, which try {earlier} of this task started, is being canceled"
            return request, Blocked(found, reason)
        # One that is new and failed immediately is the current try's failure.
        if not found.is_terminal or request.has_succeeded(found) or is_new:
            return request, _resolve(request, found, earlier, origin)
        request = request.after(found)
        log.info(
            "Execution %s of %s, which try %d started, ended with status %r. Starting a new one%s.",
            found.id,
            request.sync,
            earlier,
            found.status,
            request.repair.describe() if request.repair else "",
        )
    return request, None


def _replay_try(
    request: StartRequest, try_number: int, sent_before: float
) -> Plan[tuple[StartRequest, Execution | None]]:
    """Return the execution that a try started, with its current status.

    Replaying an unused key starts an execution.

    :returns: the request as that execution was started, and the execution: None when the try started nothing, or its
        execution no longer exists.
    """
    if request.stored is not None and request.stored.try_number == try_number:
        execution_id = request.stored.execution_id
        if request.repair is not None:
            repair = yield from read_repair(request.kind, request.sync_id, request.stored.earlier_ids)
            request = replace(request, repair=repair)
    else:
        request, replayed = yield from _replay_try_attempts(request, try_number, sent_before)
        if replayed is None:
            return request, None
        execution_id = replayed.id
    execution: Execution | None = yield from read_current(request.kind.execution(request.sync_id, execution_id))
    if execution is None:
        log.warning(
            "Execution %s of %s, which try %d started, no longer exists.",
            execution_id,
            request.sync,
            try_number,
        )
    return request, execution


def _replay_try_attempts(
    request: StartRequest, try_number: int, sent_before: float
) -> Plan[tuple[StartRequest, Execution | None]]:
    """Replay the keys of a try until one returns an execution. Replaying an unused key starts one.

    :returns: the request as the last key was sent, and the execution.
    """
    for attempt in range(MAX_ATTEMPTS):
        result = yield from replay_key(request.call(try_number, attempt), "start", sent_before)
        if isinstance(result, models.Execution):
            return request, result
        # The server has recorded an error for this key, which will therefore never start an execution.
        log.info("Replaying key %d of try %d found no execution: %s", attempt + 1, try_number, result)
        if isinstance(result, PolytomicValidationError) and request.is_narrowed:
            request = _widen(request, result)
    return request, None


def _name_unresolved_execution(request: StartRequest, error: PolytomicError) -> PolytomicError:
    """Add to an error that an execution of an earlier try may still be running, because nothing else would say so."""
    if request.first_try == request.try_number:
        return error
    stored = request.stored
    if stored is None or stored.try_number < request.first_try:
        return add_context(error, "An execution that an earlier try of this task started may still be running")
    execution = f"execution {stored.execution_id} of {request.sync}"
    return add_context(error, f"Try {stored.try_number} of this task started {execution}, which may still be running")


# --- this try


def _start_attempt(
    request: StartRequest, attempt: int, listed: ExecutionList, server_clock: ServerClock
) -> Plan[Execution | PolytomicConflictError | PolytomicServerError | PolytomicValidationError]:
    """Start with one key of this try.

    :returns: the execution, or the error that the server recorded for this key. A rejection is among those only if
        the start is one of some schemas.
    """
    # Only the first exchange counts: a repetition returns the recorded response.
    first_exchange: tuple[float, float] | None = None

    def find_effect() -> Plan[Execution | None]:
        nonlocal first_exchange
        first_exchange = first_exchange or server_clock.last_exchange
        return (yield from find_started_execution(request, listed, server_clock, *first_exchange))

    call = request.call(request.try_number, attempt)
    try:
        return (yield from resolve_outcome(call, "start", find_effect=find_effect))
    except PolytomicValidationError as error:
        if request.is_narrowed:
            return error
        raise


def _widen(request: StartRequest, rejection: PolytomicValidationError) -> StartRequest:
    """The request that syncs everything, after the server rejected a start of the schemas that are left."""
    log.warning("%s: Polytomic rejected a start of some schemas: %s. Syncing all.", _subject(request), rejection)
    return request.without_repair()


def _list_until_conflict_shows(
    request: StartRequest, before: ExecutionList, conflict: PolytomicConflictError
) -> Plan[ExecutionList | Skipped]:
    """List executions until the one that caused a 409 is listed, for as long as a list may lag.

    :param before: the list before the conflict. An execution that is new since then and has ended explains the 409 too.
    :raises PolytomicConflictError: none is listed, and ``if_running`` is ``fail``.
    """
    began = yield from current_time()
    list_count = 0
    while True:
        listed = yield from list_executions(request)
        if listed.non_terminal is not None or any(not before.has(execution) for execution in listed.executions):
            return listed
        if not request.was_cleared:  # after a clear it may be this task's own, which has to end first
            if request.if_running == "fail":
                raise add_context(conflict, "Nothing was started (if_running='fail')")
            if request.if_running == "skip":
                return Skipped(None)
        if list_count == 0:
            log.info(
                "%s: the server reports a running execution that it does not list yet. Requesting the list again.",
                _subject(request),
            )
        list_count += 1
        if (yield from current_time()) - began >= REPLICA_LAG:
            return listed
        yield from sleep(backoff(list_count, jitter=random.random()))


def _list_when_known(request: StartRequest) -> Plan[ExecutionList]:
    """List executions, tolerating 404 for some seconds: replicas may not know a new sync yet."""
    for delay in NEW_SYNC_DELAYS:
        try:
            return (yield from list_executions(request))
        except PolytomicNotFoundError as error:
            log.info("%s. The sync may be new. Requesting its executions again in %g s.", error, delay)
        yield from sleep(delay)
    return (yield from list_executions(request))


# --- a non-terminal execution


def _replay_or_apply_if_running(
    request: StartRequest,
    listed: ExecutionList,
    baseline: ExecutionList,
    sent_before: float,
    server_clock: ServerClock,
) -> Plan[Decision]:
    """Decide about a non-terminal execution that no try since the last clear started.

    If the task was cleared, this replays the keys from before the clear, which may start an execution. It may cancel
    the non-terminal one.
    """
    non_terminal = listed.non_terminal
    assert non_terminal is not None  # noqa: S101  the caller has checked
    is_owned, execution = yield from _replay_tries_before_clear(request, non_terminal, baseline, sent_before)
    if execution.id != non_terminal.id:
        return _resolve(request.without_repair(), execution, request.try_number, "started")
    if not is_owned:
        fresh = yield from find_fresh_execution(request, listed, server_clock)
        if fresh is not None:
            return ResolvedExecution(fresh, request.try_number, "fresh")
        decision = _decide_by_if_running(request, non_terminal)
        if decision is not None:
            return decision
    return (yield from _cancel_if_requested(request, non_terminal, is_owned))


def _replay_tries_before_clear(
    request: StartRequest, non_terminal: Execution, baseline: ExecutionList, sent_before: float
) -> Plan[tuple[bool, Execution]]:
    """Replay the tries before the clear to determine whether this task started the non-terminal execution.

    :returns: whether it did, and the non-terminal execution; or True and another one, which a replayed key just
        started.
    """
    if request.stored is not None and request.stored.execution_id == non_terminal.id:
        return True, non_terminal
    if request.was_cleared:
        text = "Execution %s of %s is running. Checking whether this task started it before the task was cleared."
        log.info(text, non_terminal.id, request.sync)
    for earlier in range(request.first_try - 1, 0, -1):
        # Everything, because the clear has made the repairs of these tries void.
        _, execution = yield from _replay_try_attempts(request.without_repair(), earlier, sent_before)
        if execution is not None and (execution.id == non_terminal.id or baseline.predates(execution)):
            return True, execution
    return False, non_terminal


def _decide_by_if_running(request: StartRequest, non_terminal: Execution) -> Decision | None:
    """Apply ``if_running`` to an execution that this task did not start.

    :returns: None when the execution has to end first.
    :raises PolytomicConflictError: ``if_running`` is ``fail``.
    """
    if request.if_running == "fail":
        message = (
            f"Nothing was started: execution {non_terminal.id} of {request.sync} has status "
            f"{non_terminal.status!r}, and if_running='fail'"
        )
        raise _conflict_error(request, message)
    if request.if_running == "skip":
        return Skipped(non_terminal)
    if (
        request.if_running == "attach"
        and non_terminal.status != "canceling"
        and covers_request(non_terminal, request.start_arguments)
    ):
        return _resolve(request, non_terminal, request.try_number, "attached")
    return None


def _subject(request: StartRequest) -> str:
    return request.sync[:1].upper() + request.sync[1:]


def _conflict_error(request: StartRequest, message: str) -> PolytomicConflictError:
    call = request.call(request.try_number, 0)
    error = PolytomicConflictError(call.request, Response(409), message=message, key=None)
    error.args = (message,)  # without method and path, because no request was sent
    return error


def _cancel_if_requested(request: StartRequest, non_terminal: Execution, is_owned: bool) -> Plan[Blocked]:
    # The clear of a DAG run that has ended changes the keys, so the task cannot recognize what it started before.
    foreign = "which this task did not start" + (" since it was cleared" if request.was_cleared else "")
    relation = "which this task started before it was cleared" if is_owned else foreign
    cancels = (is_owned and request.cancel_from_before_clear) or request.if_running == "cancel"
    if cancels and non_terminal.status != "canceling":
        subject = f"Execution {non_terminal.id} of {request.sync}"
        log.info(
            "Canceling execution %s, %s%s.", non_terminal.id, relation, "" if is_owned else " (if_running='cancel')"
        )
        refusal = yield from cancel_execution(request.kind, request.sync_id, non_terminal.id, CANCEL_TIMEOUT)
        if refusal:
            log.warning("%s could not be canceled: %s. Waiting for its end.", subject, refusal)
    return Blocked(non_terminal, f"execution {non_terminal.id}, {relation}, has to end first")
