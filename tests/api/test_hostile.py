"""Hostile hosts and proxies: limits on what they can make the client send, keep or log."""

from __future__ import annotations

import gc
import gzip
import itertools
import json
import logging
import re
import traceback
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_polytomic.api import pagination
from airflow_provider_polytomic.api.call import Call, decode
from airflow_provider_polytomic.api.client import Client, drive
from airflow_provider_polytomic.api.endpoints import bulk_syncs, events, model_syncs
from airflow_provider_polytomic.api.errors import (
    PolytomicConflictError,
    PolytomicError,
    PolytomicLookupError,
    PolytomicResponseError,
    PolytomicValidationError,
)
from airflow_provider_polytomic.api.events.poll import list_ended_since, poll_events
from airflow_provider_polytomic.api.executions import outage, wait
from airflow_provider_polytomic.api.executions.messages import format_progress
from airflow_provider_polytomic.api.executions.outcome import failure_reason
from airflow_provider_polytomic.api.executions.poll import poll_next_execution
from airflow_provider_polytomic.api.executions.start import start_or_resume
from airflow_provider_polytomic.api.executions.start_request import StartRequest
from airflow_provider_polytomic.api.executions.summary import MAX_SUMMARY_SIZE, summarize
from airflow_provider_polytomic.api.executions.summary import to_event_payload as told_in_event
from airflow_provider_polytomic.api.executions.wait import wait_for_execution
from airflow_provider_polytomic.api.idempotency import START, send_once
from airflow_provider_polytomic.api.kinds import SYNC_KINDS, SyncKind
from airflow_provider_polytomic.api.models import BulkSync, BulkSyncExecution, Execution
from airflow_provider_polytomic.api.pagination import ListCall
from airflow_provider_polytomic.api.plan import (
    BatchableSleep,
    Now,
    Request,
    Response,
    Sleep,
    TransportFailure,
    build_path,
)
from airflow_provider_polytomic.api.settings import (
    MAX_BODY_SIZE,
    MAX_TRIGGERER_BODY_SIZE,
    MIN_BYTES_PER_VALUE,
    Settings,
    is_too_large,
)
from airflow_provider_polytomic.api.syncs import lookup
from airflow_provider_polytomic.api.syncs.destination import check_configuration, with_resync_mode_hint
from airflow_provider_polytomic.api.syncs.lookup import find_sync, walk

from .conftest import Send, by_requests
from .plans import Hand
from .servers import Script, Server, http, nobody
from .test_transports import TROUBLE, drip

KEY = "k3y-of-this-test"
LOGIN = "0rganization"
PASSWORD = "pass-w0rd"
GET = Request("GET", "/api/me")
FORGED = "x\n[CRITICAL] \x1b[31mforged \x85\u2028 " + "x" * 9999
EVIL = "x\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1"


def settings(url: str, **more: Any) -> Settings:
    return Settings(base_url=url, key=KEY, login=LOGIN, **{"timeout": 60.0, **more})


def told(error: BaseException) -> str:
    """All that anybody may print of an error, and of those that it came from."""
    chain: list[BaseException | None] = [error]
    while chain[-1] is not None:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    shown = [f"{one} {one!r} {vars(one)!r}" for one in chain if one is not None]
    return "".join([*shown, *traceback.format_exception(error)])


def secrets_of(where: Settings) -> set[str]:
    return {KEY, *map(str, where.secrets)}


# what it can make us send


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/api/syncs", query=(("name", EVIL), (EVIL, "x"))),
        Request("POST", "/api/syncs", json={"name": EVIL, EVIL: [EVIL]}),
    ],
    ids=["query", "body"],
)
def test_no_text_becomes_a_header_or_a_request(send: Send, request_: Request) -> None:
    """Line breaks in a query or a body stay in it: one request comes, with our headers only."""
    with Server() as server:
        send(settings(server.url), request_)
        send(settings(server.url), GET)
        assert [received.headers.get("x-evil") for received in server.requests] == [None, None]
        first, second = server.requests
    assert (first.method, first.target.partition("?")[0]) == (request_.method, request_.path)
    assert second.target == "/api/me"
    assert "\r" not in first.target
    assert first.body == (request_.body or b"")


