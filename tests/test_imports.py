"""Import costs: a DAG file that imports the provider's operators loads no HTTP library."""

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
PROVIDER = "airflow_provider_polytomic"


def modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(airflow_provider_polytomic.__path__, f"{PROVIDER}."):
        yield module.name


LIGHT = [name for name in modules() if not name.startswith((f"{PROVIDER}.api", f"{PROVIDER}.sandbox"))]
API = [name for name in modules() if name.startswith(f"{PROVIDER}.api")]
TRANSPORT = f"{PROVIDER}.api.transport"
HTTP = [f"{TRANSPORT}.aiohttp_transport", f"{TRANSPORT}.requests_transport"]
MODELS = f"{PROVIDER}.api.models"

# What every DAG file imports before the provider.
DAG_FILE = """
try:
    from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
except ImportError:
    from airflow import DAG
    from airflow.models import BaseOperator
    from airflow.sensors.base import BaseSensorOperator
"""


def added_by(names: list[str], *, after: str = "", options: tuple[str, ...] = (), home: Path) -> set[str]:
    """Return the modules that importing ``names`` adds to a fresh interpreter."""
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
    sections = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in done.stdout.splitlines() if " " in line}
    added, before = (set(json.loads(sections[name])) for name in ("ADDED", "BEFORE"))
    packages = {name.split(".")[0] for name in before}
    return {name for name in added if name.split(".")[0] == PROVIDER or name.split(".")[0] not in packages}


def test_public_modules_import_no_library_and_no_client(tmp_path: Path) -> None:
    """Operators, sensors, triggers and the hook import no package that Airflow has not loaded, and nothing of `api`."""
    added = added_by(LIGHT, after=DAG_FILE, home=tmp_path)
    assert {name for name in added if name.split(".")[0] not in {PROVIDER, *sys.stdlib_module_names}} == set()
    # When the provider is installed, Airflow has already loaded its entry point.
    assert set(LIGHT) - {f"{PROVIDER}.get_provider_info"} <= added
    assert not any(name.startswith((f"{PROVIDER}.api", f"{PROVIDER}.sandbox")) for name in added)


def test_operators_and_sensors_import_few_modules(tmp_path: Path) -> None:
    """Hook, triggers and their dependencies are imported when a task runs."""
    packages = (f"{PROVIDER}.operators.", f"{PROVIDER}.sensors.")
    tasks = [name for name in LIGHT if name.startswith(packages) and "._" not in name.removeprefix(PROVIDER)]
    added = added_by(tasks, after=DAG_FILE, home=tmp_path)
    assert len(added) <= 15
    assert not any(name.startswith((f"{PROVIDER}.hooks", f"{PROVIDER}.triggers")) for name in added)


@pytest.mark.parametrize("name", [PROVIDER, f"{PROVIDER}.get_provider_info"])
def test_entry_point_needs_no_package(tmp_path: Path, name: str) -> None:
    """Airflow imports it in every process, so it works where no package is installed."""
    added = added_by([name], options=("-S",), home=tmp_path)
    assert {item for item in added if item.startswith(PROVIDER)} == {PROVIDER, name}
    assert {item.split(".")[0] for item in added} <= {PROVIDER, *sys.stdlib_module_names}


def test_client_imports_no_airflow(tmp_path: Path) -> None:
    """All of `api` is imported without any module of Airflow, or of the provider outside `api`."""
    added = added_by(API, home=tmp_path)
    assert set(API) <= added
    assert not any(name == "airflow" or name.startswith("airflow.") for name in added)
    assert {name for name in added if name.startswith(PROVIDER)} == {PROVIDER, *API}


def test_only_transports_import_http_libraries(tmp_path: Path) -> None:
    """The rest of `api` works without them."""
    added = added_by([name for name in API if name not in HTTP], home=tmp_path)
    assert not {"requests", "urllib3", "aiohttp", "yarl"} & {name.split(".")[0] for name in added}


@pytest.mark.parametrize(
    ("transport", "other"),
    [("requests_transport", {"aiohttp", "yarl"}), ("aiohttp_transport", {"requests", "urllib3"})],
)
def test_transport_imports_only_its_own_library(tmp_path: Path, transport: str, other: set[str]) -> None:
    """A worker never loads aiohttp, a triggerer never loads requests for the provider."""
    added = added_by([f"{PROVIDER}.api.transport.{transport}"], home=tmp_path)
    assert not other & {name.split(".")[0] for name in added}


def test_client_and_plans_build_no_model(tmp_path: Path) -> None:
    """A model is built when a response contains one, so a task builds only the models that it uses."""
    plans = ("call", "client", "endpoints.bulk_syncs", "executions.start", "executions.wait", "kinds")
    added = added_by([f"{PROVIDER}.api.{name}" for name in plans], home=tmp_path)
    assert {name for name in added if name.startswith(MODELS)} == {MODELS, f"{MODELS}.statuses"}
    assert f"{PROVIDER}.api.endpoints.model_syncs" not in added


def test_models_are_built_once_when_threads_parse_the_first_responses(tmp_path: Path) -> None:
    """Workers with threads may need the same model at the same time."""
    code = """
import json, sys, threading
from airflow_provider_polytomic.api.endpoints import bulk_syncs, model_syncs
row = {"id": "e", "status": "running", "schemas": [{"schema": "a"}], "counts": {"total": 1}}
one, several = (json.dumps({"data": data}).encode() for data in (row, [row]))
reads = [
    lambda: bulk_syncs.execution("s", "e").parse(one),
    lambda: bulk_syncs.executions("s").parse(several).items[0],
    lambda: model_syncs.execution("s", "e").parse(one),
    lambda: model_syncs.executions("s").parse(several).items[0],
]
sys.setswitchinterval(1e-6)
barrier, found = threading.Barrier(16), []
def read(number):
    barrier.wait()
    found.append(reads[number % len(reads)]())
threads = [threading.Thread(target=read, args=(number,)) for number in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), sorted(kind.__name__ for kind in {type(item) for item in found}), {item.id for item in found})
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "16 ['BulkSyncExecution', 'ModelSyncExecution'] {'e'}"
