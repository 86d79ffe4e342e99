"""Goals: the maximum costs of this provider, and whether a run meets them.

Counts are exact on any machine. CPU time, memory and delays vary between runs and machines, so they may exceed their
goal by a quarter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

from .growth import STEPS, WAITING
from .waiters import BATCH, KINDS
from .waiting import SCHEMAS, scenes

TOLERANCE = 0.25
PEERS = [name for name, kind in KINDS.items() if kind.is_peer]


@dataclass(frozen=True)
class Goal:
    name: str
    limit: float
    value: float | None  # None: not measured in this run
    exact: bool = False

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.value <= self.limit:
            return "met"
        return "within tolerance" if not self.exact and self.value <= self.limit * (1 + TOLERANCE) else "MISSED"


def goals(result: dict[str, Any]) -> list[Goal]:
    """Return all goals with the values of a run."""
    return [
        *_waiting(result),
        *_lives(result.get("lives")),
        *_restart(result.get("restart", {})),
        *_imports(result),
        *_cold(result.get("cold", {})),
        *_calls(result),
        *_growth(result.get("growth", {})),
    ]


def failed(result: dict[str, Any]) -> bool:
    return any(goal.verdict == "MISSED" for goal in goals(result))


def _waiting(result: dict[str, Any]) -> Iterator[Goal]:
    rows = result.get("waiting", [])
    found = scenes(rows)
    intervals = min((row["intervals"] for row in rows), default=1)
    rounds = (intervals + 1) / intervals  # polls per interval, because one more begins at once

    def of(kind: str, waiters: int, figure: str, which: str = "median", schemas: int = SCHEMAS) -> float | None:
        return found.get((waiters, schemas), {}).get(kind, {}).get(figure, {}).get(which)

    for waiters in (200, 1000):
        at = f", {waiters} waiters"
        provider = of("provider", waiters, "cpu_ms_per_poll")
        peers = [cost for peer in PEERS if (cost := of(peer, waiters, "cpu_ms_per_poll")) is not None]
        best = provider / min(peers) if provider is not None and peers else None
        together = ceil(waiters / BATCH) / waiters * rounds
        yield Goal(f"batched: CPU per poll, x A10{at}", 0.15, of("provider", waiters, "x_reference"))
        all_in = of("provider", waiters, "all_in_x_reference")
        yield Goal(f"batched: CPU per poll with start and end, x A10{at}", 0.3, all_in)
        yield Goal(f"batched: CPU per poll, x the best other provider{at}", 0.02, best)
        asked = of("provider", waiters, "requests_per_interval", "max")
        yield Goal(f"batched: requests per waiter and interval{at}", together, asked, exact=True)
        gets = of("provider", waiters, "gets_per_waiter", "max")
        yield Goal(f"batched: own requests per waiter, in all{at}", 1, gets, exact=True)
        yield Goal(f"unbatched: CPU per poll, x A10{at}", 1.5, of("provider-unbatched", waiters, "x_reference"))
        polled = of("provider-unbatched", waiters, "polls_per_interval", "max")
        yield Goal(f"unbatched: polls per waiter and interval{at}", rounds, polled, exact=True)
        per_poll = of("provider-unbatched", waiters, "requests_per_poll", "max")
        yield Goal(f"unbatched: requests per poll{at}", 1, per_poll, exact=True)
        at_end = of("provider-unbatched", waiters, "gets_of_ended_per_waiter", "max")
        yield Goal(f"unbatched: requests after the end{at}", 1, at_end, exact=True)
        for kind in ("provider", "provider-unbatched"):
            at = f", {kind}, {waiters} waiters"
            yield Goal(f"connections at once{at}", 10, of(kind, waiters, "most_connections", "max"), exact=True)
            contexts = of(kind, waiters, "tls_contexts_per_waiter", "max")
            yield Goal(f"TLS contexts per waiter{at}", 0, contexts, exact=True)
            yield Goal(f"fixed CPU per waiter, ms{at}", 1, of(kind, waiters, "fixed_ms_per_waiter"))
            if waiters == 200:
                yield Goal(f"longest stall, ms{at}", 50, of(kind, waiters, "lag_max_ms"))
            else:
                yield Goal(f"lag p99, ms{at}", 50, of(kind, waiters, "lag_p99_ms"))
                yield Goal(f"stalls above 200 ms{at}", 0, of(kind, waiters, "stalls"), exact=True)
                memory, harness = of(kind, waiters, "kb_per_waiter"), of("null", waiters, "kb_per_waiter")
                above = memory - harness if memory is not None and harness is not None else None
                yield Goal(f"memory per waiter above the harness, kB{at}", 25, above)
            yield Goal(f"event beyond the phase, p50, ms{at}", 20, of(kind, waiters, "beyond_phase_p50_ms"))
            yield Goal(f"event beyond the phase, longest, ms{at}", 50, of(kind, waiters, "beyond_phase_max_ms"))
    wide = of("provider", 200, "lag_max_ms", schemas=200)
    yield Goal("longest stall, ms, provider, 200 waiters, 200 schemas each", 50, wide)


def _lives(lives: dict[str, Any] | None) -> Iterator[Goal]:
    for what in ("sessions", "tasks", "files", "connections"):
        yield Goal(f"{what} left after all lives", 0, lives and lives[f"left_{what}"], exact=True)
    yield Goal("objects more per life", 0.1, lives and lives["objects_per_life"])
    yield Goal("memory more after all lives, MB", 5, lives and lives["bytes_per_life"] * lives["lives"] / 1e6)


def _restart(restart: dict[str, Any]) -> Iterator[Goal]:
    for triggers in (200, 1000):
        found = restart.get(str(triggers), {})
        reference = found.get("A10", {}).get("stall_ms", {}).get("median", 0)
        for kind in ("provider", "provider-model"):
            at, of_it = f", restart, {kind}, {triggers} triggers", found.get(kind, {})
            stall = 50 if triggers == 200 else max(200, 1.5 * reference)
            yield Goal(f"longest stall, ms{at}", stall, of_it.get("stall_ms", {}).get("median"))
            yield Goal(f"CPU per trigger, ms{at}", 1, of_it.get("cpu_ms_per_trigger", {}).get("median"))
            yield Goal(f"reads of the connection{at}", 1, of_it.get("reads", {}).get("max"), exact=True)


def _cold(cold: dict[str, Any]) -> Iterator[Goal]:
    for kind in ("start", "sensor"):
        of_it = cold.get(kind, {})
        yield Goal(f"CPU to the first request, {kind}, x requests", 1.25, of_it.get("first_request_ms_x_requests"))
        yield Goal(f"CPU in all, {kind}, x requests", 1.25, of_it.get("total_ms_x_requests"))
    resume = cold.get("resume", {})
    yield Goal("import of requests by a task that resumes", 0, resume.get("http"), exact=True)
    for kind in ("start", "resume", "sensor"):
        unneeded = len(cold[kind]["unneeded"]) if kind in cold else None
        yield Goal(f"unneeded modules, {kind}", 0, unneeded, exact=True)


def _imports(result: dict[str, Any]) -> Iterator[Goal]:
    provider = result.get("imports", {}).get("provider")

    def of(read: Callable[[dict[str, Any]], float]) -> float | None:
        return read(provider) if provider else None

    yield Goal("import of operators and sensors, ms", 5, of(lambda it: it["cpu_ms"]["median"]))
    yield Goal("import: modules", 15, of(lambda it: it["modules"]), exact=True)
    yield Goal("import: HTTP libraries and the API client", 0, of(lambda it: len(it["heavy"])), exact=True)
    yield Goal("provider's metadata: third-party modules", 0, of(lambda it: len(it["third_party"])), exact=True)
    yield Goal("first parse of a file with one task, ms", 8, of(lambda it: it["parse_ms"]["median"]))
    yield Goal("500 tasks, x 500 EmptyOperators", 1.1, of(lambda it: it["many_ratio"]["median"]))


def _calls(result: dict[str, Any]) -> Iterator[Goal]:
    provider = result.get("calls", {}).get("provider", {})

    def of(figure: str) -> float | None:
        return provider[figure]["median"] if provider else None

    yield Goal("get, 5 schemas, x requests and json", 1.1, of("get_5_ms_x_requests"))
    yield Goal("get, 200 schemas, x requests and json", 1.1, of("get_200_ms_x_requests"))
    yield Goal("list of 5,000, x requests and json", 1.1, of("list_ms_x_requests"))
    yield Goal("list of 5,000, x the SDK", 0.3, of("list_ms_x_sdk"))
    yield Goal("list of 5,000: most memory, x that of one page", 1.2, of("peak_x_page"))


def _growth(growth: dict[str, Any]) -> Iterator[Goal]:
    """Costs that are linear or better: ten times the schemas cost at most ten times as much."""
    sizes = growth.get("schemas", {})
    for step in STEPS:
        costs = [found[f"{step}_ms"]["median"] for found in sizes.values()]
        steepest = max((after / before for before, after in pairwise(costs)), default=None)
        yield Goal(f"{step}: cost of ten times the schemas, x", 10, steepest)
    yield Goal("event with 10,000 schemas, kB", 65, sizes["10000"]["event_kb"]["max"] if sizes else None, exact=True)
    for what, figure, name, before in (
        ("waiters", "cpu_ms_per_life", "CPU per waiter", 1000),
        ("waiters", "kb_per_waiter", "memory per waiter", 1000),
        ("tasks", "cpu_ms_per_task", "CPU per mapped task", 100),
    ):
        found = growth.get(what, {})
        many, few = (found.get(str(size), {}).get(figure, {}).get("median") for size in (before * 10, before))
        times = many / few if many and few else None
        yield Goal(f"{before * 10:,} {what} in a process: {name}, x that of {before:,}", 1, times)
    memory = growth.get("tasks", {}).get("1000", {}).get("memory_mb", {}).get("median")
    yield Goal("1,000 mapped tasks in a process: memory more, MB", 25, memory)
    waiters = growth.get("waiters", {})
    latest = waiters["10000"]["detection_max_ms"]["median"] / WAITING["interval"] / 1000 if waiters else None
    yield Goal("last event after its end, 10,000 waiters, intervals", 2, latest)
