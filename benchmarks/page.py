"""The tables of a page, replaced with those of a run: each block after a comment ``<!-- benchmark: name -->``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from .goals import goals
from .harness import VENVS
from .restart import MEASURED
from .tables import number
from .waiting import SCHEMAS, scenes

Block = Sequence[str]
BLOCK = re.compile(r"(?<=<!-- benchmark: )([\w-]+)( -->\n\n)(?:[^\n]+\n)+")
PROVIDERS = {"airbyte": "Airbyte", "dbt-cloud": "dbt Cloud", "fivetran": "Fivetran (async)"}
OWN = "**this provider**"
WAITERS = {
    "provider": "**this provider, bulk syncs**",
    "provider-unbatched": "**this provider, bulk syncs without batch polling**",
    "provider-model": "**this provider, model syncs**",
    **PROVIDERS,
    "A10": "*A10*",
    "C": "one request for 100 executions, and nothing else",
}
COLD = {
    OWN: ("start", "resume"),
    "`requests` and `json`, the same requests": ("requests-start", None),
    **{name: (f"{venv}-start", f"{venv}-resume") for venv, name in PROVIDERS.items()},
}


def update(page: Path, result: dict[str, Any]) -> None:
    """Replace the blocks of a page of which the result has the part. Other blocks stay as they are."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        part = name.partition("-")[0]
        if part not in result and part != "goals":
            return match[0]
        return f"{name}{match[2]}" + "\n".join(BLOCKS[name](result)) + "\n"

    page.write_text(BLOCK.sub(replaced, page.read_text(encoding="utf-8")), encoding="utf-8")


def _about(result: dict[str, Any]) -> Block:
    at, own = datetime.fromisoformat(result["at"]), result["about"]["packages"]["provider"]
    return [
        f"The numbers in the tables are from one run on {at.day} {at:%B %Y} with Python {result['about']['python']},",
        f"Airflow {own['apache-airflow']}, and aiohttp {own['aiohttp']} on two shared cores, over TLS on one machine,",
        "without a network in between. Times vary by a quarter between runs, and those below 0.1 ms by a half. Ratios",
        "are those of measurements that ran one after the other, and not of the rounded medians in the tables.",
    ]


def _waiting(waiters: int, columns: dict[str, Callable[[dict[str, Any]], str]]) -> Callable[[dict[str, Any]], Block]:
    def block(result: dict[str, Any]) -> Block:
        found = scenes(result["waiting"]).get((waiters, SCHEMAS), {})
        rows = [
            [_with_version(kind, label, result), *(column(found[kind]) for column in columns.values())]
            for kind, label in WAITERS.items()
            if kind in found
        ]
        return _table(columns, rows)

    return block


def _with_version(kind: str, label: str, result: dict[str, Any]) -> str:
    package = VENVS[kind][0] if kind in PROVIDERS else ""
    version = result.get("about", {}).get("packages", {}).get(kind, {}).get(package)
    return f"{label} {version}" if version else label


def _cold(result: dict[str, Any]) -> Block:
    rows = []
    for label, (start, resume) in COLD.items():
        if start in result["cold"]:
            of_it, resumed = result["cold"][start], result["cold"].get(resume, {})
            rows.append(
                [
                    label,
                    _of(of_it, "import_ms", "ms"),
                    _of(of_it, "first_request_ms", "ms"),
                    _of(of_it, "total_ms", "ms"),
                    number(of_it["requests"]),
                    _of(resumed, "total_ms", "ms"),
                    number(resumed["requests"]) if resumed else "–",
                ]
            )
    start = ("Import of the operator", "Start: to the first request", "Start: in all", "Requests")
    return _table((*start, "Resume: in all", "Requests"), rows)


def _restart(result: dict[str, Any]) -> Block:
    figures = {"cpu_ms_per_trigger": "CPU per trigger", "stall_ms": "longest stall"}
    restarts = result["restart"]
    columns = [f"{int(triggers):,} triggers: {name}" for triggers in restarts for name in figures.values()]
    rows = [
        [WAITERS[kind], *(_of(found[kind], figure, "ms") for found in restarts.values() for figure in figures)]
        for kind in MEASURED
    ]
    return _table(columns, rows)


def _triggerer(result: dict[str, Any]) -> Block:
    labels = {"provider": WAITERS["provider"], "airflow": "a trigger of Airflow that fires at once"}
    rows = [[label, _of(result["triggerer"][kind], "cpu_ms_per_trigger", "ms")] for kind, label in labels.items()]
    return _table(("CPU of the triggerer per trigger",), rows)


def _imports(result: dict[str, Any]) -> Block:
    labels = {"provider": OWN, "bare": "an empty operator, sensor, and hook", **PROVIDERS}
    rows = [
        [label, _of(of_it, "cpu_ms", "ms"), number(of_it["modules"]), _of(of_it, "parse_ms", "ms")]
        for kind, label in labels.items()
        if (of_it := result["imports"].get(kind))
    ]
    return _table(("CPU, after `airflow.sdk`", "Modules", "First parse of a DAG file with one task"), rows)


