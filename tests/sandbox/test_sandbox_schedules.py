"""Schedules of the sandbox's bulk syncs: they start nothing, but they are kept, and tell when they are due."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.schedule import next_due

from .conftest import BULK, Asker, problem_of
from .test_sandbox_api import SYNC

NOW = datetime.fromisoformat("2026-11-18T10:20:30+00:00")  # a Wednesday


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"frequency": "manual"}, None),
        ({"frequency": "continuous"}, None),
        ({"frequency": "hourly"}, "2026-11-18T11:00"),
        ({"frequency": "hourly", "minute": "40", "hour": "3"}, "2026-11-18T10:40"),
        ({"frequency": "hourly", "minute": "20"}, "2026-11-18T11:20"),
        ({"frequency": "daily"}, "2026-11-19T00:00"),
        ({"frequency": "daily", "hour": "10", "minute": "21"}, "2026-11-18T10:21"),
        ({"frequency": "daily", "hour": "10", "minute": "20"}, "2026-11-19T10:20"),
        ({"frequency": "weekly"}, "2026-11-23T00:00"),
        ({"frequency": "weekly", "day_of_week": "wednesday", "hour": "9"}, "2026-11-25T09:00"),
        ({"frequency": "weekly", "day_of_week": "sunday", "hour": "23", "minute": "59"}, "2026-11-22T23:59"),
    ],
)
def test_when_a_schedule_is_due(rule: dict[str, Any], expected: str | None) -> None:
    """At the next of its moments, in UTC; never at the present one."""
    found = next_due(rule, NOW.timestamp())

    assert found == (None if expected is None else datetime.fromisoformat(f"{expected}:00+00:00").timestamp())


def test_the_next_execution_moves_on(ask: Asker) -> None:
    """The soonest of all schedules counts; when its moment has passed, the next one does; a paused sync has none."""
    ask.clock.now = NOW.timestamp()
    (default,) = ask.data("GET", f"{BULK}/schedules")
    ask.data("PUT", f"{BULK}/schedules/{default['id']}", {"schedule": {"frequency": "daily", "hour": "12"}})
    ask.data("POST", f"{BULK}/schedules", {"schedule": {"frequency": "hourly", "minute": "30"}})

    def next_time() -> str | None:
        return ask.data("GET", f"{BULK}/status")["next_execution_time"]

    assert next_time() == "2026-11-18T10:30:00.000000Z"
    ask.clock.now += timedelta(hours=1.25).total_seconds()
    assert next_time() == "2026-11-18T12:00:00.000000Z"
    ask.data("POST", f"{BULK}/activate", {"active": False})
    assert next_time() is None
    assert len(ask.data("GET", f"{BULK}/schedules")) == 2


def test_a_sync_and_its_schedules_are_one(ask: Asker) -> None:
    """What is changed on one side is seen on the other; the default schedule stays the same one."""
    (default,) = ask.data("GET", f"{BULK}/schedules")
    sync = ask.data("PUT", BULK, {**SYNC, "default_schedule": {"frequency": "daily", "hour": "3", "created_at": "x"}})
    assert sync["default_schedule"].items() >= {"id": default["id"], "frequency": "daily", "hour": "3"}.items()
    more = [{"frequency": "weekly", "day_of_week": "friday", "resync_mode": "rebuild", "schemas": ["account"]}]
    (shown,) = ask.data("PUT", BULK, {**SYNC, "additional_schedules": more})["additional_schedules"]
    assert shown.items() >= more[0].items()
    first, second = ask.data("GET", f"{BULK}/schedules")
    assert (first["id"], first["frequency"], first["isDefault"]) == (default["id"], "manual", True)
    assert {name: second[name] for name in ("dayOfWeek", "syncMode", "schemas", "isDefault")} == {
        "dayOfWeek": "friday",
        "syncMode": "rebuild",
        "schemas": ["account"],
        "isDefault": False,
    }
    assert ask.data("PUT", BULK, SYNC)["additional_schedules"] is None


def test_schedules_of_a_sync_have_the_stamps_of_the_reference(ask: Asker) -> None:
    """Who created and updated each, and when; only the default schedule has an id, and unset fields are left out."""
    sync = ask.data("POST", "/api/bulk/syncs", {**SYNC, "additional_schedules": [{"frequency": "continuous"}]})
    default, (other,) = sync["default_schedule"], sync["additional_schedules"]
    stamps = ["frequency", "created_at", "created_by", "updated_at", "updated_by"]
    assert (list(default), list(other)) == (["id", *stamps], stamps)
    for schedule in (default, other):
        assert schedule["created_at"] == schedule["updated_at"] == sync["created_at"]
        assert schedule["created_by"] == schedule["updated_by"] == sync["created_by"]
    assert set(default["created_by"]) == {"id", "name", "type"}


def test_a_put_changes_the_stamps_of_schedules_that_differ(ask: Asker) -> None:
    """Unchanged schedules keep theirs; a changed default schedule is updated, others are replaced."""
    body = {**SYNC, "additional_schedules": [{"frequency": "continuous"}, {"frequency": "hourly"}]}
    path = f"/api/bulk/syncs/{ask.data('POST', '/api/bulk/syncs', body)['id']}"
    before = ask.data("GET", path)
    ask.clock.now += 60
    assert ask.data("PUT", path, body)["additional_schedules"] == before["additional_schedules"]
    assert ask.data("GET", path)["default_schedule"] == before["default_schedule"]
    more = [{"frequency": "hourly"}, {"frequency": "hourly"}]
    sync = ask.data("PUT", path, {**SYNC, "default_schedule": {"frequency": "daily"}, "additional_schedules": more})
    default, (kept, added) = sync["default_schedule"], sync["additional_schedules"]
    assert kept == before["additional_schedules"][1]
    assert added["created_at"] == default["updated_at"] == sync["updated_at"] > before["updated_at"]
    assert default["created_at"] == before["created_at"]


def test_the_default_schedule_cannot_be_deleted(ask: Asker) -> None:
    """It can only be replaced; the others go."""
    (default,) = ask.data("GET", f"{BULK}/schedules")
    other = ask.data("POST", f"{BULK}/schedules", {"schedule": {"frequency": "hourly"}})
    assert problem_of(ask("DELETE", f"{BULK}/schedules/{default['id']}")) == (403, "forbidden")
    assert ask("DELETE", f"{BULK}/schedules/{other['id']}").status == 204
    assert problem_of(ask("DELETE", f"{BULK}/schedules/{other['id']}")) == (404, "not_found")


@pytest.mark.parametrize(
    "schedule",
    [
        None,
        {},
        {"frequency": "sometimes"},
        {"frequency": 1},
        {"frequency": "daily", "hour": "24"},
        {"frequency": "daily", "hour": 3},
        {"frequency": "hourly", "minute": "-1"},
        {"frequency": "hourly", "minute": "²"},
        {"frequency": "weekly", "dayOfWeek": "someday"},
        {"frequency": "custom", "dayOfMonth": "0"},
        {"frequency": "daily", "selectiveMode": "much"},
    ],
)
def test_an_invalid_schedule_is_a_400_and_changes_nothing(ask: Asker, schedule: Any) -> None:
    """The reference lists no 422 for schedules."""
    assert problem_of(ask("POST", f"{BULK}/schedules", {"schedule": schedule})) == (400, "bad_request")
    assert len(ask.data("GET", f"{BULK}/schedules")) == 1
