"""The example with asset watchers on a real triggerer, which is killed and restarted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import POSTGRES_TO_WAREHOUSE as SYNC
from tools.local_airflow import FINISHED, LocalAirflow

pytestmark = pytest.mark.system
pytest.importorskip("airflow.triggers.shared_stream")  # new in Airflow 3.3

LOADED, FAILED = "postgres_to_warehouse_loaded", "postgres_to_warehouse_failed"
TASKS = {"run_after_sync": "use_the_data", "run_after_sync_failed": "notify"}


@dataclass(frozen=True)
class Watched:
    """The executions of a sync while DAGs watched it, and the resulting events and runs."""

    completed: str  # execution ids, by how and when the executions ended
    completed_together: str  # at the same time as the first
    failed: str
    while_down: str
    events: dict[str, list[dict[str, Any]]]  # events of each asset about these executions
    returned: dict[str, list[str]]  # the execution ids that the runs of each DAG returned
    polls: list[dict[str, list[str]]]  # the queries of event requests after the restart of the triggerer

    @property
    def all_completed(self) -> list[str]:
        return [self.completed, self.completed_together, self.while_down]


@pytest.fixture(scope="module")
def watched(airflow: LocalAirflow, sandbox: Sandbox) -> Watched:
    airflow.wait_dag("run_after_sync")
    execution_ids: set[str] = set()  # without executions of this sync from other tests

    def stored(name: str) -> list[Any]:
        assets = airflow.api("GET", "/assets", params={"name_pattern": name})["assets"]
        found = [asset["id"] for asset in assets if asset["name"] == name]
        return [
            entry for one in found for entry in airflow.api("GET", f"/assets/{one}/state-store")["asset_state_store"]
        ]

    def events(name: str) -> list[dict[str, Any]]:
        newest = {"limit": 100, "order_by": "-timestamp"}
        listed = airflow.api("GET", "/assets/events", params=newest)["asset_events"]
        payloads = [event["extra"]["payload"] for event in listed if event["name"] == name]
        return [payload for payload in payloads if payload["execution_id"] in execution_ids]

    def returned(dag_id: str) -> list[str]:
        newest = {"limit": 100, "order_by": "-id"}
        runs = airflow.api("GET", f"/dags/{dag_id}/dagRuns", params=newest)["dag_runs"]
        ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
        values = [airflow.xcom(dag_id, run_id, TASKS[dag_id]) for run_id in ended]
        return [one for some in values for one in some if one in execution_ids]

    def end(status: str) -> str:
        execution = sandbox.run_on_schedule(SYNC)
        execution_ids.add(execution.id)
        sandbox.finish(SYNC, execution.id, status, "the source is out of order" if status == "failed" else "")
        return execution.id

    def polls() -> list[dict[str, list[str]]]:
        return [request.query for request in sandbox.requests if request.path == "/api/events"]

    def has_queued_events(dag_id: str) -> bool:
        return bool(airflow.api("GET", f"/dags/{dag_id}/assets/queuedEvents")["queued_events"])

    def is_idle() -> bool:
        """Whether the executions of other tests start no more runs."""
        runs = [run for dag_id in TASKS for run in airflow.api("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"]]
        return not any(map(has_queued_events, TASKS)) and all(run["state"] in FINISHED for run in runs)

    airflow.until(lambda: bool(stored(LOADED) and stored(FAILED)), "two running watchers")
    seen = len(polls())
    airflow.until(lambda: len(polls()) >= seen + 2, "events of other tests")
    airflow.until(is_idle, "the end of other tests")
    completed, completed_together, failed = end("completed"), end("completed"), end("failed")
    airflow.until(lambda: completed in returned("run_after_sync"), "a run after the completed one")
    airflow.until(lambda: failed in returned("run_after_sync_failed"), "a run after the failed one")
    airflow.until(lambda: all(id_ in str(stored(LOADED) + stored(FAILED)) for id_ in (completed, failed)), "the store")

    airflow.kill("triggerer", whole=True)
    before = len(polls())
    while_down = end("completed")
    airflow.restart("triggerer")
    airflow.until(lambda: while_down in returned("run_after_sync"), "a run for the missed execution")
    seen = len(polls())
    airflow.until(lambda: len(polls()) > seen, "another request")

    return Watched(
        completed,
        completed_together,
        failed,
        while_down,
        {name: events(name) for name in (LOADED, FAILED)},
        {dag_id: returned(dag_id) for dag_id in TASKS},
        polls()[before:],
    )


def test_watcher_runs_a_dag_for_each_completed_execution(watched: Watched) -> None:
    """The sync was started by its schedule, and the DAG run gets the id of the execution."""
    assert sorted(watched.returned["run_after_sync"]) == sorted(watched.all_completed)
    (payload,) = [payload for payload in watched.events[LOADED] if payload["execution_id"] == watched.completed]
    assert (payload["type"], payload["trigger_source"], payload["sync_id"]) == ("bulk_sync.completed", "schedule", SYNC)
    assert payload["sync_name"] == "Postgres to warehouse"


def test_failure_watcher_runs_its_dag_for_failures_only(watched: Watched) -> None:
    """Its only event is the failure."""
    assert watched.returned["run_after_sync_failed"] == [watched.failed]
    (payload,) = watched.events[FAILED]
    assert (payload["execution_id"], payload["error"]) == (watched.failed, "the source is out of order")


def test_restarted_triggerer_reports_missed_executions_once(watched: Watched) -> None:
    """Executions that ended while no triggerer ran, and no others again."""
    reported = [payload["execution_id"] for payload in watched.events[LOADED]]
    assert sorted(reported) == sorted(watched.all_completed)


def test_two_watchers_share_their_first_request(watched: Watched) -> None:
    """A restarted triggerer sends one first request for both watchers."""
    assert sum(query["limit"] == ["1"] for query in watched.polls) == 1


def test_api_key_of_watchers_is_in_no_log_and_no_database(
    watched: Watched, airflow: LocalAirflow, sandbox: Sandbox
) -> None:
    """The position is stored in the database."""
    assert [str(path) for path, text in airflow.all_logs().items() if sandbox.key in text] == []
    assert [path.name for path in airflow.home.glob("airflow.db*") if sandbox.key.encode() in path.read_bytes()] == []
