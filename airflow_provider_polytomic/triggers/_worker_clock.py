"""The clock of the worker that deferred a task, as seen from the triggerer, whose own clock can differ."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.client import AsyncClient
    from airflow_provider_polytomic.api.plan import BatchableSleep

log = logging.getLogger(__name__)

# Seconds. Each response measures the difference more precisely, but a clock that moves with each poll would make a
# trigger poll again and again just before its deadline.
MIN_CHANGE = 2.0


class WorkerClock:
    """Converts the time of this machine to the worker's, through the server's clock, which both have measured.

    Until the first response to a trigger of this process, the two clocks count as equal.

    :param difference: the server's time minus the worker's in seconds, as the worker measured it; None if unknown.
    :param since: a time of the worker that has passed.
    """

    def __init__(self, difference: float | None, since: float | None, client: AsyncClient) -> None:
        self._difference = difference
        self._since = since or 0.0
        self._client = client
        self._correction = 0.0

    def now(self) -> float:
        return max(time.time() + self._correct(), self._since)

    async def sleep_batchable(self, step: BatchableSleep) -> bool:
        """Sleep with batch polls, which compare a deadline with the time of this machine."""
        from airflow_provider_polytomic.api.executions.server_clock import MAX_CORRECTION

        with contextlib.suppress(Exception):  # the poll that follows reports it
            await self._client.connect()
        correction, deadline = self._correct(), step.deadline
        if deadline is not None:
            deadline -= correction
            if self._difference is not None and self._client.server_clock.difference is None:
                # The deadline can be earlier by this clock: poll directly before, which measures the difference.
                deadline = min(deadline, max(deadline - MAX_CORRECTION, time.time() + step.seconds))
        interval = step.interval
        step = step._replace(deadline=deadline, interval=lambda now: interval(now + correction))
        return await self._client.sleep_batchable(step)

    def _correct(self) -> float:
        """Measure the difference, and return the seconds to add to the time of this machine."""
        from airflow_provider_polytomic.api.executions.server_clock import clock_correction

        correction = clock_correction(self._difference, self._client.server_clock.difference)
        if abs(correction - self._correction) >= MIN_CHANGE:
            self._correction = correction
            log.warning(
                "The clocks of this machine and of the task's worker differ by %.0f s. The deadline is that of the "
                "worker's clock. Synchronize the clocks.",
                abs(correction),
            )
        return self._correction
