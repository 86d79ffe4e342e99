"""The example with asset watchers, run by a real triggerer that dies in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import POSTGRES_TO_WAREHOUSE as SYNC
from tools.local_airflow import LocalAirflow

pytestmark = pytest.mark.system
pytest.importorskip("airflow.triggers.shared_stream")  # Airflow before 3.3 shares nothing, and keeps no position

LOADED, FAILED = "postgres_to_warehouse_loaded", "postgres_to_warehouse_failed"
TASKS = {"run_after_sync": "use_the_data", "run_after_sync_failed": "notify"}


@dataclass(frozen=True)
class Story:
    """What happened to a sync while the DAGs watched, and what these have been told."""

    completed: str  # the executions, by how and when they ended
    failed: str
    while_down: str
    events: dict[str, list[dict[str, Any]]]  # of each asset, about these executions
    told: dict[str, list[str]]  # what of these the runs of each DAG returned, all in one list
    looks: list[dict[str, list[str]]]  # what the triggerer asked for, after it was started again


@pytest.fixture(scope="module")
def story(airflow: LocalAirflow, sandbox: Sandbox) -> Story:
    airflow.wait_dag("run_after_sync")
    ours: set[str] = set()  # the sync may have run for another test as well, and its watchers are told of that

    def kept(name: str) -> list[Any]:
        assets = airflow.api("GET", "/assets", params={"name_pattern": name})["assets"]
        found = [asset["id"] for asset in assets if asset["name"] == name]
        return [kept for one in found for kept in airflow.api("GET", f"/assets/{one}/state-store")["asset_state_store"]]

    def events(name: str) -> list[dict[str, Any]]:
        newest = {"limit": 100, "order_by": "-timestamp"}
        listed = airflow.api("GET", "/assets/events", params=newest)["asset_events"]
        payloads = [event["extra"]["payload"] for event in listed if event["name"] == name]
        return [payload for payload in payloads if payload["execution_id"] in ours]

    def told(dag_id: str) -> list[str]:
        newest = {"limit": 100, "order_by": "-id"}
        runs = airflow.api("GET", f"/dags/{dag_id}/dagRuns", params=newest)["dag_runs"]
        ended = [run["dag_run_id"] for run in runs if run["state"] == "success"]
        returned = [airflow.xcom(dag_id, run_id, TASKS[dag_id]) for run_id in ended]
        return [one for some in returned for one in some if one in ours]

    def end(status: str) -> str:
        execution = sandbox.run_on_schedule(SYNC)
        ours.add(execution.id)
        sandbox.finish(SYNC, execution.id, status, "the source is out of order" if status == "failed" else "")
        return execution.id

    def looks() -> list[dict[str, list[str]]]:
        return [request.query for request in sandbox.requests if request.path == "/api/events"]

    airflow.until(lambda: bool(kept(LOADED) and kept(FAILED)), "two watchers that have begun")
    completed, failed = end("completed"), end("failed")
    airflow.until(lambda: completed in told("run_after_sync"), "a run after the completed one")
    airflow.until(lambda: failed in told("run_after_sync_failed"), "a run after the failed one")
    airflow.until(lambda: all(id_ in str(kept(LOADED) + kept(FAILED)) for id_ in (completed, failed)), "a save")

    airflow.kill("triggerer", whole=True)
    before = len(looks())
    while_down = end("completed")
    airflow.restart("triggerer")
    airflow.until(lambda: while_down in told("run_after_sync"), "a run for what ended while no triggerer ran")
    seen = len(looks())
    airflow.until(lambda: len(looks()) > seen, "one more look")

    return Story(
        completed,
        failed,
        while_down,
        {name: events(name) for name in (LOADED, FAILED)},
        {dag_id: told(dag_id) for dag_id in TASKS},
        looks()[before:],
    )


def test_a_dag_runs_for_each_end_with_its_data(story: Story) -> None:
    """A sync that Polytomic's schedule has started ends, and a DAG runs that is told which execution it was."""
    assert sorted(story.told["run_after_sync"]) == sorted([story.completed, story.while_down])
    (payload,) = [payload for payload in story.events[LOADED] if payload["execution_id"] == story.completed]
    assert (payload["type"], payload["trigger_source"], payload["sync_id"]) == ("bulk_sync.completed", "schedule", SYNC)
    assert payload["sync_name"] == "Postgres to warehouse"


def test_another_dag_runs_when_it_failed(story: Story) -> None:
    """The watcher for failures is told of the failure, and of nothing else."""
    assert story.told["run_after_sync_failed"] == [story.failed]
    (payload,) = story.events[FAILED]
    assert (payload["execution_id"], payload["error"]) == (story.failed, "the source is out of order")


def test_what_ended_while_the_triggerer_was_dead_is_told_once(story: Story) -> None:
    """A triggerer that was killed and started again tells what ended meanwhile, and nothing twice."""
    told = [payload["execution_id"] for payload in story.events[LOADED]]
    assert sorted(told) == sorted([story.completed, story.while_down])


def test_two_watchers_share_one_look(story: Story) -> None:
    """A triggerer that was started again makes one first look for both watchers, not one each."""
    assert sum(query["limit"] == ["1"] for query in story.looks) == 1


def test_the_position_is_kept_without_secrets(story: Story, airflow: LocalAirflow, sandbox: Sandbox) -> None:
    """Neither the logs nor the database of an Airflow with watchers have the API key."""
    assert [str(path) for path, text in airflow.all_logs().items() if sandbox.key in text] == []
    assert [path.name for path in airflow.home.glob("airflow.db*") if sandbox.key.encode() in path.read_bytes()] == []
