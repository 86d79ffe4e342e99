"""Schedules of the sandbox's bulk syncs: they start nothing, but they are kept, and tell when they are due."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.schedule import due

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
    found = due(rule, NOW.timestamp())

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
    assert sync["default_schedule"] == {"id": default["id"], "frequency": "daily", "hour": "3"}
    more = [{"frequency": "weekly", "day_of_week": "friday", "resync_mode": "rebuild", "schemas": ["account"]}]
    assert ask.data("PUT", BULK, {**SYNC, "additional_schedules": more})["additional_schedules"] == more
    first, second = ask.data("GET", f"{BULK}/schedules")
    assert (first["id"], first["frequency"], first["isDefault"]) == (default["id"], "manual", True)
    assert {name: second[name] for name in ("dayOfWeek", "syncMode", "schemas", "isDefault")} == {
        "dayOfWeek": "friday",
        "syncMode": "rebuild",
        "schemas": ["account"],
        "isDefault": False,
    }
    assert ask.data("PUT", BULK, SYNC)["additional_schedules"] is None


def test_the_default_schedule_cannot_be_deleted(ask: Asker) -> None:
    """It can only be replaced; the others go."""
    (default,) = ask.data("GET", f"{BULK}/schedules")
    other = ask.data("POST", f"{BULK}/schedules", {"schedule": {"frequency": "hourly"}})
    assert problem_of(ask("DELETE", f"{BULK}/schedules/{default['id']}")) == (422, "validation")
    assert ask("DELETE", f"{BULK}/schedules/{other['id']}").status == 204
    assert problem_of(ask("DELETE", f"{BULK}/schedules/{other['id']}")) == (404, "not_found")


@pytest.mark.parametrize(
    ("schedule", "status"),
    [
        (None, 422),
        ({}, 422),
        ({"frequency": "sometimes"}, 422),
        ({"frequency": 1}, 400),
        ({"frequency": "daily", "hour": "24"}, 422),
        ({"frequency": "daily", "hour": 3}, 400),
        ({"frequency": "hourly", "minute": "-1"}, 422),
        ({"frequency": "hourly", "minute": "²"}, 422),
        ({"frequency": "weekly", "dayOfWeek": "someday"}, 422),
        ({"frequency": "custom", "dayOfMonth": "0"}, 422),
        ({"frequency": "daily", "selectiveMode": "much"}, 422),
    ],
)
def test_a_schedule_that_makes_no_sense(ask: Asker, schedule: Any, status: int) -> None:
    """It is refused, and nothing has changed."""
    answer = ask("POST", f"{BULK}/schedules", {"schedule": schedule})

    assert answer.status == json.loads(answer.body)["status"] == status
    assert len(ask.data("GET", f"{BULK}/schedules")) == 1
