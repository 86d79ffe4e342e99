"""The recipes: their tasks, called in order, and complete DAGs on Airflow."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic.api.endpoints import bulk_syncs, schedules
from airflow_provider_polytomic.api.errors import PolytomicResponseError, PolytomicTimeoutError
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import (
    POSTGRES,
    POSTGRES_TO_WAREHOUSE,
    SALESFORCE_TO_WAREHOUSE,
    default_seed,
)
from airflow_provider_polytomic.sandbox.server import Server
from tests.documents import ROOT, Block, read, source
from tools.migrated_database import make_sqlite

RECIPES = read(ROOT / "docs" / "recipes.md")
DAILY = {"frequency": "daily", "hour": "3"}
WEEKLY = {"frequency": "weekly", "day_of_week": "sunday"}


def block_of(recipe: str) -> Block:
    (block,) = [block for block in RECIPES.blocks if block.section == recipe]
    return block


@dataclass
class Tasks:
    """The tasks of a recipe as functions. Results pass through JSON, as they do in XCom."""

    defined: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            return json.loads(json.dumps(self.defined[name].function(*arguments)))

        return call


def tasks(recipe: str) -> Tasks:
    defined: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(source(block_of(recipe)), recipe, "exec"), defined)
    return Tasks(defined)


@pytest.fixture
def polytomic_sandbox_speed() -> float:
    return 1_000_000


@pytest.fixture
def hook(polytomic_sandbox: Sandbox) -> PolytomicHook:
    return PolytomicHook()


def test_every_recipe_has_a_test() -> None:
    """Each recipe has one code block, and a test with its name."""
    recipes = RECIPES.headings[1:]
    assert [block.section for block in RECIPES.blocks] == recipes
    named = {recipe: "test_" + recipe.lower().replace(" ", "_").replace("'", "") for recipe in recipes}
    assert [name for name in named.values() if not any(known.startswith(name) for known in globals())] == []


def test_refresh_schemas_before_a_sync(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """The task waits until the refresh of the sync's source has finished. It runs before the sync."""
    tasks("Refresh schemas before a sync").refresh_schemas("Postgres to warehouse")

    path = f"/api/connections/{POSTGRES}/schemas"
    asked = [(request.method, request.path) for request in polytomic_sandbox.requests]
    assert asked[2] == ("POST", f"{path}/refresh")
    assert set(asked[3:]) == {("GET", f"{path}/status")}
    dag = tasks("Refresh schemas before a sync").defined["after_a_migration"]()
    assert dag.get_task("refresh_schemas").downstream_task_ids == {"sync"}


class TestSlowRefresh:
    @pytest.fixture
    def polytomic_sandbox_speed(self) -> float:
        return 0.001

    def test_refresh_schemas_before_a_sync_times_out(self, hook: PolytomicHook) -> None:
        """The task fails when the refresh takes longer than the timeout."""
        recipe = block_of("Refresh schemas before a sync")
        short = Block(**{**vars(recipe), "code": recipe.code.replace("timeout=600", "timeout=0.1")})
        defined: dict[str, Any] = {}
        exec(source(short), defined)
        with pytest.raises(PolytomicTimeoutError, match="had not been refreshed"):
            defined["refresh_schemas"].function("Postgres to warehouse")


def test_pause_a_sync(hook: PolytomicHook) -> None:
    """A paused sync can still be started. The second task unpauses it."""
    recipe = tasks("Pause a sync")
    recipe.pause(SALESFORCE_TO_WAREHOUSE)
    assert hook.get_bulk_sync(SALESFORCE_TO_WAREHOUSE).active is False
    hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    recipe.unpause(SALESFORCE_TO_WAREHOUSE)
    assert hook.get_bulk_sync(SALESFORCE_TO_WAREHOUSE).active is True


@pytest.mark.parametrize("polytomic_sandbox_speed", [0.001])
def test_cancel_a_running_execution(hook: PolytomicHook, capsys: pytest.CaptureFixture[str]) -> None:
    """The running execution is canceled. Without one, nothing is."""
    cancel_running = tasks("Cancel a running execution").cancel_running
    cancel_running(SALESFORCE_TO_WAREHOUSE)
    started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)

    cancel_running(SALESFORCE_TO_WAREHOUSE)
    ended = hook.get_bulk_sync_execution(SALESFORCE_TO_WAREHOUSE, started.id)

    assert ended.status in ("canceling", "canceled")
    assert capsys.readouterr().out.count(started.id) == 1


def rule(schedule: Any) -> dict[str, Any]:
    """Return a schedule without its audit fields."""
    return {name: value for name, value in schedule.items() if not name.startswith(("created_", "updated_"))}


