"""Every DAG in example_dags/ runs against a sandbox with the described results."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import (
    POSTGRES_TO_WAREHOUSE,
    SALESFORCE_TO_WAREHOUSE,
    WAREHOUSE_TO_SALESFORCE,
    default_seed,
)
from airflow_provider_polytomic.sandbox.server import Server
from tools.migrated_database import make_sqlite

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[1] / "example_dags"
MODEL_EXECUTIONS = f"/api/syncs/{WAREHOUSE_TO_SALESFORCE}/executions"
AIRFLOW_3 = importlib.util.find_spec("airflow.sdk") is not None
NEW = {"run_after_sync"}  # examples that need Airflow 3
needs_airflow_3 = pytest.mark.skipif(not AIRFLOW_3, reason="Airflow 2 has no asset watchers")
# The DAG and the configuration of each test case.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "start_and_wait": ("start_and_wait", {}),
    "start_then_sensor": ("start_then_sensor", {}),
    "test_then_run": ("test_then_run", {}),
    "full_rebuild_param_off": ("full_rebuild_param", {}),
    "full_rebuild_param_on": ("full_rebuild_param", {"full_rebuild": True}),
    "fresh_data": ("fresh_data", {}),
    "many_syncs": ("many_syncs", {}),
    "many_syncs_by_name": ("many_syncs", {"name": "Postgres*"}),
    "some_schemas": ("some_schemas", {}),
    "repair_failed": ("repair_failed", {}),
    "after_tables": ("after_tables", {}),
    "create_then_run": ("create_then_run", {}),
    "reverse_etl": ("reverse_etl", {}),
    "elt_pipeline": ("elt_pipeline", {}),
    "nightly_syncs": ("nightly_syncs", {}),
    **({"run_after_sync": ("run_after_sync", {})} if AIRFLOW_3 else {}),
}


@dataclass(frozen=True)
class Run:
    """A finished DAG run: the states of its task instances, its sandbox, and its warehouse."""

    tasks: dict[str, str]
    sandbox: Sandbox
    warehouse: Path

    def start_bodies(self, sync_id: str) -> list[dict[str, Any]]:
        """Return the body of each start of a sync."""
        start = ("POST", f"/api/bulk/syncs/{sync_id}/executions")
        return [request.body or {} for request in self.sandbox.requests if (request.method, request.path) == start]

    def statuses(self, sync_id: str) -> list[str]:
        """Return the statuses of a sync's executions."""
        return [self.sandbox.status(execution.id) for execution in self.sandbox.starts(sync_id)]


class Airflow:
    """Runs DAGs one after the other with `airflow dags test`, in one process and with one database."""

    def __init__(self, home: Path) -> None:
        self._home = home
        make_sqlite(home / "airflow.db")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_"))}
        env = {
            **inherited,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(EXAMPLES.parent),
        }
        with (home / "output").open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.dags_test_process"],
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )

    def run(self, dag_id: str, conf: dict[str, Any]) -> Run:
        """Run a DAG with its own sandbox."""
        warehouse = self._home / f"{dag_id}.{len(conf)}.sqlite"
        seed = default_seed()
        schemas = {schema.output_name: schema for sync in seed.bulk_syncs for schema in sync.schemas}
        schemas["customers"].rows = 0
        if dag_id == "repair_failed":
            schemas["contact"].outcome = ["failed", "completed"]
        sandbox = Sandbox(seed, speed=20, deliver_to=warehouse)
        with closing(Server(sandbox)):
            connection = {"conn_type": "polytomic", "host": sandbox.url, "password": sandbox.key}
            env = {"AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection), "ELT_WAREHOUSE": str(warehouse)}
            exit_code = self._send({"arguments": ["dags", "test", dag_id, "--conf", json.dumps(conf)], "env": env})
        assert exit_code == 0, (self._home / "output").read_text()
        with closing(sqlite3.connect(self._home / "airflow.db")) as database:
            newest = "SELECT run_id FROM dag_run WHERE dag_id = ?1 ORDER BY id DESC LIMIT 1"
            rows = database.execute(
                f"SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ?1 AND run_id = ({newest})",
                (dag_id,),
            ).fetchall()
        tasks = {task if index < 0 else f"{task}[{index}]": state for task, index, state in rows}
        return Run(tasks, sandbox, warehouse)

    def _send(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        reply = self._process.stdout.readline()
        assert reply, (self._home / "output").read_text()
        return json.loads(reply)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Run]]]:
    """Run all cases in four processes, because tasks mostly wait."""
    airflows = [Airflow(tmp_path_factory.mktemp("airflow")) for _ in range(4)]
    pools = [ThreadPoolExecutor(max_workers=1) for _ in airflows]
    futures = {}
    for (name, case), number in zip(CASES.items(), itertools.cycle(range(len(airflows)))):
        futures[name] = pools[number].submit(airflows[number].run, *case)
    yield futures
    for pool, airflow in zip(pools, airflows, strict=True):
        pool.shutdown(wait=False, cancel_futures=True)
        airflow.close()


