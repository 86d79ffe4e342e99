"""Wide syncs and long histories: easy to make, and built in time that grows with their size and no faster."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.execution import Execution
from airflow_provider_polytomic.sandbox.seed import (
    SALESFORCE,
    SALESFORCE_TO_WAREHOUSE,
    WAREHOUSE,
    WAREHOUSE_TO_SALESFORCE,
    SchemaSpec,
    SeedError,
)

from .conftest import BULK, Asker

MODEL = f"/api/syncs/{WAREHOUSE_TO_SALESFORCE}"
HOUR = 3600


def test_wide_sync_lists_all_its_schemas_in_every_execution(ask: Asker) -> None:
    """10,000 schemas and 30 executions: each row of the list has all of them."""
    sync_id = ask.sandbox.add_bulk_sync("Wide", schemas=10_000)
    ask.sandbox.add_history(sync_id, 30)
    path = f"/api/bulk/syncs/{sync_id}"
    assert len(ask.data("GET", f"{path}/schemas")) == 10_000
    rows = ask.data("GET", f"{path}/executions?limit=2")
    assert [len(row["schemas"]) for row in rows] == [10_000, 10_000]
    assert len({schema["schema"] for schema in rows[0]["schemas"]}) == 10_000
    assert rows[0]["record_count"] == sum(schema["record_count"] for schema in rows[0]["schemas"]) == 1_000_000
    assert len(ask("GET", f"{path}/executions?limit=2").body) > 2 * 3_000_000
    execution = ask.execution(ask.start(path), path)
    assert (len(execution["schemas"]), execution["is_partial"]) == (10_000, False)


def test_history_is_one_completed_execution_an_hour(ask: Asker) -> None:
    """The newest has just ended; nothing runs, so a start is accepted."""
    for sync, sync_id in ((BULK, SALESFORCE_TO_WAREHOUSE), (MODEL, WAREHOUSE_TO_SALESFORCE)):
        history = ask.sandbox.add_history(sync_id, 30)
        rows = ask.data("GET", f"{sync}/executions")
        assert [row["id"] for row in rows] == [execution.id for execution in reversed(history)]
        assert {row["status"] for row in rows} == {"completed"}
        assert history[-1].end == ask.clock.now
        assert {history[0].created_at + number * HOUR for number in range(30)} == {it.created_at for it in history}
        assert ask.data("GET", f"{sync}/status")["current_execution"] is None
        assert ask.data("GET", f"{sync}/executions")[0]["id"] != ask.start(sync)


def test_history_is_refused_for_a_sync_that_has_one(ask: Asker) -> None:
    """It would not be older than what is there."""
    ask.start()
    with pytest.raises(ValueError, match="has executions"):
        ask.sandbox.add_history(SALESFORCE_TO_WAREHOUSE)


def test_outcomes_of_a_seed_begin_after_the_history(make: Any) -> None:
    """History is completed whatever the outcomes, and the first start meets the first outcome."""
    ask = make({"bulk_syncs": [{"name": "s", "id": "s", "schemas": ["a"], "outcome": ["failed", "completed"]}]})
    assert {execution.final for execution in ask.sandbox.add_history("s", 3)} == {"completed"}
    for outcome in ("failed", "completed"):
        execution_id = ask.start("/api/bulk/syncs/s")
        ask.clock.now += 60
        assert ask.execution(execution_id, "/api/bulk/syncs/s")["status"] == outcome


def test_added_sync_takes_schemas_connections_and_any_field(ask: Asker) -> None:
    """It is as one of a seed, and can be refused as one."""
    sync_id = ask.sandbox.add_bulk_sync(
        "Added",
        [SchemaSpec("lead", rows=7), SchemaSpec("task")],
        source="Salesforce",
        destination=WAREHOUSE,
        id="added",
        duration=1.0,
    )
    sync = ask.data("GET", f"/api/bulk/syncs/{sync_id}")
    assert (sync_id, sync["source_connection_id"], sync["destination_connection_id"]) == (
        "added",
        SALESFORCE,
        WAREHOUSE,
    )
    offered = ask.data("GET", f"/api/connections/{SALESFORCE}/bulksync/source")["schemas"]
    assert {"account", "lead", "task"} <= {schema["id"] for schema in offered}
    execution_id = ask.start("/api/bulk/syncs/added")
    ask.clock.now += 1
    assert ask.execution(execution_id, "/api/bulk/syncs/added")["record_count"] == 107
    with pytest.raises(SeedError, match="there is no connection 'nothing'"):
        ask.sandbox.add_bulk_sync("Other", source="nothing")
    with pytest.raises(SeedError, match="added is used more than once"):
        ask.sandbox.add_bulk_sync("Other", id="added")


def test_work_grows_linearly_with_the_number_of_schemas(make: Any) -> None:
    """Ten times the schemas cause about ten times the calls of functions, in building and in every answer."""

    def work(schemas: int) -> dict[str, int]:
        ask = make()
        path = f"/api/bulk/syncs/{ask.sandbox.add_bulk_sync('Wide', schemas=schemas)}"
        names = [f"table_{number:05}" for number in range(schemas)]
        counted = {"history": _calls(lambda: ask.sandbox.add_history(path.rpartition("/")[2], 3))}
        counted["start"] = _calls(lambda: ask.start(path, schemas=names))
        ask.clock.now += 5
        counted["list"] = _calls(lambda: ask.data("GET", f"{path}/executions"))
        counted["status"] = _calls(lambda: ask.data("GET", "/api/bulk/syncs/status?all=true"))
        ask.clock.now += 60
        counted["ended"] = _calls(lambda: ask.data("GET", f"{path}/executions"))
        return counted

    small, large = work(200), work(2000)
    for name, calls in large.items():
        assert calls < 12 * small[name], name


def _calls(do: Callable[[], object]) -> int:
    """How many functions of Python are called, those of dataclasses' comparisons included."""
    count = 0

    def counting(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        do()
    finally:
        sys.setprofile(before)
    return count


def test_rows_of_schemas_that_differ_are_their_own(make: Any) -> None:
    """Schemas with the same numbers share a computation, never a name, a message or an outcome."""
    schemas: list[Any] = ["a", "b", {"id": "c", "errors": 2}, {"id": "d", "outcome": "failed"}]
    schemas += [{"id": "e", "outcome": "failed"}, {"id": "f", "rows": 7, "status_message": "late"}]
    ask = make({"bulk_syncs": [{"name": "s", "id": "s", "schemas": schemas}]})
    execution_id = ask.start("/api/bulk/syncs/s")
    ask.clock.now += 60
    rows = {row["schema"]: row for row in ask.execution(execution_id, "/api/bulk/syncs/s")["schemas"]}
    assert [row["output_name"] for row in rows.values()] == list(rows) == list("abcdef")
    assert [row["record_count"] for row in rows.values()] == [100, 100, 100, 50, 50, 7]
    assert [row["error_count"] for row in rows.values()] == [0, 0, 2, 0, 0, 0]
    assert [rows[name]["status_message"] for name in "de"] == [
        f"{name}: the source closed the connection" for name in "de"
    ]
    body = json.loads(ask("GET", "/api/bulk/syncs/status?sync_id=s").body)
    assert {row["execution_id"] for row in body["data"][0]["schemas"]} == {execution_id}


def test_cancelled_schema_differs_from_those_that_go_on(ask: Asker) -> None:
    """Of three equal schemas the cancelled one has its own status."""
    path = f"/api/bulk/syncs/{ask.sandbox.add_bulk_sync('Equal', schemas=3)}"
    execution_id = ask.start(path)
    ask.clock.now += 3
    ask.data("POST", f"{path}/schemas/table_00001/cancel", {})
    ask.clock.now += 3
    rows = ask.execution(execution_id, path)["schemas"]
    assert [row["status"] == "canceled" for row in rows] == [False, True, False]
    assert isinstance(ask.sandbox.starts(path.rpartition("/")[2])[0], Execution)
