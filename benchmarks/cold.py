"""Part ``cold``: the CPU time of a task's process, from the imported operator to its first request and to its end.

A deferred task has two such processes: one that starts the execution and defers, and one that resumes. The reference
sends the same requests with ``requests`` and ``json``, and does nothing else. The tasks of other providers are measured
in the same way, each with the requests that it sends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import ssl
import sys
import time
import traceback
from collections.abc import Callable, Collection
from datetime import datetime, timezone
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from . import probe
from .figures import spread
from .imports import PROVIDER
from .peer_tasks import PEER_TASKS
from .waiters import CONNECTION
from .work import execution_id, sync_id

if TYPE_CHECKING:
    from .harness import Bench

SYNC, EXECUTION = sync_id(0), execution_id(0)
# By kind: the reference, which sends the same requests; None for the references.
KINDS = {
    "requests-start": None,
    "requests-get": None,
    "start": "requests-start",
    "resume": "requests-get",  # sends no request: the least that another provider pays to read the result
    "sensor": "requests-get",
}
LOADED = [  # by Airflow, before it calls a task
    "airflow.dag_processing.dagbag",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
]
REFERENCES = [kind for kind, reference in KINDS.items() if reference is None]
OWN_LOADED = [f"{PROVIDER}.operators.bulk_sync", f"{PROVIDER}.sensors.bulk_sync"]
# Modules that no task needs which waits for an execution.
UNNEEDED = {
    *("aiohttp", "asgiref.sync", "jsonschema", "yaml"),
    *(f"{PROVIDER}.{name}" for name in ("sandbox", "api.events", "api.models.events", "api.models.connections")),
}


_event: dict[str, Any] = {}  # with which the trigger resumes the task


class Context(dict[str, Any]):
    """The template context of a task, as far as operators and sensors use it."""

    def __init__(self, map_index: int = -1) -> None:
        ti = SimpleNamespace(
            dag_id="cold",
            run_id="run",
            task_id="task",
            map_index=map_index,
            try_number=1,
            max_tries=0,
            start_date=datetime.now(timezone.utc),
            xcom_push=lambda **xcom: json.dumps(xcom),
        )
        super().__init__(ti=ti, dag_run=SimpleNamespace(start_date=ti.start_date, conf={}))


# --- what is measured


def start(_base_url: str) -> Any:
    """Start an execution and defer: list, start, poll."""
    from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

    task = PolytomicBulkSyncOperator(
        task_id="task", sync_id=SYNC, polytomic_conn_id=CONNECTION, deferrable=True, assets=False
    )
    return catch_deferral(task, Context())


def catch_deferral(task: Any, context: Context) -> Any:
    """Execute a task until it defers, and return its trigger as Airflow stores it."""
    try:
        task.execute(context)
    except BaseException as deferral:
        if type(deferral).__name__ != "TaskDeferred":
            raise
        return deferral.trigger.serialize()
    raise RuntimeError("not deferred")


def resume(_base_url: str) -> Any:
    """Resume after the execution has ended: judge and report it."""
    from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

    task = PolytomicBulkSyncOperator(
        task_id="task", sync_id=SYNC, polytomic_conn_id=CONNECTION, deferrable=True, assets=False
    )
    return task.execute_complete(Context(), _event)


def sensor(_base_url: str) -> Any:
    """Poll an execution that is running."""
    from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor

    task = PolytomicBulkSyncSensor(task_id="task", sync_id=SYNC, execution_id=EXECUTION, polytomic_conn_id=CONNECTION)
    return task.poke(Context())


def requests_start(base_url: str) -> Any:
    """The requests of ``start``."""
    send, executions = _sender(), f"{base_url}/api/bulk/syncs/{SYNC}/executions"
    send("GET", executions, params={"limit": 100})
    started = send("POST", executions, json={}, headers={"Idempotency-Key": "a" * 64})
    return send("GET", f"{executions}/{started['id']}")["status"]


def requests_get(base_url: str) -> Any:
    """The request of ``sensor``."""
    return _sender()("GET", f"{base_url}/api/bulk/syncs/{SYNC}/executions/{EXECUTION}")["status"]


def _sender() -> Callable[..., Any]:
    import requests
    from airflow.sdk import BaseHook

    connection = BaseHook.get_connection(CONNECTION)
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {connection.password}"

    def send(method: str, url: str, **options: Any) -> Any:
        response = session.request(method, url, verify=connection.extra_dejson["verify"], **options)
        response.raise_for_status()
        return response.json()["data"]

    return send


def event() -> Any:
    """The trigger event of an execution that has ended."""
    from airflow_provider_polytomic._airflow.deferral import DeferralState, ExecutionEvent
    from airflow_provider_polytomic.api.executions.event_summary import to_event_summary
    from airflow_provider_polytomic.api.models import BulkSyncExecution

    schemas = [{"schema": f"schema_{number}", "status": "completed", "record_count": 100} for number in range(5)]
    execution = BulkSyncExecution.model_validate(
        {"id": EXECUTION, "status": "completed", "completed_at": "2026-11-01T10:00:00Z", "schemas": schemas}
    )
    state = DeferralState(try_number=1, origin="started")
    summary = to_event_summary(SYNC, execution)
    return ExecutionEvent("ended", SYNC, EXECUTION, state, execution=summary).to_payload()


# --- in the measured process


METHODS = (b"GET ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ")


class Requests:
    """Counts the requests that the process sends over TLS, with any library, and notes its CPU time at the first."""

    def __init__(self) -> None:
        self.number = 0
        self.first: float | None = None
        send = ssl.SSLSocket.send

        def recorded(connection: Any, data: Any, *args: Any) -> int:
            if bytes(data[:8]).startswith(METHODS):
                self.number += 1
                self.first = self.first or time.process_time()
            return send(connection, data, *args)

        ssl.SSLSocket.send = recorded  # type: ignore[method-assign]


def main(spec: dict[str, Any]) -> dict[str, Any]:
    """Load Airflow once, and measure each kind in processes that are forked from it, as Airflow forks its tasks."""
    peer = PEER_TASKS.get(spec["venv"])
    modules = [peer.module] if peer else OWN_LOADED
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    import_costs = [forked(partial(cost_of_import, modules[0])) for _ in range(spec["times"] + 1)]
    for name in modules:
        importlib.import_module(name)
    base_url = f"https://localhost:{spec['port']}"
    if peer:
        peer.connect(f"localhost:{spec['port']}")
    else:
        os.environ[f"AIRFLOW_CONN_{CONNECTION.upper()}"] = json.dumps(
            {"conn_type": "polytomic", "host": base_url, "password": "benchmark", "extra": {"verify": spec["bundle"]}}
        )
    from airflow.sdk import BaseHook
    from airflow.sdk.bases.operator import ExecutorSafeguard

    BaseHook.get_connection(CONNECTION)  # Airflow's part of the first read of a connection
    ExecutorSafeguard.test_mode = True  # otherwise it warns of calls by others than Airflow
    runs: dict[str, Callable[[], Any]]
    if peer:
        runs = {
            "start": lambda: catch_deferral(peer.make(), Context()),
            "resume": lambda: peer.make().execute_complete(Context(), peer.event),
        }
    else:
        global _event
        _event = forked(event)
        runs = {kind: partial(globals()[kind.replace("-", "_")], base_url) for kind in KINDS}
    gc.collect()
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in runs}
    for repetition in range(spec["times"] + 1):
        for kind, run in runs.items():
            row = forked(lambda run=run: once(run))
            if repetition:  # the first repetition compiles
                rows[kind].append({**row, "import_ms": None if kind in REFERENCES else import_costs[repetition]})
    return rows


def forked(measure: Callable[[], Any]) -> Any:
    """Call a function in a process of its own, and return its result."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writable, json.dumps(measure()).encode())
        except Exception:  # noqa: BLE001  the process ends here
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writable)
    with open(readable, "rb") as results:
        body = results.read()
    os.waitpid(child, 0)
    if not body:
        raise RuntimeError("a measured process failed")
    return json.loads(body)


