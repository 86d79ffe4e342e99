"""Where the machinery of older Airflows ends: the one table of what is not asked of them.

docs/versions.md tells people the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

AIRFLOW = ".".join(version("apache-airflow").split(".")[:2])


@dataclass(frozen=True)
class Limit:
    """What some Airflows do not do.

    :param versions: of these.
    :param names: the tests that need it, or the plays that these are about, or what happens in such a play.
    """

    versions: tuple[str, ...]
    why: str
    names: frozenset[str]


LIMITS = (
    Limit(
        ("2.11", "3.0", "3.1", "3.2"),
        "a trigger is not notified when a user ends its task",
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
                "ended_by_itself",
                "test_a_trigger_that_moves_cancels_nothing",
            }
        ),
    ),
    Limit(
        ("3.0", "3.1", "3.2"),
        "a task is not notified when its worker receives a SIGTERM",
        frozenset(
            {
                "terminated_before_its_start",
                "terminated_before_the_answer",
                "terminated_before_the_answer_of_a_model_sync",
                "terminated_while_it_waits",
            }
        ),
    ),
    Limit(
        ("2.11",),
        "a SIGTERM interrupts the wait for the response to a start",
        frozenset({"terminated_before_the_answer", "terminated_before_the_answer_of_a_model_sync"}),
    ),
    Limit(
        ("2.11",),
        "a task that is cleared while a worker runs it can continue for minutes",
        frozenset({"cleared_while_it_runs", "cleared_while_it_runs_of_a_model_sync"}),
    ),
    Limit(
        ("2.11",),
        "a task that a worker runs when the scheduler is killed continues next to its retry",
        frozenset(
            {
                "test_a_restarted_scheduler_changes_nothing_for_a_deferred_task",  # goes through the same restart
                "test_a_restarted_scheduler_ends_what_ran_in_a_worker",
            }
        ),
    ),
    Limit(
        ("3.0",),
        "a task whose process is killed, but not its worker, fails without a retry",
        frozenset(
            {
                "killed_at_its_first_look",
                "killed_before_its_start",
                "killed_before_the_answer",
                "killed_while_it_waits",
                "killed_at_the_end",
                "killed_after_a_failure",
            }
        ),
    ),
    Limit(
        ("3.0",),
        "a task that is cleared while a worker runs it stays in the state restarting",
        frozenset({"cleared_while_it_runs", "cleared_while_it_runs_of_a_model_sync"}),
    ),
)
OLDER = {version for limit in LIMITS for version in limit.versions}


def lacks(test: str, play: str) -> str | None:
    """Why this Airflow cannot do what a test asks; None when it can."""
    for limit in LIMITS:
        if AIRFLOW in limit.versions and {test, *play.split("-")} & limit.names:
            return f"Airflow {AIRFLOW}: {limit.why}"
    return None