def _calls(result: dict[str, Any]) -> Block:
    labels = {"provider": OWN, "requests": "`requests` and `json`", "sdk": "the vendor's SDK"}
    rows = [
        [
            label,
            *(_of(result["calls"][client], name, "ms") for name in ("get_5_ms", "get_200_ms", "list_ms")),
            f"{_digits(result['calls'][client]['list_peak_kb']['median'] / 1024)} MB",
        ]
        for client, label in labels.items()
    ]
    return _table(("One with 5 schemas", "One with 200 schemas", "List of 5,000", "Peak memory for the list"), rows)


def _growth(what: str, columns: dict[str, Callable[[dict[str, Any], int], str]]) -> Callable[[dict[str, Any]], Block]:
    def block(result: dict[str, Any]) -> Block:
        rows = [
            [f"{int(size):,}", *(column(of_it, int(size)) for column in columns.values())]
            for size, of_it in result["growth"][what].items()
        ]
        return _table(columns, rows, head=what.capitalize())

    return block


def _per_schema(step: str) -> Callable[[dict[str, Any], int], str]:
    return lambda of_it, size: f"{_digits(of_it[f'{step}_ms']['median'] * 1000 / size)} µs"


def _goals(result: dict[str, Any]) -> Block:
    missed = [goal for goal in goals(result) if goal.verdict in ("MISSED", "within tolerance")]
    return _table(("At most", "Measured"), [[it.name, number(it.limit), number(it.value)] for it in missed], "Goal")


def _of(of_it: dict[str, Any], name: str, unit: str = "") -> str:
    return f"{_digits(of_it[name]['median'])} {unit}".rstrip() if name in of_it else "–"


def _digits(value: float) -> str:
    """Two digits are more than a comparison needs."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.2g}"


def _column(name: str, unit: str = "") -> Callable[[dict[str, Any]], str]:
    return lambda of_it: _of(of_it, name, unit)


def _stalls(of_it: dict[str, Any]) -> str:
    return f"{_of(of_it, 'lag_p99_ms')} and {_of(of_it, 'lag_max_ms', 'ms')}"


def _table(columns: Iterable[str], rows: Iterable[Sequence[str]], head: str = "") -> Block:
    columns = list(columns)
    lines = [[head, *columns], ["---"] * (len(columns) + 1), *rows]
    return [re.sub(" +", " ", "| " + " | ".join(line) + " |") for line in lines]


COSTS = {
    "CPU per poll": _column("cpu_ms_per_poll", "ms"),
    "× A10": _column("x_reference"),
    "All in: CPU per poll": _column("all_in_ms_per_poll", "ms"),
    "All in: × A10": _column("all_in_x_reference"),
}
BLOCKS: dict[str, Callable[[dict[str, Any]], Block]] = {
    "about": _about,
    "waiting-200": _waiting(
        200,
        {
            **COSTS,
            "Requests per trigger and poll": _column("requests_per_poll"),
            "TLS connections": _column("connections"),
            "Memory per trigger": _column("kb_per_waiter", "kB"),
            "Longest stall": _column("lag_max_ms", "ms"),
        },
    ),
    "waiting-1000": _waiting(
        1000,
        {
            **COSTS,
            "Share of a core": _column("core_percent", "%"),
            "Memory per trigger": _column("kb_per_waiter", "kB"),
            "Stalls, p99 and longest": _stalls,
        },
    ),
    "restart": _restart,
    "triggerer": _triggerer,
    "cold": _cold,
    "imports": _imports,
    "calls": _calls,
    "growth-waiters": _growth(
        "waiters",
        {
            "CPU per trigger, start to event": lambda of_it, _: _of(of_it, "cpu_ms_per_life", "ms"),
            "Memory per trigger": lambda of_it, _: _of(of_it, "kb_per_waiter", "kB"),
            "Longest stall": lambda of_it, _: _of(of_it, "lag_max_ms", "ms"),
            "Longest garbage collection": lambda of_it, _: _of(of_it, "collection_max_ms", "ms"),
        },
    ),
    "growth-schemas": _growth(
        "schemas",
        {
            "Read, per schema": _per_schema("read"),
            "Judge": _per_schema("judge"),
            "Summarize": _per_schema("summarize"),
            "Event": _per_schema("event"),
            "Tables": _per_schema("tables"),
            "Size of the event": lambda of_it, _: _of(of_it, "event_kb", "kB"),
            "Peak memory to read": lambda of_it, _: _of(of_it, "peak_kb", "kB"),
        },
    ),
    "growth-tasks": _growth(
        "tasks",
        {
            "CPU per task": lambda of_it, _: _of(of_it, "cpu_ms_per_task", "ms"),
            "Memory of the process, more": lambda of_it, _: _of(of_it, "memory_mb", "MB"),
        },
    ),
    "goals": _goals,
}
