"""For all tests: a home for Airflow, and the fixture of a sandbox behind the default connection, as users have it."""

import os
import sys
from pathlib import Path

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
    """Give all sandboxes the summary that is asked for, and keep to our own warnings with older Airflows."""
    summaries.from_environment()
    if AIRFLOW in OLDER:  # they and what they are made of warn of one another
        config.addinivalue_line("filterwarnings", "ignore:::(?!airflow_provider_polytomic|example_dags|tests|tools)")
        config.addinivalue_line("filterwarnings", "error::pytest.PytestWarning")
