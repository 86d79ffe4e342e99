"""A malicious server or proxy: what it can make the client send, keep in memory, or show."""

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
from airflow_provider_polytomic.api.executions.event_summary import to_event_summary
from airflow_provider_polytomic.api.executions.messages import format_progress
from airflow_provider_polytomic.api.executions.outcome import failure_reason
from airflow_provider_polytomic.api.executions.poll import poll_next_execution
from airflow_provider_polytomic.api.executions.start import start_or_resume
from airflow_provider_polytomic.api.executions.start_request import StartRequest
from airflow_provider_polytomic.api.executions.summary import MAX_SUMMARY_SIZE, summarize
from airflow_provider_polytomic.api.executions.wait import wait_for_execution
from airflow_provider_polytomic.api.idempotency import send_once
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
from airflow_provider_polytomic.api.syncs.destination import check_configuration, with_argument_hints
from airflow_provider_polytomic.api.syncs.lookup import find_sync, walk

from .conftest import Send, send_with_requests
from .plans import PlanDriver
from .servers import Script, Server, closed_address, http
from .test_transports import FAILURES, send_byte_by_byte

KEY = "k3y-of-this-test"
LOGIN = "0rganization"
PASSWORD = "pass-w0rd"
GET = Request("GET", "/api/me")
FORGED = "x\n[CRITICAL] \x1b[31mforged \x85\u2028 " + "x" * 9999
EVIL = "x\r\nX-Evil: 1\r\n\r\nGET /evil HTTP/1.1"


def settings(url: str, **more: Any) -> Settings:
    return Settings(base_url=url, key=KEY, login=LOGIN, **{"timeout": 60.0, **more})


def render_error(error: BaseException) -> str:
    """Return everything that may be printed of an error and of the errors that caused it."""
    chain: list[BaseException | None] = [error]
    while chain[-1] is not None:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    shown = [f"{item} {item!r} {vars(item)!r}" for item in chain if item is not None]
    return "".join([*shown, *traceback.format_exception(error)])


def secrets_of(where: Settings) -> set[str]:
    """Return the texts that no output may contain."""
    return {KEY, *map(str, where.secrets)}


# what it can make the client send


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/api/syncs", query=(("name", EVIL), (EVIL, "x"))),
        Request("POST", "/api/syncs", json={"name": EVIL, EVIL: [EVIL]}),
    ],
    ids=["query", "body"],
)
def test_line_breaks_in_query_or_body_add_no_header_or_request(send: Send, request_: Request) -> None:
    """They stay in the query or the body: one request arrives, with the headers of the client only."""
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
def test_endpoint_function_rejects_ids_with_control_characters_or_dot_segments(
    make: Callable[[str], Call[Any]], bad: str
) -> None:
    """The error is raised before anything is sent."""
    with pytest.raises(ValueError, match="sync_id must not"):
        make(bad)


def test_slashes_queries_and_fragments_in_an_id_stay_in_its_segment() -> None:
    """They are percent-encoded."""
    assert build_path("/api/syncs/{sync_id}/x", sync_id="../?a=b#c%2F") == "/api/syncs/..%2F%3Fa%3Db%23c%252F/x"


@pytest.mark.parametrize("bad", [EVIL, "12345678\n", "\n12345678", "1234567 8", "é" * 8, "a" * 256, "short"])
def test_start_rejects_idempotency_keys_with_characters_outside_the_allowed_set(bad: str) -> None:
    """A key cannot add a header."""
    with pytest.raises(ValueError, match="idempotency_key"):
        bulk_syncs.start("s", idempotency_key=bad)


# what it can make the client keep


def make_bombs() -> dict[str, Script]:
    """Return responses of a few hundred kilobytes that decompress to far more than the limit."""
    zeros = bytes(2 * MAX_BODY_SIZE)
    compressed = gzip.compress(zeros, 1)
    return {
        "gzip": http(200, compressed, "Content-Encoding: gzip"),
        "deflate": http(200, zlib.compress(zeros, 1), "Content-Encoding: deflate"),
        "an error": http(500, compressed, "Content-Encoding: gzip"),
    }