@pytest.mark.parametrize("make", [bulk_syncs.get, model_syncs.get, bulk_syncs.cancel_running, model_syncs.delete])
@pytest.mark.parametrize("bad", [EVIL, "a\nb", "a\tb", "\x00", "a\x85b", "a\u2028b", "..", "."])
def test_no_id_becomes_a_header_or_another_path(make: Callable[[str], Call[Any]], bad: str) -> None:
    """An id with control characters, or one that leads out of its place, is refused before anything is sent."""
    with pytest.raises(ValueError, match="sync_id must not"):
        make(bad)


def test_any_other_id_stays_in_its_place() -> None:
    """Slashes, queries and fragments in an id are part of the id."""
    assert build_path("/api/syncs/{sync_id}/x", sync_id="../?a=b#c%2F") == "/api/syncs/..%2F%3Fa%3Db%23c%252F/x"


@pytest.mark.parametrize("bad", [EVIL, "12345678\n", "\n12345678", "1234567 8", "é" * 8, "a" * 256, "short"])
def test_no_idempotency_key_becomes_a_header(bad: str) -> None:
    """A key is refused unless it is made of what the API allows."""
    with pytest.raises(ValueError, match="idempotency_key"):
        bulk_syncs.start("s", idempotency_key=bad)


# what it can make us keep


def bombs() -> dict[str, Script]:
    """Answers of a few hundred kilobytes that unpack to far more than we take."""
    zeros = bytes(2 * MAX_BODY_SIZE)
    packed = gzip.compress(zeros, 1)
    return {
        "gzip": http(200, packed, "Content-Encoding: gzip"),
        "deflate": http(200, zlib.compress(zeros, 1), "Content-Encoding: deflate"),
        "an error": http(500, packed, "Content-Encoding: gzip"),
    }


@pytest.fixture(scope="module")
def packed() -> dict[str, Script]:
    return bombs()


@pytest.mark.parametrize("name", ["gzip", "deflate", "an error"])
def test_a_body_that_decodes_to_too_much_is_rejected(send: Send, packed: dict[str, Script], name: str) -> None:
    """It is not kept: the answer says that it is too large, or cannot be unpacked."""
    with Server([packed[name]]) as server:
        (answer,) = send(settings(server.url, timeout=60.0), GET)
    assert isinstance(answer, TransportFailure)
    assert re.search("too large|cannot be unpacked", answer.reason)


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": ' * 100_000,
        b"[" * 10_000_000,
        b'{"data": {"id": "e", "schemas": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
        b'{"data": {"id": "e", "record_count": ' + b"9" * 100_000 + b"}}",
    ],
    ids=["objects", "lists", "well-formed", "digits"],
)
@pytest.mark.parametrize("status", [200, 409])
def test_what_is_nested_too_deep_is_an_error_like_any_other(body: bytes, status: int) -> None:
    """Neither an exception of a library comes of it, nor the end of the process."""
    with pytest.raises(PolytomicError) as caught:
        decode(bulk_syncs.execution("s", "e"), Response(status, {}, body))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("call", [bulk_syncs.list_(), events.list_()], ids=["syncs", "events"])
