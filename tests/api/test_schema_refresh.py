"""Refreshing the schemas of a connection: when the refresh has finished, and when the wait ends."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from airflow_provider_polytomic.api.errors import PolytomicConflictError, PolytomicTimeoutError
from airflow_provider_polytomic.api.plan import Response, SendResult
from airflow_provider_polytomic.api.syncs.schema_refresh import refresh_schemas

from .plans import PlanDriver

BEFORE, AFTER = "2026-11-18T10:00:00Z", "2026-11-18T11:00:00Z"
ACCEPTED = Response(202, {"location": "/api/connections/c/schemas/status"})


def cache(status: str | None, finished: str | None) -> SendResult:
    return Response(200, {}, json.dumps({"data": {"cache_status": status, "last_refresh_finished": finished}}).encode())


@pytest.mark.parametrize(
    "polls",
    [
        [cache("refreshing", BEFORE), cache("refreshing", BEFORE), cache("fresh", AFTER)],
        [cache("fresh", BEFORE), cache("fresh", AFTER)],
        [cache("fresh", AFTER)],
        [cache(None, AFTER)],
        [cache("completed", AFTER)],
        [cache("refreshing", BEFORE), cache("stale", BEFORE), cache("fresh", AFTER)],
        [cache("refreshing", None), cache("refreshing", AFTER), cache("fresh", AFTER)],
    ],
    ids=["slow", "late", "quick", "no status", "other name", "not yet fresh", "first ever"],
)
def test_refresh_ends_when_a_newer_refresh_has_finished(polls: list[SendResult]) -> None:
    """The status `fresh` alone is no end, because it was `fresh` before. The state of the cache is returned."""
    driver = PlanDriver([cache("fresh", BEFORE), ACCEPTED, *polls])

    refreshed = driver.drive(refresh_schemas("c", poke_interval=7, deadline=driver.now + 600))

    assert refreshed.last_refresh_finished == datetime.fromisoformat("2026-11-18T11:00:00+00:00")
    assert [(request.method, request.path) for request in driver.requests[:3]] == [
        ("GET", "/api/connections/c/schemas/status"),
        ("POST", "/api/connections/c/schemas/refresh"),
        ("GET", "/api/connections/c/schemas/status"),
    ]
    assert driver.sleeps == [7.0] * (len(polls) - 1)


def test_refresh_without_times_ends_by_the_status() -> None:
    """The status has to change to `refreshing` and back."""
    driver = PlanDriver(
        [cache("fresh", None), ACCEPTED, cache("fresh", None), cache("refreshing", None), cache("fresh", None)]
    )

    assert driver.drive(refresh_schemas("c", poke_interval=5, deadline=driver.now + 600)).cache_status == "fresh"
    assert len(driver.sleeps) == 2


@pytest.mark.parametrize("status", ["refreshing", "fresh", "failed"])
def test_refresh_times_out_at_the_deadline(status: str) -> None:
    """Under any status the deadline ends the wait. The error contains the status."""
    driver = PlanDriver([cache("fresh", BEFORE), ACCEPTED, *[cache(status, BEFORE)] * 9])

    with pytest.raises(PolytomicTimeoutError, match=f"connection c had not been refreshed .* status is '{status}'"):
        driver.drive(refresh_schemas("c", poke_interval=30, deadline=driver.now + 100))
    assert driver.sleeps == [30, 30, 30, 10]


def test_refused_refresh_raises_the_error_of_the_api() -> None:
    """The error of the API is raised unchanged."""
    conflict = Response(409, {}, b'{"message": "not healthy"}')
    with pytest.raises(PolytomicConflictError, match="not healthy"):
        PlanDriver([cache("fresh", BEFORE), conflict]).drive(refresh_schemas("c", poke_interval=5, deadline=9e9))


def test_refresh_repeats_requests_after_transient_failures() -> None:
    """Each request is retried. Requesting a refresh twice has no effect."""
    busy = Response(503)
    driver = PlanDriver([busy, cache("fresh", BEFORE), busy, ACCEPTED, busy, busy, cache("fresh", AFTER)])

    assert driver.drive(refresh_schemas("c", poke_interval=5, deadline=driver.now + 600)).cache_status == "fresh"