@pytest.mark.parametrize("retried", [False, True])
def test_stop_schedules_during_a_migration(hook: PolytomicHook, retried: bool) -> None:
    """No execution is due during the migration. Afterwards, the schedules are restored, even if each task ran twice."""
    before = hook.update_bulk_sync(SALESFORCE_TO_WAREHOUSE, default_schedule=DAILY, additional_schedules=[WEEKLY])
    running = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    recipe = tasks("Stop schedules during a migration")

    saved = [recipe.read_schedules(before.id) for _ in range(1 + retried)][-1]
    for _ in range(1 + retried):
        recipe.stop_schedules(before.id)
    assert hook.call(bulk_syncs.status(before.id)).next_execution_time is None
    for _ in range(1 + retried):
        recipe.restore_schedules(before.id, saved)

    after = hook.get_bulk_sync(before.id)
    assert [rule(after.default_schedule), *map(rule, after.additional_schedules or [])] == [
        rule(before.default_schedule),
        WEEKLY,
    ]
    assert hook.call(bulk_syncs.status(before.id)).next_execution_time is not None
    assert hook.wait_for_bulk_sync_execution(before.id, running.id, poke_interval=0.01).status == "completed"


@pytest.mark.parametrize("times", [1, 2])
def test_change_a_schedule(hook: PolytomicHook, times: int) -> None:
    """The default schedule runs at night, and the other schedules are unchanged."""
    hook.call(schedules.create(SALESFORCE_TO_WAREHOUSE, {"frequency": "hourly"}))
    for _ in range(times):
        tasks("Change a schedule").run_at_night(SALESFORCE_TO_WAREHOUSE)

    found = list(hook.iterate(schedules.list_(SALESFORCE_TO_WAREHOUSE)))
    assert [(it.frequency, it.hour, it.minute) for it in found] == [("daily", "3", "30"), ("hourly", None, None)]


def test_change_a_sync(hook: PolytomicHook) -> None:
    """Only the given fields change."""
    before = hook.get_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    tasks("Change a sync").rename(before.id, "CRM to warehouse")

    after = hook.get_bulk_sync(before.id)
    assert (after.name, after.concurrency_limit) == ("CRM to warehouse", 4)
    changed = {"name", "concurrency_limit", "updated_at"}
    assert after.model_dump(exclude=changed) == before.model_dump(exclude=changed)


def test_enable_or_disable_a_table(hook: PolytomicHook) -> None:
    """The table is enabled or disabled, and its fields are unchanged."""
    off = [{"id": "amount", "enabled": False}]
    hook.call(bulk_syncs.patch_schemas(SALESFORCE_TO_WAREHOUSE, [{"id": "account", "fields": off}]))
    recipe = tasks("Enable or disable a table")
    for enabled in (False, True):
        recipe.set_enabled(SALESFORCE_TO_WAREHOUSE, "account", enabled)
        schema = hook.call(bulk_syncs.schema(SALESFORCE_TO_WAREHOUSE, "account"))
        assert schema.enabled is enabled
        assert [it["id"] for it in schema.fields or [] if not it["enabled"]] == ["amount"]


def test_keep_the_logs_of_an_execution(hook: PolytomicHook, tmp_path: Path, polytomic_sandbox: Sandbox) -> None:
    """The task writes the log files to the folder and returns their paths. A retry writes the same files."""
    started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    ended = hook.wait_for_bulk_sync_execution(SALESFORCE_TO_WAREHOUSE, started.id, poke_interval=0.01)
    recipe = tasks("Keep the logs of an execution")
    execution = {"sync_id": SALESFORCE_TO_WAREHOUSE, "execution_id": ended.id}
    for _ in range(2):
        (kept,) = recipe.keep_logs(execution, f"file://{tmp_path}")

    assert kept == f"file://{tmp_path}/{ended.id}/1-log.json"
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert "Execution completed" in file.read_text()
    (secret, *_) = [
        request.query["signature"][0] for request in polytomic_sandbox.requests if "signature" in request.query
    ]
    assert secret not in kept


