"""Single calls, paginated lists and deadlines: plans driven without a network."""

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
from airflow_provider_polytomic.api.idempotency import send_once
from airflow_provider_polytomic.api.pagination import ListCall, Page, fetch_page
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure, sleep
from airflow_provider_polytomic.api.settings import Settings

from .plans import PlanDriver

CALL = Call(Request("GET", "/api/thing"), json.loads)
POST = Call(Request("POST", "/api/thing"), json.loads)
OK = Response(200, {}, b'{"a": 1}')
LOST = TransportFailure("reset")
TOKEN = "AgAB+/8=/+++//=="


def error(status: int, **headers: str) -> Response:
    return Response(status, headers, json.dumps({"status": status, "message": "no", "key": "k"}).encode())


def test_fetch_sends_one_request_when_it_succeeds() -> None:
    """The parsed response is returned, and the clock is not read."""
    plan = fetch(CALL)
    assert next(plan) == CALL.request
    with pytest.raises(StopIteration) as end:
        plan.send(OK)
    assert end.value.value == {"a": 1}


def test_fetch_retries_transient_failures_until_a_request_succeeds() -> None:
    """The same request is sent again after a backoff, for each kind of transient failure."""
    driver = PlanDriver([LOST, error(503), Response(502, {}, b"<html>"), OK])
    assert driver.drive(fetch(CALL)) == {"a": 1}
    assert driver.requests == [CALL.request] * 4
    assert all(0.75 * most <= seconds <= most for seconds, most in zip(driver.sleeps, [0.5, 1, 2], strict=True))


def test_fetch_waits_as_long_as_retry_after_says() -> None:
    """`Retry-After` replaces the backoff and is not shortened by jitter."""
    driver = PlanDriver([error(429, **{"retry-after": "7"}), OK])
    driver.drive(fetch(CALL))
    assert driver.sleeps == [7]


@pytest.mark.parametrize("max_retries", [0, 2])
@pytest.mark.parametrize(("result", "kind"), [(error(500), PolytomicServerError), (LOST, PolytomicUnreachableError)])
def test_fetch_raises_the_last_failure_when_retries_are_exhausted(
    max_retries: int, result: SendResult, kind: type[Exception]
) -> None:
    """The type of the error is that of the last failure."""
    driver = PlanDriver([result] * (max_retries + 1))
    with pytest.raises(kind):
        driver.drive(fetch(CALL, max_retries))
    assert len(driver.sleeps) == max_retries


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (error(404), PolytomicNotFoundError),
        (error(409), PolytomicConflictError),
        (Response(301, {"location": "/"}), PolytomicResponseError),
        (Response(200, {}, b"<html>"), PolytomicResponseError),
    ],
)
def test_fetch_sends_one_request_when_the_failure_is_permanent(result: SendResult, kind: type[Exception]) -> None:
    """A client error, a redirect, and a page that is not the API's are raised at once."""
    driver = PlanDriver([result])
    with pytest.raises(kind):
        driver.drive(fetch(CALL))
    assert (len(driver.requests), driver.sleeps) == (1, [])


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
def test_call_is_repeatable_unless_a_second_request_could_act_twice(call: Call[Any], repeatable: bool) -> None:
    """Every method but POST is repeatable; a POST is if it has an idempotency key or is declared idempotent."""
    assert call.repeatable is repeatable
    driver = PlanDriver([LOST, OK])
    if repeatable:
        assert driver.drive(fetch(call)) == {"a": 1}
    else:
        with pytest.raises(PolytomicUnreachableError):
            driver.drive(fetch(call))


def test_call_with_timeout_bounds_its_request() -> None:
    """The returned call has the timeout in its request, and the same parser."""
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
def test_decode_raises_a_response_error_when_the_body_is_not_parsable(body: bytes) -> None:
    """No exception of a library escapes."""
    call = bulk_syncs.get("s")
    with pytest.raises(PolytomicResponseError, match=r"GET /api/bulk/syncs/s: HTTP 200: not a response of"):
        decode(call, Response(200, {}, body))


# lists


def page_of(ids: list[str], token: str | None = None) -> Response:
    body = {"data": [{"id": item} for item in ids] or None, "pagination": {"next_page_token": token} if token else {}}
    return Response(200, {}, json.dumps(body).encode())


def client_of(driver: PlanDriver, max_retries: int = 5) -> Client:
    """Return a client without a network: `driver` supplies its responses."""

    class InMemory(Client):
        def run(self, plan: Any) -> Any:
            return driver.drive(plan)

    return InMemory(Settings(key="key", max_retries=max_retries))


