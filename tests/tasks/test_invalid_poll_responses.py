"""Poll responses that do not describe the execution, and which executions are canceled or left running."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic._airflow.deferral import DeferralState, ExecutionEvent
from airflow_provider_polytomic.api import client
from airflow_provider_polytomic.api.errors import PolytomicResponseError, PolytomicServerError, PolytomicTimeoutError
from airflow_provider_polytomic.api.executions import outage
from airflow_provider_polytomic.api.executions.outage import MAX_BACKOFF, OUTAGE_BUDGET
from airflow_provider_polytomic.api.models import BulkSyncExecution
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.triggers import execution as trigger_module
from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

from .conftest import Task, make_context

SYNCS = {"bulk": "b0000000-0000-4000-8000-000000000001", "model": "a0000000-0000-4000-8000-000000000001"}
OPERATORS: dict[str, Any] = {"bulk": PolytomicBulkSyncOperator, "model": PolytomicModelSyncOperator}
HOUR = 3600.0
PAGE = "<!DOCTYPE html><html><title>Access denied</title></html>"


@pytest.fixture(params=["bulk", "model"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def polytomic_sandbox_seed() -> dict[str, Any]:
    return {
        "bulk_syncs": [{"name": "Orders", "id": SYNCS["bulk"], "schemas": ["orders"], "duration": 1e7}],
        "model_syncs": [{"name": "Health", "id": SYNCS["model"], "duration": 1e7}],
    }


def task(kind: str, **arguments: Any) -> Task:
    arguments = {"task_id": "sync", "sync_id": SYNCS[kind], "poke_interval": 0.02, **arguments}
    return Task(lambda: OPERATORS[kind](**arguments))


def path(kind: str) -> str:
    return f"/api/{'bulk/' if kind == 'bulk' else ''}syncs/{SYNCS[kind]}/executions"


def poll_pattern(kind: str) -> str:
    """The method and path of a poll of one execution, as a pattern for a fault."""
    return f"GET {path(kind)}/[^/]*"


def cancels(sandbox: Any) -> list[str]:
    return [request.path for request in list(sandbox.requests) if request.path.endswith("/cancel")]


class WhenTrue(threading.Thread):
    """A thread that waits for a condition and then runs an action."""

    def __init__(self, condition: Callable[[], bool], action: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._condition, self._action = condition, action
        self.start()

    def run(self) -> None:
        while not self._condition():
            time.sleep(0.002)
        self._action()


def finish_after_hits(sandbox: Any, kind: str, fault: Any, times: int) -> WhenTrue:
    """Complete the execution after the fault has been hit this many times."""
    return WhenTrue(lambda: fault.hits >= times, lambda: sandbox.finish(SYNCS[kind], sandbox.starts(SYNCS[kind])[0].id))


def test_task_keeps_waiting_when_a_replica_does_not_know_a_new_execution(
    polytomic_sandbox: Any, kind: str, deferrable: bool
) -> None:
    """A 404 in the first minute, from a replica that lags behind, is polled again."""
    faults = polytomic_sandbox.faults
    # Successful polls come first: the worker's, and the trigger's in the deferred task.
    faults.delay(0, poll_pattern(kind), times=2)
    missing = faults.status(404, poll_pattern(kind), times=3)
    ending = finish_after_hits(polytomic_sandbox, kind, missing, 3)

    returned = task(kind, deferrable=deferrable).run()

    ending.join()
    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNCS[kind])]
    assert cancels(polytomic_sandbox) == []


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_task_cancels_its_execution_when_polls_keep_returning_404(
    polytomic_sandbox: Any, kind: str, deferrable: bool, monkeypatch: pytest.MonkeyPatch, cancel_on_kill: bool
) -> None:
    """A lasting 404 fails the task without retries.

    The execution may still run, so it is canceled if `cancel_on_kill` allows it.
    """
    monkeypatch.setattr(outage, "REPLICA_LAG", 0.1)
    polytomic_sandbox.faults.delay(0, poll_pattern(kind), times=1)
    polytomic_sandbox.faults.status(404, poll_pattern(kind), times=None)
    context = make_context(max_tries=3)

    with pytest.raises(AirflowFailException, match="404"):
        task(kind, deferrable=deferrable, retries=3, cancel_on_kill=cancel_on_kill).run(context)

    (execution,) = polytomic_sandbox.starts(SYNCS[kind])
    assert cancels(polytomic_sandbox) == [f"{path(kind)}/{execution.id}/cancel"] * cancel_on_kill


def test_task_ignores_a_poll_response_about_another_execution(
    polytomic_sandbox: Any, kind: str, deferrable: bool
) -> None:
    """A stale cache that returns yesterday's completed execution does not end or fail the task."""
    yesterday = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.finish(SYNCS[kind], yesterday.id)
    stale = polytomic_sandbox.faults.status(
        200, poll_pattern(kind), times=3, body={"data": {"id": yesterday.id, "status": "completed"}}
    )
    ending = WhenTrue(
        lambda: stale.hits >= 3,
        lambda: polytomic_sandbox.finish(SYNCS[kind], polytomic_sandbox.starts(SYNCS[kind])[1].id, "failed"),
    )
    context = make_context()

    with pytest.raises(Exception, match="failed") as failure:
        task(kind, deferrable=deferrable).run(context)

    ending.join()
    own_id = polytomic_sandbox.starts(SYNCS[kind])[1].id
    assert own_id in str(failure.value)
    assert context["ti"].summary["execution_id"] == own_id
    assert context["ti"].summary["status"] == "failed"


