"""Part ``restart``: a triggerer starts with many deferred tasks, whose executions have all ended meanwhile.

Each trigger gets its connection from Airflow after a round trip, polls once, and fires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from . import probe
from .figures import Heart, quantile, ratios, spread
from .waiters import KINDS, Where
from .waiting import REFERENCE, SCHEMAS, all_of

if TYPE_CHECKING:
    from .harness import Bench

MEASURED = ("provider", "provider-model", REFERENCE)
NUMBERS = (200, 1000)
INTERVAL = 1.0  # seconds between two polls
ROUND_TRIP = 0.01  # seconds


async def main(spec: dict[str, Any]) -> dict[str, Any]:
    where = Where(spec["port"], spec["bundle"], INTERVAL, intervals=1, schemas=SCHEMAS)
    async with KINDS[spec["kind"]].around(where) as make:
        reads = ConnectionReads()
        result = await all_of(make, spec["triggers"])
    return {**result, "reads": max(reads.number - 1, 0)}  # without that of the warm-up


class ConnectionReads:
    """Counts the connections that triggers get from Airflow, and adds a round trip to each."""

    def __init__(self) -> None:
        from airflow.sdk import BaseHook

        self.number = 0
        get: Callable[[str], Awaitable[Any]] = BaseHook.aget_connection

        async def aget_connection(_cls: type[Any], conn_id: str) -> Any:
            self.number += 1
            await asyncio.sleep(ROUND_TRIP)
            return await get(conn_id)

        BaseHook.aget_connection = classmethod(aget_connection)  # type: ignore[method-assign,assignment]


# --- in the controlling process


def measure(bench: Bench, times: int, numbers: tuple[int, ...] = NUMBERS) -> dict[str, Any]:
    """Measure all kinds alternately, for each number of triggers."""
    return {str(number): _measure(bench, times, number) for number in numbers}


def _measure(bench: Bench, times: int, number: int) -> dict[str, Any]:
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in MEASURED}
    for _ in range(times):
        for kind in MEASURED:
            with bench.serving(waiters=number, ended=True) as serving:
                spec = {"kind": kind, "triggers": number, "port": serving.port, "bundle": str(bench.bundle)}
                rows[kind].append(figures(spec, bench.measure("restart", spec)))
            print(".", end="", flush=True)
    result: dict[str, Any] = {}
    for kind, of_it in rows.items():
        result[kind] = {name: spread([row[name] for row in of_it]) for name in of_it[0]}
        for name in ("stall_ms", "cpu_ms_per_trigger"):
            values = ratios([row[name] for row in of_it], [row[name] for row in rows[REFERENCE]])
            result[kind][f"{name}_x_reference"] = spread(values)
    return result


def figures(spec: dict[str, Any], result: dict[str, Any]) -> dict[str, float]:
    """Stalls and CPU time from the first trigger's start to the last event."""
    heart = Heart(result["beats"], result["price"])
    lags = heart.lags(result["began"], result["ended"])
    return {
        "stall_ms": max(lags) * 1000,
        "lag_p99_ms": quantile(lags, 0.99) * 1000,
        "collection_ms": result["longest_collection"] * 1000,
        "cpu_ms_per_trigger": heart.cpu(result["began"], result["ended"]) * 1000 / spec["triggers"],
        "reads": result["reads"],
    }


if __name__ == "__main__":
    probe.report(asyncio.run(main(probe.begin())))