def test_a_list_without_an_end_is_given_up(call: ListCall[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that names one page more each time keeps nobody busy for ever."""
    monkeypatch.setattr(pagination, "MAX_PAGES", 50)
    asked: list[Request] = []

    def one_more(request: Request) -> Response:
        asked.append(request)
        assert len(asked) < 100, "it was not given up"
        body = {"data": [], "pagination": {"next_page_token": f"page {len(asked)}"}}
        return Response(200, {}, json.dumps(body).encode())

    with pytest.raises(PolytomicResponseError, match="more than 50 pages"):
        drive(walk(call), one_more)
    assert len(asked) == 51


def test_a_slow_response_ends_at_the_total_timeout(send: Send) -> None:
    """However little comes at a time: all of an answer is given ten times the timeout."""
    with Server([drip]) as server:
        for timeout in (0.1, 1.0, 10.0):  # the first that is long enough for this machine to send the next byte
            (answer,) = send(settings(server.url, timeout=timeout), GET)
            if answer == TransportFailure(f"{server.host} did not respond within {timeout:g} s", status=200):
                return
    raise AssertionError(answer)


UNPRINTABLE = ["e\nFAKE", "e\x1b[31m", "e\x85FAKE", "e\x9b31m", "e\u2028FAKE", "e\u2029FAKE"]


@pytest.mark.parametrize("bad", ["", " ", ".", "..", " .. ", "e" * 1001, *UNPRINTABLE])
def test_an_invalid_execution_id_is_rejected(bad: str) -> None:
    """An execution whose id holds control characters, leads elsewhere in a path, or is endless, is no answer."""
    body = json.dumps({"data": {"id": bad, "status": "running"}}).encode()
    with pytest.raises(PolytomicResponseError, match="id: "):
        decode(bulk_syncs.execution("s", "e"), Response(200, {}, body))


@pytest.mark.parametrize("body", ['{"data": {"id": "e", "x": [%s]}}', '{"x": [%s]}', '{"message": [%s]}'])
@pytest.mark.parametrize("value", ["{}", "[]"])
def test_a_body_that_grows_when_parsed_is_rejected(send: Send, body: str, value: str) -> None:
    """An empty object takes hundreds of times its two bytes: so many of them are as good as too many bytes."""
    number = MAX_BODY_SIZE // MIN_BYTES_PER_VALUE
    swollen = (body % ",".join([value] * number)).encode()
    with Server([http(200, swollen)]) as server:
        (answer,) = send(settings(server.url), GET)

    assert answer == TransportFailure("the response is too large", status=200)
    assert len(swollen) < MAX_TRIGGERER_BODY_SIZE


def test_the_body_limit_is_lower_in_the_triggerer(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker takes what the triggerer, whose loop stands still while an answer is read, does not."""
    taken = {}
    for size in (MAX_TRIGGERER_BODY_SIZE, MAX_TRIGGERER_BODY_SIZE + 1):
        with Server([http(200, b" " * size)]) as server:
            (answer,) = send(settings(server.url, timeout=60.0), GET)
        taken[size] = isinstance(answer, Response)

    assert taken == {MAX_TRIGGERER_BODY_SIZE: True, MAX_TRIGGERER_BODY_SIZE + 1: send is by_requests}


@pytest.mark.parametrize("kind", SYNC_KINDS.values(), ids=SYNC_KINDS)
def test_a_wait_keeps_no_earlier_response_in_memory(kind: SyncKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks the execution of the last one is gone, and what was wrong with an answer, too."""
    for module in (wait, outage):
        monkeypatch.setattr(module.log, "disabled", True)  # pytest keeps what is logged
    large = {"id": "e", "status": "running", "mark": (mark := "kept-until-the-next-look")}
    looks = [Response(200, {}, json.dumps({"data": large}).encode()), Response(200, {}, mark.encode())]
    plan = wait_for_execution(kind, "s", "e", poke_interval=30)
    told: Any = None
    for _ in range(20):
        step = plan.send(told)
        told = None
        if isinstance(step, Request):
            if not looks:
                break
            told = looks.pop(0)
        elif isinstance(step, Now):
            told = 0.0
        elif isinstance(step, Sleep | BatchableSleep):
            gc.collect()
            there = [one for one in gc.get_objects() if issubclass(type(one), Execution | PolytomicResponseError)]
            assert [one for one in there if mark in repr(one)] == []
    assert looks == []


def test_a_list_is_kept_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that are no longer than a page may be, but never end, are given up before they fill the memory."""
    monkeypatch.setattr(lookup, "MAX_BODY_SIZE", 100_000)
    pages = itertools.count()

    def one_more(request: Request) -> Response:
        number = next(pages)
        assert number < 20, "it was not given up"
        body = {"data": [{"id": "s", "x": "x" * 10_000}], "pagination": {"next_page_token": f"page {number}"}}
        return Response(200, {}, json.dumps(body).encode())

    with pytest.raises(PolytomicResponseError, match="more than 100000 bytes"):
        drive(walk(bulk_syncs.list_()), one_more)


def test_an_endless_token_is_none() -> None:
    """The tokens of a walk are remembered, so they are of bounded length."""
    body = json.dumps({"data": [], "pagination": {"next_page_token": "x" * 5000}}).encode()
    with pytest.raises(PolytomicResponseError, match="not an answer"):
        decode(bulk_syncs.list_().page(), Response(200, {}, body))


@pytest.mark.parametrize("plan", ["look_for", "ended_since"])
def test_executions_are_listed_few_at_a_time(plan: str) -> None:
    """Ten executions of a sync with two thousand schemas fit into an answer that the triggerer takes."""
    row = {"schema": "a" * 60, "output_name": "b" * 60, "status": "completed", "record_count": 10**9}
    row |= dict.fromkeys(("created_at", "started_at", "completed_at", "updated_at"), "2026-01-01T00:00:00.123456Z")
    hand = Hand([Response(200, {}, b'{"data": []}')])
    if plan == "look_for":
        hand.drive(poll_next_execution(SYNC_KINDS["bulk"], "s", datetime.now(timezone.utc)))
    else:
        hand.drive(list_ended_since(SYNC_KINDS["bulk"], BulkSync(id="s"), 0.0))
    listed = int(dict(hand.requests[0].query)["limit"])

    body = json.dumps({"data": [{"id": "e", "schemas": [row] * 2000}] * listed}).encode()
    assert not is_too_large(body, MAX_TRIGGERER_BODY_SIZE)


ENDLESS = "\u4e16" * 1_000_000


@pytest.mark.parametrize("kind", SYNC_KINDS.values(), ids=SYNC_KINDS)
def test_what_is_kept_of_an_execution_is_bounded(kind: SyncKind) -> None:
    """However long its texts are, what goes into XCom and into a trigger's event is not."""
    row = dict.fromkeys(("schema", "output_name", "status", "status_message"), ENDLESS)
    told_of_it = {"id": "e", "status_message": ENDLESS, "schemas": [row] * 3, "errors": [ENDLESS] * 3}
    execution = kind.model.model_validate(told_of_it | {"status": ENDLESS, "completed_at": "2026-01-01T00:00:00Z"})

    assert len(json.dumps(summarize("s", execution))) <= MAX_SUMMARY_SIZE
    assert len(json.dumps(told_in_event("s", execution))) <= MAX_SUMMARY_SIZE + 10_000
    assert len(failure_reason(execution) or "") < 500


def test_an_endless_status_is_an_unknown_one(caplog: pytest.LogCaptureFixture) -> None:
    """It is waited on, as for any status that is not known, and told in one line."""
    running = {"data": {"id": "e", "status": "ended\n" + ENDLESS}}
    ended = {"data": {"id": "e", "status": "completed"}}
    hand = Hand([Response(200, {}, json.dumps(answer).encode()) for answer in (running, running, ended)])

    assert hand.drive(wait_for_execution(SYNC_KINDS["model"], "s", "e", poke_interval=30)).status == "completed"
    (warning,) = [record.getMessage() for record in caplog.records if "unknown status" in record.getMessage()]
    assert warning.isprintable()
    assert len(warning) < 300


def test_what_is_kept_of_an_event_is_bounded() -> None:
    """Neither what a watcher tells Airflow nor what it remembers is longer than a few names and ids."""
    about = dict.fromkeys(("sync_id", "sync_name", "execution_id", "trigger_source", "error"), ENDLESS)
    row = {"id": "v", "type": "bulk_sync.completed", "created_at": "2026-01-01T00:00:00Z", "event": about}
    page = Response(200, {}, json.dumps({"data": [row]}).encode())
    (ended,) = Hand([page]).drive(poll_events(0.0)).ends
    sync = BulkSync.model_validate({"id": "s", "name": ENDLESS, "target": {"connection_id": ENDLESS}})
    executed = {"id": "e", "status": "completed", "completed_at": "2026-01-01T00:00:00Z"}
    (by_itself,) = Hand([Response(200, {}, json.dumps({"data": [executed]}).encode())]).drive(
        list_ended_since(SYNC_KINDS["bulk"], sync, 0.0)
    )

    for one in (ended, by_itself):
        assert len(json.dumps([one.key, one.data])) < MAX_SUMMARY_SIZE


def test_a_cursor_without_an_end_is_none() -> None:
    """How far a console log was read is kept in XCom: an endless cursor or id is None."""
    page = {"next_cursor": ENDLESS, "entries": [{"id": ENDLESS, "message": "hello"}]}
    log = decode(SYNC_KINDS["bulk"].console_log("s", "e"), Response(200, {}, json.dumps({"data": page}).encode()))
    assert log.next_cursor is None
    assert [(entry.id, entry.message) for entry in log.entries or []] == [(None, "hello")]


SLOW = "^(a+)+$"
LONG = {"value": "a" * 40 + "!", "a" * 40 + "!": 1}
# Each of 60 definitions is the next one, twice.
TWICE = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"value": {"pattern": SLOW}}},
        {"patternProperties": {SLOW: {}}},
        {"patternProperties": {SLOW: {}}, "additionalProperties": False},
        {"patternProperties": {SLOW: {}}, "unevaluatedProperties": False},
        {"propertyNames": {"pattern": SLOW}},
        {"$ref": "#/$defs/d0", "$defs": TWICE},
        {"$defs": TWICE, "allOf": [{"$ref": "#/$defs/d0"}], "unevaluatedProperties": False},
        {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"value": {"pattern": SLOW}}},
    ],
)
def test_no_schema_takes_for_ever(schema: dict[str, Any]) -> None:
    """What a destination publishes cannot hold who creates a sync; what it says besides is heeded."""
    schema = schema | {"required": ["missing"]}
    page = Response(200, {}, json.dumps({"data": {"configuration": schema}}).encode())
    with pytest.raises(ValueError, match="missing: is required"):
        Hand([page]).drive(check_configuration("d", LONG))


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "unevaluated"])
def test_a_reference_in_a_configuration_schema_is_not_fetched(keyword: str) -> None:
    """Nothing is fetched from where a schema points to."""
    with Server() as server:
        there = f"{server.url}/schema"
        schema = {keyword: there} if keyword != "unevaluated" else {"$ref": there, "unevaluatedProperties": False}
        page = Response(200, {}, json.dumps({"data": {"configuration": schema}}).encode())
        Hand([page]).drive(check_configuration("d", LONG))
        assert server.requests == []


