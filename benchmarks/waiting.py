"""Part ``waiting``: the costs of many concurrent waiters.

As a module it is the measured process, which runs the waiters as Airflow's triggerer runs triggers.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import probe
from .figures import BEAT, of_waiting, ratios, spread
from .waiters import KINDS, MakeWaiter, Where
from .work import WARM_UP

if TYPE_CHECKING:
    from .harness import Bench

REFERENCE = "A10"
SCHEMAS = 5  # of an execution, by default

IDLE = 2.0  # seconds in which the cost of a beat is measured
MEMORY_EVERY = 10  # beats


class Heart:
    """Beats in the event loop, and records time, CPU time and lag of each beat: see figures.Heart."""

    def __init__(self) -> None:
        self.beats = array("d")
        self.most_memory = 0

    async def beat(self) -> None:
        while True:
            due = time.monotonic() + BEAT
            await asyncio.sleep(BEAT)
            now = time.monotonic()
            self.beats.extend((now, time.process_time(), now - due))
            if len(self.beats) // 3 % MEMORY_EVERY == 0:
                self.most_memory = max(self.most_memory, probe.memory())

    async def price(self) -> float:
        """Return the seconds of CPU time of a beat in an idle process."""
        beating = asyncio.create_task(self.beat())
        await asyncio.sleep(BEAT * 10)
        begun, used = len(self.beats), time.process_time()
        await asyncio.sleep(IDLE)
        price = (time.process_time() - used) / ((len(self.beats) - begun) / 3)
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        return price


async def event_of(waiter: Any) -> float:
    """Run a waiter as the triggerer does, and return the time of its event."""
    import greenback

    await greenback.ensure_portal()
    async for event in waiter.run():
        payload = getattr(event, "payload", event)
        if payload.get("outcome") != "ended" and payload.get("status") != "success":
            raise RuntimeError(f"a waiter failed: {payload}")
    return time.monotonic()


async def all_of(make: MakeWaiter, waiters: int) -> dict[str, Any]:
    contexts = probe.TlsContexts()
    await event_of(make(WARM_UP))  # loads what is loaded once
    gc.collect()
    contexts.made = 0
    price = await Heart().price()
    heart = Heart()
    beating = asyncio.create_task(heart.beat())
    await asyncio.sleep(BEAT * 3)
    memory, collections, began = probe.memory(), probe.Collections(), time.monotonic()
    heart.most_memory = memory
    tasks = []
    for number in range(waiters):
        await asyncio.sleep(0)  # as the triggerer does
        tasks.append(asyncio.create_task(event_of(make(number))))
    events = await asyncio.gather(*tasks)
    ended = time.monotonic()
    await asyncio.sleep(BEAT * 3)
    beating.cancel()
    return {
        "price": price,
        "beats": list(heart.beats),
        "began": began,
        "ended": ended,
        "events": events,
        "memory": memory,
        "most_memory": heart.most_memory,
        "tls_contexts": contexts.made,
        "longest_collection": collections.longest,
    }


async def main(spec: dict[str, Any]) -> dict[str, Any]:
    where = Where(spec["port"], spec["bundle"], spec["interval"], spec["intervals"], spec["schemas"])
    async with KINDS[spec["kind"]].around(where) as make:
        return await all_of(make, spec["waiters"])


# --- in the controlling process


def measure(bench: Bench, kinds: Iterable[str], spec: dict[str, Any], repetitions: range) -> list[dict[str, Any]]:
    """Measure these kinds alternately."""
    measured = []
    for repetition in repetitions:
        for kind in kinds:
            of_it = {"kind": kind, "repetition": repetition, "load": os.getloadavg()[0], **spec}
            measured.append({**of_it, **measure_once(bench, of_it)})
            print(".", end="", flush=True)
    return measured


def measure_once(bench: Bench, spec: dict[str, Any]) -> dict[str, Any]:
    """Measure the waiters of one kind."""
    kind, intervals, interval = KINDS[spec["kind"]], spec["intervals"], spec["interval"]
    settings = {name: spec[name] for name in ("waiters", "intervals", "interval", "schemas")}
    with bench.serving(summary=kind.summary, **settings) as serving:
        at = {"port": serving.port, "bundle": str(bench.bundle)}
        probed = bench.measure("waiting", {**spec, **at}, kind.venv)
    seen = serving.report
    if spec["kind"] == "null":  # as if it had polled
        steady = probed["began"] + interval
        steady_polls = spec["waiters"] * intervals
        polls = {"polls_before": spec["waiters"], "steady_polls": steady_polls, "polls": spec["waiters"] + steady_polls}
        seen |= {"steady": steady, "first_end": steady + intervals * interval, **polls}
    return of_waiting(spec, probed, seen)


FIGURES = {
    "cpu_ms_per_poll": "CPU ms per poll",
    "x_reference": f"x {REFERENCE}",
    "all_in_ms_per_poll": "all in, CPU ms per poll",
    "all_in_x_reference": f"all in, x {REFERENCE}",
    "core_percent": "% of a core",
    "fixed_ms_per_waiter": "fixed ms per waiter",
    "requests_per_interval": "requests per interval",
    "connections": "TLS connections",
    "most_connections": "at once",
    "tls_contexts_per_waiter": "TLS contexts per waiter",
    "kb_per_waiter": "kB per waiter",
    "lag_p99_ms": "lag p99 ms",
    "lag_max_ms": "max",
    "stalls": "stalls",
    "collection_max_ms": "longest garbage collection ms",
    "detection_p50_ms": "end to event p50 ms",
    "detection_max_ms": "max",
    "beyond_phase_p50_ms": "beyond phase p50 ms",
    "beyond_phase_max_ms": "max",
    "event_after_answer_p50_ms": "response to event p50 ms",
    "event_after_answer_max_ms": "max",
}


RATIOS = {"cpu_ms_per_poll": "x_reference", "all_in_ms_per_poll": "all_in_x_reference"}
Summary = dict[str, dict[str, dict[str, float]]]  # by kind and figure


def scenes(measured: Sequence[dict[str, Any]]) -> dict[tuple[int, int], Summary]:
    """Return the summaries by number of waiters and of schemas per execution."""
    numbers = dict.fromkeys((row["waiters"], row["schemas"]) for row in measured)
    return {of: summary([row for row in measured if (row["waiters"], row["schemas"]) == of]) for of in numbers}


def summary(measured: Sequence[dict[str, Any]]) -> Summary:
    """Return median and spread of each figure. Ratios are computed within a repetition."""
    found = {}
    names = {name for row in measured for name, value in row.items() if isinstance(value, (int, float))}
    for kind in dict.fromkeys(row["kind"] for row in measured):
        rows, reference = (
            {row["repetition"]: row for row in measured if row["kind"] == one} for one in (kind, REFERENCE)
        )
        of_it = {}
        for name in names:
            if values := [row[name] for row in rows.values() if row.get(name) is not None]:
                of_it[name] = spread(values)
        both = sorted(rows.keys() & reference.keys())
        for figure, ratio in RATIOS.items():
            costs = ([by[one].get(figure) for one in both] for by in (rows, reference))
            if times := ratios(*costs):
                of_it[ratio] = spread(times)
        found[kind] = of_it
    return found


if __name__ == "__main__":
    probe.report(asyncio.run(main(probe.begin())))