def test_iterate_follows_page_tokens_to_the_last_page() -> None:
    """Each token is sent back unchanged with all other parameters; a page may be empty or null."""
    driver = PlanDriver([page_of(["a", "b"], TOKEN), page_of([], "second"), page_of(["c"])])
    call = bulk_syncs.list_(active=True, limit=2)
    assert [sync.id for sync in client_of(driver).iterate(call)] == ["a", "b", "c"]
    first = (("active", "true"), ("limit", "2"))
    assert [request.query for request in driver.requests] == [
        first,
        (*first, ("page_token", TOKEN)),
        (*first, ("page_token", "second")),
    ]


@pytest.mark.parametrize("pagination", [{}, None, {"next_page_token": None}, {"next_page_token": ""}])
def test_iterate_ends_when_the_page_token_is_missing_or_null_or_empty(pagination: Any) -> None:
    """No further request is sent."""
    body = {"data": [{"id": "a"}], "pagination": pagination}
    driver = PlanDriver([Response(200, {}, json.dumps(body).encode())])
    assert [sync.id for sync in client_of(driver).iterate(bulk_syncs.list_())] == ["a"]


def test_iterate_accepts_a_list_without_pagination() -> None:
    """Some lists have a single page and no `pagination` field."""
    driver = PlanDriver([Response(200, {}, b'{"data": null}')])
    assert list(client_of(driver).iterate(bulk_syncs.list_())) == []


def test_iterate_requests_pages_lazily() -> None:
    """The first request is sent for the first item, and the next one when the page is exhausted."""
    driver = PlanDriver([page_of(["a", "b"], "second"), page_of(["c"])])
    walk = client_of(driver).iterate(bulk_syncs.list_())
    assert driver.requests == []
    assert (next(walk).id, next(walk).id, len(driver.requests)) == ("a", "b", 1)
    assert (next(walk).id, len(driver.requests)) == ("c", 2)


def test_iterate_keeps_one_page_in_memory() -> None:
    """A page is released before the next one is requested."""

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

    driver = PlanDriver([Response(200, {}, token) for token in (b"1", b"2", b"")])
    for _ in client_of(driver).iterate(ListCall(Request("GET", "/api/things"), parse)):
        pass
    assert counts == [0, 1, 1]  # the last item is still the loop's own variable


@pytest.mark.parametrize("tokens", [["x", "x"], ["x", "y", "x"]])
def test_iterate_raises_when_a_page_token_repeats(tokens: list[str]) -> None:
    """The items of the pages before it are returned first."""
    driver = PlanDriver([page_of([str(number)], token) for number, token in enumerate(tokens)])
    walk = client_of(driver).iterate(bulk_syncs.list_())
    assert [next(walk).id for _ in tokens[1:]] == [str(number) for number in range(len(tokens) - 1)]
    with pytest.raises(PolytomicResponseError, match="repeated a page token"):
        next(walk)
    assert len(driver.requests) == len(tokens)


def test_iterate_retries_a_page_after_a_transient_failure() -> None:
    """The same page is requested again."""
    driver = PlanDriver([page_of(["a"], TOKEN), LOST, page_of(["b"])])
    assert [sync.id for sync in client_of(driver).iterate(bulk_syncs.list_())] == ["a", "b"]
    assert driver.requests[1] == driver.requests[2]


def test_iterate_retries_at_most_max_retries_times() -> None:
    """The limit of the settings applies to pages as to single calls."""
    driver = PlanDriver([LOST])
    with pytest.raises(PolytomicUnreachableError):
        next(client_of(driver, max_retries=0).iterate(bulk_syncs.list_()))


def test_fetch_page_returns_the_items_and_the_next_token() -> None:
    """The token is added to those seen before."""
    seen: set[str] = set()
    page = PlanDriver([page_of(["a"], TOKEN)]).drive(fetch_page(bulk_syncs.list_(), None, seen))
    assert ([sync.id for sync in page.items], page.next_page_token, seen) == (["a"], TOKEN, {TOKEN})


# a deadline


KEYED = Call(Request("POST", "/api/thing", idempotency_key="a-key-of-a-start"), json.loads)
BUSY = error(429)
NEVER_SENT = TransportFailure("refused", sent=False)


