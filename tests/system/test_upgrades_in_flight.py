"""Upgrades and rollbacks of the provider while tasks are in flight: two installed versions share one task.

Each version runs in its own process, from its own wheel. Both use the same sandbox. What a task leaves behind (trigger
rows, events, stored starts, idempotency keys) passes from one to the other as JSON, as through Airflow's database.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic import __version__
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sandbox.server import Server

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
NEXT = "99.0.0"
PATH_OF_VERSION = Path("airflow_provider_polytomic") / "__init__.py"
upgrade_and_rollback = pytest.mark.parametrize(
    ("before", "after"), [(__version__, NEXT), (NEXT, __version__)], ids=["upgrade", "rollback"]
)


class Version:
    """A process with one version of the provider."""

    def __init__(self, version: str, installed: Path, sandbox: Sandbox) -> None:
        connection = {"conn_type": "polytomic", "host": sandbox.url, "password": sandbox.key}
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)]),
            "AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection),
        }
        script = Path(__file__).with_name("version_process.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._read() == {"version": version}

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):  # Airflow may print lines of its own
            line = self._process.stdout.readline()
        assert line, f"the process ended with {self._process.wait()}"
        result: dict[str, Any] = json.loads(line)
        return result

    def run(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.communicate(timeout=60)


def install(version: str, folder: Path) -> Path:
    """Build the wheel of the package with another version, and unpack it."""
    sources = folder / "sources"
    shutil.copytree(ROOT / "airflow_provider_polytomic", sources / "airflow_provider_polytomic")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    (sources / PATH_OF_VERSION).write_text((sources / PATH_OF_VERSION).read_text().replace(__version__, version))
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(sources)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    server = Server(sandbox)
    yield sandbox
    server.close()


@pytest.fixture(scope="module")
def versions(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Version]]:
    """The current version, and the same code with a later version."""
    pytest.importorskip("build", reason="what is built is the same for all Airflows")
    names = (__version__, NEXT)
    found = {name: Version(name, install(name, tmp_path_factory.mktemp("version")), sandbox) for name in names}
    yield found
    for version in found.values():
        version.close()


@pytest.fixture
def run_id(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[str]:
    """A DAG run of its own. When it ends, nothing runs at the sandbox."""
    yield request.node.name
    assert [execution.status for execution in sandbox.starts(SYNC) if execution.completed_at is None] == []


@upgrade_and_rollback
def test_deferred_task_continues_with_the_other_version(
    before: str, after: str, versions: dict[str, Version], sandbox: Sandbox, run_id: str
) -> None:
    """The other version runs the trigger, and resumes the task: one execution, whose id is returned."""
    count = len(sandbox.starts(SYNC))
    deferred = versions[before].run("execute", run=run_id, store={}, **{"try": 1})
    execution = sandbox.starts(SYNC)[-1]
    sandbox.finish(SYNC, execution.id)

    event = versions[after].run("fire", row=deferred["row"])["event"]
    resumed = versions[after].run("resume", run=run_id, event=event, method=deferred["method"], store=deferred["store"])

    assert resumed["returned"] == execution.id
    assert len(sandbox.starts(SYNC)) == count + 1


@upgrade_and_rollback
def test_event_of_the_other_version_ends_the_task(
    before: str, after: str, versions: dict[str, Version], sandbox: Sandbox, run_id: str
) -> None:
    """The triggerer still has the version before, and the worker has the other one."""
    deferred = versions[before].run("execute", run=run_id, store={}, **{"try": 1})
    execution = sandbox.starts(SYNC)[-1]
    sandbox.finish(SYNC, execution.id)

    event = versions[before].run("fire", row=deferred["row"])["event"]
    resumed = versions[after].run("resume", run=run_id, event=event, method=deferred["method"], store=deferred["store"])

    assert resumed["returned"] == execution.id


@upgrade_and_rollback
@pytest.mark.parametrize("has_store", [True, False], ids=["stored_start", "idempotency_keys"])
def test_retry_resumes_the_execution_that_the_other_version_started(
    before: str, after: str, has_store: bool, versions: dict[str, Version], sandbox: Sandbox, run_id: str
) -> None:
    """With the start that Airflow 3.3 stores, and without it, by the idempotency keys alone."""
    count = len(sandbox.starts(SYNC))
    first = versions[before].run("execute", run=run_id, store={} if has_store else None, **{"try": 1})
    execution = sandbox.starts(SYNC)[-1]

    second = versions[after].run("execute", run=run_id, store=first["store"], **{"try": 2})
    sandbox.finish(SYNC, execution.id)

    assert second["row"]["kwargs"]["execution_id"] == execution.id
    assert len(sandbox.starts(SYNC)) == count + 1
