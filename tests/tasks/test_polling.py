"""Answers that say nothing about the execution, and executions that must not be cancelled or left running."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
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


def polls(kind: str) -> str:
    """What polls of one execution match."""
    return f"GET {path(kind)}/[^/]*"


def cancels(sandbox: Any) -> list[str]:
    return [request.path for request in list(sandbox.requests) if request.path.endswith("/cancel")]


class Once(threading.Thread):
    """Does something as soon as something is so."""

    def __init__(self, condition: Callable[[], bool], action: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._condition, self._action = condition, action
        self.start()

    def run(self) -> None:
        while not self._condition():
            time.sleep(0.002)
        self._action()


def finish_once_struck(sandbox: Any, kind: str, fault: Any, times: int) -> Once:
    """The execution completes when the fault has struck so often."""
    return Once(lambda: fault.hits >= times, lambda: sandbox.finish(SYNCS[kind], sandbox.starts(SYNCS[kind])[0].id))


def test_a_404_in_the_first_minute_does_not_end_a_task(polytomic_sandbox: Any, kind: str, deferrable: bool) -> None:
    """A replica that does not know the execution seconds after another one has shown it is waited for."""
    faults = polytomic_sandbox.faults
    faults.delay(0, polls(kind), times=2)  # good answers first: the worker's, and in the deferred task the trigger's
    missing = faults.status(404, polls(kind), times=3)
    ending = finish_once_struck(polytomic_sandbox, kind, missing, 3)

    returned = task(kind, deferrable=deferrable).run()

    ending.join()
    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNCS[kind])]
    assert cancels(polytomic_sandbox) == []


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_a_task_whose_execution_is_not_found_cancels_it(
    polytomic_sandbox: Any, kind: str, deferrable: bool, monkeypatch: pytest.MonkeyPatch, cancel_on_kill: bool
) -> None:
    """A 404 that lasts fails the task without retries, so the execution, which may run, is cancelled if it may be."""
    monkeypatch.setattr(outage, "REPLICA_LAG", 0.1)
    polytomic_sandbox.faults.delay(0, polls(kind), times=1)
    polytomic_sandbox.faults.status(404, polls(kind), times=None)
    context = make_context(max_tries=3)

    with pytest.raises(AirflowFailException, match="404"):
        task(kind, deferrable=deferrable, retries=3, cancel_on_kill=cancel_on_kill).run(context)

    (execution,) = polytomic_sandbox.starts(SYNCS[kind])
    assert cancels(polytomic_sandbox) == [f"{path(kind)}/{execution.id}/cancel"] * cancel_on_kill


def test_an_answer_about_another_execution_is_never_the_result(
    polytomic_sandbox: Any, kind: str, deferrable: bool
) -> None:
    """A stale cache that answers polls with yesterday's completed execution neither ends nor fails a task."""
    yesterday = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.finish(SYNCS[kind], yesterday.id)
    stale = polytomic_sandbox.faults.status(
        200, polls(kind), times=3, body={"data": {"id": yesterday.id, "status": "completed"}}
    )
    ending = Once(
        lambda: stale.hits >= 3,
        lambda: polytomic_sandbox.finish(SYNCS[kind], polytomic_sandbox.starts(SYNCS[kind])[1].id, "failed"),
    )
    context = make_context()

    with pytest.raises(Exception, match="failed") as failure:
        task(kind, deferrable=deferrable).run(context)

    ending.join()
    mine = polytomic_sandbox.starts(SYNCS[kind])[1].id
    assert mine in str(failure.value)
    assert context["ti"].summary["execution_id"] == mine
    assert context["ti"].summary["status"] == "failed"


