"""What is known of the server's clock, from the ``Date`` headers of its answers."""

from __future__ import annotations

import math
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

from ..plan import Plan, Request, Response, SendResult, current_time, send

T = TypeVar("T")

DATE_RESOLUTION = 1.0  # seconds; a Date header leaves out the fraction
PRECISION = 0.05  # seconds


class ServerClock:
    """Bounds of the difference between the server's clock and this machine's.

    Each answer narrows them: the server wrote its ``Date`` between the moment when the request was sent and the moment
    when the answer was received.
    """

    def __init__(self) -> None:
        self._lowest = -math.inf  # server time minus local time
        self._highest = math.inf
        self.last_exchange = (0.0, 0.0)  # when the last request was sent and answered, by this machine's clock

    def observe(self, plan: Plan[T]) -> Plan[T]:
        """The same plan; the ``Date`` of every answer is noted."""
        step = next(plan)
        try:
            while True:
                if isinstance(step, Request):
                    sent = yield from current_time()
                    answer = yield from send(step)
                    self.note(sent, (yield from current_time()), answer)
                    step = plan.send(answer)
                else:
                    step = plan.send((yield step))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def interval(self, sent: float, received: float) -> tuple[float, float] | None:
        """Bounds, by the server's clock, of a stretch of local time; None when no answer had a ``Date``."""
        if self._lowest == -math.inf:
            return None
        return sent + self._lowest, received + self._highest

    @property
    def is_precise(self) -> bool:
        """Whether the difference is known to within a twentieth of a second."""
        return self._highest - self._lowest <= PRECISION

    def seconds_to_tick(self, now: float) -> float:
        """How long to wait before the request whose ``Date`` halves what is unknown of the difference.

        That request arrives when the server's clock would just begin a new second if the difference were in the
        middle of its bounds.
        """
        middle = (self._lowest + self._highest) / 2
        return math.ceil(now + middle) - middle - now

    def note(self, sent: float, received: float, answer: SendResult) -> None:
        """Learn from one exchange."""
        self.last_exchange = sent, received
        date = _date(answer)
        if date is None:
            return
        lowest, highest = date - received, date + DATE_RESOLUTION - sent
        if lowest > self._highest or highest < self._lowest:
            # One of the two clocks was set: what was known of their difference no longer holds.
            self._lowest, self._highest = lowest, highest
        else:
            self._lowest, self._highest = max(self._lowest, lowest), min(self._highest, highest)


def _date(answer: SendResult) -> float | None:
    if not isinstance(answer, Response):
        return None
    try:
        date = parsedate_to_datetime(answer.headers.get("date", ""))
        return date.replace(tzinfo=date.tzinfo or timezone.utc).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
