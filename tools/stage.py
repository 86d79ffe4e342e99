"""A stage: one real Airflow and one sandbox, on which tests run many tasks concurrently and disturb them.

    with Stage(folder_of_dags, syncs=10) as stage:
        run = stage.run(stage.syncs[0])
        run.trigger("deferred")
        run.until_state("deferred")
        run.finish()
        run.until_state("success")

Each DAG has a task `sync` with `sync_id="{{ dag_run.conf['sync'] }}"`, and there is one DAG for each kind of sync, such
as `deferred_bulk` and `deferred_model`. Executions run until a test ends or cancels them.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests

from airflow_provider_polytomic.sandbox.app import LoggedRequest, Sandbox
from airflow_provider_polytomic.sandbox.execution import Execution
from airflow_provider_polytomic.sandbox.faults import Fault
from airflow_provider_polytomic.sandbox.seed import BulkSyncSpec, ModelSyncSpec, SchemaSpec, Seed
from airflow_provider_polytomic.sandbox.server import Server
from tools.local_airflow import LocalAirflow, LocalAirflowError, LogLine
from tools.processes import Process

T = TypeVar("T")
Spec = BulkSyncSpec | ModelSyncSpec

ROOT = Path(__file__).parent.parent
UNTIL_ENDED = 100_000.0  # seconds; the duration of an execution that a test has to end
TIMEOUT = 240.0  # seconds; ends a wait for something that does not happen, also on a busy machine
MAX_HOLD = 90.0  # seconds for which a request is held at most
# A killed component is noticed soon, but a slow one is not taken for dead, and there is a slot for every task.
CONFIG = {
    "API__MAXIMUM_PAGE_LIMIT": 1000,
    "CORE__MAX_ACTIVE_RUNS_PER_DAG": 100,
    "CORE__MAX_ACTIVE_TASKS_PER_DAG": 100,
    "CORE__PARALLELISM": 24,
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 5,
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 30,
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 25,
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 15,
}


class Stage:
    """A running Airflow with a sandbox; see the module.

    :param dags: the folder of the DAGs.
    :param syncs: the number of bulk syncs, or a specification of each sync.
    :param config: additional configuration of Airflow, "SECTION__KEY" to value.
    :param make_airflow: :class:`LocalAirflow`, or a function with the same arguments.
    """

    poll_interval = 0.4  # seconds between two polls of all task instances

    def __init__(
        self,
        dags: Path,
        syncs: int | Sequence[Spec],
        config: Mapping[str, object] | None = None,
        make_airflow: Callable[..., LocalAirflow] = LocalAirflow,
    ) -> None:
        specs = [open_ended_sync(f"Sync {number}") for number in range(syncs)] if isinstance(syncs, int) else syncs
        self.syncs = [spec.id for spec in specs]
        bulk = [spec for spec in specs if isinstance(spec, BulkSyncSpec)]
        model = [spec for spec in specs if isinstance(spec, ModelSyncSpec)]
        self._models = {spec.id for spec in model}
        self.sandbox = Sandbox(Seed(bulk_syncs=bulk, model_syncs=model))
        self._server = Server(self.sandbox)
        connection = {
            "conn_type": "polytomic",
            "host": self.sandbox.url,
            "password": self.sandbox.key,
            "extra": {"ui_url": f"{self.sandbox.url}/{{kind}}/{{sync_id}}/{{execution_id}}"},
        }
        env = {
            "AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection),
            "PYTHONPATH": str(ROOT),  # the tests have an executor of their own
        }
        self.airflow = make_airflow(dags, env, config={**CONFIG, **(config or {})}, with_postgres=True)
        self._barriers: dict[str, threading.Barrier] = {}
        self._task_instances: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._closed = threading.Event()
        self._poller = threading.Thread(target=self._poll_task_instances, name="stage-poller", daemon=True)

    def __enter__(self) -> Stage:
        try:
            self.airflow.start()
            self._poller.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.interrupt()
        if self._poller.is_alive():
            self._poller.join()
        self.airflow.stop()
        self._server.close()

    def add_sync(self, name: str, schemas: int = 2) -> str:
        """Add a bulk sync whose executions run until a test ends or cancels them, and return its id."""
        spec = open_ended_sync(name, schemas=schemas)
        assert isinstance(spec, BulkSyncSpec)
        duration, cancel_duration = spec.duration, spec.cancel_duration
        return self.sandbox.add_bulk_sync(name, spec.schemas, duration=duration, cancel_duration=cancel_duration)

    def run(self, sync_id: str) -> Run:
        """Return a run that :meth:`Run.trigger` starts."""
        return Run(self, sync_id, "model" if sync_id in self._models else "bulk")

    def add_barrier(self, name: str, parties: int, action: Callable[[LocalAirflow], None]) -> None:
        """Call ``action`` once, as soon as that many threads wait for it with :meth:`wait_at_barrier`."""
        self._barriers[name] = threading.Barrier(parties, lambda: action(self.airflow))

    def wait_at_barrier(self, name: str) -> None:
        """Wait until all parties have arrived and the barrier's action is done."""
        self._barriers[name].wait(TIMEOUT)

    def abort_barriers(self) -> None:
        """Make all waiting parties fail, because one of them will not arrive."""
        for barrier in self._barriers.values():
            barrier.abort()

    def task_instance(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any] | None:
        """Return a task instance, at most a second old; None if there is none."""
        return self._task_instances.get((dag_id, run_id, task_id))

    def until(
        self,
        probe: Callable[[], T | None],
        what: str,
        timeout: float = TIMEOUT,
        report: Callable[[], str] | None = None,
    ) -> T:
        """Call ``probe`` until it returns a true value, and return that.

        :raises LocalAirflowError: after ``timeout`` seconds, with ``report()`` in the message.
        """
        deadline = time.monotonic() + timeout
        while not (answer := probe()):
            if self._closed.wait(0.05):
                raise LocalAirflowError(f"the stage was closed while waiting for {what}")
            if time.monotonic() > deadline:
                details = report() if report else ""
                raise LocalAirflowError(
                    f"timed out after {timeout:.0f} s waiting for {what}\n{details}\n{self.airflow.diagnosis(lines=15)}"
                )
        return answer

    def interrupt(self) -> None:
        """Make all waiting threads fail."""
        self._closed.set()
        self.abort_barriers()

    def _poll_task_instances(self) -> None:
        # One request for all runs, which keeps the load on the API server low.
        while not self._closed.wait(self.poll_interval):
            with contextlib.suppress(requests.RequestException, LocalAirflowError):
                response = self.airflow.api("GET", "/dags/~/dagRuns/~/taskInstances", params={"limit": 1000})
                rows = response["task_instances"]
                self._task_instances = {(ti["dag_id"], ti["dag_run_id"], ti["task_id"]): ti for ti in rows}


