"""Part ``growth``: how costs grow with the schemas of an execution, the waiters of a triggerer, and mapped tasks.

A cost that is linear or better grows at most as much as the work: its ratio is at most ten from one size to the next.
For waiters and tasks, the cost of each stays the same or falls.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import probe, waiting
from .calls import peak_kb
from .cold import Context, catch_deferral
from .figures import spread
from .server import Bodies
from .waiters import CONNECTION
from .work import execution_id, sync_id

if TYPE_CHECKING:
    from .harness import Bench

SCHEMAS = (1, 10, 100, 1000, 10_000)
WAITERS = (10, 100, 1000, 10_000)
WAITING = {"intervals": 2, "interval": 5.0, "schemas": waiting.SCHEMAS}  # the same for each number of waiters
WAITER_FIGURES = (
    "cpu_ms_per_life",
    "all_in_ms_per_poll",
    "kb_per_waiter",
    "lag_max_ms",
    "collection_max_ms",
    "detection_max_ms",
)
TASKS = (1, 10, 100, 1000)
STEPS = ("read", "judge", "summarize", "event", "tables")
LEAST = 0.05  # seconds of CPU per value


def schemas_main(number: int) -> dict[str, float]:
    """The CPU time of what a task and its trigger do once with an execution, in ms, and the memory of reading it."""
    from airflow_provider_polytomic._airflow.deferral import ExecutionEvent
    from airflow_provider_polytomic.api.call import decode
    from airflow_provider_polytomic.api.executions.event_summary import from_event_summary, to_event_summary
    from airflow_provider_polytomic.api.executions.messages import format_progress
    from airflow_provider_polytomic.api.executions.outcome import failure_reason
    from airflow_provider_polytomic.api.executions.summary import summarize
    from airflow_provider_polytomic.api.executions.tables import tables_without_lookup
    from airflow_provider_polytomic.api.kinds import get_sync_kind
    from airflow_provider_polytomic.api.plan import Response

    kind, sync, execution = get_sync_kind("bulk"), sync_id(1), execution_id(1)
    call, response = kind.execution(sync, execution), Response(200, {}, Bodies(number).bulk(1, ended=True))
    read = decode(call, response)

    def event() -> None:
        payload = ExecutionEvent("ended", sync, execution, execution=to_event_summary(sync, read)).to_payload()
        from_event_summary(kind, json.loads(json.dumps(payload))["execution"])

    steps: dict[str, Callable[[], Any]] = {
        "read": lambda: decode(call, response),
        "judge": lambda: (failure_reason(read), format_progress(read)),
        "summarize": lambda: json.dumps(summarize(sync, read)),
        "event": event,
        "tables": lambda: tables_without_lookup(sync, read, "https://localhost"),
    }
    costs = {f"{name}_ms": cpu_ms(step) for name, step in steps.items()}
    return costs | {"event_kb": len(json.dumps(to_event_summary(sync, read))) / 1024, "peak_kb": peak_kb(steps["read"])}


def tasks_main(number: int, base_url: str, bundle: str) -> dict[str, float]:
    """The CPU time that the provider takes for each task of a mapped operator, in one process.

    For each task, the operator is made of the mapped one, its templates are rendered, and it starts an execution and
    defers, with a TLS session of its own.
    """
    os.environ[f"AIRFLOW_CONN_{CONNECTION.upper()}"] = json.dumps(
        {"conn_type": "polytomic", "host": base_url, "password": "benchmark", "extra": {"verify": bundle}}
    )
    from airflow.sdk import DAG
    from airflow.sdk.bases.operator import ExecutorSafeguard

    from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

    ExecutorSafeguard.test_mode = True
    with DAG("growth", schedule=None) as dag:
        mapped = PolytomicBulkSyncOperator.partial(
            task_id="task", polytomic_conn_id=CONNECTION, deferrable=True, assets=False
        ).expand(sync_id=[f"{{{{ '{sync_id(task)}' }}}}" for task in range(number + 1)])

    def run(map_index: int) -> None:
        context = Context(map_index)
        context["dag"] = dag
        mapped.render_template_fields(context)
        catch_deferral(context["task"], context)

    run(number)  # imports
    gc.collect()
    began, memory = time.process_time(), probe.memory()
    for task in range(number):
        run(task)
    return {
        "cpu_ms_per_task": (time.process_time() - began) * 1000 / number,
        "memory_mb": (probe.memory() - memory) / 2**20,
    }


def cpu_ms(do: Callable[[], Any]) -> float:
    """The CPU time of a call, repeated until it can be measured."""
    do()
    gc.collect()
    times, used, began = 0, 0.0, time.process_time()
    while used < LEAST:
        do()
        times += 1
        used = time.process_time() - began
    return used * 1000 / times


def main(spec: dict[str, Any]) -> dict[str, Any]:
    if "schemas" in spec:
        return schemas_main(spec["schemas"])
    return tasks_main(spec["tasks"], f"https://localhost:{spec['port']}", spec["bundle"])


# --- in the controlling process


def measure(bench: Bench, times: int) -> dict[str, Any]:
    """Measure all sizes: of schemas several times, of waiters and of tasks once, because each takes minutes."""
    by_schemas: dict[int, list[dict[str, float]]] = {number: [] for number in SCHEMAS}
    by_waiters: dict[int, list[dict[str, float]]] = {number: [] for number in WAITERS}
    by_tasks: dict[int, list[dict[str, float]]] = {number: [] for number in TASKS}
    for _ in range(times):
        for number, rows in by_schemas.items():
            rows.append(bench.measure("growth", {"schemas": number}))
        print(".", end="", flush=True)
    for number, rows in by_waiters.items():
        measured = waiting.measure_once(bench, {"kind": "provider", "waiters": number, **WAITING})
        rows.append({name: measured[name] for name in WAITER_FIGURES})
        print(".", end="", flush=True)
    for number, rows in by_tasks.items():
        with bench.serving(intervals=10_000) as serving:
            spec = {"tasks": number, "port": serving.port, "bundle": str(bench.bundle)}
            rows.append(bench.measure("growth", spec))
        print(".", end="", flush=True)
    found = {"schemas": by_schemas, "waiters": by_waiters, "tasks": by_tasks}
    return {what: _summarize(measured) for what, measured in found.items()}


def _summarize(measured: dict[int, list[dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        str(size): {name: spread([row[name] for row in rows]) for name in rows[0]} for size, rows in measured.items()
    }


if __name__ == "__main__":
    probe.report(main(probe.begin()))