@pytest.fixture
def run(runs: dict[str, Future[Run]], request: pytest.FixtureRequest) -> Run:
    """Return the run of the case with the name of the test."""
    return runs[request.node.name.removeprefix("test_")].result(timeout=600)


def test_start_and_wait(run: Run) -> None:
    """The sync starts once, and the downstream task runs after its end."""
    assert run.tasks == {"sync": "success", "report": "success"}
    assert run.statuses(SALESFORCE_TO_WAREHOUSE) == ["completed"]


def test_start_then_sensor(run: Run) -> None:
    """One task starts the sync, and another waits for this execution."""
    assert run.tasks == {"start": "success", "meanwhile": "success", "wait": "success", "use_the_data": "success"}
    assert run.statuses(SALESFORCE_TO_WAREHOUSE) == ["completed"]


def test_test_then_run(run: Run) -> None:
    """A successful test run precedes the real one."""
    assert run.tasks == {"test": "success", "run": "success"}
    assert [bool(body.get("test")) for body in run.start_bodies(POSTGRES_TO_WAREHOUSE)] == [True, False]
    assert run.statuses(POSTGRES_TO_WAREHOUSE) == ["completed", "completed"]


def test_full_rebuild_param_off(run: Run) -> None:
    """Without the parameter, the start has no arguments."""
    assert run.tasks == {"sync": "success"}
    assert run.start_bodies(SALESFORCE_TO_WAREHOUSE) == [{}]


def test_full_rebuild_param_on(run: Run) -> None:
    """With the parameter, the start rebuilds two schemas only."""
    assert run.tasks == {"sync": "success"}
    (body,) = run.start_bodies(SALESFORCE_TO_WAREHOUSE)
    assert body == {"resync_mode": "rebuild", "schemas": ["account", "contact"]}


def test_fresh_data(run: Run) -> None:
    """The second task finds the execution of the first one, and starts nothing."""
    assert run.tasks == {"customers": "success", "same_customers": "success", "orders": "success"}
    assert run.statuses(SALESFORCE_TO_WAREHOUSE) == ["completed"]
    assert run.statuses(POSTGRES_TO_WAREHOUSE) == ["completed"]


def test_many_syncs(run: Run) -> None:
    """Each active sync has a mapped task."""
    assert run.tasks == {"find_syncs": "success", "sync[0]": "success", "sync[1]": "success"}
    assert run.statuses(SALESFORCE_TO_WAREHOUSE) == ["completed"]
    assert run.statuses(POSTGRES_TO_WAREHOUSE) == ["completed"]


def test_many_syncs_by_name(run: Run) -> None:
    """With a pattern, only syncs with a matching name run."""
    assert run.tasks == {"find_syncs": "success", "sync[0]": "success"}
    assert run.statuses(SALESFORCE_TO_WAREHOUSE) == []
    assert run.statuses(POSTGRES_TO_WAREHOUSE) == ["completed"]


def test_some_schemas(run: Run) -> None:
    """Only the selected tables are synced, and only those that received rows are transformed."""
    assert run.start_bodies(POSTGRES_TO_WAREHOUSE) == [{"schemas": ["public.customers", "public.orders"]}]
    assert run.tasks == {
        "choose_schemas": "success",
        "sync": "success",
        "with_rows": "success",
        "transform_orders": "success",
        "transform_customers": "skipped",
    }