@pytest.fixture(scope="module")
def compressed() -> dict[str, Script]:
    return make_bombs()


@pytest.mark.parametrize("name", ["gzip", "deflate", "an error"])
def test_decompression_bomb_is_a_transport_failure(send: Send, compressed: dict[str, Script], name: str) -> None:
    """The reason is that the body is too large or cannot be decompressed."""
    with Server([compressed[name]]) as server:
        (result,) = send(settings(server.url, timeout=60.0), GET)
    assert isinstance(result, TransportFailure)
    assert re.search("too large|cannot be decoded", result.reason)


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
def test_deeply_nested_or_huge_json_is_a_polytomic_error(body: bytes, status: int) -> None:
    """No exception of a library escapes, and the process survives."""
    with pytest.raises(PolytomicError) as caught:
        decode(bulk_syncs.execution("s", "e"), Response(status, {}, body))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("call", [bulk_syncs.list_(), events.list_()], ids=["syncs", "events"])
def test_endless_list_raises_after_the_page_limit(call: ListCall[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The server names one more page each time."""
    monkeypatch.setattr(pagination, "MAX_PAGES", 50)
    sent: list[Request] = []

    def respond_with_next_page(request: Request) -> Response:
        sent.append(request)
        assert len(sent) < 100, "the list was not ended"
        body = {"data": [], "pagination": {"next_page_token": f"page {len(sent)}"}}
        return Response(200, {}, json.dumps(body).encode())

    with pytest.raises(PolytomicResponseError, match="more than 50 pages"):
        drive(walk(call), respond_with_next_page)
    assert len(sent) == 51


def test_response_sent_byte_by_byte_ends_with_a_timeout(send: Send) -> None:
    """The whole response has to arrive within ten times the timeout."""
    with Server([send_byte_by_byte]) as server:
        for timeout in (0.1, 1.0, 10.0):  # the first one within which this machine sends the next byte
            (result,) = send(settings(server.url, timeout=timeout), GET)
            if result == TransportFailure(f"{server.host} did not respond within {timeout:g} s", status=200):
                return
    raise AssertionError(result)


UNPRINTABLE = ["e\nFAKE", "e\x1b[31m", "e\x85FAKE", "e\x9b31m", "e\u2028FAKE", "e\u2029FAKE"]


@pytest.mark.parametrize("bad", ["", " ", ".", "..", " .. ", "e" * 1001, *UNPRINTABLE])
def test_execution_with_an_unsafe_id_is_rejected(bad: str) -> None:
    """An id with control characters, a dot segment, or one of unlimited length is not accepted."""
    body = json.dumps({"data": {"id": bad, "status": "running"}}).encode()
    with pytest.raises(PolytomicResponseError, match="id: "):
        decode(bulk_syncs.execution("s", "e"), Response(200, {}, body))


@pytest.mark.parametrize("body", ['{"data": {"id": "e", "x": [%s]}}', '{"x": [%s]}', '{"message": [%s]}'])
@pytest.mark.parametrize("value", ["{}", "[]"])
def test_response_with_too_many_values_is_a_transport_failure(send: Send, body: str, value: str) -> None:
    """An empty object needs hundreds of times its two bytes in memory."""
    number = MAX_BODY_SIZE // MIN_BYTES_PER_VALUE
    body_ = (body % ",".join([value] * number)).encode()
    with Server([http(200, body_)]) as server:
        (result,) = send(settings(server.url), GET)

    assert result == TransportFailure("the response is too large", status=200)
    assert len(body_) < MAX_TRIGGERER_BODY_SIZE


def test_triggerer_accepts_smaller_bodies_than_a_worker(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop of the triggerer is blocked while a body is parsed."""
    accepted = {}
    for size in (MAX_TRIGGERER_BODY_SIZE, MAX_TRIGGERER_BODY_SIZE + 1):
        with Server([http(200, b" " * size)]) as server:
            (result,) = send(settings(server.url, timeout=60.0), GET)
        accepted[size] = isinstance(result, Response)

    assert accepted == {MAX_TRIGGERER_BODY_SIZE: True, MAX_TRIGGERER_BODY_SIZE + 1: send is send_with_requests}


@pytest.mark.parametrize("kind", SYNC_KINDS.values(), ids=SYNC_KINDS)
def test_waiting_plan_keeps_no_execution_or_error_between_polls(
    kind: SyncKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large responses are released before the plan sleeps."""
    for module in (wait, outage):
        monkeypatch.setattr(module.log, "disabled", True)  # pytest keeps what is logged
    large = {"id": "e", "status": "running", "marker": (marker := "kept-until-the-next-poll")}
    responses = [Response(200, {}, json.dumps({"data": large}).encode()), Response(200, {}, marker.encode())]
    plan = wait_for_execution(kind, "s", "e", poke_interval=30)
    result: Any = None
    for _ in range(20):
        step = plan.send(result)
        result = None
        if isinstance(step, Request):
            if not responses:
                break
            result = responses.pop(0)
        elif isinstance(step, Now):
            result = 0.0
        elif isinstance(step, Sleep | BatchableSleep):
            gc.collect()
            alive = [item for item in gc.get_objects() if issubclass(type(item), Execution | PolytomicResponseError)]
            assert [item for item in alive if marker in repr(item)] == []
    assert responses == []


def test_list_raises_when_its_pages_exceed_the_total_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page is small, but their number is unlimited."""
    monkeypatch.setattr(lookup, "MAX_BODY_SIZE", 100_000)
    pages = itertools.count()

    def respond_with_next_page(request: Request) -> Response:
        number = next(pages)
        assert number < 20, "the list was not ended"
        body = {"data": [{"id": "s", "x": "x" * 10_000}], "pagination": {"next_page_token": f"page {number}"}}
        return Response(200, {}, json.dumps(body).encode())

    with pytest.raises(PolytomicResponseError, match="more than 100000 bytes"):
        drive(walk(bulk_syncs.list_()), respond_with_next_page)


def test_list_is_rejected_when_its_page_token_is_too_long() -> None:
    """All tokens of a list are kept in memory."""
    body = json.dumps({"data": [], "pagination": {"next_page_token": "x" * 5000}}).encode()
    with pytest.raises(PolytomicResponseError, match="not a response"):
        decode(bulk_syncs.list_().page(), Response(200, {}, body))


@pytest.mark.parametrize("plan", ["poll_next_execution", "list_ended_since"])
def test_execution_list_request_has_a_limit_that_fits_the_triggerer(plan: str) -> None:
    """Executions of a sync with two thousand schemas fit into a response that the triggerer accepts."""
    row = {"schema": "a" * 60, "output_name": "b" * 60, "status": "completed", "record_count": 10**9}
    row |= dict.fromkeys(("created_at", "started_at", "completed_at", "updated_at"), "2026-01-01T00:00:00.123456Z")
    driver = PlanDriver([Response(200, {}, b'{"data": []}')])
    if plan == "poll_next_execution":
        driver.drive(poll_next_execution(SYNC_KINDS["bulk"], "s", datetime.now(timezone.utc)))
    else:
        driver.drive(list_ended_since(SYNC_KINDS["bulk"], BulkSync(id="s"), 0.0))
    listed = int(dict(driver.requests[0].query)["limit"])

    body = json.dumps({"data": [{"id": "e", "schemas": [row] * 2000}] * listed}).encode()
    assert not is_too_large(body, MAX_TRIGGERER_BODY_SIZE)


ENDLESS = "\u4e16" * 1_000_000


@pytest.mark.parametrize("kind", SYNC_KINDS.values(), ids=SYNC_KINDS)
def test_execution_summary_and_event_payload_are_bounded(kind: SyncKind) -> None:
    """Texts of unlimited length do not reach XCom or a trigger event."""
    row = dict.fromkeys(("schema", "output_name", "status", "status_message"), ENDLESS)
    fields = {"id": "e", "status_message": ENDLESS, "schemas": [row] * 3, "errors": [ENDLESS] * 3}
    execution = kind.execution_class.model_validate(
        fields | {"status": ENDLESS, "completed_at": "2026-01-01T00:00:00Z"}
    )

    assert len(json.dumps(summarize("s", execution))) <= MAX_SUMMARY_SIZE
    assert len(json.dumps(to_event_summary("s", execution))) <= MAX_SUMMARY_SIZE + 10_000
    assert len(failure_reason(execution) or "") < 500


def test_huge_status_is_treated_as_unknown_and_logged_in_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    """The wait continues, as for any unknown status."""
    running = {"data": {"id": "e", "status": "ended\n" + ENDLESS}}
    ended = {"data": {"id": "e", "status": "completed"}}
    driver = PlanDriver([Response(200, {}, json.dumps(result).encode()) for result in (running, running, ended)])

    assert driver.drive(wait_for_execution(SYNC_KINDS["model"], "s", "e", poke_interval=30)).status == "completed"
    (warning,) = [record.getMessage() for record in caplog.records if "unknown status" in record.getMessage()]
    assert warning.isprintable()
    assert len(warning) < 300


def test_event_data_and_key_are_bounded() -> None:
    """This applies to events and to executions that are listed as a substitute for events."""
    details = dict.fromkeys(("sync_id", "sync_name", "execution_id", "trigger_source", "error"), ENDLESS)
    row = {"id": "v", "type": "bulk_sync.completed", "created_at": "2026-01-01T00:00:00Z", "event": details}
    page = Response(200, {}, json.dumps({"data": [row]}).encode())
    (ended,) = PlanDriver([page]).drive(poll_events(0.0)).ends
    sync = BulkSync.model_validate({"id": "s", "name": ENDLESS, "target": {"connection_id": ENDLESS}})
    executed = {"id": "e", "status": "completed", "completed_at": "2026-01-01T00:00:00Z"}
    (listed_end,) = PlanDriver([Response(200, {}, json.dumps({"data": [executed]}).encode())]).drive(
        list_ended_since(SYNC_KINDS["bulk"], sync, 0.0)
    )

    for item in (ended, listed_end):
        assert len(json.dumps([item.key, item.data])) < MAX_SUMMARY_SIZE


def test_console_log_drops_cursors_and_entry_ids_that_are_too_long() -> None:
    """The cursor is kept in XCom."""
    page = {"next_cursor": ENDLESS, "entries": [{"id": ENDLESS, "message": "hello"}]}
    log = decode(SYNC_KINDS["bulk"].console_log("s", "e"), Response(200, {}, json.dumps({"data": page}).encode()))
    assert log.next_cursor is None
    assert [(entry.id, entry.message) for entry in log.entries or []] == [(None, "hello")]


SLOW_PATTERN = "^(a+)+$"
LONG = {"value": "a" * 40 + "!", "a" * 40 + "!": 1}
# Each of 60 definitions refers to the next one twice.
DOUBLING_DEFINITIONS = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"value": {"pattern": SLOW_PATTERN}}},
        {"patternProperties": {SLOW_PATTERN: {}}},
        {"patternProperties": {SLOW_PATTERN: {}}, "additionalProperties": False},
        {"patternProperties": {SLOW_PATTERN: {}}, "unevaluatedProperties": False},
        {"propertyNames": {"pattern": SLOW_PATTERN}},
        {"$ref": "#/$defs/d0", "$defs": DOUBLING_DEFINITIONS},
        {"$defs": DOUBLING_DEFINITIONS, "allOf": [{"$ref": "#/$defs/d0"}], "unevaluatedProperties": False},
        {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"value": {"pattern": SLOW_PATTERN}}},
    ],
)
def test_configuration_schema_with_exponential_cost_is_checked_quickly(schema: dict[str, Any]) -> None:
    """The other rules of the schema are applied."""
    schema = schema | {"required": ["missing"]}
    page = Response(200, {}, json.dumps({"data": {"configuration": schema}}).encode())
    with pytest.raises(ValueError, match="missing: is required"):
        PlanDriver([page]).drive(check_configuration("d", LONG))


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "unevaluated"])
def test_configuration_schema_references_are_not_fetched(keyword: str) -> None:
    """The server of a remote reference receives no request."""
    with Server() as server:
        alive = f"{server.url}/schema"
        schema = {keyword: alive} if keyword != "unevaluated" else {"$ref": alive, "unevaluatedProperties": False}
        page = Response(200, {}, json.dumps({"data": {"configuration": schema}}).encode())
        PlanDriver([page]).drive(check_configuration("d", LONG))
        assert server.requests == []


