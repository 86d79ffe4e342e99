"""DAGs with a deferred sync, run by a real scheduler, real workers and a real triggerer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.execution import Execution
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE
from tools.local_airflow import LocalAirflow

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Run:
    dag_id: str
    run_id: str
    state: str
    task_id: str  # the task that syncs
    executions: list[Execution]  # what it began at Polytomic


@pytest.fixture(
    scope="module", params=[("start_and_wait", "sync"), ("elt_pipeline", "load")], ids=lambda param: param[0]
)
def run(request: pytest.FixtureRequest, airflow: LocalAirflow, sandbox: Sandbox) -> Run:
    """One run of the DAG, from the trigger to the end."""
    dag_id, task_id = request.param
    before = len(sandbox.starts(SALESFORCE_TO_WAREHOUSE))
    run_id = airflow.trigger(dag_id)
    state = airflow.wait_run(dag_id, run_id)
    return Run(dag_id, run_id, state, task_id, sandbox.starts(SALESFORCE_TO_WAREHOUSE)[before:])


def test_the_run_succeeds(run: Run, airflow: LocalAirflow) -> None:
    """All tasks succeed, at the first try."""
    tasks = airflow.task_instances(run.dag_id, run.run_id)
    told = {task["task_id"]: (task["state"], task["try_number"]) for task in tasks}
    assert set(told.values()) == {("success", 1)}, airflow.task_log(run.dag_id, run.run_id, run.task_id)
    assert run.state == "success"


def test_the_sync_is_waited_for_in_the_triggerer(run: Run, airflow: LocalAirflow) -> None:
    """The task's log has three parts: a worker that starts, the triggerer that waits, a worker that finishes."""
    lines = [line for line in airflow.task_log_lines(run.dag_id, run.run_id, run.task_id) if line.time]
    first, last = lines[0], lines[-1]
    assert (first.in_triggerer, last.in_triggerer) == (False, False)
    assert any(line.in_triggerer for line in lines), "\n".join(map(str, lines))


def test_the_sync_is_started_once(run: Run, sandbox: Sandbox) -> None:
    """One run is one execution at Polytomic, and it has completed."""
    assert [sandbox.status(execution.id) for execution in run.executions] == ["completed"]


def test_the_task_returns_the_id_of_the_execution(run: Run, airflow: LocalAirflow) -> None:
    """The return value is the id of the execution that was started."""
    (execution,) = run.executions
    assert airflow.xcom(run.dag_id, run.run_id, run.task_id) == execution.id


def test_the_task_tells_how_the_execution_went(run: Run, airflow: LocalAirflow) -> None:
    """The XCom `execution` is that of the end: its status, and how many records there were."""
    (execution,) = run.executions
    told = airflow.xcom(run.dag_id, run.run_id, run.task_id, key="execution")
    assert (told["execution_id"], told["status"]) == (execution.id, "completed")
    assert told["record_count"] == 120 + 480 + 260


def test_sql_reads_what_was_synced(run: Run, warehouse: Path) -> None:
    """The tables of all schemas are in the warehouse after the run."""
    with closing(sqlite3.connect(warehouse)) as database:
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("account", "contact", "opportunity")
        ]
    assert counts == [120, 480, 260]


def test_the_key_is_written_nowhere(run: Run, airflow: LocalAirflow, sandbox: Sandbox) -> None:
    """Neither a log of a task, a trigger or a component, nor the database, has the API key."""
    assert [str(path) for path, text in airflow.all_logs().items() if sandbox.key in text] == []
    assert [path.name for path in airflow.home.glob("airflow.db*") if sandbox.key.encode() in path.read_bytes()] == []


def test_nothing_listens_on_the_network(run: Run, airflow: LocalAirflow) -> None:
    """All sockets of Airflow are on loopback, after it has run tasks and triggers."""
    listeners = airflow.listeners()
    assert airflow.port in {listener.port for listener in listeners}
    assert [listener for listener in listeners if not listener.is_loopback] == []
