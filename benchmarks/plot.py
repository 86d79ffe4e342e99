"""A picture of a run: waiting and the start of a task beside other providers, and how costs grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .growth import STEPS
from .waiting import SCHEMAS, scenes

OWN, PEER, FLOOR = "#1f5fbf", "#d9822b", "#9aa5b1"
WAITERS = {
    "provider": ("this provider, bulk syncs", OWN),
    "provider-unbatched": ("the same without batch polls", OWN),
    "provider-model": ("this provider, model syncs", OWN),
    "airbyte": ("Airbyte", PEER),
    "dbt-cloud": ("dbt Cloud", PEER),
    "fivetran": ("Fivetran (async)", PEER),
    "A10": ("bare aiohttp", FLOOR),
    "C": ("bare aiohttp, batched", FLOOR),
}
TASKS = {
    "start": ("this provider", OWN),
    "airbyte-start": ("Airbyte", PEER),
    "dbt-cloud-start": ("dbt Cloud", PEER),
    "fivetran-start": ("Fivetran (async)", PEER),
    "requests-start": ("bare requests", FLOOR),
}


def plot(result: dict[str, Any], file: Path) -> None:
    """Write a PNG, with a panel for each of the parts waiting, cold and growth that the result has."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: dict[str, Callable[[Any, Any], None]] = {"waiting": _waiting, "cold": _cold, "growth": _growth}
    shown = [part for part in panels if part in result]
    figure = pyplot.figure(figsize=(8, 3.5 * len(shown)), dpi=120, layout="constrained")
    # Each panel has a part of the figure of its own, so that its labels don't narrow the others.
    for part, panel in zip(shown, figure.subfigures(len(shown), hspace=0.05, squeeze=False)[:, 0], strict=True):
        axis = panel.subplots()
        panels[part](axis, result[part])
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file)


def _waiting(axis: Any, measured: list[dict[str, Any]]) -> None:
    waiters = min(row["waiters"] for row in measured)
    found = scenes(measured)[waiters, SCHEMAS]
    bars = [
        (label, color, found[kind]["cpu_ms_per_poll"]["median"], found[kind]["all_in_ms_per_poll"]["median"])
        for kind, (label, color) in WAITERS.items()
        if "cpu_ms_per_poll" in found.get(kind, {})
    ]
    most = max(max(costs) for _, _, *costs in bars)
    _bars(axis, [(label, color, [poll, max(all_in - poll, 0)]) for label, color, poll, all_in in bars])
    for row, (_, _, poll, all_in) in enumerate(bars):
        text = f"{poll:.2g} ms; with start and end {all_in:.2g} ms"
        axis.text(max(poll, all_in) + most / 80, row, text, va="center", fontsize=8.5)
    axis.set(
        title=f"Waiting: {waiters} deferred tasks in a triggerer, a poll per second each",
        xlabel="CPU time per poll, milliseconds (light: share of start and end)",
        xlim=(0, 1.75 * most),
    )


def _cold(axis: Any, measured: dict[str, Any]) -> None:
    bars = []
    for kind, (label, color) in TASKS.items():
        if kind in measured:
            imported = measured[kind].get("import_ms", {}).get("median", 0)
            first, total = (measured[kind][name]["median"] for name in ("first_request_ms", "total_ms"))
            bars.append((f"{label} ({measured[kind]['requests']} requests)", color, [imported + first, total - first]))
    _bars(axis, bars)
    most = max(sum(parts) for *_, parts in bars)
    for row, (*_, parts) in enumerate(bars):
        axis.text(sum(parts) + most / 80, row, f"{sum(parts):.0f} ms", va="center", fontsize=8.5)
    axis.set(
        title="Start: the process of a task, until it defers",
        xlabel="CPU time with imports, milliseconds (dark: until the first request)",
        xlim=(0, 1.15 * most),
    )


def _bars(axis: Any, bars: Sequence[tuple[str, str, Sequence[float]]]) -> None:
    for row, (_, color, parts) in enumerate(bars):
        left = 0.0
        for part, alpha in zip(parts, (1.0, 0.45), strict=True):
            axis.barh(row, part, left=left, color=color, alpha=alpha, height=0.7)
            left += part
    axis.set_yticks(range(len(bars)), [label for label, *_ in bars])
    axis.invert_yaxis()


def _growth(axis: Any, measured: dict[str, Any]) -> None:
    """The costs of each schema, trigger and task."""
    curves = {
        "schema of an execution": {
            int(size): sum(found[f"{step}_ms"]["median"] for step in STEPS) / int(size)
            for size, found in measured["schemas"].items()
        },
        "trigger in a triggerer": {
            int(size): found["cpu_ms_per_life"]["median"] for size, found in measured["waiters"].items()
        },
        "mapped task": {int(size): found["cpu_ms_per_task"]["median"] for size, found in measured["tasks"].items()},
    }
    for (label, costs), marker in zip(curves.items(), "os^", strict=True):
        axis.plot(list(costs), list(costs.values()), marker=marker)
        axis.annotate(label, list(costs.items())[-1], (12, 0), textcoords="offset points", va="center")
        for size, cost in costs.items():
            axis.annotate(f"{cost:.2g}", (size, cost), (0, 6), textcoords="offset points", ha="center", fontsize=8.5)
    axis.set(
        title="Growth: what each one costs when there are many (flat is linear, falling is better)",
        xlabel="number of schemas, triggers, or mapped tasks",
        ylabel="CPU time of each, milliseconds",
        xscale="log",
        xlim=(0.6, 400_000),
        yscale="log",
    )
    axis.yaxis.set_major_formatter("{x:g}")
    axis.margins(y=0.2)
    axis.grid(which="major", alpha=0.3)
    axis.set_xticks([10**power for power in range(5)], [f"{10**power:,}" for power in range(5)])
    axis.minorticks_off()
