"""The stage of these tests: an Airflow as in production, which all of them share, because its start takes a while.

make test-production                                                   with a storm of three minutes, and a random seed
make test-production PRODUCTION_SEED=4711 PRODUCTION_SECONDS=1800      with a storm of half an hour, and that seed
make test-production ALL=1                                             also the long tests
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.storm import specs
from tests.plays import run  # noqa: F401
from tools.production import ProductionAirflow
from tools.stage import Stage

TESTS = Path(__file__).parents[1]
DAGS = (TESTS / "system" / "dags" / "sync_dags.py", TESTS / "chaos" / "dags" / "chaos_dags.py")
SECONDS = float(os.environ.get("PRODUCTION_SECONDS") or 180)
SEED = int(os.environ.get("PRODUCTION_SEED") or random.SystemRandom().randrange(1_000_000))
TASKS = max(20, round(12 * SECONDS / 60))
# Airflow notices soon that a message is lost. It fails no task that only waits for a worker on a busy machine; by
# default, it fails a task that was queued for too long three times.
CONFIG = {
    "SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": 1000,
    "SCHEDULER__TASK_QUEUED_TIMEOUT": 40,
    "SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": 5,
}


class ProductionStage(Stage):
    """A stage whose Airflow is one as in production. Its first syncs are those of the storm."""

    airflow: ProductionAirflow
    poll_interval = 1.0  # there are many task instances, and the API server has other clients


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductionStage]:
    """The Airflow of all these tests, to which each test adds its syncs."""
    folder = tmp_path_factory.mktemp("dags")
    for path in DAGS:
        shutil.copy(path, folder)
    with ProductionStage(folder, specs(SEED, TASKS), CONFIG, make_airflow=ProductionAirflow) as stage:
        yield stage
