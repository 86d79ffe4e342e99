"""The stage of these tests: an Airflow as in production, which all of them share, because its start takes a while."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.production import ProductionAirflow
from tools.stage import Stage

TESTS = Path(__file__).parents[1]
DAGS = (TESTS / "system" / "dags" / "sync_dags.py", TESTS / "chaos" / "dags" / "chaos_dags.py")


class ProductionStage(Stage):
    """A stage whose Airflow is one as in production."""

    airflow: ProductionAirflow
    poll_interval = 1.0  # there are many task instances, and the API server has other clients


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductionStage]:
    """The Airflow of all these tests, to which each test adds its syncs."""
    folder = tmp_path_factory.mktemp("dags")
    for path in DAGS:
        shutil.copy(path, folder)
    with ProductionStage(folder, 1, make_airflow=ProductionAirflow) as stage:
        yield stage