def test_a_retry_does_not_take_another_execution_for_the_one_that_it_resumes(
    polytomic_sandbox: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a try resumes is read again until the answer is about it."""
    monkeypatch.setitem(client.drive.__kwdefaults__, "sleep", lambda _seconds: None)
    yesterday = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.finish(SYNCS[kind], yesterday.id)
    make = task(kind, retries=1, wait_for_completion=False).make
    started = make().execute(make_context(max_tries=1))
    stale = polytomic_sandbox.faults.status(
        200, polls(kind), times=2, body={"data": {"id": yesterday.id, "status": "completed"}}
    )

    resumed = make().execute(make_context(try_number=2, max_tries=1))

    assert (resumed, stale.hits) == (started, 2)


def test_a_hook_refuses_an_answer_about_another_execution(polytomic_sandbox: Any, kind: str) -> None:
    """`get_…_execution` raises PolytomicResponseError rather than return another execution."""
    execution = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.faults.status(200, polls(kind), body={"data": {"id": "yesterday", "status": "completed"}})
    get = getattr(PolytomicHook(), f"get_{kind}_sync_execution")

    with pytest.raises(PolytomicResponseError, match=f"about execution yesterday, not {execution.id}"):
        get(SYNCS[kind], execution.id)
    assert get(SYNCS[kind], execution.id).id == execution.id


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_page_of_a_proxy_does_not_end_a_wait(
    polytomic_sandbox: Any, kind: str, deferrable: bool, status: int
) -> None:
    """An HTML page is an outage whatever its status, also when it comes twice and more."""
    polytomic_sandbox.faults.delay(0, polls(kind), times=1)
    page = polytomic_sandbox.faults.status(status, polls(kind), times=2, body=PAGE)
    ending = finish_once_struck(polytomic_sandbox, kind, page, 2)

    task(kind, deferrable=deferrable).run()

    ending.join()
    assert cancels(polytomic_sandbox) == []


@pytest.mark.parametrize("status", [200, 404, 503])
def test_an_event_without_all_schemas_is_judged_when_they_cannot_be_read(polytomic_sandbox: Any, status: int) -> None:
    """An execution that has ended well stays a success when reading it once more fails, or returns another one."""
    body = {"data": {"id": "yesterday", "status": "failed"}} if status == 200 else None
    polytomic_sandbox.faults.status(status, polls("bulk"), times=None, body=body)
    ended = {"outcome": "ended", "sync_id": SYNCS["bulk"], "execution_id": "e1", "notes": {}, "status": "completed"}
    event = ended | {"schemas": [], "schemas_omitted": 5, "record_count": 7}

    assert task("bulk").make().execute_complete(make_context(), event) == "e1"


# --- cancelling only what runs


def trigger(kind: str, execution_id: str, **more: Any) -> PolytomicExecutionTrigger:
    return PolytomicExecutionTrigger(kind, SYNCS[kind], execution_id, cancel_on_kill=True, **more)


@pytest.fixture
def task_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def state(_task_instance: Any) -> str:
        return "success"

    monkeypatch.setattr(trigger_module, "task_instance_state", state)


@pytest.mark.usefixtures("task_succeeded")
def test_a_trigger_that_thaws_cancels_nothing_that_has_ended(
    polytomic_sandbox: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A frozen triggerer that is killed after another one has completed the task polls first, and cancels nothing."""
    execution = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.finish(SYNCS[kind], execution.id)

    with caplog.at_level(logging.INFO):
        asyncio.run(trigger(kind, execution.id).on_kill())

    assert cancels(polytomic_sandbox) == []
    assert "nothing to cancel" in caplog.text
    assert "being cancelled" not in caplog.text


@pytest.mark.usefixtures("task_succeeded")
def test_a_killed_trigger_cancels_also_when_the_poll_fails(
    polytomic_sandbox: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An execution whose status cannot be read is cancelled: one that nobody waits for is worse."""
    execution = polytomic_sandbox.start_foreign(SYNCS[kind])
    polytomic_sandbox.faults.status(503, polls(kind), times=None)

    asyncio.run(trigger(kind, execution.id).on_kill())

    assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")
    assert "could not be polled and is canceled in any case" in caplog.text


@pytest.mark.parametrize("outcome", ["error", "timeout"])
@pytest.mark.parametrize("ended", [True, False])
def test_a_last_try_cancels_only_what_still_runs(polytomic_sandbox: Any, kind: str, outcome: str, ended: bool) -> None:
    """After an outage, or when the trigger could not cancel, the worker polls before it cancels."""
    execution = polytomic_sandbox.start_foreign(SYNCS[kind])
    if ended:
        polytomic_sandbox.finish(SYNCS[kind], execution.id)
    event = {
        "outcome": outcome,
        "error": "PolytomicServerError",
        "message": "HTTP 503",
        "still_running": True,
        "sync_id": SYNCS[kind],
        "execution_id": execution.id,
        "notes": {"adopted": False},
    }

    with pytest.raises((PolytomicServerError, PolytomicTimeoutError), match="503"):
        task(kind).make().execute_complete(make_context(), event)
    assert len(cancels(polytomic_sandbox)) == (not ended)


def test_a_deadline_during_an_outage_cancels_and_says_so(polytomic_sandbox: Any, kind: str, deferrable: bool) -> None:
    """An execution whose last poll failed is cancelled at the deadline, and the message names the failure."""
    polytomic_sandbox.faults.delay(0, polls(kind), times=1)
    polytomic_sandbox.faults.status(503, polls(kind), times=None)

    with pytest.raises(PolytomicTimeoutError, match=r"is being canceled; its last poll failed: .*503"):
        task(kind, deferrable=deferrable, timeout=0.4).run()
    assert len(cancels(polytomic_sandbox)) == 1


# --- the same rule in a worker and in a hook


class Clock:
    """The worker's clock, which only sleeping moves.

    The API fails from one moment until some time after the first poll that noticed, and the execution ends later.
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
def test_an_outage_of_nine_minutes_ends_no_wait_of_a_worker(
    polytomic_sandbox: Any,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    interval: float,
    down_at: float,
    minutes: float,
) -> None:
    """However long ago the last poll was, a blip or nine minutes of failures are waited out."""
    clock = Clock(monkeypatch, polytomic_sandbox, down_at, 60 * minutes)

    assert waited_for(polytomic_sandbox, kind, where, interval)
    assert clock.first_failure is not None


@pytest.mark.parametrize(("interval", "down_at"), [(5, HOUR), (900, 3 * HOUR), (3600, 6 * HOUR)])
@pytest.mark.parametrize("where", ["operator", "hook"])
def test_an_outage_that_lasts_ends_a_wait_of_a_worker_after_ten_minutes(
    polytomic_sandbox: Any, kind: str, monkeypatch: pytest.MonkeyPatch, where: str, interval: float, down_at: float
) -> None:
    """The wait ends 10 minutes after its first failed poll, whatever its interval."""
    clock = Clock(monkeypatch, polytomic_sandbox, down_at, 20 * 60)

    with pytest.raises(PolytomicResponseError, match=r"no good answer for 60\d s"):
        waited_for(polytomic_sandbox, kind, where, interval)
    assert clock.first_failure is not None
    assert OUTAGE_BUDGET <= clock.now - clock.first_failure <= OUTAGE_BUDGET + MAX_BACKOFF


def waited_for(sandbox: Any, kind: str, where: str, interval: float) -> Any:
    if where == "operator":
        return task(kind, poke_interval=interval, retries=1).run(make_context(max_tries=1))
    execution = sandbox.start_foreign(SYNCS[kind])
    wait = getattr(PolytomicHook(), f"wait_for_{kind}_sync_execution")
    return wait(SYNCS[kind], execution.id, poke_interval=interval)


def test_an_execution_counts_as_another_by_its_id_alone() -> None:
    """The comparison does not depend on how an id is spelled."""
    from airflow_provider_polytomic.api.models import parse_execution

    read = parse_execution(BulkSyncExecution, "S", "ABC-1")
    assert read(b'{"data": {"id": "abc-1", "sync_id": "s"}}').id == "abc-1"
