"""Runs plans with scripted responses and a clock that the test controls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from airflow_provider_polytomic.api.plan import Now, Plan, ReloadCredentials, Request, SendResult, Sleep

T = TypeVar("T")


@dataclass
class Hand:
    """Answers a plan's requests from a list, one after the other, and writes down its steps."""

    answers: Iterable[SendResult]
    now: float = 1_790_000_000.0
    requests: list[Request] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    reconnects: int = 0

    def __post_init__(self) -> None:
        self._answers: Iterator[SendResult] = iter(self.answers)

    def drive(self, plan: Plan[T]) -> T:
        told: Any = None
        while True:
            try:
                step = plan.send(told)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            told = None
            if isinstance(step, Request):
                self.requests.append(step)
                told = next(self._answers)
            elif isinstance(step, Sleep):
                self.sleeps.append(step.seconds)
                self.now += step.seconds
            elif isinstance(step, Now):
                told = self.now
            else:
                assert isinstance(step, ReloadCredentials)
                self.reconnects += 1
