"""Executions of the sandbox: start, statuses, cancellation, outcomes, lists, logs, events and delivery."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE

from .conftest import BULK, Client, error_of

MODEL = f"/api/syncs/{WAREHOUSE_TO_SALESFORCE}"


def one_sync(**sync: Any) -> dict[str, Any]:
    return {"bulk_syncs": [{"id": SALESFORCE_TO_WAREHOUSE, "name": "s", "schemas": ["a", "b"], **sync}]}


def at(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_execution_advances_through_all_statuses(client: Client) -> None:
    """From created to completed in ten seconds, with its schemas, and with counts that never decrease."""
    execution_id, begin = client.start(), client.clock.now
    seen, counts = [], []
    while not seen or seen[-1] != "completed":
        row = client.execution(execution_id)
        seen += [row["status"]] if row["status"] not in seen else []
        counts.append(row["record_count"])
        assert {part["status"] for part in row["schemas"]} == {row["status"]}
        assert row["record_count"] == sum(part["record_count"] for part in row["schemas"])
        assert (row["completed_at"] is None) == (row["status"] != "completed")
        assert (row["started_at"] is None) == (row["status"] in ("created", "scheduled"))
        client.clock.now += 0.25
    assert seen == ["created", "scheduled", "running", "exporting", "processing", "completed"]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1], len(set(counts)) > 10) == (0, 860, True)
    assert at(row["completed_at"]) == at(row["updated_at"]) == begin + 10


def test_speed_divides_every_duration(make: Any) -> None:
    """At speed 10, ten seconds become one."""
    client = make(speed=10)
    execution_id = client.start()
    client.clock.now += 0.99
    assert client.execution(execution_id)["status"] == "processing"
    client.clock.now += 0.01
    assert client.execution(execution_id)["status"] == "completed"


def test_execution_has_the_arguments_of_its_start(client: Client) -> None:
    """The arguments of the start are in every later response."""
    row = client.execution(client.start(resync_mode="rebuild", fetch_mode="full", schemas=["account"]))
    assert (row["is_resync"], row["is_test"], row["is_partial"]) == (True, False, True)
    assert (row["output_disposition"], row["fetch_mode"]) == ("rebuild", "full")
    assert [part["schema"] for part in row["schemas"]] == ["account"]


def test_start_with_every_schema_is_not_partial(client: Client) -> None:
    """Naming all schemas is the same as naming none."""
    for schemas in ([], ["opportunity", "contact", "account"]):
        assert client.execution(client.start(schemas=schemas))["is_partial"] is False
        client.clock.now += 60


def test_test_execution_reads_five_records_of_each_schema(client: Client) -> None:
    """A test execution reads at most five records."""
    execution_id = client.start(test=True)
    client.clock.now += 60
    row = client.execution(execution_id)
    assert (row["is_test"], row["record_count"]) == (True, 15)


def test_execution_has_only_enabled_schemas(client: Client) -> None:
    """Disabled schemas are not part of an execution."""
    client.data("PATCH", f"{BULK}/schemas/contact", {"enabled": False})
    assert [part["schema"] for part in client.execution(client.start())["schemas"]] == ["account", "opportunity"]


@pytest.mark.parametrize(
    "body",
    [
        {"test": True, "resync_mode": "rebuild"},
        {"resync_mode": "everything"},
        {"fetch_mode": "some"},
        {"schemas": ["account", "nothing"]},
        {"resync": True},
        {"resync": False},
        {"test": "yes"},
        {"schemas": "account"},
        {"schemas": [{"id": "account"}]},
    ],
)
def test_invalid_start_gets_400_and_starts_nothing(client: Client, body: dict[str, Any]) -> None:
    """The reference lists 400 and 409 for a start, but no 422."""
    assert error_of(client("POST", f"{BULK}/executions", body)) == (400, "bad_request")
    assert client.sandbox.starts(SALESFORCE_TO_WAREHOUSE) == []


def test_boolean_resync_is_a_rebuild_in_old_versions(client: Client) -> None:
    """Versions before 2025-09-18 accept the boolean."""
    response = client.data("POST", f"{BULK}/executions", {"resync": True}, version="2024-02-08")
    assert (response["is_resync"], response["output_disposition"]) == (True, "rebuild")


def test_inactive_bulk_sync_can_be_started(client: Client) -> None:
    """Inactive only means that its schedule does not run."""
    client.data("POST", f"{BULK}/activate", {"active": False})
    assert client.start()


@pytest.mark.parametrize("path", [BULK, MODEL])
def test_second_start_gets_409_while_an_execution_runs(client: Client, path: str) -> None:
    """It is accepted when the first execution has ended."""
    client.start(path)
    assert error_of(client("POST", f"{path}/executions", {})) == (409, "conflict")
    client.clock.now += 60
    assert client.start(path)


def test_canceled_execution_is_canceling_first(client: Client) -> None:
    """It blocks the next start while it is canceling; its schemas never have that status."""
    execution_id = client.start()
    client.clock.now += 5
    asked = client.data("POST", f"{BULK}/executions/{execution_id}/cancel")
    assert asked == {"message": "cancellation requested"}
    row = client.execution(execution_id)
    assert (row["status"], row["completed_at"], row["schemas"][0]["status"]) == ("canceling", None, "exporting")
    assert client("POST", f"{BULK}/executions", {}).status == 409
    client.clock.now += 2
    ended = client.execution(execution_id)
    assert (ended["status"], ended["schemas"][0]["status"]) == ("canceled", "canceled")
    assert ended["record_count"] == row["record_count"]
    assert at(ended["completed_at"]) == client.clock.now
    assert client.data("POST", f"{BULK}/executions/{execution_id}/cancel") == {"message": "nothing is running"}


@pytest.mark.parametrize("path", [BULK, MODEL])
def test_cancel_of_a_sync_cancels_its_execution(client: Client, path: str) -> None:
    """Without a running execution it succeeds as well."""
    assert client.data("POST", f"{path}/cancel") == {"message": "nothing is running"}
    execution_id = client.start(path)
    client.data("POST", f"{path}/cancel")
    assert client.execution(execution_id, path)["status"] == "canceling"


def test_cancel_of_a_schema_leaves_the_others_running(client: Client) -> None:
    """The execution completes."""
    execution_id = client.start()
    client.clock.now += 5
    client.data("POST", f"{BULK}/schemas/contact/cancel")
    client.clock.now += 5
    row = client.execution(execution_id)
    assert row["status"] == "completed"
    assert {part["schema"]: part["status"] for part in row["schemas"]} == {
        "account": "completed",
        "contact": "canceled",
        "opportunity": "completed",
    }


@pytest.mark.parametrize("status", ["failed", "interrupted", "canceled"])
def test_schemas_end_as_their_failed_or_canceled_execution(make: Any, status: str) -> None:
    """A schema without an outcome of its own ends as its execution does."""
    client = make(one_sync(outcome=status, status_message="no such host"))
    execution_id = client.start()
    assert client.execution(execution_id)["status_message"] is None
    client.clock.now += 60
    row = client.execution(execution_id)
    assert (row["status"], row["status_message"]) == (status, "no such host")
    assert {part["status"] for part in row["schemas"]} == {status}


def test_executions_use_the_outcomes_of_the_seed_in_order(make: Any) -> None:
    """The first execution fails, and all later ones succeed."""
    client = make(one_sync(outcome=["failed", "completed"]))
    ended = []
    for _ in range(3):
        execution_id = client.start()
        client.clock.now += 60
        ended.append(client.execution(execution_id)["status"])
    assert ended == ["failed", "completed", "completed"]


def test_schema_that_completes_after_a_failure_has_no_message(make: Any) -> None:
    """Its message in the seed describes the failure."""
    client = make(
        one_sync(schemas=[{"id": "a", "outcome": ["failed", "completed"], "status_message": "no such field"}])
    )
    messages = []
    for _ in range(2):
        execution_id = client.start()
        client.clock.now += 60
        messages.append(client.execution(execution_id)["schemas"][0]["status_message"])
    assert messages == ["no such field", None]


@pytest.mark.parametrize(("outcome", "status"), [({}, "errors"), ({"outcome": "completed"}, "completed")])
def test_failed_schema_makes_the_execution_end_with_errors(make: Any, outcome: dict[str, str], status: str) -> None:
    """Unless the seed sets an outcome for the execution."""
    bad = {"id": "b", "rows": 50, "outcome": "failed", "status_message": "no such field"}
    client = make(one_sync(schemas=["a", bad], **outcome))
    execution_id = client.start()
    client.clock.now += 60
    row = client.execution(execution_id)
    assert row["status"] == status
    assert [(part["status"], part["record_count"], part["status_message"]) for part in row["schemas"]] == [
        ("completed", 100, None),
        ("failed", 25, "no such field"),
    ]
    assert bool(row["status_message"]) == (status == "errors")


def test_counts_of_schemas_add_up_to_those_of_the_execution(make: Any) -> None:
    """Records, errors and warnings are counted."""
    client = make(one_sync(schemas=[{"id": "a", "rows": 10, "errors": 3, "warnings": 2}, {"id": "b", "errors": 1}]))
    execution_id = client.start()
    client.clock.now += 60
    row = client.execution(execution_id)
    assert (row["status"], row["error_count"], row["warning_count"]) == ("errors", 4, 2)
    assert [part["error_count"] for part in row["schemas"]] == [3, 1]


def test_seed_can_invent_statuses(make: Any) -> None:
    """As a stage and as the outcome, which completed_at marks as terminal."""
    client = make(one_sync(stages=["created", "scheduled", "pondering"], outcome="quarantined"))
    execution_id = client.start()
    client.clock.now += 5
    assert client.execution(execution_id)["status"] == "pondering"
    client.clock.now += 5
    row = client.execution(execution_id)
    assert (row["status"], row["completed_at"] is None) == ("quarantined", False)


def test_execution_with_duration_zero_ends_at_its_start(make: Any) -> None:
    """A duration of 0 is allowed."""
    client = make(one_sync(duration=0))
    assert client.execution(client.start())["status"] == "completed"


def test_ended_executions_are_ordered_by_their_end(client: Client) -> None:
    """only_terminal omits running executions; ascending reverses both orders."""
    first = client.start()
    client.clock.now += 60
    second = client.start()
    client.clock.now += 60
    third = client.start()
    path = f"{BULK}/executions"
    assert [row["id"] for row in client.data("GET", path)] == [third, second, first]
    assert [row["id"] for row in client.data("GET", f"{path}?ascending=true")] == [first, second, third]
    assert [row["id"] for row in client.data("GET", f"{path}?only_terminal=true")] == [second, first]
    assert [row["id"] for row in client.data("GET", f"{path}?only_terminal=true&ascending=true")] == [first, second]
    tail = json.loads(client("GET", f"{path}?only_terminal=true&limit=1").body)["pagination"]["next_page_token"]
    rest = client.data("GET", f"{path}?only_terminal=true&limit=1&page_token={quote(tail, safe='')}")
    assert [row["id"] for row in rest] == [first]


@pytest.mark.parametrize("path", [BULK, MODEL])
def test_sync_status_has_the_current_and_the_last_execution(client: Client, path: str) -> None:
    """The current one while it runs, and the last one that has ended."""
    nothing = {"current_execution": None, "last_execution": None, "next_execution_time": None}
    assert client.data("GET", f"{path}/status") == nothing
    first = client.start(path)
    assert client.data("GET", f"{path}/status")["current_execution"]["id"] == first
    client.clock.now += 60
    second = client.start(path)
    status = client.data("GET", f"{path}/status")
    assert (status["current_execution"]["id"], status["last_execution"]["id"]) == (second, first)
    client.clock.now += 60
    status = client.data("GET", f"{path}/status")
    assert (status["current_execution"], status["last_execution"]["id"]) == (None, second)


def test_batch_status_has_each_schema_once(client: Client) -> None:
    """Each schema is shown as of its newest execution, which may differ between schemas."""
    old = client.start()
    client.clock.now += 60
    new = client.start(schemas=["account"])
    (row,) = client.data("GET", f"/api/bulk/syncs/status?sync_id={SALESFORCE_TO_WAREHOUSE}&sync_id=nothing")
    assert (row["status"], row["nextExecutionTime"]) == ("created", None)
    assert {part["schema"]: (part["execution_id"], part["status"]) for part in row["schemas"]} == {
        "account": (new, "created"),
        "contact": (old, "completed"),
        "opportunity": (old, "completed"),
    }


def test_batch_status_of_all_or_active_syncs_ignores_ids(client: Client) -> None:
    """Without ids, all or active it gets a 400."""
    client.data("POST", f"{BULK}/activate", {"active": False})
    assert len(client.data("GET", "/api/bulk/syncs/status?all=true&sync_id=nothing")) == 2
    active = client.data("GET", f"/api/bulk/syncs/status?active=true&sync_id={SALESFORCE_TO_WAREHOUSE}")
    assert [row["sync_id"] == SALESFORCE_TO_WAREHOUSE for row in active] == [False]
    assert error_of(client("GET", "/api/bulk/syncs/status")) == (400, "bad_request")


def test_start_response_does_not_change_later(client: Client) -> None:
    """The returned document is independent of the execution's progress."""
    first = client.data("POST", f"{BULK}/executions", {}, key="photograph")
    client.clock.now += 60
    assert client.data("POST", f"{BULK}/executions", {}, key="photograph") == first
    assert (first["status"], client.execution(first["id"])["status"]) == ("created", "completed")


