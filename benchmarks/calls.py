"""Part ``calls``: the costs of single calls and lists in a worker, over plain HTTP."""

from __future__ import annotations

import gc
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from . import probe
from .figures import ratios, spread
from .work import execution_id, sync_id

if TYPE_CHECKING:
    from .harness import Bench

LISTED, PAGE = 5000, 100
GETS = 200

Client = tuple[Callable[[], Any], Callable[[], Iterator[Any]]]  # get an execution; list the executions


def plain(port: int) -> Client:
    """Return the minimal client: requests and json."""
    import requests

    session = requests.Session()
    session.headers["Authorization"] = "Bearer key"
    executions = f"http://localhost:{port}/api/bulk/syncs/{sync_id(1)}/executions"

    def get() -> Any:
        return session.get(f"{executions}/{execution_id(1)}").json()["data"]

    def walk() -> Iterator[Any]:
        token = None
        while True:
            page = session.get(executions, params={"page_token": token} if token else None).json()
            yield from page["data"]
            token = page["pagination"].get("next_page_token")
            if not token:
                return

    return get, walk


def provider(port: int) -> Client:
    connection = {"conn_type": "polytomic", "host": f"http://localhost:{port}", "password": "key"}
    os.environ["AIRFLOW_CONN_BENCHMARK"] = json.dumps(connection)
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

    hook = PolytomicHook("benchmark")
    return (
        lambda: hook.get_bulk_sync_execution(sync_id(1), execution_id(1)),
        lambda: hook.list_bulk_sync_executions(sync_id(1)),
    )


def sdk(port: int) -> Client:
    from polytomic import Polytomic

    executions = Polytomic(base_url=f"http://localhost:{port}", token="key").bulk_sync.executions

    def walk() -> Iterator[Any]:
        token = None
        while True:
            page = executions.list(sync_id(1), page_token=token)
            yield from page.data
            token = page.pagination.next_page_token
            if not token:
                return

    return lambda: executions.get(sync_id(1), execution_id(1)).data, walk


CLIENTS = {"requests": plain, "provider": provider, "sdk": sdk}


def cpu_ms(do: Callable[[], Any], times: int) -> float:
    used = time.process_time()
    for _ in range(times):
        do()
    return (time.process_time() - used) * 1000 / times


def peak_kb(do: Callable[[], Any]) -> float:
    """Return the peak memory of Python objects during a call."""
    tracemalloc.start()
    do()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1024


def count(items: Iterator[Any]) -> int:
    return sum(1 for _ in items)


def main(spec: dict[str, Any]) -> dict[str, Any]:
    get, walk = CLIENTS[spec["client"]](spec["port"])
    get()  # connects, and imports what is imported once
    gc.collect()  # so that no collection of objects from the imports is measured
    result = {"get_ms": cpu_ms(get, GETS)}
    if spec["listed"]:
        count(islice(walk(), PAGE))
        if count(walk()) != LISTED:
            raise RuntimeError("the list is incomplete")
        result["list_ms"] = cpu_ms(lambda: count(walk()), 1)
        result["page_peak_kb"] = peak_kb(lambda: count(islice(walk(), PAGE)))
        result["list_peak_kb"] = peak_kb(lambda: count(walk()))
    return result


# --- in the controlling process


def measure(bench: Bench, times: int) -> dict[str, Any]:
    """Return the costs of each client, and the ratios to the other clients in the same repetition."""
    rows: dict[str, list[dict[str, float]]] = {client: [] for client in CLIENTS}
    for _ in range(times):
        for client in CLIENTS:
            row: dict[str, float] = {}
            for schemas, listed in ((5, LISTED), (200, 0)):
                with bench.serving(tls=False, ended=True, schemas=schemas, listed=listed) as serving:
                    result = bench.measure("calls", {"client": client, "port": serving.port, "listed": listed})
                row[f"get_{schemas}_ms"] = result.pop("get_ms")
                row |= result
            rows[client].append(row)
            print(".", end="", flush=True)
    return {client: _summarize(of_it, rows) for client, of_it in rows.items()}


def _summarize(rows: list[dict[str, float]], others: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        result[name] = spread(values)
        for other in ("requests", "sdk"):
            result[f"{name}_x_{other}"] = spread(ratios(values, [row[name] for row in others[other]]))
    result["peak_x_page"] = spread([row["list_peak_kb"] / row["page_peak_kb"] for row in rows])
    return result


if __name__ == "__main__":
    probe.report(main(probe.begin()))
