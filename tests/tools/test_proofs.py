"""Which test results count as proof of a promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.proofs import find_named_tests, find_unproved

pytest_plugins = ["pytester"]

TESTS = """
import pytest

@pytest.mark.parametrize("number", [1, 2, 3])
def test_all(number):
    pass

@pytest.mark.parametrize("number", ["[a]", "::b"])
def test_most(number):
    assert number != "::b"

class TestThese:
    def test_one(self):
        pass

    def test_skipped(self):
        pytest.skip("not today")

    @pytest.mark.xfail
    def test_expected(self):
        raise ValueError

@pytest.fixture
def broken():
    raise ValueError

def test_never_begun(broken):
    pass
"""
PASSED = ("test_it.py::test_all", "test_it.py::TestThese::test_one")
NOT = {
    "test_it.py::test_most": "failure, passed",
    "test_it.py::TestThese::test_skipped": "skipped",
    "test_it.py::TestThese::test_expected": "skipped",
    "test_it.py::test_never_begun": "error",
    "test_it.py::test_nowhere": "did not run",
}


@pytest.fixture
def reports(pytester: pytest.Pytester) -> Path:
    """The reports of the tests above."""
    folder = pytester.mkdir("tests")
    (folder / "test_it.py").write_text(TESTS)
    pytester.runpytest_subprocess("--junitxml=reports/unit.xml", "-p", "no:cacheprovider")
    return pytester.path / "reports"


def test_only_a_passed_test_is_a_proof(reports: Path) -> None:
    """A test that failed for one of its parameters, was skipped, had an error, or does not exist proves nothing."""
    promises = "\n".join(f"- `tests/{test}`" for test in (*PASSED, *NOT))

    assert find_unproved(promises, reports) == [f"tests/{test}: {became}" for test, became in sorted(NOT.items())]


def test_test_that_failed_in_one_of_several_reports_is_no_proof(reports: Path, pytester: pytest.Pytester) -> None:
    """Another report in which the test passed does not change that."""
    (pytester.path / "tests" / "test_it.py").write_text(TESTS.replace('number != "::b"', "number"))
    pytester.runpytest_subprocess("--junitxml=reports/system.xml", "-p", "no:cacheprovider", "-k", "most")

    assert find_unproved("`tests/test_it.py::test_most`", reports) == ["tests/test_it.py::test_most: failure, passed"]


def test_nothing_is_proved_without_reports(tmp_path: Path) -> None:
    """Every named test is missing."""
    promises = "`tests/test_it.py::test_all`, and `tests/` has more"

    assert find_named_tests(promises) == ["tests/test_it.py::test_all"]
    assert find_unproved(promises, tmp_path) == ["tests/test_it.py::test_all: did not run"]
