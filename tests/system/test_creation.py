"""Processes of a real Airflow that die while they create a sync, and what the next try makes of it."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from airflow_provider_polytomic.sandbox.faults import Fault
from tools.stage import MAX_HOLD, Run, Stage

pytestmark = pytest.mark.deaths

IN_FLIGHT = 2.0  # seconds for which an answer is on its way after a kill
SYNCS = "/api/bulk/syncs"


def _ids(stage: Stage, name: str) -> list[str]:
    """The syncs that have a name."""
    return [line.split()[2] for line in stage.sandbox.describe() if line.endswith(f"  {name}")]


def _kill_at(run: Run, held: Fault, what: str) -> None:
    run.until(lambda: held.hits, what)
    run.kill()


def killed_before_it_asks(run: Run) -> None:
    """The name is free, and the request to create is about to leave."""
    held = run.stage.sandbox.faults.delay(MAX_HOLD, "GET .*/bulksync/target")
    run.trigger("create_and_run")
    _kill_at(run, held, "the last question before the creation")


def killed_before_the_answer(run: Run) -> None:
    """The server has created the sync, and the task does not know yet."""
    held = run.stage.sandbox.faults.delay(MAX_HOLD, f"POST {SYNCS}", after=True)
    run.trigger("create_and_run")
    run.until(lambda: _ids(run.stage, run.sync_id), "a sync at the server")
    _kill_at(run, held, "the creation")
    run.release(held, IN_FLIGHT)
    assert _ids(run.stage, run.sync_id)[0] not in run.log(1)


def killed_again_when_it_looks(run: Run) -> None:
    """The same, and the next try dies before it can ask."""
    killed_before_the_answer(run)
    held = run.stage.sandbox.faults.delay(MAX_HOLD, f"GET {SYNCS}")
    run.until(lambda: run.task["try_number"] == 2, "a retry")
    _kill_at(run, held, "the retry's first look")


@pytest.mark.parametrize(
    "play",
    [killed_before_it_asks, killed_before_the_answer, killed_again_when_it_looks],
    ids=lambda play: play.__name__,
)
def test_a_killed_creation_is_found_again(stage: Stage, play: Callable[[Run], None]) -> None:
    """However often the task's process is killed, one sync is created; the next task gets its id, and runs it once."""
    run = Run(stage, f"Made {uuid.uuid4().hex[:8]}", task_id="create")

    play(run)
    run.until_state("success")

    assert run.task["try_number"] > 1
    assert stage.airflow.wait_run(run.dag_id, run.run_id) == "success"
    (sync_id,) = _ids(stage, run.sync_id)
    assert stage.airflow.xcom(run.dag_id, run.run_id, "create") == sync_id
    assert [stage.sandbox.status(execution.id) for execution in stage.sandbox.starts(sync_id)] == ["completed"]
    assert {request.method for request in stage.sandbox.requests} == {"GET", "POST"}
