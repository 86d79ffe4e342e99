"""The sensor for bulk syncs in the modes poke and reschedule, and deferred."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)
from airflow_provider_polytomic.api.errors import PolytomicAuthError, PolytomicServerError
from airflow_provider_polytomic.api.executions import outage
from airflow_provider_polytomic.sandbox.seed import POSTGRES_TO_WAREHOUSE as OTHER
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sensors import _base as sensor_module
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from tools.local_airflow import AIRFLOW_2

from .conftest import Task, TaskDeferred, finish_after_polls, fire, make_context

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException

EXECUTIONS = f"/api/bulk/syncs/{SYNC}/executions"


class Sensor(Task):
    """A sensor in one of its three modes. A rescheduled one is created again for each poke."""

    rescheduled = False

    def run(self, context: dict[str, Any] | None = None) -> Any:
        context = make_context() if context is None else context
        first = datetime.now(timezone.utc)
        context["ti"].get_first_reschedule_date = lambda _context: first
        while True:
            try:
                return super().run(context)
            except AirflowRescheduleException:
                self.rescheduled = True
                time.sleep(0.02)


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    if AIRFLOW_2:  # reads the first poke of a rescheduled sensor from its database, not from the task instance
        first = datetime.now(timezone.utc)
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_task_instance: first)


@pytest.fixture(params=["poke", "reschedule", "deferred"])
def sensor(request: pytest.FixtureRequest) -> Callable[..., Sensor]:
    """Create a sensor in one of the three modes. A test with this fixture runs in all."""

    def make(**arguments: Any) -> Sensor:
        arguments = {"task_id": "wait", "sync_id": SYNC, "poke_interval": 0.02, "timeout": 30, **arguments}
        if request.param == "deferred":
            arguments["deferrable"] = True
        else:
            arguments["mode"] = request.param
        return Sensor(lambda: PolytomicBulkSyncSensor(**arguments))

    return make


def test_sensor_waits_until_the_execution_has_ended_and_returns_its_id(polytomic_sandbox: Any, sensor: Any) -> None:
    """It also pushes a summary."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    context = make_context()

    assert sensor(execution_id=execution.id).run(context) == execution.id
    assert polytomic_sandbox.status(execution.id) == "completed"
    assert context["ti"].summary["status"] == "completed"


