"""Tasks when the server returns fields of other types than the API documents."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicLookupError, PolytomicResponseError, PolytomicSyncError
from airflow_provider_polytomic.api.models import invalid_values
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor

from .conftest import Task, make_context


@dataclass(frozen=True)
class Kind:
    sync_id: str
    name: str
    syncs: str  # the path of the list
    operator: Callable[..., Any]
    sensor: Callable[..., Any]


KINDS = {
    "bulk": Kind(
        SALESFORCE_TO_WAREHOUSE,
        "Salesforce to warehouse",
        "/api/bulk/syncs",
        PolytomicBulkSyncOperator,
        PolytomicBulkSyncSensor,
    ),
    "model": Kind(
        WAREHOUSE_TO_SALESFORCE,
        "Customer health to Salesforce",
        "/api/syncs",
        PolytomicModelSyncOperator,
        PolytomicModelSyncSensor,
    ),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """Runs a test with both kinds of sync."""
    return KINDS[request.param]


@pytest.fixture(autouse=True)
def _forget_reported_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalid_values, "_reported", set())


def edit_each(change: Callable[[Any], object]) -> Callable[[Any], None]:
    """An edit of a response that changes the object in it, or each object of a list."""

    def edit(response: Any) -> None:
        data = response["data"]
        for item in data if isinstance(data, list) else [data] if data else []:
            change(item)

    return edit


def run(operator: Callable[..., Any], context: dict[str, Any] | None = None, **arguments: Any) -> Any:
    return Task(lambda: operator(task_id="sync", poke_interval=0.05, **arguments)).run(context)


def test_operator_finds_its_sync_by_name_when_other_syncs_have_unexpected_types(
    polytomic_sandbox: Any, kind: Kind, deferrable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The list also has items that are no syncs."""

    def edit(response: Any) -> None:
        odd = {"id": "odd", "policies": [None], "created_by": "John", "active": 2, "name": {"en": kind.name}}
        response["data"] = [None, {"id": 5, "name": kind.name}, odd, *response["data"], odd, "text"]

    polytomic_sandbox.faults.edit(edit, f"GET {kind.syncs}")
    caplog.set_level(logging.WARNING)

    returned = run(kind.operator, sync_name=kind.name, deferrable=deferrable)

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(kind.sync_id)]


def test_operator_succeeds_when_other_fields_of_the_execution_have_unexpected_types(
    polytomic_sandbox: Any, kind: Kind, deferrable: bool
) -> None:
    """Only id, status and completion time matter. Unreadable fields are None in the summary."""

    @edit_each
    def edit(execution: Any) -> None:
        execution |= {"type": 1, "started_at": "soon", "created_at": True, "warning_count": "x", "record_count": [7]}
        execution |= {"output_disposition": 1, "fetch_mode": {}, "is_test": "perhaps", "version": 2, "errors": "none"}
        execution["counts"] = {"total": "many", "error": None}
        execution["schemas"] = ["x", None, *(execution.get("schemas") or [])]

    polytomic_sandbox.faults.edit(edit, ".*/executions(/[^/]+)?")
    context = make_context()

    returned = run(kind.operator, context, sync_id=kind.sync_id, deferrable=deferrable)

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(kind.sync_id)]
    summary = context["ti"].summary
    assert (summary["status"], summary["started_at"], summary["record_count"]) == ("completed", None, None)


def test_sensor_reports_the_end_of_an_execution_with_unexpected_types(
    polytomic_sandbox: Any, kind: Kind, deferrable: bool
) -> None:
    """The sensor finds it by its id, and as the next execution of the sync."""
    change = edit_each(
        lambda execution: execution.update(warning_count="x", output_disposition=1, counts=[], errors=[5])
    )
    polytomic_sandbox.faults.edit(change, "GET .*/executions(/[^/]+)?")
    execution = polytomic_sandbox.start_foreign(kind.sync_id)

    for which in ({"execution_id": execution.id}, {"completed_after": "2020-01-01T00:00:00Z"}):
        arguments = {"sync_id": kind.sync_id, "deferrable": deferrable, "timeout": 30, **which}
        assert run(kind.sensor, **arguments) == execution.id


def test_operator_fails_on_a_failed_schema_when_rows_have_unexpected_types(
    polytomic_sandbox: Any, deferrable: bool
) -> None:
    """Unexpected types in the row of the failed schema and in other rows do not hide the failure."""

    @edit_each
    def edit(execution: Any) -> None:
        if execution["status"] == "completed":
            failed = {"schema": "Lead", "status": "failed", "error_count": "x", "completed_at": 1.5, "output_name": 5}
            execution["schemas"] = ["x", failed, None, *execution["schemas"]]

    polytomic_sandbox.faults.edit(edit, "GET .*/executions/[^/]+")
    context = make_context()

    with pytest.raises(PolytomicSyncError, match="schema Lead: failed"):
        run(PolytomicBulkSyncOperator, context, sync_id=SALESFORCE_TO_WAREHOUSE, deferrable=deferrable)

    assert context["ti"].summary["schemas"][0]["schema"] == "Lead"


@pytest.mark.parametrize("unreadable", [{"completed_at": "soon"}, {"status": 7}, {"id": None}])
def test_task_keeps_waiting_when_the_end_is_unreadable(
    polytomic_sandbox: Any, kind: Kind, deferrable: bool, unreadable: dict[str, Any]
) -> None:
    """A response that does not say whether the execution has ended is an outage, until the next good response."""
    edit = edit_each(lambda execution: execution.update(unreadable))
    fault = polytomic_sandbox.faults.edit(edit, "GET .*/executions/[^/]+", times=2)

    returned = run(kind.operator, sync_id=kind.sync_id, deferrable=deferrable)

    assert fault.hits == 2
    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(kind.sync_id)]


@pytest.mark.parametrize("row", [{"status": "running"}, {"id": 5, "status": "running"}, "text", None])
def test_operator_starts_nothing_when_a_listed_execution_is_unreadable(
    polytomic_sandbox: Any, kind: Kind, row: Any
) -> None:
    """The unreadable item may be a running execution, so the list is an error."""
    edit: Callable[[Any], object] = lambda response: response.update(data=[*(response["data"] or []), row])  # noqa: E731
    polytomic_sandbox.faults.edit(edit, "GET .*/executions")

    with pytest.raises(PolytomicResponseError, match="not a response of the Polytomic API"):
        run(kind.operator, sync_id=kind.sync_id)

    assert polytomic_sandbox.starts(kind.sync_id) == []


def test_lookup_does_not_match_a_sync_with_an_unreadable_name(polytomic_sandbox: Any) -> None:
    """The name is None, and the message says that no sync has the name."""
    polytomic_sandbox.faults.edit(edit_each(lambda sync: sync.update(name=5)), "GET /api/bulk/syncs")
    with pytest.raises(PolytomicLookupError, match="no bulk sync is named '5'"):
        PolytomicHook().find_bulk_sync("5")
