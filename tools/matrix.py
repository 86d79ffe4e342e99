"""Run the tests with other Airflows and Pythons, and tell how each of them did.

    python -m tools.matrix [CELL ...]

A cell is an Airflow and a Python: `3.0.6/3.10`, or a pattern, `newest/*`; without any, all are run. Each has an
environment of its own, `.venv-3.0.6-3.10`, and keeps in `.reports/matrix/3.0.6/3.10` what its tests said, so that the
table tells of all cells, whichever were run last. It ends with 1 when a cell that was run has failed.

Needs nothing but Python and make. The Makefile knows from which day the packages of an Airflow are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / ".reports" / "matrix"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# The last Python that an Airflow works with. `lowest` is the oldest one, with the lowest versions of all that
# pyproject.toml names.
AIRFLOWS = {
    "lowest": "3.10",
    "2.11.2": "3.12",
    "3.0.6": "3.12",
    "3.1.8": "3.13",
    "3.2.2": "3.14",
    "newest": "3.14",
}
# With a scheduler, a triggerer and workers, too: which of the Pythons of an Airflow.
SYSTEM = {"2.11.2": 0, "3.1.8": -1, "newest": -1}
HEAD = ("Airflow", "Python", "Tests", "Passed", "Failed", "Skipped", "Seconds", "When")


@dataclass(frozen=True)
class Cell:
    airflow: str
    python: str
    targets: tuple[str, ...]  # of make

    def __str__(self) -> str:
        return f"{self.airflow}/{self.python}"

    @property
    def venv(self) -> str:
        return f".venv-{self.airflow}-{self.python}"

    def variables(self) -> Iterator[str]:
        """What to tell make."""
        yield f"VENV={self.venv}"
        yield f"REPORTS=.reports/matrix/{self}"
        if self.airflow != "newest":
            yield f"AIRFLOW={self.airflow}"


def find_pythons() -> dict[str, str]:
    """The Pythons of this machine: on the PATH, or made by pyenv. One that does not start is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for version in PYTHONS:
        made = sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda path: int(path.parts[-3].rsplit(".")[-1]))
        for path in filter(None, (shutil.which(f"python{version}"), *map(str, reversed(made)))):
            asked = subprocess.run([path, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
            if asked.returncode == 0:
                found[version] = asked.stdout.strip()
                break
    return found


def cells(pythons: Iterable[str]) -> list[Cell]:
    """Each Airflow with the oldest and the newest of these Pythons that it works with."""
    made = []
    for airflow, last in AIRFLOWS.items():
        fit = [version for version in PYTHONS[: PYTHONS.index(last) + 1] if version in pythons]
        for version in dict.fromkeys([*fit[:1], *fit[-1:]]):
            system = airflow in SYSTEM and version == fit[SYSTEM[airflow]]
            made.append(Cell(airflow, version, ("unit", "system") if system else ("unit",)))
    return made


def run(cell: Cell, python: str) -> bool:
    """Make the environment of a cell and run its tests.

    :returns: whether all passed.
    """
    passed = True
    for target in cell.targets:
        report = REPORTS / str(cell) / f"{target}.xml"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)
        output = report.with_suffix(".log")
        print(f"{cell}: {target}, see {output.relative_to(ROOT)}", flush=True)
        command = ["make", "--no-print-directory", target, f"PYTHON={python}", *cell.variables()]
        with output.open("w") as log:
            done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        passed = passed and done.returncode == 0
    return passed


def installed(cell: Cell) -> str:
    """The Airflow of a cell, with its version where the name does not tell."""
    if cell.airflow not in ("lowest", "newest"):
        return cell.airflow
    code = "from importlib.metadata import version; print(version('apache-airflow'))"
    python = ROOT / cell.venv / "bin" / "python"
    if not python.exists():
        return cell.airflow
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return f"{cell.airflow} ({asked.stdout.strip() or 'none'})"


def counts(report: Path) -> list[str]:
    """What became of the tests of a report."""
    if not report.exists():
        return ["no report", "", "", "", ""]
    suite = next(ElementTree.parse(report).iter("testsuite"))
    tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    when = suite.get("timestamp", "")[:16].replace("T", " ")
    return [*map(str, (tests - failed - skipped, failed, skipped)), f"{float(suite.get('time', 0)):.0f}", when]


def table(of: Iterable[Cell], reports: Path = REPORTS) -> str:
    """What the last run of each of these cells said, in Markdown."""
    rows = [
        [installed(cell), cell.python, target, *counts(reports / str(cell) / f"{target}.xml")]
        for cell in of
        for target in cell.targets
    ]
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    lines = [HEAD, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def main(patterns: list[str]) -> int:
    pythons = find_pythons()
    known = cells(pythons)
    if wrong := [pattern for pattern in patterns if not any(fnmatch(str(cell), pattern) for cell in known)]:
        sys.exit(f"There is no cell {', '.join(wrong)}. Those of this machine: {' '.join(map(str, known))}")
    if missing := [version for version in PYTHONS if version not in pythons]:
        print(f"Not on this machine, and left out: Python {', '.join(missing)}")
    chosen = [cell for cell in known if not patterns or any(fnmatch(str(cell), pattern) for pattern in patterns)]
    failed = [cell for cell in chosen if not run(cell, pythons[cell.python])]
    text = table(known)
    (REPORTS / "table.md").write_text(text + "\n")
    print(text)
    if failed:
        print(f"Failed: {' '.join(map(str, failed))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
