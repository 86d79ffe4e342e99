"""Reports on a finished execution (XComs, asset events, lineage, log): when one fails, the task's result stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_polytomic import assets, lineage
from airflow_provider_polytomic._airflow import reporting as reporting_module
from airflow_provider_polytomic._airflow import task_context
from airflow_provider_polytomic._airflow.compat import AirflowFailException, AirflowTaskTimeout
from airflow_provider_polytomic._airflow.reporting import Reporting
from airflow_provider_polytomic._airflow.task_context import compute_deadline
from airflow_provider_polytomic.api.call import fetch
from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.api.executions import console_log, messages, summary, tables
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor

from .conftest import Task, make_context
from .test_assets import OutletEventAccessors, emitted

BULK, MODEL = "b0000000-0000-4000-8000-0000000000f1", "b0000000-0000-4000-8000-0000000000f2"
SYNC_OF = {
    PolytomicBulkSyncOperator: BULK,
    PolytomicBulkSyncSensor: BULK,
    PolytomicModelSyncOperator: MODEL,
    PolytomicModelSyncSensor: MODEL,
}
TASK_CLASSES = pytest.mark.parametrize("make", SYNC_OF, ids=lambda task_class: task_class.__name__)
OPERATORS = pytest.mark.parametrize("make", list(SYNC_OF)[::2], ids=lambda task_class: task_class.__name__)


@pytest.fixture
def outcome() -> str:
    return "completed"


@pytest.fixture
def polytomic_sandbox_seed(outcome: str) -> dict[str, Any]:
    bulk = {"name": "Bulk", "id": BULK, "schemas": ["account", "contact"], "status_message": "disk full"}
    model = {"name": "Model", "id": MODEL, "target_object": "t", "errors": ["disk full"] if outcome == "failed" else []}
    return {"bulk_syncs": [{**bulk, "outcome": outcome}], "model_syncs": [{**model, "outcome": outcome}]}


def run(sandbox: Any, make: Any, deferrable: bool, context: dict[str, Any] | None = None, **more: Any) -> Any:
    """Run a task of this class to its end. A sensor waits for an execution that the task did not start."""
    arguments = {"task_id": "sync", "sync_id": SYNC_OF[make], "poke_interval": 0.02, "deferrable": deferrable, **more}
    if "Sensor" in make.__name__:
        arguments["execution_id"] = sandbox.start_foreign(SYNC_OF[make]).id
    else:
        arguments.setdefault("log_console", True)
    context = make_context() if context is None else context
    return Task(lambda: make(**arguments)).run(context | {"outlet_events": OutletEventAccessors()})


def raise_instead(error: BaseException) -> Callable[..., Any]:
    def step(*_: Any, **__: Any) -> Any:
        raise error

    return step


class FailingSteps:
    """Makes one step of the reporting raise an error, and counts the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.calls = 0

    def fail(self, name: str, error: BaseException) -> None:
        owner, attribute = {
            "summary": (summary, "summarize"),
            "pushing the summary": (reporting_module, "push_summary"),
            "console log": (console_log.ConsoleLogFollower, "follow_to_end"),
            "sync name": (reporting_module, "sync_display_name"),
            "end of the console log": (console_log, "fetch_tail"),
            "message": (messages, "format_failure"),
            "tables": (tables, "written_tables"),
            "lineage": (lineage, "LineageRecord"),
            "alias": (assets, "make_alias"),
            "asset event": (assets, "add_asset_event"),
            "extra of an asset event": (assets, "event_extra"),
        }[name]

        def step(*_: Any, **__: Any) -> Any:
            self.calls += 1
            raise error

        self._monkeypatch.setattr(owner, attribute, step)


ON_SUCCESS = ["console log", "tables", "lineage", "alias", "asset event", "extra of an asset event"]
ON_FAILURE = ["console log", "sync name", "end of the console log", "message", "lineage"]
ERRORS = [RuntimeError("boom"), ValueError("boom"), KeyError("boom"), AirflowTaskTimeout("boom")]
ANY_ERROR = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@OPERATORS
@ANY_ERROR
@pytest.mark.parametrize("step", ON_SUCCESS)
def test_operator_succeeds_when_a_report_fails(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, make: Any, deferrable: bool, step: str, error: Exception
) -> None:
    """Any step after a successful execution may raise any error: the task returns the execution's id."""
    steps = FailingSteps(monkeypatch)
    steps.fail(step, error)

    returned = run(polytomic_sandbox, make, deferrable)

    assert returned == polytomic_sandbox.starts(SYNC_OF[make])[0].id
    assert steps.calls