@pytest.mark.parametrize("name", ["Salesforce to warehouse", None])
def test_sensor_logs_the_success_as_an_operator_does(
    polytomic_sandbox: Any,
    sensor: Any,
    name: str | None,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line with the execution, the sync, its name if the task has it, and the number of records."""
    caplog.set_level(logging.INFO)
    execution = polytomic_sandbox.start_foreign(SYNC)
    arguments = {"sync_id": None, "sync_name": name} if name else {}

    sensor(execution_id=execution.id, **arguments).run()

    sync = f"bulk sync {name!r} ({SYNC})" if name else f"bulk sync {SYNC}"
    line = f"Execution {execution.id} of {sync} succeeded: completed, 3 of 3 schemas completed, 860 records."
    # Newer versions of Airflow print the log of a task.
    log = "\n".join([capsys.readouterr().out, *(record.getMessage() for record in caplog.records)])
    assert log.count(line) == 1


def test_sensor_returns_at_once_when_the_execution_has_ended(polytomic_sandbox: Any, sensor: Any) -> None:
    """It polls once and does not defer."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id)
    waiting = sensor(execution_id=execution.id)

    assert waiting.run() == execution.id
    assert waiting.deferrals == []


def test_never_fail_skips_the_sensor_when_the_execution_failed(polytomic_sandbox: Any, sensor: Any) -> None:
    """In all modes."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id, "failed")

    with pytest.raises(AirflowSkipException):
        sensor(execution_id=execution.id, never_fail=True).run()


def test_never_fail_skips_the_sensor_on_errors_that_a_retry_may_resolve(
    polytomic_sandbox: Any, sensor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all modes."""
    monkeypatch.setattr(outage, "OUTAGE_BUDGET", 0.0)
    execution = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.faults.status(503, f"GET {EXECUTIONS}/.*", times=None)

    with pytest.raises(AirflowSkipException):
        sensor(execution_id=execution.id, never_fail=True, timeout=5).run()


@pytest.mark.parametrize("skips", ["soft_fail", "never_fail", None])
def test_timeout_of_zero_polls_once(polytomic_sandbox: Any, sensor: Any, skips: str | None) -> None:
    """The sensor then times out, or skips with `soft_fail` or `never_fail`."""
    execution_id = str(uuid.uuid4())
    waiting = sensor(execution_id=execution_id, timeout=0, **({skips: True} if skips else {}))

    with pytest.raises(AirflowSkipException if skips else AirflowSensorTimeout):
        waiting.run()
    assert len(polytomic_sandbox.requests) == 1
    assert waiting.deferrals == []


def test_timeout_of_zero_finds_an_execution_that_has_ended(polytomic_sandbox: Any, sensor: Any) -> None:
    """One poll suffices."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id)

    assert sensor(execution_id=execution.id, timeout=0).run() == execution.id


def test_missing_execution_is_logged_once_per_process(
    polytomic_sandbox: Any, sensor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The message contains how long the sensor waits for the execution to appear."""
    caplog.set_level(logging.INFO)

    waiting = sensor(execution_id="e-none", timeout=0.3)
    with pytest.raises(AirflowSensorTimeout):
        waiting.run()

    messages = [record.getMessage() for record in caplog.records if "was not found" in record.getMessage()]
    assert set(messages) == {
        f"Execution e-none of bulk sync {SYNC} was not found. "
        f"It may be new: waiting up to {outage.REPLICA_LAG:.0f} s for it to appear."
    }
    if not waiting.rescheduled:
        assert len(messages) == 1 + len(waiting.deferrals)  # in the worker, and in the triggerer


@pytest.mark.parametrize("outcome", ["error", "timeout"])
def test_never_fail_skips_the_sensor_when_the_trigger_reports_an_error(polytomic_sandbox: Any, outcome: str) -> None:
    """An error in the triggerer has the same effect as one in the worker."""
    event = {"outcome": outcome, "sync_id": SYNC, "error": "PolytomicServerError", "message": "503"}
    waiting = PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, never_fail=True, deferrable=True)

    with pytest.raises(AirflowSkipException, match="503"):
        waiting.execute_complete(make_context(), event)


@pytest.mark.parametrize("skips", ["soft_fail", "never_fail", None])
@pytest.mark.parametrize("cause", ["timeout", "execution_timeout"])
def test_deferred_sensor_raises_the_same_timeout_error_as_a_poking_one(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, cause: str, skips: str | None
) -> None:
    """The error of `timeout` is not retried; that of `execution_timeout` is."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    limits: dict[str, Any] = {"timeout": 0.3} if cause == "timeout" else {"execution_timeout": timedelta(seconds=0.6)}
    arguments = limits | {"execution_id": execution.id, "poke_interval": 0.02} | ({skips: True} if skips else {})
    deferred = Task(lambda: PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, deferrable=True, **arguments))
    poking = PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, **arguments)
    polytomic_sandbox.faults.status(
        200, f"GET {EXECUTIONS}/.*", times=None, body={"data": {"id": execution.id, "status": "running"}}
    )
    expected = AirflowSensorTimeout if cause == "timeout" else AirflowTaskTimeout
    expected = AirflowSkipException if skips else expected

    with pytest.raises(expected, match=rf"The deadline is set by {cause}=0\.[36] s"):
        deferred.run()
    with pytest.raises(expected), _execution_timeout(poking, monkeypatch):
        poking.execute(make_context())


@contextmanager
def _execution_timeout(sensor: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raise Airflow's execution timeout between two pokes, as in a worker."""
    if sensor.execution_timeout is not None:

        def raise_timeout(_seconds: float) -> None:
            raise AirflowTaskTimeout("Timeout")

        monkeypatch.setattr(time, "sleep", raise_timeout)
    yield


