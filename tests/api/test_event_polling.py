"""Polling events, and selecting the new ends of executions, with scripted responses."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_polytomic.api.events import poll
from airflow_provider_polytomic.api.events.poll import (
    ENDS,
    OVERLAP,
    EventFilter,
    Position,
    advance,
    find_watched_syncs,
    initial_position,
    list_ended_since,
    poll_events,
)
from airflow_provider_polytomic.api.plan import Response
from airflow_provider_polytomic.triggers import events as trigger_module

from .plans import PlanDriver

NOON = 1_790_000_000.0


def at(seconds: float) -> str:
    moment = datetime.fromtimestamp(NOON + seconds, timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def event(number: int, seconds: float, type_: str = "bulk_sync.completed", **about: Any) -> dict[str, Any]:
    about = {"sync_id": "s1", "sync_name": "Orders", "execution_id": f"x{number}", **about}
    return {"id": f"v{number}", "type": type_, "created_at": at(seconds), "event": about}


def rows(*rows: Any, token: str | None = None) -> Response:
    return Response(200, {}, json.dumps({"data": rows or None, "pagination": {"next_page_token": token}}).encode())


def one(row: Any) -> Response:
    return Response(200, {}, json.dumps({"data": row}).encode())


NOT_FOUND = Response(404, {}, json.dumps({"status": 404, "message": "no", "key": "k", "metadata": {}}).encode())


def test_first_poll_begins_ten_minutes_before_the_newest_event() -> None:
    """It requests the newest event, then all events since ten minutes before it, by the server's time."""
    driver = PlanDriver([rows(event(9, -100), token="more"), rows(event(9, -100), event(8, -300))], now=NOON + 3600)

    window = driver.drive(poll_events(None))

    first, second = (dict(request.query) for request in driver.requests)
    assert first == {"limit": "1"}
    assert second == {"limit": "100", "starting_after": at(-100 - OVERLAP)}
    assert [ended.key for ended in window.ends] == ["x9", "x8"]
    assert window.floor == NOON - 100 - OVERLAP


def test_poll_without_any_event_is_unbounded() -> None:
    """In an organization without events, this poll and the next are unbounded."""
    driver = PlanDriver([rows(), rows()], now=NOON)

    window = driver.drive(poll_events(None))

    assert dict(driver.requests[1].query) == {"limit": "100"}
    assert (window.since, window.floor) == (-math.inf, -math.inf)


def test_poll_reads_all_pages() -> None:
    """More than a page of events is read to the end."""
    driver = PlanDriver([rows(event(3, 0), token="t2"), rows(event(2, 0), token="t3"), rows(event(1, 0))], now=NOON)

    window = driver.drive(poll_events(NOON - 5))

    assert [dict(request.query).get("page_token") for request in driver.requests] == [None, "t2", "t3"]
    assert len(window.ends) == 3


def test_event_from_the_future_does_not_hide_others() -> None:
    """The next poll begins before this machine's time, even if the newest event claims to be from tomorrow."""
    driver = PlanDriver([rows(event(1, 86400))], now=NOON)

    assert driver.drive(poll_events(NOON - 5)).floor == NOON - OVERLAP


def test_poll_returns_only_ends_of_executions() -> None:
    """Other events are ignored. Both spellings of an end with errors are the same event."""
    rest = [
        event(1, 0, "bulk_sync.running"),
        event(2, 0, "sync.invented"),
        {"id": "v3", "type": "user.created", "created_at": at(0), "event": {"error": {"is": "an object"}}},
        {"id": "v4", "type": "bulk_sync.completed", "created_at": at(0), "event": None},
        {"id": "v5", "type": None},
    ]
    end_events = [
        event(6, 0, "bulk_sync.completed_with_error"),
        event(7, 0, "sync.completed_with_errors"),
        event(8, 0, "sync.failed", error="it broke " * 100, target_connection_id="c1"),
    ]
    window = PlanDriver([rows(*rest, *end_events)], now=NOON).drive(poll_events(NOON - 5))

    ends = [end.data for end in window.ends]
    assert [(data["kind"], data["event"]) for data in ends] == [
        ("bulk", "completed_with_errors"),
        ("model", "completed_with_errors"),
        ("model", "failed"),
    ]
    assert len(ends[-1]["error"]) <= 301
    assert ends[-1]["target_connection_id"] == "c1"


