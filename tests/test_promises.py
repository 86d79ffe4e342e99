"""The tests that the promises and the defences name exist, and each names some. `make proofs` says if they passed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.proofs import PROMISES, named

ROOT = Path(__file__).parent.parent
TEXT = "\n\n".join(page.read_text() for page in PROMISES)
NAMED = named(TEXT)


def promises() -> list[str]:
    """The items of the lists, each with what is indented below it."""
    return [item for item in re.split(r"\n(?=\n|- )", TEXT) if item.startswith("- **")]


@pytest.mark.parametrize("promise", promises(), ids=lambda promise: promise[4:30])
def test_every_promise_names_its_proof(promise: str) -> None:
    """Each promise has at least one test below it."""
    assert re.search(r"`tests/[^`]*::[^`]*`", promise)


def test_every_proof_is_a_test_that_runs() -> None:
    """pytest finds each test that is named, with nothing left out."""
    pytest.importorskip("airflow.triggers.shared_stream", reason="some need Airflow 3.3")
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
