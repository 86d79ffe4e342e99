"""How executions begin, move and end."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE

from .conftest import BULK, Asker, problem_of

MODEL = f"/api/syncs/{WAREHOUSE_TO_SALESFORCE}"


def one_sync(**sync: Any) -> dict[str, Any]:
    return {"bulk_syncs": [{"id": SALESFORCE_TO_WAREHOUSE, "name": "s", "schemas": ["a", "b"], **sync}]}


def at(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_an_execution_moves_through_all_statuses(ask: Asker) -> None:
    """From created to completed in ten seconds, its schemas alongside, its counts never shrinking."""
    execution_id, begin = ask.start(), ask.clock.now
    seen, counts = [], []
    while not seen or seen[-1] != "completed":
        row = ask.execution(execution_id)
        seen += [row["status"]] if row["status"] not in seen else []
        counts.append(row["record_count"])
        assert {part["status"] for part in row["schemas"]} == {row["status"]}
        assert row["record_count"] == sum(part["record_count"] for part in row["schemas"])
        assert (row["completed_at"] is None) == (row["status"] != "completed")
        assert (row["started_at"] is None) == (row["status"] in ("created", "scheduled"))
        ask.clock.now += 0.25
    assert seen == ["created", "scheduled", "running", "exporting", "processing", "completed"]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1], len(set(counts)) > 10) == (0, 860, True)
    assert at(row["completed_at"]) == at(row["updated_at"]) == begin + 10


def test_speed_divides_every_duration(make: Any) -> None:
    """At speed 10 the ten seconds are one."""
    ask = make(speed=10)
    execution_id = ask.start()
    ask.clock.now += 0.99
    assert ask.execution(execution_id)["status"] == "processing"
    ask.clock.now += 0.01
    assert ask.execution(execution_id)["status"] == "completed"


def test_what_was_asked_for_is_in_the_execution(ask: Asker) -> None:
    """Arguments of the start show in every later answer."""
    row = ask.execution(ask.start(resync_mode="rebuild", fetch_mode="full", schemas=["account"]))
    assert (row["is_resync"], row["is_test"], row["is_partial"]) == (True, False, True)
    assert (row["output_disposition"], row["fetch_mode"]) == ("rebuild", "full")
    assert [part["schema"] for part in row["schemas"]] == ["account"]


def test_naming_every_schema_is_not_partial(ask: Asker) -> None:
    """Empty means all, and so does naming all."""
    for schemas in ([], ["opportunity", "contact", "account"]):
        assert ask.execution(ask.start(schemas=schemas))["is_partial"] is False
        ask.clock.now += 60


def test_a_test_run_takes_five_records_of_each_schema(ask: Asker) -> None:
    """A test execution reads up to five records."""
    execution_id = ask.start(test=True)
    ask.clock.now += 60
    row = ask.execution(execution_id)
    assert (row["is_test"], row["record_count"]) == (True, 15)


def test_disabled_schemas_are_left_out(ask: Asker) -> None:
    """An execution has the enabled schemas only."""
    ask.data("PATCH", f"{BULK}/schemas/contact", {"enabled": False})
    assert [part["schema"] for part in ask.execution(ask.start())["schemas"]] == ["account", "opportunity"]


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
def test_a_refused_start_is_a_400_and_starts_nothing(ask: Asker, body: dict[str, Any]) -> None:
    """The reference lists 400 and 409 for a start, and no 422."""
    assert problem_of(ask("POST", f"{BULK}/executions", body)) == (400, "bad_request")
    assert ask.sandbox.starts(SALESFORCE_TO_WAREHOUSE) == []


def test_the_old_resync_is_a_rebuild_in_the_old_versions(ask: Asker) -> None:
    """Before 2025-09-18 the boolean is understood."""
    answer = ask.data("POST", f"{BULK}/executions", {"resync": True}, version="2024-02-08")
    assert (answer["is_resync"], answer["output_disposition"]) == (True, "rebuild")


def test_an_inactive_bulk_sync_can_be_started(ask: Asker) -> None:
    """Inactive only means that its schedule does not run."""
    ask.data("POST", f"{BULK}/activate", {"active": False})
    assert ask.start()


@pytest.mark.parametrize("path", [BULK, MODEL])
def test_one_runs_at_a_time(ask: Asker, path: str) -> None:
    """A second start is a 409 until the first has ended."""
    ask.start(path)
    assert problem_of(ask("POST", f"{path}/executions", {})) == (409, "conflict")
    ask.clock.now += 60
    assert ask.start(path)


def test_a_cancel_takes_a_while(ask: Asker) -> None:
    """It is canceling, blocks the next start, and is canceled later; its schemas know no canceling."""
    execution_id = ask.start()
    ask.clock.now += 5
    asked = ask.data("POST", f"{BULK}/executions/{execution_id}/cancel")
    assert asked == {"message": "cancellation requested"}
    row = ask.execution(execution_id)
    assert (row["status"], row["completed_at"], row["schemas"][0]["status"]) == ("canceling", None, "exporting")
    assert ask("POST", f"{BULK}/executions", {}).status == 409
    ask.clock.now += 2
    ended = ask.execution(execution_id)
    assert (ended["status"], ended["schemas"][0]["status"]) == ("canceled", "canceled")
    assert ended["record_count"] == row["record_count"]
    assert at(ended["completed_at"]) == ask.clock.now
    assert ask.data("POST", f"{BULK}/executions/{execution_id}/cancel") == {"message": "nothing is running"}


@pytest.mark.parametrize("path", [BULK, MODEL])
def test_cancelling_a_sync_cancels_what_runs(ask: Asker, path: str) -> None:
    """The sync's own cancel reaches the execution, and bears that nothing runs."""
    assert ask.data("POST", f"{path}/cancel") == {"message": "nothing is running"}
    execution_id = ask.start(path)
    ask.data("POST", f"{path}/cancel")
    assert ask.execution(execution_id, path)["status"] == "canceling"


