"""Polling, waiting for, canceling, judging and summarizing executions, with scripted responses and a fake clock."""

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
from airflow_provider_polytomic.api.executions.event_summary import from_event_summary, to_event_summary
from airflow_provider_polytomic.api.executions.messages import format_failure, format_progress
from airflow_provider_polytomic.api.executions.outcome import failure_reason
from airflow_provider_polytomic.api.executions.start import start_or_resume
from airflow_provider_polytomic.api.executions.start_request import StartRequest
from airflow_provider_polytomic.api.executions.summary import summarize
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
    """A server with scripted responses, of which the last repeats, and a clock that only sleeping moves.

    :param takes: seconds that a request takes.
    """

    def __init__(self, *responses: SendResult, takes: float = 0.0) -> None:
        self.responses = list(responses)
        self.takes = takes
        self.now = 1_000_000.0
        self.requests: list[tuple[float, Request]] = []
        self.slept: list[float] = []
        self.reloads = 0

    def send(self, request: Request) -> SendResult:
        self.requests.append((self.now, request))
        self.now += self.takes
        if request.path.endswith("/cancel"):
            return Response(200)
        return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds

    def reload_credentials(self) -> None:
        self.reloads += 1

    def run(self, plan: Any) -> Any:
        return drive(
            plan, self.send, sleep=self.sleep, now=lambda: self.now, reload_credentials=self.reload_credentials
        )

    def wait(self, **how: Any) -> Any:
        return self.run(wait_for_execution(BULK, "s1", "e1", **{"poke_interval": 30.0, **how}))


def test_wait_polls_once_per_interval() -> None:
    """Polls are one interval apart."""
    script = Script(RUNNING, RUNNING, RUNNING, COMPLETED)

    assert script.wait(poke_interval=4).status == "completed"
    assert len(script.requests) == 4
    assert script.slept == [4, 4, 4]


def test_wait_backs_off_to_a_quarter_of_the_elapsed_time() -> None:
    """Polls start 5 s apart and back off to a quarter of the elapsed time, up to `poke_interval`."""
    script = Script(*[RUNNING] * 30, COMPLETED)

    script.wait()

    waited = [at - script.requests[0][0] for at, _ in script.requests]
    for since, slept in zip(waited, script.slept, strict=False):
        assert slept == min(max(since / 4, 5), 30)
    assert script.slept[0] == 5
    assert script.slept[-1] == 30


def test_wait_continues_the_backoff_of_an_earlier_process() -> None:
    """With `waiting_since`, the interval is that of a wait that began earlier."""
    script = Script(RUNNING, RUNNING, COMPLETED)

    script.wait(waiting_since=script.now - 3600)

    assert script.slept == [30, 30]


def test_wait_delays_the_first_poll_by_first_sleep_and_jitter() -> None:
    """With `first_sleep`, the first poll is delayed by that time and up to one interval more."""
    script = Script(COMPLETED)

    script.wait(first_sleep=5)
    script.wait(first_sleep=5, waiting_since=0)

    assert 5 <= script.slept[0] <= 10
    assert 5 <= script.slept[1] <= 35


@pytest.mark.parametrize("status", ["created", "scheduled", "running", "exporting", "processing", "canceling", "new"])
def test_execution_with_completed_at_has_ended_under_any_status(status: str) -> None:
    """An execution with `completed_at` has ended, and succeeded only under the status `completed`."""
    script = Script(execution(status, completed_at="2026-01-01T00:00:00Z"))

    ended = script.wait()

    assert ended.is_terminal
    assert not ended.succeeded
    assert failure_reason(ended) is not None


def test_wait_continues_during_an_unknown_status(caplog: pytest.LogCaptureFixture) -> None:
    """An unknown status is not terminal. It is logged as a warning once."""
    script = Script(execution("warming"), execution("warming", record_count=3), RUNNING, COMPLETED)

    with caplog.at_level(logging.WARNING):
        script.wait()

    assert len([record for record in caplog.records if "warming" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    "failure",
    [failed(500), failed(503), failed(408), failed(429), HTML, Response(200, {}, b""), TransportFailure("lost")],
)
def test_wait_tolerates_transient_failures(failure: SendResult) -> None:
    """Lost connections, 408, 429, 5xx and responses that are not from the API do not end a wait."""
    script = Script(RUNNING, *[failure] * 8, RUNNING, COMPLETED)

    assert script.wait().status == "completed"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 418, 422, 451, 500, 503])
