"""`make demo` and `make demo-ui` in a new environment."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tools.local_airflow import AIRFLOW_2

pytestmark = [pytest.mark.system, pytest.mark.skipif(AIRFLOW_2, reason="the demo is made for the newest Airflow")]

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tools.demo"]


def test_demo_prints_a_deferred_sync_and_a_summary(tmp_path: Path) -> None:
    """The log with its deferral, the summary, and an empty temporary folder at the end."""
    env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}  # an environment without any settings
    done = subprocess.run(COMMAND, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = [
        "Started execution",
        "deferred: the triggerer polls",
        "resumed in a worker",
        "completed, 3 of 3 schemas completed, 860 records",
        "opportunities worth",
        "ended as success",
        "was started once",
        "make demo-ui",
    ]
    places = [done.stdout.find(text) for text in shown]
    assert -1 not in places, done.stdout
    assert places == sorted(places), done.stdout
    assert list(tmp_path.iterdir()) == []


def test_demo_ui_has_a_working_connection_and_stops_at_ctrl_c(tmp_path: Path) -> None:
    """The UI responds, the form hides the key, the Test button works, and Ctrl-C stops everything."""
    env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen([*COMMAND, "--ui"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        shown = ""
        while "Ctrl-C" not in shown:
            line = demo.stdout.readline()
            assert line, shown
            shown += line
        found = re.search(r"Airflow +(http://\S+)", shown)
        assert found, shown
        url = found[1]
        with requests.Session() as http:
            http.trust_env = False
            assert http.get(url, timeout=30).ok
            http.headers["Authorization"] = f"Bearer {http.get(f'{url}/auth/token', timeout=30).json()['access_token']}"
            connection = http.get(f"{url}/api/v2/connections/polytomic_default", timeout=30).json()
            tested = http.post(f"{url}/api/v2/connections/test", json=connection, timeout=60).json()
        assert (connection["conn_type"], connection["password"]) == ("polytomic", "***")
        assert tested["status"] is True, tested
    finally:
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)

    assert (demo.returncode, rest.strip()) == (0, "Stopped.")
    assert list(tmp_path.iterdir()) == []
