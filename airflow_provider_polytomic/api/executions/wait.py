"""Waits until an execution has ended: polls with backoff, tolerates outages, and keeps a deadline."""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ..errors import PolytomicError, PolytomicTimeoutError
from ..kinds import SyncKind
from ..plan import BatchableSleep, Plan, current_time, sleep, sleep_batchable
from .cancel import CANCEL_TIMEOUT, cancel_execution
from .console_log import ConsoleLogFollower
from .limits import Exceeded, WaitLimits
from .messages import format_progress
from .outage import OutageTracker
from .poll import PollResult, poll_execution, poll_next_execution

if TYPE_CHECKING:
    from ..models import Execution

log = logging.getLogger(__name__)

MIN_POLL_INTERVAL = 5.0  # seconds between polls, unless poke_interval is shorter
MIN_POLL_TIMEOUT = 1.0  # seconds, also at the deadline


def wait_for_execution(
    kind: SyncKind,
    sync_id: str,
    execution_id: str | None,
    *,
    sync_name: str | None = None,
    is_blocking: bool = False,
    after: datetime | None = None,
    poke_interval: float,
    deadline: float | None = None,
    cancel_at_deadline: bool = False,
    queue_timeout: float | None = None,
    first_sleep: float = 0,
    waiting_since: float | None = None,
    schema_count: int = 0,
    console: ConsoleLogFollower | None = None,
) -> Plan[Execution]:
    """Wait until an execution has ended, with whatever status.

    :param execution_id: the execution; None for the oldest one that had not ended at ``after``, test runs excluded.
    :param sync_name: the sync's name for messages, if it is known.
    :param is_blocking: whether messages call it a blocking execution.
    :param after: a point in time, by default now.
    :param poke_interval: maximum seconds between polls. Polling starts at :data:`MIN_POLL_INTERVAL` and backs off to a
        quarter of the elapsed time, so that short syncs are found soon and long ones are not polled too often.
    :param deadline: seconds since the epoch.
    :param cancel_at_deadline: whether to cancel the execution when the deadline or ``queue_timeout`` passes.
    :param queue_timeout: seconds from the execution's creation until it has to be running; None for no limit.
    :param first_sleep: seconds before the first poll. Unless it is 0, up to one poll interval is added at random. An
        earlier deadline is postponed: the wait does not end before these seconds have passed since its beginning.
    :param waiting_since: seconds since the epoch when the wait began, if that was earlier. During the first minute, an
        execution that is not found counts as new.
    :param schema_count: how many schemas the execution has, as far as is known.
    :param console: follows the console log with one request after each poll but the last.
    :raises PolytomicTimeoutError: the deadline or ``queue_timeout`` has passed.
    :raises PolytomicNotFoundError: the execution does not exist.
    :raises PolytomicAuthError: the credentials were refused, and again after they were reloaded.
    :raises PolytomicError: polling has failed for ten minutes; this is the last failure.
    """
    began = now = yield from current_time()
    after = after or datetime.fromtimestamp(began, timezone.utc)
    waiting_since = min(began if waiting_since is None else waiting_since, began)
    deadline = None if deadline is None else max(deadline, waiting_since + first_sleep)
    interval = functools.partial(_next_interval, waiting_since, poke_interval)
    progress = _ProgressLog(kind.describe(sync_id, sync_name), execution_id, is_blocking, console)
    outage = OutageTracker(progress.subject, poke_interval, waiting_since)
    limits = WaitLimits(deadline, queue_timeout, waiting_since)
    delay = first_sleep and first_sleep + interval(began) * random.random()  # random: triggers may start together
    is_server_delay = False
    while True:
        is_direct = console is not None or is_server_delay or limits.needs_direct_poll(now)
        batchable_id = execution_id if kind.has_batch_status and not is_direct else None
        if (yield from _sleep(sync_id, batchable_id, delay, interval, limits.next_wake(now), schema_count)):
            outage.record_success()
        poll = yield from limits.observe(_poll(kind, sync_id, execution_id, after, deadline))
        now, execution, is_server_delay = (yield from current_time()), poll.value, poll.retry_after is not None
        delay = yield from _next_delay(outage, poll, interval, now)
        if execution is not None:
            execution_id, schema_count = execution.id, execution.schema_count
            if execution.is_terminal:
                return execution
            yield from progress.record(execution, _request_timeout(deadline, now))
        exceeded = limits.check(execution, now)
        if exceeded is not None:
            owned_id = execution_id if cancel_at_deadline else None
            raise (yield from _cancel_at_limit(kind, sync_id, owned_id, progress.subject, exceeded, poll.error))
        del poll, execution  # thousands of plans may sleep in one triggerer: free what they have read