def test_one_schema_can_be_cancelled(ask: Asker) -> None:
    """The others go on, and the execution completes."""
    execution_id = ask.start()
    ask.clock.now += 5
    ask.data("POST", f"{BULK}/schemas/contact/cancel")
    ask.clock.now += 5
    row = ask.execution(execution_id)
    assert row["status"] == "completed"
    assert {part["schema"]: part["status"] for part in row["schemas"]} == {
        "account": "completed",
        "contact": "canceled",
        "opportunity": "completed",
    }


@pytest.mark.parametrize("status", ["failed", "interrupted", "canceled"])
def test_a_bad_end_takes_the_schemas_along(make: Any, status: str) -> None:
    """Where nothing is said about a schema, it ends as the execution does."""
    ask = make(one_sync(outcome=status, status_message="no such host"))
    execution_id = ask.start()
    assert ask.execution(execution_id)["status_message"] is None
    ask.clock.now += 60
    row = ask.execution(execution_id)
    assert (row["status"], row["status_message"]) == (status, "no such host")
    assert {part["status"] for part in row["schemas"]} == {status}


def test_outcomes_follow_one_another(make: Any) -> None:
    """The first run fails, all later ones succeed."""
    ask = make(one_sync(outcome=["failed", "completed"]))
    ended = []
    for _ in range(3):
        execution_id = ask.start()
        ask.clock.now += 60
        ended.append(ask.execution(execution_id)["status"])
    assert ended == ["failed", "completed", "completed"]


@pytest.mark.parametrize(("outcome", "status"), [({}, "errors"), ({"outcome": "completed"}, "completed")])
def test_a_schema_can_fail_alone(make: Any, outcome: dict[str, str], status: str) -> None:
    """It spoils the execution, unless the seed says how that ends."""
    bad = {"id": "b", "rows": 50, "outcome": "failed", "status_message": "no such field"}
    ask = make(one_sync(schemas=["a", bad], **outcome))
    execution_id = ask.start()
    ask.clock.now += 60
    row = ask.execution(execution_id)
    assert row["status"] == status
    assert [(part["status"], part["record_count"], part["status_message"]) for part in row["schemas"]] == [
        ("completed", 100, None),
        ("failed", 25, "no such field"),
    ]
    assert bool(row["status_message"]) == (status == "errors")


def test_errors_and_warnings_are_counted(make: Any) -> None:
    """Counts of the schemas add up to those of the execution."""
    ask = make(one_sync(schemas=[{"id": "a", "rows": 10, "errors": 3, "warnings": 2}, {"id": "b", "errors": 1}]))
    execution_id = ask.start()
    ask.clock.now += 60
    row = ask.execution(execution_id)
    assert (row["status"], row["error_count"], row["warning_count"]) == ("errors", 4, 2)
    assert [part["error_count"] for part in row["schemas"]] == [3, 1]