def test_keep_the_logs_of_an_execution_stops_at_max_bytes(
    hook: PolytomicHook, tmp_path: Path, polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """More than `max_bytes` fails the task, and neither error nor log contains the signed URL."""
    started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    recipe = block_of("Keep the logs of an execution")
    defined: dict[str, Any] = {}
    exec(source(recipe).replace("500_000_000", "50"), defined)
    with caplog.at_level("DEBUG"), pytest.raises(PolytomicResponseError, match="50 bytes of max_bytes") as error:
        defined["keep_logs"].function(
            {"sync_id": SALESFORCE_TO_WAREHOUSE, "execution_id": started.id}, f"file://{tmp_path}"
        )
    assert "signature" not in caplog.text + str(error.value) + repr(error.value)


def test_delete_a_sync(hook: PolytomicHook, capsys: pytest.CaptureFixture[str]) -> None:
    """The sync is deleted. A retry prints this and succeeds."""
    recipe = tasks("Delete a sync")
    for _ in range(2):
        recipe.delete(SALESFORCE_TO_WAREHOUSE)

    assert SALESFORCE_TO_WAREHOUSE not in [sync.id for sync in hook.list_bulk_syncs()]
    assert "no longer exists" in capsys.readouterr().out


# complete DAGs


@dataclass
class Run:
    succeeded: bool
    log: str
    states: dict[str, str] = field(default_factory=dict)


def run_dag(dag_id: str, code: str, sandbox: Sandbox, home: Path, **conf: str) -> Run:
    """Run the DAG of a recipe on Airflow, as `airflow dags test` does."""
    dags = home / "dags"
    dags.mkdir()
    (dags / f"{dag_id}.py").write_text(code)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_"))}
    with closing(Server(sandbox)):
        connection = {"conn_type": "polytomic", "host": sandbox.url, "password": sandbox.key}
        env = {
            **inherited,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection),
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "127.0.0.1",
        }
        airflow = [sys.executable, "-m", "airflow"]
        make_sqlite(home / "airflow.db")
        command = [*airflow, "dags", "test", dag_id, "--conf", json.dumps(conf)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    log = done.stdout + done.stderr
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        states = dict(database.execute("SELECT task_id, state FROM task_instance").fetchall())
        ((run_state,),) = database.execute("SELECT state FROM dag_run").fetchall()
    return Run(run_state == "success", log, states)


@pytest.mark.system
def test_alert_of_the_nightly_example_names_the_execution_and_its_failed_tables(tmp_path: Path) -> None:
    """The callback of a failed task reads the error and the XCom of the execution."""
    seed = default_seed()
    (orders,) = [sync for sync in seed.bulk_syncs if sync.id == POSTGRES_TO_WAREHOUSE]
    orders.schemas[0].outcome = ["failed"]
    sandbox = Sandbox(seed, speed=100)
    code = (ROOT / "example_dags" / "nightly_syncs.py").read_text().replace('"retries": 2', '"retries": 0')

    run = run_dag("nightly_syncs", code, sandbox, tmp_path)

    assert not run.succeeded, run.log
    (execution,) = sandbox.starts(POSTGRES_TO_WAREHOUSE)
    assert f"ALERT: nightly_syncs.load_orders: Execution {execution.id} of bulk sync" in run.log
    status, failed = sandbox.status(execution.id), [orders.schemas[0].id]
    assert f"ALERT: execution {execution.id} has status {status}. Not completed: {failed}" in run.log


@pytest.mark.system
def test_failed_migration_restores_the_schedules(tmp_path: Path) -> None:
    """The DAG run fails, and the sync has its schedules again."""
    sandbox = Sandbox(speed=100)
    code = source(block_of("Stop schedules during a migration"))
    code = code.replace('print("your migration")', 'raise RuntimeError("no such column")')
    rule = {"frequency": "daily", "hour": "3"}
    body = json.dumps({"schedule": rule}).encode()
    headers = {"authorization": f"Bearer {sandbox.key}"}
    path = f"/api/bulk/syncs/{SALESFORCE_TO_WAREHOUSE}/schedules"
    default = json.loads(sandbox.handle("GET", path, headers).body)["data"][0]  # type: ignore[union-attr]
    sandbox.handle("PUT", f"{path}/{default['id']}", headers, body)

    run = run_dag("migration", code, sandbox, tmp_path)

    assert not run.succeeded, run.log
    assert run.states == {
        "read_schedules": "success",
        "stop_schedules": "success",
        "migrate": "failed",
        "restore_schedules": "success",
    }
    written = [request.body for request in sandbox.requests if request.method == "PUT"][1:]
    assert [body["default_schedule"]["frequency"] for body in written] == ["manual", "daily"]


@pytest.mark.system
def test_logs_of_a_failed_sync_are_kept_without_the_signed_url(tmp_path: Path) -> None:
    """The DAG run fails, and the log files are in the folder.

    The signed URL is neither in the task logs, which include the debug log of the HTTP library, nor in the database.
    """
    sync = {"name": "Salesforce to warehouse", "outcome": "failed", "duration": 1, "schemas": ["a"]}
    sandbox = Sandbox({"bulk_syncs": [sync]}, speed=10)
    code = source(block_of("Keep the logs of an execution")).replace(
        "deferrable=True", "deferrable=True, poke_interval=5"
    )

    run = run_dag("sync_with_logs", code, sandbox, tmp_path, folder=f"file://{tmp_path}/kept")

    assert not run.succeeded, run.log
    assert run.states == {"sync": "failed", "keep_logs": "success"}, run.log
    (file,) = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert "Execution failed" in file.read_text()
    (signature,) = [request.query["signature"][0] for request in sandbox.requests if "signature" in request.query]
    assert "urllib3" in run.log or "connectionpool.py" in run.log  # in Airflow 2
    stored = (tmp_path / "airflow.db").read_bytes()
    logged = b"".join(path.read_bytes() for path in (tmp_path / "logs").rglob("*") if path.is_file())
    assert signature.encode() not in run.log.encode() + stored + logged
