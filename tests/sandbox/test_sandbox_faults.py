"""Trouble on demand, and keys that remember."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from airflow_provider_polytomic.api.plan import Request, Response, TransportFailure
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC_ID

from .conftest import BULK, Asker, problem_of

START = f"{BULK}/executions"
HEADERS = {"authorization": "Bearer sandbox", "x-polytomic-version": "2025-09-18"}


def post(sandbox: Sandbox, key: str | None = None) -> Response | TransportFailure:
    headers = {**HEADERS, "idempotency-key": key} if key else HEADERS
    return sandbox.handle("POST", START, headers, b"{}")


# keys


def test_a_key_gives_back_what_it_started(ask: Asker) -> None:
    """The same key never starts a second one, also when the first has long ended."""
    first = ask.data("POST", START, {}, key="the-first-key")
    ask.clock.now += 3600
    assert ask.data("POST", START, {}, key="the-first-key") == first
    assert ask.data("POST", START, {}, key="another_key_2")["id"] != first["id"]
    assert len(ask.sandbox.starts(SYNC_ID)) == 2


def test_a_recorded_conflict_stays(ask: Asker) -> None:
    """A 409 is given again for ever, also when nothing runs any more."""
    ask.start()
    assert ask("POST", START, {}, key="too-early").status == 409
    ask.clock.now += 3600
    assert problem_of(ask("POST", START, {}, key="too-early")) == (409, "conflict")
    assert len(ask.sandbox.starts(SYNC_ID)) == 1


def test_a_recorded_refusal_stays(ask: Asker) -> None:
    """A key that was used for a wrong request cannot be used for a right one."""
    assert ask("POST", START, {"resync_mode": "x"}, key="burnt-key").status == 400
    assert ask("POST", START, {}, key="burnt-key").status == 400


def test_a_key_is_forgotten_after_a_day(ask: Asker) -> None:
    """It is kept for 24 hours, and is new afterwards."""
    first = ask.data("POST", START, {}, key="old-enough")
    ask.clock.now += 24 * 3600 - 1
    assert ask.data("POST", START, {}, key="old-enough") == first
    ask.clock.now += 1
    assert ask.data("POST", START, {}, key="old-enough")["id"] != first["id"]


@pytest.mark.parametrize(
    "key", ["short67", "x" * 256, "with space", "später-ja", "", "with.dot-here", "trailing-line\n"]
)
def test_a_key_of_another_form_is_refused(ask: Asker, key: str) -> None:
    """8 to 255 characters of A-Z, a-z, 0-9, _ and -; a refused one is not remembered."""
    assert problem_of(ask("POST", START, {}, key=key)) == (400, "bad_request")
    assert ask.sandbox.starts(SYNC_ID) == []


@pytest.mark.parametrize("key", ["exactly8", "A_z-" * 63 + "123"])
def test_a_key_of_the_right_form_is_taken(ask: Asker, key: str) -> None:
    """The shortest and the longest are good."""
    assert ask("POST", START, {}, key=key).status == 200


def test_a_key_means_nothing_but_on_post(ask: Asker) -> None:
    """On a GET it is not even looked at."""
    assert ask("GET", "/api/me", key="x").status == 200


def test_a_wrong_api_key_burns_nothing(ask: Asker) -> None:
    """A 401 comes before the key is seen."""
    assert ask("POST", START, {}, key="later-good", authorization="Bearer wrong").status == 401
    assert ask("POST", START, {}, key="later-good").status == 200


def test_a_second_request_meets_the_first_in_flight() -> None:
    """While the first is held up, the second is a 409; when it is released the key gives its execution."""
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


def test_a_gateway_answers_and_nothing_happens(ask: Asker) -> None:
    """A status comes once, with its headers, and the repeated request gets through with the same key."""
    ask.sandbox.faults.status(503, "POST .*/executions", headers={"Retry-After": "7"}, body="<html>busy</html>")
    assert ask("GET", "/api/me").status == 200
    answer = ask("POST", START, {}, key="got-through")
    assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "7", b"<html>busy</html>")
    assert ask.sandbox.starts(SYNC_ID) == []
    assert ask("POST", START, {}, key="got-through").status == 200


def test_a_recorded_error_stays_with_its_key(ask: Asker) -> None:
    """The API's own error is given again for that key, and another key gets through."""
    ask.sandbox.faults.status(500, "POST .*", recorded=True)
    for _ in range(3):
        assert problem_of(ask("POST", START, {}, key="burnt-key"))[0] == 500
    assert ask.sandbox.starts(SYNC_ID) == []
    assert ask("POST", START, {}, key="fresh-key").status == 200


