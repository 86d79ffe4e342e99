"""Looking, waiting, cancelling and telling, driven without a network and with a clock of their own."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_polytomic.api.client import drive
from airflow_provider_polytomic.api.errors import (
    PolytomicAuthError,
    PolytomicLookupError,
    PolytomicNotFoundError,
    PolytomicResponseError,
    PolytomicServerError,
    PolytomicTimeoutError,
    PolytomicUnreachableError,
)
from airflow_provider_polytomic.api.executions.cancel import cancel_execution
from airflow_provider_polytomic.api.executions.messages import format_failure
from airflow_provider_polytomic.api.executions.outcome import failure_reason
from airflow_provider_polytomic.api.executions.start import start_or_resume
from airflow_provider_polytomic.api.executions.start_request import StartRequest
from airflow_provider_polytomic.api.executions.summary import from_event_payload, summarize, to_event_payload
from airflow_provider_polytomic.api.executions.wait import wait_for_execution
from airflow_provider_polytomic.api.kinds import SYNC_KINDS
from airflow_provider_polytomic.api.models import BulkSyncExecution, ModelSyncExecution
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure
from airflow_provider_polytomic.api.syncs.lookup import find_sync

BULK, MODEL = SYNC_KINDS["bulk"], SYNC_KINDS["model"]


def execution(status: str, **more: Any) -> Response:
    return Response(200, {}, json.dumps({"data": {"id": "e1", "status": status, **more}}).encode())


def failed(status: int, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps({"status": status, "message": "no", "key": "k", "metadata": {}})
    return Response(status, headers or {}, body.encode())


HTML = Response(502, {}, b"<html><title>Bad gateway</title></html>")
RUNNING, COMPLETED = execution("running"), execution("completed")


class Script:
    """A server that answers as told, the last answer for ever, and a clock that only sleeping moves."""

    def __init__(self, *answers: SendResult, takes: float = 0.0) -> None:
        self.answers = list(answers)
        self.takes = takes
        self.now = 1_000_000.0
        self.requests: list[tuple[float, Request]] = []
        self.slept: list[float] = []
        self.reconnected = 0

    def send(self, request: Request) -> SendResult:
        self.requests.append((self.now, request))
        self.now += self.takes
        if request.path.endswith("/cancel"):
            return Response(200)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds

    def reload_credentials(self) -> None:
        self.reconnected += 1

    def run(self, plan: Any) -> Any:
        return drive(
            plan, self.send, sleep=self.sleep, now=lambda: self.now, reload_credentials=self.reload_credentials
        )

    def wait(self, **how: Any) -> Any:
        return self.run(wait_for_execution(BULK, "s1", "e1", **{"poke_interval": 30.0, **how}))


def test_it_asks_once_an_interval() -> None:
    """Looks are an interval apart."""
    script = Script(RUNNING, RUNNING, RUNNING, COMPLETED)

    assert script.wait(poke_interval=4).status == "completed"
    assert len(script.requests) == 4
    assert script.slept == [4, 4, 4]


def test_the_interval_grows_with_the_wait() -> None:
    """The looks begin 5 s apart, and go on with a quarter of what was waited, until they are `poke_interval` apart."""
    script = Script(*[RUNNING] * 30, COMPLETED)

    script.wait()

    waited = [at - script.requests[0][0] for at, _ in script.requests]
    for since, slept in zip(waited, script.slept, strict=False):
        assert slept == min(max(since / 4, 5), 30)
    assert script.slept[0] == 5
    assert script.slept[-1] == 30


def test_who_has_waited_goes_on_at_the_same_pace() -> None:
    """A wait that began long ago, in another process, is not as curious as a new one."""
    script = Script(RUNNING, RUNNING, COMPLETED)

    script.wait(since=script.now - 3600)

    assert script.slept == [30, 30]


def test_the_first_look_can_come_later() -> None:
    """With `first_sleep` the first look waits, for up to one interval more: many begin when a triggerer does."""
    script = Script(COMPLETED)

    script.wait(first_sleep=5)
    script.wait(first_sleep=5, since=0)

    assert 5 <= script.slept[0] <= 10
    assert 5 <= script.slept[1] <= 35


@pytest.mark.parametrize("status", ["created", "scheduled", "running", "exporting", "processing", "canceling", "new"])
def test_a_completed_at_ends_it_whatever_the_status(status: str) -> None:
    """An execution with a time of completion has ended, and is no success under any status but `completed`."""
    script = Script(execution(status, completed_at="2026-01-01T00:00:00Z"))

    ended = script.wait()

    assert ended.is_terminal
    assert not ended.succeeded
    assert failure_reason(ended) is not None


def test_an_unknown_status_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    """A status that nobody knows is waited out, with one warning for it."""
    script = Script(execution("warming"), execution("warming", record_count=3), RUNNING, COMPLETED)

    with caplog.at_level(logging.WARNING):
        script.wait()

    assert len([record for record in caplog.records if "warming" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    "trouble",
    [failed(500), failed(503), failed(408), failed(429), HTML, Response(200, {}, b""), TransportFailure("lost")],
)
def test_passing_trouble_is_waited_out(trouble: SendResult) -> None:
    """Lost connections, 408, 429, 5xx and foreign pages do not end a wait."""
    script = Script(RUNNING, *[trouble] * 8, RUNNING, COMPLETED)

    assert script.wait().status == "completed"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 418, 422, 451, 500, 503])
@pytest.mark.parametrize(
    "body", [b"<html><title>Access denied</title></html>", b"RBAC: access denied", b"", b"[]", b"{"]
)
def test_a_foreign_answer_does_not_end_a_wait(status: int, body: bytes) -> None:
    """Only the API's own JSON error is final, whatever status a proxy in front of it answers with, also many times."""
    script = Script(RUNNING, *[Response(status, {}, body)] * 9, RUNNING, COMPLETED)

    assert script.wait().status == "completed"
    assert script.reconnected == 0


