"""Limits of older Airflow versions: which tests are skipped there, and why.

docs/versions.md has the same limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

AIRFLOW = ".".join(version("apache-airflow").split(".")[:2])


@dataclass(frozen=True)
class Limit:
    """Something that some Airflow versions do not support.

    :param versions: the versions of Airflow.
    :param why: the reason for skipping a test.
    :param names: the tests that need it, or their plays, or acts of their plays.
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
                "test_trigger_that_moves_to_another_triggerer_cancels_nothing",
            }
        ),
    ),
    Limit(
        ("3.0", "3.1", "3.2"),
        "a task is not notified when its worker receives a SIGTERM",
        frozenset(
            {
                "terminated_before_its_start",
                "terminated_before_the_response",
                "terminated_before_the_response_of_a_model_sync",
                "terminated_while_it_waits",
                "terminated_in_a_pod",
                "terminated_in_a_pod_of_a_model_sync",
            }
        ),
    ),
    Limit(
        ("2.11",),
        "a SIGTERM interrupts the wait for the response to a start",
        frozenset({"terminated_before_the_response", "terminated_before_the_response_of_a_model_sync"}),
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
                "test_deferred_task_keeps_its_execution_when_the_scheduler_restarts",  # has the same fixture
                "test_task_in_a_worker_is_ended_and_retried_when_the_scheduler_restarts",
            }
        ),
    ),
    Limit(
        ("3.0",),
        "a task whose process is killed, but not its worker, fails without a retry",
        frozenset(
            {
                "killed_at_its_first_request",
                "killed_before_its_start",
                "killed_before_the_response",
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


def find_limit(test: str, play: str) -> str | None:
    """Return why a test cannot run with this Airflow; None if it can."""
    for limit in LIMITS:
        if AIRFLOW in limit.versions and {test, *play.split("-")} & limit.names:
            return f"Airflow {AIRFLOW}: {limit.why}"
    return None
