"""Estimates the server's clock from the ``Date`` headers of its responses."""

from __future__ import annotations

import functools
import math
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

from ..plan import Plan, Request, Response, SendResult, current_time, send

T = TypeVar("T")

DATE_RESOLUTION = 1.0  # seconds; a Date header has no fraction
PRECISION = 0.05  # seconds
# Seconds by which a deadline is corrected at most, so that a server with a wrong clock can't keep a task waiting.
MAX_CORRECTION = 600.0


class ServerClock:
    """Bounds of the difference between the server's clock and this machine's.

    Each response narrows them: the server wrote its ``Date`` after the request was sent and before the response was
    received.

    :ivar last_exchange: when the last request was sent and its response received, by this machine's clock.
    """

    def __init__(self) -> None:
        self._lowest = -math.inf  # server time minus local time
        self._highest = math.inf
        self.last_exchange = (0.0, 0.0)

    def observe(self, plan: Plan[T]) -> Plan[T]:
        """Run a plan, and record the ``Date`` of each response."""
        step = next(plan)
        try:
            while True:
                if isinstance(step, Request):
                    sent = yield from current_time()
                    response = yield from send(step)
                    self.record_exchange(sent, (yield from current_time()), response)
                    step = plan.send(response)
                else:
                    step = plan.send((yield step))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def interval(self, sent: float, received: float) -> tuple[float, float] | None:
        """Convert an interval of local time to server time, as bounds; None if no response had a ``Date``."""
        if self._lowest == -math.inf:
            return None
        return sent + self._lowest, received + self._highest

    @property
    def difference(self) -> float | None:
        """Server time minus local time in seconds; 0 if the clocks may be equal, None if no response had a ``Date``."""
        if self._lowest == -math.inf:
            return None
        return max(self._lowest, 0.0) + min(self._highest, 0.0)

    @property
    def is_precise(self) -> bool:
        """Whether the difference is known to within a twentieth of a second."""
        return self._highest - self._lowest <= PRECISION

    def seconds_to_tick(self, now: float) -> float:
        """How long to wait before the next request, so that its ``Date`` halves the uncertainty.

        The request then arrives when the server's clock begins a new second, if the difference is in the middle of its
        bounds.
        """
        middle = (self._lowest + self._highest) / 2
        return math.ceil(now + middle) - middle - now

    def record_response(self, sent: float, received: float, response: SendResult) -> None:
        """Narrow the bounds by a response of the API itself: not a proxy's, and not a cache's, whose dates are old."""
        if not isinstance(response, Response) or "age" in response.headers:
            return
        if response.status < 300 or "json" in response.headers.get("content-type", ""):
            self.record_exchange(sent, received, response)

    def record_exchange(self, sent: float, received: float, response: SendResult) -> None:
        """Narrow the bounds by one exchange."""
        self.last_exchange = sent, received
        date = _date(response)
        if date is None:
            return
        lowest, highest = date - received, date + DATE_RESOLUTION - sent
        if lowest > self._highest or highest < self._lowest:
            # One of the two clocks was adjusted: the old bounds no longer hold.
            self._lowest, self._highest = lowest, highest
        else:
            self._lowest, self._highest = max(self._lowest, lowest), min(self._highest, highest)


def clock_correction(theirs: float | None, own: float | None) -> float:
    """Seconds to add to the time of this machine, to get the time of another one.

    :param theirs: the :attr:`ServerClock.difference` that the other machine has measured; 0 for the server itself.
    :param own: the one that this machine has measured.
    :returns: 0 if one of them is unknown; never more than :data:`MAX_CORRECTION`.
    """
    if theirs is None or own is None:
        return 0.0
    return max(-MAX_CORRECTION, min(own - theirs, MAX_CORRECTION))


def _date(response: SendResult) -> float | None:
    return _parse_date(response.headers.get("date", "")) if isinstance(response, Response) else None


@functools.lru_cache(maxsize=16)  # all responses within a second have the same Date
def _parse_date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=date.tzinfo or timezone.utc).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
