"""The limits of a wait: its deadline, and how long an execution may be queued."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..plan import Plan
from .server_clock import ServerClock

if TYPE_CHECKING:
    from ..models import Execution

T = TypeVar("T")

QUEUED_STATUSES = frozenset({"created", "scheduled", "queued", "waiting"})


class Exceeded(NamedTuple):
    """A limit that has passed.

    :param reason: what has passed. It continues "Execution 123 of …".
    :param left: what happens to an execution that is not canceled.
    :param limit: ``queue_timeout``; None for the deadline.
    :param status: the status of the queued execution.
    """

    reason: str
    left: str = "it is left running"
    limit: str | None = None
    status: str | None = None


class WaitLimits:
    """Decides when a wait ends before its execution has ended, and when to poll to find that out.

    The time in the queue counts from the execution's creation, so that no deferral and no retry extends it. "Now" is
    the server's ``Date``, like the creation, so that a wrong clock of this machine cancels nothing. Without one of the
    two, the time counts from the beginning of the wait.

    :param deadline: seconds since the epoch.
    :param queue_timeout: seconds; None for no limit.
    :param waiting_since: when the wait began, in seconds since the epoch.
    """

    def __init__(self, deadline: float | None, queue_timeout: float | None, waiting_since: float) -> None:
        self._deadline = deadline
        self._queue_timeout = queue_timeout  # None after the execution has left the queue
        self._waiting_since = waiting_since
        self._server_clock = ServerClock() if queue_timeout is not None else None
        self._queue_deadline: float | None = None  # seconds since the epoch; None if it is not known

    def observe(self, plan: Plan[T]) -> Plan[T]:
        """Run a plan that polls, and read the server's clock."""
        return plan if self._server_clock is None else self._server_clock.observe(plan)

    def next_wake(self, now: float) -> float | None:
        """When a sleep has to end, in seconds since the epoch: at the next limit."""
        limits = [self._deadline] if self._deadline is not None else []
        if self._queue_deadline is not None and self._queue_deadline > now:
            limits.append(self._queue_deadline)
        return min(limits, default=None)

    def needs_direct_poll(self, now: float) -> bool:
        """Whether a direct poll has to show if the execution is queued: none has yet, or the one at the limit failed.

        A batch response does not contain the execution's own status.
        """
        return self._queue_timeout is not None and (self._queue_deadline is None or self._queue_deadline <= now)

    def check(self, execution: Execution | None, now: float) -> Exceeded | None:
        """Check the limits after a poll.

        :param execution: None if the poll failed. Then it is unknown whether the execution is still queued.
        """
        if execution is not None and self._queue_timeout is not None:
            exceeded = self._check_queue(execution, now, self._queue_timeout)
            if exceeded is not None:
                return exceeded
        if self._deadline is not None and now >= self._deadline:
            return Exceeded("had not ended at the deadline")
        return None

    def _check_queue(self, execution: Execution, now: float, timeout: float) -> Exceeded | None:
        if execution.status not in QUEUED_STATUSES:
            self._queue_timeout = self._queue_deadline = self._server_clock = None
            return None
        server_time = self._server_clock.interval(now, now) if self._server_clock is not None else None
        if server_time is None or execution.created_at is None:
            queued = now - self._waiting_since
        else:
            queued = server_time[0] - execution.created_at.timestamp()  # at least
        self._queue_deadline = now + timeout - queued
        if self._queue_deadline > now:
            return None
        reason = f"has been queued for {queued:.0f} s (status {execution.status!r}), and queue_timeout is {timeout:g} s"
        return Exceeded(reason, "it is left in the queue", "queue_timeout", execution.status)