def test_a_status_that_nobody_knows(make: Any) -> None:
    """Invented statuses come on the way and at the end, where completed_at tells that it has ended."""
    ask = make(one_sync(stages=["created", "scheduled", "pondering"], outcome="quarantined"))
    execution_id = ask.start()
    ask.clock.now += 5
    assert ask.execution(execution_id)["status"] == "pondering"
    ask.clock.now += 5
    row = ask.execution(execution_id)
    assert (row["status"], row["completed_at"] is None) == ("quarantined", False)


def test_an_execution_without_duration_has_ended_when_it_begins(make: Any) -> None:
    """A duration of 0 is possible."""
    ask = make(one_sync(duration=0))
    assert ask.execution(ask.start())["status"] == "completed"


def test_ended_executions_come_by_their_end(ask: Asker) -> None:
    """only_terminal leaves out what runs; ascending turns both orders around."""
    first = ask.start()
    ask.clock.now += 60
    second = ask.start()
    ask.clock.now += 60
    third = ask.start()
    path = f"{BULK}/executions"
    assert [row["id"] for row in ask.data("GET", path)] == [third, second, first]
    assert [row["id"] for row in ask.data("GET", f"{path}?ascending=true")] == [first, second, third]
    assert [row["id"] for row in ask.data("GET", f"{path}?only_terminal=true")] == [second, first]
    assert [row["id"] for row in ask.data("GET", f"{path}?only_terminal=true&ascending=true")] == [first, second]
    tail = json.loads(ask("GET", f"{path}?only_terminal=true&limit=1").body)["pagination"]["next_page_token"]
    rest = ask.data("GET", f"{path}?only_terminal=true&limit=1&page_token={quote(tail, safe='')}")
    assert [row["id"] for row in rest] == [first]


@pytest.mark.parametrize("path", [BULK, MODEL])
def test_the_status_of_a_sync(ask: Asker, path: str) -> None:
    """The current execution while one runs, and the last that ended."""
    nothing = {"current_execution": None, "last_execution": None, "next_execution_time": None}
    assert ask.data("GET", f"{path}/status") == nothing
    first = ask.start(path)
    assert ask.data("GET", f"{path}/status")["current_execution"]["id"] == first
    ask.clock.now += 60
    second = ask.start(path)
    status = ask.data("GET", f"{path}/status")
    assert (status["current_execution"]["id"], status["last_execution"]["id"]) == (second, first)
    ask.clock.now += 60
    status = ask.data("GET", f"{path}/status")
    assert (status["current_execution"], status["last_execution"]["id"]) == (None, second)


def test_the_status_of_many_shows_each_schema_once(ask: Asker) -> None:
    """A schema is shown with its newest execution, which need not be the same for all."""
    old = ask.start()
    ask.clock.now += 60
    new = ask.start(schemas=["account"])
    (row,) = ask.data("GET", f"/api/bulk/syncs/status?sync_id={SALESFORCE_TO_WAREHOUSE}&sync_id=nothing")
    assert (row["status"], row["nextExecutionTime"]) == ("created", None)
    assert {part["schema"]: (part["execution_id"], part["status"]) for part in row["schemas"]} == {
        "account": (new, "created"),
        "contact": (old, "completed"),
        "opportunity": (old, "completed"),
    }


def test_the_status_of_all_or_of_the_active(ask: Asker) -> None:
    """all and active ignore what ids were named; without any of them it is a 400."""
    ask.data("POST", f"{BULK}/activate", {"active": False})
    assert len(ask.data("GET", "/api/bulk/syncs/status?all=true&sync_id=nothing")) == 2
    active = ask.data("GET", f"/api/bulk/syncs/status?active=true&sync_id={SALESFORCE_TO_WAREHOUSE}")
    assert [row["sync_id"] == SALESFORCE_TO_WAREHOUSE for row in active] == [False]
    assert problem_of(ask("GET", "/api/bulk/syncs/status")) == (400, "bad_request")


def test_an_old_photograph_is_not_the_execution(ask: Asker) -> None:
    """The answer to a start stays as it was, whatever became of it."""
    first = ask.data("POST", f"{BULK}/executions", {}, key="photograph")
    ask.clock.now += 60
    assert ask.data("POST", f"{BULK}/executions", {}, key="photograph") == first
    assert (first["status"], ask.execution(first["id"])["status"]) == ("created", "completed")