class _ProgressLog:
    """Logs the progress of an execution whenever it changes, each unknown status once, and the console log."""

    def __init__(
        self, sync: str, execution_id: str | None, is_blocking: bool, console: ConsoleLogFollower | None
    ) -> None:
        self._sync, self._noun, self._console = sync, "Blocking execution" if is_blocking else "Execution", console
        self.subject = self._describe(execution_id) if execution_id else f"The next execution of {sync}"
        self._logged = ""
        self._unknown_statuses: set[str | None] = set()

    def record(self, execution: Execution, timeout: float | None) -> Plan[None]:
        """Log what is new since the last poll.

        :param timeout: seconds for the request for the console log.
        """
        self.subject = self._describe(execution.id)
        if not execution.has_known_status and execution.status not in self._unknown_statuses:
            self._unknown_statuses.add(execution.status)
            log.warning("%s has the unknown status %r. Still waiting.", self.subject, execution.status)
        progress = format_progress(execution)
        if progress != self._logged:
            self._logged = progress
            log.info("%s: %s", self.subject, progress)
        if self._console is not None:
            yield from self._console.follow(timeout)

    def _describe(self, execution_id: str) -> str:
        return f"{self._noun} {execution_id} of {self._sync}"


def _poll(
    kind: SyncKind, sync_id: str, execution_id: str | None, after: datetime, deadline: float | None
) -> Plan[PollResult[Execution]]:
    timeout = _request_timeout(deadline, (yield from current_time()))
    if execution_id is None:
        return (yield from poll_next_execution(kind, sync_id, after, timeout=timeout))
    return (yield from poll_execution(kind, sync_id, execution_id, timeout=timeout))


def _request_timeout(deadline: float | None, now: float) -> float | None:
    return None if deadline is None else max(deadline - now, MIN_POLL_TIMEOUT)


def _sleep(
    sync_id: str,
    batchable_id: str | None,
    delay: float,
    interval: Callable[[float], float],
    deadline: float | None,
    schema_count: int,
) -> Plan[bool]:
    """Sleep until the next poll, never past the deadline; longer while batch polls show a non-terminal execution.

    :param batchable_id: the execution; None to sleep without batch polls.
    :returns: whether a batch poll has shown that.
    """
    if delay <= 0:
        return False
    if deadline is not None:
        delay = max(min(delay, deadline - (yield from current_time())), 0)
    if batchable_id is None:
        yield from sleep(delay)
        return False
    return (yield from sleep_batchable(BatchableSleep(sync_id, batchable_id, delay, interval, deadline, schema_count)))


def _next_interval(waiting_since: float, max_interval: float, now: float) -> float:
    return min(max_interval, max(MIN_POLL_INTERVAL, (now - waiting_since) / 4))


def _next_delay(
    outage: OutageTracker, poll: PollResult[Execution], interval: Callable[[float], float], now: float
) -> Plan[float]:
    """Record a poll, and return the seconds until the next one.

    :raises PolytomicError: the wait has to be given up.
    """
    if poll.error is not None:
        return (yield from outage.record_failure(poll, now))
    outage.record_success()
    return interval(now)


def _cancel_at_limit(
    kind: SyncKind,
    sync_id: str,
    owned_id: str | None,
    subject: str,
    exceeded: Exceeded,
    poll_error: PolytomicError | None,
) -> Plan[PolytomicTimeoutError]:
    """Cancel the owned execution, if any, and return the error to raise.

    The execution is canceled even if its last poll failed, so that it does not run without a task that waits for it.
    """
    ending, still_running = exceeded.left, True
    if owned_id is not None:
        refusal = yield from cancel_execution(kind, sync_id, owned_id, CANCEL_TIMEOUT)
        ending = f"canceling it failed: {refusal}" if refusal else "the cancel request was accepted"
        still_running = refusal is not None
    if poll_error is not None:
        ending += f"; its last poll failed: {poll_error}"
    message = f"{subject} {exceeded.reason}; {ending}"
    return PolytomicTimeoutError(message, still_running, limit=exceeded.limit, status=exceeded.status)
