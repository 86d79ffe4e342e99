"""Example DAGs with a deferred sync on a real scheduler, workers and triggerer."""

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
    task_id: str  # the task with the sync
    executions: list[Execution]  # started by the run


@pytest.fixture(
    scope="module", params=[("start_and_wait", "sync"), ("elt_pipeline", "load")], ids=lambda param: param[0]
)
def run(request: pytest.FixtureRequest, airflow: LocalAirflow, sandbox: Sandbox) -> Run:
    """One DAG run, from its trigger to its end."""
    dag_id, task_id = request.param
    before = len(sandbox.starts(SALESFORCE_TO_WAREHOUSE))
    run_id = airflow.trigger(dag_id)
    state = airflow.wait_run(dag_id, run_id)
    return Run(dag_id, run_id, state, task_id, sandbox.starts(SALESFORCE_TO_WAREHOUSE)[before:])


def test_example_run_succeeds_in_its_first_try(run: Run, airflow: LocalAirflow) -> None:
    """All tasks succeed."""
    tasks = airflow.task_instances(run.dag_id, run.run_id)
    states = {task["task_id"]: (task["state"], task["try_number"]) for task in tasks}
    assert set(states.values()) == {("success", 1)}, airflow.task_log(run.dag_id, run.run_id, run.task_id)
    assert run.state == "success"


def test_example_task_waits_in_the_triggerer(run: Run, airflow: LocalAirflow) -> None:
    """The log has three parts: a worker starts, the triggerer waits, a worker finishes."""
    lines = [line for line in airflow.task_log_lines(run.dag_id, run.run_id, run.task_id) if line.time]
    first, last = lines[0], lines[-1]
    assert (first.in_triggerer, last.in_triggerer) == (False, False)
    assert any(line.in_triggerer for line in lines), "\n".join(map(str, lines))


def test_example_run_starts_the_sync_once(run: Run, sandbox: Sandbox) -> None:
    """One DAG run is one execution, which has completed."""
    assert [sandbox.status(execution.id) for execution in run.executions] == ["completed"]


def test_example_task_returns_the_execution_id(run: Run, airflow: LocalAirflow) -> None:
    """The return value is the id of the started execution."""
    (execution,) = run.executions
    assert airflow.xcom(run.dag_id, run.run_id, run.task_id) == execution.id


def test_example_task_pushes_the_final_execution(run: Run, airflow: LocalAirflow) -> None:
    """The XCom `execution` has the terminal status and the number of records."""
    (execution,) = run.executions
    pushed = airflow.xcom(run.dag_id, run.run_id, run.task_id, key="execution")
    assert (pushed["execution_id"], pushed["status"]) == (execution.id, "completed")
    assert pushed["record_count"] == 120 + 480 + 260


def test_warehouse_has_the_synced_tables(run: Run, warehouse: Path) -> None:
    """The tables of all schemas are there after the run."""
    with closing(sqlite3.connect(warehouse)) as database:
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("account", "contact", "opportunity")
        ]
    assert counts == [120, 480, 260]


def test_api_key_is_in_no_log_and_no_database(run: Run, airflow: LocalAirflow, sandbox: Sandbox) -> None:
    """In no log of a task, trigger or component, and not in the database."""
    assert [str(path) for path, text in airflow.all_logs().items() if sandbox.key in text] == []
    assert [path.name for path in airflow.home.glob("airflow.db*") if sandbox.key.encode() in path.read_bytes()] == []


def test_airflow_listens_on_loopback_only(run: Run, airflow: LocalAirflow) -> None:
    """All sockets of Airflow, after tasks and triggers have run."""
    listeners = airflow.listeners()
    assert airflow.port in {listener.port for listener in listeners}
    assert [listener for listener in listeners if not listener.is_loopback] == []