@pytest.mark.parametrize(
    "body", [b"<html><title>Access denied</title></html>", b"RBAC: access denied", b"", b"[]", b"{"]
)
def test_wait_tolerates_responses_that_are_not_from_the_api(status: int, body: bytes) -> None:
    """Only a JSON error of the API is final. A response of a proxy is transient under any status, even if repeated."""
    script = Script(RUNNING, *[Response(status, {}, body)] * 9, RUNNING, COMPLETED)

    assert script.wait().status == "completed"
    assert script.reloads == 0


def test_wait_honors_retry_after_of_a_gateway() -> None:
    """`Retry-After` counts also in the response of a gateway."""
    script = Script(Response(503, {"retry-after": "77"}, b"<html></html>"), COMPLETED)

    script.wait()

    assert script.slept == [77]


@pytest.mark.parametrize("kind", ["bulk", "model"])
@pytest.mark.parametrize(
    "data", [{"id": "e0", "status": "completed"}, {"id": "e1", "sync_id": "s0", "status": "completed"}]
)
def test_response_about_another_execution_counts_as_an_outage(kind: str, data: dict[str, Any]) -> None:
    """A stale cache that returns another execution, or one of another sync, does not end the wait."""
    another = Response(200, {}, json.dumps({"data": data}).encode())
    own = Response(200, {}, json.dumps({"data": {"id": "E1", "sync_id": "S1", "status": "completed"}}).encode())
    script = Script(another, another, another, another, own)

    assert script.run(wait_for_execution(SYNC_KINDS[kind], "s1", "e1", poke_interval=30)).id == "E1"
    assert len(script.requests) == 5
    with pytest.raises(PolytomicResponseError, match=r"about .*(execution e0|sync s0), not .*no valid response for 6"):
        Script(another).run(wait_for_execution(SYNC_KINDS[kind], "s1", "e1", poke_interval=30))


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (failed(503), PolytomicServerError),
        (HTML, PolytomicResponseError),
        (TransportFailure("refused"), PolytomicUnreachableError),
    ],
)
def test_wait_fails_after_ten_minutes_of_outage(failure: SendResult, error: type[Exception]) -> None:
    """Ten minutes without a valid response end a wait with the last error and the duration."""
    script = Script(RUNNING, failure)

    with pytest.raises(error, match="no valid response for 6"):
        script.wait()
    assert 600 <= script.now - script.requests[0][0] <= 700


@pytest.mark.parametrize(
    ("failure", "error", "requests"),
    [
        (failed(503), PolytomicServerError, 6),
        (HTML, PolytomicResponseError, 6),
        (Response(200, {}, b"<html>"), PolytomicResponseError, 1),
        (failed(401), PolytomicAuthError, 1),
    ],
)
def test_start_tolerates_only_short_outages(failure: SendResult, error: type[Exception], requests: int) -> None:
    """Before the start, a request is repeated five times within 15 seconds; a refused key ends the try."""
    script = Script(failure)

    with pytest.raises(error):
        script.run(start_or_resume(StartRequest("bulk", "s1", ("task",))))
    assert len(script.requests) == requests
    assert sum(script.slept) <= 15.5
    assert script.reloads == 0


def test_valid_response_resets_the_outage_budget() -> None:
    """Two outages of nine minutes with a valid response in between are tolerated."""
    script = Script(RUNNING)

    def responses() -> Any:
        begin = script.now
        while script.now < begin + 540:
            yield failed(503)
        yield RUNNING
        begin = script.now
        while script.now < begin + 540:
            yield failed(503)
        yield COMPLETED

    flow = responses()
    script.send = lambda request: next(flow)  # type: ignore[method-assign]

    assert script.wait().status == "completed"


def test_wait_honors_retry_after() -> None:
    """The next poll is due exactly after the requested delay."""
    script = Script(failed(429, {"retry-after": "77"}), COMPLETED)

    script.wait()

    assert script.slept == [77]


