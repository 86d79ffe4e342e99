"""Repairs: what is left after an execution, and executions merged into one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_polytomic.api.executions.outcome import failure_reason
from airflow_provider_polytomic.api.executions.repair import Repair, merge_ended
from airflow_provider_polytomic.api.executions.summary import summarize
from airflow_provider_polytomic.api.kinds import get_sync_kind
from airflow_provider_polytomic.api.models import BulkSyncExecution
from airflow_provider_polytomic.api.plan import Response

from .plans import PlanDriver


def execution(status: str, name: str = "e1", **schemas: Any) -> BulkSyncExecution:
    """An execution with a status, or a status and a number of errors, for each schema."""
    rows: list[dict[str, Any]] = []
    for schema, outcome in schemas.items():
        row_status, errors = outcome if isinstance(outcome, tuple) else (outcome, 0)
        rows.append({"schema": schema, "status": row_status, "error_count": errors, "record_count": 10})
    return BulkSyncExecution(id=name, status=status, schemas=rows or None)


PARTIAL = execution("errors", a="completed", b="failed", c="failed")
REST = ("b", "c")


@pytest.mark.parametrize(
    ("ended", "arguments", "left"),
    [
        (PARTIAL, {}, REST),
        (execution("errors", a="completed", b=("completed", 3), c="failed"), {}, REST),
        (execution("completed", a="completed", b=("completed", 3), c=None), {}, REST),
        # Everything starts again.
        (execution("errors", a="failed", b="failed"), {}, ()),
        (execution("completed", a="completed", b="completed"), {}, ()),
        (execution("canceled", a="completed", b="canceled"), {}, ()),
        (execution("errors"), {}, ()),
        # An execution that was cut short may not list what it did not begin, unless the schemas were named.
        (execution("failed", a="completed", b="failed"), {}, ()),
        (execution("interrupted", a="completed", b="failed"), {}, ()),
        (execution("failed", a="completed", b="failed"), {"schemas": ["a", "b"]}, ("b",)),
        (execution("interrupted", a="completed", b="created"), {"schemas": ["a", "b"]}, ("b",)),
        (execution("failed", a="completed", b="failed"), {"schemas": ["a", "b", "c"]}, ()),
        (execution("errors", a="completed", b="failed"), {"schemas": ["a", "b", "c"]}, ()),
    ],
)
def test_what_is_left_is_what_did_not_complete_without_errors(
    ended: BulkSyncExecution, arguments: dict[str, Any], left: tuple[str, ...]
) -> None:
    """If it is unknown what completed, or nothing or everything did, everything is left."""
    repair = Repair().after(ended, arguments)

    assert repair.schemas == left
    assert repair.narrow(arguments) == (arguments | {"schemas": list(left)} if left else arguments)


@pytest.mark.parametrize(
    ("ended", "left"),
    [
        (execution("errors", "e2", b="completed", c="failed"), ("c",)),
        (execution("failed", "e2", b="completed", c="failed"), ("c",)),
        (execution("errors", "e2", b="failed", c="failed"), REST),
        (execution("failed", "e2"), REST),
        (execution("canceled", "e2", b="completed", c="canceled"), REST),
        # The sync no longer has one of the schemas.
        (execution("errors", "e2", b="failed"), ()),
        # Everything completed, so the criteria of the task have failed the execution.
        (execution("completed", "e2", b="completed", c="completed"), ()),
    ],
)
def test_what_is_left_shrinks_with_each_execution(ended: BulkSyncExecution, left: tuple[str, ...]) -> None:
    """An execution that was canceled, or failed before any schema, changes nothing."""
    repair = Repair().after(PARTIAL, {})

    assert repair.after(ended, repair.narrow({})).schemas == left


def test_repeated_or_unreadable_schema_starts_everything_again() -> None:
    """It is unknown what they stand for."""
    rows = [{"schema": "a", "status": "completed"}, {"schema": "b", "status": "failed"}]
    for odd in ({"schema": "a", "status": "failed"}, {"status": "completed"}):
        ended = BulkSyncExecution(id="e1", status="errors", schemas=[*rows, odd])

        assert Repair().after(ended, {}) == Repair()


@pytest.mark.parametrize(
    ("last", "status", "reason"),
    [
        (execution("completed", "e2", b="completed", c="completed"), "completed", None),
        (execution("errors", "e2", b="completed", c="failed"), "errors", "1 of 3 schemas failed"),
        (execution("completed", "e2", b="completed", c=("completed", 2)), "completed", "2 of 30 records had errors"),
        (execution("failed", "e2"), "failed", "finished with status 'failed'"),
        (execution("canceled", "e2", b="completed", c="completed"), "canceled", "finished with status 'canceled'"),
        (execution("completed", "e2", b="completed"), "errors", "1 of 3 schemas failed"),
        (execution("completed", "e2"), "errors", "2 of 3 schemas failed"),
    ],
)
def test_merged_execution_is_judged_over_all_schemas(last: BulkSyncExecution, status: str, reason: str | None) -> None:
    """Each schema counts as it was synced last. A schema that was left and is not listed has not completed."""
    merged = Repair().after(PARTIAL, {}).merge(last)

    assert merged.status == status
    assert reason is None or reason in str(failure_reason(merged))
    assert (failure_reason(merged) is None) == (reason is None)


def test_merged_execution_counts_each_schema_once() -> None:
    """`min_records` and the summary refer to the records of all schemas."""
    merged = Repair().after(PARTIAL, {}).merge(execution("completed", "e2", b="completed", c="completed"))
    summary = summarize("s", merged)

    assert failure_reason(merged, min_records=30) is None
    assert failure_reason(merged, min_records=31) is not None
    assert [row["schema"] for row in summary["schemas"]] == ["a", "b", "c"]
    assert (summary["executions"], summary["execution_id"], summary["record_count"]) == (["e1", "e2"], "e2", 30)


def test_errors_that_no_schema_counts_are_not_forgotten() -> None:
    """Only the execution's total contains them, so they may belong to a schema that completed."""
    first = execution("errors", a="completed", b="failed")
    first.error_count = 4

    merged = Repair().after(first, {}).merge(execution("completed", "e2", b="completed"))

    assert "4 of 20 records had errors" in str(failure_reason(merged))


