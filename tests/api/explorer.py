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
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Self

EXTRA = int(os.environ.get("POLYTOMIC_EXPLORE", "1")) - 1
MAX_DELAY = 50.0  # seconds until a delayed request arrives; less than OUTCOME_TIMEOUT


class Died(Exception):  # noqa: N818  an event of the scenario, not an error
    """The task's process was killed."""


class Chooser:
    """Repeats the choices of a trail, then takes the first option of each further choice.

    :param trail: for each choice, the option taken and the number of options. Further choices are appended.
    :param index: the number of choices that were taken before.
    """

    def __init__(self, trail: list[list[int]], index: int = 0) -> None:
        self._trail, self.index = trail, index

    def __call__(self, *options: str) -> str:
        if len(options) == 1:
            return options[0]
        if self.index == len(self._trail):
            self._trail.append([0, len(options)])
        taken, number = self._trail[self.index]
        assert number == len(options), "a scenario must be deterministic"
        self.index += 1
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


class Steps(Protocol):
    """A scenario that advances in steps, and can be copied between them."""

    def copy(self) -> Self: ...

    def advance(self, choose: Chooser) -> str | None:
        """Run one step, and return the result of the scenario, or None before its end."""


def explore_steps(scenario: Steps) -> Counter[str]:
    """Run a scenario with every sequence of choices, as :func:`explore` does.

    The steps with which several sequences begin run once: a sequence continues with a copy of the scenario, made before
    the step that takes another choice.

    :returns: how often each result of the scenario occurred.
    """
    ends: Counter[str] = Counter()
    trail: list[list[int]] = []
    random.seed(7)
    copies = [(0, scenario, random.getstate())]  # with the number of choices before it
    while True:
        while copies[-1][0] >= max(1, len(trail)):
            copies.pop()
        taken, copied, dice = copies[-1]
        random.setstate(dice)
        running, choose = copied.copy(), Chooser(trail, taken)
        while (end := running.advance(choose)) is None:
            copies.append((choose.index, running.copy(), random.getstate()))
        ends[end] += 1
        while trail and trail[-1][0] == trail[-1][1] - 1:
            trail.pop()
        if not trail:
            return ends
        trail[-1][0] += 1