def test_repair_failed(run: Run) -> None:
    """The first try ends with a failed schema, and the second one syncs only this schema."""
    assert run.tasks == {"sync": "success"}
    assert run.start_bodies(SALESFORCE_TO_WAREHOUSE) == [{}, {"schemas": ["contact"]}]
    assert run.statuses(SALESFORCE_TO_WAREHOUSE) == ["errors", "completed"]


def test_after_tables(run: Run) -> None:
    """A manual run has no tables to report and succeeds."""
    assert run.tasks == {"report": "success"}


def test_after_tables_ignores_events_of_other_tasks() -> None:
    """Such as the event of an outlet, whose `extra` is empty. Those of an alias are those of its assets."""
    path = EXAMPLES / "after_tables.py"
    spec = importlib.util.spec_from_file_location("after_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    report = module.after_tables().get_task("report").python_callable
    own = {"output_name": "account", "record_count": 120, "execution_id": "e"}
    events = {
        "snowflake://…/account": [SimpleNamespace(extra={}), SimpleNamespace(extra=own)],
        module.AssetAlias(name="polytomic:load.sync"): [SimpleNamespace(extra={**own, "record_count": 0})],
    }

    assert report(triggering_asset_events=events) == {"account": 120}


def test_create_then_run(run: Run) -> None:
    """The sync is created once and run once, and nothing else changes."""
    assert run.tasks == {"create": "success", "run": "success"}
    create, start = [request for request in run.sandbox.requests if request.method == "POST"]
    assert (create.path, create.body["name"]) == ("/api/bulk/syncs", "Accounts and contacts to crm")
    assert create.body["destination_configuration"] == {"schema": "crm"}
    assert run.statuses(start.path.split("/")[-2]) == ["completed"]
    assert {request.method for request in run.sandbox.requests} == {"GET", "POST"}


def test_reverse_etl(run: Run) -> None:
    """The model sync runs for all records and for two, and each task waits for its own execution."""
    assert run.tasks == {"write_back": "success", "written": "success", "again": "success", "report": "success"}
    assert run.statuses(WAREHOUSE_TO_SALESFORCE) == ["completed", "completed"]
    bodies = [r.body or {} for r in run.sandbox.requests if (r.method, r.path) == ("POST", MODEL_EXECUTIONS)]
    assert bodies == [{}, {"identities": ["ada@example.com", "grace@example.com"]}]
    assert any(request.path.endswith("/consolelog") for request in run.sandbox.requests)


def test_elt_pipeline(run: Run) -> None:
    """The SQL reads all rows that the sync loaded."""
    assert run.tasks == {"load": "success", "transform": "success", "report": "success"}
    with closing(sqlite3.connect(run.warehouse)) as database:
        loaded = database.execute("SELECT count(*), round(sum(amount), 2) FROM opportunity").fetchone()
        transformed = database.execute("SELECT sum(opportunities), round(sum(amount), 2) FROM pipeline_by_size")
        assert transformed.fetchone() == loaded
    assert loaded[0] > 0


def test_nightly_syncs(run: Run) -> None:
    """Both syncs run once, and the last task adds their records."""
    assert run.tasks == {"load_orders": "success", "load_accounts": "success", "report": "success"}
    assert [run.statuses(sync_id) for sync_id in (POSTGRES_TO_WAREHOUSE, SALESFORCE_TO_WAREHOUSE)] == [
        ["completed"],
        ["completed"],
    ]


@needs_airflow_3
def test_run_after_sync(run: Run) -> None:
    """A manual run has no events. Another test runs the DAG with a watcher."""
    assert run.tasks == {"use_the_data": "success"}


def test_every_example_has_a_case_and_a_test() -> None:
    """Every file in example_dags/ that this Airflow version can run has a case, and every case has a test."""
    left_out = set() if AIRFLOW_3 else NEW
    assert {dag_id for dag_id, _ in CASES.values()} == {path.stem for path in EXAMPLES.glob("*.py")} - left_out
    assert [name for name in CASES if f"test_{name}" not in globals()] == []
