"""A complete Airflow on this machine, for the duration of a `with` block.

    with LocalAirflow("example_dags", {"AIRFLOW_CONN_POLYTOMIC_DEFAULT": "..."}) as airflow:
        run_id = airflow.trigger("start_and_wait")
        assert airflow.wait_run("start_and_wait", run_id) == "success"

It has the real components: API server, scheduler with LocalExecutor, DAG processor and triggerer, each a process that
can be killed and restarted. They use a folder of their own, listen on loopback only, connect to no other host, and end
with the process that started them, however it ends. Several can run concurrently.

`airflow standalone` is not used, because its two log servers always listen on all addresses.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import re
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import requests

from tools.migrated_database import keep_postgres, keep_sqlite, load_postgres, load_sqlite
from tools.postgres import PostgresServer
from tools.processes import Family, Listener, Process, find_descendants, find_listeners

T = TypeVar("T")

# "api-server" is the webserver there; its REST API has mostly the same responses as that of Airflow 3.
AIRFLOW_2 = version("apache-airflow").startswith("2.")
FINISHED = ("success", "failed")
LOOPBACK = "127.0.0.1"


# The settings of Airflow 2 for short intervals.
AIRFLOW_2_CONFIG = {
    "SCHEDULER__DAG_DIR_LIST_INTERVAL": 5,
    "SCHEDULER__MIN_FILE_PROCESS_INTERVAL": 5,
    "SCHEDULER__JOB_HEARTBEAT_SEC": 2,
    "SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": 12,
    "SCHEDULER__ZOMBIE_DETECTION_INTERVAL": 3,
    "WEBSERVER__SECRET_KEY": secrets.token_hex(16),
}


class LocalAirflowError(Exception):
    """A request to Airflow failed, or it did not reach a state; the message may end with the components' output."""


@dataclass(frozen=True)
class LogLine:
    time: str
    level: str
    logger: str
    event: str
    in_triggerer: bool

    def __str__(self) -> str:
        return f"{self.time} {self.level:<8} {self.logger} {self.event}"


TEXT_LINE = re.compile(r"\[(?P<time>\S+)\] \{(?P<logger>\S+)\} (?P<level>[A-Z]+) - (?P<event>.*)")


def parse_log_line(line: str, in_triggerer: bool = False) -> LogLine:
    """Parse a line of a task log: JSON on Airflow 3, text on 2. Any other line becomes an event only."""
    with contextlib.suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict):
            event = str(entry.get("event", ""))
            if details := entry.get("error_detail"):
                event += "".join(f"\n{d.get('exc_type')}: {d.get('exc_value')}" for d in details)
            return LogLine(
                time=str(entry.get("timestamp", "")),
                level=str(entry.get("level", "")),
                logger=str(entry.get("logger", "")),
                event=event,
                in_triggerer=in_triggerer,
            )
    if parts := TEXT_LINE.match(line):
        return LogLine(**parts.groupdict(), in_triggerer=in_triggerer)
    return LogLine("", "", "", line.rstrip("\n"), in_triggerer)


