"""Mapped tasks: more than a hundred syncs, their labels in the UI, and a pool that includes deferred tasks."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import (
    POSTGRES_TO_WAREHOUSE,
    SALESFORCE_TO_WAREHOUSE,
    BulkSyncSpec,
    SchemaSpec,
    Seed,
)
from airflow_provider_polytomic.sandbox.server import Server
from tools.local_airflow import LocalAirflow
from tools.migrated_database import make_sqlite

pytestmark = pytest.mark.system

SYNCS = 110
ODD_NAMES = ["Ünïcode → “quoted”", "per cent % {{ braces }} [1]", "twice", "twice"]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sandbox, list[tuple[str, int, str, str]]]:
    """A run of one mapped task for each of 110 syncs in one process: the sandbox and the task instances."""
    home = tmp_path_factory.mktemp("many")
    names = [*ODD_NAMES, *(f"Sync {number}" for number in range(SYNCS - len(ODD_NAMES)))]
    paused = BulkSyncSpec(name="Paused", schemas=[SchemaSpec("t")], active=False)
    specs = [
        BulkSyncSpec(name=name, id=str(uuid.UUID(int=number)), schemas=[SchemaSpec("t")], duration=0.01)
        for number, name in enumerate(names)
    ]
    sandbox = Sandbox(Seed(bulk_syncs=[*specs, paused]))
    with closing(Server(sandbox)):
        connection = {"conn_type": "polytomic", "host": sandbox.url, "password": sandbox.key}
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_"))},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "mapped_dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection),
            "NO_PROXY": "127.0.0.1",
        }
        make_sqlite(home / "airflow.db")
        command = [sys.executable, "-m", "airflow", "dags", "test", "every_sync"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        rows = database.execute("SELECT task_id, map_index, state, rendered_map_index FROM task_instance").fetchall()
    return sandbox, rows


def test_mapped_tasks_start_each_active_sync_once(many: tuple[Sandbox, list[tuple[str, int, str, str]]]) -> None:
    """Whatever its name; no inactive sync is started."""
    sandbox, rows = many
    mapped = [row for row in rows if row[0] == "sync"]
    assert len(mapped) == SYNCS
    assert {state for _, _, state, _ in rows} == {"success"}
    starts = [request.path for request in sandbox.requests if request.method == "POST"]
    assert len(starts) == len(set(starts)) == SYNCS


def test_map_index_template_shows_the_sync_name(many: tuple[Sandbox, list[tuple[str, int, str, str]]]) -> None:
    """With `map_index_template="{{ sync_name }}"` each mapped task has the name of its sync."""
    _, rows = many
    labels = sorted(label for task_id, _, _, label in rows if task_id == "sync")
    assert labels == sorted([*ODD_NAMES, *(f"Sync {number}" for number in range(SYNCS - len(ODD_NAMES)))])


def test_pool_with_deferred_tasks_limits_running_syncs(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    """With one slot, one sync runs after the other, and each has a label and a link."""
    airflow.add_pool("polytomic", 1)
    before = {sync: len(sandbox.starts(sync)) for sync in (SALESFORCE_TO_WAREHOUSE, POSTGRES_TO_WAREHOUSE)}
    run_id = airflow.trigger("many_syncs")

    state = airflow.wait_run("many_syncs", run_id)

    assert state == "success", airflow.task_instances("many_syncs", run_id)
    executions = [execution for sync, known in before.items() for execution in sandbox.starts(sync)[known:]]
    first, second = sorted(executions, key=lambda execution: execution.created_at)
    assert first.end <= second.created_at
    mapped = [ti for ti in airflow.task_instances("many_syncs", run_id) if ti["task_id"] == "sync"]
    assert {ti["rendered_map_index"] for ti in mapped} == {"Salesforce to warehouse", "Postgres to warehouse"}
    linked = {airflow.link("many_syncs", run_id, "sync", ti["map_index"]) for ti in mapped}
    assert linked == {f"{sandbox.url}/{execution.id}" for execution in executions}