@TASK_CLASSES
@ANY_ERROR
@pytest.mark.parametrize("step", ON_FAILURE)
@pytest.mark.parametrize("outcome", ["failed"])
def test_task_failure_keeps_its_reason_when_a_report_fails(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, make: Any, deferrable: bool, step: str, error: Exception
) -> None:
    """Any step after a failed execution may raise any error: the message keeps the execution, status and reason."""
    steps = FailingSteps(monkeypatch)
    steps.fail(step, error)
    expected = AirflowFailException if "Sensor" in make.__name__ else PolytomicSyncError

    with pytest.raises(expected) as caught:
        run(polytomic_sandbox, make, deferrable)

    execution = polytomic_sandbox.starts(SYNC_OF[make])[0]
    assert execution.id in str(caught.value)
    assert "finished with status 'failed'" in str(caught.value)
    if step != "message":
        assert "disk full" in str(caught.value)
    assert steps.calls or "Sensor" in make.__name__


@TASK_CLASSES
@pytest.mark.parametrize("outcome", ["completed", "failed"])
@pytest.mark.parametrize("key", ["execution", "_link_PolytomicExecutionLink"])
def test_task_result_stands_when_an_xcom_cannot_be_pushed(
    polytomic_sandbox: Any, make: Any, deferrable: bool, outcome: str, key: str
) -> None:
    """XComs are pushed at the start and at the end. A push that Airflow rejects does not change the task's result."""
    context = make_context()
    push = context["ti"].xcom_push

    def reject_one(key_: str, value: Any) -> None:
        if key_ == key:
            raise RuntimeError("XCom rejected")
        push(key_, value)

    context["ti"].xcom_push = lambda key, value: reject_one(key, value)

    if outcome == "completed":
        assert run(polytomic_sandbox, make, deferrable, context) == polytomic_sandbox.starts(SYNC_OF[make])[0].id
    else:
        with pytest.raises((PolytomicSyncError, AirflowFailException), match="disk full"):
            run(polytomic_sandbox, make, deferrable, context)
    assert len(polytomic_sandbox.starts(SYNC_OF[make])) == 1