# model syncs


def test_start_response_of_a_model_sync_has_three_fields(client: Client) -> None:
    """Id, status and creation time; a GET returns the rest."""
    response = client.data("POST", f"{MODEL}/executions", {"resync": True})
    assert set(response) == {"id", "status", "created_at"}
    client.clock.now += 60
    row = client.execution(response["id"], MODEL)
    assert (row["status"], row["counts"]["total"], row["errors"]) == ("completed", 150, None)
    assert row["counts"]["insert"] + row["counts"]["update"] + row["counts"]["error"] == 150


def test_model_execution_lists_failed_records(make: Any) -> None:
    """Failed records are counted and described, and the execution completes."""
    seed = {"model_syncs": [{"id": WAREHOUSE_TO_SALESFORCE, "name": "m", "rows": 9, "errors": ["no email", "no name"]}]}
    client = make(seed)
    execution_id = client.start(MODEL)
    client.clock.now += 60
    row = client.execution(execution_id, MODEL)
    assert (row["status"], row["counts"]["error"], row["errors"]) == ("completed", 2, ["no email", "no name"])
    assert client.data("GET", "/api/events?type=sync.completed_with_errors")[0]["event"]["execution_id"] == execution_id


@pytest.mark.parametrize(
    "body",
    [
        {"identities": ["a"], "source_identities": [[{"x": 1}]]},
        {"identities": ["a"] * 1001},
        {"source_identities": [[]] * 1001},
    ],
)
def test_invalid_start_of_a_model_sync_gets_400_and_starts_nothing(client: Client, body: dict[str, Any]) -> None:
    """The two kinds of identities exclude each other, and there are at most 1000."""
    assert error_of(client("POST", f"{MODEL}/executions", body)) == (400, "bad_request")
    assert client.sandbox.starts(WAREHOUSE_TO_SALESFORCE) == []


