"""A storm over a real Airflow; the tests look at what it has left.

    make test-chaos                                         three minutes, with a new seed
    make test-chaos CHAOS_SEED=4711 CHAOS_SECONDS=1800      that one again, for half an hour

The seed and a table of what was done to whom are printed. The module `storm` says what the storm leaves out.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.stage import Stage

from .storm import FAULTS, KILLS, MODEL, RECORDED, Row, Storm, count, specs, table, told

pytestmark = pytest.mark.chaos

SECONDS = float(os.environ.get("CHAOS_SECONDS") or 180)
SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1_000_000))


@dataclass
class Aftermath:
    storm: Storm
    rows: list[Row]

    @property
    def all(self) -> Row:
        return self.rows[-1]

    def stories(self, *parts: str) -> str:
        """All that is known of some tasks."""
        return "\n\n".join(task.run.report() for task in self.storm.tasks if task.part in parts)


@pytest.fixture(scope="module")
def aftermath(request: pytest.FixtureRequest) -> Aftermath:
    """One storm, and what came of it."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\nCHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}{text}", flush=True)

    say("")
    with Stage(Path(__file__).parent / "dags", specs(SEED, count(SECONDS))) as stage:
        storm = Storm(stage, SEED, SECONDS)
        storm.rage()
        rows = table(storm)
        say(f"\n{told(storm, rows)}\n")
        yield Aftermath(storm, rows)


def test_all_tasks_end_green(aftermath: Aftermath) -> None:
    """Every task succeeds in the end."""
    left = [task.part for task in aftermath.storm.tasks if task.run.state != "success"]
    assert left == [], aftermath.stories(*left)


def test_every_state_agrees_with_its_execution(aftermath: Aftermath) -> None:
    """What a task returns is its last execution, which has completed."""
    liars = [
        task.part
        for task in aftermath.storm.tasks
        if not task.executions or (task.returned, task.statuses[-1]) != (task.executions[-1].id, "completed")
    ]
    assert liars == [], aftermath.stories(*liars)


def test_executions_started_are_those_that_were_wanted(aftermath: Aftermath) -> None:
    """A task starts one execution that succeeds, and one for each that failed or was cancelled with its worker."""
    odd = [task.part for task in aftermath.storm.tasks if task.statuses.count("completed") != 1]
    assert odd == [], aftermath.stories(*odd)
    assert [row.name for row in aftermath.rows if row.started != row.wanted] == []


def test_nothing_is_doubled(aftermath: Aftermath) -> None:
    """Nothing is started for a task whose execution has succeeded, and none before the last one has ended."""
    doubled = [task.part for task in aftermath.storm.tasks if task.doubled or task.overlaps]
    assert doubled == [], aftermath.stories(*doubled)


def test_nothing_is_orphaned(aftermath: Aftermath) -> None:
    """Nothing runs on the server when all tasks have ended, and nothing succeeded without its task's knowing."""
    orphaned = [task.part for task in aftermath.storm.tasks if task.orphaned]
    assert orphaned == [], aftermath.stories(*orphaned)


def test_nobody_elses_execution_is_touched(aftermath: Aftermath) -> None:
    """What somebody else started is neither cancelled nor taken for a task's own."""
    returned = {task.returned for task in aftermath.storm.tasks}
    assert aftermath.storm.foreign
    assert [e.id for e in aftermath.storm.foreign if e.canceling_since is not None or e.id in returned] == []


def test_it_was_a_storm(aftermath: Aftermath) -> None:
    """Many tasks of both kinds met enough of it: most kinds of faults struck, all that can be killed was killed."""
    struck = {(fault_of, sync in MODEL) for fault_of, sync, fault in aftermath.storm.faults if fault.hits}
    assert len({fault_of for fault_of, _ in struck}) >= 0.75 * len({*FAULTS, RECORDED})
    assert len({fault_of for fault_of, of_model in struck if of_model}) >= 0.5 * len({*FAULTS, RECORDED})
    assert {kind for kind, _ in aftermath.storm.kills} == set(KILLS)
    assert aftermath.all.tasks >= 30
    assert sum(task.run.kind == "model" for task in aftermath.storm.tasks) >= 9
    assert aftermath.all.tries > aftermath.all.tasks