@pytest.mark.parametrize("interval", [30, 900, 3600])
def test_poking_sensor_tolerates_ten_minutes_and_two_failures(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, interval: float
) -> None:
    """After hours of successful polls, an outage ends the sensor with its third failure, 10 minutes after the first."""
    clock = SimpleNamespace(now=1_790_000_000.0)
    monkeypatch.setattr(sensor_module, "time", SimpleNamespace(time=lambda: clock.now))
    body = {"data": {"id": "e1", "status": "running"}}
    good = polytomic_sandbox.faults.status(200, f"GET {EXECUTIONS}/e1", times=None, body=body)
    sensor = PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, execution_id="e1", poke_interval=interval)
    context = make_context()

    def poke() -> None:
        assert not sensor.poke(context)
        clock.now += interval

    for _ in range(5):
        poke()
    good.left = 1
    down = polytomic_sandbox.faults.status(503, f"GET {EXECUTIONS}/e1", times=None)
    poke()
    failures = max(math.ceil(600 / interval), 2)
    for _ in range(failures):
        poke()
    with pytest.raises(PolytomicServerError, match="no valid response"):
        sensor.poke(context)
    assert down.hits == failures + 1


class TestEndless:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        syncs = {"Orders": SYNC, "Returns": OTHER}
        return {
            "bulk_syncs": [
                {"name": name, "id": sync_id, "schemas": ["orders"], "duration": 100_000}
                for name, sync_id in syncs.items()
            ]
        }

    @pytest.mark.parametrize("status", ["failed", "canceled", "interrupted", "errors", "frobnicated"])
    @pytest.mark.parametrize("soft_fail", [False, True])
    def test_failed_execution_fails_the_sensor_without_retries(
        self, polytomic_sandbox: Any, sensor: Any, status: str, soft_fail: bool
    ) -> None:
        """Every terminal status but `completed` does, in all modes. With `soft_fail` the sensor skips."""
        execution = polytomic_sandbox.start_foreign(SYNC)
        timer = threading.Timer(0.03, polytomic_sandbox.finish, (SYNC, execution.id, status))
        timer.start()

        with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException):
            sensor(execution_id=execution.id, soft_fail=soft_fail).run()
        timer.join()

    def test_sensor_without_execution_id_waits_for_the_running_execution(
        self, polytomic_sandbox: Any, sensor: Any
    ) -> None:
        """The execution that is running at the first poke is the one."""
        execution = polytomic_sandbox.start_foreign(SYNC)
        with finish_after_polls(polytomic_sandbox, execution):
            assert sensor().run() == execution.id

    @pytest.mark.parametrize("deferrable", [False, True])
    def test_sensor_keeps_waiting_for_the_execution_that_it_found(
        self, polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, deferrable: bool
    ) -> None:
        """The clock of the worker is fast: the execution that was found running ends before the first poke."""

        class FastClock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return datetime.now(tz) + timedelta(seconds=5)

        monkeypatch.setattr(sensor_module, "datetime", FastClock)
        execution = polytomic_sandbox.start_foreign(SYNC)
        sensor = PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, deferrable=deferrable, poke_interval=0.02)
        context = make_context(task_id="wait")
        if deferrable:
            with pytest.raises(TaskDeferred) as deferral:
                sensor.execute(context)
            polytomic_sandbox.finish(SYNC, execution.id)
            assert sensor.execute_complete(context, fire(deferral.value.trigger)) == execution.id
        else:
            assert not sensor.poke(context)
            polytomic_sandbox.finish(SYNC, execution.id)
            assert sensor.poke(context).xcom_value == execution.id

    @pytest.mark.parametrize("known", [True, False])
    def test_sensor_polls_again_when_it_receives_the_event_of_another_task(
        self, polytomic_sandbox: Any, known: bool
    ) -> None:
        """The trigger of a task that does not exist any more may fire for it."""
        foreign = polytomic_sandbox.start_foreign(OTHER)
        with pytest.raises(TaskDeferred) as another:
            PolytomicBulkSyncSensor(
                task_id="another", sync_id=OTHER, execution_id=foreign.id, deferrable=True, poke_interval=0.02
            ).execute(make_context(task_id="another"))
        polytomic_sandbox.finish(OTHER, foreign.id)
        event = fire(another.value.trigger)
        execution = polytomic_sandbox.start_foreign(SYNC)
        sensor = PolytomicBulkSyncSensor(
            task_id="wait",
            sync_id=SYNC,
            execution_id=execution.id if known else None,
            deferrable=True,
            poke_interval=0.02,
        )
        context = make_context(task_id="wait")

        with pytest.raises(TaskDeferred) as again:
            sensor.execute_complete(context, event)

        polytomic_sandbox.finish(SYNC, execution.id)
        assert sensor.execute_complete(context, fire(again.value.trigger)) == execution.id

    def test_cleared_sensor_accepts_the_event_of_its_earlier_try(self, polytomic_sandbox: Any) -> None:
        """Both tries wait for the same execution."""
        execution = polytomic_sandbox.start_foreign(SYNC)
        sensor = PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, deferrable=True, poke_interval=0.02)
        with pytest.raises(TaskDeferred) as before:
            sensor.execute(make_context(task_id="wait"))
        polytomic_sandbox.finish(SYNC, execution.id)

        event = fire(before.value.trigger)
        assert sensor.execute_complete(make_context(task_id="wait", try_number=2, max_tries=1), event) == execution.id

    @pytest.mark.parametrize("nothing", ["", "None"])
    def test_blank_completed_after_has_its_default(self, polytomic_sandbox: Any, sensor: Any, nothing: str) -> None:
        """It may be literal or rendered, and is allowed with `execution_id`."""
        ended = polytomic_sandbox.start_foreign(SYNC)
        polytomic_sandbox.finish(SYNC, ended.id)
        runs = polytomic_sandbox.start_foreign(SYNC)

        def rendered(**arguments: Any) -> Task:
            waiting = sensor(completed_after="{{ nothing }}", **arguments)
            make = waiting.make

            def render() -> Any:
                operator = make()
                operator.completed_after = nothing
                return operator

            waiting.make = render
            return waiting

        with finish_after_polls(polytomic_sandbox, runs):
            assert rendered().run() == runs.id
        assert sensor(execution_id=ended.id, completed_after=nothing).run() == ended.id
        assert rendered(execution_id=ended.id).run() == ended.id

    @pytest.mark.parametrize("soft_fail", [False, True])
    def test_timeout_does_not_cancel_the_execution(self, polytomic_sandbox: Any, sensor: Any, soft_fail: bool) -> None:
        """The sensor fails without retries, or skips. The execution keeps running."""
        execution = polytomic_sandbox.start_foreign(SYNC)

        with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout):
            sensor(execution_id=execution.id, timeout=0.2, soft_fail=soft_fail).run()

        assert polytomic_sandbox.running(SYNC).id == execution.id
        assert not [request for request in polytomic_sandbox.requests if request.method == "POST"]

    def test_killed_sensor_does_not_cancel_the_execution(self, polytomic_sandbox: Any) -> None:
        """on_kill sends no request."""
        execution = polytomic_sandbox.start_foreign(SYNC)

        PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, execution_id=execution.id).on_kill()

        assert polytomic_sandbox.requests == []


