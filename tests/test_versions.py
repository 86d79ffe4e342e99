"""docs/versions.md says what the tests do on older Airflows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.documents import ROOT, read
from tests.system.machinery import LIMITS

PAGE = ROOT / "docs" / "versions.md"
TESTS = [ROOT / "tests" / "system" / name for name in ("test_deaths.py", "test_kills.py")]


def row(first_cell: str) -> list[str]:
    table = [line.strip("|").split("|") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    (cells,) = [cells[1:] for cells in table if cells[0].strip() == first_cell]
    return [cell.strip() for cell in cells]


def test_each_limit_is_documented() -> None:
    """What the tests leave out on a version is what the page says that this version does not do."""
    said = re.findall(r"^- \*\*Airflow ([\d., ]+): (.+)\.\*\*", read(PAGE).sections["Where it ends"], re.MULTILINE)

    assert {(", ".join(limit.versions), limit.why) for limit in LIMITS} == set(said)


def test_the_days_are_those_that_make_uses() -> None:
    """The packages that the page names for a version are those of its environment."""
    days = dict(re.findall(r"^DAY_(\d\S+) := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    versions = [cell.removeprefix("Airflow ") for cell in row("")]

    assert list(days.items()) == list(zip(versions, row("Tested with the packages of"), strict=True))[:-1]


def test_each_limit_is_one_of_a_test_that_there_is() -> None:
    """What is left out exists."""
    there = "\n".join(path.read_text() for path in TESTS)
    names = {name.removesuffix("_of_a_model_sync") for limit in LIMITS for name in limit.names}

    assert {name for name in names if not re.search(rf"def {name}\(", there)} == set()


def test_the_page_is_the_one_that_the_readme_points_to() -> None:
    """Who reads which versions are supported finds what each of them can do."""
    assert "(docs/versions.md)" in read(Path(ROOT / "README.md")).sections["Install"]