# model syncs


def test_a_model_execution_starts_with_little_said(ask: Asker) -> None:
    """The answer to a start has an id, a status and when; the rest is in the execution."""
    answer = ask.data("POST", f"{MODEL}/executions", {"resync": True})
    assert set(answer) == {"id", "status", "created_at"}
    ask.clock.now += 60
    row = ask.execution(answer["id"], MODEL)
    assert (row["status"], row["counts"]["total"], row["errors"]) == ("completed", 150, None)
    assert row["counts"]["insert"] + row["counts"]["update"] + row["counts"]["error"] == 150


def test_a_model_execution_says_what_went_wrong(make: Any) -> None:
    """Records that failed are counted and named, and it completes all the same."""
    seed = {"model_syncs": [{"id": WAREHOUSE_TO_SALESFORCE, "name": "m", "rows": 9, "errors": ["no email", "no name"]}]}
    ask = make(seed)
    execution_id = ask.start(MODEL)
    ask.clock.now += 60
    row = ask.execution(execution_id, MODEL)
    assert (row["status"], row["counts"]["error"], row["errors"]) == ("completed", 2, ["no email", "no name"])
    assert ask.data("GET", "/api/events?type=sync.completed_with_errors")[0]["event"]["execution_id"] == execution_id


@pytest.mark.parametrize(
    "body",
    [
        {"identities": ["a"], "source_identities": [[{"x": 1}]]},
        {"identities": ["a"] * 1001},
        {"source_identities": [[]] * 1001},
    ],
)
def test_a_refused_start_of_a_model_sync_is_a_400_and_starts_nothing(ask: Asker, body: dict[str, Any]) -> None:
    """Identities exclude each other, and there are 1000 at most."""
    assert problem_of(ask("POST", f"{MODEL}/executions", body)) == (400, "bad_request")
    assert ask.sandbox.starts(WAREHOUSE_TO_SALESFORCE) == []


def test_only_the_named_records_are_synced(ask: Asker) -> None:
    """An execution for two identities has two records."""
    execution_id = ask.start(MODEL, identities=["a", "b"])
    ask.clock.now += 60
    assert ask.execution(execution_id, MODEL)["counts"]["total"] == 2


def test_model_executions_are_listed(ask: Asker) -> None:
    """only_completed leaves out what runs; ascending begins with the oldest."""
    first = ask.start(MODEL)
    ask.clock.now += 60
    second = ask.start(MODEL)
    assert [row["id"] for row in ask.data("GET", f"{MODEL}/executions")] == [second, first]
    assert [row["id"] for row in ask.data("GET", f"{MODEL}/executions?ascending=true")] == [first, second]
    assert [row["id"] for row in ask.data("GET", f"{MODEL}/executions?only_completed=true")] == [first]


# logs and events


def test_the_console_log_is_followed_with_a_cursor(ask: Asker) -> None:
    """With the cursor of the last answer come the lines written since, and nothing twice."""
    execution_id = ask.start()
    path = f"{BULK}/executions/{execution_id}/consolelog"
    first = ask.data("GET", path)
    assert [entry["message"] for entry in first["entries"]] == ["Execution created"]
    ask.clock.now += 60
    rest = ask.data("GET", f"{path}?after={first['next_cursor']}")
    assert rest["entries"][0]["message"] == "Execution scheduled"
    assert rest["entries"][-1]["message"] == "Execution completed"
    assert ask.data("GET", f"{path}?after={rest['next_cursor']}") == {
        "entries": None,
        "next_cursor": rest["next_cursor"],
    }
    assert ask.data("GET", path)["entries"] == first["entries"] + rest["entries"]
    assert ask.data("GET", f"{path}?limit=2")["entries"] == rest["entries"][-2:]
    assert problem_of(ask("GET", f"{path}?after=x")) == (400, "bad_request")


def test_the_console_log_keeps_its_last_fifty_lines(make: Any) -> None:
    """A longer log has lost its beginning."""
    ask = make(one_sync(schemas=[f"s{number}" for number in range(60)]))
    execution_id = ask.start()
    ask.clock.now += 60
    entries = ask.data("GET", f"{BULK}/executions/{execution_id}/consolelog?limit=500")["entries"]
    assert (len(entries), entries[-1]["message"]) == (50, "Execution completed")