def test_retry_after_of_a_foreign_answer_is_honoured() -> None:
    """A gateway's page can ask for a pause, too."""
    script = Script(Response(503, {"retry-after": "77"}, b"<html></html>"), COMPLETED)

    script.wait()

    assert script.slept == [77]


@pytest.mark.parametrize("kind", ["bulk", "model"])
@pytest.mark.parametrize(
    "answer", [{"id": "e0", "status": "completed"}, {"id": "e1", "sync_id": "s0", "status": "completed"}]
)
def test_an_answer_about_another_execution_is_an_outage(kind: str, answer: dict[str, Any]) -> None:
    """A stale cache that answers with another execution, or one of another sync, says nothing about this one."""
    another = Response(200, {}, json.dumps({"data": answer}).encode())
    ours = Response(200, {}, json.dumps({"data": {"id": "E1", "sync_id": "S1", "status": "completed"}}).encode())
    script = Script(another, another, another, another, ours)

    assert script.run(wait_for_execution(SYNC_KINDS[kind], "s1", "e1", poke_interval=30)).id == "E1"
    assert len(script.requests) == 5
    with pytest.raises(PolytomicResponseError, match=r"about .*(execution e0|sync s0), not .*no valid response for 6"):
        Script(another).run(wait_for_execution(SYNC_KINDS[kind], "s1", "e1", poke_interval=30))


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (failed(503), PolytomicServerError),
        (HTML, PolytomicResponseError),
        (TransportFailure("refused"), PolytomicUnreachableError),
    ],
)
def test_an_outage_ends_it_after_ten_minutes(trouble: SendResult, error: type[Exception]) -> None:
    """Ten minutes without a good answer end a wait, with the last error and for how long it lasted."""
    script = Script(RUNNING, trouble)

    with pytest.raises(error, match="no valid response for 6"):
        script.wait()
    assert 600 <= script.now - script.requests[0][0] <= 700


@pytest.mark.parametrize(
    ("trouble", "error", "requests"),
    [
        (failed(503), PolytomicServerError, 6),
        (HTML, PolytomicResponseError, 6),
        (Response(200, {}, b"<html>"), PolytomicResponseError, 1),
        (failed(401), PolytomicAuthError, 1),
    ],
)
def test_less_is_endured_before_a_start(trouble: SendResult, error: type[Exception], requests: int) -> None:
    """Before there is an execution a question is repeated five times, in 15 seconds; a refused key ends the try."""
    script = Script(trouble)

    with pytest.raises(error):
        script.run(start_or_resume(StartRequest("bulk", "s1", ("task",))))
    assert len(script.requests) == requests
    assert sum(script.slept) <= 15.5
    assert script.reconnected == 0


def test_a_good_answer_ends_an_outage() -> None:
    """Two outages of nine minutes each, with a good answer between them, are waited out."""
    script = Script(RUNNING)

    def answers() -> Any:
        begin = script.now
        while script.now < begin + 540:
            yield failed(503)
        yield RUNNING
        begin = script.now
        while script.now < begin + 540:
            yield failed(503)
        yield COMPLETED

    flow = answers()
    script.send = lambda request: next(flow)  # type: ignore[method-assign]

    assert script.wait().status == "completed"


