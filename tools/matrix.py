"""Run the tests with several versions of Airflow and Python, and print a table of the results.

    python -m tools.matrix [CELL ...]

A cell is a version of Airflow and one of Python, such as `3.0.6/3.10`. An argument is a cell or a pattern, such as
`newest/*`; without arguments all cells are run. Each cell has its own environment, `.venv-3.0.6-3.10`, and keeps its
test reports in `.reports/matrix/3.0.6/3.10`. The table has the last result of every cell. The exit code is 1 when a
cell of this run has failed.

Needs only Python and make. The Makefile sets the date whose packages are installed with a version of Airflow. On
GitHub, the workflow `test` runs each Airflow with every Python that it supports, and the same system tests.
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
# The newest Python that each Airflow supports. `lowest` is the oldest Airflow, with the lowest versions that
# pyproject.toml allows.
AIRFLOWS = {
    "lowest": "3.10",
    "2.11.2": "3.12",
    "3.0.6": "3.12",
    "3.1.8": "3.13",
    "3.2.2": "3.14",
    "newest": "3.14",
}
# The cells that also run the system tests: the index of the Python among those of the Airflow.
SYSTEM = {"2.11.2": 0, "3.1.8": -1, "newest": -1}
COLUMNS = ("Airflow", "Python", "Tests", "Passed", "Failed", "Skipped", "Seconds", "When")


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
        """Yield the variables for make."""
        yield f"VENV={self.venv}"
        yield f"REPORTS=.reports/matrix/{self}"
        yield f"AIRFLOW={self.airflow}"


def find_pythons() -> dict[str, str]:
    """Return the path of each Python on this machine, from the PATH or pyenv. One that does not start is left out."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for version in PYTHONS:
        from_pyenv = sorted(pyenv.glob(f"{version}.*/bin/python"), key=lambda path: int(path.parts[-3].rsplit(".")[-1]))
        for path in filter(None, (shutil.which(f"python{version}"), *map(str, reversed(from_pyenv)))):
            result = subprocess.run([path, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
            if result.returncode == 0:
                found[version] = result.stdout.strip()
                break
    return found


def make_cells(pythons: Iterable[str] = PYTHONS, *, every: bool = False) -> list[Cell]:
    """Combine each Airflow with the oldest and the newest of these Pythons that it supports, or with every one."""
    cells = []
    for airflow, last in AIRFLOWS.items():
        supported = [version for version in PYTHONS[: PYTHONS.index(last) + 1] if version in pythons]
        for version in supported if every else dict.fromkeys([*supported[:1], *supported[-1:]]):
            system = airflow in SYSTEM and version == supported[SYSTEM[airflow]]
            cells.append(Cell(airflow, version, ("unit", "system") if system else ("unit",)))
    return cells


def run(cell: Cell, python: str) -> bool:
    """Make the environment of a cell and run its tests.

    :returns: whether all tests passed.
    """
    passed = True
    for target in cell.targets:
        report = REPORTS / str(cell) / f"{target}.xml"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)
        output = report.with_suffix(".log")
        print(f"Running {target} of {cell}, log: {output.relative_to(ROOT)}", flush=True)
        command = ["make", "--no-print-directory", target, f"PYTHON={python}", *cell.variables()]
        with output.open("w") as log:
            result = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        passed = passed and result.returncode == 0
    return passed


def airflow_label(cell: Cell) -> str:
    """Return the Airflow of a cell, with its version when the name has none."""
    if cell.airflow not in ("lowest", "newest"):
        return cell.airflow
    code = "from importlib.metadata import version; print(version('apache-airflow'))"
    python = ROOT / cell.venv / "bin" / "python"
    if not python.exists():
        return cell.airflow
    result = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return f"{cell.airflow} ({result.stdout.strip() or 'none'})"


def read_report(report: Path) -> list[str]:
    """Return the columns from Passed to When for a test report."""
    if not report.exists():
        return ["no report", "", "", "", ""]
    suite = next(ElementTree.parse(report).iter("testsuite"))
    tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    when = suite.get("timestamp", "")[:16].replace("T", " ")
    return [*map(str, (tests - failed - skipped, failed, skipped)), f"{float(suite.get('time', 0)):.0f}", when]


def format_table(cells: Iterable[Cell], reports: Path = REPORTS) -> str:
    """Return the last results of these cells as a Markdown table."""
    rows = [
        [airflow_label(cell), cell.python, target, *read_report(reports / str(cell) / f"{target}.xml")]
        for cell in cells
        for target in cell.targets
    ]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    lines = [COLUMNS, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def main(patterns: list[str]) -> int:
    pythons = find_pythons()
    known = make_cells(pythons)
    if unknown := [pattern for pattern in patterns if not any(fnmatch(str(cell), pattern) for cell in known)]:
        sys.exit(f"Unknown cell: {', '.join(unknown)}. Cells of this machine: {' '.join(map(str, known))}")
    if missing := [version for version in PYTHONS if version not in pythons]:
        print(f"Skipped, because not on this machine: Python {', '.join(missing)}")
    chosen = [cell for cell in known if not patterns or any(fnmatch(str(cell), pattern) for pattern in patterns)]
    failed = [cell for cell in chosen if not run(cell, pythons[cell.python])]
    text = format_table(known)
    (REPORTS / "table.md").write_text(text + "\n")
    print(text)
    if failed:
        print(f"Failed: {' '.join(map(str, failed))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
