"""Show a DAG that starts a Polytomic sync on a real Airflow, waits for it deferred, and goes on.

    python -m tools.demo         run example_dags/elt_pipeline.py once, with its log on the screen
    python -m tools.demo --ui    keep the same Airflow running for the browser, until Ctrl-C

Polytomic is played by the package's sandbox. Everything listens on this machine alone, and is gone afterwards.
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
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_polytomic.get_provider_info import EXTRA_FIELDS
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE
from airflow_provider_polytomic.sandbox.server import Server
from tools.local_airflow import FINISHED, LocalAirflow, LocalAirflowError, LogLine, parse_log_line

EXAMPLES = Path(__file__).resolve().parents[1] / "example_dags"
DAG = "elt_pipeline"
TIMEOUT = 120  # seconds, for the run of the DAG


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description="A DAG with a sync, on a real Airflow.")
    parser.add_argument("--ui", action="store_true", help="keep Airflow running for the browser, until Ctrl-C")
    options = parser.parse_args()
    # Started in the background, Python would ignore the first; the others would end it without cleaning up.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        return show_ui() if options.ui else run_once()
    except KeyboardInterrupt:
        say("\nStopped.")
        return 0 if options.ui else 128 + signal.SIGINT
    except LocalAirflowError as error:
        say(f"\nAirflow did not do its part: {error}")
        return 1


def run_once() -> int:
    begun = time.monotonic()
    with sandbox() as (polytomic, warehouse):
        env = {
            "ELT_WAREHOUSE": str(warehouse),
            "AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection(polytomic)),
        }
        with airflow(warehouse.parent, env) as local:
            run_id = local.trigger(DAG)
            say(f"\nDAG {DAG} runs (example_dags/{DAG}.py):\n")
            follower = Follower(local, run_id)
            state = follower.follow()
            tasks = {task["task_id"]: task["state"] for task in local.task_instances(DAG, run_id)}
        starts = len(polytomic.starts(SALESFORCE_TO_WAREHOUSE))
        waited = f"{follower.seconds_deferred:.0f} s of it in the triggerer, with no worker taken"
        say("\nWhat happened:")
        say(f"  The DAG run ended as {state} ({', '.join(f'{task}: {end}' for task, end in tasks.items())}).")
        say(f'  The sync "Salesforce to warehouse" was started {times(starts)}.')
        say(f"  Task load waited for it, {waited}." if follower.seconds_deferred else "  No task was deferred.")
        say("  transform and report then ran SQL on the tables that the sync had loaded.")
        say(f"  All of it took {time.monotonic() - begun:.0f} s. Everything is stopped and removed again.")
        say("\nTo see the same in the browser: make demo-ui")
    return 0 if state == "success" and starts == 1 and follower.seconds_deferred else 1


def show_ui() -> int:
    with sandbox() as (polytomic, warehouse), airflow_with_ui(polytomic, warehouse) as local:
        say(f"""
  Airflow      {local.url}  (no login)
  Polytomic    {polytomic.url}  (a sandbox; API key: {polytomic.key})
  Warehouse    {warehouse}

Trigger {DAG} or one of the other DAGs (example_dags/). The connection polytomic_default is under Admin, Connections:
it has a Test button. A link "Polytomic execution" has an address, but no page: the sandbox has no web app. Ctrl-C ends
and removes all of it.""")
        while True:
            time.sleep(3600)


@contextlib.contextmanager
def sandbox(now: Callable[[], float] = time.time) -> Iterator[tuple[Sandbox, Path]]:
    """A Polytomic, and the SQLite file that its syncs fill, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="polytomic-demo-") as folder:
        warehouse = Path(folder) / "warehouse.sqlite"
        polytomic = Sandbox(now=now, deliver_to=warehouse)
        server = Server(polytomic)
        say(f"Polytomic is played by a sandbox at {polytomic.url}")
        try:
            yield polytomic, warehouse
        finally:
            server.close()


@contextlib.contextmanager
def airflow(home: Path, env: dict[str, str]) -> Iterator[LocalAirflow]:
    say(f"Airflow {version('apache-airflow')} starts: API server, scheduler, DAG processor, triggerer", end=" ")
    begun = time.monotonic()
    local = LocalAirflow(EXAMPLES, env, home=home)
    try:
        with dots():
            local.start()
        say(f" ready after {time.monotonic() - begun:.0f} s")
        yield local
    finally:
        local.stop()


@contextlib.contextmanager
def airflow_with_ui(polytomic: Sandbox, warehouse: Path) -> Iterator[LocalAirflow]:
    """With all that the example DAGs need, and that a person sees."""
    with airflow(warehouse.parent, {"ELT_WAREHOUSE": str(warehouse)}) as local:
        # In the database and not in the environment, so that the form shows it.
        local.api("POST", "/connections", json={"connection_id": "polytomic_default", **connection(polytomic)})
        local.add_pool("polytomic", 10)  # as many_syncs.py says
        local.wait_dag(DAG)
        yield local


def connection(polytomic: Sandbox) -> dict[str, Any]:
    address = urlsplit(polytomic.url)
    # As the form itself saves it: what is not in it, not even as nothing, the form of Airflow 3.3.2 does not show.
    extra = {**dict.fromkeys(EXTRA_FIELDS), "ui_url": f"{polytomic.url}/{{kind}}/{{sync_id}}/{{execution_id}}"}
    return {
        "conn_type": "polytomic",
        "host": f"{address.scheme}://{address.hostname}",
        "port": address.port,  # in its own field: the Test button in the browser refuses a connection without one
        "password": polytomic.key,
        "extra": json.dumps(extra),
    }


class Follower:
    """Prints what the tasks of a run log, as they log it, without what Airflow says of itself."""

    def __init__(self, local: LocalAirflow, run_id: str) -> None:
        self.seconds_deferred = 0.0
        self._local = local
        self._run_id = run_id
        self._read: dict[Path, int] = {}
        self._seen: set[str] = set()
        self._deferred_since: dict[str, datetime] = {}

    def follow(self) -> str:
        """Until the run has ended; returns its state."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            # Asked before the logs are read, so that nothing written until the end is missed.
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
                    text, newline, _ = file.read().rpartition(b"\n")  # a line half written is for the next time
                    self._read[path] = self._read.get(path, 0) + len(text) + len(newline)
                for line in text.decode(errors="replace").splitlines():
                    yield folder.name.removeprefix("task_id="), parse_log_line(line, ".trigger." in path.name)

    def _show(self, task_id: str, line: LogLine) -> None:
        # A worker may write the mark of a group's end when the triggerer is at it already.
        if not line.time or line.event == "::endgroup::":
            return
        at = datetime.fromisoformat(line.time.replace("Z", "+00:00")).astimezone()
        parts = []
        if task_id not in self._seen:
            self._seen.add(task_id)
            parts.append("-- in a worker --")
        if line.in_triggerer and task_id not in self._deferred_since:
            self._deferred_since[task_id] = at
            parts.append("-- deferred: it waits in the triggerer, the worker is free --")
        elif not line.in_triggerer and task_id in self._deferred_since:
            self.seconds_deferred += (at - self._deferred_since.pop(task_id)).total_seconds()
            parts.append("-- resumed in a worker --")
        ours = "polytomic" in line.logger or line.logger == "task.stdout"
        if ours or line.level in ("warning", "error", "critical"):
            parts += line.event.splitlines()
        for part in parts:
            say(f"  {at:%H:%M:%S}  {task_id:<9}  {part}")


@contextlib.contextmanager
def dots() -> Iterator[None]:
    """A sign of life each second, for who watches a terminal."""
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


def times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main())
