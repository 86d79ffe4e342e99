"""The distribution of the system tests over several processes."""

from __future__ import annotations

from tests.documents import ROOT
from tests.scheduling import find_group


def test_files_that_share_an_airflow_run_in_one_process() -> None:
    """All files with tests of the fixture `airflow` are one group; other files are groups of their own."""
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "system").glob("test_*.py")]
    groups = {file: find_group(f"{file}::test_it[a::b]") for file in files}

    assert {file for file, group in groups.items() if group == "airflow"} >= {
        "tests/system/test_webhooks.py",
        "tests/system/test_watchers.py",
        "tests/system/test_many_syncs.py",
    }
    assert groups["tests/system/test_demo.py"] == "tests/system/test_demo.py"
