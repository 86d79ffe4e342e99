"""One real Airflow and one sandbox for all tests here: starting them takes longer than most tests do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import default_seed
from airflow_provider_polytomic.sandbox.server import Server
from tools.local_airflow import LocalAirflow

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
def airflow(sandbox: Sandbox, warehouse: Path) -> Iterator[LocalAirflow]:
    connection = {"conn_type": "polytomic", "host": sandbox.url, "password": KEY}
    env = {"AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps(connection), "ELT_WAREHOUSE": str(warehouse)}
    with LocalAirflow(EXAMPLES, env) as airflow:
        yield airflow
