"""Exhaustive exploration: runs a scenario with every sequence of choices.

A scenario is a function that asks a *chooser* whenever one of several events may happen next. The explorer runs it
repeatedly, each time with another sequence of choices, until it has run all of them.

``POLYTOMIC_EXPLORE=2`` (or more) raises the budgets of the explored tests, for manual runs.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable

EXTRA = int(os.environ.get("POLYTOMIC_EXPLORE", "1")) - 1
MAX_DELAY = 50.0  # seconds until a delayed request arrives; less than OUTCOME_TIMEOUT


class Died(Exception):  # noqa: N818  an event of the scenario, not an error
    """The task's process was killed."""


class Chooser:
    """Repeats the choices of a trail, then takes the first option of each further choice.

    :param trail: for each choice, the option taken and the number of options. Further choices are appended.
    """

    def __init__(self, trail: list[list[int]]) -> None:
        self._trail, self._index = trail, 0

    def __call__(self, *options: str) -> str:
        if len(options) == 1:
            return options[0]
        if self._index == len(self._trail):
            self._trail.append([0, len(options)])
        taken, number = self._trail[self._index]
        assert number == len(options), "a scenario must be deterministic"
        self._index += 1
        return options[taken]


def explore(scenario: Callable[[Chooser], str]) -> Counter[str]:
    """Run a scenario with every sequence of choices.

    :returns: how often each result of the scenario occurred.
    """
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
