"""docs/versions.md lists the limits that the tests skip on older Airflow versions."""

from __future__ import annotations

import re
from pathlib import Path

from tests.documents import ROOT, read
from tests.system.machinery import LIMITS
from tools.matrix import AIRFLOWS, make_cells

PAGE = ROOT / "docs" / "versions.md"
TESTS = [ROOT / "tests" / "system" / name for name in ("test_deaths.py", "test_kills.py")]


def row(first_cell: str) -> list[str]:
    table = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    (cells,) = [cells[1:] for cells in table if cells[0].strip() == first_cell]
    return [cell.strip() for cell in cells]


def test_known_limits_are_those_that_tests_skip() -> None:
    """The page lists exactly the limits for which tests are skipped, with their versions."""
    documented = re.findall(r"^- \*\*Airflow ([\d., ]+): (.+)\.\*\*", read(PAGE).sections["Known limits"], re.MULTILINE)

    assert {(", ".join(limit.versions), limit.why) for limit in LIMITS} == set(documented)


def test_package_dates_match_the_makefile() -> None:
    """The date of each version's packages is that of its test environment."""
    days = dict(re.findall(r"^DAY_(\d\S+) := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    versions = [cell.removeprefix("Airflow ") for cell in row("")]

    assert list(days.items()) == list(zip(versions, row("Tested with packages as of"), strict=True))[:-1]


def test_documented_pythons_are_those_of_the_matrix() -> None:
    """Each Airflow with the Pythons with which the tests run."""
    cells = make_cells(every=True)
    tested = {airflow: [cell.python for cell in cells if cell.airflow == airflow] for airflow in AIRFLOWS}
    rows = re.findall(r"^\| ([\d., ]+) \| (3\.[\d., ]+) \|$", PAGE.read_text(), re.MULTILINE)
    documented = {version: pythons.split(", ") for versions, pythons in rows for version in versions.split(", ")}

    assert documented.pop("3.3") == tested.pop("newest")
    assert tested.pop("lowest") == ["3.10"]
    assert documented == {airflow.rpartition(".")[0]: pythons for airflow, pythons in tested.items()}


def test_limits_name_existing_tests() -> None:
    """Every test that a limit skips exists."""
    source = "\n".join(path.read_text() for path in TESTS)
    names = {name.removesuffix("_of_a_model_sync") for limit in LIMITS for name in limit.names}

    assert {name for name in names if not re.search(rf"def {name}\(", source)} == set()


def test_readme_links_to_the_supported_versions() -> None:
    """The section on installation links to the page."""
    assert "(docs/versions.md)" in read(Path(ROOT / "README.md")).sections["Install"]
