"""The local Airflow that the other system tests and the demo use."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.local_airflow import AIRFLOW_2, LOOPBACK, LocalAirflow
from tools.processes import find_marked

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]

SECOND = """
import json, sys, time
from tools.local_airflow import LocalAirflow
with LocalAirflow(sys.argv[1], with_postgres=True) as second:
    processes = [process.pid for process in second.processes()]
    description = {"mark": second.mark, "home": str(second.home), "port": second.port, "processes": processes}
    print(json.dumps(description), flush=True)
    time.sleep(600)
"""


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def test_local_airflows_are_independent_and_end_with_their_parent(airflow: LocalAirflow, tmp_path: Path) -> None:
    """A killed parent leaves no process, port or folder, and the first Airflow keeps running."""
    parent = subprocess.Popen([sys.executable, "-c", SECOND, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        second = json.loads(parent.stdout.readline())
        assert set(second["processes"]).isdisjoint(process.pid for process in airflow.processes())
        assert len(second["processes"]) >= 4
        assert is_listening(second["port"])
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()

    deadline = time.monotonic() + 30
    while (find_marked(second["mark"]) or Path(second["home"]).exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert find_marked(second["mark"]) == []
    assert not Path(second["home"]).exists()
    assert not is_listening(second["port"])
    components = ("api-server", "scheduler", *(() if AIRFLOW_2 else ("dag-processor",)), "triggerer")
    assert all(airflow.is_healthy(component) for component in components)


def test_killed_component_can_be_restarted(airflow: LocalAirflow) -> None:
    """`kill` ends a component with its children, and `restart` waits until the new one is healthy."""
    old = {process.pid for process in airflow.processes("triggerer")}
    assert len(old) >= (1 if AIRFLOW_2 else 2)  # in which triggers run in a thread

    airflow.kill("triggerer", whole=True)
    deadline = time.monotonic() + 30
    while old & {process.pid for process in airflow.processes()} and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not old & {process.pid for process in airflow.processes()}

    airflow.restart("triggerer")
    assert airflow.pid("triggerer") not in old
    assert airflow.is_healthy("triggerer")