# what it can make the client show


@pytest.mark.parametrize("policy", ["fail", "attach"])
def test_status_of_a_blocking_execution_cannot_forge_log_lines(policy: str, caplog: pytest.LogCaptureFixture) -> None:
    """The message and the log stay printable and bounded."""
    caplog.set_level(logging.INFO)
    running = {"id": "e", "status": "odd\n[CRITICAL] \x9b31mforged" + "x" * 9999}
    page = Response(200, {}, json.dumps({"data": [running]}).encode())
    request = StartRequest("bulk", "s", ("task",), if_running=policy)
    try:
        text = str(PlanDriver([page, page, page]).drive(start_or_resume(request)))
    except PolytomicConflictError as error:
        text = str(error)

    assert "odd [CRITICAL]" in text
    assert text.isprintable()
    assert len(text) < 2000
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
def test_configuration_schema_cannot_forge_log_lines(schema: dict[str, Any], configuration: dict[str, Any]) -> None:
    """Its texts are part of one bounded line of the error."""
    page = Response(200, {}, json.dumps({"data": {"configuration": schema}}).encode())
    with pytest.raises(ValueError, match="forged") as caught:
        PlanDriver([page]).drive(check_configuration("d", configuration))

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_supported_resync_modes_cannot_forge_log_lines() -> None:
    """They are part of the error of a rejected start."""
    refused = Response(422, {}, b'{"status": 422, "message": "unsupported mode", "key": "validation"}')
    sync = Response(200, {}, b'{"data": {"id": "s", "destination_connection_id": "d"}}')
    modes = Response(200, {}, json.dumps({"data": {"supported_resync_modes": [FORGED]}}).encode())
    start = bulk_syncs.start("s", resync_mode="rebuild", idempotency_key="k" * 8)
    with pytest.raises(PolytomicValidationError, match="forged") as caught:
        PlanDriver([refused, sync, modes]).drive(
            with_argument_hints(send_once(start, "start"), "s", {"resync_mode": "rebuild"})
        )

    assert str(caught.value).isprintable()