def test_model_execution_syncs_only_the_given_identities(client: Client) -> None:
    """An execution for two identities has two records."""
    execution_id = client.start(MODEL, identities=["a", "b"])
    client.clock.now += 60
    assert client.execution(execution_id, MODEL)["counts"]["total"] == 2


def test_model_execution_list_is_filtered_and_ordered(client: Client) -> None:
    """only_completed omits running executions; ascending begins with the oldest."""
    first = client.start(MODEL)
    client.clock.now += 60
    second = client.start(MODEL)
    assert [row["id"] for row in client.data("GET", f"{MODEL}/executions")] == [second, first]
    assert [row["id"] for row in client.data("GET", f"{MODEL}/executions?ascending=true")] == [first, second]
    assert [row["id"] for row in client.data("GET", f"{MODEL}/executions?only_completed=true")] == [first]


# logs and events


def test_console_log_cursor_returns_only_new_lines(client: Client) -> None:
    """Every line is returned once."""
    execution_id = client.start()
    path = f"{BULK}/executions/{execution_id}/consolelog"
    first = client.data("GET", path)
    assert [entry["message"] for entry in first["entries"]] == ["Execution created"]
    client.clock.now += 60
    rest = client.data("GET", f"{path}?after={first['next_cursor']}")
    assert rest["entries"][0]["message"] == "Execution scheduled"
    assert rest["entries"][-1]["message"] == "Execution completed"
    assert client.data("GET", f"{path}?after={rest['next_cursor']}") == {
        "entries": None,
        "next_cursor": rest["next_cursor"],
    }
    assert client.data("GET", path)["entries"] == first["entries"] + rest["entries"]
    assert client.data("GET", f"{path}?limit=2")["entries"] == rest["entries"][-2:]
    assert error_of(client("GET", f"{path}?after=x")) == (400, "bad_request")