def test_with_deadline_lets_a_plan_finish_after_the_deadline_when_its_requests_succeed() -> None:
    """A plan that reads and whose requests succeed finishes even after the deadline."""
    driver = PlanDriver([OK])
    assert driver.drive(with_deadline(driver.now - 1, fetch(CALL), "it was read")) == {"a": 1}
    assert [request.timeout for request in driver.requests] == [1.0]


def test_with_deadline_sends_no_lookup_after_the_deadline() -> None:
    """A plan marked with `only_reads` is of no use after the deadline."""
    driver = PlanDriver([])
    with pytest.raises(PolytomicTimeoutError, match="before it was found"):
        driver.drive(with_deadline(driver.now - 1, fetch(CALL), "it was found", only_reads=True))


def test_with_deadline_sends_no_start_after_the_deadline() -> None:
    """An idempotency key that was not sent before the deadline is not sent after it."""
    driver = PlanDriver([])
    with pytest.raises(PolytomicTimeoutError, match="before it was started"):
        driver.drive(with_deadline(driver.now - 1, send_once(KEYED, "start"), "it was started"))


def test_with_deadline_changes_nothing_when_the_deadline_is_none() -> None:
    """Requests keep their timeouts, and retries continue."""
    driver = PlanDriver([LOST, OK])
    assert driver.drive(with_deadline(None, fetch(CALL), "it was read")) == {"a": 1}
    assert driver.requests == [CALL.request] * 2


@pytest.mark.parametrize(
    "result", [LOST, error(503), Response(502, {}, b"<html>"), error(429, **{"retry-after": "90"})]
)
def test_with_deadline_ends_an_outage_at_the_deadline(result: SendResult) -> None:
    """No request or sleep extends beyond the deadline, and the message contains the last failure."""
    driver = PlanDriver([result] * 100)
    deadline = driver.now + 10
    with pytest.raises(PolytomicTimeoutError, match=r"before it was read: GET /api/thing"):
        driver.drive(with_deadline(deadline, fetch(CALL, 99), "it was read"))
    assert driver.now == pytest.approx(deadline)
    assert all(request.timeout == min(10.0, request.timeout or 99) for request in driver.requests)


@pytest.mark.parametrize("result", [BUSY, NEVER_SENT])
def test_with_deadline_does_not_repeat_a_start_that_was_surely_not_processed(result: SendResult) -> None:
    """A start that was rate limited or never sent is not repeated after the deadline."""
    driver = PlanDriver([result] * 100)
    with pytest.raises(PolytomicTimeoutError):
        driver.drive(with_deadline(driver.now + 10, send_once(KEYED, "start"), "it was started"))
    assert sum(driver.sleeps) == pytest.approx(10)


def test_with_deadline_repeats_a_start_after_the_deadline_when_its_outcome_is_unknown() -> None:
    """A start that may have arrived is repeated for up to a minute, and its outcome is the result."""
    driver = PlanDriver([LOST, *[BUSY] * 3, OK])
    assert driver.drive(with_deadline(driver.now + 0.1, send_once(KEYED, "start"), "it was started")) == {"a": 1}
    driver = PlanDriver([LOST] * 100)
    with pytest.raises(PolytomicUnreachableError, match="Could not confirm whether the creation succeeded"):
        driver.drive(with_deadline(driver.now + 0.1, send_once(KEYED, "creation"), "it was created"))
    assert 60 <= sum(driver.sleeps) < 70


def test_with_deadline_pauses_between_conflicts_when_the_outcome_of_a_start_is_unknown() -> None:
    """A 409 after a lost response may concern that request: it is repeated with pauses, even after the deadline."""
    driver = PlanDriver([LOST, *[error(409)] * 3, OK])
    assert driver.drive(with_deadline(driver.now + 0.1, send_once(KEYED, "start"), "it was started")) == {"a": 1}
    assert len(driver.sleeps) == 4
    assert min(driver.sleeps) > 0


def test_with_deadline_ends_a_polling_plan_at_the_deadline_when_its_requests_succeed() -> None:
    """A plan that waits for a change gets no time after the deadline, and sends no request without a pause."""

    def poll() -> Any:
        while True:
            yield from fetch(CALL)
            yield from sleep(4)

    driver = PlanDriver([OK] * 100)
    deadline = driver.now + 10
    with pytest.raises(PolytomicTimeoutError):
        driver.drive(with_deadline(deadline, poll(), "it changed"))
    assert driver.now == pytest.approx(deadline)
    assert driver.sleeps == [4, 4, 2]
