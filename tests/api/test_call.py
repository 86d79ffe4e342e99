"""One call, and a list of pages, driven by hand."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import pytest

from airflow_provider_polytomic.api.call import Call, decode, fetch, with_deadline
from airflow_provider_polytomic.api.client import Client
from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import (
    PolytomicConflictError,
    PolytomicNotFoundError,
    PolytomicResponseError,
    PolytomicServerError,
    PolytomicTimeoutError,
    PolytomicUnreachableError,
)
from airflow_provider_polytomic.api.idempotency import CREATION, START, send_once
from airflow_provider_polytomic.api.pagination import ListCall, Page, fetch_page
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure, sleep
from airflow_provider_polytomic.api.settings import Settings

from .plans import Hand

CALL = Call(Request("GET", "/api/thing"), json.loads)
POST = Call(Request("POST", "/api/thing"), json.loads)
OK = Response(200, {}, b'{"a": 1}')
LOST = TransportFailure("reset")
TOKEN = "AgAB+/8=/+++//=="


def error(status: int, **headers: str) -> Response:
    return Response(status, headers, json.dumps({"status": status, "message": "no", "key": "k"}).encode())


def test_a_call_is_one_request() -> None:
    """A good answer is parsed and returned, and the clock is not even looked at."""
    plan = fetch(CALL)
    assert next(plan) == CALL.request
    with pytest.raises(StopIteration) as end:
        plan.send(OK)
    assert end.value.value == {"a": 1}


def test_a_call_is_repeated_until_it_is_answered() -> None:
    """Passing trouble of all kinds is slept over, with the same request."""
    hand = Hand([LOST, error(503), Response(502, {}, b"<html>"), OK])
    assert hand.drive(fetch(CALL)) == {"a": 1}
    assert hand.requests == [CALL.request] * 4
    assert all(0.75 * most <= seconds <= most for seconds, most in zip(hand.sleeps, [0.5, 1, 2], strict=True))


def test_a_call_waits_as_the_server_wishes() -> None:
    """`Retry-After` is slept out, not a second less."""
    hand = Hand([error(429, **{"retry-after": "7"}), OK])
    hand.drive(fetch(CALL))
    assert hand.sleeps == [7]


@pytest.mark.parametrize("max_retries", [0, 2])
@pytest.mark.parametrize(("answer", "kind"), [(error(500), PolytomicServerError), (LOST, PolytomicUnreachableError)])
def test_a_call_ends_with_the_last_answer(max_retries: int, answer: SendResult, kind: type[Exception]) -> None:
    """When all repetitions are used up, the error is that of the last answer."""
    hand = Hand([answer] * (max_retries + 1))
    with pytest.raises(kind):
        hand.drive(fetch(CALL, max_retries))
    assert len(hand.sleeps) == max_retries


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(404), PolytomicNotFoundError),
        (error(409), PolytomicConflictError),
        (Response(301, {"location": "/"}), PolytomicResponseError),
        (Response(200, {}, b"<html>"), PolytomicResponseError),
    ],
)
def test_what_will_not_change_is_asked_once(answer: SendResult, kind: type[Exception]) -> None:
    """A refusal, a redirect and a page of somebody else are raised at once."""
    hand = Hand([answer])
    with pytest.raises(kind):
        hand.drive(fetch(CALL))
    assert (len(hand.requests), hand.sleeps) == (1, [])


@pytest.mark.parametrize(
    ("call", "repeatable"),
    [
        (CALL, True),
        (Call(Request("PUT", "/"), json.loads), True),
        (Call(Request("DELETE", "/"), json.loads), True),
        (POST, False),
        (Call(Request("POST", "/", idempotency_key="12345678"), json.loads), True),
        (Call(Request("POST", "/"), json.loads, idempotent=True), True),
    ],
)
def test_what_is_repeatable(call: Call[Any], repeatable: bool) -> None:
    """All but a POST; a POST if it has a key, or does no more when sent twice."""
    assert call.repeatable is repeatable
    hand = Hand([LOST, OK])
    if repeatable:
        assert hand.drive(fetch(call)) == {"a": 1}
    else:
        with pytest.raises(PolytomicUnreachableError):
            hand.drive(fetch(call))


def test_within_bounds_each_try() -> None:
    """The same call, with a bound on how long its request may take."""
    assert CALL.with_timeout(3).request == Request("GET", "/api/thing", timeout=3)
    assert CALL.with_timeout(3).parse is CALL.parse


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b"nothing",
        b'{"data": null}',
        b'{"data": {}}',
        b'{"data": []}',
        b"\xff\xfe",
        b"[" * 10**5,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_does_not_parse_is_no_answer_of_the_api(body: bytes) -> None:
    """Never an exception of a library."""
    call = bulk_syncs.get("s")
    with pytest.raises(PolytomicResponseError, match=r"GET /api/bulk/syncs/s: HTTP 200: not an answer of"):
        decode(call, Response(200, {}, body))


# lists


def page_of(ids: list[str], token: str | None = None) -> Response:
    body = {"data": [{"id": item} for item in ids] or None, "pagination": {"next_page_token": token} if token else {}}
    return Response(200, {}, json.dumps(body).encode())


def client_of(hand: Hand, max_retries: int = 5) -> Client:
    """A client that has no network: its requests are answered by hand."""

    class InMemory(Client):
        def run(self, plan: Any) -> Any:
            return hand.drive(plan)

    return InMemory(Settings(key="key", max_retries=max_retries))


def test_a_list_is_walked_to_its_end() -> None:
    """Each page's token is sent back unchanged with all other parameters; a page may be empty, or null."""
    hand = Hand([page_of(["a", "b"], TOKEN), page_of([], "second"), page_of(["c"])])
    call = bulk_syncs.list_(active=True, limit=2)
    assert [sync.id for sync in client_of(hand).iterate(call)] == ["a", "b", "c"]
    first = (("active", "true"), ("limit", "2"))
    assert [request.query for request in hand.requests] == [
        first,
        (*first, ("page_token", TOKEN)),
        (*first, ("page_token", "second")),
    ]


