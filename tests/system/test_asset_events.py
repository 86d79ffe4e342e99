"""Asset events on a real Airflow: a DAG that is scheduled on tables runs when a sync has written them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE
from tools.local_airflow import AIRFLOW_2, LocalAirflow

pytestmark = pytest.mark.system

ASSET = "dataset" if AIRFLOW_2 else "asset"  # the term of that Airflow

WAREHOUSE = "snowflake://ab12345/ANALYTICS/salesforce"


@pytest.fixture(scope="module")
def execution_id(airflow: LocalAirflow, sandbox: Sandbox) -> str:
    """The completed execution of a deferred task, with a DAG that is scheduled on its tables."""
    airflow.wait_dag("after_tables")
    run_id = airflow.trigger("start_and_wait")
    assert airflow.wait_run("start_and_wait", run_id) == "success"
    return str(airflow.xcom("start_and_wait", run_id, "sync"))


def events_of(airflow: LocalAirflow, execution_id: str) -> dict[str, dict[str, Any]]:
    """Return the asset events of an execution by the URI of their asset."""
    listed = airflow.api("GET", f"/{ASSET}s/events", params={"limit": 100, "order_by": "-timestamp"})
    uri = "dataset_uri" if AIRFLOW_2 else "uri"
    return {e[uri]: e for e in listed[f"{ASSET}_events"] if e["extra"].get("execution_id") == execution_id}


def test_each_table_has_an_asset_event_after_a_deferral(airflow: LocalAirflow, execution_id: str) -> None:
    """The event names this task and the number of rows."""
    events = events_of(airflow, execution_id)
    rows = {uri: event["extra"]["record_count"] for uri, event in events.items()}
    assert rows == {f"{WAREHOUSE}/account": 120, f"{WAREHOUSE}/contact": 480, f"{WAREHOUSE}/opportunity": 260}
    assert {event["source_task_id"] for event in events.values()} == {"sync"}


def test_dag_scheduled_on_tables_runs_after_the_sync(airflow: LocalAirflow, execution_id: str) -> None:
    """Whether its asset has a name or only a URI, and it can read the events."""

    def reported() -> dict[str, int] | None:
        for run in airflow.api("GET", "/dags/after_tables/dagRuns", params={"order_by": "-id"})["dag_runs"]:
            if run["state"] == "success" and run["run_type"] == f"{ASSET}_triggered":
                return airflow.xcom("after_tables", run["dag_run_id"], "report")  # type: ignore[no-any-return]
        return None

    assert airflow.until(reported, "a run of after_tables") == {"account": 120, "contact": 480}


@pytest.mark.skipif(AIRFLOW_2, reason="a dataset has no name but its URI")
def test_asset_event_belongs_to_the_named_asset_of_the_table(airflow: LocalAirflow, execution_id: str) -> None:
    """Not to an asset whose name is the URI."""
    names = {event["uri"]: event["name"] for event in events_of(airflow, execution_id).values()}
    assert names[f"{WAREHOUSE}/account"] == "accounts"


def test_sync_with_asset_events_starts_once(sandbox: Sandbox, execution_id: str) -> None:
    """There is one execution."""
    assert [execution.id for execution in sandbox.starts(SALESFORCE_TO_WAREHOUSE)].count(execution_id) == 1