def test_console_log_keeps_the_last_fifty_lines(make: Any) -> None:
    """Earlier lines are dropped."""
    client = make(one_sync(schemas=[f"s{number}" for number in range(60)]))
    execution_id = client.start()
    client.clock.now += 60
    entries = client.data("GET", f"{BULK}/executions/{execution_id}/consolelog?limit=500")["entries"]
    assert (len(entries), entries[-1]["message"]) == (50, "Execution completed")


def test_console_log_of_a_schema_has_only_its_lines(make: Any) -> None:
    """It contains the reason of the failure."""
    bad = {"id": "b", "outcome": "failed", "status_message": "no such field"}
    client = make(one_sync(schemas=["a", bad]))
    execution_id = client.start()
    client.clock.now += 60
    path = f"{BULK}/executions/{execution_id}/schemas"
    entries = client.data("GET", f"{path}/b/consolelog")["entries"]
    assert {entry["payload"]["schema"] for entry in entries} == {"b"}
    assert (entries[-1]["level"], "no such field" in entries[-1]["message"]) == ("error", True)
    assert client("GET", f"{path}/c/consolelog").status == 404


def test_log_files_have_signed_urls(client: Client) -> None:
    """The URL needs no key until it expires."""
    execution_id = client.start()
    files = client.data("GET", f"{BULK}/executions/{execution_id}/logs")
    assert set(files) == {"Expires", "URLs"}
    (url,) = files["URLs"]
    target = url.removeprefix(client.sandbox.url)
    response = client("GET", target, authorization=None)
    assert json.loads(response.body.splitlines()[0])["message"] == "Execution created"
    assert client("GET", target.replace("signature=", "signature=0"), authorization=None).status == 403
    client.clock.now = at(files["Expires"]) + 1
    assert client("GET", target, authorization=None).status == 403


