"""Whatever DAG authors, templates, triggers and servers say: a result, a documented error, or more waiting."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_polytomic._airflow.compat import AirflowFailException, AirflowSensorTimeout, AirflowSkipException
from airflow_provider_polytomic.api.client import drive
from airflow_provider_polytomic.api.errors import PolytomicError
from airflow_provider_polytomic.api.events.poll import ENDS, EventFilter, Position, advance, poll_events
from airflow_provider_polytomic.api.executions.console_log import ConsoleLogFollower, fetch_tail
from airflow_provider_polytomic.api.executions.outcome import failure_reason
from airflow_provider_polytomic.api.executions.start import start_or_resume
from airflow_provider_polytomic.api.executions.start_request import StartRequest
from airflow_provider_polytomic.api.executions.summary import summarize
from airflow_provider_polytomic.api.executions.wait import wait_for_execution
from airflow_provider_polytomic.api.kinds import SYNC_KINDS
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure
from airflow_provider_polytomic.api.syncs.lookup import find_sync
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE, WAREHOUSE
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sandbox.server import Server
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor

from .conftest import Task, make_context

MANY = int(os.environ.get("POLYTOMIC_FUZZ", "300"))
DOCUMENTED = (PolytomicError, AirflowFailException, AirflowSkipException, AirflowSensorTimeout)
KEY = "s3cr3t-key-of-the-fuzz"

fuzz = settings(
    max_examples=MANY,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

# --- answers of a server

STATUSES = ["completed", "failed", "running", "canceled", "errors", "interrupted", "new", "", None, 7]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
field_values = st.sampled_from(STATUSES) | json_values
executions = st.fixed_dictionaries(
    {"id": st.sampled_from(["e1", "e2", "a/b", "..", "x\ny", ""]) | json_values, "status": st.sampled_from(STATUSES)},
    optional={
        "schemas": st.lists(
            st.fixed_dictionaries({"schema": field_values, "status": st.sampled_from(STATUSES)}), max_size=2
        )
        | json_values,
        "completed_at": st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "", "soon"]) | json_values,
        "created_at": json_values,
        "record_count": json_values,
        "error_count": json_values,
        "status_message": json_values,
        "is_test": json_values,
        "counts": json_values,
        "errors": json_values,
        "surprise": json_values,
    },
)
documents = st.one_of(
    st.fixed_dictionaries({"data": executions}),
    st.fixed_dictionaries(
        {"data": st.lists(executions, max_size=3)},
        optional={"pagination": st.fixed_dictionaries({"next_page_token": st.sampled_from(["t", "u", "", None, 3])})},
    ),
    st.fixed_dictionaries({"status": json_values, "message": json_values, "key": json_values}),
    st.fixed_dictionaries({"data": json_values}),
    json_values,
)
bodies = st.one_of(
    documents.map(lambda value: json.dumps(value).encode()),
    documents.map(lambda value: json.dumps(value).encode()[:-3]),
    st.binary(max_size=60),
    st.sampled_from([b"", b"<html><title>x</title></html>", b"[" * 5000, b'{"data":' * 3000, f"no: {KEY}".encode()]),
)
headers = st.dictionaries(
    st.sampled_from(["retry-after", "x-ratelimit-reset", "location", "x-request-id", "content-type"]),
    st.sampled_from(["0", "5", "-1", "1e9", "nan", "inf", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "https://x/?a=b"])
    | st.text(max_size=10),
    max_size=2,
)
codes = st.sampled_from([200, 200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503])
answers = st.one_of(
    st.builds(Response, codes | st.integers(100, 599), headers, bodies),
    st.builds(TransportFailure, st.text(max_size=10), st.booleans()),
)


class Enough(Exception):  # noqa: N818  not an error: the plan would have waited on
    pass


class Server_:  # noqa: N801  plays one
    """Answers from a list, and stops the plan when that is used up."""

    def __init__(self, answers: list[SendResult]) -> None:
        self._answers = answers
        self.now = 1_000_000.0
        self.last: SendResult | None = None

    def send(self, request: Request) -> SendResult:
        assert "/../" not in request.path
        assert not request.path.endswith("/..")
        if not self._answers:
            raise Enough
        self.last = self._answers.pop(0)
        return self.last

    def sleep(self, seconds: float) -> None:
        assert 0 <= seconds < 1e12
        self.now += seconds

    def run(self, plan: Any) -> Any:
        return drive(plan, self.send, sleep=self.sleep, now=lambda: self.now)


@fuzz
@given(st.sampled_from(["bulk", "model"]), st.lists(answers, min_size=1, max_size=8), st.booleans())
def test_waiting_bears_any_answer(kind: str, script: list[SendResult], allow_errors: bool) -> None:
    """A wait ends with an execution that the server called ended, with a documented error, or goes on."""
    server = Server_(list(script))
    try:
        ended = server.run(wait_for_execution(SYNC_KINDS[kind], "s1", "e1", poke_interval=5, deadline=1_001_000.0))
    except (Enough, PolytomicError):
        return

    assert isinstance(server.last, Response)
    told = json.loads(server.last.body)["data"]
    if failure_reason(ended, allow_errors=allow_errors) is None:
        assert told["status"] == "completed" or (allow_errors and told["status"] == "errors")
    assert len(json.dumps(summarize("s1", ended))) <= 64 * 1024


times = st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "", "soon", 0])
events = st.fixed_dictionaries(
    {"id": st.sampled_from(["v1", "v2"]) | json_values, "created_at": times | json_values},
    optional={
        "type": st.sampled_from(["bulk_sync.completed", "sync.failed", "new"]) | json_values,
        "event": st.fixed_dictionaries({"execution_id": field_values}, optional={"error": json_values}) | json_values,
    },
)
event_pages = st.builds(
    lambda rows: Response(200, {}, json.dumps({"data": rows}).encode()), st.lists(events, max_size=3)
)


@fuzz
@given(st.lists(event_pages | answers, min_size=1, max_size=8), st.none() | st.floats(0, 2e9))
def test_looking_at_events_bears_any_answer(script: list[SendResult], since: float | None) -> None:
    """A look shows what can be told as JSON, and where to go on, or ends with a documented error."""
    server = Server_(list(script))
    try:
        window = server.run(poll_events(since))
    except (Enough, PolytomicError):
        return

    new, position = advance(Position(-1e12, 0), window, EventFilter(events=ENDS))
    assert Position.from_json(json.loads(json.dumps(position.to_json(), allow_nan=False))) == position
    assert json.dumps([dict(ended.data) for ended in new])
    assert window.floor < server.now


@fuzz
@given(st.sampled_from(["bulk", "model"]), st.sampled_from([1, 2, 3]), st.lists(answers, min_size=1, max_size=12))
def test_starting_bears_any_answer(kind: str, try_number: int, script: list[SendResult]) -> None:
    """A start ends with a decision, with a documented error, or asks on."""
    server = Server_(list(script))
    try:
        decision = server.run(start_or_resume(StartRequest(kind, "s1", ("t",), try_number)))
    except (Enough, PolytomicError, ValueError) as error:
        # An id that would change which resource is meant is refused by name.
        assert not isinstance(error, ValueError) or "execution_id must" in str(error)
        return

    assert decision.execution.id


@fuzz
@given(st.lists(answers, min_size=1, max_size=6))
def test_finding_and_reading_logs_bear_any_answer(script: list[SendResult]) -> None:
    """Looking up a name ends with a sync or a documented error; reading a log ends with lines, whatever comes."""
    try:
        assert Server_(list(script)).run(find_sync(SYNC_KINDS["bulk"], "name")).name == "name"
    except (Enough, PolytomicError):
        pass
    try:
        lines = Server_(list(script)).run(fetch_tail(SYNC_KINDS["bulk"], "s1", "e1"))
        Server_(list(script)).run(ConsoleLogFollower(SYNC_KINDS["bulk"], "s1", "e1").follow_to_end())
    except Enough:
        return
    assert all(isinstance(line, str) and len(line) < 1000 for line in lines)


# --- events and arguments, against a real server


@pytest.fixture(scope="module")
def sandbox() -> Any:
    sandbox = Sandbox(speed=20_000)
    sandbox.rotate_key(KEY)
    server = Server(sandbox)
    connection = {"conn_type": "polytomic", "host": server.url, "password": KEY}
    before = os.environ.get("AIRFLOW_CONN_POLYTOMIC_DEFAULT")
    os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"] = json.dumps(connection)
    yield sandbox
    server.close()
    if before is None:
        del os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"]
    else:
        os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"] = before


events = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {"outcome": st.sampled_from(["ended", "timeout", "error", "", None, 3])},
        optional={
            "sync_id": st.sampled_from([SYNC, "..", "", None]) | json_values,
            "execution_id": st.sampled_from(["e1", "..", "", None]) | json_values,
            "status": st.sampled_from(STATUSES) | json_values,
            "schemas": json_values,
            "schemas_omitted": json_values,
            "notes": json_values | st.dictionaries(st.sampled_from(["blocking", "adopted", "resumed"]), st.booleans()),
            "error": st.sampled_from(["PolytomicServerError", "PolytomicNotFoundError", "Boom"]) | json_values,
            "message": json_values,
            "still_running": json_values,
            "completed_at": json_values,
        },
    ),
)


@fuzz
@given(events, st.booleans())
@example({"outcome": "ended", "sync_id": SYNC, "execution_id": "e1", "status": "completed", "notes": 7}, True)
@example({"outcome": "ended", "sync_id": "..", "execution_id": "e1"}, False)
@example({"outcome": "ended", "sync_id": SYNC, "execution_id": "a\nb", "status": "failed"}, True)
def test_no_event_is_green_by_accident(sandbox: Any, event: Any, is_sensor: bool) -> None:
    """Resuming with any event returns an id only if the event says that this execution completed."""
    arguments: dict[str, Any] = {"task_id": "t", "sync_id": SYNC, "poke_interval": 0.01}
    operator = (PolytomicBulkSyncSensor if is_sensor else PolytomicBulkSyncOperator)(**arguments)
    try:
        returned = operator.execute_complete(make_context(), event=event)
    except DOCUMENTED as error:
        assert KEY not in str(error)
        return

    if not event.get("notes") or not dict(event["notes"]).get("blocking"):
        assert (event["outcome"], event["status"]) == ("ended", "completed")
        assert returned == event["execution_id"]


rendered = st.one_of(
    st.none(),
    st.text(max_size=30),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.lists(st.text(max_size=8) | st.integers(), max_size=3),
    st.sampled_from([SYNC, "..", "a/b", "x\ny", "None", "", "true", "[1,", "['account']", "account,contact", "{}"]),
)


@fuzz
@given(
    st.dictionaries(st.sampled_from(PolytomicBulkSyncOperator.template_fields), rendered, max_size=4),
    st.booleans(),
)
def test_any_rendered_argument_of_the_operator(sandbox: Any, fields: dict[str, Any], deferrable: bool) -> None:
    """Any rendered arguments of the operator give a result or a documented error, and show no key."""
    _check(sandbox, PolytomicBulkSyncOperator, fields, deferrable)


@fuzz
@given(
    st.dictionaries(st.sampled_from(PolytomicBulkSyncSensor.template_fields), rendered, max_size=4),
    st.booleans(),
)
def test_any_rendered_argument_of_the_sensor(sandbox: Any, fields: dict[str, Any], deferrable: bool) -> None:
    """Any rendered arguments of the sensor give a result or a documented error, and show no key."""
    _check(sandbox, PolytomicBulkSyncSensor, fields, deferrable, timeout=0.05)


dicts = st.dictionaries(st.sampled_from(["frequency", "schema", "id", "x"]), json_values, max_size=3)
rendered_or_made = st.one_of(rendered, dicts, dicts.map(json.dumps), st.lists(dicts, max_size=2), json_values)


@fuzz
@given(st.dictionaries(st.sampled_from(PolytomicCreateBulkSyncOperator.template_fields), rendered_or_made, max_size=5))
def test_any_rendered_argument_of_the_operator_that_creates(sandbox: Any, fields: dict[str, Any]) -> None:
    """Any rendered arguments of it give the id of a sync or a documented error, and show no key."""
    operator = PolytomicCreateBulkSyncOperator(
        task_id="t",
        name="New",
        mode="append",
        default_schedule={"frequency": "manual"},
        destination_configuration={},
        source_connection_id=SALESFORCE,
        destination_connection_id=WAREHOUSE,
    )
    for name, value in fields.items():
        setattr(operator, name, value)

    with _documented(fields) as ended:
        ended.append(Task(lambda: operator).run(make_context(run_id=uuid.uuid4().hex)))
    for returned in ended:
        # Deleted, so that its name is free for the next one.
        PolytomicHook().delete_bulk_sync(returned)


@contextmanager
def _documented(fields: dict[str, Any]) -> Iterator[list[Any]]:
    """Whatever a task raises here is documented, and shows no key. What it returns is for who asks."""
    from airflow.exceptions import AirflowNotFoundException

    try:
        yield []
    except DOCUMENTED as error:
        assert KEY not in str(error)
    except AirflowNotFoundException as error:
        assert "polytomic_conn_id" in fields
        assert KEY not in str(error)


def _check(sandbox: Any, kind: Any, fields: dict[str, Any], deferrable: bool, **more: Any) -> None:
    def make() -> Any:
        operator = kind(task_id="t", sync_id="{{ later }}", poke_interval=0.01, deferrable=deferrable, **more)
        operator.sync_id = SYNC
        for name, value in fields.items():
            setattr(operator, name, value)
        return operator

    with _documented(fields) as ended:
        ended.append(Task(make).run())
    for returned in ended:
        assert sandbox.status(returned) == "completed"