def test_sensor_without_execution_id_waits_for_the_next_execution(polytomic_sandbox: Any, sensor: Any) -> None:
    """An execution that ended before the first poke is ignored."""
    old = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.finish(SYNC, old.id)
    started: list[Any] = []

    def start_after_the_first_poll() -> None:
        while not polytomic_sandbox.requests:
            time.sleep(0.005)
        started.append(polytomic_sandbox.start_foreign(SYNC))

    thread = threading.Thread(target=start_after_the_first_poll, daemon=True)
    thread.start()

    returned = sensor().run()
    thread.join()

    assert [returned] == [execution.id for execution in started]


def test_sensor_without_execution_id_ignores_test_runs(polytomic_sandbox: Any, sensor: Any) -> None:
    """It waits for the next real execution."""
    test = polytomic_sandbox.start_foreign(SYNC, test=True)
    polytomic_sandbox.finish(SYNC, test.id)
    real = polytomic_sandbox.start_foreign(SYNC)

    long_ago = datetime.now(timezone.utc) - timedelta(hours=1)
    assert sensor(completed_after=long_ago).run() == real.id


@pytest.mark.parametrize("form", ["datetime", "text", "naive"])
def test_completed_after_selects_the_oldest_execution_that_had_not_ended_then(
    polytomic_sandbox: Any, sensor: Any, form: str
) -> None:
    """It may have ended meanwhile."""
    before = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.finish(SYNC, before.id)
    time.sleep(0.01)
    moment = datetime.now(timezone.utc)
    time.sleep(0.01)
    first = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.finish(SYNC, first.id)
    second = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.finish(SYNC, second.id)
    value: Any = {"datetime": moment, "text": moment.isoformat(), "naive": moment.replace(tzinfo=None)}[form]

    assert sensor(completed_after=value).run() == first.id