def test_trigger_accepts_the_events_that_polls_return() -> None:
    """The trigger accepts exactly the ends that exist."""
    assert trigger_module.EVENTS == ENDS


def window_of(*ended: dict[str, Any]) -> Any:
    return PlanDriver([rows(*ended)], now=NOON).drive(poll_events(NOON - 5000))


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (EventFilter(), ["x2", "x1"]),
        (EventFilter(kind="model"), ["x2"]),
        (EventFilter(sync_id="s2"), ["x2"]),
        (EventFilter(sync_name="Orders"), ["x1"]),
        (EventFilter(events=("failed", "canceled")), ["x3"]),
        (EventFilter(kind="bulk", trigger_source="schedule"), ["x1"]),
        (EventFilter(sync_id="s3"), []),
    ],
)
def test_filter_selects_matching_ends_oldest_first(wanted: EventFilter, taken: list[str]) -> None:
    """All conditions of a filter have to match."""
    window = window_of(
        event(1, 0, trigger_source="schedule"),
        event(2, -60, "sync.completed", sync_id="s2", sync_name="Customers"),
        event(3, -90, "bulk_sync.failed", trigger_source="api"),
    )

    assert [ended.key for ended in wanted.select(window.ends)] == taken


def test_new_watcher_ignores_earlier_ends() -> None:
    """Ends of the first poll are not new. One that appears later is, even if it is older."""
    first = window_of(event(2, 0))
    position = initial_position(first, EventFilter())

    new, position = advance(position, window_of(event(2, 0), event(1, -500)), EventFilter())

    assert [ended.key for ended in new] == ["x1"]
    assert advance(position, window_of(event(2, 0), event(1, -500)), EventFilter())[0] == []


def test_several_events_of_one_execution_are_one_end() -> None:
    """Two events of one execution with different ids are one end."""
    again = {**event(1, 0), "id": "another"}

    assert len(advance(Position(0, 0), window_of(event(1, 0), again), EventFilter())[0]) == 1


def test_position_round_trips_through_json() -> None:
    """A stored position is restored unchanged, also that of a watcher that has seen no event."""
    for position in (Position(NOON + 0.1, NOON, {"x1": NOON + 1 / 3}), Position(-math.inf, NOON)):
        assert Position.from_json(json.loads(json.dumps(position.to_json(), allow_nan=False))) == position


@pytest.mark.parametrize(
    "kept",
    [
        None,
        7,
        "x",
        [],
        {},
        {"floor": None, "polled_at": 1},
        {"floor": "x", "polled_at": 1, "seen": {}},
        {"floor": 1, "polled_at": float("nan"), "seen": {}},
        {"floor": 1, "polled_at": 1, "seen": [1]},
    ],
)
def test_position_rejects_invalid_json(kept: Any) -> None:
    """Any other stored value is rejected."""
    with pytest.raises(ValueError, match="not a position"):
        Position.from_json(kept)


# --- executions


def execution(number: int, seconds: float | None, status: str = "completed", **more: Any) -> dict[str, Any]:
    ended = None if seconds is None else at(seconds)
    return {"id": f"x{number}", "status": status, "created_at": at(-9000), "completed_at": ended, **more}


def test_list_ended_since_returns_ends_after_a_time() -> None:
    """Pages are read back to the first execution that had ended before. Test runs and running ones are excluded."""
    sync = one({"id": "s1", "name": "Orders", "source_connection_id": "c1"})
    pages = [
        rows(execution(9, None, "running"), execution(8, 0), execution(7, -10, is_test=True), token="t2"),
        rows(execution(6, -20, "interrupted"), execution(5, -30, "errors"), execution(4, -40), token="t3"),
    ]
    driver = PlanDriver([sync, NOT_FOUND, *pages], now=NOON)
    (found,) = driver.drive(find_watched_syncs(EventFilter(sync_id="s1")))

    ended = driver.drive(list_ended_since(*found, NOON - 40))

    assert [(one.key, one.at - NOON, one.data["event"]) for one in ended] == [
        ("x8", 0, "completed"),
        ("x6", -20, "failed"),
        ("x5", -30, "completed_with_errors"),
    ]
    assert ended[-1].data["type"] == "bulk_sync.completed_with_error"
    assert (ended[0].data["sync_name"], ended[0].data["source_connection_id"]) == ("Orders", "c1")