def test_retry_after_is_honoured() -> None:
    """A wait the server asks for is kept to the second."""
    script = Script(failed(429, {"retry-after": "77"}), COMPLETED)

    script.wait()

    assert script.slept == [77]


def test_retry_after_does_not_outlast_the_deadline() -> None:
    """No wait the server asks for goes past our deadline."""
    script = Script(failed(503, {"retry-after": "100000"}))

    with pytest.raises(PolytomicTimeoutError):
        script.wait(deadline=script.now + 100)
    assert script.now == 1_000_000 + 100


@pytest.mark.parametrize(("wish", "slept"), [("31536000", 120), ("100000000000", 120), ("0.001", 0.5)])
def test_no_wish_is_a_year_or_nothing(wish: str, slept: float) -> None:
    """A wait the server asks for is two minutes at most, and half a second at least."""
    script = Script(failed(429, {"retry-after": wish}), COMPLETED)

    script.wait()

    assert script.slept == [slept]


@pytest.mark.parametrize("seen", [False, True])
def test_a_404_is_lag_within_a_minute_of_the_start(seen: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A 404 in the first minute is a lagging replica, also after a good answer; the log says so once."""
    script = Script(*[RUNNING] * seen, *[failed(404)] * 4, RUNNING, *[failed(404)] * 2, COMPLETED)

    with caplog.at_level(logging.INFO):
        assert script.wait().status == "completed"
    assert script.now <= 1_000_000 + 90
    said = [record.getMessage() for record in caplog.records if "was not found" in record.getMessage()]
    assert said == [
        "Execution e1 of bulk sync s1 was not found. "
        f"It may be new: waiting up to {55 if seen else 60} s for it to appear."
    ]


@pytest.mark.parametrize("seen", [False, True])
def test_a_404_that_lasts_longer_than_a_minute_ends_the_wait(seen: bool) -> None:
    """A minute of 404 is enough."""
    script = Script(*[RUNNING] * seen, failed(404))

    with pytest.raises(PolytomicNotFoundError):
        script.wait()
    assert 60 <= script.now - 1_000_000 <= 90


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_404_ends_the_wait_within_a_minute_of_a_clock_that_jumped(jump: float) -> None:
    """A clock that is set back or forward does not make anybody wait longer for what is gone."""
    script = Script(RUNNING, failed(404))
    sleep, slept = script.sleep, []

    def jumping_sleep(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)
        script.now += jump if len(slept) == 3 else 0

    script.sleep = jumping_sleep  # type: ignore[method-assign]
    with pytest.raises(PolytomicNotFoundError):
        script.wait()
    assert sum(slept) <= 90


def test_a_404_ends_a_wait_that_began_more_than_a_minute_ago() -> None:
    """A wait that another process began does not give the execution a minute more."""
    script = Script(failed(404))

    with pytest.raises(PolytomicNotFoundError):
        script.wait(since=script.now - 61)
    assert script.slept == []


def test_a_refused_key_is_read_again_once() -> None:
    """After a 401 the connection is read again and asked again at once; a second refusal ends the wait."""
    script = Script(RUNNING, failed(401), RUNNING, failed(403), COMPLETED)
    assert script.wait().status == "completed"
    assert script.reconnected == 2

    script = Script(RUNNING, failed(401))
    with pytest.raises(PolytomicAuthError):
        script.wait()
    assert script.reconnected == 1


def test_a_redirect_ends_it() -> None:
    """A redirect is no passing trouble: it names where it points."""
    script = Script(Response(302, {"location": "https://elsewhere.example.com/login?next=secret"}))

    with pytest.raises(PolytomicResponseError, match=r"elsewhere\.example\.com/login\?\*\*\*"):
        script.wait()


def test_the_deadline_cancels_when_asked_to() -> None:
    """At the deadline the execution is cancelled once, then the timeout is raised."""
    script = Script(RUNNING)

    with pytest.raises(PolytomicTimeoutError, match="is being canceled"):
        script.wait(deadline=script.now + 100, cancel_at_deadline=True)

    assert [request.path for _, request in script.requests][-1] == "/api/bulk/syncs/s1/executions/e1/cancel"
    assert script.now == 1_000_000 + 100


def test_a_deadline_that_has_passed_is_not_extended() -> None:
    """A wait that begins after its deadline looks once and gives up."""
    script = Script(RUNNING)

    with pytest.raises(PolytomicTimeoutError):
        script.wait(deadline=script.now - 3600, first_sleep=30)
    assert len(script.requests) == 1
    assert sum(script.slept) == 0


def test_an_end_at_the_deadline_counts() -> None:
    """An execution that is found ended at the deadline has ended."""
    script = Script(RUNNING, COMPLETED)

    assert script.wait(deadline=script.now + 10).status == "completed"


def test_no_look_outlasts_the_deadline() -> None:
    """A look gets no more time than is left until the deadline."""
    script = Script(RUNNING)

    with pytest.raises(PolytomicTimeoutError):
        script.wait(deadline=script.now + 45, poke_interval=20)
    assert all(request.timeout <= 45 for _, request in script.requests)


def test_a_cancel_that_is_not_answered_ends_in_time() -> None:
    """A cancel is asked for at most ten seconds."""
    script = Script(TransportFailure("lost"), takes=1.0)
    script.send = lambda request: (
        script.requests.append((script.now, request)),
        script.sleep(1),
        TransportFailure("x"),
    )[2]  # type: ignore[method-assign]

    refused = script.run(cancel_execution(BULK, "s1", "e1", 10))

    assert "no answer" in refused
    assert script.now - 1_000_000 <= 11


# --- looking for one


def listed(token: str) -> Response:
    rows = [{"id": "e1", "status": "running"}]
    return Response(200, {}, json.dumps({"data": rows, "pagination": {"next_page_token": token}}).encode())


def test_a_list_of_executions_that_never_ends_is_an_outage() -> None:
    """A page token that repeats is seen with the second page of each look, and ends the wait after ten minutes."""
    script = Script(listed("same"))

    with pytest.raises(PolytomicResponseError, match=r"repeats a page token.*no valid response for 6"):
        script.run(wait_for_execution(BULK, "s1", None, poke_interval=30))
    assert len(script.requests) < 200


def test_no_page_is_asked_for_after_the_deadline() -> None:
    """However long the list of executions is, looking through it ends when the time is up."""
    script = Script(*[listed(str(number)) for number in range(100)], takes=1)

    with pytest.raises(PolytomicTimeoutError, match="had not ended at the deadline"):
        script.run(wait_for_execution(BULK, "s1", None, poke_interval=30, deadline=script.now + 60))
    assert len(script.requests) == 60


# --- finding


def page(*names: str, token: str | None = None) -> Response:
    data = [{"id": f"id-{index}-{name}", "name": name} for index, name in enumerate(names)]
    return Response(200, {}, json.dumps({"data": data, "pagination": {"next_page_token": token}}).encode())


def test_find_reads_all_pages() -> None:
    """A name on the last page is found, and one that is there twice, on two pages, is refused."""
    assert Script(page("a", "b", token="t1"), page("c")).run(find_sync(BULK, "c")).id == "id-0-c"

    with pytest.raises(PolytomicLookupError, match="id-0-a, id-1-a"):
        Script(*[page("a", token="t1"), page("b", "a")] * 2).run(find_sync(BULK, "a"))


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    """No match names the nearest; no syncs at all is said as well."""
    with pytest.raises(PolytomicLookupError, match="'Salesforce'"):
        Script(page("Salesforce", "Orders")).run(find_sync(BULK, "Salesfroce"))
    with pytest.raises(PolytomicLookupError, match="none at all"):
        Script(page()).run(find_sync(MODEL, "x"))


# --- judging and telling


@pytest.mark.parametrize(
    ("data", "allow_errors", "good"),
    [
        ({"status": "completed"}, False, True),
        ({"status": "completed", "schemas": None}, False, True),
        ({"status": "completed", "schemas": [{"schema": "a", "status": None}]}, False, True),
        ({"status": "completed", "schemas": [{"schema": "a", "status": "completed"}]}, False, True),
        ({"status": "completed", "schemas": [{"schema": "a", "status": "failed"}]}, False, False),
        ({"status": "completed", "schemas": [{"schema": "a", "status": "running"}]}, False, False),
        ({"status": "completed", "schemas": [{"schema": "a", "status": "new"}]}, True, True),
        ({"status": "errors"}, False, False),
        ({"status": "errors"}, True, True),
        ({"status": "failed"}, True, False),
        ({"status": "canceled"}, True, False),
        ({"status": "interrupted"}, True, False),
        ({"status": None, "completed_at": "2026-01-01T00:00:00Z"}, True, False),
        ({"status": "???", "completed_at": "2026-01-01T00:00:00Z"}, True, False),
    ],
)
def test_what_is_a_success(data: dict[str, Any], allow_errors: bool, good: bool) -> None:
    """The table of ends: only `completed` is green, with `allow_errors` also what went wrong in parts."""
    ended = BulkSyncExecution.model_validate({"id": "e1", **data})

    assert (failure_reason(ended, allow_errors=allow_errors) is None) is good
    if not allow_errors:
        assert ended.succeeded is good


@pytest.mark.parametrize(("error", "good"), [(None, True), (0, True), (1, False)])
def test_records_in_error_are_no_success_of_a_model_sync(error: int | None, good: bool) -> None:
    """A model sync that completed with failed records is a partial failure."""
    ended = ModelSyncExecution.model_validate({"id": "e1", "status": "completed", "counts": {"error": error}})

    assert (failure_reason(ended) is None) is good
    assert failure_reason(ended, allow_errors=True) is None


def test_min_records() -> None:
    """Fewer than `min_records` are a failure; not for a test run, nor when the count is unknown."""
    few = {"id": "e1", "status": "completed", "record_count": 2}

    assert failure_reason(BulkSyncExecution.model_validate(few), min_records=3)
    assert failure_reason(BulkSyncExecution.model_validate({**few, "is_test": True}), min_records=3) is None
    assert failure_reason(BulkSyncExecution.model_validate({**few, "record_count": None}), min_records=3) is None
    assert failure_reason(BulkSyncExecution.model_validate({**few, "record_count": 0}), min_records=0) is None


def test_what_is_told_can_be_judged_again() -> None:
    """An execution judged from a trigger's event gets the verdict that it gets itself."""
    for status in ("completed", "errors", "failed", "strange"):
        for schema in ("completed", "failed"):
            data = {"id": "e1", "status": status, "schemas": [{"schema": "a", "status": schema}], "record_count": 5}
            ended = BulkSyncExecution.model_validate(data)
            again = from_event_payload(BULK, json.loads(json.dumps(to_event_payload("s1", ended))))
            for allow_errors in (False, True):
                assert failure_reason(again, allow_errors=allow_errors) == failure_reason(
                    ended, allow_errors=allow_errors
                )


def test_a_summary_stays_small() -> None:
    """However much an execution tells, its summary is JSON of 64 KiB at most."""
    row = {"schema": "\u4e16" * 5000, "output_name": "\u4e16" * 5000, "status": "failed", "status_message": "x" * 9999}
    big = BulkSyncExecution.model_validate({"id": "e1", "status": "failed", "schemas": [row] * 300})

    assert len(json.dumps(summarize("s1", big))) <= 64 * 1024
    errors = ModelSyncExecution.model_validate({"id": "e1", "status": "failed", "errors": ["\u4e16" * 9999] * 500})
    assert len(json.dumps(summarize("s1", errors))) <= 64 * 1024


def test_signed_urls_are_cut() -> None:
    """A signed URL in a message of the server loses its signature."""
    row = {"schema": "a", "status": "failed", "status_message": "see https://bucket.example.com/log?X-Sig=abc123 there"}
    ended = BulkSyncExecution.model_validate({"id": "e1", "status": "failed", "schemas": [row]})

    assert "abc123" not in json.dumps(summarize("s1", ended))
    assert "abc123" not in format_failure(BULK, "s1", None, ended, "it failed", [])


def test_the_oldest_that_had_not_ended_is_waited_for() -> None:
    """Without an execution's id the walk stops at the first that had ended, and takes the oldest before it."""
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    rows = [
        {"id": "e5", "status": "running"},
        {"id": "e4", "status": "completed", "completed_at": "2026-01-01T14:00:00Z", "is_test": True},
        {"id": "e3", "status": "completed", "completed_at": "2026-01-01T13:00:00Z"},
        {"id": "e2", "status": "completed", "completed_at": "2026-01-01T11:00:00Z"},
        {"id": "e1", "status": "completed", "completed_at": "2026-01-01T13:30:00Z"},
    ]
    first = Response(200, {}, json.dumps({"data": rows[:2], "pagination": {"next_page_token": "t"}}).encode())
    second = Response(200, {}, json.dumps({"data": rows[2:]}).encode())
    script = Script(first, second, Response(200, {}, json.dumps({"data": rows[2]}).encode()))

    assert script.run(wait_for_execution(BULK, "s1", None, after=moment, poke_interval=30)).id == "e3"