def test_retry_ignores_a_poll_response_about_another_execution(
    polytomic_sandbox: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The execution that a retry resumes is read again until the response describes it."""
    monkeypatch.setitem(client.drive.__kwdefaults__, "sleep", lambda _seconds: None)
    yesterday = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.finish(SYNCS[kind], yesterday.id)
    make = task(kind, retries=1, wait_for_completion=False).make
    started = make().execute(make_context(max_tries=1))
    stale = polytomic_sandbox.faults.status(
        200, poll_pattern(kind), times=2, body={"data": {"id": yesterday.id, "status": "completed"}}
    )

    resumed = make().execute(make_context(try_number=2, max_tries=1))

    assert (resumed, stale.hits) == (started, 2)


def test_hook_rejects_a_response_about_another_execution(polytomic_sandbox: Any, kind: str) -> None:
    """`get_…_execution` raises PolytomicResponseError and does not return another execution."""
    execution = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.faults.status(200, poll_pattern(kind), body={"data": {"id": "yesterday", "status": "completed"}})
    get = getattr(PolytomicHook(), f"get_{kind}_sync_execution")

    with pytest.raises(PolytomicResponseError, match=f"about execution yesterday, not {execution.id}"):
        get(SYNCS[kind], execution.id)
    assert get(SYNCS[kind], execution.id).id == execution.id


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_task_keeps_waiting_when_a_proxy_returns_html_pages(
    polytomic_sandbox: Any, kind: str, deferrable: bool, status: int
) -> None:
    """An HTML page is an outage with any status, also when it is returned several times in a row."""
    polytomic_sandbox.faults.delay(0, poll_pattern(kind), times=1)
    page = polytomic_sandbox.faults.status(status, poll_pattern(kind), times=2, body=PAGE)
    ending = finish_after_hits(polytomic_sandbox, kind, page, 2)

    task(kind, deferrable=deferrable).run()

    ending.join()
    assert cancels(polytomic_sandbox) == []


@pytest.mark.parametrize("status", [200, 404, 503])
def test_operator_succeeds_when_the_omitted_schemas_cannot_be_read(polytomic_sandbox: Any, status: int) -> None:
    """A completed execution stays a success when reading it again fails, or returns another execution."""
    body = {"data": {"id": "yesterday", "status": "failed"}} if status == 200 else None
    polytomic_sandbox.faults.status(status, poll_pattern("bulk"), times=None, body=body)
    summary = {
        "execution_id": "e1",
        "status": "completed",
        "schemas": [],
        "schemas_omitted": 5,
        "record_count": 7,
    }
    event = ExecutionEvent(
        "ended", SYNCS["bulk"], "e1", DeferralState(origin="started"), execution=summary
    ).to_payload()

    assert task("bulk").make().execute_complete(make_context(), event) == "e1"


# --- canceling only running executions


def trigger(kind: str, execution_id: str, **more: Any) -> PolytomicExecutionTrigger:
    return PolytomicExecutionTrigger(kind, SYNCS[kind], execution_id, cancel_on_kill=True, **more)


@pytest.fixture
def task_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def state(_task_instance: Any) -> str:
        return "success"

    monkeypatch.setattr(trigger_module, "task_instance_state", state)


@pytest.mark.usefixtures("task_succeeded")
def test_kill_of_a_suspended_trigger_cancels_no_finished_execution(
    polytomic_sandbox: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A trigger polls before it cancels, because another triggerer may have completed the task in the meantime."""
    execution = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.finish(SYNCS[kind], execution.id)

    with caplog.at_level(logging.INFO):
        asyncio.run(trigger(kind, execution.id).on_kill())

    assert cancels(polytomic_sandbox) == []
    assert "nothing to cancel" in caplog.text
    assert "being canceled" not in caplog.text


@pytest.mark.usefixtures("task_succeeded")
def test_kill_of_a_trigger_cancels_the_execution_when_its_poll_fails(
    polytomic_sandbox: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An execution of unknown status is canceled: leaving it running unattended is worse."""
    execution = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.faults.status(503, poll_pattern(kind), times=None)

    asyncio.run(trigger(kind, execution.id).on_kill())

    assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")
    assert "could not be polled. A cancel request is sent anyway" in caplog.text


@pytest.mark.parametrize("outcome", ["error", "timeout"])
@pytest.mark.parametrize("ended", [True, False])
def test_last_try_cancels_only_a_running_execution(
    polytomic_sandbox: Any, kind: str, outcome: str, ended: bool
) -> None:
    """After an outage, or when the trigger could not cancel, the worker polls before it cancels."""
    execution = polytomic_sandbox.start_foreign(SYNCS[kind])
    if ended:
        polytomic_sandbox.finish(SYNCS[kind], execution.id)
    event = ExecutionEvent(
        outcome,
        SYNCS[kind],
        execution.id,
        DeferralState(origin="started"),
        message="HTTP 503",
        error_type="PolytomicServerError",
        still_running=True,
    ).to_payload()

    with pytest.raises((PolytomicServerError, PolytomicTimeoutError), match="503"):
        task(kind).make().execute_complete(make_context(), event)
    assert len(cancels(polytomic_sandbox)) == (not ended)


def test_deadline_during_an_outage_cancels_the_execution(polytomic_sandbox: Any, kind: str, deferrable: bool) -> None:
    """An execution whose last poll failed is canceled at the deadline, and the message has the failure."""
    polytomic_sandbox.faults.delay(0, poll_pattern(kind), times=1)
    polytomic_sandbox.faults.status(503, poll_pattern(kind), times=None)

    with pytest.raises(PolytomicTimeoutError, match=r"the cancel request was accepted; its last poll failed: .*503"):
        task(kind, deferrable=deferrable, timeout=0.4).run()
    assert len(cancels(polytomic_sandbox)) == 1


# --- outages in the worker and in the hook


class WorkerClock:
    """The worker's clock, which only sleeping advances.

    The API fails from ``down_at`` until ``duration`` seconds after the first failed poll. The execution ends 15 minutes
    later.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sandbox: Any, down_at: float, duration: float) -> None:
        self.now = 0.0
        self.first_failure: float | None = None
        self._sandbox, self._down_at, self._duration = sandbox, down_at, duration
        self._fault: Any = None
        monkeypatch.setitem(client.drive.__kwdefaults__, "now", lambda: 1_790_000_000.0 + self.now)
        monkeypatch.setitem(client.drive.__kwdefaults__, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        if self._fault is not None and self._fault.hits and self.first_failure is None:
            self.first_failure = self.now
        self.now += seconds
        if self._fault is None and self.now >= self._down_at:
            self._fault = self._sandbox.faults.status(502, "GET .*", times=None, body=PAGE)
        if self.first_failure is not None and self.now >= self.first_failure + self._duration:
            self._fault.left = 0
            if self.now >= self.first_failure + self._duration + 15 * 60:
                self._finish()

    def _finish(self) -> None:
        for sync_id in SYNCS.values():
            running = self._sandbox.running(sync_id)
            if running is not None:
                self._sandbox.finish(sync_id, running.id)


@pytest.mark.parametrize(("interval", "down_at"), [(5, HOUR), (900, 3 * HOUR), (3600, 6 * HOUR)])
@pytest.mark.parametrize("minutes", [0.01, 9])
@pytest.mark.parametrize("where", ["operator", "hook"])
def test_worker_keeps_waiting_through_an_outage_of_nine_minutes(
    polytomic_sandbox: Any,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    interval: float,
    down_at: float,
    minutes: float,
) -> None:
    """A short failure or nine minutes of failures do not end the wait, whatever the poll interval."""
    clock = WorkerClock(monkeypatch, polytomic_sandbox, down_at, 60 * minutes)

    assert wait_in_worker(polytomic_sandbox, kind, where, interval)
    assert clock.first_failure is not None


@pytest.mark.parametrize(("interval", "down_at"), [(5, HOUR), (900, 3 * HOUR), (3600, 6 * HOUR)])
@pytest.mark.parametrize("where", ["operator", "hook"])
def test_worker_stops_waiting_after_ten_minutes_of_outage(
    polytomic_sandbox: Any, kind: str, monkeypatch: pytest.MonkeyPatch, where: str, interval: float, down_at: float
) -> None:
    """The wait ends 10 minutes after its first failed poll, whatever the poll interval."""
    clock = WorkerClock(monkeypatch, polytomic_sandbox, down_at, 20 * 60)

    with pytest.raises(PolytomicResponseError, match=r"no valid response for 60\d s"):
        wait_in_worker(polytomic_sandbox, kind, where, interval)
    assert clock.first_failure is not None
    assert OUTAGE_BUDGET <= clock.now - clock.first_failure <= OUTAGE_BUDGET + MAX_BACKOFF


def wait_in_worker(sandbox: Any, kind: str, where: str, interval: float) -> Any:
    if where == "operator":
        return task(kind, poke_interval=interval, retries=1).run(make_context(max_tries=1))
    execution = sandbox.start_foreign(SYNCS[kind])
    wait = getattr(PolytomicHook(), f"wait_for_{kind}_sync_execution")
    return wait(SYNCS[kind], execution.id, poke_interval=interval)


def test_execution_id_comparison_ignores_case() -> None:
    """An id in another spelling is the same execution."""
    from airflow_provider_polytomic.api.parsers import parse_execution

    read = parse_execution(lambda: BulkSyncExecution, "S", "ABC-1")
    assert read(b'{"data": {"id": "abc-1", "sync_id": "s"}}').id == "abc-1"