@pytest.mark.parametrize("pagination", [{}, None, {"next_page_token": None}, {"next_page_token": ""}])
def test_a_list_ends_without_a_token(pagination: Any) -> None:
    """None, null and an empty one are all no token."""
    body = {"data": [{"id": "a"}], "pagination": pagination}
    hand = Hand([Response(200, {}, json.dumps(body).encode())])
    assert [sync.id for sync in client_of(hand).iterate(bulk_syncs.list_())] == ["a"]


def test_a_list_without_pagination() -> None:
    """Some lists are one page and say nothing about it."""
    hand = Hand([Response(200, {}, b'{"data": null}')])
    assert list(client_of(hand).iterate(bulk_syncs.list_())) == []


def test_a_list_is_walked_lazily() -> None:
    """Nothing is asked before the first item is wanted, and the next page only when this one is used up."""
    hand = Hand([page_of(["a", "b"], "second"), page_of(["c"])])
    walk = client_of(hand).iterate(bulk_syncs.list_())
    assert hand.requests == []
    assert (next(walk).id, next(walk).id, len(hand.requests)) == ("a", "b", 1)
    assert (next(walk).id, len(hand.requests)) == ("c", 2)


def test_one_page_is_in_memory_at_a_time() -> None:
    """When a page is asked for, the one before it is gone."""

    class Item:
        pass

    alive: list[weakref.ref[Item]] = []
    counts = []

    def parse(body: bytes) -> Page[Item]:
        gc.collect()
        counts.append(sum(ref() is not None for ref in alive))
        items = [Item() for _ in range(3)]
        alive.extend(weakref.ref(item) for item in items)
        return Page(items, body.decode() or None)

    hand = Hand([Response(200, {}, token) for token in (b"1", b"2", b"")])
    for _ in client_of(hand).iterate(ListCall(Request("GET", "/api/things"), parse)):
        pass
    assert counts == [0, 1, 1]  # the last item is still the loop's own variable


@pytest.mark.parametrize("tokens", [["x", "x"], ["x", "y", "x"]])
def test_a_token_that_repeats_ends_the_walk(tokens: list[str]) -> None:
    """A server that goes in circles is found out, after the items of the pages before."""
    hand = Hand([page_of([str(number)], token) for number, token in enumerate(tokens)])
    walk = client_of(hand).iterate(bulk_syncs.list_())
    assert [next(walk).id for _ in tokens[1:]] == [str(number) for number in range(len(tokens) - 1)]
    with pytest.raises(PolytomicResponseError, match="repeated a page token"):
        next(walk)
    assert len(hand.requests) == len(tokens)


def test_a_page_is_repeated_as_any_call() -> None:
    """Trouble in the middle of a walk is slept over."""
    hand = Hand([page_of(["a"], TOKEN), LOST, page_of(["b"])])
    assert [sync.id for sync in client_of(hand).iterate(bulk_syncs.list_())] == ["a", "b"]
    assert hand.requests[1] == hand.requests[2]


def test_no_more_repetitions_than_the_settings_say() -> None:
    """`max_retries` of the connection counts for pages, too."""
    hand = Hand([LOST])
    with pytest.raises(PolytomicUnreachableError):
        next(client_of(hand, max_retries=0).iterate(bulk_syncs.list_()))


def test_a_page_by_itself() -> None:
    """The plan for one page hands its items and the next token over."""
    seen: set[str] = set()
    page = Hand([page_of(["a"], TOKEN)]).drive(fetch_page(bulk_syncs.list_(), None, seen))
    assert ([sync.id for sync in page.items], page.next_page_token, seen) == (["a"], TOKEN, {TOKEN})


