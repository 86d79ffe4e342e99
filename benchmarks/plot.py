"""A picture of what waiting costs, by the number of waiters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .waiters import KINDS
from .waiting import SCHEMAS, scenes


def plot(result: dict[str, Any], file: Path) -> None:
    """Write a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    found = scenes(result["waiting"])
    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=120)
    for kind, of_it in KINDS.items():
        points = sorted(
            (waiters, measured[kind]["cpu_ms_per_poll"])
            for (waiters, schemas), measured in found.items()
            if schemas == SCHEMAS and kind != "null" and "cpu_ms_per_poll" in measured.get(kind, {})
        )
        if not points:
            continue
        costs = [cost["median"] for _, cost in points]
        below = [max(cost["median"] - cost["min"], 0) for _, cost in points]
        above = [max(cost["max"] - cost["median"], 0) for _, cost in points]
        provider = kind.startswith("provider")
        style = "-" if provider else "--" if of_it.is_peer else ":"
        axes.errorbar(
            [waiters for waiters, _ in points],
            costs,
            yerr=[below, above],
            linestyle=style,
            marker="o",
            linewidth=2.5 if provider else 1.5,
            capsize=3,
            label=of_it.label,
        )
    axes.set(xscale="log", yscale="log", xlabel="waiters in one process", ylabel="CPU per waiter and poll, ms")
    axes.set_xticks(sorted({waiters for waiters, _ in found}), minor=False)
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.15g}"))
    axes.grid(which="major", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(file, bbox_inches="tight")
