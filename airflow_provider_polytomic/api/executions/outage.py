"""Tracks outages during a wait: how long polls may fail, and when the next one is due."""

from __future__ import annotations

import logging
import random
from typing import Any

from ..errors import PolytomicAuthError, PolytomicError, PolytomicNotFoundError, add_context
from ..idempotency import REPLICA_LAG
from ..plan import Plan, reload_credentials
from ..retry import backoff
from .poll import PollResult

log = logging.getLogger(__name__)

OUTAGE_BUDGET = 600.0  # seconds of consecutive polling failures that a wait tolerates
MIN_FAILURES = 3  # consecutive failures before a wait may end, even if the budget is spent
MAX_BACKOFF = 60.0  # seconds between polls during an outage
MAX_POLL_TIME = 120.0  # seconds of the budget that one poll may use: its process may have been suspended
LAG_POLL_INTERVAL = 5.0  # seconds between polls while an execution is not found


class OutageTracker:
    """Decides after each poll of one wait whether the wait goes on, and when the next poll is due.

    The budget starts with the first failure, not with the last success, because polls can be an hour apart.

    :param subject: what the wait is for, for log lines: "Execution 123 of bulk sync 456".
    :param poke_interval: the poll interval in seconds.
    :param waiting_since: when the wait began, in seconds since the epoch. During the first minute, an execution
        that is not found counts as new.
    :param fixed_interval: whether the poll interval is fixed, as for a sensor, whose polls Airflow schedules.
    """

    def __init__(
        self, subject: str, poke_interval: float, waiting_since: float, *, fixed_interval: bool = False
    ) -> None:
        self._subject = subject
        self._poke_interval = poke_interval
        self._waiting_since = waiting_since
        self._fixed_interval = fixed_interval
        self._failures = 0
        self._duration = 0.0
        self._last_failure = 0.0
        self._last_error: type[PolytomicError] | None = None
        self._delay = 0.0  # planned after the last failure
        self._credentials_reread = False
        self._lag_logged = False

    def record_success(self) -> None:
        """Record a successful poll, which ends an outage."""
        if self._failures:
            log.info("%s: polling succeeds again.", self._subject)
        self._failures, self._duration, self._credentials_reread = 0, 0.0, False

    def record_failure(self, poll: PollResult[Any], now: float) -> Plan[float]:
        """Record a failed poll.

        :returns: seconds until the next poll.
        :raises PolytomicError: the error is final, or the outage exceeds its budget.
        """
        error = poll.error
        assert error is not None  # noqa: S101  the poll has failed
        if not poll.transient:
            return (yield from self._handle_refusal(error, now))
        if self._failures:
            self._duration += self._time_failing(poll.duration, now)
        self._failures += 1
        self._last_failure = now
        if self._failures >= MIN_FAILURES and self._duration >= OUTAGE_BUDGET:
            raise add_context(error, f"no valid response for {self._duration:.0f} s")
        if self._failures == 1 or type(error) is not self._last_error:  # the same error would be logged for minutes
            left = max(OUTAGE_BUDGET - self._duration, 0.0)
            log.warning("%s could not be polled: %s. Polling again, for up to %.0f s.", self._subject, error, left)
        self._last_error = type(error)
        self._delay = self._next_delay(poll.retry_after)
        return self._delay

    def _handle_refusal(self, error: PolytomicError, now: float) -> Plan[float]:
        if isinstance(error, PolytomicAuthError) and not self._credentials_reread:
            log.warning("%s could not be polled: %s. Reading the Airflow connection again.", self._subject, error)
            self._credentials_reread = True
            yield from reload_credentials()
            return 0.0
        self._waiting_since = min(self._waiting_since, now)  # the clock may have been set back
        lag_left = REPLICA_LAG - (now - self._waiting_since)
        if isinstance(error, PolytomicNotFoundError) and lag_left > 0:
            if not self._lag_logged:
                self._lag_logged = True
                log.info(
                    "%s was not found. It may be new: waiting up to %.0f s for it to appear.", self._subject, lag_left
                )
            return min(self._poke_interval, LAG_POLL_INTERVAL)
        raise error

    def _time_failing(self, poll_duration: float, now: float) -> float:
        """Seconds since the last failure, capped at the planned delay.

        Time in which the process was suspended, or by which its clock jumped, is no outage.
        """
        slept = now - self._last_failure - poll_duration
        return min(max(slept, 0.0), self._delay) + min(max(poll_duration, 0.0), MAX_POLL_TIME)

    def _next_delay(self, retry_after: float | None) -> float:
        if self._fixed_interval:
            return self._poke_interval
        if retry_after is not None:
            return retry_after
        delay = backoff(self._failures, max_delay=min(self._poke_interval, MAX_BACKOFF), jitter=random.random())
        # Do not sleep past the end of the budget.
        return min(delay, max(OUTAGE_BUDGET - self._duration, 1.0))