class SecretsDownOnResume(Task):
    """A task that resumes from its deferral while the secrets backend is down."""

    def __init__(self, make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(make)
        self._monkeypatch = monkeypatch

    def _resume(self, deferral: Any, context: dict[str, Any], event: Any) -> Callable[[], Any]:
        down = raise_instead(RuntimeError("the secrets backend is down"))
        self._monkeypatch.setattr(PolytomicHook, "get_connection", down)
        return super()._resume(deferral, context, event)


@TASK_CLASSES
@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_task_result_stands_when_the_connection_cannot_be_read_on_resume(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, make: Any, outcome: str
) -> None:
    """The event holds the outcome, so the resumed task does not need the connection to report it."""
    arguments = {"task_id": "sync", "sync_id": SYNC_OF[make], "poke_interval": 0.02, "deferrable": True}
    arguments["map_index_template"] = "{{ sync_name }}"
    if "Sensor" in make.__name__:
        arguments["execution_id"] = polytomic_sandbox.start_foreign(SYNC_OF[make]).id
    context = make_context() | {"outlet_events": OutletEventAccessors()}
    task = SecretsDownOnResume(lambda: make(**arguments), monkeypatch)

    if outcome == "completed":
        assert task.run(context) == polytomic_sandbox.starts(SYNC_OF[make])[0].id
    else:
        with pytest.raises((PolytomicSyncError, AirflowFailException), match="disk full"):
            task.run(context)
    assert context["ti"].summary["status"] == outcome


class TestManySchemas:
    @pytest.fixture
    def polytomic_sandbox_seed(self, outcome: str) -> dict[str, Any]:
        good = [{"id": f"good_{number:03}"} for number in range(150)]
        bad = [{"id": f"bad_{number:03}", "outcome": "failed"} for number in range(120)]
        schemas = good if outcome == "completed" else [*good, *bad]
        return {"bulk_syncs": [{"name": "Wide", "id": BULK, "schemas": schemas, "outcome": outcome}]}

    @pytest.mark.parametrize("make", [PolytomicBulkSyncOperator, PolytomicBulkSyncSensor], ids=["operator", "sensor"])
    @pytest.mark.parametrize("outcome", ["completed", "errors"])
    def test_task_result_stands_when_the_event_omits_schemas_and_the_api_is_down(
        self, polytomic_sandbox: Any, make: Any, outcome: str
    ) -> None:
        """An event with 100 of 150 or 270 schemas is judged by itself, with the counts of all schemas."""
        arguments = {"task_id": "sync", "sync_id": BULK, "poke_interval": 0.02, "deferrable": True}
        if make is PolytomicBulkSyncSensor:
            arguments["execution_id"] = polytomic_sandbox.start_foreign(BULK).id

        class ApiDownOnResume(Task):
            def _resume(self, *args: Any) -> Callable[[], Any]:
                polytomic_sandbox.faults.drop_before(times=None)
                return super()._resume(*args)

        context = make_context() | {"outlet_events": OutletEventAccessors()}
        task = ApiDownOnResume(lambda: make(**arguments))

        if outcome == "completed":
            assert task.run(context) == polytomic_sandbox.starts(BULK)[0].id
            assert context["ti"].summary["schemas_omitted"] == 50
        else:
            with pytest.raises((PolytomicSyncError, AirflowFailException)) as caught:
                task.run(context)
            assert "120 of 270 schemas failed" in str(caught.value)
            assert "and 20 more schemas" in str(caught.value)
            assert context["ti"].summary["schemas_omitted"] == 170


@OPERATORS
@pytest.mark.parametrize("connection_id", ["..", " ", "a\nb", "x" * 5000], ids=["dots", "blank", "line_break", "long"])
def test_operator_succeeds_when_the_destination_id_is_malformed(
    polytomic_sandbox: Any, make: Any, deferrable: bool, connection_id: str
) -> None:
    """A destination id that no URL path can hold leaves the tables with their addresses at Polytomic."""
    row = polytomic_sandbox._world.syncs[SYNC_OF[make]].row()
    row |= {"destination_connection_id": connection_id, "target_connection_id": connection_id}
    path = f"/api/{'bulk/' if make is PolytomicBulkSyncOperator else ''}syncs/{SYNC_OF[make]}"
    polytomic_sandbox.faults.status(200, f"GET {path}", times=None, body={"data": row})

    assert run(polytomic_sandbox, make, deferrable) == polytomic_sandbox.starts(SYNC_OF[make])[0].id


@OPERATORS
@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_task_result_stands_when_reports_hang(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, make: Any, deferrable: bool, outcome: str
) -> None:
    """Requests that hang after the execution has ended are abandoned within the reporting timeout."""
    monkeypatch.setattr(reporting_module, "REPORTING_TIMEOUT", 0.6)
    kind = "bulk/" if make is PolytomicBulkSyncOperator else ""
    sync = f"GET /api/{kind}syncs/{SYNC_OF[make]}"
    held = [
        polytomic_sandbox.faults.delay(60, sync, times=None),
        polytomic_sandbox.faults.delay(60, ".*/consolelog", times=None),
    ]
    try:
        if outcome == "completed":
            assert run(polytomic_sandbox, make, deferrable, log_console=False)
        else:
            with pytest.raises(PolytomicSyncError, match="disk full"):
                run(polytomic_sandbox, make, deferrable, log_console=False)
    finally:
        for fault in held:
            fault.release()
    assert sum(fault.hits for fault in held)


class Clock:
    """A monotonic clock that requests and sleeps advance."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.timeouts: list[float] = []
        monkeypatch.setattr(reporting_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(reporting_module.time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def hang(self, request: Any) -> Any:
        from airflow_provider_polytomic.api.plan import TransportFailure

        self.timeouts.append(request.timeout)
        self.now += request.timeout
        return TransportFailure("timed out")


@pytest.mark.parametrize(
    ("execution_timeout", "budget"),
    [(None, 30), (20, 5), (60, 15), (300, 15), (3600, 30), (86400, 30)],
)
def test_reporting_ends_within_its_budget(
    monkeypatch: pytest.MonkeyPatch, execution_timeout: Any, budget: float
) -> None:
    """All hanging requests together end within 30 s, and within half of the reserve that `execution_timeout` keeps."""
    clock = Clock(monkeypatch)
    reporting = Reporting(clock.hang, execution_timeout and timedelta(seconds=execution_timeout))

    for number in range(20):
        assert reporting.best_effort(f"report {number}", lambda: reporting.run(fetch(bulk_syncs.get(BULK), 3))) is None

    assert clock.now - 1000 <= budget
    assert len(clock.timeouts) >= 2
    assert max(clock.timeouts) <= 10


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (timedelta(seconds=20), 10),
        (timedelta(minutes=1), 30),
        (timedelta(minutes=2), 90),
        (timedelta(minutes=10), 540),
        (timedelta(minutes=50), 45 * 60),
        (timedelta(hours=24), 24 * 3600 - 300),
        (timedelta(days=3), 3 * 86400 - 300),
    ],
    ids=str,
)
def test_deadline_precedes_execution_timeout_by_a_bounded_reserve(
    monkeypatch: pytest.MonkeyPatch, limit: timedelta, expected: float
) -> None:
    """The reserve is a tenth of `execution_timeout`: at least 30 s, at most 5 minutes or half of the timeout."""
    monkeypatch.setattr(task_context.time, "time", lambda: 1000.0)

    assert compute_deadline(None, limit) == 1000 + expected
    assert compute_deadline(5, limit) == 1005
    assert compute_deadline(10 * 86400, limit) == 1000 + expected


def test_reporting_sends_no_request_after_airflows_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Airflow's own timeout in a report no request follows. Reports that need no request still run."""
    clock = Clock(monkeypatch)
    reporting = Reporting(clock.hang)

    assert reporting.best_effort("one", raise_instead(AirflowTaskTimeout())) is None
    assert reporting.best_effort("two", lambda: reporting.run(fetch(bulk_syncs.get(BULK), 3))) is None
    assert reporting.best_effort("three", lambda: 3) == 3
    assert clock.timeouts == []


def test_reporting_propagates_a_kill() -> None:
    """A KeyboardInterrupt in a report ends the task."""
    with pytest.raises(KeyboardInterrupt):
        Reporting(lambda request: None).best_effort("one", raise_instead(KeyboardInterrupt()))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("outcome", ["completed"])
def test_asset_events_stop_when_the_reporting_time_is_used_up(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A slow asset lookup in Airflow does not hold up the task."""
    left = iter([1.0, 0.0])
    monkeypatch.setattr(Reporting, "left", property(lambda self: next(left, 0.0)))
    monkeypatch.setattr(Reporting, "run", lambda self, plan: PolytomicHook().client.run(plan))
    context = make_context()
    seen = OutletEventAccessors()
    make = lambda: PolytomicBulkSyncOperator(task_id="sync", sync_id=BULK, poke_interval=0.02)  # noqa: E731

    Task(make).run(context | {"outlet_events": seen})

    assert len(emitted({"outlet_events": seen})) == 1
    assert "Omitted the asset events of 1 of 2 tables" in caplog.text


def test_summary_has_every_field_in_every_mode(polytomic_sandbox: Any, deferrable: bool) -> None:
    """XCom `execution` has the execution's type, mode, status message and timestamps, in the worker and deferred."""
    for make in SYNC_OF:
        context = make_context(run_id=make.__name__)
        run(polytomic_sandbox, make, deferrable, context)
        summary = context["ti"].summary
        execution_id = summary["execution_id"]
        path = "bulk/syncs" if SYNC_OF[make] == BULK else "syncs"
        returned = json.loads(
            polytomic_sandbox.handle(
                "GET",
                f"/api/{path}/{SYNC_OF[make]}/executions/{execution_id}",
                {"authorization": f"Bearer {polytomic_sandbox.key}"},
            ).body
        )["data"]
        for name in ("type", "fetch_mode", "is_partial", "output_disposition", "status_message"):
            assert summary[name] == returned.get(name), name
        assert summary["type"]
        assert summary["created_at"] <= (summary["updated_at"] or summary["completed_at"])