def cost_of_import(module: str) -> float:
    """The CPU time of importing an operator, as the process of each task does with its DAG file, in ms."""
    began = time.process_time()
    importlib.import_module(module)
    return (time.process_time() - began) * 1000


def once(run: Callable[[], Any]) -> dict[str, Any]:
    requests, before = Requests(), set(sys.modules)
    began = time.process_time()
    run()
    ended = time.process_time()
    added = set(sys.modules) - before
    return {
        "first_request_ms": None if requests.first is None else (requests.first - began) * 1000,
        "total_ms": (ended - began) * 1000,
        "requests": requests.number,
        "modules": len(added),
        "own_modules": sum(name.startswith(PROVIDER) for name in added),
        "unneeded": sorted(name for name in added if name in UNNEEDED),
        "http": "requests" in added,
    }


# --- in the controlling process


def measure(bench: Bench, times: int, peers: Collection[str]) -> dict[str, Any]:
    """Measure all kinds of a provider alternately: of this one, and of others."""
    result: dict[str, Any] = {}
    for venv in ("provider", *(peer for peer in PEER_TASKS if peer in peers)):
        with bench.serving(intervals=10_000) as serving:
            spec = {"venv": venv, "times": times, "port": serving.port, "bundle": str(bench.bundle)}
            rows = bench.measure("cold", spec, venv)
        prefix = "" if venv == "provider" else f"{venv}-"
        result |= {f"{prefix}{kind}": _summarize(kind, rows, is_peer=bool(prefix)) for kind in rows}
    return result


def _summarize(kind: str, rows: dict[str, list[dict[str, Any]]], *, is_peer: bool) -> dict[str, Any]:
    """Ratios compare the lowest values: other processes of the machine only add to CPU time."""
    own = rows[kind]
    result: dict[str, Any] = {name: own[0][name] for name in ("requests", "modules", "own_modules", "unneeded", "http")}
    reference = None if is_peer else KINDS[kind]
    for name in ("import_ms", "first_request_ms", "total_ms"):
        values = [row[name] for row in own]
        if None in values:
            continue
        result[name] = spread(values)
        if reference is not None and name != "import_ms":
            result[f"{name}_x_requests"] = min(values) / min(row[name] for row in rows[reference])
    return result


if __name__ == "__main__":
    probe.report(main(probe.begin()))
