"""Conditions of the sandbox: the server's clock, its ``Date`` header, and lists read from a lagging replica."""

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

from .conftest import BULK, Client, Clock, error_of

MODEL = f"/api/syncs/{WAREHOUSE_TO_SALESFORCE}"


@contextmanager
def served(sandbox: Sandbox) -> Iterator[str]:
    server = Server(sandbox)
    try:
        yield server.url
    finally:
        server.close()


# the clock


def test_date_header_follows_the_sandboxs_clock(client: Client) -> None:
    """It is the sandbox's time in whole seconds, in successful responses and in errors."""
    assert client("GET", "/api/me").headers["date"] == "Mon, 21 Sep 2026 14:13:20 GMT"
    client.clock.now += 90
    assert client("GET", "/api/bulk/syncs/none").headers["date"] == "Mon, 21 Sep 2026 14:14:50 GMT"
    assert client("GET", "/api/me", authorization="Bearer wrong").headers["date"] == "Mon, 21 Sep 2026 14:14:50 GMT"


def test_date_header_is_the_time_of_the_response_after_a_delay(client: Client) -> None:
    """A request that is delayed by ten seconds gets the time of its end."""
    before = parsedate_to_datetime(client("GET", "/api/me").headers["date"])
    client.sandbox.faults.delay(10, "GET /api/me", after=True)
    after = parsedate_to_datetime(client("GET", "/api/me").headers["date"])
    assert (after - before).total_seconds() == 10


def test_date_header_is_not_recorded_with_an_idempotency_key(client: Client) -> None:
    """A replay returns the recorded body, but the current time."""
    first = client("POST", f"{BULK}/executions", {}, key="replayed-key")
    client.clock.now += 60
    again = client("POST", f"{BULK}/executions", {}, key="replayed-key")
    assert again.body == first.body
    assert again.headers["date"] > first.headers["date"]


def test_date_header_of_a_fault_is_kept(client: Client) -> None:
    """A gateway in front of the API may have its own clock."""
    client.sandbox.faults.status(503, headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"})
    assert client("GET", "/api/me").headers["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"


def test_server_sends_one_date_header_by_the_sandboxs_clock(clock: Clock) -> None:
    """Also over HTTP, and when the HTTP server itself rejects the method."""
    with served(Sandbox(now=clock)) as url:
        for method, status in (("GET", 401), ("OPTIONS", 501)):
            connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
            with closing(connection):
                connection.request(method, "/api/me")
                response = connection.getresponse()
                response.read()
            assert response.status == status
            assert response.headers.get_all("date") == ["Mon, 21 Sep 2026 14:13:20 GMT"]


def test_date_header_can_be_omitted(client: Client) -> None:
    """No response has one until the faults are cleared."""
    client.sandbox.faults.omit_date()
    assert "date" not in client("GET", "/api/me").headers
    client.sandbox.faults.clear()
    assert "date" in client("GET", "/api/me").headers


@pytest.mark.parametrize("seconds", [90.0, -90.0])
def test_skew_moves_timestamps_and_date_header(client: Client, seconds: float) -> None:
    """The server's clock differs from the client's by exactly the skew."""
    client.sandbox.faults.skew(seconds)
    execution = client.execution(client.start())
    created_at = datetime.fromisoformat(execution["created_at"].replace("Z", "+00:00"))
    assert created_at.timestamp() == client.clock.now + seconds
    assert execution["created_at"].endswith(".250000Z")
    shown = parsedate_to_datetime(client("GET", "/api/me").headers["date"]).timestamp()
    assert shown == int(client.clock.now + seconds)


# lists that lag


@pytest.mark.parametrize("sync", [BULK, MODEL])
def test_lag_hides_a_new_execution_from_lists(client: Client, sync: str) -> None:
    """It blocks a start and a GET finds it, but lists and statuses omit it until it is old enough."""
    client.sandbox.faults.lag(5)
    execution_id = client.start(sync)
    assert error_of(client("POST", f"{sync}/executions", {})) == (409, "conflict")
    assert client.execution(execution_id, sync)["id"] == execution_id
    assert client.data("GET", f"{sync}/executions") is None
    assert client.data("GET", f"{sync}/status")["current_execution"] is None
    client.clock.now += 5
    assert [item["id"] for item in client.data("GET", f"{sync}/executions")] == [execution_id]
    assert client.data("GET", f"{sync}/status")["current_execution"]["id"] == execution_id


def test_lag_hides_a_new_execution_from_the_batch_status(client: Client) -> None:
    """The batch status has the execution before it."""
    old = client.start()
    client.clock.now += 3600
    client.sandbox.faults.lag(5)
    new = client.start()
    status = f"/api/bulk/syncs/status?sync_id={SALESFORCE_TO_WAREHOUSE}"
    assert {row["execution_id"] for row in client.data("GET", status)[0]["schemas"]} == {old}
    client.clock.now += 5
    assert {row["execution_id"] for row in client.data("GET", status)[0]["schemas"]} == {new}


@pytest.mark.parametrize("sync", [BULK, MODEL])
def test_lag_with_get_responds_404_until_the_execution_is_old_enough(client: Client, sync: str) -> None:
    """With ``get=True`` a GET of the execution does not find it either."""
    client.sandbox.faults.lag(5, get=True)
    execution_id = client.start(sync)
    assert error_of(client("GET", f"{sync}/executions/{execution_id}")) == (404, "not_found")
    client.clock.now += 5
    assert client.execution(execution_id, sync)["id"] == execution_id


def test_lag_ends_when_it_is_set_to_zero_or_cleared(client: Client) -> None:
    """Both make all executions visible at once."""
    execution_id = client.start()
    for end in (lambda: client.sandbox.faults.lag(0), client.sandbox.faults.clear):
        client.sandbox.faults.lag(3600, get=True)
        assert client.data("GET", f"{BULK}/executions") is None
        end()
        assert [item["id"] for item in client.data("GET", f"{BULK}/executions")] == [execution_id]
        assert json.loads(client("GET", f"{BULK}/executions/{execution_id}").body)["data"]["id"] == execution_id
