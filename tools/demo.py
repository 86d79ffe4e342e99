"""Run a DAG on a real Airflow that starts a Polytomic sync, waits for it deferred, and uses its data.

    python -m tools.demo         run example_dags/elt_pipeline.py once, and print its log
    python -m tools.demo --ui    keep the same Airflow running for the browser, until Ctrl-C

The package's sandbox stands in for Polytomic. All servers listen on loopback only, and all files are removed at exit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_polytomic.get_provider_info import EXTRA_FIELDS
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, Seed
from airflow_provider_polytomic.sandbox.server import Server
from tools.local_airflow import FINISHED, LocalAirflow, LocalAirflowError, LogLine, parse_log_line

EXAMPLES = Path(__file__).resolve().parents[1] / "example_dags"
DAG = "elt_pipeline"
TIMEOUT = 120  # seconds for the DAG run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description="Run a DAG with a sync on Airflow.")
    parser.add_argument("--ui", action="store_true", help="keep Airflow running for the browser, until Ctrl-C")
    options = parser.parse_args()
    # A process in the background would ignore SIGINT, and the other signals would skip the cleanup.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        return show_ui() if options.ui else run_once()
    except KeyboardInterrupt:
        say("\nStopped.")
        return 0 if options.ui else 128 + signal.SIGINT
    except LocalAirflowError as error:
        say(f"\nThe demo failed in Airflow: {error}")
        return 1


def run_once() -> int:
    started = time.monotonic()
    with sandbox() as (polytomic, warehouse):
        env = {
            "ELT_WAREHOUSE": str(warehouse),
            "AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection(polytomic)),
        }
        with airflow(warehouse.parent, env) as local:
            run_id = local.trigger(DAG)
            say(f"\nRunning DAG {DAG} (example_dags/{DAG}.py):\n")
            follower = Follower(local, run_id)
            state = follower.follow()
            tasks = {task["task_id"]: task["state"] for task in local.task_instances(DAG, run_id)}
        starts = len(polytomic.starts(SALESFORCE_TO_WAREHOUSE))
        waited = f"{follower.seconds_deferred:.0f} s of it deferred, without a worker slot"
        say("\nWhat happened:")
        say(f"  The DAG run ended as {state} ({', '.join(f'{task}: {end}' for task, end in tasks.items())}).")
        say(f'  The sync "Salesforce to warehouse" was started {format_times(starts)}.')
        say(f"  Task load waited for it, {waited}." if follower.seconds_deferred else "  No task was deferred.")
        say("  transform and report then ran SQL on the tables that the sync had loaded.")
        say(f"  The demo took {time.monotonic() - started:.0f} s. All processes are stopped and all files removed.")
        say("\nTo use this Airflow in the browser: make demo-ui")
    return 0 if state == "success" and starts == 1 and follower.seconds_deferred else 1


def show_ui() -> int:
    with sandbox() as (polytomic, warehouse), airflow_with_ui(polytomic, warehouse) as local:
        say(f"""
  Airflow      {local.url}  (no login)
  Polytomic    {polytomic.url}  (a sandbox; API key: {polytomic.key})
  Warehouse    {warehouse}

