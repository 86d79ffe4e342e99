"""Refreshing the schemas of a connection: when it has finished, and when waiting for it ends."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from airflow_provider_polytomic.api.errors import PolytomicConflictError, PolytomicTimeoutError
from airflow_provider_polytomic.api.plan import Response, SendResult
from airflow_provider_polytomic.api.syncs.schema_refresh import refresh_schemas

from .plans import Hand

BEFORE, AFTER = "2026-11-18T10:00:00Z", "2026-11-18T11:00:00Z"
ACCEPTED = Response(202, {"location": "/api/connections/c/schemas/status"})


def cache(status: str | None, finished: str | None) -> SendResult:
    return Response(200, {}, json.dumps({"data": {"cache_status": status, "last_refresh_finished": finished}}).encode())


@pytest.mark.parametrize(
    "looks",
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
def test_it_ends_when_a_newer_refresh_has_finished(looks: list[SendResult]) -> None:
    """Not when the status says `fresh`: it said so before. Then what is known of the cache is the result."""
    hand = Hand([cache("fresh", BEFORE), ACCEPTED, *looks])

    known = hand.drive(refresh_schemas("c", poke_interval=7, deadline=hand.now + 600))

    assert known.last_refresh_finished == datetime.fromisoformat("2026-11-18T11:00:00+00:00")
    assert [(request.method, request.path) for request in hand.requests[:3]] == [
        ("GET", "/api/connections/c/schemas/status"),
        ("POST", "/api/connections/c/schemas/refresh"),
        ("GET", "/api/connections/c/schemas/status"),
    ]
    assert hand.sleeps == [7.0] * (len(looks) - 1)


def test_where_no_times_are_told_the_status_must_do() -> None:
    """It has to be seen refreshing, and then no more."""
    hand = Hand([cache("fresh", None), ACCEPTED, cache("fresh", None), cache("refreshing", None), cache("fresh", None)])

    assert hand.drive(refresh_schemas("c", poke_interval=5, deadline=hand.now + 600)).cache_status == "fresh"
    assert len(hand.sleeps) == 2


@pytest.mark.parametrize("status", ["refreshing", "fresh", "failed"])
def test_waiting_is_bounded(status: str) -> None:
    """Whatever the status is, the deadline ends it, and the error says what the status was."""
    hand = Hand([cache("fresh", BEFORE), ACCEPTED, *[cache(status, BEFORE)] * 9])

    with pytest.raises(PolytomicTimeoutError, match=f"connection c had not been refreshed .* status is '{status}'"):
        hand.drive(refresh_schemas("c", poke_interval=30, deadline=hand.now + 100))
    assert hand.sleeps == [30, 30, 30, 10]


def test_a_refused_refresh_is_not_waited_for() -> None:
    """The API's word goes up as it is."""
    conflict = Response(409, {}, b'{"message": "not healthy"}')
    with pytest.raises(PolytomicConflictError, match="not healthy"):
        Hand([cache("fresh", BEFORE), conflict]).drive(refresh_schemas("c", poke_interval=5, deadline=9e9))


def test_passing_trouble_does_not_end_it() -> None:
    """Each call is repeated by itself; asking twice for a refresh does no harm."""
    busy = Response(503)
    hand = Hand([busy, cache("fresh", BEFORE), busy, ACCEPTED, busy, busy, cache("fresh", AFTER)])

    assert hand.drive(refresh_schemas("c", poke_interval=5, deadline=hand.now + 600)).cache_status == "fresh"
