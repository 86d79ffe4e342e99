"""Processes of a real Airflow that are killed while they create a sync, and the next try."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from airflow_provider_polytomic.sandbox.faults import Fault
from tools.stage import MAX_HOLD, Run, Stage

pytestmark = pytest.mark.deaths

IN_FLIGHT = 2.0  # seconds after a kill until the response is sent
SYNCS = "/api/bulk/syncs"


def _ids(stage: Stage, name: str) -> list[str]:
    """Return the ids of the syncs with a name."""
    return [line.split()[2] for line in stage.sandbox.describe() if line.endswith(f"  {name}")]


def _kill_at(run: Run, held: Fault, what: str) -> None:
    run.until(lambda: held.hits, what)
    run.kill()


def killed_before_the_creation(run: Run) -> None:
    """No sync has the name, and the request to create one is about to be sent."""
    held = run.stage.sandbox.faults.delay(MAX_HOLD, "GET .*/bulksync/target")
    run.trigger("create_and_run")
    _kill_at(run, held, "the last request before the creation")


def killed_before_the_response(run: Run) -> None:
    """The server has created the sync, and the task has no response yet."""
    held = run.stage.sandbox.faults.delay(MAX_HOLD, f"POST {SYNCS}", after=True)
    run.trigger("create_and_run")
    run.until(lambda: _ids(run.stage, run.sync_id), "a sync at the server")
    _kill_at(run, held, "the creation")
    run.release(held, IN_FLIGHT)
    assert _ids(run.stage, run.sync_id)[0] not in run.log(1)


def killed_again_in_the_retry(run: Run) -> None:
    """As before, and the retry is killed before its first request."""
    killed_before_the_response(run)
    held = run.stage.sandbox.faults.delay(MAX_HOLD, f"GET {SYNCS}")
    run.until(lambda: run.task.get("try_number") == 2, "a retry")
    _kill_at(run, held, "the retry's first request")


@pytest.mark.parametrize(
    "play",
    [killed_before_the_creation, killed_before_the_response, killed_again_in_the_retry],
    ids=lambda play: play.__name__,
)
def test_killed_creation_creates_one_sync(stage: Stage, play: Callable[[Run], None]) -> None:
    """Whenever the task's process is killed; the next task gets the id of the sync and runs it once."""
    run = Run(stage, f"Made {uuid.uuid4().hex[:8]}", task_id="create")

    play(run)
    run.until_state("success")

    assert run.try_number > 1
    assert stage.airflow.wait_run(run.dag_id, run.run_id) == "success"
    (sync_id,) = _ids(stage, run.sync_id)
    assert stage.airflow.xcom(run.dag_id, run.run_id, "create") == sync_id
    assert [stage.sandbox.status(execution.id) for execution in stage.sandbox.starts(sync_id)] == ["completed"]
    assert {request.method for request in stage.sandbox.requests} == {"GET", "POST"}