@dataclass
class Run:
    """One DAG run, with its task `sync` and the executions of its sync."""

    stage: Stage
    sync_id: str
    kind: str = "bulk"
    dag_id: str = ""
    run_id: str = field(default_factory=lambda: f"run-{uuid.uuid4().hex[:8]}")
    task_id: str = "sync"

    def trigger(self, dag: str, **conf: Any) -> Run:
        """Start a run of the DAG of that name for the kind of the sync."""
        self.dag_id = f"{dag}_{self.kind}"
        self.stage.airflow.trigger(self.dag_id, self.run_id, {"sync": self.sync_id, **conf})
        return self

    # --- Airflow

    @property
    def task(self) -> dict[str, Any]:
        """The task instance; empty when there is none yet."""
        return self.stage.task_instance(self.dag_id, self.run_id, self.task_id) or {}

    @property
    def state(self) -> str | None:
        return self.task.get("state")

    @property
    def try_number(self) -> int:
        """Read now. `task` is as of the last poll, and a new try may have begun."""
        return int(self.stage.airflow.task_instance(self.dag_id, self.run_id, self.task_id)["try_number"])

    @property
    def returned(self) -> str | None:
        """The execution id that the task returned; None if it has not succeeded."""
        if self.state != "success":
            return None
        return str(self.stage.airflow.xcom(self.dag_id, self.run_id, self.task_id))

    @property
    def link(self) -> str | None:
        """The URL of the task's link to its execution."""
        return self.stage.airflow.link(self.dag_id, self.run_id, self.task_id)

    def log_lines(self, try_number: int | None = None) -> list[LogLine]:
        return self.stage.airflow.task_log_lines(self.dag_id, self.run_id, self.task_id, try_number)

    def log(self, try_number: int | None = None) -> str:
        return "\n".join(map(str, self.log_lines(try_number)))

    def until(self, probe: Callable[[], T | None], what: str, timeout: float = TIMEOUT) -> T:
        return self.stage.until(probe, f"{what} ({self})", timeout, self.report)

    def until_state(self, *states: str, timeout: float = TIMEOUT) -> str:
        """Wait until the task is in one of these states."""
        return self.until(
            lambda: self.state if self.state in states else None, f"the task to be {' or '.join(states)}", timeout
        )

    def process(self) -> Process:
        """Wait for the process in which the task runs, and return it."""

        def find_process() -> Process | None:
            if self.state != "running":
                return None
            return next((p for p in self.stage.airflow.processes() if p.pid == self.task["pid"]), None)

        return self.until(find_process, "a process of the task")

    def worker(self) -> Process:
        """Return the executor's worker process, which has started the task's process."""
        parent = self.process().parent
        return next(process for process in self.stage.airflow.processes() if process.pid == parent)

    def kill(self, sig: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the task's process."""
        pid = self.process().pid
        os.kill(pid, sig)
        return pid

    def clear(self) -> None:
        self.stage.airflow.clear(self.dag_id, self.run_id, self.task_id)

    def mark(self, state: str) -> None:
        self.stage.airflow.patch_task_state(self.dag_id, self.run_id, self.task_id, state)

    # --- Polytomic

    @property
    def path(self) -> str:
        return f"/api/{'bulk/' if self.kind == 'bulk' else ''}syncs/{self.sync_id}/executions"

    @property
    def started(self) -> list[Execution]:
        """The executions that were started, oldest first."""
        return self.stage.sandbox.starts(self.sync_id)

    @property
    def statuses(self) -> list[str]:
        """The current status of each execution."""
        return [self.stage.sandbox.status(execution.id) for execution in self.started]

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests for executions of this sync."""
        return [request for request in self.stage.sandbox.requests if request.path.startswith(self.path)]

    @property
    def cancel_requests(self) -> list[str]:
        """The id of the execution in each request to cancel one."""
        return [request.path.split("/")[-2] for request in self.requests if request.path.endswith("/cancel")]

    def until_started(self, number: int = 1) -> Execution:
        """Wait until that many executions have been started, and return the last of them."""
        return self.until(lambda: len(self.started) >= number and self.started[number - 1], f"execution {number}")

    def poll_count(self, execution: Execution) -> int:
        """Return how often an execution was polled, directly or in a batch status request."""
        path = f"{self.path}/{execution.id}"
        return sum(
            request.path == path
            or (request.path == "/api/bulk/syncs/status" and self.sync_id in request.query.get("sync_id", ()))
            for request in list(self.stage.sandbox.requests)
        )

    def until_polled(self, execution: Execution, times: int = 1) -> None:
        self.until(lambda: self.poll_count(execution) >= times, "a poll of the execution")

    def finish(self, status: str = "completed") -> Execution:
        """End the running execution."""
        execution = self.until(lambda: self.stage.sandbox.running(self.sync_id), "a running execution")
        self.stage.sandbox.finish(self.sync_id, execution.id, status)
        return execution

    def hold(self, on: str, *, after: bool = False, skip: int = 0) -> Fault:
        """Hold the next matching request for the sync's executions, before it is processed or ``after``.

        :param on: the method, and the rest of the path: ``GET``, ``POST``, ``GET /[^/]+``.
        :param skip: the number of matching requests that pass before.
        """
        method, _, rest = on.partition(" ")
        pattern = f"{method} {self.path}{rest}"
        faults = self.stage.sandbox.faults
        for _ in range(skip):
            faults.delay(0, pattern)
        return faults.delay(MAX_HOLD, pattern, after=after)

    def release(self, held: Fault, seconds: float) -> None:
        """Release a held request after that many seconds."""
        threading.Timer(seconds, held.release).start()

    def __str__(self) -> str:
        return f"run {self.run_id} of {self.dag_id}"

    def report(self) -> str:
        """Return the task's state, executions, requests and log, for messages."""
        lines = [f"task: {[self.task.get(name) for name in ('state', 'try_number', 'max_tries')]}"]
        lines += [f"execution {e.id}: {status}" for e, status in zip(self.started, self.statuses, strict=False)]
        requests = [f"{r.method} {r.path} {r.headers.get('idempotency-key', '')} -> {r.status}" for r in self.requests]
        lines += [f"{sum(1 for _ in same)} x {line}" for line, same in itertools.groupby(requests)]
        return "\n".join([*lines, self.log()])


def open_ended_sync(name: str, kind: str = "bulk", schemas: int = 2) -> Spec:
    """Return a sync whose executions run until a test ends or cancels them; a cancellation takes a second."""
    if kind == "model":
        return ModelSyncSpec(name=name, duration=UNTIL_ENDED, cancel_duration=1.0)
    return BulkSyncSpec(
        name=name,
        schemas=[SchemaSpec(f"table_{number}") for number in range(schemas)],
        duration=UNTIL_ENDED,
        cancel_duration=1.0,
    )
