"""Wide syncs and long histories: how tests create them, and that their cost grows linearly."""

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

from .conftest import BULK, Client

MODEL = f"/api/syncs/{WAREHOUSE_TO_SALESFORCE}"
HOUR = 3600


def test_wide_sync_lists_all_its_schemas_in_every_execution(client: Client) -> None:
    """10,000 schemas and 30 executions: each row of the list has all schemas."""
    sync_id = client.sandbox.add_bulk_sync("Wide", schemas=10_000)
    client.sandbox.add_history(sync_id, 30)
    path = f"/api/bulk/syncs/{sync_id}"
    assert len(client.data("GET", f"{path}/schemas")) == 10_000
    rows = client.data("GET", f"{path}/executions?limit=2")
    assert [len(row["schemas"]) for row in rows] == [10_000, 10_000]
    assert len({schema["schema"] for schema in rows[0]["schemas"]}) == 10_000
    assert rows[0]["record_count"] == sum(schema["record_count"] for schema in rows[0]["schemas"]) == 1_000_000
    assert len(client("GET", f"{path}/executions?limit=2").body) > 2 * 3_000_000
    execution = client.execution(client.start(path), path)
    assert (len(execution["schemas"]), execution["is_partial"]) == (10_000, False)


def test_history_has_one_completed_execution_per_hour(client: Client) -> None:
    """The newest has just ended, and a start is accepted."""
    for sync, sync_id in ((BULK, SALESFORCE_TO_WAREHOUSE), (MODEL, WAREHOUSE_TO_SALESFORCE)):
        history = client.sandbox.add_history(sync_id, 30)
        rows = client.data("GET", f"{sync}/executions")
        assert [row["id"] for row in rows] == [execution.id for execution in reversed(history)]
        assert {row["status"] for row in rows} == {"completed"}
        assert history[-1].end == client.clock.now
        assert {history[0].created_at + number * HOUR for number in range(30)} == {it.created_at for it in history}
        assert client.data("GET", f"{sync}/status")["current_execution"] is None
        assert client.data("GET", f"{sync}/executions")[0]["id"] != client.start(sync)


def test_history_is_rejected_for_a_sync_with_executions(client: Client) -> None:
    """It would not be older than the existing executions."""
    client.start()
    with pytest.raises(ValueError, match="has executions"):
        client.sandbox.add_history(SALESFORCE_TO_WAREHOUSE)


def test_outcomes_of_a_seed_begin_after_the_history(make: Any) -> None:
    """The history is completed whatever the outcomes, and the first start has the first outcome."""
    client = make({"bulk_syncs": [{"name": "s", "id": "s", "schemas": ["a"], "outcome": ["failed", "completed"]}]})
    assert {execution.final for execution in client.sandbox.add_history("s", 3)} == {"completed"}
    for outcome in ("failed", "completed"):
        execution_id = client.start("/api/bulk/syncs/s")
        client.clock.now += 60
        assert client.execution(execution_id, "/api/bulk/syncs/s")["status"] == outcome


def test_added_sync_accepts_schemas_connections_and_all_fields(client: Client) -> None:
    """It is validated like a sync of a seed."""
    sync_id = client.sandbox.add_bulk_sync(
        "Added",
        [SchemaSpec("lead", rows=7), SchemaSpec("task")],
        source="Salesforce",
        destination=WAREHOUSE,
        id="added",
        duration=1.0,
    )
    sync = client.data("GET", f"/api/bulk/syncs/{sync_id}")
    assert (sync_id, sync["source_connection_id"], sync["destination_connection_id"]) == (
        "added",
        SALESFORCE,
        WAREHOUSE,
    )
    offered = client.data("GET", f"/api/connections/{SALESFORCE}/bulksync/source")["schemas"]
    assert {"account", "lead", "task"} <= {schema["id"] for schema in offered}
    execution_id = client.start("/api/bulk/syncs/added")
    client.clock.now += 1
    assert client.execution(execution_id, "/api/bulk/syncs/added")["record_count"] == 107
    with pytest.raises(SeedError, match="there is no connection 'nothing'"):
        client.sandbox.add_bulk_sync("Other", source="nothing")
    with pytest.raises(SeedError, match="added is used more than once"):
        client.sandbox.add_bulk_sync("Other", id="added")


def test_work_grows_linearly_with_the_number_of_schemas(make: Any) -> None:
    """Ten times the schemas cause about ten times the function calls, for building and for each response."""

    def work(schemas: int) -> dict[str, int]:
        client = make()
        path = f"/api/bulk/syncs/{client.sandbox.add_bulk_sync('Wide', schemas=schemas)}"
        names = [f"table_{number:05}" for number in range(schemas)]
        counted = {"history": _calls(lambda: client.sandbox.add_history(path.rpartition("/")[2], 3))}
        counted["start"] = _calls(lambda: client.start(path, schemas=names))
        client.clock.now += 5
        counted["list"] = _calls(lambda: client.data("GET", f"{path}/executions"))
        counted["status"] = _calls(lambda: client.data("GET", "/api/bulk/syncs/status?all=true"))
        client.clock.now += 60
        counted["ended"] = _calls(lambda: client.data("GET", f"{path}/executions"))
        return counted

    small, large = work(200), work(2000)
    for name, calls in large.items():
        assert calls < 12 * small[name], name


def _calls(do: Callable[[], object]) -> int:
    """Count the calls of Python functions, including comparisons of dataclasses."""
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


def test_schemas_with_equal_counts_keep_their_own_names_and_outcomes(make: Any) -> None:
    """They share a computation, but no name, message or outcome."""
    schemas: list[Any] = ["a", "b", {"id": "c", "errors": 2}, {"id": "d", "outcome": "failed"}]
    schemas += [{"id": "e", "outcome": "failed"}, {"id": "f", "rows": 7, "status_message": "late"}]
    client = make({"bulk_syncs": [{"name": "s", "id": "s", "schemas": schemas}]})
    execution_id = client.start("/api/bulk/syncs/s")
    client.clock.now += 60
    rows = {row["schema"]: row for row in client.execution(execution_id, "/api/bulk/syncs/s")["schemas"]}
    assert [row["output_name"] for row in rows.values()] == list(rows) == list("abcdef")
    assert [row["record_count"] for row in rows.values()] == [100, 100, 100, 50, 50, 7]
    assert [row["error_count"] for row in rows.values()] == [0, 0, 2, 0, 0, 0]
    assert [rows[name]["status_message"] for name in "de"] == [
        f"{name}: the source closed the connection" for name in "de"
    ]
    body = json.loads(client("GET", "/api/bulk/syncs/status?sync_id=s").body)
    assert {row["execution_id"] for row in body["data"][0]["schemas"]} == {execution_id}


def test_canceled_schema_differs_from_equal_schemas(client: Client) -> None:
    """Of three equal schemas the canceled one has its own status."""
    path = f"/api/bulk/syncs/{client.sandbox.add_bulk_sync('Equal', schemas=3)}"
    execution_id = client.start(path)
    client.clock.now += 3
    client.data("POST", f"{path}/schemas/table_00001/cancel", {})
    client.clock.now += 3
    rows = client.execution(execution_id, path)["schemas"]
    assert [row["status"] == "canceled" for row in rows] == [False, True, False]
    assert isinstance(client.sandbox.starts(path.rpartition("/")[2])[0], Execution)
