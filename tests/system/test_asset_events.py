"""Asset events on a real Airflow: a DAG that is scheduled on tables runs when a sync has written them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE
from tools.local_airflow import AIRFLOW_2, LocalAirflow

pytestmark = pytest.mark.system

ASSET = "dataset" if AIRFLOW_2 else "asset"  # as that Airflow calls it

WAREHOUSE = "snowflake://ab12345/ANALYTICS/salesforce"


@pytest.fixture(scope="module")
def execution_id(airflow: LocalAirflow, sandbox: Sandbox) -> str:
    """The execution of a deferred task that has ended well, beside a DAG that waits for its tables."""
    airflow.wait_dag("after_tables")
    run_id = airflow.trigger("start_and_wait")
    assert airflow.wait_run("start_and_wait", run_id) == "success"
    return str(airflow.xcom("start_and_wait", run_id, "sync"))


def events_of(airflow: LocalAirflow, execution_id: str) -> dict[str, dict[str, Any]]:
    """All asset events of an execution: the asset's URI, and what its event says."""
    listed = airflow.api("GET", f"/{ASSET}s/events", params={"limit": 100, "order_by": "-timestamp"})
    uri = "dataset_uri" if AIRFLOW_2 else "uri"
    return {e[uri]: e for e in listed[f"{ASSET}_events"] if e["extra"].get("execution_id") == execution_id}


def test_each_table_has_an_event(airflow: LocalAirflow, execution_id: str) -> None:
    """After a deferral, too, there is an event for each table, from this task, with its rows."""
    events = events_of(airflow, execution_id)
    rows = {uri: event["extra"]["record_count"] for uri, event in events.items()}
    assert rows == {f"{WAREHOUSE}/account": 120, f"{WAREHOUSE}/contact": 480, f"{WAREHOUSE}/opportunity": 260}
    assert {event["source_task_id"] for event in events.values()} == {"sync"}


def test_a_dag_that_is_scheduled_on_tables_runs(airflow: LocalAirflow, execution_id: str) -> None:
    """It starts by itself, under whatever name it knows a table, and is given what the events say."""

    def reported() -> dict[str, int] | None:
        for run in airflow.api("GET", "/dags/after_tables/dagRuns", params={"order_by": "-id"})["dag_runs"]:
            if run["state"] == "success" and run["run_type"] == f"{ASSET}_triggered":
                return airflow.xcom("after_tables", run["dag_run_id"], "report")  # type: ignore[no-any-return]
        return None

    assert airflow.until(reported, "a run of after_tables") == {"account": 120, "contact": 480}


@pytest.mark.skipif(AIRFLOW_2, reason="a dataset has no name but its URI")
def test_a_table_keeps_the_name_that_it_has_in_airflow(airflow: LocalAirflow, execution_id: str) -> None:
    """The event belongs to the asset that somebody has defined for the table's address."""
    names = {event["uri"]: event["name"] for event in events_of(airflow, execution_id).values()}
    assert names[f"{WAREHOUSE}/account"] == "accounts"


def test_the_sync_was_started_once(sandbox: Sandbox, execution_id: str) -> None:
    """For all that, there is one execution."""
    assert [execution.id for execution in sandbox.starts(SALESFORCE_TO_WAREHOUSE)].count(execution_id) == 1
