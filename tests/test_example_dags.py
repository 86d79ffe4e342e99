"""Each DAG in example_dags/ runs to its end against a sandbox, and does there what its comments say."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import POSTGRES_TO_WAREHOUSE, SALESFORCE_TO_WAREHOUSE
from airflow_provider_polytomic.sandbox.server import Server

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[1] / "example_dags"


@pytest.fixture(scope="module")
def airflow_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow with an empty database, and nothing of the one that the tests run in."""
    home = tmp_path_factory.mktemp("airflow")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_"))}
    env = {
        **inherited,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "127.0.0.1",
    }
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
    return env


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.sqlite"


@pytest.fixture
def sandbox(warehouse: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(speed=20, deliver_to=warehouse)
    server = Server(sandbox)
    yield sandbox
    server.close()


@dataclass(frozen=True)
class Runner:
    env: dict[str, str]

    def __call__(self, dag_id: str, conf: dict[str, Any] | None = None) -> dict[str, str]:
        """Run a DAG as `airflow dags test` does; returns the state of each task instance."""
        command = [sys.executable, "-m", "airflow", "dags", "test", dag_id, "--conf", json.dumps(conf or {})]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        with closing(sqlite3.connect(Path(self.env["AIRFLOW_HOME"]) / "airflow.db")) as database:
            last_run = "SELECT run_id FROM dag_run WHERE dag_id = ? ORDER BY id DESC LIMIT 1"
            query = f"SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ? AND run_id = ({last_run})"
            rows = database.execute(query, (dag_id, dag_id)).fetchall()
        return {task_id if map_index < 0 else f"{task_id}[{map_index}]": state for task_id, map_index, state in rows}


@pytest.fixture
def run(airflow_env: dict[str, str], sandbox: Sandbox, warehouse: Path) -> Runner:
    connection = {"conn_type": "polytomic", "host": sandbox.url, "password": sandbox.key}
    env = {"AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection), "ELT_WAREHOUSE": str(warehouse)}
    return Runner({**airflow_env, **env})


def start_bodies(sandbox: Sandbox, sync_id: str) -> list[dict[str, Any]]:
    """What each start of a sync asked for."""
    path = f"/api/bulk/syncs/{sync_id}/executions"
    return [request.body or {} for request in sandbox.requests if (request.method, request.path) == ("POST", path)]


def statuses(sandbox: Sandbox, sync_id: str) -> list[str]:
    return [sandbox.status(execution.id) for execution in sandbox.starts(sync_id)]


def test_start_and_wait(run: Runner, sandbox: Sandbox) -> None:
    """The sync is started once, and the task behind it runs after its end."""
    assert run("start_and_wait") == {"sync": "success", "report": "success"}
    assert statuses(sandbox, SALESFORCE_TO_WAREHOUSE) == ["completed"]


def test_start_then_sensor(run: Runner, sandbox: Sandbox) -> None:
    """One task starts the sync, another waits for that very execution."""
    states = run("start_then_sensor")
    assert states == {"start": "success", "meanwhile": "success", "wait": "success", "use_the_data": "success"}
    assert statuses(sandbox, SALESFORCE_TO_WAREHOUSE) == ["completed"]


def test_test_then_run(run: Runner, sandbox: Sandbox) -> None:
    """A test run, which ends well, comes before the real one."""
    assert run("test_then_run") == {"test": "success", "run": "success"}
    assert [bool(body.get("test")) for body in start_bodies(sandbox, POSTGRES_TO_WAREHOUSE)] == [True, False]
    assert statuses(sandbox, POSTGRES_TO_WAREHOUSE) == ["completed", "completed"]


def test_full_rebuild_param_off(run: Runner, sandbox: Sandbox) -> None:
    """As a rule the sync runs as it is set up in Polytomic: nothing is asked for."""
    assert run("full_rebuild_param") == {"sync": "success"}
    (body,) = start_bodies(sandbox, SALESFORCE_TO_WAREHOUSE)
    assert body == {}


def test_full_rebuild_param_on(run: Runner, sandbox: Sandbox) -> None:
    """With the parameter, two schemas are rebuilt, and no other is touched."""
    assert run("full_rebuild_param", {"full_rebuild": True}) == {"sync": "success"}
    (body,) = start_bodies(sandbox, SALESFORCE_TO_WAREHOUSE)
    assert body == {"resync_mode": "rebuild", "schemas": ["account", "contact"]}


def test_many_syncs(run: Runner, sandbox: Sandbox) -> None:
    """Each active sync gets a mapped task of its own."""
    states = run("many_syncs")
    assert states == {"find_active_syncs": "success", "sync[0]": "success", "sync[1]": "success"}
    assert statuses(sandbox, SALESFORCE_TO_WAREHOUSE) == ["completed"]
    assert statuses(sandbox, POSTGRES_TO_WAREHOUSE) == ["completed"]


def test_elt_pipeline(run: Runner, sandbox: Sandbox, warehouse: Path) -> None:
    """The SQL behind the sync reads all rows that the sync has loaded."""
    assert run("elt_pipeline") == {"load": "success", "transform": "success", "report": "success"}
    with closing(sqlite3.connect(warehouse)) as database:
        loaded = database.execute("SELECT count(*), round(sum(amount), 2) FROM opportunity").fetchone()
        transformed = database.execute("SELECT sum(opportunities), round(sum(amount), 2) FROM pipeline_by_size")
        assert transformed.fetchone() == loaded
    assert loaded[0] > 0


def test_no_example_is_forgotten() -> None:
    """Each file in example_dags/ has a test above that is named after it."""
    examples = {path.stem for path in EXAMPLES.glob("*.py")}
    assert examples
    assert [name for name in examples if not any(test.startswith(f"test_{name}") for test in globals())] == []