def test_a_recorded_error_can_have_an_effect(ask: Asker) -> None:
    """A 500 that started an execution never gives its id back."""
    ask.sandbox.faults.status(500, "POST .*", recorded=True, processed=True)
    assert ask("POST", START, {}, key="burnt-key").status == 500
    assert len(ask.sandbox.starts(SYNC_ID)) == 1
    assert ask("POST", START, {}, key="burnt-key").status == 500


def test_a_gateway_can_lose_a_good_answer(ask: Asker) -> None:
    """A 502 that was processed is undone by the same key."""
    ask.sandbox.faults.status(502, "POST .*", processed=True)
    assert ask("POST", START, {}, key="lost-answer").status == 502
    assert ask.data("POST", START, {}, key="lost-answer")["id"] == ask.sandbox.starts(SYNC_ID)[0].id


def test_a_request_can_be_dropped_before_or_after(ask: Asker) -> None:
    """No answer in both cases, and an execution in one of them."""
    ask.sandbox.faults.drop_before("POST .*")
    ask.sandbox.faults.drop_after("POST .*")
    assert isinstance(post(ask.sandbox, "dropped-1"), TransportFailure)
    assert ask.sandbox.starts(SYNC_ID) == []
    assert isinstance(post(ask.sandbox, "dropped-2"), TransportFailure)
    assert len(ask.sandbox.starts(SYNC_ID)) == 1
    assert [logged.status for logged in ask.sandbox.requests] == [None, None]
    assert ask.data("POST", START, {}, key="dropped-2")["id"] == ask.sandbox.starts(SYNC_ID)[0].id


@pytest.mark.parametrize(("after", "created_late"), [(False, True), (True, False)])
def test_a_delay_is_before_or_after_the_work(ask: Asker, after: bool, created_late: bool) -> None:
    """The execution begins when the delay has passed, or when it begins."""
    begin = ask.clock.now
    ask.sandbox.faults.delay(30, "POST .*", after=after)
    ask.start()
    assert ask.clock.now == begin + 30
    assert (ask.sandbox.starts(SYNC_ID)[0].created_at == begin + 30) is created_late


@pytest.mark.parametrize("kind", ["html", "cut", "empty", "text"])
def test_garbage_is_a_good_status_with_a_bad_body(ask: Asker, kind: str) -> None:
    """What comes is not JSON, although the status is 200."""
    ask.sandbox.faults.garbage(kind)
    answer = ask("GET", "/api/me")
    assert answer.status == 200
    with pytest.raises(ValueError):
        json.loads(answer.body)


def test_a_truncated_answer_announces_more_than_comes(ask: Asker) -> None:
    """In memory it is a connection that broke."""
    ask.sandbox.faults.garbage("truncated", times=2)
    answer = ask("GET", "/api/me")
    assert int(answer.headers["content-length"]) > len(answer.body)
    assert isinstance(ask.sandbox.send(Request("GET", "/api/me")), TransportFailure)


def test_edit_changes_successful_answers_and_no_others(ask: Asker) -> None:
    """The JSON of an answer is edited in place; an error, and an answer without a body, stay as they are."""
    ask.sandbox.faults.edit(lambda answer: answer["data"].update(email=5), "GET .*")
    assert json.loads(ask("GET", "/api/me").body)["data"]["email"] == 5
    assert ask("GET", "/api/bulk/syncs/none").status == 404