def test_model_execution_has_log_files_by_type(client: Client) -> None:
    """An index of types, the URLs of each type, and a redirect to each file."""
    path = f"{MODEL}/executions/{client.start(MODEL)}"
    assert client.data("GET", f"{path}/logs")["errors"]["count"] == 0
    assert len(client.data("GET", f"{path}/errors")["urls"]) == 1
    response = client("GET", f"{path}/errors/errors.json")
    assert (response.status, "signature=" in response.headers["location"]) == (302, True)
    assert client("GET", f"{path}/nothing").status == client("GET", f"{path}/errors/nothing").status == 404


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        ("completed", "bulk_sync.completed"),
        ("failed", "bulk_sync.failed"),
        ("interrupted", "bulk_sync.failed"),
        ("canceled", "bulk_sync.canceled"),
        ("errors", "bulk_sync.completed_with_error"),
    ],
)
def test_execution_has_two_events(make: Any, outcome: str, event: str) -> None:
    """One when it runs and one when it has ended, newest first."""
    client = make(one_sync(outcome=outcome))
    execution_id = client.start()
    client.clock.now += 60
    rows = client.data("GET", "/api/events")
    assert [row["type"] for row in rows] == [event, "bulk_sync.running"]
    assert {row["event"]["execution_id"] for row in rows} == {execution_id}
    assert {row["event"]["sync_id"] for row in rows} == {SALESFORCE_TO_WAREHOUSE}
    assert {row["type"] for row in rows} <= set(client.data("GET", "/api/events_types"))


def test_event_bounds_are_exclusive(client: Client) -> None:
    """Neither bound includes an event of exactly that time."""
    client.start()
    client.clock.now += 60
    newest, oldest = client.data("GET", "/api/events")
    assert client.data("GET", f"/api/events?starting_after={oldest['created_at']}") == [newest]
    assert client.data("GET", f"/api/events?ending_before={newest['created_at']}") == [oldest]
    assert client.data("GET", f"/api/events?starting_after={newest['created_at']}") is None
    assert client.data("GET", "/api/events?type=bulk_sync.running") == [oldest]
    assert error_of(client("GET", "/api/events?starting_after=yesterday")) == (422, "validation")
    assert error_of(client("GET", "/api/events?type=nothing")) == (422, "validation")


def test_delayed_event_keeps_its_time(client: Client) -> None:
    """It is listed later, with the time of what it reports."""
    execution_id = client.start()
    client.sandbox.delay_events(execution_id, 300)
    client.clock.now += 60
    assert client.data("GET", "/api/events") is None
    client.clock.now += 300
    ended, _ = client.data("GET", "/api/events")
    assert ended["created_at"] == client.execution(execution_id)["completed_at"]