@pytest.mark.parametrize("value", ["yesterday", 7])
def test_sensor_rejects_an_invalid_completed_after(value: Any) -> None:
    """The message names the argument."""
    with pytest.raises(ValueError, match="completed_after"):
        PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, completed_after=value)


@pytest.mark.parametrize("failure", ["503", "dropped", "html"])
def test_sensor_tolerates_failed_polls(polytomic_sandbox: Any, sensor: Any, failure: str) -> None:
    """It polls again."""
    polls = f"GET {EXECUTIONS}/.*"
    if failure == "503":
        polytomic_sandbox.faults.status(503, polls, times=2)
    elif failure == "dropped":
        polytomic_sandbox.faults.drop_before(polls, times=2)
    else:
        polytomic_sandbox.faults.garbage("html", polls, times=2)
    execution = polytomic_sandbox.start_foreign(SYNC)

    assert sensor(execution_id=execution.id).run() == execution.id


def test_rescheduled_sensor_tolerates_a_failed_poll_after_hours(polytomic_sandbox: Any) -> None:
    """The outage does not count from the first poke."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.faults.status(503, f"GET {EXECUTIONS}/.*")
    context = make_context()
    context["ti"].get_first_reschedule_date = lambda _context: datetime.now(timezone.utc) - timedelta(hours=5)
    sensor = PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, execution_id=execution.id, mode="reschedule")

    assert not sensor.poke(context)


def test_unknown_sync_fails_the_sensor_without_retries(polytomic_sandbox: Any, sensor: Any) -> None:
    """The sync does not exist."""
    with pytest.raises((AirflowFailException, AirflowSensorTimeout)):
        sensor(sync_id="nowhere", execution_id="nothing", timeout=1).run()


def test_rejected_key_fails_the_sensor(polytomic_sandbox: Any, sensor: Any) -> None:
    """The key is still rejected after the connection was read again."""
    polytomic_sandbox.rotate_key("another-key")

    with pytest.raises(
        (AirflowFailException, PolytomicAuthError), match=r"401.*Airflow connection: 'polytomic_default'$"
    ):
        sensor(execution_id="anything").run()


def test_sensor_rejects_execution_id_with_completed_after() -> None:
    """It raises as soon as both values are known, which may be when templates are rendered."""
    with pytest.raises(ValueError, match="completed_after"):
        PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, execution_id="x", completed_after="2026-01-01")
    sensor = PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, execution_id="x", completed_after="{{ later }}")
    sensor.completed_after = "2026-01-01"
    with pytest.raises(AirflowFailException, match="completed_after"):
        sensor.poke(make_context())