def test_retry_after_does_not_extend_the_deadline() -> None:
    """A `Retry-After` beyond the deadline is cut at the deadline."""
    script = Script(failed(503, {"retry-after": "100000"}))

    with pytest.raises(PolytomicTimeoutError):
        script.wait(deadline=script.now + 100)
    assert script.now == 1_000_000 + 100


@pytest.mark.parametrize(("retry_after", "slept"), [("31536000", 120), ("100000000000", 120), ("0.001", 0.5)])
def test_retry_after_is_bounded(retry_after: str, slept: float) -> None:
    """A `Retry-After` counts as two minutes at most, and half a second at least."""
    script = Script(failed(429, {"retry-after": retry_after}), COMPLETED)

    script.wait()

    assert script.slept == [slept]


@pytest.mark.parametrize("seen", [False, True])
def test_wait_tolerates_404_in_the_first_minute(seen: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A 404 in the first minute is a lagging replica, also after a valid response. It is logged once."""
    script = Script(*[RUNNING] * seen, *[failed(404)] * 4, RUNNING, *[failed(404)] * 2, COMPLETED)

    with caplog.at_level(logging.INFO):
        assert script.wait().status == "completed"
    assert script.now <= 1_000_000 + 90
    messages = [record.getMessage() for record in caplog.records if "was not found" in record.getMessage()]
    assert messages == [
        "Execution e1 of bulk sync s1 was not found. "
        f"It may be new: waiting up to {55 if seen else 60} s for it to appear."
    ]


@pytest.mark.parametrize("seen", [False, True])
def test_wait_fails_when_404_lasts_longer_than_a_minute(seen: bool) -> None:
    """After one minute a 404 is final."""
    script = Script(*[RUNNING] * seen, failed(404))

    with pytest.raises(PolytomicNotFoundError):
        script.wait()
    assert 60 <= script.now - 1_000_000 <= 90


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_clock_jump_does_not_extend_the_tolerance_of_404(jump: float) -> None:
    """A clock that is set back or forward does not extend the minute."""
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


def test_wait_fails_at_once_on_404_when_it_began_a_minute_ago() -> None:
    """With `waiting_since`, a wait that another process began gets no further minute."""
    script = Script(failed(404))

    with pytest.raises(PolytomicNotFoundError):
        script.wait(waiting_since=script.now - 61)
    assert script.slept == []


def test_wait_reloads_credentials_once_after_a_401() -> None:
    """After a 401 the credentials are reloaded and the poll is repeated at once. A second refusal ends the wait."""
    script = Script(RUNNING, failed(401), RUNNING, failed(403), COMPLETED)
    assert script.wait().status == "completed"
    assert script.reloads == 2

    script = Script(RUNNING, failed(401))
    with pytest.raises(PolytomicAuthError):
        script.wait()
    assert script.reloads == 1


def test_wait_fails_on_a_redirect() -> None:
    """A redirect is final. The error names its target without secrets."""
    script = Script(Response(302, {"location": "https://elsewhere.example.com/login?next=secret"}))

    with pytest.raises(PolytomicResponseError, match=r"elsewhere\.example\.com/login\?\*\*\*"):
        script.wait()


def test_wait_cancels_at_the_deadline_when_requested() -> None:
    """With `cancel_at_deadline`, the execution is canceled once, then the timeout is raised."""
    script = Script(RUNNING)

    with pytest.raises(PolytomicTimeoutError, match="the cancel request was accepted"):
        script.wait(deadline=script.now + 100, cancel_at_deadline=True)

    assert [request.path for _, request in script.requests][-1] == "/api/bulk/syncs/s1/executions/e1/cancel"
    assert script.now == 1_000_000 + 100


def test_deadline_soon_after_the_deferral_is_postponed_until_the_first_poll() -> None:
    """A trigger must not fire before the executor has noticed the deferral, so the deadline does not shorten the first
    sleep."""
    script = Script(RUNNING)

    with pytest.raises(PolytomicTimeoutError):
        script.wait(deadline=script.now + 2, first_sleep=5, waiting_since=script.now - 1, cancel_at_deadline=True)
    assert script.slept == [4]
    assert [request.method for _, request in script.requests] == ["GET", "POST"]


def test_wait_polls_once_after_a_passed_deadline() -> None:
    """A wait that another process began, and that continues after its deadline, polls once and times out."""
    script = Script(RUNNING)

    with pytest.raises(PolytomicTimeoutError):
        script.wait(deadline=script.now - 3600, first_sleep=30, waiting_since=script.now - 7200)
    assert len(script.requests) == 1
    assert sum(script.slept) == 0


def test_wait_returns_an_execution_that_ended_at_the_deadline() -> None:
    """An end that the last poll finds counts."""
    script = Script(RUNNING, COMPLETED)

    assert script.wait(deadline=script.now + 10).status == "completed"


def test_poll_timeout_is_bounded_by_the_deadline() -> None:
    """A poll gets no more time than is left until the deadline."""
    script = Script(RUNNING)

    with pytest.raises(PolytomicTimeoutError):
        script.wait(deadline=script.now + 45, poke_interval=20)
    assert all(request.timeout <= 45 for _, request in script.requests)


def test_cancel_gives_up_after_its_timeout() -> None:
    """A cancel without a response is repeated for ten seconds."""
    script = Script(TransportFailure("lost"), takes=1.0)
    script.send = lambda request: (
        script.requests.append((script.now, request)),
        script.sleep(1),
        TransportFailure("x"),
    )[2]  # type: ignore[method-assign]

    refusal = script.run(cancel_execution(BULK, "s1", "e1", 10))

    assert "no response" in refusal
    assert script.now - 1_000_000 <= 11


def test_progress_says_what_is_completed_and_that_counts_are_not_final() -> None:
    """The counts of an execution that has not ended are those so far."""
    schemas = [{"schema": "a", "status": "completed"}, {"schema": "b", "status": "running"}]
    running = {"id": "e1", "status": "exporting", "record_count": 285, "schemas": schemas}

    assert format_progress(BulkSyncExecution(**running)) == "exporting, 1 of 2 schemas completed, 285 records so far"
    assert format_progress(BulkSyncExecution(**running | {"status": "failed"})) == (
        "failed, 1 of 2 schemas completed, 285 records"
    )
    assert format_progress(ModelSyncExecution(id="e2", status="running")) == "running"


# --- waiting for the next execution


def listed(token: str) -> Response:
    rows = [{"id": "e1", "status": "running"}]
    return Response(200, {}, json.dumps({"data": rows, "pagination": {"next_page_token": token}}).encode())


def test_endless_list_of_executions_counts_as_an_outage() -> None:
    """A repeated page token is detected on the second page, and ends the wait after ten minutes."""
    script = Script(listed("same"))

    with pytest.raises(PolytomicResponseError, match=r"repeated a page token.*no valid response for 6"):
        script.run(wait_for_execution(BULK, "s1", None, poke_interval=30))
    assert len(script.requests) < 200


def test_poll_requests_no_page_after_the_deadline() -> None:
    """A long list of executions is not read beyond the deadline."""
    script = Script(*[listed(str(number)) for number in range(100)], takes=1)

    with pytest.raises(PolytomicTimeoutError, match="had not ended at the deadline"):
        script.run(wait_for_execution(BULK, "s1", None, poke_interval=30, deadline=script.now + 60))
    assert len(script.requests) == 60


# --- finding syncs by name


def page(*names: str, token: str | None = None) -> Response:
    data = [{"id": f"id-{index}-{name}", "name": name} for index, name in enumerate(names)]
    return Response(200, {}, json.dumps({"data": data, "pagination": {"next_page_token": token}}).encode())


def test_find_sync_reads_all_pages() -> None:
    """A name on the last page is found. A name on two pages is refused."""
    assert Script(page("a", "b", token="t1"), page("c")).run(find_sync(BULK, "c")).id == "id-0-c"

    with pytest.raises(PolytomicLookupError, match="id-0-a, id-1-a"):
        Script(*[page("a", token="t1"), page("b", "a")] * 2).run(find_sync(BULK, "a"))


def test_find_sync_suggests_the_nearest_names() -> None:
    """The error for an unknown name lists the nearest ones, or says that there are no syncs."""
    with pytest.raises(PolytomicLookupError, match="'Salesforce'"):
        Script(page("Salesforce", "Orders")).run(find_sync(BULK, "Salesfroce"))
    with pytest.raises(PolytomicLookupError, match=r"the nearest names are 'Salesforce to the data warehouse'$"):
        Script(page("Salesforce to the data warehouse", "Orders")).run(find_sync(BULK, "Salesforce"))
    with pytest.raises(PolytomicLookupError, match=r"none of the 2 names to which the API key has access is similar$"):
        Script(page("A5 one", "Salesforce")).run(find_sync(BULK, "US orders"))
    with pytest.raises(PolytomicLookupError, match="access to no model sync"):
        Script(page()).run(find_sync(MODEL, "x"))


# --- outcomes and summaries


@pytest.mark.parametrize(
    ("data", "allow_errors", "success"),
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
def test_failure_reason_judges_status_and_schemas(data: dict[str, Any], allow_errors: bool, success: bool) -> None:
    """Only `completed` is a success; with `allow_errors`, partial failures are, too."""
    ended = BulkSyncExecution.model_validate({"id": "e1", **data})

    assert (failure_reason(ended, allow_errors=allow_errors) is None) is success
    if not allow_errors:
        assert ended.succeeded is success


@pytest.mark.parametrize(("error", "success"), [(None, True), (0, True), (1, False)])
def test_model_sync_with_records_in_error_is_a_failure(error: int | None, success: bool) -> None:
    """A model sync that completed with failed records is a partial failure."""
    ended = ModelSyncExecution.model_validate({"id": "e1", "status": "completed", "counts": {"error": error}})

    assert (failure_reason(ended) is None) is success
    assert failure_reason(ended, allow_errors=True) is None


def test_failure_reason_judges_min_records() -> None:
    """Fewer than `min_records` are a failure, but not for a test run or without a count."""
    few = {"id": "e1", "status": "completed", "record_count": 2}

    assert failure_reason(BulkSyncExecution.model_validate(few), min_records=3)
    assert failure_reason(BulkSyncExecution.model_validate({**few, "is_test": True}), min_records=3) is None
    assert failure_reason(BulkSyncExecution.model_validate({**few, "record_count": None}), min_records=3) is None
    assert failure_reason(BulkSyncExecution.model_validate({**few, "record_count": 0}), min_records=0) is None


def test_event_payload_preserves_the_outcome() -> None:
    """The outcome judged from an event payload is that of the execution."""
    for status in ("completed", "errors", "failed", "strange"):
        for schema in ("completed", "failed"):
            data = {"id": "e1", "status": status, "schemas": [{"schema": "a", "status": schema}], "record_count": 5}
            ended = BulkSyncExecution.model_validate(data)
            again = from_event_summary(BULK, json.loads(json.dumps(to_event_summary("s1", ended))))
            for allow_errors in (False, True):
                assert failure_reason(again, allow_errors=allow_errors) == failure_reason(
                    ended, allow_errors=allow_errors
                )


def test_summary_is_at_most_64_kib() -> None:
    """The summary of any execution has at most 64 KiB of JSON."""
    row = {"schema": "\u4e16" * 5000, "output_name": "\u4e16" * 5000, "status": "failed", "status_message": "x" * 9999}
    big = BulkSyncExecution.model_validate({"id": "e1", "status": "failed", "schemas": [row] * 300})

    assert len(json.dumps(summarize("s1", big))) <= 64 * 1024
    errors = ModelSyncExecution.model_validate({"id": "e1", "status": "failed", "errors": ["\u4e16" * 9999] * 500})
    assert len(json.dumps(summarize("s1", errors))) <= 64 * 1024


def test_summary_and_failure_contain_no_signed_url() -> None:
    """A signed URL in a message of the server loses its signature."""
    row = {"schema": "a", "status": "failed", "status_message": "see https://bucket.example.com/log?X-Sig=abc123 there"}
    ended = BulkSyncExecution.model_validate({"id": "e1", "status": "failed", "schemas": [row]})

    assert "abc123" not in json.dumps(summarize("s1", ended))
    assert "abc123" not in format_failure(BULK, "s1", None, ended, "it failed", [])


def test_wait_takes_the_oldest_execution_that_had_not_ended() -> None:
    """Without an id, the wait takes the oldest execution that had not ended at `after`, test runs excluded."""
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
