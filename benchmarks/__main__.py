"""Command line of the benchmarks: measure, print tables, and store the result. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from . import calls, cold, goals, growth, imports, lives, page, restart, triggerer, waiting
from .harness import ROOT, VENVS, Bench, bench
from .plot import plot
from .tables import tables
from .waiters import KINDS

PARTS = ("waiting", "lives", "restart", "triggerer", "imports", "cold", "calls", "growth")
OWN_KINDS = ("provider", "provider-unbatched", "A10", "C", "null")
PEERS = tuple(name for name, kind in KINDS.items() if kind.is_peer)
REPEATED = ("provider", "A10")  # whose ratio the goals compare


class Scene(NamedTuple):
    """One measurement of waiters."""

    waiters: int
    kinds: Sequence[str]
    times: int
    interval: float = 1.0
    schemas: int = waiting.SCHEMAS


# A short run of all parts, and the run whose results are documented.
SHORT = [Scene(200, (*OWN_KINDS, *PEERS), 1), Scene(1000, ("provider", "A10", "null"), 1)]
FULL = [
    Scene(200, (*OWN_KINDS, "provider-model", *PEERS), 1),
    Scene(200, REPEATED, 2),
    Scene(200, REPEATED, 1, schemas=200),
    # Without Airbyte's, which takes more than 15 minutes.
    Scene(1000, ("provider", "provider-unbatched", "A10", "null", "dbt-cloud", "fivetran"), 1),
    Scene(1000, REPEATED, 2),
]
INTERVALS = {False: 5, True: 10}


def plan(options: argparse.Namespace) -> list[Scene]:
    """Return the measurements of waiters to do."""
    planned = FULL if options.full else SHORT
    if not (options.n or options.kinds or options.reps or options.interval or options.schemas):
        return planned
    numbers = [int(word) for word in options.n] if options.n else sorted({scene.waiters for scene in planned})
    kinds = [kind for kind in options.kinds or KINDS if kind in KINDS]
    return [
        Scene(
            waiters,
            kinds,
            options.reps or 3,
            options.interval or 1.0,
            options.schemas or waiting.SCHEMAS,
        )
        for waiters in numbers
    ]


def arguments(line: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure waiting, importing and calls.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them by default")
    parser.add_argument(
        "--kinds", type=_words, help=f"waiters: {', '.join(KINDS)}; imports: {', '.join(imports.KINDS)}"
    )
    parser.add_argument("--n", type=_words, help="numbers of waiters: 200,1000")
    parser.add_argument("--reps", type=int, help="repetitions")
    parser.add_argument("--interval", type=float, help="seconds between two polls of a waiter")
    parser.add_argument("--intervals", type=int, help="number of intervals in the measured steady state")
    parser.add_argument("--schemas", type=int, help="schemas of each execution")
    parser.add_argument("--lives", type=int, help="number of triggers in the part lives")
    parser.add_argument("--full", action="store_true", help="all measurements with all repetitions, 20 minutes")
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    parser.add_argument("--json", type=Path, default=ROOT / ".reports" / "benchmark.json", help="file for the result")
    parser.add_argument("--plot", type=Path, help="file for a picture of the result")
    parser.add_argument("--page", type=Path, help="page whose tables are replaced with those of the result")
    parser.add_argument("--show", type=Path, help="show the result in this file, without measuring")
    options = parser.parse_args(line)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    if unknown := set(options.kinds or ()) - {*KINDS, *imports.KINDS}:
        parser.error(f"unknown kind: {', '.join(sorted(unknown))}")
    return options


def _words(text: str) -> list[str]:
    return text.split(",")


def measure(bench: Bench, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the growing result after each part, so that a later failure does not lose it."""
    result: dict[str, Any] = {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0],
        "seconds": {},
    }
    full, reps = options.full, options.reps
    numbers = tuple(int(word) for word in options.n) if options.n else restart.NUMBERS
    triggers = options.lives or (10_000 if full else 1000)
    import_kinds = [kind for kind in imports.KINDS if not options.kinds or kind in options.kinds]
    peers = [peer for peer in PEERS if not options.kinds or peer in options.kinds]
    measures: dict[str, Callable[[], Any]] = {
        "waiting": lambda: _measure_waiting(bench, options),
        "lives": lambda: lives.measure(bench, triggers, max(min(1000, triggers // 2), 1)),
        "restart": lambda: restart.measure(bench, reps or 2, numbers),
        "triggerer": lambda: triggerer.measure(reps or 2, max(numbers)),
        "imports": lambda: imports.measure(bench, import_kinds, reps or 3),
        "cold": lambda: cold.measure(bench, reps or (9 if full else 5), peers),
        "calls": lambda: calls.measure(bench, reps or 3),
        "growth": lambda: growth.measure(bench, reps or 3),
    }
    for part in options.parts or PARTS:
        began = time.monotonic()
        result[part] = measures[part]()
        result["seconds"][part] = round(time.monotonic() - began)
        yield result
    result["about"] = about(bench)
    print()
    yield result


def _measure_waiting(bench: Bench, options: argparse.Namespace) -> list[dict[str, Any]]:
    measured: list[dict[str, Any]] = []
    done = 0
    for scene in plan(options):
        spec = {
            "waiters": scene.waiters,
            "intervals": options.intervals or INTERVALS[options.full],
            "interval": scene.interval,
            "schemas": scene.schemas,
        }
        measured += waiting.measure(bench, scene.kinds, spec, range(done, done + scene.times))
        done += scene.times
    return measured


def about(bench: Bench) -> dict[str, Any]:
    """Return the versions and the machine of the measurement."""
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    packages = {}
    for venv in bench.used:
        names = ["apache-airflow", "aiohttp", *VENVS[venv]]
        packages[venv] = dict(zip(names, bench.output_of(venv, "-c", code, *names).split(), strict=True))
    return {
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "packages": packages,
    }


def main() -> None:
    options = arguments()
    if options.show:
        result = json.loads(options.show.read_text())
    else:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        with bench() as environment:
            for result in measure(environment, options):
                options.json.write_text(json.dumps(result, indent=1) + "\n")
    for text in tables(result):
        print(text)
    if options.plot:
        plot(result, options.plot)
    if options.page:
        page.update(options.page, result)
    if options.check and goals.failed(result):
        sys.exit(1)


if __name__ == "__main__":
    main()