# a deadline


KEYED = Call(Request("POST", "/api/thing", idempotency_key="a-key-of-a-start"), json.loads)
BUSY = error(429)
NEVER_SENT = TransportFailure("refused", sent=False)


def test_with_deadline_lets_a_plan_end_when_every_answer_is_good() -> None:
    """A plan that only reads, and whose answers are good, ends even after the deadline."""
    hand = Hand([OK])
    assert hand.drive(with_deadline(hand.now - 1, fetch(CALL), "it was read")) == {"a": 1}
    assert [request.timeout for request in hand.requests] == [1.0]


def test_with_deadline_sends_nothing_after_it_when_the_plan_only_looks_something_up() -> None:
    """A look-up is of no use after the deadline."""
    hand = Hand([])
    with pytest.raises(PolytomicTimeoutError, match="before it was found"):
        hand.drive(with_deadline(hand.now - 1, fetch(CALL), "it was found", only_reads=True))


def test_with_deadline_sends_no_start_after_it_when_every_answer_was_good() -> None:
    """A key that was not sent before the deadline is not sent after it, however good the answers were."""
    hand = Hand([])
    with pytest.raises(PolytomicTimeoutError, match="before it was started"):
        hand.drive(with_deadline(hand.now - 1, send_once(KEYED, START), "it was started"))


def test_with_deadline_changes_nothing_without_a_deadline() -> None:
    """No deadline is no bound."""
    hand = Hand([LOST, OK])
    assert hand.drive(with_deadline(None, fetch(CALL), "it was read")) == {"a": 1}
    assert hand.requests == [CALL.request] * 2


@pytest.mark.parametrize(
    "answer", [LOST, error(503), Response(502, {}, b"<html>"), error(429, **{"retry-after": "90"})]
)
def test_with_deadline_ends_an_outage_at_the_deadline(answer: SendResult) -> None:
    """No request, sleep or wait for an answer goes beyond the deadline, and the message holds the last failure."""
    hand = Hand([answer] * 100)
    deadline = hand.now + 10
    with pytest.raises(PolytomicTimeoutError, match=r"before it was read: GET /api/thing"):
        hand.drive(with_deadline(deadline, fetch(CALL, 99), "it was read"))
    assert hand.now == pytest.approx(deadline)
    assert all(request.timeout == min(10.0, request.timeout or 99) for request in hand.requests)


@pytest.mark.parametrize("answer", [BUSY, NEVER_SENT])
def test_with_deadline_does_not_repeat_a_start_that_cannot_have_arrived(answer: SendResult) -> None:
    """A start that the API was too busy for, or never got, is not sent again after the deadline."""
    hand = Hand([answer] * 100)
    with pytest.raises(PolytomicTimeoutError):
        hand.drive(with_deadline(hand.now + 10, send_once(KEYED, START), "it was started"))
    assert sum(hand.sleeps) == pytest.approx(10)


def test_with_deadline_resolves_the_outcome_of_a_start_after_it() -> None:
    """A start that may have arrived is repeated for its whole minute, and its outcome is the result."""
    hand = Hand([LOST, *[BUSY] * 3, OK])
    assert hand.drive(with_deadline(hand.now + 0.1, send_once(KEYED, START), "it was started")) == {"a": 1}
    hand = Hand([LOST] * 100)
    with pytest.raises(PolytomicUnreachableError, match="Could not confirm whether the creation succeeded"):
        hand.drive(with_deadline(hand.now + 0.1, send_once(KEYED, CREATION), "it was created"))
    assert 60 <= sum(hand.sleeps) < 70


def test_with_deadline_waits_between_conflicts_about_a_start_that_may_have_arrived() -> None:
    """A 409 after a lost answer may be about that very request: it is repeated with pauses, even after the deadline."""
    hand = Hand([LOST, *[error(409)] * 3, OK])
    assert hand.drive(with_deadline(hand.now + 0.1, send_once(KEYED, START), "it was started")) == {"a": 1}
    assert len(hand.sleeps) == 4
    assert min(hand.sleeps) > 0


def test_with_deadline_ends_a_plan_that_polls_with_good_answers() -> None:
    """A plan that waits for something to change gets no time after the deadline, and sends nothing without a pause."""

    def poll() -> Any:
        while True:
            yield from fetch(CALL)
            yield from sleep(4)

    hand = Hand([OK] * 100)
    deadline = hand.now + 10
    with pytest.raises(PolytomicTimeoutError):
        hand.drive(with_deadline(deadline, poll(), "it changed"))
    assert hand.now == pytest.approx(deadline)
    assert hand.sleeps == [4, 4, 2]
