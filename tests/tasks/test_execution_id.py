"""The sensors' ``execution_id`` when its template renders to nothing: no execution of others passes for it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE
from airflow_provider_polytomic.sandbox.server import Server
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor
from tools.local_airflow import AIRFLOW_2
from tools.migrated_database import make_sqlite

from .conftest import make_context

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

SENSORS = {PolytomicBulkSyncSensor: SALESFORCE_TO_WAREHOUSE, PolytomicModelSyncSensor: WAREHOUSE_TO_SALESFORCE}
MODES = {"poke": {"mode": "poke"}, "reschedule": {"mode": "reschedule"}, "deferred": {"deferrable": True}}
NOTHING = {"None as text": "{{ none }}", "empty": "{{ '' }}", "blank": "{{ ' ' }}"}
DAG_FILE = """
from datetime import datetime
try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor

SYNC = "Salesforce to warehouse"

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def rendered_ids():
    start = PolytomicBulkSyncOperator(task_id="start", sync_name=SYNC, wait_for_completion=False)

    @task
    def nothing():
        return None

    @task
    def nothings():
        return [None]

    @task
    def ids(started):
        return [started]

    def wait(name, value, **more):
        return PolytomicBulkSyncSensor(task_id=name, sync_name=SYNC, execution_id=value, timeout=60, **more)

    start >> wait("found", "{{ ti.xcom_pull(task_ids='start') }}", deferrable=True)
    start >> wait("misspelled", "{{ ti.xcom_pull(task_ids='strat') }}", deferrable=True)
    wait("no_value", nothing())
    mapped = {"sync_name": SYNC, "timeout": 60}
    PolytomicBulkSyncSensor.partial(task_id="mapped_no_value", **mapped).expand(execution_id=nothings())
    PolytomicBulkSyncSensor.partial(task_id="mapped", **mapped).expand(execution_id=ids(start.output))

rendered_ids()
"""


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    if AIRFLOW_2:  # reads the first poke of a rescheduled sensor from its database, not from the task instance
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_task_instance: None)


def make_sensor_context() -> dict[str, Any]:
    context = make_context(task_id="wait")
    context["ti"].get_first_reschedule_date = lambda _context: None
    return context


@pytest.mark.parametrize("template", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("sensor", SENSORS)
def test_sensor_fails_without_retries_when_execution_id_renders_to_nothing(
    polytomic_sandbox: Any, sensor: Any, mode: dict[str, Any], template: str
) -> None:
    """It sends no request, although an execution is running."""
    polytomic_sandbox.start_foreign(SENSORS[sensor])
    with DAG("a_dag", schedule=None):
        task = sensor(task_id="wait", sync_id=SENSORS[sensor], execution_id=template, **mode)
    task.render_template_fields({})

    with pytest.raises(AirflowFailException, match=r"^execution_id rendered to nothing"):
        task.execute(make_sensor_context())

    assert polytomic_sandbox.requests == []


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("sensor", SENSORS)
def test_mapped_sensor_fails_without_retries_when_its_execution_id_is_none(
    polytomic_sandbox: Any, sensor: Any, mode: dict[str, Any]
) -> None:
    """Airflow replaces the values of `.expand()` before it creates the sensor."""
    with DAG("a_dag", schedule=None):
        mapped = sensor.partial(task_id="wait", sync_id=SENSORS[sensor], **mode).expand(execution_id=["a", "b"])

    with pytest.raises(AirflowFailException, match=r"^execution_id rendered to nothing"):
        mapped.unmap({"execution_id": None}).execute(make_sensor_context())

    assert polytomic_sandbox.requests == []


@pytest.mark.parametrize("literal", [None, "", "None"])
@pytest.mark.parametrize("sensor", SENSORS)
def test_literal_execution_id_of_nothing_is_not_set(polytomic_sandbox: Any, sensor: Any, literal: Any) -> None:
    """The sensor waits for the next execution. So does a mapped sensor without the argument."""
    execution = polytomic_sandbox.start_foreign(SENSORS[sensor])
    polytomic_sandbox.finish(SENSORS[sensor], execution.id)
    before = "2026-01-01"
    with DAG("a_dag", schedule=None):
        task = sensor(task_id="wait", sync_id=SENSORS[sensor], execution_id=literal, completed_after=before)
        mapped = sensor.partial(task_id="mapped", completed_after=before).expand(sync_id=["a", "b"])

    for waiting in (task, mapped.unmap({"sync_id": SENSORS[sensor]})):
        waiting.render_template_fields({})
        assert waiting.execute(make_sensor_context()) == execution.id


@pytest.mark.system
def test_airflow_fails_each_sensor_whose_execution_id_is_missing(tmp_path: Path) -> None:
    """A misspelled task id, an empty XCom, and one in `.expand()` fail; the sensors with an id succeed."""
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "rendered_ids.py").write_text(DAG_FILE)
    sandbox = Sandbox(speed=20)
    make_sqlite(tmp_path / "airflow.db")
    with closing(Server(sandbox)):
        connection = {"conn_type": "polytomic", "host": sandbox.url, "password": sandbox.key}
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_"))},
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection),
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, "-m", "airflow", "dags", "test", "rendered_ids"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    with closing(sqlite3.connect(tmp_path / "airflow.db")) as database:
        rows = database.execute("SELECT task_id, state FROM task_instance").fetchall()

    states = dict(rows)
    output = done.stdout + done.stderr
    assert {states[name] for name in ("found", "mapped")} == {"success"}, output
    assert {states[name] for name in ("misspelled", "no_value", "mapped_no_value")} == {"failed"}, output
    assert output.count("execution_id rendered to nothing") >= 3
