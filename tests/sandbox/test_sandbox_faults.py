"""Idempotency keys and injected faults of the sandbox, and the controls that it has for tests."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from airflow_provider_polytomic.api.plan import Request, Response, TransportFailure
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC_ID

from .conftest import BULK, Client, error_of

START = f"{BULK}/executions"
HEADERS = {"authorization": "Bearer sandbox", "x-polytomic-version": "2025-09-18"}


def post(sandbox: Sandbox, key: str | None = None) -> Response | TransportFailure:
    headers = {**HEADERS, "idempotency-key": key} if key else HEADERS
    return sandbox.handle("POST", START, headers, b"{}")


# keys


def test_replay_returns_the_execution_of_the_first_request(client: Client) -> None:
    """The same key starts no second execution, even after the first has ended."""
    first = client.data("POST", START, {}, key="the-first-key")
    client.clock.now += 3600
    assert client.data("POST", START, {}, key="the-first-key") == first
    assert client.data("POST", START, {}, key="another_key_2")["id"] != first["id"]
    assert len(client.sandbox.starts(SYNC_ID)) == 2


def test_replay_returns_a_recorded_conflict(client: Client) -> None:
    """The 409 is returned again even when no execution runs any more."""
    client.start()
    assert client("POST", START, {}, key="too-early").status == 409
    client.clock.now += 3600
    assert error_of(client("POST", START, {}, key="too-early")) == (409, "conflict")
    assert len(client.sandbox.starts(SYNC_ID)) == 1


def test_replay_returns_a_recorded_rejection(client: Client) -> None:
    """A key of an invalid request cannot be used for a valid one."""
    assert client("POST", START, {"resync_mode": "x"}, key="burnt-key").status == 400
    assert client("POST", START, {}, key="burnt-key").status == 400


def test_idempotency_key_expires_after_a_day(client: Client) -> None:
    """After 24 hours it is a new key."""
    first = client.data("POST", START, {}, key="old-enough")
    client.clock.now += 24 * 3600 - 1
    assert client.data("POST", START, {}, key="old-enough") == first
    client.clock.now += 1
    assert client.data("POST", START, {}, key="old-enough")["id"] != first["id"]


@pytest.mark.parametrize(
    "key", ["short67", "x" * 256, "with space", "später-ja", "", "with.dot-here", "trailing-line\n"]
)
def test_malformed_idempotency_key_gets_400(client: Client, key: str) -> None:
    """8 to 255 characters of A-Z, a-z, 0-9, _ and -; a rejected key is not recorded."""
    assert error_of(client("POST", START, {}, key=key)) == (400, "bad_request")
    assert client.sandbox.starts(SYNC_ID) == []


@pytest.mark.parametrize("key", ["exactly8", "A_z-" * 63 + "123"])
def test_well_formed_idempotency_key_is_accepted(client: Client, key: str) -> None:
    """The shortest and the longest key are valid."""
    assert client("POST", START, {}, key=key).status == 200


def test_idempotency_key_is_ignored_except_on_post(client: Client) -> None:
    """A GET does not even validate it."""
    assert client("GET", "/api/me", key="x").status == 200


def test_unauthorized_request_records_no_idempotency_key(client: Client) -> None:
    """The 401 precedes idempotency."""
    assert client("POST", START, {}, key="later-good", authorization="Bearer wrong").status == 401
    assert client("POST", START, {}, key="later-good").status == 200


def test_second_request_gets_409_while_the_first_is_in_flight() -> None:
    """Once the first is released, the key returns its execution."""
    sandbox = Sandbox()
    held = sandbox.faults.delay(60, "POST .*/executions")
    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(post(sandbox, "in-flight")))
    first.start()
    while not held.hits:
        first.join(0.01)
    second = post(sandbox, "in-flight")
    assert isinstance(second, Response)
    assert second.status == 409
    assert sandbox.starts(SYNC_ID) == []
    held.release()
    first.join(10)
    assert answers[0].status == 200
    again = post(sandbox, "in-flight")
    assert isinstance(again, Response)
    assert again.body == answers[0].body


# faults


def test_status_fault_responds_without_processing(client: Client) -> None:
    """The status is returned once, with its headers, and a repeated request with the same key succeeds."""
    client.sandbox.faults.status(503, "POST .*/executions", headers={"Retry-After": "7"}, body="<html>busy</html>")
    assert client("GET", "/api/me").status == 200
    response = client("POST", START, {}, key="got-through")
    assert (response.status, response.headers["retry-after"], response.body) == (503, "7", b"<html>busy</html>")
    assert client.sandbox.starts(SYNC_ID) == []
    assert client("POST", START, {}, key="got-through").status == 200


def test_recorded_error_is_replayed(client: Client) -> None:
    """The error is returned again for that key, and another key succeeds."""
    client.sandbox.faults.status(500, "POST .*", recorded=True)
    for _ in range(3):
        assert error_of(client("POST", START, {}, key="burnt-key"))[0] == 500
    assert client.sandbox.starts(SYNC_ID) == []
    assert client("POST", START, {}, key="fresh-key").status == 200


def test_recorded_error_can_start_an_execution(client: Client) -> None:
    """A replay of the 500 never returns the id of the execution."""
    client.sandbox.faults.status(500, "POST .*", recorded=True, processed=True)
    assert client("POST", START, {}, key="burnt-key").status == 500
    assert len(client.sandbox.starts(SYNC_ID)) == 1
    assert client("POST", START, {}, key="burnt-key").status == 500


def test_replay_returns_the_response_that_a_gateway_lost(client: Client) -> None:
    """After a 502 for a processed request the same key returns its execution."""
    client.sandbox.faults.status(502, "POST .*", processed=True)
    assert client("POST", START, {}, key="lost-answer").status == 502
    assert client.data("POST", START, {}, key="lost-answer")["id"] == client.sandbox.starts(SYNC_ID)[0].id


def test_request_can_be_dropped_before_or_after_processing(client: Client) -> None:
    """Neither has a response, and only the second starts an execution."""
    client.sandbox.faults.drop_before("POST .*")
    client.sandbox.faults.drop_after("POST .*")
    assert isinstance(post(client.sandbox, "dropped-1"), TransportFailure)
    assert client.sandbox.starts(SYNC_ID) == []
    assert isinstance(post(client.sandbox, "dropped-2"), TransportFailure)
    assert len(client.sandbox.starts(SYNC_ID)) == 1
    assert [logged.status for logged in client.sandbox.requests] == [None, None]
    assert client.data("POST", START, {}, key="dropped-2")["id"] == client.sandbox.starts(SYNC_ID)[0].id


@pytest.mark.parametrize(("after", "created_late"), [(False, True), (True, False)])
def test_delay_is_before_or_after_processing(client: Client, after: bool, created_late: bool) -> None:
    """The execution starts after the delay or before it."""
    begin = client.clock.now
    client.sandbox.faults.delay(30, "POST .*", after=after)
    client.start()
    assert client.clock.now == begin + 30
    assert (client.sandbox.starts(SYNC_ID)[0].created_at == begin + 30) is created_late


@pytest.mark.parametrize("kind", ["html", "cut", "empty", "text"])
def test_garbage_fault_responds_200_with_an_invalid_body(client: Client, kind: str) -> None:
    """The body is not JSON."""
    client.sandbox.faults.garbage(kind)
    response = client("GET", "/api/me")
    assert response.status == 200
    with pytest.raises(ValueError):
        json.loads(response.body)


def test_truncated_response_is_shorter_than_its_content_length(client: Client) -> None:
    """In memory it becomes a transport failure."""
    client.sandbox.faults.garbage("truncated", times=2)
    response = client("GET", "/api/me")
    assert int(response.headers["content-length"]) > len(response.body)
    assert isinstance(client.sandbox.send(Request("GET", "/api/me")), TransportFailure)


def test_edit_fault_changes_only_successful_responses(client: Client) -> None:
    """Errors and responses without a body stay unchanged."""
    client.sandbox.faults.edit(lambda response: response["data"].update(email=5), "GET .*")
    assert json.loads(client("GET", "/api/me").body)["data"]["email"] == 5
    assert client("GET", "/api/bulk/syncs/none").status == 404


def test_faults_apply_in_the_order_in_which_they_were_added(client: Client) -> None:
    """Each is used up before the next; None lasts until cleared."""
    first = client.sandbox.faults.status(500, times=2)
    client.sandbox.faults.status(503, "GET /api/me", times=None)
    assert [client("GET", "/api/me").status for _ in range(5)] == [500, 500, 503, 503, 503]
    assert client("GET", "/api/connections").status == 200
    client.sandbox.faults.clear()
    assert client("GET", "/api/me").status == 200
    assert first.hits == 2


def test_meanwhile_fault_acts_before_the_next_request(client: Client) -> None:
    """The response is made before the action, and the next request sees its effect."""
    fault = client.sandbox.faults.meanwhile(lambda: client.sandbox.touch(SYNC_ID, name="Renamed"), f"GET {BULK}")

    assert [client.data("GET", BULK)["name"] for _ in range(2)] == ["Salesforce to warehouse", "Renamed"]
    assert fault.hits == 1


def test_status_fault_can_respond_with_any_json(client: Client) -> None:
    """Successful responses can be made up as well."""
    client.sandbox.faults.status(200, "GET /api/events", body={"data": None})
    assert client.data("GET", "/api/events") is None


def test_vanished_execution_gets_404(client: Client) -> None:
    """No response contains it, but tests still see it."""
    execution_id = client.start()
    client.sandbox.faults.vanish(execution_id)
    assert client("GET", f"{START}/{execution_id}").status == 404
    assert client.data("GET", START) is None
    assert [execution.id for execution in client.sandbox.starts(SYNC_ID)] == [execution_id]
    with pytest.raises(ValueError, match="there is no execution nothing"):
        client.sandbox.faults.vanish("nothing")


# what a test does


def test_foreign_execution_is_not_in_the_request_log(client: Client) -> None:
    """It runs like any other execution."""
    execution = client.sandbox.start_foreign(SYNC_ID, schemas=["account"])
    running = client.sandbox.running(SYNC_ID)
    assert running is execution
    assert execution.start_body == {"schemas": ["account"]}
    assert client.execution(execution.id)["is_partial"] is True
    assert [logged.method for logged in client.sandbox.requests] == ["GET"]
    with pytest.raises(ValueError, match="already running"):
        client.sandbox.start_foreign(SYNC_ID)


def test_finish_ends_an_execution_now(client: Client) -> None:
    """With any status, and with all its records if it completed."""
    execution_id = client.start()
    client.clock.now += 3
    client.sandbox.finish(SYNC_ID, execution_id)
    row = client.execution(execution_id)
    assert (row["status"], row["record_count"]) == ("completed", 860)
    assert client.sandbox.running(SYNC_ID) is None
    with pytest.raises(ValueError, match="not a running execution"):
        client.sandbox.finish(SYNC_ID, execution_id)


def test_finish_can_complete_a_canceling_execution(client: Client) -> None:
    """A cancellation may come too late."""
    execution_id = client.start()
    client.data("POST", f"{BULK}/cancel")
    client.sandbox.finish(SYNC_ID, execution_id, "failed", "disk full")
    row = client.execution(execution_id)
    assert (row["status"], row["status_message"]) == ("failed", "disk full")


def test_sandbox_handles_requests_of_the_client_without_a_socket(client: Client) -> None:
    """A request is sent unchanged, with its query and its Idempotency-Key."""
    request = Request("POST", START, json={"test": True}, idempotency_key="wired-without")
    first, second = client.sandbox.send(request), client.sandbox.send(request)
    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert first.body == second.body
    listed = client.sandbox.send(
        Request("GET", "/api/events", query=(("starting_after", "2026-01-01T00:00:00+00:00"),))
    )
    assert isinstance(listed, Response)
    assert listed.status == 200
