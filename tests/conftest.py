"""Configuration of all tests: an Airflow home, and the sandbox fixture as users have it."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import summaries
from tests.system.machinery import AIRFLOW, OLDER

# Not the one in the home of who tests: that may be of another Airflow, whose configuration this one cannot read. An
# empty one is all defaults; Airflow would write one itself, which processes that begin at once could read half written.
HOME = Path(sys.prefix) / "airflow"
HOME.mkdir(exist_ok=True)
(HOME / "airflow.cfg").touch()
os.environ["AIRFLOW_HOME"] = str(HOME)

pytest_plugins = ["airflow_provider_polytomic.sandbox.pytest_plugin"]


def pytest_configure(config: pytest.Config) -> None:
    """Set the batch status of all sandboxes from SUMMARY, and filter deprecation warnings of older Airflows."""
    summaries.spoil_from_environment()
    if AIRFLOW in OLDER:  # they and their dependencies cause deprecation warnings
        config.addinivalue_line("filterwarnings", "ignore:::(?!airflow_provider_polytomic|example_dags|tests|tools)")
        config.addinivalue_line("filterwarnings", "error::pytest.PytestWarning")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute the system tests by file, with one process for the files that share an Airflow."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.scheduling import SystemScheduling

    return SystemScheduling(config, log)