def test_execution_without_earlier_ones_is_merged_with_nothing() -> None:
    """A task that needs no repair has its execution as the API returned it."""
    assert Repair().merge(PARTIAL) is PARTIAL
    assert summarize("s", PARTIAL)["executions"] == ["e1"]


def found(execution: BulkSyncExecution) -> Response:
    return Response(200, {}, json.dumps({"data": execution.model_dump(mode="json", by_alias=True)}).encode())


def test_resumed_task_reads_the_earlier_executions_through_an_outage() -> None:
    """The result needs them, so they are polled like a running execution."""
    last = execution("completed", "e2", b="completed", c="completed")
    driver = PlanDriver([*[Response(503)] * 9, found(PARTIAL)])

    merged = driver.drive(merge_ended(get_sync_kind("bulk"), "s", last, ["e1"]))

    assert (merged.status, merged.schema_count) == ("completed", 3)
    assert {request.path for request in driver.requests} == {"/api/bulk/syncs/s/executions/e1"}


def test_resumed_task_reads_the_schemas_that_its_event_omits() -> None:
    """A schema that an event does not list counts as it was synced."""
    last = execution("completed", "e2", b="completed", c="completed")
    event = last.model_copy(update={"schemas": None, "schemas_omitted": 2})
    driver = PlanDriver([found(PARTIAL), found(last)])

    merged = driver.drive(merge_ended(get_sync_kind("bulk"), "s", event, ["e1"]))

    assert (merged.status, merged.schema_count) == ("completed", 3)


def test_earlier_execution_that_no_longer_exists_is_left_out() -> None:
    """What is left was derived from it, so the last execution has completed the rest."""
    last = execution("completed", "e2", b="completed", c="completed")
    missing = Response(404, {}, b'{"status": 404, "message": "gone", "key": "not_found"}')

    merged = PlanDriver([missing] * 20).drive(merge_ended(get_sync_kind("bulk"), "s", last, ["e1"]))

    assert merged is last
