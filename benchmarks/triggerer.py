"""Part ``triggerer``: a real triggerer starts with many deferred tasks, whose executions have all ended meanwhile.

One task of each kind defers. Its row and its trigger are copied in the database, and a new triggerer runs all copies.
The kind ``airflow`` is a trigger of Airflow that fires at once, so it shows Airflow's own cost. The kind ``none`` has
no triggers; what it costs is subtracted from the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import tempfile
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.server import Server
from tools.local_airflow import LocalAirflow

from .figures import spread

SYNC = "b0000000-0000-4000-8000-000000000009"
NUMBER = 1000  # as many as a triggerer runs by default
TASKS = {"provider": "sync", "airflow": "date_time"}
IDLE = 10.0  # seconds in which a triggerer without triggers starts, and then idles
# Seconds after the start of the run, in which its tasks have deferred and the copies have been made.
DEFERRED_FOR = 45.0
TICKS = os.sysconf("SC_CLK_TCK")
DAG = f"""
from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import dag

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator


@dag
def deferred():
    PolytomicBulkSyncOperator(
        task_id="sync", sync_id="{SYNC}", deferrable=True, poke_interval=10, assets=False
    )
    DateTimeSensorAsync(task_id="date_time", target_time="{{{{ dag_run.conf['until'] }}}}")


deferred()
"""


def measure(times: int, number: int = NUMBER) -> dict[str, Any]:
    """Measure each kind, alternately."""
    sync = {"id": SYNC, "name": "Orders", "schemas": ["a"], "duration": 100_000}
    sandbox = Sandbox({"bulk_syncs": [sync]})
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in ("none", *TASKS)}
    with contextlib.closing(Server(sandbox)), tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "deferred.py").write_text(DAG)
        connection = {"conn_type": "polytomic", "host": sandbox.url, "password": sandbox.key}
        env = {"AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection)}
        with LocalAirflow(folder, env, config={"TRIGGERER__CAPACITY": number}) as airflow:
            defer(airflow, sandbox)
            with contextlib.closing(sqlite3.connect(airflow.home / "airflow.db", timeout=60)) as database:
                deferred = {kind: Deferred.read(database, task_id) for kind, task_id in TASKS.items()}
                for _ in range(times):
                    for kind, of_it in rows.items():
                        Deferred.delete_all(database)
                        if kind in deferred:
                            deferred[kind].copy(database, number)
                        database.commit()
                        of_it.append(start_triggerer(airflow, database))
                        print(".", end="", flush=True)
    for kind in TASKS:
        for row, idle in zip(rows[kind], rows["none"], strict=True):
            row["cpu_ms_per_trigger"] = (row["cpu_ms"] - idle["cpu_ms"]) / number
    return {kind: {name: spread([row[name] for row in of_it]) for name in of_it[0]} for kind, of_it in rows.items()}


def defer(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    """Defer a task of each kind, stop everything that runs tasks and triggers, and end the execution."""
    until = datetime.now(timezone.utc) + timedelta(seconds=DEFERRED_FOR)
    run_id = airflow.trigger("deferred", conf={"until": until.isoformat()})
    for task_id in TASKS.values():
        airflow.wait_task("deferred", run_id, task_id, "deferred")
    for component in ("scheduler", "dag-processor", "triggerer"):
        airflow.kill(component, whole=True)
    sandbox.finish(SYNC, sandbox.starts(SYNC)[-1].id)
    time.sleep(max(0.0, (until - datetime.now(timezone.utc)).total_seconds()))


class Deferred(NamedTuple):
    """The rows of a deferred task and of its trigger."""

    task: dict[str, Any]
    trigger: dict[str, Any]

    @classmethod
    def read(cls, database: sqlite3.Connection, task_id: str) -> Deferred:
        task = _row(database, "SELECT * FROM task_instance WHERE task_id = ?", task_id)
        return cls(task, _row(database, "SELECT * FROM trigger WHERE id = ?", task["trigger_id"]))

    @staticmethod
    def delete_all(database: sqlite3.Connection) -> None:
        database.execute("DELETE FROM task_instance")
        database.execute("DELETE FROM trigger")

    def copy(self, database: sqlite3.Connection, number: int) -> None:
        for index in range(number):
            task = {"id": uuid.uuid4().hex, "map_index": index, "trigger_id": index + 1}
            _insert(database, "trigger", {**self.trigger, "id": index + 1, "triggerer_id": None})
            _insert(database, "task_instance", {**self.task, **task})


def _row(database: sqlite3.Connection, query: str, value: Any) -> dict[str, Any]:
    cursor = database.execute(query, (value,))
    return dict(zip((name for name, *_ in cursor.description), cursor.fetchone(), strict=True))


def _insert(database: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" * len(row))
    database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))


def start_triggerer(airflow: LocalAirflow, database: sqlite3.Connection) -> dict[str, float]:
    """Start a triggerer, wait until all its triggers have fired, and return its cost."""
    began = time.monotonic()
    airflow.restart("triggerer")
    while time.monotonic() - began < IDLE or database.execute("SELECT count(*) FROM trigger").fetchone()[0]:
        time.sleep(0.2)
    seconds = time.monotonic() - began
    cpu = sum(cpu_ms(process.pid) for process in airflow.processes("triggerer"))
    airflow.kill("triggerer", whole=True)
    return {"cpu_ms": cpu, "seconds": seconds}


def cpu_ms(pid: int) -> float:
    """The CPU time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * 1000 / TICKS