def test_the_log_of_a_schema(make: Any) -> None:
    """It has this schema's lines only, and says why it failed."""
    bad = {"id": "b", "outcome": "failed", "status_message": "no such field"}
    ask = make(one_sync(schemas=["a", bad]))
    execution_id = ask.start()
    ask.clock.now += 60
    path = f"{BULK}/executions/{execution_id}/schemas"
    entries = ask.data("GET", f"{path}/b/consolelog")["entries"]
    assert {entry["payload"]["schema"] for entry in entries} == {"b"}
    assert (entries[-1]["level"], "no such field" in entries[-1]["message"]) == ("error", True)
    assert ask("GET", f"{path}/c/consolelog").status == 404


def test_log_files_are_behind_signed_urls(ask: Asker) -> None:
    """Whoever has the URL reads the log without a key, until it expires."""
    execution_id = ask.start()
    files = ask.data("GET", f"{BULK}/executions/{execution_id}/logs")
    assert set(files) == {"Expires", "URLs"}
    (url,) = files["URLs"]
    target = url.removeprefix(ask.sandbox.url)
    answer = ask("GET", target, authorization=None)
    assert json.loads(answer.body.splitlines()[0])["message"] == "Execution created"
    assert ask("GET", target.replace("signature=", "signature=0"), authorization=None).status == 403
    ask.clock.now = at(files["Expires"]) + 1
    assert ask("GET", target, authorization=None).status == 403


def test_log_files_of_a_model_execution_come_by_type(ask: Asker) -> None:
    """An index of types, the URLs of each, and a redirect to each file."""
    path = f"{MODEL}/executions/{ask.start(MODEL)}"
    assert ask.data("GET", f"{path}/logs")["errors"]["count"] == 0
    assert len(ask.data("GET", f"{path}/errors")["urls"]) == 1
    answer = ask("GET", f"{path}/errors/errors.json")
    assert (answer.status, "signature=" in answer.headers["location"]) == (302, True)
    assert ask("GET", f"{path}/nothing").status == ask("GET", f"{path}/errors/nothing").status == 404


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
def test_an_execution_causes_two_events(make: Any, outcome: str, event: str) -> None:
    """One when it runs and one when it has ended, the newest first."""
    ask = make(one_sync(outcome=outcome))
    execution_id = ask.start()
    ask.clock.now += 60
    rows = ask.data("GET", "/api/events")
    assert [row["type"] for row in rows] == [event, "bulk_sync.running"]
    assert {row["event"]["execution_id"] for row in rows} == {execution_id}
    assert {row["event"]["sync_id"] for row in rows} == {SALESFORCE_TO_WAREHOUSE}
    assert {row["type"] for row in rows} <= set(ask.data("GET", "/api/events_types"))


def test_events_are_bounded_strictly(ask: Asker) -> None:
    """Neither bound includes an event of that very moment."""
    ask.start()
    ask.clock.now += 60
    newest, oldest = ask.data("GET", "/api/events")
    assert ask.data("GET", f"/api/events?starting_after={oldest['created_at']}") == [newest]
    assert ask.data("GET", f"/api/events?ending_before={newest['created_at']}") == [oldest]
    assert ask.data("GET", f"/api/events?starting_after={newest['created_at']}") is None
    assert ask.data("GET", "/api/events?type=bulk_sync.running") == [oldest]
    assert problem_of(ask("GET", "/api/events?starting_after=yesterday")) == (422, "validation")
    assert problem_of(ask("GET", "/api/events?type=nothing")) == (422, "validation")


def test_events_can_be_late(ask: Asker) -> None:
    """An event that a test holds back shows later, with the time of what it tells of."""
    execution_id = ask.start()
    ask.sandbox.delay_events(execution_id, 300)
    ask.clock.now += 60
    assert ask.data("GET", "/api/events") is None
    ask.clock.now += 300
    ended, _ = ask.data("GET", "/api/events")
    assert ended["created_at"] == ask.execution(execution_id)["completed_at"]


def test_polytomic_starts_executions_itself(ask: Asker) -> None:
    """One that its schedule has started says so, itself and in its event."""
    started = ask.sandbox.run_on_schedule(SALESFORCE_TO_WAREHOUSE)
    ask.clock.now += 60
    assert ask.data("GET", "/api/events")[0]["event"]["trigger_source"] == "schedule"
    assert ask.execution(started.id)["type"] == "scheduled"
    assert ask.execution(ask.start())["type"] == "manual"