def test_scheduled_execution_is_marked_as_scheduled(client: Client) -> None:
    """In the execution and in its event."""
    started = client.sandbox.run_on_schedule(SALESFORCE_TO_WAREHOUSE)
    client.clock.now += 60
    assert client.data("GET", "/api/events")[0]["event"]["trigger_source"] == "schedule"
    assert client.execution(started.id)["type"] == "scheduled"
    assert client.execution(client.start())["type"] == "manual"


def test_events_are_kept_for_48_hours(client: Client) -> None:
    """Ten rows by default, at most a hundred; events of deleted syncs stay."""
    for _ in range(60):
        client.start()
        client.clock.now += 60
    assert len(client.data("GET", "/api/events")) == 10
    assert len(client.data("GET", "/api/events?limit=1000")) == 100
    client("DELETE", BULK)
    assert client.data("GET", "/api/events")
    client.clock.now += 48 * 3600
    assert client.data("GET", "/api/events") is None


# rows


def rows_of(path: Path, table: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f'SELECT * FROM "{table}" ORDER BY id').fetchall()
    finally:
        connection.close()


def test_completed_execution_writes_a_table_for_each_schema(make: Any, tmp_path: Path) -> None:
    """Each table has the output name of its schema."""
    path = tmp_path / "warehouse.sqlite"
    client = make(
        one_sync(schemas=[{"id": "public.a", "rows": 3}, {"id": "b", "output_name": 'odd "name"'}]), deliver_to=path
    )
    execution_id = client.start()
    assert not path.exists()
    client.clock.now += 60
    client.execution(execution_id)
    assert rows_of(path, "a") == [
        (1, "a 1", 3.7, "2026-01-01T00:01:00Z"),
        (2, "a 2", 7.4, "2026-01-01T00:02:00Z"),
        (3, "a 3", 11.1, "2026-01-01T00:03:00Z"),
    ]
    assert len(rows_of(path, 'odd ""name""')) == 100


@pytest.mark.parametrize(("how", "left"), [({}, 4), ({"resync_mode": "refetch"}, 4), ({"resync_mode": "rebuild"}, 3)])
def test_only_resync_and_rebuild_replace_a_table(make: Any, tmp_path: Path, how: dict[str, str], left: int) -> None:
    """A row that the source lacks survives every other execution."""
    path = tmp_path / "warehouse.sqlite"
    client = make(one_sync(schemas=[{"id": "a", "rows": 3}]), deliver_to=path)
    for body in ({}, how):
        execution_id = client.start(**body)
        client.clock.now += 60
        client.execution(execution_id)
        if not body:
            connection = sqlite3.connect(path)
            connection.execute("INSERT OR REPLACE INTO a VALUES (99, 'stray', 0, '')")
            connection.commit()
            connection.close()
    assert len(rows_of(path, "a")) == left


@pytest.mark.parametrize(("body", "outcome"), [({"test": True}, "completed"), ({}, "failed"), ({}, "canceled")])
def test_test_or_failed_execution_writes_no_rows(make: Any, tmp_path: Path, body: dict[str, Any], outcome: str) -> None:
    """Neither of them writes to the SQLite file."""
    client = make(one_sync(outcome=outcome), deliver_to=tmp_path / "warehouse.sqlite")
    execution_id = client.start(**body)
    client.clock.now += 60
    assert client.execution(execution_id)["status"] == outcome
    assert not (tmp_path / "warehouse.sqlite").exists()


def test_sqlite_destination_gets_rows_of_completed_schemas(make: Any, tmp_path: Path) -> None:
    """Schemas that failed are not written."""
    path = tmp_path / "here.sqlite"
    connections = [
        {"name": "from", "type": "postgresql"},
        {"name": "to", "type": "sqlite", "configuration": {"path": str(path)}},
    ]
    client = make({"connections": connections, **one_sync(schemas=["a", {"id": "b", "outcome": "failed"}])})
    client.start()
    client.clock.now += 60
    client.data("GET", "/api/me")
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
    connection.close()


def test_execution_fails_when_its_rows_cannot_be_written(make: Any, tmp_path: Path) -> None:
    """The status_message names the file."""
    client = make(deliver_to=tmp_path / "no such directory" / "x.sqlite")
    execution_id = client.start()
    client.clock.now += 60
    row = client.execution(execution_id)
    assert row["status"] == "failed"
    assert "x.sqlite: unable to open" in row["status_message"]
