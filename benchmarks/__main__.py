"""Measure, print tables, and write them down: see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from . import calls, goals, imports, lives, waiting
from .harness import ROOT, VENVS, Bench, bench
from .plot import plot
from .tables import tables
from .waiters import KINDS

PARTS = ("waiting", "lives", "imports", "calls")
OURS = ("ours", "ours-unbatched", "A10", "C", "null")
PEERS = tuple(name for name, kind in KINDS.items() if kind.is_peer)
SCALE = ("ours", "C", "A10", "null")


class Scene(NamedTuple):
    """Waiters to be measured."""

    waiters: int
    kinds: Sequence[str]
    times: int
    interval: float = 1.0
    schemas: int = waiting.SCHEMAS


# A quick look at all; and what the documents quote.
SHORT = [Scene(200, (*OURS, *PEERS), 1), Scene(200, OURS, 2), Scene(1000, SCALE, 1)]
FULL = [
    Scene(50, (*OURS, *PEERS), 1),
    Scene(200, (*OURS, "ours-model", *PEERS), 3),
    Scene(200, OURS, 2),
    Scene(200, ("ours", "A10", "C"), 2, schemas=200),
    Scene(1000, (*OURS, "dbt-cloud", "fivetran"), 1),  # Airbyte's takes more than a quarter of an hour with so many
    Scene(1000, OURS, 2),
    Scene(10_000, SCALE, 2, interval=10.0),
]
LOOKS = {False: 5, True: 10}
FEW = 3  # looks of very many waiters


def plan(asked: argparse.Namespace) -> list[Scene]:
    """Which waiters to measure."""
    planned = FULL if asked.full else SHORT
    if not (asked.n or asked.kinds or asked.reps or asked.interval or asked.schemas):
        return planned
    numbers = [int(word) for word in asked.n] if asked.n else sorted({scene.waiters for scene in planned})
    kinds = [kind for kind in asked.kinds or KINDS if kind in KINDS]
    interval = {scene.waiters: scene.interval for scene in FULL}
    return [
        Scene(
            waiters,
            kinds,
            asked.reps or 3,
            asked.interval or interval.get(waiters, 1.0),
            asked.schemas or waiting.SCHEMAS,
        )
        for waiters in numbers
    ]


def arguments(line: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="What it costs to wait, to import and to call.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them by default")
    parser.add_argument(
        "--kinds", type=_words, help=f"waiters: {', '.join(KINDS)}; imports: {', '.join(imports.KINDS)}"
    )
    parser.add_argument("--n", type=_words, help="numbers of waiters: 200,1000")
    parser.add_argument("--reps", type=int, help="repetitions")
    parser.add_argument("--interval", type=float, help="seconds between two looks of a waiter")
    parser.add_argument("--looks", type=int, help="intervals of the steady state that is measured")
    parser.add_argument("--schemas", type=int, help="of each execution")
    parser.add_argument("--lives", type=int, help="lives of triggers")
    parser.add_argument("--full", action="store_true", help="everything, often enough to be quoted: 40 minutes")
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    parser.add_argument("--json", type=Path, default=ROOT / ".reports" / "benchmark.json", help="file for the result")
    parser.add_argument("--plot", type=Path, help="file for a picture: cost by number of waiters")
    parser.add_argument("--show", type=Path, help="measure nothing: show what is in this file")
    asked = parser.parse_args(line)
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if unknown := set(asked.kinds or ()) - {*KINDS, *imports.KINDS}:
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    return asked


def _words(text: str) -> list[str]:
    return text.split(",")


def measure(bench: Bench, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The result, again and again while it grows: what was measured is not lost when something fails later."""
    parts = asked.parts or PARTS
    result: dict[str, Any] = {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0],
    }
    if "waiting" in parts:
        result["waiting"] = []
        done = 0
        for scene in plan(asked):
            looks = asked.looks or (FEW if scene.waiters >= 10_000 else LOOKS[asked.full])
            spec = {"waiters": scene.waiters, "looks": looks, "interval": scene.interval, "schemas": scene.schemas}
            result["waiting"] += waiting.measure(bench, scene.kinds, spec, range(done, done + scene.times))
            done += scene.times
            yield result
    if "lives" in parts:
        number = asked.lives or (10_000 if asked.full else 1000)
        result["lives"] = lives.measure(bench, number, max(min(1000, number // 2), 1))
        yield result
    if "imports" in parts:
        kinds = [kind for kind in imports.KINDS if not asked.kinds or kind in asked.kinds]
        result["imports"] = imports.measure(bench, kinds, asked.reps or (7 if asked.full else 3))
        yield result
    if "calls" in parts:
        result["calls"] = calls.measure(bench, asked.reps or (5 if asked.full else 3))
    result["about"] = about(bench)
    print()
    yield result


def about(bench: Bench) -> dict[str, Any]:
    """Where and of what this is the measurement."""
    ask = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    packages = {}
    for venv in bench.used:
        names = ["apache-airflow", "aiohttp", *VENVS[venv]]
        packages[venv] = dict(zip(names, bench.output_of(venv, "-c", ask, *names).split(), strict=True))
    return {
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "packages": packages,
    }


def main() -> None:
    asked = arguments()
    if asked.show:
        result = json.loads(asked.show.read_text())
    else:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        with bench() as there:
            for result in measure(there, asked):
                asked.json.write_text(json.dumps(result, indent=1) + "\n")
    for text in tables(result):
        print(text)
    if asked.plot:
        plot(result, asked.plot)
    if asked.check and goals.failed(result):
        sys.exit(1)


if __name__ == "__main__":
    main()
