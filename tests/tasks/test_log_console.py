"""`log_console`: the console log of the execution in the log of the task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE
from airflow_provider_polytomic.triggers import execution as trigger_module

from .conftest import Task, TaskDeferred, finish_after_polls, fire, make_context, recreate_in_triggerer

SYNCS = {"bulk": SALESFORCE_TO_WAREHOUSE, "model": WAREHOUSE_TO_SALESFORCE}
OPERATORS = {"bulk": PolytomicBulkSyncOperator, "model": PolytomicModelSyncOperator}


@pytest.fixture(params=["bulk", "model"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of the sync. A test with this fixture runs for both."""
    return str(request.param)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the console lines that have been logged, without their times."""
    caplog.set_level(logging.INFO)
    return lambda: [text.split(" ", 2)[-1] for text in caplog.messages if text.startswith("Polytomic: ")]


def task(kind: str = "bulk", **arguments: Any) -> Task:
    arguments = {"task_id": "sync", "sync_id": SYNCS[kind], "poke_interval": 0.02, "log_console": True, **arguments}
    return Task(lambda: OPERATORS[kind](**arguments))


def console_lines(sandbox: Any, kind: str) -> list[str]:
    """Return the console log of the only execution."""
    (execution,) = sandbox.starts(SYNCS[kind])
    return [line.message for line in execution.log(execution.end)]


def count_console_requests(sandbox: Any) -> int:
    return sum(request.path.endswith("/consolelog") for request in sandbox.requests)


@pytest.fixture
def polytomic_sandbox_speed() -> float:
    return 20


def test_task_log_contains_each_console_line_once(
    polytomic_sandbox: Any, logged: Any, deferrable: bool, kind: str
) -> None:
    """The whole console log is in it, in order, in both modes."""
    task(kind, deferrable=deferrable).run()

    assert logged() == console_lines(polytomic_sandbox, kind)
    assert len(logged()) > 4


@pytest.mark.parametrize("polytomic_sandbox_speed", [0.0001], ids=["endless"])
def test_console_log_is_requested_at_most_once_per_poll(polytomic_sandbox: Any, deferrable: bool) -> None:
    """Each poll of the execution is followed by at most one request."""
    context = make_context()
    push = context["ti"].xcom_push

    with ExitStack() as ending:

        def push_and_end_after_polls(key: str, value: Any) -> None:
            push(key, value)
            running = polytomic_sandbox.running(SYNCS["bulk"])
            if key == "execution" and running:
                ending.enter_context(finish_after_polls(polytomic_sandbox, running, times=3))

        context["ti"].xcom_push = push_and_end_after_polls
        task(deferrable=deferrable).run(context)

    (execution,) = polytomic_sandbox.starts(SYNCS["bulk"])
    polls = sum(request.path.endswith(f"/executions/{execution.id}") for request in polytomic_sandbox.requests)
    assert 1 < count_console_requests(polytomic_sandbox) <= polls


def test_console_log_is_not_requested_by_default(
    polytomic_sandbox: Any, deferrable: bool, kind: str, logged: Any
) -> None:
    """A task that succeeds without `log_console` sends no request for it."""
    task(kind, log_console=False, deferrable=deferrable).run()

    assert count_console_requests(polytomic_sandbox) == 0
    assert logged() == []


def test_task_succeeds_when_the_console_log_cannot_be_read(polytomic_sandbox: Any, deferrable: bool, kind: str) -> None:
    """It logs a warning."""
    polytomic_sandbox.faults.status(500, "GET .*/consolelog", times=None)

    returned = task(kind, deferrable=deferrable).run()

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNCS[kind])]


def test_console_lines_are_logged_after_failed_requests(polytomic_sandbox: Any, deferrable: bool, logged: Any) -> None:
    """The lines of failed requests are logged by a later one."""
    polytomic_sandbox.faults.drop_before("GET .*/consolelog", times=3)

    task(deferrable=deferrable).run()

    assert logged() == console_lines(polytomic_sandbox, "bulk")


def test_failure_message_contains_the_last_console_lines(polytomic_sandbox: Any, deferrable: bool, logged: Any) -> None:
    """Although they have been logged."""
    context = make_context()
    push = context["ti"].xcom_push

    def push_and_fail(key: str, value: Any) -> None:
        push(key, value)
        if polytomic_sandbox.running(SYNCS["bulk"]):
            polytomic_sandbox.finish(SYNCS["bulk"], value["execution_id"], "failed", "disk full")

    context["ti"].xcom_push = push_and_fail

    with pytest.raises(PolytomicSyncError, match=r"console log:\n(.*\n)*.*Execution failed: disk full"):
        task(deferrable=deferrable).run(context)

    assert logged()[-1] == "Execution failed: disk full"


def test_console_log_of_a_foreign_execution_is_not_requested(
    polytomic_sandbox: Any, deferrable: bool, logged: Any
) -> None:
    """While a task waits for a blocking execution, it logs no console lines."""
    foreign = polytomic_sandbox.start_foreign(SYNCS["bulk"])

    task(deferrable=deferrable).run()

    requests = [request.path for request in polytomic_sandbox.requests if request.path.endswith("/consolelog")]
    assert requests
    assert not any(foreign.id in path for path in requests)


class XComs:
    """The XComs of a triggerer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> None:
        self.values: dict[str, Any] = {}
        self.fails = fails
        monkeypatch.setattr(trigger_module, "aset_xcom", self.aset)
        monkeypatch.setattr(trigger_module, "aget_xcom", self.aget)

    async def aset(self, task_instance: Any, key: str, value: Any) -> None:
        if self.fails:
            raise RuntimeError("no supervisor")
        self.values[key] = value

    async def aget(self, task_instance: Any, key: str) -> Any:
        if self.fails:
            raise RuntimeError("no supervisor")
        return self.values.get(key)


