"""Every promise and every defense names existing tests. `make proofs` reports whether they passed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.proofs import PROMISES, find_named_tests

ROOT = Path(__file__).parent.parent
TEXT = "\n\n".join(page.read_text() for page in PROMISES)
NAMED = find_named_tests(TEXT)


def promises() -> list[str]:
    """Return the list items with their indented lines."""
    return [item for item in re.split(r"\n(?=\n|- )", TEXT) if item.startswith("- **")]


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: promise[4:30])
def test_promise_names_a_test(promise: str) -> None:
    """The list below a promise contains at least one test."""
    assert re.search(r"`tests/[^`]*::[^`]*`", promise)


def test_named_tests_are_collected() -> None:
    """pytest collects every test that the pages name."""
    pytest.importorskip("airflow.triggers.shared_stream", reason="some tests need Airflow 3.3")
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-m", "", *NAMED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    collected = {re.sub(r"\[.*", "", line) for line in found.stdout.splitlines() if "::" in line}
    assert set(NAMED) <= collected
