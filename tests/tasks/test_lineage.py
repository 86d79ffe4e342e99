"""What OpenLineage is told of a task, as far as one process goes; on a real Airflow it is in tests/system."""

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


class Told:
    """A task that has ended, well or not, and what OpenLineage is told of it."""

    def __init__(self, operator: type, **arguments: Any) -> None:
        made: list[Any] = []

        def make() -> Any:
            made.append(operator(task_id="sync", poke_interval=0.05, **arguments))
            return made[-1]

        self.failure = ""
        self.id = ""
        try:
            self.id = Task(make).run(context())
        except PolytomicSyncError as error:
            self.failure = str(error)
        # The instance of the leg that ended the task is the one that is asked.
        self.operator = made[-1]
        ask = "get_openlineage_facets_on_failure" if self.failure else "get_openlineage_facets_on_complete"
        self.lineage = getattr(self.operator, ask)(None)


def asked(sandbox: Any) -> int:
    return len(sandbox.requests)


def test_what_was_read_and_written(polytomic_sandbox: Any, deferrable: bool) -> None:
    """Each table under OpenLineage's own name for it, with its rows, its source, and the execution."""
    told = Told(PolytomicBulkSyncOperator, sync_id=SYNC, deferrable=deferrable)

    outputs = {f"{table.namespace} {table.name}": table for table in told.lineage.outputs}
    where = "snowflake://ab12345 ANALYTICS.salesforce"
    assert set(outputs) == {f"{where}.{table}" for table in ("account", "contact", "opportunity")}
    assert outputs[f"{where}.account"].outputFacets["outputStatistics"].rowCount == 120
    inputs = {table.name for table in told.lineage.inputs}
    assert inputs == {f"connections/{SALESFORCE}/{table}" for table in ("account", "contact", "opportunity")}
    query = told.lineage.run_facets["externalQuery"]
    assert (query.externalQueryId, query.source) == (told.id, polytomic_sandbox.url)


def test_being_asked_sends_nothing(polytomic_sandbox: Any, deferrable: bool) -> None:
    """OpenLineage is told what the task has in its hands."""
    told = Told(PolytomicBulkSyncOperator, sync_id=SYNC, deferrable=deferrable)
    before = asked(polytomic_sandbox)

    told.operator.get_openlineage_facets_on_complete(None)

    assert asked(polytomic_sandbox) == before


def test_without_assets_tables_have_an_address_at_polytomic(polytomic_sandbox: Any) -> None:
    """Nothing was read for their names, and nothing is for lineage."""
    told = Told(PolytomicBulkSyncOperator, sync_id=SYNC, assets=False)

    assert {table.name for table in told.lineage.outputs} == {
        f"bulk/{SYNC}/{table}" for table in ("account", "contact", "opportunity")
    }
    assert not any("/connections/" in request.path for request in polytomic_sandbox.requests)


def test_a_test_run_wrote_nothing(polytomic_sandbox: Any) -> None:
    """Its execution is told of, and no tables."""
    told = Told(PolytomicBulkSyncOperator, sync_id=SYNC, test=True)

    assert (told.lineage.inputs, told.lineage.outputs) == ([], [])
    assert told.lineage.run_facets["externalQuery"].externalQueryId == told.id


def test_a_model_sync(polytomic_sandbox: Any, deferrable: bool) -> None:
    """From the model to the object of the target."""
    told = Told(PolytomicModelSyncOperator, sync_id=WAREHOUSE_TO_SALESFORCE, deferrable=deferrable)

    assert [table.name for table in told.lineage.outputs] == [f"connections/{SALESFORCE}/Account"]
    assert [table.name.split("/")[0] for table in told.lineage.inputs] == ["models"]


class TestFailure:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas = ["good", {"id": "bad", "outcome": "failed", "status_message": "no such table"}]
        return {"bulk_syncs": [{"name": "Partly", "id": SYNC, "schemas": schemas}]}

    def test_what_went_wrong(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """The message of the failure, the execution, and what was written all the same."""
        told = Told(PolytomicBulkSyncOperator, sync_id=SYNC, deferrable=deferrable)

        assert "no such table" in told.failure
        assert told.lineage.run_facets["errorMessage"].message == told.failure
        assert told.lineage.run_facets["externalQuery"].externalQueryId
        assert [table.name for table in told.lineage.outputs] == [f"bulk/{SYNC}/good"]


def test_no_trouble_with_lineage_is_anybodys(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a whole OpenLineage, or asked before there is anything to tell, the answer is None."""
    told = Told(PolytomicBulkSyncOperator, sync_id=SYNC)
    monkeypatch.setitem(sys.modules, "openlineage.client.facet_v2", None)

    assert told.operator.get_openlineage_facets_on_complete(None) is None
    assert PolytomicBulkSyncOperator(task_id="new", sync_id=SYNC).get_openlineage_facets_on_complete(None) is None
