"""Statistics: pure functions over measured data."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from statistics import median
from typing import Any

BEAT = 0.01  # seconds between two beats, which measure the lag of the event loop
STALL = 0.2  # seconds; Airflow warns of longer ones


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values), "times": len(values)}


def ratios(these: Sequence[float | None], those: Sequence[float | None]) -> list[float]:
    """Divide values by those of the same repetition, where both were measured."""
    return [this / that for this, that in zip(these, those, strict=False) if this is not None and that]


def all_lags(lags: Sequence[float]) -> list[float]:
    """Return the lags of all beats, including those missed in a stall: a stall of 1 s delays a hundred beats."""
    felt = []
    for lag in lags:
        felt.append(max(lag, 0.0))
        felt += [lag - missed * BEAT for missed in range(1, int(lag / BEAT))]
    return felt


class Heart:
    """The beats: their times, the CPU time of the process until then, and their lags."""

    def __init__(self, beats: Sequence[float], price: float) -> None:
        self.at, self._used, self._late = beats[0::3], beats[1::3], beats[2::3]
        self._price = price  # seconds of CPU time of a beat

    def cpu(self, begin: float, end: float) -> float:
        """Return the seconds of CPU time between two times, without that of the beats."""
        return self._used_by(end) - self._used_by(begin)

    def _used_by(self, moment: float) -> float:
        index = bisect_left(self.at, moment)
        if index == 0:
            return self._used[0]
        if index == len(self.at):
            return self._used[-1] - self._price * (index - 1)
        before, after = self.at[index - 1], self.at[index]
        share = (moment - before) / (after - before)
        used = self._used[index - 1] + share * (self._used[index] - self._used[index - 1])
        return used - self._price * (index - 1 + share)

    def lags(self, begin: float, end: float) -> list[float]:
        return all_lags([late for at, late in zip(self.at, self._late, strict=True) if begin <= at <= end])


def of_waiting(spec: dict[str, Any], probe: dict[str, Any], server: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of one measurement of waiters.

    A poll alone is one of the steady state. All in, a poll has its share of what its waiter costs from start to event.
    The steady state lasts from the first response to the last waiter until the first work ends.

    :param probe: what the process with the waiters reports.
    :param server: what the server reports.
    """
    waiters, intervals, interval = spec["waiters"], spec["intervals"], spec["interval"]
    heart = Heart(probe["beats"], probe["price"])
    lags = heart.lags(probe["began"], probe["ended"])
    result: dict[str, Any] = {
        "lag_p99_ms": quantile(lags, 0.99) * 1000,
        "lag_max_ms": max(lags) * 1000,
        "collection_max_ms": probe["longest_collection"] * 1000,
        "stalls": sum(late > STALL for late in probe["beats"][2::3]),
        "tls_contexts_per_waiter": probe["tls_contexts"] / waiters,
        "kb_per_waiter": (probe["most_memory"] - probe["memory"]) / 1024 / waiters,
        "cpu_ms_per_life": heart.cpu(probe["began"], probe["ended"]) * 1000 / waiters,
        "wall_s": probe["ended"] - probe["began"],
    }
    cpu = heart.cpu(server["steady"], server["first_end"]) * 1000
    polls = server["steady_polls"]
    result["all_in_ms_per_poll"] = result["cpu_ms_per_life"] * waiters / server["polls"] if server["polls"] else None
    result["cpu_ms_per_poll"] = cpu / polls if polls else None
    result["cpu_ms_per_interval"] = cpu / waiters / intervals
    result["core_percent"] = cpu / 10 / (intervals * interval)
    if polls:
        before = heart.cpu(probe["began"], server["steady"]) * 1000
        result["fixed_ms_per_waiter"] = (before - server["polls_before"] * cpu / polls) / waiters
    if not server["requests"]:  # waiters without requests
        return result
    result |= {
        "polls_per_interval": polls / waiters / intervals,
        "requests_per_interval": server["steady_requests"] / waiters / intervals,
        "requests_per_poll": server["steady_requests"] / polls if polls else None,
        "gets_per_waiter": server["gets"] / waiters,
        "gets_of_ended_per_waiter": server["gets_of_ended"] / waiters,
        "connections": server["connections"],
        "most_connections": server["most_connections"],
        "left_connections": server["left_connections"],
    }
    after_answer, latencies, beyond = [], [], []
    for ended, running, answered, event in zip(
        server["ends"], server["running"], server["reported"], probe["events"], strict=True
    ):
        after_answer.append((event - answered) * 1000)
        latencies.append((event - ended) * 1000)
        # A waiter with exact intervals polls next at this time, and cannot detect an end before.
        beyond.append((event - max(ended, running + interval)) * 1000)
    for name, values in (("event_after_answer", after_answer), ("detection", latencies), ("beyond_phase", beyond)):
        result |= {f"{name}_p50_ms": median(values), f"{name}_p95_ms": quantile(values, 0.95)}
        result[f"{name}_max_ms"] = max(values)
    return result
