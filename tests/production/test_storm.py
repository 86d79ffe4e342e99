"""A storm over an Airflow as in production. Its results pass the same tests as those of `make test-chaos`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from tests.chaos.aftermath import Aftermath, run_storm
from tests.chaos.storm import Kill, Storm
from tests.chaos.test_chaos import (  # noqa: F401
    test_all_tasks_of_a_storm_succeed,
    test_no_execution_of_a_storm_is_duplicated,
    test_no_execution_of_a_storm_is_orphaned,
    test_storm_cancels_and_returns_no_foreign_execution,
    test_storm_starts_only_expected_executions,
    test_tasks_of_a_storm_return_their_completed_execution,
)
from tools.production import API_SERVERS, ProductionAirflow

from .conftest import SECONDS, SEED, TASKS, ProductionStage

pytestmark = pytest.mark.production

GRACE = 5.0  # seconds between the SIGTERM and the SIGKILL of a worker
API_OUTAGE = 8.0  # seconds

Act = Callable[[ProductionAirflow, random.Random], None]


def _end(kind: str, grace: float = 0.0) -> Act:
    def act(airflow: ProductionAirflow, dice: random.Random) -> None:
        name = dice.choice([kind, f"second-{kind}"])
        airflow.wait_healthy(name)  # after an earlier kill
        airflow.end(name, grace)

    return act


def _stop_both_api_servers(airflow: ProductionAirflow, _: random.Random) -> None:
    airflow.wait_healthy(*API_SERVERS)
    with airflow.down(*API_SERVERS):
        time.sleep(API_OUTAGE)


def _restart_the_broker(airflow: ProductionAirflow, _: random.Random) -> None:
    airflow.restart_broker()


def _restart_the_database(airflow: ProductionAirflow, _: random.Random) -> None:
    airflow.postgres.restart()


KILLS = {
    "task": Kill(8.0),
    "worker's process and task": Kill(2.0),
    **{kind: Kill(0.5, _end(kind)) for kind in ("scheduler", "triggerer", "worker")},
    "worker after SIGTERM": Kill(0.5, _end("worker", GRACE)),
    "both API servers": Kill(0.3, _stop_both_api_servers),
    "broker": Kill(0.3, _restart_the_broker),
    "database": Kill(0.3, _restart_the_database),
}


@pytest.fixture(scope="module")
def aftermath(request: pytest.FixtureRequest, stage: ProductionStage) -> Aftermath:
    """The result of one storm."""
    aftermath = run_storm(request, Storm(stage, SEED, SECONDS, TASKS, KILLS), "PRODUCTION")
    stage.airflow.wait_healthy()
    return aftermath


def test_storm_in_production_has_enough_kills(aftermath: Aftermath) -> None:
    """Everything was killed that was planned, and tasks were retried. How many faults hit a request is chance."""
    assert {kind for kind, _ in aftermath.storm.kills} == set(KILLS)
    assert aftermath.all.tasks == TASKS
    assert aftermath.all.tries > aftermath.all.tasks