# what it can make us show


@pytest.mark.parametrize("policy", ["fail", "attach"])
def test_a_blocking_execution_adds_no_log_lines(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    """The execution of somebody else, in the message of one who does not wait for it."""
    caplog.set_level(logging.INFO)
    running = {"id": "e", "status": "odd\n[CRITICAL] \x9b31mforged" + "x" * 9999}
    page = Response(200, {}, json.dumps({"data": [running]}).encode())
    order = StartRequest("bulk", "s", ("task",), if_running=policy)
    try:
        said = str(Hand([page, page, page]).drive(start_or_resume(order)))
    except PolytomicConflictError as error:
        said = str(error)

    assert "odd [CRITICAL]" in said
    assert said.isprintable()
    assert len(said) < 2000
    assert all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.parametrize(
    ("schema", "configuration"),
    [
        ({"required": [FORGED]}, {}),
        ({"additionalProperties": False, "properties": {FORGED: {}}}, {"a": 1}),
        ({"properties": {"a": {"enum": [FORGED]}}}, {"a": 1}),
    ],
    ids=["required", "allowed", "enum"],
)
def test_no_schema_writes_lines_of_its_own(schema: dict[str, Any], configuration: dict[str, Any]) -> None:
    """What a destination publishes is a part of one line in what is said about a configuration."""
    page = Response(200, {}, json.dumps({"data": {"configuration": schema}}).encode())
    with pytest.raises(ValueError, match="forged") as caught:
        Hand([page]).drive(check_configuration("d", configuration))

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_no_mode_writes_lines_of_its_own() -> None:
    """Nor do the modes that a destination supports, where a start was refused."""
    refused = Response(422, {}, b'{"status": 422, "message": "unsupported mode", "key": "validation"}')
    sync = Response(200, {}, b'{"data": {"id": "s", "destination_connection_id": "d"}}')
    modes = Response(200, {}, json.dumps({"data": {"supported_resync_modes": [FORGED]}}).encode())
    start = bulk_syncs.start("s", resync_mode="rebuild", idempotency_key="k" * 8)
    with pytest.raises(PolytomicValidationError, match="forged") as caught:
        Hand([refused, sync, modes]).drive(with_resync_mode_hint(send_once(start, START), "s", "rebuild"))

    assert str(caught.value).isprintable()


def test_no_name_fills_a_message() -> None:
    """The nearest names are told, but not to their ends."""
    page = Response(200, {}, json.dumps({"data": [{"id": "s", "name": ENDLESS}]}).encode())
    with pytest.raises(PolytomicLookupError) as caught:
        Hand([page]).drive(find_sync(SYNC_KINDS["bulk"], "Orders"))

    assert len(str(caught.value)) < 500


def test_no_status_writes_lines_of_its_own() -> None:
    """What a status says, however it is made, is a part of one line."""
    forged = "running\n[CRITICAL] \x1b[31mforged" + "x" * 999
    execution = BulkSyncExecution.model_validate({"id": "e", "status": forged})

    assert format_progress(execution).isprintable()
    assert len(format_progress(execution)) < 600


ECHO = {
    "refused": http(401, json.dumps({"message": f"{KEY} is no key", "key": KEY}).encode()),
    "page": http(502, f"<html><title>{PASSWORD}: {KEY}</title></html>".encode()),
    "redirect": http(302, b"", f"Location: https://elsewhere.invalid/{KEY}"),
    "no JSON": http(200, f"Authorization: {KEY}".encode()),
    "unlike a sync": http(200, json.dumps({"data": {"id": {"key": KEY}}}).encode()),
}


@pytest.fixture
def loud(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """All that is logged, by anybody, at the lowest level, and all that is printed."""
    printed: list[str] = []

    def all_of_it() -> str:
        out, err = capfd.readouterr()
        printed.extend((out, err))
        records = [f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records]
        return "\n".join([caplog.text, *records, *printed])

    loggers = [logging.getLogger(name) for name in ("asyncio", "aiohttp", "urllib3", "requests", "httpx", "httpcore")]
    before = [logger.level for logger in loggers]
    caplog.set_level(logging.NOTSET + 1)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield all_of_it
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("name", [*ECHO, *TROUBLE])
def test_no_failure_shows_a_secret(
    send: Send, name: str, loud: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a host does, neither error, traceback, what they came from, nor the log of any library has a secret."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    script, request = (ECHO[name], GET) if name in ECHO else (TROUBLE[name].script, TROUBLE[name].request)
    with Server([script]) as server, Server([script]) as proxy:
        direct = settings(server.url, timeout=0.3)
        proxied = settings("http://polytomic.invalid", timeout=0.3, proxy=f"http://me:{PASSWORD}@{proxy.host}")
        for where in (direct, proxied):
            (answer,) = send(where, request)
            with pytest.raises(PolytomicError) as caught:
                decode(bulk_syncs.get("s"), answer)
            shown = told(caught.value) + loud()
            assert [secret for secret in secrets_of(where) if secret in shown] == []


@pytest.mark.parametrize("url", ["https://polytomic.invalid", "http://polytomic.invalid"])
def test_an_unreachable_proxy_shows_no_secret(send: Send, url: str, loud: Callable[[], str]) -> None:
    """The password of the proxy stays where it is, too."""
    with nobody() as host:
        where = settings(url, proxy=f"http://me:{PASSWORD}@{host}")
        (answer,) = send(where, GET)
    with pytest.raises(PolytomicError) as caught:
        decode(bulk_syncs.get("s"), answer)
    shown = told(caught.value) + loud()
    assert [secret for secret in secrets_of(where) if secret in shown] == []


def test_the_logs_of_the_libraries_are_captured(send: Send, loud: Callable[[], str]) -> None:
    """What the two tests above have looked at is not nothing: a good call is seen in it, without a secret."""
    with Server([http(200, b'{"data": {"id": "s"}}')]) as server:
        where = settings(server.url)
        with Client(where) as client:
            client.call(bulk_syncs.get("s"))
        send(where, GET)
        logging.getLogger("aiohttp.client").debug("as if it had logged something")
    shown = loud()
    assert "/api/bulk/syncs/s" in shown
    assert "as if it had" in shown
    assert [secret for secret in secrets_of(where) if secret in shown] == []


def test_settings_show_no_secret_however_they_are_printed() -> None:
    """Neither they, nor what they are made of, nor what is made of them."""
    import dataclasses

    where = settings("https://h", proxy=f"http://me:{PASSWORD}@p")
    answer = Response(200, {}, b"", where.secrets)
    client = Client(where)
    shown = [
        *(where, vars(where), dataclasses.asdict(where), dataclasses.astuple(where), where.secrets),
        *(client, vars(client), vars(client._transport), vars(client._transport._session), answer, vars(answer)),
    ]
    for what in shown:
        assert [secret for secret in (*secrets_of(where), LOGIN) if secret in repr(what)] == []
    assert where.headers(GET)["Authorization"].startswith("Basic ")
    assert str(where.key) == KEY


# plain HTTP


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://polytomic.invalid", 1),
        ("http://192.0.2.1:8080", 1),
        ("http://localhost:1", 0),
        ("http://127.0.0.1:1", 0),
        ("http://[::1]:1", 0),
        ("https://127.0.0.1:1", 0),
    ],
)
def test_sending_the_key_unencrypted_logs_a_warning(
    send: Send, url: str, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for a session, naming the host; not for this machine."""
    with nobody() as host:
        send(settings(url, proxy=f"http://{host}"), GET, GET)
    messages = [record.getMessage() for record in caplog.records if "unencrypted" in record.getMessage()]
    assert len(messages) == warned
    assert all(url.removeprefix("http://") in message for message in messages)