def test_find_watched_syncs_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Of too many syncs some are omitted, and a log line gives their number."""
    monkeypatch.setattr(poll, "MAX_SYNCS", 2)
    listed = rows(*({"id": f"s{number}", "name": "Orders"} for number in range(5)))

    found = PlanDriver([listed], now=NOON).drive(find_watched_syncs(EventFilter(kind="bulk", sync_name="Orders")))

    assert [sync.id for _, sync in found] == ["s0", "s1"]
    assert "There are 5 matching bulk syncs" in caplog.text


def test_completed_execution_with_failed_records_ended_with_errors() -> None:
    """The status alone does not make an execution a success."""
    kind, sync = PlanDriver([rows(), rows({"id": "m1", "name": "Health"})], now=NOON).drive(
        find_watched_syncs(EventFilter())
    )[0]
    counted = execution(1, 0, counts={"error": 3})

    (ended,) = PlanDriver([rows(counted)], now=NOON).drive(list_ended_since(kind, sync, NOON - 1))

    assert (ended.data["kind"], ended.data["event"]) == ("model", "completed_with_errors")
    assert ended.data["type"] == "sync.completed_with_errors"


@pytest.mark.parametrize("target", [{"target_connection_id": "c1"}, {"target": {"connection_id": "c1"}}])
def test_end_of_a_model_sync_contains_the_target_connection(target: dict[str, Any]) -> None:
    """A list of syncs returns it as a field, a single sync within its target."""
    kind, sync = PlanDriver([rows(), rows({"id": "m1", "name": "Health"} | target)], now=NOON).drive(
        find_watched_syncs(EventFilter())
    )[0]

    (ended,) = PlanDriver([rows(execution(1, 0))], now=NOON).drive(list_ended_since(kind, sync, NOON - 1))

    assert ended.data["target_connection_id"] == "c1"


def test_invalid_field_of_an_event_does_not_hide_an_end() -> None:
    """An event whose error is not text, or next to an event without an id, is still an end."""
    odd = event(8, 0, "sync.failed", error={"code": 7})
    driver = PlanDriver([rows({"id": 5}), rows({"id": None}, "text", odd)], now=NOON)

    new, _ = advance(Position(-1e12, 0), driver.drive(poll_events(None)), EventFilter(events=("failed",)))

    assert [(ended.data["event_id"], ended.data["error"]) for ended in new] == [("v8", None)]


def test_event_takes_precedence_over_its_execution() -> None:
    """An end that both report is new once, with the data of the event."""
    kind, sync = PlanDriver([rows({"id": "s1", "name": "Orders"})], now=NOON).drive(
        find_watched_syncs(EventFilter("bulk"))
    )[0]
    executions = PlanDriver([rows(execution(1, 0))], now=NOON).drive(list_ended_since(kind, sync, NOON - 1))

    new, _ = advance(Position(0, 0), window_of(event(1, 0.5)), EventFilter(), executions)

    assert [ended.data["event_id"] for ended in new] == ["v1"]


def test_completed_bulk_execution_with_records_in_error_ended_with_errors() -> None:
    """As for operators, records in error are errors, whichever count reports them."""
    kind, sync = PlanDriver([rows({"id": "s1", "name": "Orders"})], now=NOON).drive(
        find_watched_syncs(EventFilter("bulk"))
    )[0]
    by_schema = execution(1, 0, error_count=0, schemas=[{"schema": "a", "status": "completed", "error_count": 3}])

    (ended,) = PlanDriver([rows(by_schema)], now=NOON).drive(list_ended_since(kind, sync, NOON - 1))

    assert ended.data["type"] == "bulk_sync.completed_with_error"
