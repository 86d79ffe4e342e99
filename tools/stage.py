"""A real Airflow beside a sandbox, for many runs of a task side by side: they are watched, disturbed and judged.

    with Stage(folder_of_dags, syncs=10) as stage:
        run = stage.run(stage.syncs[0])
        run.begin("deferred")
        run.until_state("deferred")
        run.finish()
        run.until_state("success")

A DAG here has a task `sync` with `sync_id="{{ dag_run.conf['sync'] }}"`, and there is one for each kind of sync:
`deferred_bulk`, `deferred_model`. Executions run until they are told to end.
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

FOREVER = 100_000.0  # seconds: an execution that somebody has to end
HELD = 90.0  # seconds for which a request is held up
# Deaths are noticed soon, but a busy machine does not make anybody look dead; and there is a slot for every task.
# DAGs that never change are read once: who writes them down again keeps all others from SQLite meanwhile.
CONFIG = {
    "API__MAXIMUM_PAGE_LIMIT": 1000,
    "CORE__MAX_ACTIVE_RUNS_PER_DAG": 100,
    "CORE__MAX_ACTIVE_TASKS_PER_DAG": 100,
    "CORE__PARALLELISM": 24,
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 3600,
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 5,
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": 30,
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 25,
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 15,
}


class Stage:
    """See the module.

    :param dags: the folder of the DAGs.
    :param syncs: how many bulk syncs there are, or what each sync is.
    :param config: more configuration of Airflow, "SECTION__KEY" to value.
    """

    def __init__(self, dags: Path, syncs: int | Sequence[Spec], config: Mapping[str, object] | None = None) -> None:
        specs = [held_sync(f"Sync {number}") for number in range(syncs)] if isinstance(syncs, int) else syncs
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
        self.airflow = LocalAirflow(
            dags,
            {"AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection)},
            config={**CONFIG, **(config or {})},
            with_postgres=True,
        )
        self._gatherings: dict[str, threading.Barrier] = {}
        self._seen: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="stage-watcher", daemon=True)

    def __enter__(self) -> Stage:
        try:
            self.airflow.start()
            self._watcher.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.interrupt()
        if self._watcher.is_alive():
            self._watcher.join()
        self.airflow.stop()
        self._server.close()

    def run(self, sync_id: str) -> Run:
        """A run to be, of a DAG that :meth:`Run.begin` names."""
        return Run(self, sync_id, "model" if sync_id in self._models else "bulk")

    def expect(self, name: str, parties: int, what: Callable[[LocalAirflow], None]) -> None:
        """Do something to Airflow once, as soon as so many threads have called :meth:`gather` for it."""
        self._gatherings[name] = threading.Barrier(parties, lambda: what(self.airflow))

    def gather(self, name: str) -> None:
        """Wait for the others, and for what is done then."""
        self._gatherings[name].wait(180)

    def disperse(self) -> None:
        """Somebody will not come: nobody shall wait for the others any more."""
        for barrier in self._gatherings.values():
            barrier.abort()

    def task_instance(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any] | None:
        """A task instance, as it was within the last second."""
        return self._seen.get((dag_id, run_id, task_id))

    def until(
        self, probe: Callable[[], T | None], what: str, timeout: float = 120, told: Callable[[], str] | None = None
    ) -> T:
        """Ask until the answer is true."""
        deadline = time.monotonic() + timeout
        while not (answer := probe()):
            if self._closed.wait(0.05):
                raise LocalAirflowError(f"the stage was closed while waiting for {what}")
            if time.monotonic() > deadline:
                story = told() if told else ""
                raise LocalAirflowError(
                    f"waited {timeout:.0f} s in vain for {what}\n{story}\n{self.airflow.diagnosis(lines=15)}"
                )
        return answer

    def interrupt(self) -> None:
        """Nobody shall wait for anything any more."""
        self._closed.set()
        self.disperse()

    def _watch(self) -> None:
        # One question for all, so that many who wait do not keep the API server busy.
        while not self._closed.wait(0.4):
            with contextlib.suppress(requests.RequestException, LocalAirflowError):
                answer = self.airflow.api("GET", "/dags/~/dagRuns/~/taskInstances", params={"limit": 1000})
                self._seen = {(ti["dag_id"], ti["dag_run_id"], ti["task_id"]): ti for ti in answer["task_instances"]}


@dataclass
class Run:
    """One run of a DAG, and of its task `sync`."""

    stage: Stage
    sync_id: str
    kind: str = "bulk"
    dag_id: str = ""
    run_id: str = field(default_factory=lambda: f"run-{uuid.uuid4().hex[:8]}")
    task_id: str = "sync"

    def begin(self, way: str, **conf: Any) -> Run:
        self.dag_id = f"{way}_{self.kind}"
        self.stage.airflow.trigger(self.dag_id, self.run_id, {"sync": self.sync_id, **conf})
        return self

    # --- what Airflow says

    @property
    def task(self) -> dict[str, Any]:
        """The task instance; empty as long as there is none."""
        return self.stage.task_instance(self.dag_id, self.run_id, self.task_id) or {}

    @property
    def state(self) -> str | None:
        return self.task.get("state")

    @property
    def link(self) -> str | None:
        """Where the task's link to its execution leads."""
        return self.stage.airflow.link(self.dag_id, self.run_id, self.task_id)

    def log_lines(self, try_number: int | None = None) -> list[LogLine]:
        return self.stage.airflow.task_log_lines(self.dag_id, self.run_id, self.task_id, try_number)

    def log(self, try_number: int | None = None) -> str:
        return "\n".join(map(str, self.log_lines(try_number)))

    def until(self, probe: Callable[[], T | None], what: str, timeout: float = 120) -> T:
        return self.stage.until(probe, f"{what} ({self})", timeout, self.story)

    def until_state(self, *states: str, timeout: float = 120) -> str:
        """Wait until the task is in one of these states."""
        return self.until(
            lambda: self.state if self.state in states else None, f"the task to be {' or '.join(states)}", timeout
        )

    def process(self) -> Process:
        """The process in which the task runs."""

        def alive() -> Process | None:
            if self.state != "running":
                return None
            return next((p for p in self.stage.airflow.processes() if p.pid == self.task["pid"]), None)

        return self.until(alive, "a process of the task")

    def worker(self) -> Process:
        """The executor's worker that has started that process."""
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

    # --- what Polytomic says

    @property
    def path(self) -> str:
        return f"/api/{'bulk/' if self.kind == 'bulk' else ''}syncs/{self.sync_id}/executions"

    @property
    def started(self) -> list[Execution]:
        """The executions that really began, oldest first."""
        return self.stage.sandbox.starts(self.sync_id)

    @property
    def ends(self) -> list[str]:
        """The status of each of them now."""
        return [self.stage.sandbox.status(execution.id) for execution in self.started]

    @property
    def requests(self) -> list[LoggedRequest]:
        """What was answered about this sync's executions."""
        return [request for request in self.stage.sandbox.requests if request.path.startswith(self.path)]

    @property
    def cancelled(self) -> list[str]:
        """The executions that somebody asked to cancel, each as often as that was asked."""
        return [request.path.split("/")[-2] for request in self.requests if request.path.endswith("/cancel")]

    def until_started(self, number: int = 1) -> Execution:
        """Wait until so many executions have begun; returns the last."""
        return self.until(lambda: len(self.started) >= number and self.started[number - 1], f"execution {number}")

    def looks(self, execution: Execution) -> int:
        """How often somebody has asked how an execution does: for itself, or together with others."""
        path = f"{self.path}/{execution.id}"
        return sum(
            request.path == path
            or (request.path == "/api/bulk/syncs/status" and self.sync_id in request.query.get("sync_id", ()))
            for request in list(self.stage.sandbox.requests)
        )

    def until_looked_at(self, execution: Execution, times: int = 1) -> None:
        self.until(lambda: self.looks(execution) >= times, "a look at the execution")

    def finish(self, status: str = "completed") -> Execution:
        """End the execution that runs."""
        execution = self.until(lambda: self.stage.sandbox.running(self.sync_id), "a running execution")
        self.stage.sandbox.finish(self.sync_id, execution.id, status)
        return execution

    def hold(self, on: str, *, after: bool = False, skip: int = 0) -> Fault:
        """Hold up the next request to the sync's executions that matches, before it does anything, or after that.

        :param on: the method, and the rest of the path: ``GET``, ``POST``, ``GET /[^/]+``.
        :param skip: how many to let pass first.
        """
        method, _, rest = on.partition(" ")
        pattern = f"{method} {self.path}{rest}"
        faults = self.stage.sandbox.faults
        for _ in range(skip):
            faults.delay(0, pattern)
        return faults.delay(HELD, pattern, after=after)

    def release(self, held: Fault, seconds: float) -> None:
        """Let through what was held up, after so many seconds."""
        threading.Timer(seconds, held.release).start()

    def __str__(self) -> str:
        return f"run {self.run_id} of {self.dag_id}"

    def story(self) -> str:
        """All that is known of it."""
        lines = [f"task: {[self.task.get(name) for name in ('state', 'try_number', 'max_tries')]}"]
        lines += [f"execution {e.id}: {status}" for e, status in zip(self.started, self.ends, strict=False)]
        asked = [f"{r.method} {r.path} {r.headers.get('idempotency-key', '')} -> {r.status}" for r in self.requests]
        lines += [f"{sum(1 for _ in same)} x {line}" for line, same in itertools.groupby(asked)]
        return "\n".join([*lines, self.log()])


def held_sync(name: str, kind: str = "bulk", schemas: int = 2) -> Spec:
    """A sync whose executions run until somebody ends them; a cancel takes a second."""
    if kind == "model":
        return ModelSyncSpec(name=name, duration=FOREVER, cancel_duration=1.0)
    return BulkSyncSpec(
        name=name,
        schemas=[SchemaSpec(f"table_{number}") for number in range(schemas)],
        duration=FOREVER,
        cancel_duration=1.0,
    )
