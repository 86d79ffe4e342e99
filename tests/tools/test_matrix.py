"""The matrix: its cells, their environments, and the table of results."""

from __future__ import annotations

import re

import pytest

from tests.documents import ROOT
from tools.matrix import AIRFLOWS, PYTHONS, Cell, format_table, make_cells

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.mark.parametrize("number", [1, 2, 3])
def test_some(number):
    assert number != 3

def test_skipped():
    pytest.skip("not today")

@pytest.fixture
def broken():
    raise ValueError

def test_never_begun(broken):
    pass
"""


def test_each_airflow_has_its_oldest_and_newest_available_python() -> None:
    """One cell if they are the same, none if no supported Python is available."""
    some = [cell for cell in make_cells(["3.11", "3.12", "3.13"]) if cell.airflow in ("lowest", "2.11.2", "newest")]
    assert [*map(str, some)] == ["2.11.2/3.11", "2.11.2/3.12", "newest/3.11", "newest/3.13"]
    assert [str(cell) for cell in make_cells(["3.13"])] == ["3.1.8/3.13", "3.2.2/3.13", "newest/3.13"]


def test_system_tests_run_with_three_airflows() -> None:
    """With one Python each, whichever are available; the unit tests run in all cells."""
    for pythons in (PYTHONS, PYTHONS[1:3]):
        made = make_cells(pythons)

        assert [cell.airflow for cell in made if "system" in cell.targets] == ["2.11.2", "3.1.8", "newest"]
        assert all("unit" in cell.targets for cell in made)


def test_makefile_has_a_date_for_each_airflow() -> None:
    """Except for the newest, and the matrix has every Airflow with a date."""
    days = re.findall(r"^DAY_(\S+) :=", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert {*days, "newest"} == set(AIRFLOWS)


def test_table_has_the_results_of_each_cell(pytester: pytest.Pytester) -> None:
    """A failed fixture counts as failed; a cell that has not run has no report."""
    pytester.makepyfile(test_it=TESTS)
    pytester.runpytest_subprocess("--junitxml=reports/3.0.6/3.12/unit.xml", "-p", "no:cacheprovider")

    written = format_table([Cell("3.0.6", "3.12", ("unit", "system"))], pytester.path / "reports")

    head, _, unit, system = [[cell.strip() for cell in line.strip("|").split("|")] for line in written.splitlines()]
    assert unit[:6] == ["3.0.6", "3.12", "unit", "2", "2", "1"]
    assert re.fullmatch(r"\d+", unit[6])
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", unit[7])
    assert system == ["3.0.6", "3.12", "system", "no report", "", "", "", ""]
    assert len(head) == len(unit)