Trigger {DAG} or another DAG (example_dags/). The connection polytomic_default, with its Test button, is under Admin,
Connections. The link "Polytomic execution" of a task leads to no page, because the sandbox has no web app. Ctrl-C stops
all processes and removes all files.""")
        while True:
            time.sleep(3600)


@contextlib.contextmanager
def sandbox(seed: Seed | None = None) -> Iterator[tuple[Sandbox, Path]]:
    """Run a sandbox, by default with the default seed; yield it and the SQLite file to which its syncs deliver."""
    with tempfile.TemporaryDirectory(prefix="polytomic-demo-") as folder:
        warehouse = Path(folder) / "warehouse.sqlite"
        polytomic = Sandbox(seed, deliver_to=warehouse)
        server = Server(polytomic)
        say(f"Polytomic sandbox: {polytomic.url}")
        try:
            yield polytomic, warehouse
        finally:
            server.close()


@contextlib.contextmanager
def airflow(home: Path, env: dict[str, str], with_postgres: bool = False) -> Iterator[LocalAirflow]:
    say(f"Starting Airflow {version('apache-airflow')}: API server, scheduler, DAG processor, triggerer", end=" ")
    started = time.monotonic()
    local = LocalAirflow(EXAMPLES, env, home=home, with_postgres=with_postgres)
    try:
        with dots():
            local.start()
        say(f" ready after {time.monotonic() - started:.0f} s")
        yield local
    finally:
        local.stop()


@contextlib.contextmanager
def airflow_with_ui(polytomic: Sandbox, warehouse: Path, with_postgres: bool = False) -> Iterator[LocalAirflow]:
    """Run Airflow with the connection and the pool that the example DAGs use."""
    with airflow(warehouse.parent, {"ELT_WAREHOUSE": str(warehouse)}, with_postgres) as local:
        # In the database, because the UI does not show connections from the environment.
        local.api("POST", "/connections", json={"connection_id": "polytomic_default", **connection(polytomic)})
        local.add_pool("polytomic", 10)  # used by many_syncs.py
        local.wait_dag(DAG)
        yield local


def connection(polytomic: Sandbox) -> dict[str, Any]:
    address = urlsplit(polytomic.url)
    # With all fields, as the form saves them: the form of Airflow 3.3.2 omits fields that are absent from the extra.
    extra = {**dict.fromkeys(EXTRA_FIELDS), "ui_url": f"{polytomic.url}/{{kind}}/{{sync_id}}/{{execution_id}}"}
    return {
        "conn_type": "polytomic",
        "host": f"{address.scheme}://{address.hostname}",
        "port": address.port,  # in a field of its own: the Test button rejects a connection without a port
        "password": polytomic.key,
        "extra": json.dumps(extra),
    }


class Follower:
    """Prints the task logs of a run as they are written, without the messages of Airflow itself."""

    def __init__(self, local: LocalAirflow, run_id: str) -> None:
        self.seconds_deferred = 0.0
        self._local = local
        self._run_id = run_id
        self._read: dict[Path, int] = {}
        self._seen: set[str] = set()
        self._deferred_since: dict[str, datetime] = {}

    def follow(self) -> str:
        """Print log lines until the run has ended, and return its state."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            # Read before the logs, so that no line from before the end is missed.
            state = self._local.run_state(DAG, self._run_id)
            for task_id, line in sorted(self._new_lines(), key=lambda item: item[1].time):
                self._show(task_id, line)
            if state in FINISHED:
                return state
            if time.monotonic() > deadline:
                raise LocalAirflowError(f"the run is still {state} after {TIMEOUT} s\n{self._local.diagnosis()}")
            time.sleep(0.3)

    def _new_lines(self) -> Iterator[tuple[str, LogLine]]:
        for folder in (self._local.logs / f"dag_id={DAG}" / f"run_id={self._run_id}").glob("task_id=*"):
            for path in folder.rglob("*.log"):
                with path.open("rb") as file:
                    file.seek(self._read.get(path, 0))
                    text, newline, _ = file.read().rpartition(b"\n")  # an incomplete line is read the next time
                    self._read[path] = self._read.get(path, 0) + len(text) + len(newline)
                for line in text.decode(errors="replace").splitlines():
                    yield folder.name.removeprefix("task_id="), parse_log_line(line, ".trigger." in path.name)

    def _show(self, task_id: str, line: LogLine) -> None:
        # A worker may write the end of a log group after the triggerer has started.
        if not line.time or line.event == "::endgroup::":
            return
        at = datetime.fromisoformat(line.time.replace("Z", "+00:00")).astimezone()
        parts = []
        if task_id not in self._seen:
            self._seen.add(task_id)
            parts.append("-- in a worker --")
        if line.in_triggerer and task_id not in self._deferred_since:
            self._deferred_since[task_id] = at
            parts.append("-- deferred: the triggerer polls, the worker slot is free --")
        elif not line.in_triggerer and task_id in self._deferred_since:
            self.seconds_deferred += (at - self._deferred_since.pop(task_id)).total_seconds()
            parts.append("-- resumed in a worker --")
        is_relevant = "polytomic" in line.logger or line.logger == "task.stdout"
        if is_relevant or line.level in ("warning", "error", "critical"):
            parts += line.event.splitlines()
        for part in parts:
            say(f"  {at:%H:%M:%S}  {task_id:<9}  {part}")


@contextlib.contextmanager
def dots() -> Iterator[None]:
    """Print a dot each second as a progress indicator, on a terminal only."""
    done = threading.Event()

    def draw() -> None:
        while not done.wait(1):
            say(".", end="")

    thread = threading.Thread(target=draw, daemon=True)
    if sys.stdout.isatty():
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.is_alive():
            thread.join()


def format_times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main())
