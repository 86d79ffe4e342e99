"""Schedules of the sandbox's bulk syncs: they are stored, and have a next due time, but start nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.schedule import next_due

from .conftest import BULK, Client, error_of
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
def test_schedule_is_due_at_its_next_time(rule: dict[str, Any], expected: str | None) -> None:
    """In UTC, and never at the current time."""
    found = next_due(rule, NOW.timestamp())

    assert found == (None if expected is None else datetime.fromisoformat(f"{expected}:00+00:00").timestamp())


def test_next_execution_time_is_that_of_the_earliest_schedule(client: Client) -> None:
    """It advances when that time has passed; an inactive sync has none."""
    client.clock.now = NOW.timestamp()
    (default,) = client.data("GET", f"{BULK}/schedules")
    client.data("PUT", f"{BULK}/schedules/{default['id']}", {"schedule": {"frequency": "daily", "hour": "12"}})
    client.data("POST", f"{BULK}/schedules", {"schedule": {"frequency": "hourly", "minute": "30"}})

    def next_time() -> str | None:
        return client.data("GET", f"{BULK}/status")["next_execution_time"]

    assert next_time() == "2026-11-18T10:30:00.000000Z"
    client.clock.now += timedelta(hours=1.25).total_seconds()
    assert next_time() == "2026-11-18T12:00:00.000000Z"
    client.data("POST", f"{BULK}/activate", {"active": False})
    assert next_time() is None
    assert len(client.data("GET", f"{BULK}/schedules")) == 2


def test_sync_and_schedule_routes_change_the_same_schedules(client: Client) -> None:
    """A change on either route is visible on the other; the default schedule keeps its id."""
    (default,) = client.data("GET", f"{BULK}/schedules")
    sync = client.data(
        "PUT", BULK, {**SYNC, "default_schedule": {"frequency": "daily", "hour": "3", "created_at": "x"}}
    )
    assert sync["default_schedule"].items() >= {"id": default["id"], "frequency": "daily", "hour": "3"}.items()
    more = [{"frequency": "weekly", "day_of_week": "friday", "resync_mode": "rebuild", "schemas": ["account"]}]
    (shown,) = client.data("PUT", BULK, {**SYNC, "additional_schedules": more})["additional_schedules"]
    assert shown.items() >= more[0].items()
    first, second = client.data("GET", f"{BULK}/schedules")
    assert (first["id"], first["frequency"], first["isDefault"]) == (default["id"], "manual", True)
    assert {name: second[name] for name in ("dayOfWeek", "syncMode", "schemas", "isDefault")} == {
        "dayOfWeek": "friday",
        "syncMode": "rebuild",
        "schemas": ["account"],
        "isDefault": False,
    }
    assert client.data("PUT", BULK, SYNC)["additional_schedules"] is None


def test_schedules_of_a_sync_have_the_documented_timestamps(client: Client) -> None:
    """And who changed them; only the default schedule has an id, and unset fields are omitted."""
    sync = client.data("POST", "/api/bulk/syncs", {**SYNC, "additional_schedules": [{"frequency": "continuous"}]})
    default, (other,) = sync["default_schedule"], sync["additional_schedules"]
    stamps = ["frequency", "created_at", "created_by", "updated_at", "updated_by"]
    assert (list(default), list(other)) == (["id", *stamps], stamps)
    for schedule in (default, other):
        assert schedule["created_at"] == schedule["updated_at"] == sync["created_at"]
        assert schedule["created_by"] == schedule["updated_by"] == sync["created_by"]
    assert set(default["created_by"]) == {"id", "name", "type"}


def test_put_changes_the_timestamps_of_changed_schedules_only(client: Client) -> None:
    """A changed default schedule is updated, other changed ones are replaced."""
    body = {**SYNC, "additional_schedules": [{"frequency": "continuous"}, {"frequency": "hourly"}]}
    path = f"/api/bulk/syncs/{client.data('POST', '/api/bulk/syncs', body)['id']}"
    before = client.data("GET", path)
    client.clock.now += 60
    assert client.data("PUT", path, body)["additional_schedules"] == before["additional_schedules"]
    assert client.data("GET", path)["default_schedule"] == before["default_schedule"]
    more = [{"frequency": "hourly"}, {"frequency": "hourly"}]
    sync = client.data("PUT", path, {**SYNC, "default_schedule": {"frequency": "daily"}, "additional_schedules": more})
    default, (kept, added) = sync["default_schedule"], sync["additional_schedules"]
    assert kept == before["additional_schedules"][1]
    assert added["created_at"] == default["updated_at"] == sync["updated_at"] > before["updated_at"]
    assert default["created_at"] == before["created_at"]


def test_default_schedule_cannot_be_deleted(client: Client) -> None:
    """It can only be replaced; others can be deleted."""
    (default,) = client.data("GET", f"{BULK}/schedules")
    other = client.data("POST", f"{BULK}/schedules", {"schedule": {"frequency": "hourly"}})
    assert error_of(client("DELETE", f"{BULK}/schedules/{default['id']}")) == (403, "forbidden")
    assert client("DELETE", f"{BULK}/schedules/{other['id']}").status == 204
    assert error_of(client("DELETE", f"{BULK}/schedules/{other['id']}")) == (404, "not_found")


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
def test_invalid_schedule_gets_400_and_changes_nothing(client: Client, schedule: Any) -> None:
    """The reference lists no 422 for schedules."""
    assert error_of(client("POST", f"{BULK}/schedules", {"schedule": schedule})) == (400, "bad_request")
    assert len(client.data("GET", f"{BULK}/schedules")) == 1