def test_faults_strike_in_the_order_in_which_they_were_made(ask: Asker) -> None:
    """Each is used up before the next; None lasts until cleared."""
    first = ask.sandbox.faults.status(500, times=2)
    ask.sandbox.faults.status(503, "GET /api/me", times=None)
    assert [ask("GET", "/api/me").status for _ in range(5)] == [500, 500, 503, 503, 503]
    assert ask("GET", "/api/connections").status == 200
    ask.sandbox.faults.clear()
    assert ask("GET", "/api/me").status == 200
    assert first.hits == 2


def test_sandbox_lets_something_happen_between_two_requests(ask: Asker) -> None:
    """The answer is made before the action, and the next request meets what the action did."""
    fault = ask.sandbox.faults.meanwhile(lambda: ask.sandbox.touch(SYNC_ID, name="Renamed"), f"GET {BULK}")

    assert [ask.data("GET", BULK)["name"] for _ in range(2)] == ["Salesforce to warehouse", "Renamed"]
    assert fault.hits == 1


def test_a_fault_can_answer_with_any_json(ask: Asker) -> None:
    """Good answers can be made up too."""
    ask.sandbox.faults.status(200, "GET /api/events", body={"data": None})
    assert ask.data("GET", "/api/events") is None


def test_a_vanished_execution_is_gone(ask: Asker) -> None:
    """It is in no answer any more, but a test still sees that it began."""
    execution_id = ask.start()
    ask.sandbox.faults.vanish(execution_id)
    assert ask("GET", f"{START}/{execution_id}").status == 404
    assert ask.data("GET", START) is None
    assert [execution.id for execution in ask.sandbox.starts(SYNC_ID)] == [execution_id]
    with pytest.raises(ValueError, match="there is no execution nothing"):
        ask.sandbox.faults.vanish("nothing")


# what a test does


def test_somebody_else_starts_one(ask: Asker) -> None:
    """It runs like any other, and nobody asked for it."""
    execution = ask.sandbox.start_foreign(SYNC_ID, schemas=["account"])
    running = ask.sandbox.running(SYNC_ID)
    assert running is execution
    assert execution.start_body == {"schemas": ["account"]}
    assert ask.execution(execution.id)["is_partial"] is True
    assert [logged.method for logged in ask.sandbox.requests] == ["GET"]
    with pytest.raises(ValueError, match="already running"):
        ask.sandbox.start_foreign(SYNC_ID)


def test_a_test_ends_an_execution(ask: Asker) -> None:
    """It ends now, with any status, and with all its records if it completed."""
    execution_id = ask.start()
    ask.clock.now += 3
    ask.sandbox.finish(SYNC_ID, execution_id)
    row = ask.execution(execution_id)
    assert (row["status"], row["record_count"]) == ("completed", 860)
    assert ask.sandbox.running(SYNC_ID) is None
    with pytest.raises(ValueError, match="not a running execution"):
        ask.sandbox.finish(SYNC_ID, execution_id)


def test_a_canceled_execution_can_complete_all_the_same(ask: Asker) -> None:
    """A cancel may come too late: a test decides the race."""
    execution_id = ask.start()
    ask.data("POST", f"{BULK}/cancel")
    ask.sandbox.finish(SYNC_ID, execution_id, "failed", "disk full")
    row = ask.execution(execution_id)
    assert (row["status"], row["status_message"]) == ("failed", "disk full")


def test_the_client_is_wired_to_it_without_a_socket(ask: Asker) -> None:
    """A request of our client is sent as it stands, with its query and its key."""
    request = Request("POST", START, json={"test": True}, idempotency_key="wired-without")
    first, second = ask.sandbox.send(request), ask.sandbox.send(request)
    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert first.body == second.body
    listed = ask.sandbox.send(Request("GET", "/api/events", query=(("starting_after", "2026-01-01T00:00:00+00:00"),)))
    assert isinstance(listed, Response)
    assert listed.status == 200
