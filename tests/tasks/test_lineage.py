"""OpenLineage metadata of a task, within one process. A real Airflow is covered by tests/system."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE, SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE

from .conftest import Task
from .test_assets import context

pytest.importorskip("airflow.providers.openlineage", reason="OpenLineage is not installed with this Airflow")

SYNC = SALESFORCE_TO_WAREHOUSE


class EndedTask:
    """A task that has succeeded or failed, and its lineage."""

    def __init__(self, operator: type, **arguments: Any) -> None:
        operators: list[Any] = []

        def make() -> Any:
            operators.append(operator(task_id="sync", poke_interval=0.05, **arguments))
            return operators[-1]

        self.failure = ""
        self.id = ""
        try:
            self.id = Task(make).run(context())
        except PolytomicSyncError as error:
            self.failure = str(error)
        # Airflow asks the instance that ended the task, not the one that deferred it.
        self.operator = operators[-1]
        method = "get_openlineage_facets_on_failure" if self.failure else "get_openlineage_facets_on_complete"
        self.lineage = getattr(self.operator, method)(None)


def count_requests(sandbox: Any) -> int:
    return len(sandbox.requests)


def test_lineage_contains_tables_and_execution(polytomic_sandbox: Any, deferrable: bool) -> None:
    """Each table has the name that OpenLineage defines for it, its records, and its source."""
    task = EndedTask(PolytomicBulkSyncOperator, sync_id=SYNC, deferrable=deferrable)

    outputs = {f"{table.namespace} {table.name}": table for table in task.lineage.outputs}
    schema = "snowflake://ab12345 ANALYTICS.salesforce"
    assert set(outputs) == {f"{schema}.{table}" for table in ("account", "contact", "opportunity")}
    assert outputs[f"{schema}.account"].outputFacets["outputStatistics"].rowCount == 120
    inputs = {table.name for table in task.lineage.inputs}
    assert inputs == {f"connections/{SALESFORCE}/{table}" for table in ("account", "contact", "opportunity")}
    query = task.lineage.run_facets["externalQuery"]
    assert (query.externalQueryId, query.source) == (task.id, polytomic_sandbox.url)


def test_building_lineage_sends_no_request(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The task has the data already."""
    task = EndedTask(PolytomicBulkSyncOperator, sync_id=SYNC, deferrable=deferrable)
    before = count_requests(polytomic_sandbox)

    task.operator.get_openlineage_facets_on_complete(None)

    assert count_requests(polytomic_sandbox) == before


def test_lineage_uses_polytomic_addresses_without_assets(polytomic_sandbox: Any) -> None:
    """With `assets=False` no addresses are read."""
    task = EndedTask(PolytomicBulkSyncOperator, sync_id=SYNC, assets=False)

    assert {table.name for table in task.lineage.outputs} == {
        f"bulk/{SYNC}/{table}" for table in ("account", "contact", "opportunity")
    }
    assert not any("/connections/" in request.path for request in polytomic_sandbox.requests)


def test_lineage_of_a_test_run_contains_no_tables(polytomic_sandbox: Any) -> None:
    """It contains the execution."""
    task = EndedTask(PolytomicBulkSyncOperator, sync_id=SYNC, test=True)

    assert (task.lineage.inputs, task.lineage.outputs) == ([], [])
    assert task.lineage.run_facets["externalQuery"].externalQueryId == task.id


def test_lineage_of_a_model_sync_leads_from_model_to_target(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The input is a model, the output an object of the target."""
    task = EndedTask(PolytomicModelSyncOperator, sync_id=WAREHOUSE_TO_SALESFORCE, deferrable=deferrable)

    assert [table.name for table in task.lineage.outputs] == [f"connections/{SALESFORCE}/Account"]
    assert [table.name.split("/")[0] for table in task.lineage.inputs] == ["models"]


class TestFailure:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas = ["good", {"id": "bad", "outcome": "failed", "status_message": "no such table"}]
        return {"bulk_syncs": [{"name": "Partly", "id": SYNC, "schemas": schemas}]}

    def test_lineage_of_a_failure_contains_the_error(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """It also contains the execution, and the tables that were written."""
        task = EndedTask(PolytomicBulkSyncOperator, sync_id=SYNC, deferrable=deferrable)

        assert "no such table" in task.failure
        assert task.lineage.run_facets["errorMessage"].message == task.failure
        assert task.lineage.run_facets["externalQuery"].externalQueryId
        assert [table.name for table in task.lineage.outputs] == [f"bulk/{SYNC}/good"]


def test_lineage_is_none_when_it_cannot_be_built(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenLineage is incomplete, or no execution has ended."""
    task = EndedTask(PolytomicBulkSyncOperator, sync_id=SYNC)
    monkeypatch.setitem(sys.modules, "openlineage.client.facet_v2", None)

    assert task.operator.get_openlineage_facets_on_complete(None) is None
    assert PolytomicBulkSyncOperator(task_id="new", sync_id=SYNC).get_openlineage_facets_on_complete(None) is None