def test_lookup_error_is_bounded_when_names_are_huge() -> None:
    """The most similar names are listed, but shortened."""
    page = Response(200, {}, json.dumps({"data": [{"id": "s", "name": ENDLESS}]}).encode())
    with pytest.raises(PolytomicLookupError) as caught:
        PlanDriver([page]).drive(find_sync(SYNC_KINDS["bulk"], "Orders"))

    assert len(str(caught.value)) < 500


def test_progress_message_is_one_bounded_line_for_any_status() -> None:
    """A status cannot forge log lines."""
    forged = "running\n[CRITICAL] \x1b[31mforged" + "x" * 999
    execution = BulkSyncExecution.model_validate({"id": "e", "status": forged})

    assert format_progress(execution).isprintable()
    assert len(format_progress(execution)) < 600


ECHO = {
    "rejected": http(401, json.dumps({"message": f"{KEY} is no key", "key": KEY}).encode()),
    "page": http(502, f"<html><title>{PASSWORD}: {KEY}</title></html>".encode()),
    "redirect": http(302, b"", f"Location: https://elsewhere.invalid/{KEY}"),
    "not JSON": http(200, f"Authorization: {KEY}".encode()),
    "not a sync": http(200, json.dumps({"data": {"id": {"key": KEY}}}).encode()),
}


