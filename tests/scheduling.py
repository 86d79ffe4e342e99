"""Distribution of the system tests over processes: by file, and files that share an Airflow in one process."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

from tests.documents import ROOT

SHARED = "airflow: LocalAirflow"  # a parameter for the Airflow of tests/system/conftest.py


class SystemScheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        """Return the name of the group in which a test runs."""
        return find_group(nodeid)


def find_group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return "airflow" if SHARED in (ROOT / file).read_text(encoding="utf-8") else file
