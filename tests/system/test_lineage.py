"""OpenLineage on a real Airflow, with a client that writes its events to a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from tools.local_airflow import LocalAirflow

pytestmark = pytest.mark.system
pytest.importorskip("airflow.providers.openlineage", reason="OpenLineage is not installed with this Airflow")

DAG = "start_and_wait"


@dataclass(frozen=True)
class Emitted:
    """The event of the end of a task, and the execution that the task waited for."""

    event: dict[str, Any]
    execution_id: str


def run(airflow: LocalAirflow, sandbox: Sandbox, lineage: Path, state: str) -> Emitted:
    known = len(sandbox.starts(SYNC))
    run_id = airflow.trigger(DAG)
    airflow.wait_task(DAG, run_id, "sync", "deferred")
    (execution,) = sandbox.starts(SYNC)[known:]
    if state == "failed":
        sandbox.finish(SYNC, execution.id, "failed", "the warehouse is full")
    assert airflow.wait_run(DAG, run_id) == state

    def event() -> dict[str, Any] | None:
        for line in lineage.read_text().splitlines() if lineage.exists() else []:
            emitted = json.loads(line)
            of_run = emitted["run"]["facets"].get("airflow", {}).get("dagRun", {}).get("run_id")
            ended = emitted["eventType"] in ("COMPLETE", "FAIL")
            if ended and emitted["job"]["name"] == f"{DAG}.sync" and (of_run == run_id or execution.id in line):
                return dict(emitted)
        return None

    return Emitted(airflow.until(event, "an event of OpenLineage"), execution.id)


@pytest.fixture(scope="module")
def completed(airflow: LocalAirflow, sandbox: Sandbox, lineage: Path) -> Emitted:
    return run(airflow, sandbox, lineage, "success")


@pytest.fixture(scope="module")
def failed(airflow: LocalAirflow, sandbox: Sandbox, lineage: Path) -> Emitted:
    return run(airflow, sandbox, lineage, "failed")


def test_deferred_task_emits_its_tables_as_lineage(completed: Emitted) -> None:
    """The event has each table with its rows, and the id of the execution."""
    assert completed.event["eventType"] == "COMPLETE"
    rows = {
        f"{table['namespace']}/{table['name']}": table["outputFacets"]["outputStatistics"]["rowCount"]
        for table in completed.event["outputs"]
    }
    where = "snowflake://ab12345/ANALYTICS.salesforce"
    assert rows == {f"{where}.account": 120, f"{where}.contact": 480, f"{where}.opportunity": 260}
    assert len(completed.event["inputs"]) == 3
    assert completed.event["run"]["facets"]["externalQuery"]["externalQueryId"] == completed.execution_id


def test_lineage_contains_each_table_once_although_its_asset_event_is_reported_too(completed: Emitted) -> None:
    """OpenLineage's provider reads the assets that a task emits. It must not add them to the task's own tables."""
    tables = [(table["namespace"], table["name"]) for table in completed.event["outputs"]]
    outlets = str(completed.event["run"]["facets"]["airflow"]["task"].get("outlets"))

    assert len(tables) == len(set(tables)) == 3
    if "asset_event_from_alias" in outlets:  # the newest providers
        assert all(f"{namespace}/{name.replace('.', '/')}" in outlets for namespace, name in tables)


def test_failed_task_emits_the_error_as_lineage(failed: Emitted) -> None:
    """The event has Polytomic's message and the id of the execution."""
    assert failed.event["eventType"] == "FAIL"
    assert "the warehouse is full" in failed.event["run"]["facets"]["errorMessage"]["message"]
    assert failed.event["run"]["facets"]["externalQuery"]["externalQueryId"] == failed.execution_id
