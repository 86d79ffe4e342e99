"""What was measured, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .goals import goals
from .waiters import KINDS
from .waiting import FIGURES, scenes

GROWTH = {
    "schemas": {
        "read_ms": "read, ms",
        "judge_ms": "judge, ms",
        "summarize_ms": "summarize, ms",
        "event_ms": "event, ms",
        "tables_ms": "tables, ms",
        "event_kb": "event, kB",
        "peak_kb": "most memory to read, kB",
    },
    "waiters": {
        "cpu_ms_per_life": "start to event, CPU ms per waiter",
        "all_in_ms_per_poll": "all in, CPU ms per poll",
        "kb_per_waiter": "kB per waiter",
        "lag_max_ms": "longest stall ms",
        "collection_max_ms": "longest garbage collection ms",
    },
    "tasks": {"cpu_ms_per_task": "start and deferral, CPU ms per task", "memory_mb": "memory of all, MB"},
}


def tables(result: dict[str, Any]) -> Iterator[str]:
    """Everything that a run has measured, as tables in Markdown."""
    if "waiting" in result:
        yield from _waiting(result["waiting"])
    if "lives" in result:
        rows = [[name.replace("_", " "), number(value)] for name, value in result["lives"].items()]
        yield "Lives of triggers\n\n" + table(["", "number"], rows)
    for triggers, found in result.get("restart", {}).items():
        columns = {"cpu_ms_per_trigger": "CPU ms per trigger", "cpu_ms_per_trigger_x_reference": "x A10"}
        columns |= {"stall_ms": "longest stall ms", "stall_ms_x_reference": "x A10, stall", "lag_p99_ms": "lag p99 ms"}
        columns |= {"collection_ms": "longest garbage collection ms", "reads": "reads of the connection"}
        rows = [[kind, *(cell(of_it[name]) for name in columns)] for kind, of_it in found.items()]
        yield f"Restart with {triggers} triggers\n\n" + table(["kind", *columns.values()], rows)
    if "triggerer" in result:
        columns = {"cpu_ms_per_trigger": "CPU ms per trigger", "cpu_ms": "CPU ms in all", "seconds": "seconds"}
        rows = [[kind, *(cell(of_it.get(name)) for name in columns)] for kind, of_it in result["triggerer"].items()]
        yield "Restart of a real triggerer\n\n" + table(["kind", *columns.values()], rows)
    if "imports" in result:
        columns = {"cpu_ms": "CPU ms", "modules": "modules", "memory_mb": "MB", "parse_ms": "first parse ms"}
        rows = [[kind, *(cell(of_it[name]) for name in columns)] for kind, of_it in result["imports"].items()]
        yield "Imports\n\n" + table(["kind", *columns.values()], rows)
    if "cold" in result:
        columns = {"import_ms": "import, CPU ms", "first_request_ms": "to the first request", "total_ms": "in all"}
        columns |= {"first_request_ms_x_requests": "x requests", "total_ms_x_requests": "x requests, in all"}
        columns |= {"requests": "requests", "modules": "modules", "own_modules": "own modules"}
        rows = [[kind, *(cell(of_it.get(name)) for name in columns)] for kind, of_it in result["cold"].items()]
        yield "Cold starts\n\n" + table(["kind", *columns.values()], rows)
    if "calls" in result:
        columns = {"get_5_ms": "get, 5 schemas, ms", "get_200_ms": "get, 200 schemas, ms", "list_ms": "list, ms"}
        columns |= {"page_peak_kb": "peak of a page, kB", "list_peak_kb": "of the list, kB"}
        rows = [[client, *(cell(of_it[name]) for name in columns)] for client, of_it in result["calls"].items()]
        yield "Calls\n\n" + table(["client", *columns.values()], rows)
    for what, columns in GROWTH.items():
        if "growth" in result:
            found = result["growth"][what]
            rows = [[f"{int(size):,}", *(cell(of_it[name]) for name in columns)] for size, of_it in found.items()]
            yield f"Growth with the number of {what}\n\n" + table([what, *columns.values()], rows)
    if seconds := result.get("seconds"):
        rows = [[part, number(took)] for part, took in {**seconds, "all": sum(seconds.values())}.items()]
        yield "Duration\n\n" + table(["part", "seconds"], rows)
    measured = [goal for goal in goals(result) if goal.value is not None]
    rows = [[goal.name, number(goal.limit), number(goal.value), goal.verdict] for goal in measured]
    yield "Goals\n\n" + table(["goal", "at most", "measured", ""], rows)


def _waiting(measured: Sequence[dict[str, Any]]) -> Iterator[str]:
    for (waiters, schemas), found in sorted(scenes(measured).items()):
        rows = []
        for kind in KINDS:
            if of_it := found.get(kind):
                times = number(of_it["cpu_ms_per_poll"]["times"]) if "cpu_ms_per_poll" in of_it else "0"
                rows.append([kind, times, *(cell(of_it.get(name)) for name in FIGURES)])
        yield f"{waiters:,} waiters, {schemas} schemas each\n\n" + table(["kind", "times", *FIGURES.values()], rows)


def cell(value: Any) -> str:
    if not isinstance(value, dict):
        return number(value)
    median = number(value["median"])
    lowest, highest = number(value["min"]), number(value["max"])
    return median if lowest == highest else f"{median} ({lowest}..{highest})"


def number(value: float | None) -> str:
    """Three digits are more than any of this is good for."""
    if value is None:
        return "–"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines) + "\n"