def create_trigger(kind: str) -> Any:
    with pytest.raises(TaskDeferred) as deferred:
        task(kind, deferrable=True).make().execute(make_context())
    return deferred.value.trigger


async def _run_until(trigger: Any, condition: Callable[[], Any]) -> None:
    """Run a trigger in a triggerer that dies as soon as the condition holds."""
    running = asyncio.ensure_future(recreate_in_triggerer(trigger).run().__anext__())
    while not condition():
        assert not running.done()
        await asyncio.wait({running}, timeout=0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_restarted_triggerer_logs_no_line_twice(
    polytomic_sandbox: Any, logged: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It continues after the last line that was logged."""
    xcoms = XComs(monkeypatch)
    trigger = create_trigger(kind)

    asyncio.run(_run_until(trigger, lambda: xcoms.values))
    before = logged()
    assert 0 < len(before) < len(console_lines(polytomic_sandbox, kind))

    event = fire_first(recreate_in_triggerer(trigger))
    task(kind).make().execute_complete(make_context(), event)

    assert logged() == console_lines(polytomic_sandbox, kind)


def fire_first(trigger: Any) -> Any:
    async def first() -> Any:
        return (await trigger.run().__anext__()).payload

    return asyncio.run(first())


def test_cursor_of_another_execution_is_ignored(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console log is read from its beginning."""
    xcoms = XComs(monkeypatch)
    xcoms.values[trigger_module.CONSOLE_KEY] = {"execution_id": "another", "cursor": "7"}
    trigger = recreate_in_triggerer(create_trigger("bulk"))

    fire_first(trigger)

    requests = [request for request in polytomic_sandbox.requests if request.path.endswith("/consolelog")]
    assert "after" not in requests[0].query


def test_trigger_waits_when_its_cursor_cannot_be_stored(
    polytomic_sandbox: Any, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At worst, lines are logged again after a restart."""
    XComs(monkeypatch, fails=True)
    trigger = recreate_in_triggerer(create_trigger("bulk"))

    event = fire_first(trigger)

    assert event["outcome"] == "ended"
    assert len(logged()) == len(set(logged()))


def test_trigger_without_log_console_uses_no_xcom(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither reads nor writes a cursor."""
    xcoms = XComs(monkeypatch)
    with pytest.raises(TaskDeferred) as deferred:
        task(log_console=False, deferrable=True).make().execute(make_context())

    fire(deferred.value.trigger)

    assert xcoms.values == {}
