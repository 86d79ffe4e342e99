"""What importing us costs: a DAG file that names our operators pays for no HTTP library."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import airflow_provider_polytomic

ROOT = Path(__file__).parents[1]
OURS = "airflow_provider_polytomic"


def modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(airflow_provider_polytomic.__path__, f"{OURS}."):
        yield module.name


LIGHT = [name for name in modules() if not name.startswith((f"{OURS}.api", f"{OURS}.sandbox"))]
API = [name for name in modules() if name.startswith(f"{OURS}.api")]
HTTP = [f"{OURS}.api.client", f"{OURS}.api.transport.aiohttp_transport", f"{OURS}.api.transport.requests_transport"]

# What every DAG file has imported before it comes to us.
DAG_FILE = """
try:
    from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
except ImportError:
    from airflow import DAG
    from airflow.models import BaseOperator
    from airflow.sensors.base import BaseSensorOperator
"""


def added_by(names: list[str], *, after: str = "", options: tuple[str, ...] = (), home: Path) -> set[str]:
    """The modules that a fresh interpreter has after importing ``names``, but had not before."""
    lines = [
        after,
        "import importlib, json, sys",
        "before = set(sys.modules)",
        f"for name in {names!r}: importlib.import_module(name)",
        "print('ADDED ' + json.dumps(sorted(set(sys.modules) - before)))",
        "print('BEFORE ' + json.dumps(sorted(before)))",
    ]
    done = subprocess.run(
        [sys.executable, *options, "-c", "\n".join(lines)],
        env={**os.environ, "AIRFLOW_HOME": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in done.stdout.splitlines() if " " in line}
    added, before = (set(json.loads(told[name])) for name in ("ADDED", "BEFORE"))
    packages = {name.split(".")[0] for name in before}
    return {name for name in added if name.split(".")[0] == OURS or name.split(".")[0] not in packages}


def test_a_dag_file_pays_for_no_library(tmp_path: Path) -> None:
    """Operators, sensors, triggers and the hook bring no package that Airflow has not loaded, and nothing of `api`."""
    added = added_by(LIGHT, after=DAG_FILE, home=tmp_path)
    assert {name for name in added if name.split(".")[0] not in {OURS, *sys.stdlib_module_names}} == set()
    # Where we are installed, Airflow has read the entry point already.
    assert set(LIGHT) - {f"{OURS}.get_provider_info"} <= added
    assert not any(name.startswith((f"{OURS}.api", f"{OURS}.sandbox")) for name in added)


def test_a_dag_file_pays_for_few_modules(tmp_path: Path) -> None:
    """All operators and sensors are a dozen modules; hook, triggers and what they need come when a task runs."""
    tasks = [name for name in LIGHT if name.startswith((f"{OURS}.operators", f"{OURS}.sensors"))]
    added = added_by(tasks, after=DAG_FILE, home=tmp_path)
    assert len(added) <= 15
    assert not any(name.startswith((f"{OURS}.hooks", f"{OURS}.triggers")) for name in added)


@pytest.mark.parametrize("name", [OURS, f"{OURS}.get_provider_info"])
def test_the_entry_point_needs_nothing(tmp_path: Path, name: str) -> None:
    """Airflow imports it in every process: it is found to work where no package is installed at all."""
    added = added_by([name], options=("-S",), home=tmp_path)
    assert {item for item in added if item.startswith(OURS)} == {OURS, name}
    assert {item.split(".")[0] for item in added} <= {OURS, *sys.stdlib_module_names}


def test_the_client_has_never_heard_of_airflow(tmp_path: Path) -> None:
    """All of `api` is imported without a single module of Airflow, or of ours outside it."""
    added = added_by(API, home=tmp_path)
    assert set(API) <= added
    assert not any(name == "airflow" or name.startswith("airflow.") for name in added)
    assert {name for name in added if name.startswith(OURS)} == {OURS, *API}


def test_only_the_transports_know_an_http_library(tmp_path: Path) -> None:
    """The rest of `api` works where neither is installed."""
    added = added_by([name for name in API if name not in HTTP], home=tmp_path)
    assert not {"requests", "urllib3", "aiohttp", "yarl"} & {name.split(".")[0] for name in added}


@pytest.mark.parametrize(
    ("transport", "other"),
    [("requests_transport", {"aiohttp", "yarl"}), ("aiohttp_transport", {"requests", "urllib3"})],
)
def test_a_transport_needs_only_its_own_library(tmp_path: Path, transport: str, other: set[str]) -> None:
    """A worker never loads aiohttp, a triggerer never loads requests on our behalf."""
    added = added_by([f"{OURS}.api.transport.{transport}"], home=tmp_path)
    assert not other & {name.split(".")[0] for name in added}