@pytest.fixture
def captured_output(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Return a function for everything that is logged at any level, and everything that is printed."""
    printed: list[str] = []

    def collect() -> str:
        out, err = capfd.readouterr()
        printed.extend((out, err))
        records = [f"{record.getMessage()} {record.args!r} {record.exc_text}" for record in caplog.records]
        return "\n".join([caplog.text, *records, *printed])

    loggers = [logging.getLogger(name) for name in ("asyncio", "aiohttp", "urllib3", "requests", "httpx", "httpcore")]
    before = [logger.level for logger in loggers]
    caplog.set_level(logging.NOTSET + 1)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield collect
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("name", [*ECHO, *FAILURES])
def test_error_traceback_and_library_logs_contain_no_secret(
    send: Send, name: str, captured_output: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table contains responses that echo credentials and all failures of the transports."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    script, request = (ECHO[name], GET) if name in ECHO else (FAILURES[name].script, FAILURES[name].request)
    with Server([script]) as server, Server([script]) as proxy:
        direct = settings(server.url, timeout=0.3)
        proxied = settings("http://polytomic.invalid", timeout=0.3, proxy=f"http://me:{PASSWORD}@{proxy.host}")
        for where in (direct, proxied):
            (result,) = send(where, request)
            with pytest.raises(PolytomicError) as caught:
                decode(bulk_syncs.get("s"), result)
            shown = render_error(caught.value) + captured_output()
            assert [secret for secret in secrets_of(where) if secret in shown] == []


@pytest.mark.parametrize("url", ["https://polytomic.invalid", "http://polytomic.invalid"])
def test_refused_proxy_connection_shows_no_proxy_password(
    send: Send, url: str, captured_output: Callable[[], str]
) -> None:
    """Error, traceback and the logs of all libraries are checked."""
    with closed_address() as host:
        where = settings(url, proxy=f"http://me:{PASSWORD}@{host}")
        (result,) = send(where, GET)
    with pytest.raises(PolytomicError) as caught:
        decode(bulk_syncs.get("s"), result)
    shown = render_error(caught.value) + captured_output()
    assert [secret for secret in secrets_of(where) if secret in shown] == []


def test_log_capture_contains_the_messages_of_the_libraries(send: Send, captured_output: Callable[[], str]) -> None:
    """The tests that search the log for secrets would otherwise pass without any log."""
    with Server([http(200, b'{"data": {"id": "s"}}')]) as server:
        where = settings(server.url)
        with Client(where) as client:
            client.call(bulk_syncs.get("s"))
        send(where, GET)
        logging.getLogger("aiohttp.client").debug("a message of the library")
    shown = captured_output()
    assert "/api/bulk/syncs/s" in shown
    assert "a message of the library" in shown
    assert [secret for secret in secrets_of(where) if secret in shown] == []


def test_settings_and_client_show_no_secret_in_any_representation() -> None:
    """This includes their attributes and dataclass conversions."""
    import dataclasses

    where = settings("https://h", proxy=f"http://me:{PASSWORD}@p")
    result = Response(200, {}, b"", where.secrets)
    client = Client(where)
    shown = [
        *(where, vars(where), dataclasses.asdict(where), dataclasses.astuple(where), where.secrets),
        *(client, vars(client), vars(client._transport), vars(client._transport._session), result, vars(result)),
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
def test_plain_http_to_another_machine_is_warned_of_once_per_session(
    send: Send, url: str, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names the host; loopback addresses cause none."""
    with closed_address() as host:
        send(settings(url, proxy=f"http://{host}"), GET, GET)
    messages = [record.getMessage() for record in caplog.records if "unencrypted" in record.getMessage()]
    assert len(messages) == warned
    assert all(url.removeprefix("http://") in message for message in messages)
