"""Fixtures: one real Airflow and one sandbox for the system tests, and a stage for the plays of all modules."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import default_seed
from airflow_provider_polytomic.sandbox.server import Server
from tests.plays import find_plays, perform_plays, run  # noqa: F401
from tests.system.machinery import find_limit
from tests.system.metrics import Metrics
from tests.system.pods import EXECUTOR
from tools.local_airflow import AIRFLOW_2, LocalAirflow
from tools.stage import Run, Stage, open_ended_sync

EXAMPLES = Path(__file__).parents[2] / "example_dags"
KEY = "s3cr3t-key-for-tests"


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warehouse") / "warehouse.sqlite"


@pytest.fixture(scope="session")
def sandbox(warehouse: Path) -> Iterator[Sandbox]:
    seed = default_seed()
    seed.key = KEY
    sandbox = Sandbox(seed, speed=2, deliver_to=warehouse)
    server = Server(sandbox)
    yield sandbox
    server.close()


@pytest.fixture(scope="session")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file to which OpenLineage writes its events, one JSON object on each line."""
    return tmp_path_factory.mktemp("lineage") / "events.jsonl"


@pytest.fixture(scope="session")
def metrics() -> Iterator[Metrics]:
    metrics = Metrics()
    yield metrics
    metrics.close()


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the examples, without those that Airflow 2 cannot import."""
    if not AIRFLOW_2:
        return EXAMPLES
    folder = tmp_path_factory.mktemp("examples") / "dags"
    return Path(shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("run_after_sync.py", "__pycache__")))


@pytest.fixture(scope="session")
def airflow(
    sandbox: Sandbox, warehouse: Path, lineage: Path, metrics: Metrics, examples: Path
) -> Iterator[LocalAirflow]:
    extra = {"ui_url": f"{sandbox.url}/{{execution_id}}"}
    connection = {"conn_type": "polytomic", "host": sandbox.url, "password": KEY, "extra": extra}
    env = {
        "AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": str(lineage), "append": True}),
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(metrics.port),
        "ELT_WAREHOUSE": str(warehouse),
    }
    # The next triggerer takes over the triggers of a killed one soon.
    config = {"TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": 8}
    with LocalAirflow(examples, env, config=config, with_postgres=True) as airflow:
        yield airflow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that the installed Airflow does not support."""
    for item in items:
        play = item.callspec.id if hasattr(item, "callspec") else ""
        if why := find_limit(getattr(item, "originalname", item.name), play):
            item.add_marker(pytest.mark.skip(reason=why))


# --- plays


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """An Airflow for all modules with plays, with a sync for each play and three more."""
    syncs = [
        open_ended_sync(f"Play {number}", getattr(play, "kind", "bulk"), getattr(play, "schemas", 2))
        for number, play in enumerate(find_plays(request.session.items))
    ]
    syncs += [open_ended_sync(f"Sync {n}") for n in range(3)]
    # The first executor runs all tasks that do not name the other one.
    with Stage(Path(__file__).parent / "dags", syncs, {"CORE__EXECUTOR": f"LocalExecutor,{EXECUTOR}"}) as stage:
        yield stage


@pytest.fixture(scope="module")
def performed(request: pytest.FixtureRequest, stage: Stage) -> Iterator[dict[Any, Future[Run]]]:
    """All plays of the module, each on the sync that was made for it."""
    syncs = dict(zip(find_plays(request.session.items), stage.syncs, strict=False))
    with perform_plays(request, stage, syncs.__getitem__) as plays:
        yield plays