def free_port() -> int:
    """Return a free loopback port, below the range of ephemeral ports."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


class LocalAirflow:
    """See the module. `env` is added to the environment of every component; `config` maps "SECTION__KEY" to a value.

    `home` is an existing folder for its files; the default is a temporary one. Either is removed at the end. The
    database is SQLite, or, with `with_postgres`, a PostgreSQL server of its own.
    """

    def __init__(
        self,
        dags_folder: str | Path,
        env: Mapping[str, str] | None = None,
        *,
        config: Mapping[str, object] | None = None,
        home: str | Path | None = None,
        python: str = sys.executable,
        start_timeout: float = 300,  # seconds, on a busy machine
        with_postgres: bool = False,
    ) -> None:
        self.dags_folder = Path(dags_folder).resolve()
        self.port = free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._rest = f"{self.url}/api/{'v1' if AIRFLOW_2 else 'v2'}"
        self.mark = uuid.uuid4().hex  # identifies its processes
        self._python = python
        self._start_timeout = start_timeout
        self._given_home = home
        self._given_env = dict(env or {})
        self._given_config = dict(config or {})
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy for loopback
        self._with_postgres = with_postgres
        self._authorizing = threading.Lock()
        self._components: dict[str, subprocess.Popen[bytes]] = {}

    # --- Start and stop ---

    def __enter__(self) -> LocalAirflow:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make the database, start all components, and wait until each of them reports that it is healthy."""
        self.home = Path(self._given_home or tempfile.mkdtemp(prefix="local-airflow-")).resolve()
        self._family = Family(self.mark, self.home)
        self.logs = self.home / "logs"
        self.logs.mkdir()
        (self.home / "components").mkdir()
        self._database_url = self._make_database()
        self.env = self._environment()
        if AIRFLOW_2:  # anonymous users are admins
            (self.home / "webserver_config.py").write_text('AUTH_ROLE_PUBLIC = "Admin"\n')
        self._migrate_database()
        started = datetime.now(timezone.utc)
        for name in self._commands():
            self._start_component(name)
        self.until(lambda: self._all_healthy(started), "healthy components")
        # The first request to the execution API takes seconds, during which the API server ends no transaction.
        if not AIRFLOW_2:
            self.until(lambda: self._http.get(f"{self.url}/execution/health", timeout=60).ok, "the workers' API")

    def stop(self) -> None:
        """Stop all processes and remove the folder. Can be called at any time and more than once."""
        if not hasattr(self, "_family"):
            return
        for process in self._components.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        # The folder is removed with them, so there is no need to wait for slow ones.
        deadline = time.monotonic() + 3
        for process in self._components.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self._family.end()
        self._http.close()

    def _commands(self) -> dict[str, list[str]]:
        """Return the `airflow` command of each component, without log servers, which listen on all addresses."""
        server = ["webserver", "--hostname"] if AIRFLOW_2 else ["api-server", "--host"]
        return {
            "api-server": [*server, LOOPBACK, "--port", str(self.port), "--workers", "1"],
            "scheduler": ["scheduler", "--skip-serve-logs"],
            **({} if AIRFLOW_2 else {"dag-processor": ["dag-processor"]}),  # part of the scheduler in Airflow 2
            "triggerer": ["triggerer", "--skip-serve-logs"],
        }

    def _environment(self) -> dict[str, str]:
        config: dict[str, object] = {
            "CORE__DAGS_FOLDER": self.dags_folder,
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": 8,
            "CORE__LOAD_EXAMPLES": False,
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "CORE__HOSTNAME_CALLABLE": "socket.gethostname",  # the default does a DNS lookup
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__TEST_CONNECTION": "Enabled",
            "DATABASE__SQL_ALCHEMY_CONN": self._database_url,
            # Without a limit: an API server whose event loop waits for a connection finishes no request.
            "DATABASE__SQL_ALCHEMY_POOL_SIZE": 0,
            "LOGGING__BASE_LOG_FOLDER": self.logs,
            "API__HOST": LOOPBACK,
            "API__PORT": self.port,
            "API__BASE_URL": self.url,
            "API__WORKERS": 1,
            "API__SECRET_KEY": secrets.token_hex(16),
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "USAGE_DATA_COLLECTION__ENABLED": False,
            # Short intervals, so that tests take less time. A file is parsed again when it has changed.
            "DAG_PROCESSOR__REFRESH_INTERVAL": 5,
            "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": 1,
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 3600,
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": 1,
            "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": 2,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": 2,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 12,
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 3,
            "TRIGGERER__JOB_HEARTBEAT_SEC": 2,
            "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
            "WORKERS__EXECUTION_API_TIMEOUT": 30,
            **(AIRFLOW_2_CONFIG if AIRFLOW_2 else {}),
            **self._given_config,
        }
        # The configuration of another Airflow in the caller's shell must not apply to this one.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_"))}
        loopback = ",".join(filter(None, [os.environ.get("NO_PROXY"), LOOPBACK, "localhost"]))
        return {
            **inherited,
            "AIRFLOW_HOME": str(self.home),
            "NO_PROXY": loopback,
            "no_proxy": loopback,
            "DO_NOT_TRACK": "1",
            "SCARF_ANALYTICS": "false",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",  # Airflow 2: allow SQLite
            **{f"AIRFLOW__{key}": str(value) for key, value in config.items()},
            **self._given_env,
        }

    def _spawn(self, name: str, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        command = [self._python, "-m", "airflow", *arguments]
        return self._family.spawn(command, {**self.env, **env}, self.home / "components" / f"{name}.log", self.home)

    def _make_database(self) -> str:
        """Make an empty database; return its URL for SQLAlchemy."""
        if self._with_postgres:
            self.postgres = PostgresServer(self.home / "postgres", self.mark)
            return self.postgres.url
        return f"sqlite:///{self.home / 'airflow.db'}"

    def _migrate_database(self) -> None:
        """Make Airflow's tables."""
        path = self.home / "airflow.db"
        url = self._database_url
        if not (load_postgres(url) if self._with_postgres else load_sqlite(path)):
            migration = self._spawn("db", "db", "migrate")
            if self.until(migration.poll, "airflow db migrate") != 0:
                raise LocalAirflowError(f"airflow db migrate failed\n{self.diagnosis()}")
            if self._with_postgres:
                keep_postgres(url)
            else:
                keep_sqlite(path)
        if not self._with_postgres:
            # In WAL mode the five processes that share the file do not block each other's reads.
            with contextlib.closing(sqlite3.connect(path)) as database:
                database.execute("PRAGMA journal_mode=WAL")

    def _start_component(self, name: str) -> None:
        self._components[name] = self._spawn(name, *self._commands()[name])

    def _all_healthy(self, since: datetime) -> bool:
        for name, process in self._components.items():
            if process.poll() is not None:
                raise LocalAirflowError(f"{name} ended with code {process.returncode}\n{self.diagnosis()}")
        return all(self.is_healthy(name, since) for name in self._components)

    def is_healthy(self, name: str, since: datetime | None = None) -> bool:
        """Return whether a component reports that it is healthy; with `since`, whether it did so after that time."""
        try:
            health = self._http.get(f"{self._rest}/{'health' if AIRFLOW_2 else 'monitor/health'}", timeout=5).json()
        except (requests.RequestException, ValueError):
            return False
        if name == "api-server":
            return bool(health["metadatabase"]["status"] == "healthy")
        key = name.replace("-", "_")
        if health[key]["status"] != "healthy":
            return False
        beat = datetime.fromisoformat(health[key][f"latest_{key}_heartbeat"].replace("Z", "+00:00"))
        return since is None or beat > since

    # --- Processes ---

    def pid(self, component: str) -> int:
        """Return the id of the component's main process. The triggerer runs triggers in a child of it."""
        return self._components[component].pid

    def processes(self, component: str | None = None) -> list[Process]:
        """Return all running processes of this Airflow, or of one component with its descendants."""
        everything = self._family.processes()
        return everything if component is None else find_descendants(self.pid(component), everything)

    def task_pid(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> int | None:
        """Return the id of the process in which a task instance runs; None if it is not running."""
        pid = self.task_instance(dag_id, run_id, task_id, map_index)["pid"]
        return pid if pid in {process.pid for process in self.processes()} else None

    def listeners(self) -> list[Listener]:
        """Return the TCP sockets on which any process of this Airflow listens."""
        return find_listeners(process.pid for process in self.processes())

    def kill(self, component: str, sig: signal.Signals = signal.SIGKILL, *, whole: bool = False) -> None:
        """Send a signal to a component's main process, or, with `whole`, also to its descendants.

        Without `whole`, the children stay alive as orphans.
        """
        for process in self.processes(
            component
        ):  # only those of this Airflow, because the id of a dead process may be reused
            if whole or process.pid == self.pid(component):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, sig)

    def freeze(self, component: str) -> None:
        """Stop a component and its descendants until a SIGCONT."""
        self.kill(component, signal.SIGSTOP, whole=True)

    def start_second(self, component: str) -> str:
        """Start a second instance of a component, and return its name in `kill` and other methods."""
        name = f"second-{component}"
        self._components[name] = self._spawn(name, *self._commands()[component])
        return name

    def restart(self, component: str) -> None:
        """Restart a component, stopping it first if it is running, and wait until it is healthy."""
        process = self._components[component]
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            if process.poll() is None:
                self.kill(component, whole=True)
        process.wait()
        restarted = datetime.now(timezone.utc)
        self._start_component(component)

        def healthy() -> bool:
            new = self._components[component]
            if new.poll() is not None:
                raise LocalAirflowError(f"{component} ended with code {new.returncode}\n{self.diagnosis()}")
            return self.is_healthy(component, restarted)

        self.until(healthy, f"a healthy {component}")

    # --- REST ---

    def api(
        self,
        method: str,
        path: str,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the public REST API: `api("GET", "/dags")`.

        :raises LocalAirflowError: for a response other than 2xx.
        """
        with self._authorizing:
            if not AIRFLOW_2 and "Authorization" not in self._http.headers:
                # All users are admins, so a token needs no credentials.
                response = self._http.get(f"{self.url}/auth/token", timeout=30)
                response.raise_for_status()
                self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"
        response = self._http.request(method, f"{self._rest}{path}", json=json, params=params, timeout=60)
        if not response.ok:
            raise LocalAirflowError(f"{method} {path} -> {response.status_code} {response.text}")
        return response.json() if response.content else None

    def wait_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Wait until the DAG processor has parsed a DAG.

        :raises LocalAirflowError: for import errors.
        """

        def known() -> bool:
            if errors := self.api("GET", "/importErrors")["import_errors"]:
                raise LocalAirflowError("\n".join(e["stack_trace"] for e in errors))
            return any(dag["dag_id"] == dag_id for dag in self.api("GET", "/dags", params={"limit": 100})["dags"])

        self.until(known, f"DAG {dag_id}", timeout)

    def add_pool(self, name: str, slots: int) -> None:
        """Create a pool that includes deferred tasks. One with this name is replaced."""
        if name in {pool["name"] for pool in self.api("GET", "/pools")["pools"]}:
            self.api("DELETE", f"/pools/{name}")
        body = {"name": name, "slots": slots, "include_deferred": True}
        self.api("POST", "/pools", json=body)

    def trigger(self, dag_id: str, run_id: str | None = None, conf: Mapping[str, Any] | None = None) -> str:
        """Wait for a DAG, start a run of it, and return the run id."""
        self.wait_dag(dag_id)
        body = {"conf": dict(conf or {}), **({} if AIRFLOW_2 else {"logical_date": None})}
        if run_id:
            body["dag_run_id"] = run_id
        return str(self.api("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def pause(self, dag_id: str, paused: bool = True) -> None:
        """Pause or unpause a DAG, and wait until the scheduler has noticed."""
        self.api("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})
        changed = datetime.now(timezone.utc)
        # The scheduler sends heartbeats between two iterations of its loop.
        self.until(lambda: self.is_healthy("scheduler", changed), "the scheduler's next iteration")

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self.api("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_run(self, dag_id: str, run_id: str, timeout: float = 180) -> str:
        """Wait until a run has ended, and return its state, `success` or `failed`."""

        def ended() -> str | None:
            state = self.run_state(dag_id, run_id)
            return state if state in FINISHED else None

        return self.until(ended, f"the end of run {run_id} of {dag_id}", timeout)

    def wait_task(
        self, dag_id: str, run_id: str, task_id: str, *states: str, map_index: int = -1, timeout: float = 60
    ) -> str:
        """Wait until a task instance is in one of these states, and return the state."""

        def reached() -> str | None:
            for task in self.task_instances(dag_id, run_id):
                if (task["task_id"], task["map_index"]) == (task_id, map_index) and task["state"] in states:
                    return str(task["state"])
            return None

        return self.until(reached, f"task {task_id} of {dag_id} to be {' or '.join(states)}", timeout)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all task instances of a run, as the REST API does."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        return list(self.api("GET", path, params={"limit": 100})["task_instances"])

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        return dict(self.api("GET", self._task_path(dag_id, run_id, task_id, map_index)))

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return the value of an XCom.

        :raises LocalAirflowError: when there is none.
        """
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.api("GET", path, params={"map_index": map_index, "stringify": "false"})["value"]

    def link(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str | None:
        """Return the URL of a task instance's link to its execution at Polytomic."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        links = self.api("GET", path, params={"map_index": map_index})
        return (links if AIRFLOW_2 else links["extra_links"])["Polytomic execution"]  # type: ignore[no-any-return]

    def patch_task_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task instance as `success`, `failed` or `skipped`, as the UI does."""
        body = {"new_state": state, **({"dry_run": False} if AIRFLOW_2 else {})}
        self.api("PATCH", self._task_path(dag_id, run_id, task_id, map_index), json=body)

    def patch_run_state(self, dag_id: str, run_id: str, state: str) -> None:
        """Mark a run as `success`, `failed` or `queued`."""
        self.api("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": state})

    def clear(self, dag_id: str, run_id: str, *task_ids: str, map_index: int | None = None, **options: Any) -> None:
        """Clear tasks of a run, or all tasks when none is given."""
        tasks: list[Any] = list(task_ids) if map_index is None else [[task_id, map_index] for task_id in task_ids]
        body = {"dry_run": False, "only_failed": False, "reset_dag_runs": True, "dag_run_id": run_id, **options}
        if tasks:
            body["task_ids"] = tasks
        self.api("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def delete_run(self, dag_id: str, run_id: str) -> None:
        self.api("DELETE", f"/dags/{dag_id}/dagRuns/{run_id}")

    def _task_path(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        return path if map_index < 0 else f"{path}/{map_index}"

    # --- Logs ---

    def log_files(
        self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1
    ) -> list[Path]:
        """Return a task instance's log files, of one try or all, from workers and triggerer, oldest first."""
        folder = self.logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}"
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        attempt = "*" if try_number is None else try_number
        return sorted(folder.glob(f"attempt={attempt}.log*"))

    def task_log_lines(
        self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1
    ) -> list[LogLine]:
        """Return a task instance's log lines from workers and triggerer, ordered by time."""
        lines = []
        for path in self.log_files(dag_id, run_id, task_id, try_number, map_index):
            last = ""
            for text in path.read_text(errors="replace").splitlines():
                line = parse_log_line(text, ".trigger." in path.name)
                last = line.time or last  # a line without a time belongs to the line before it
                lines.append((last, line))
        return [line for _, line in sorted(lines, key=lambda pair: pair[0])]

    def task_log(
        self, dag_id: str, run_id: str, task_id: str, try_number: int | None = None, map_index: int = -1
    ) -> str:
        """Return a task instance's log as text. It is read from the files, so it is complete while the task runs."""
        return "\n".join(map(str, self.task_log_lines(dag_id, run_id, task_id, try_number, map_index)))

    def all_logs(self) -> dict[Path, str]:
        """Return all logs of tasks, triggers and components so far."""
        files = [*self.logs.rglob("*.log*"), *(self.home / "components").iterdir()]
        return {path: path.read_text(errors="replace") for path in files if path.is_file()}

    def component_log(self, name: str) -> list[str]:
        """Return the lines that a component has logged so far."""
        return (self.home / "components" / f"{name}.log").read_text(errors="replace").splitlines()

    def diagnosis(self, lines: int = 30) -> str:
        """Return the last log lines of each component."""
        parts = []
        for path in sorted((self.home / "components").glob("*.log")):
            tail = self.component_log(path.stem)[-lines:]
            process = self._components.get(path.stem)
            ended = process is not None and process.poll() is not None
            parts.append("\n".join([f"--- {path.stem}{' (has ended)' if ended else ''}", *tail]))
        return "\n".join(parts)

    def until(self, probe: Callable[[], T | None], what: str, timeout: float | None = None) -> T:
        """Call `probe` until it returns neither None nor False, and return its value.

        :raises LocalAirflowError: after `timeout` seconds.
        """
        limit = self._start_timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        while True:
            response = None
            # The API server may have been killed on purpose, or be busy.
            with contextlib.suppress(requests.ConnectionError, requests.Timeout):
                response = probe()
            if response is not None and response is not False:
                return response
            if time.monotonic() > deadline:
                raise LocalAirflowError(f"timed out after {limit:.0f} s waiting for {what}\n{self.diagnosis()}")
            time.sleep(0.3)
