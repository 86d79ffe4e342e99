"""Permanent conditions: the server's clock, its ``Date`` header, and lists read from a replica that lags."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE
from airflow_provider_polytomic.sandbox.server import Server

from .conftest import BULK, Asker, Clock, problem_of

MODEL = f"/api/syncs/{WAREHOUSE_TO_SALESFORCE}"


@contextmanager
def served(sandbox: Sandbox) -> Iterator[str]:
    server = Server(sandbox)
    try:
        yield server.url
    finally:
        server.close()


# the clock


def test_date_header_follows_the_sandboxs_clock(ask: Asker) -> None:
    """It is the sandbox's time in whole seconds, in good answers and in errors."""
    assert ask("GET", "/api/me").headers["date"] == "Mon, 21 Sep 2026 14:13:20 GMT"
    ask.clock.now += 90
    assert ask("GET", "/api/bulk/syncs/none").headers["date"] == "Mon, 21 Sep 2026 14:14:50 GMT"
    assert ask("GET", "/api/me", authorization="Bearer wrong").headers["date"] == "Mon, 21 Sep 2026 14:14:50 GMT"


def test_date_header_is_of_the_answer_when_the_request_was_delayed(ask: Asker) -> None:
    """A request that takes ten seconds is answered with the time of its end."""
    before = parsedate_to_datetime(ask("GET", "/api/me").headers["date"])
    ask.sandbox.faults.delay(10, "GET /api/me", after=True)
    after = parsedate_to_datetime(ask("GET", "/api/me").headers["date"])
    assert (after - before).total_seconds() == 10


def test_date_header_is_not_recorded_with_an_idempotency_key(ask: Asker) -> None:
    """A replay has the recorded body and the time at which it is sent."""
    first = ask("POST", f"{BULK}/executions", {}, key="replayed-key")
    ask.clock.now += 60
    again = ask("POST", f"{BULK}/executions", {}, key="replayed-key")
    assert again.body == first.body
    assert again.headers["date"] > first.headers["date"]


def test_date_header_is_kept_when_a_fault_names_one(ask: Asker) -> None:
    """A gateway in front of the API may have a clock of its own."""
    ask.sandbox.faults.status(503, headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"})
    assert ask("GET", "/api/me").headers["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"


def test_server_sends_one_date_header_by_the_sandboxs_clock(clock: Clock) -> None:
    """Over HTTP too, also where the HTTP server itself refuses the method."""
    with served(Sandbox(now=clock)) as url:
        for method, status in (("GET", 401), ("OPTIONS", 501)):
            connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
            with closing(connection):
                connection.request(method, "/api/me")
                answer = connection.getresponse()
                answer.read()
            assert answer.status == status
            assert answer.headers.get_all("date") == ["Mon, 21 Sep 2026 14:13:20 GMT"]


def test_date_header_can_be_omitted(ask: Asker) -> None:
    """Until the faults are cleared no answer has one."""
    ask.sandbox.faults.omit_date()
    assert "date" not in ask("GET", "/api/me").headers
    ask.sandbox.faults.clear()
    assert "date" in ask("GET", "/api/me").headers


@pytest.mark.parametrize("seconds", [90.0, -90.0])
def test_skew_moves_timestamps_and_date_header(ask: Asker, seconds: float) -> None:
    """The server's clock differs from the client's by exactly that, with microseconds in timestamps."""
    ask.sandbox.faults.skew(seconds)
    execution = ask.execution(ask.start())
    created_at = datetime.fromisoformat(execution["created_at"].replace("Z", "+00:00"))
    assert created_at.timestamp() == ask.clock.now + seconds
    assert execution["created_at"].endswith(".250000Z")
    shown = parsedate_to_datetime(ask("GET", "/api/me").headers["date"]).timestamp()
    assert shown == int(ask.clock.now + seconds)


# lists that lag


@pytest.mark.parametrize("sync", [BULK, MODEL])
def test_lag_hides_a_new_execution_from_lists(ask: Asker, sync: str) -> None:
    """It blocks a start and a GET finds it, but no list and no status shows it until it is old enough."""
    ask.sandbox.faults.lag(5)
    execution_id = ask.start(sync)
    assert problem_of(ask("POST", f"{sync}/executions", {})) == (409, "conflict")
    assert ask.execution(execution_id, sync)["id"] == execution_id
    assert ask.data("GET", f"{sync}/executions") is None
    assert ask.data("GET", f"{sync}/status")["current_execution"] is None
    ask.clock.now += 5
    assert [item["id"] for item in ask.data("GET", f"{sync}/executions")] == [execution_id]
    assert ask.data("GET", f"{sync}/status")["current_execution"]["id"] == execution_id


def test_lag_hides_a_new_execution_from_the_status_of_many(ask: Asker) -> None:
    """The batch status shows the execution before it."""
    old = ask.start()
    ask.clock.now += 3600
    ask.sandbox.faults.lag(5)
    new = ask.start()
    status = f"/api/bulk/syncs/status?sync_id={SALESFORCE_TO_WAREHOUSE}"
    assert {row["execution_id"] for row in ask.data("GET", status)[0]["schemas"]} == {old}
    ask.clock.now += 5
    assert {row["execution_id"] for row in ask.data("GET", status)[0]["schemas"]} == {new}


@pytest.mark.parametrize("sync", [BULK, MODEL])
def test_lag_of_get_answers_404_until_the_execution_is_old_enough(ask: Asker, sync: str) -> None:
    """With ``get=True`` the execution itself is not found either."""
    ask.sandbox.faults.lag(5, get=True)
    execution_id = ask.start(sync)
    assert problem_of(ask("GET", f"{sync}/executions/{execution_id}")) == (404, "not_found")
    ask.clock.now += 5
    assert ask.execution(execution_id, sync)["id"] == execution_id


def test_lag_ends_when_it_is_set_to_zero_or_cleared(ask: Asker) -> None:
    """Both show everything at once."""
    execution_id = ask.start()
    for end in (lambda: ask.sandbox.faults.lag(0), ask.sandbox.faults.clear):
        ask.sandbox.faults.lag(3600, get=True)
        assert ask.data("GET", f"{BULK}/executions") is None
        end()
        assert [item["id"] for item in ask.data("GET", f"{BULK}/executions")] == [execution_id]
        assert json.loads(ask("GET", f"{BULK}/executions/{execution_id}").body)["data"]["id"] == execution_id
