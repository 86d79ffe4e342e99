"""A storm over a real Airflow, and checks of the result.

    make test-chaos                                         three minutes, with a random seed
    make test-chaos CHAOS_SEED=4711 CHAOS_SECONDS=1800      half an hour, with that seed

The seed and a table of the results are printed. A storm is a schedule of faults and kills; see the module `storm`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.stage import Stage

from .aftermath import Aftermath, run_storm
from .storm import FAULTS, MODEL, RECORDED, Storm, specs, task_count

pytestmark = pytest.mark.chaos

SECONDS = float(os.environ.get("CHAOS_SECONDS") or 180)
SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.fixture(scope="module")
def aftermath(request: pytest.FixtureRequest) -> Iterator[Aftermath]:
    """The result of one storm."""
    tasks = task_count(SECONDS)
    with Stage(Path(__file__).parent / "dags", specs(SEED, tasks)) as stage:
        yield run_storm(request, Storm(stage, SEED, SECONDS, tasks), "CHAOS")


def test_all_tasks_of_a_storm_succeed(aftermath: Aftermath) -> None:
    """At the latest in one of their retries."""
    left = [task.part for task in aftermath.storm.tasks if task.run.state != "success"]
    assert left == [], aftermath.reports(*left)


def test_tasks_of_a_storm_return_their_completed_execution(aftermath: Aftermath) -> None:
    """The return value is the last execution, which has completed."""
    wrong = [
        task.part
        for task in aftermath.storm.tasks
        if not task.executions or (task.run.returned, task.statuses[-1]) != (task.executions[-1].id, "completed")
    ]
    assert wrong == [], aftermath.reports(*wrong)


def test_storm_starts_only_expected_executions(aftermath: Aftermath) -> None:
    """One that completes for each task, and one for each that failed or was canceled with its worker."""
    unexpected = [task.part for task in aftermath.storm.tasks if task.statuses.count("completed") != 1]
    assert unexpected == [], aftermath.reports(*unexpected)
    assert [row.name for row in aftermath.rows if row.started != row.expected] == []


def test_no_execution_of_a_storm_is_duplicated(aftermath: Aftermath) -> None:
    """No execution starts after one has completed, or before the previous one has ended."""
    doubled = [task.part for task in aftermath.storm.tasks if task.doubled or task.overlaps]
    assert doubled == [], aftermath.reports(*doubled)


def test_no_execution_of_a_storm_is_orphaned(aftermath: Aftermath) -> None:
    """None runs after all tasks have ended, and each that completed is returned by its task."""
    orphaned = [task.part for task in aftermath.storm.tasks if task.orphaned]
    assert orphaned == [], aftermath.reports(*orphaned)


def test_storm_cancels_and_returns_no_foreign_execution(aftermath: Aftermath) -> None:
    """Executions that no task has started are neither canceled nor adopted."""
    returned = {task.run.returned for task in aftermath.storm.tasks}
    assert aftermath.storm.foreign
    assert [e.id for e in aftermath.storm.foreign if e.canceling_since is not None or e.id in returned] == []


def test_storm_has_enough_faults_and_kills(aftermath: Aftermath) -> None:
    """Most kinds of faults hit requests of both kinds of syncs, and everything was killed that was planned.

    In less than three minutes, half of the kinds of faults are enough, because the rare ones may meet no request.
    """
    kinds = len({*FAULTS, RECORDED})
    enough, of_model_syncs = (0.75, 0.5) if SECONDS >= 180 else (0.5, 0.25)
    hits = {(fault_of, sync in MODEL) for fault_of, sync, fault in aftermath.storm.faults if fault.hits}
    assert len({fault_of for fault_of, _ in hits}) >= enough * kinds
    assert len({fault_of for fault_of, of_model in hits if of_model}) >= of_model_syncs * kinds
    assert {kind for kind, _ in aftermath.storm.kills} == set(aftermath.storm.planned)
    assert aftermath.all.tasks >= 30
    assert sum(task.run.kind == "model" for task in aftermath.storm.tasks) >= 9
    assert aftermath.all.tries > aftermath.all.tasks
