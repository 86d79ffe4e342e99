"""Where the machinery of older Airflows ends: the one table of what is not asked of them.

docs/versions.md tells people the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

AIRFLOW = tuple(int(part) for part in version("apache-airflow").split(".")[:2])


@dataclass(frozen=True)
class Limit:
    """What Airflows before a version do not do, and the tests or plays that need it.

    :param since: the first version that does it.
    :param names: the names of tests, or of the plays that they are about.
    """

    since: tuple[int, int]
    why: str
    names: frozenset[str]


LIMITS = (
    Limit(
        (3, 3),
        "a trigger is not told that its task was ended",
        frozenset(
            {
                "marked_as_failed",
                "marked_as_failed_of_a_model_sync",
                "marked_as_success",
                "marked_beside_another",
                "marked_while_the_api_is_out",
                "marked_with_its_run",
                "left_alone_when_deferred",
                "deleted",
                "test_a_trigger_that_moves_cancels_nothing",
            }
        ),
    ),
)


def lacks(test: str, play: str | None) -> str | None:
    """Why this Airflow cannot do what a test asks; None when it can."""
    for limit in LIMITS:
        if limit.since > AIRFLOW and {test, play} & limit.names:
            return f"before Airflow {limit.since[0]}.{limit.since[1]} {limit.why}"
    return None
