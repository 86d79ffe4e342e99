"""Every order of events: a scenario asks a chooser wherever something else could happen, and is run again and again.

``POLYTOMIC_EXPLORE=2`` (and more) raises the budgets of the tests that explore, for a run by hand.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable

EXTRA = int(os.environ.get("POLYTOMIC_EXPLORE", "1")) - 1
IN_FLIGHT_AT_MOST = 50.0  # seconds; less than the minute for which the protocol asks


class Died(Exception):  # noqa: N818  it is no error, but what happens to processes
    """The task's process was killed."""


class Chooser:
    """Follows a trail of choices, then takes the first of each."""

    def __init__(self, trail: list[list[int]]) -> None:
        self._trail, self._at = trail, 0

    def __call__(self, *options: str) -> str:
        if len(options) == 1:
            return options[0]
        if self._at == len(self._trail):
            self._trail.append([0, len(options)])
        taken, number = self._trail[self._at]
        assert number == len(options), "a scenario must be the same each time"
        self._at += 1
        return options[taken]


def explore(scenario: Callable[[Chooser], str]) -> Counter[str]:
    """Run a scenario with every sequence of choices; count how each ended."""
    ends: Counter[str] = Counter()
    trail: list[list[int]] = []
    while True:
        random.seed(7)
        ends[scenario(Chooser(trail))] += 1
        while trail and trail[-1][0] == trail[-1][1] - 1:
            trail.pop()
        if not trail:
            return ends
        trail[-1][0] += 1
