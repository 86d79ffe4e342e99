"""Runs plans with scripted responses and a clock that the test controls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airflow_provider_polytomic.api.plan import (
    BatchableSleep,
    Now,
    Plan,
    ReloadCredentials,
    Request,
    SendResult,
    Sleep,
)

T = TypeVar("T")


def advance(plan: Plan[Any], outcome: Any, now: float) -> Request | Sleep:
    """Continue a plan to its next request or sleep, in a world whose clock stands still meanwhile.

    :param outcome: the response to its last request; None at the start and after a sleep.
    :raises StopIteration: the plan has ended.
    """
    while True:
        step = plan.send(outcome)
        if isinstance(step, Request | Sleep):
            return step
        outcome = now if isinstance(step, Now) else None


@dataclass
class PlanDriver:
    """Passes the listed results to the requests of a plan, one after the other, and records its steps."""

    results: Iterable[SendResult]
    now: float = 1_790_000_000.0
    requests: list[Request] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    reconnects: int = 0

    def __post_init__(self) -> None:
        self._results: Iterator[SendResult] = iter(self.results)

    def drive(self, plan: Plan[T]) -> T:
        """Run a plan to its end and return its result."""
        outcome: Any = None
        while True:
            try:
                step = plan.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            outcome = None
            if isinstance(step, Request):
                self.requests.append(step)
                outcome = next(self._results)
            elif isinstance(step, Sleep | BatchableSleep):
                self.sleeps.append(step.seconds)
                self.now += step.seconds
            elif isinstance(step, Now):
                outcome = self.now
            else:
                assert isinstance(step, ReloadCredentials)
                self.reconnects += 1