def test_events_are_kept_for_two_days(ask: Asker) -> None:
    """Ten come by default, a hundred at most, and what is 48 hours old is gone; deleted syncs keep theirs."""
    for _ in range(60):
        ask.start()
        ask.clock.now += 60
    assert len(ask.data("GET", "/api/events")) == 10
    assert len(ask.data("GET", "/api/events?limit=1000")) == 100
    ask("DELETE", BULK)
    assert ask.data("GET", "/api/events")
    ask.clock.now += 48 * 3600
    assert ask.data("GET", "/api/events") is None


# rows


def rows_of(path: Path, table: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(f'SELECT * FROM "{table}" ORDER BY id').fetchall()
    finally:
        connection.close()


def test_what_was_synced_can_be_read(make: Any, tmp_path: Path) -> None:
    """A completed execution leaves a table for each schema, named like its output."""
    path = tmp_path / "warehouse.sqlite"
    ask = make(
        one_sync(schemas=[{"id": "public.a", "rows": 3}, {"id": "b", "output_name": 'odd "name"'}]), deliver_to=path
    )
    execution_id = ask.start()
    assert not path.exists()
    ask.clock.now += 60
    ask.execution(execution_id)
    assert rows_of(path, "a") == [
        (1, "a 1", 3.7, "2026-01-01T00:01:00Z"),
        (2, "a 2", 7.4, "2026-01-01T00:02:00Z"),
        (3, "a 3", 11.1, "2026-01-01T00:03:00Z"),
    ]
    assert len(rows_of(path, 'odd ""name""')) == 100


@pytest.mark.parametrize(("how", "left"), [({}, 4), ({"resync_mode": "refetch"}, 4), ({"resync_mode": "rebuild"}, 3)])
def test_a_rebuild_replaces_and_a_normal_run_adds(make: Any, tmp_path: Path, how: dict[str, str], left: int) -> None:
    """A row that the source does not have survives everything but a resync or a rebuild."""
    path = tmp_path / "warehouse.sqlite"
    ask = make(one_sync(schemas=[{"id": "a", "rows": 3}]), deliver_to=path)
    for body in ({}, how):
        execution_id = ask.start(**body)
        ask.clock.now += 60
        ask.execution(execution_id)
        if not body:
            connection = sqlite3.connect(path)
            connection.execute("INSERT OR REPLACE INTO a VALUES (99, 'stray', 0, '')")
            connection.commit()
            connection.close()
    assert len(rows_of(path, "a")) == left


@pytest.mark.parametrize(("body", "outcome"), [({"test": True}, "completed"), ({}, "failed"), ({}, "canceled")])
def test_what_did_not_succeed_leaves_no_rows(make: Any, tmp_path: Path, body: dict[str, Any], outcome: str) -> None:
    """Neither test runs nor failed ones write."""
    ask = make(one_sync(outcome=outcome), deliver_to=tmp_path / "warehouse.sqlite")
    execution_id = ask.start(**body)
    ask.clock.now += 60
    assert ask.execution(execution_id)["status"] == outcome
    assert not (tmp_path / "warehouse.sqlite").exists()


def test_a_sqlite_destination_gets_its_rows(make: Any, tmp_path: Path) -> None:
    """Only the schemas that completed are written."""
    path = tmp_path / "here.sqlite"
    connections = [
        {"name": "from", "type": "postgresql"},
        {"name": "to", "type": "sqlite", "configuration": {"path": str(path)}},
    ]
    ask = make({"connections": connections, **one_sync(schemas=["a", {"id": "b", "outcome": "failed"}])})
    ask.start()
    ask.clock.now += 60
    ask.data("GET", "/api/me")
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("a",)]
    connection.close()


def test_an_execution_fails_that_cannot_write(make: Any, tmp_path: Path) -> None:
    """A file that cannot be opened is told in the execution's status_message."""
    ask = make(deliver_to=tmp_path / "no such directory" / "x.sqlite")
    execution_id = ask.start()
    ask.clock.now += 60
    row = ask.execution(execution_id)
    assert row["status"] == "failed"
    assert "x.sqlite: unable to open" in row["status_message"]
