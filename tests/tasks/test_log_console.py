"""`log_console`: the execution's console log in the task's log, each line once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE
from airflow_provider_polytomic.triggers import execution as trigger_module

from .conftest import Task, TaskDeferred, fire, make_context, recreate_in_triggerer

SYNCS = {"bulk": SALESFORCE_TO_WAREHOUSE, "model": WAREHOUSE_TO_SALESFORCE}
OPERATORS = {"bulk": PolytomicBulkSyncOperator, "model": PolytomicModelSyncOperator}


@pytest.fixture(params=["bulk", "model"])
def kind(request: pytest.FixtureRequest) -> str:
    """Every test that asks for it runs for both kinds."""
    return str(request.param)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines of console logs so far, without their times."""
    caplog.set_level(logging.INFO)
    return lambda: [text.split(" ", 2)[-1] for text in caplog.messages if text.startswith("Polytomic: ")]


def task(kind: str = "bulk", **arguments: Any) -> Task:
    arguments = {"task_id": "sync", "sync_id": SYNCS[kind], "poke_interval": 0.02, "log_console": True, **arguments}
    return Task(lambda: OPERATORS[kind](**arguments))


def console_of(sandbox: Any, kind: str) -> list[str]:
    """What the console log of the only execution holds."""
    (execution,) = sandbox.starts(SYNCS[kind])
    return [line.message for line in execution.log(execution.end)]


def console_requests(sandbox: Any) -> int:
    return sum(request.path.endswith("/consolelog") for request in sandbox.requests)


@pytest.fixture
def polytomic_sandbox_speed() -> float:
    return 20


def test_each_line_is_logged_once(polytomic_sandbox: Any, logged: Any, deferrable: bool, kind: str) -> None:
    """The task's log holds the whole console log, in its order, without a repetition, in both modes."""
    task(kind, deferrable=deferrable).run()

    assert logged() == console_of(polytomic_sandbox, kind)
    assert len(logged()) > 4


def test_it_costs_one_request_a_look(polytomic_sandbox: Any, deferrable: bool) -> None:
    """Each look at the execution is followed by at most one request for the log."""
    task(deferrable=deferrable).run()

    (execution,) = polytomic_sandbox.starts(SYNCS["bulk"])
    looks = sum(request.path.endswith(f"/executions/{execution.id}") for request in polytomic_sandbox.requests)
    assert 1 < console_requests(polytomic_sandbox) <= looks


def test_it_is_off_by_default(polytomic_sandbox: Any, deferrable: bool, kind: str, logged: Any) -> None:
    """Without `log_console` a task that goes well never asks for the log."""
    task(kind, log_console=False, deferrable=deferrable).run()

    assert console_requests(polytomic_sandbox) == 0
    assert logged() == []


def test_a_broken_log_changes_nothing(polytomic_sandbox: Any, deferrable: bool, kind: str) -> None:
    """A log that cannot be read is a warning; the task waits and ends as ever."""
    polytomic_sandbox.faults.status(500, "GET .*/consolelog", times=None)

    returned = task(kind, deferrable=deferrable).run()

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNCS[kind])]


def test_a_log_that_was_broken_loses_no_lines(polytomic_sandbox: Any, deferrable: bool, logged: Any) -> None:
    """When it answers again, what was missed is logged."""
    polytomic_sandbox.faults.drop_before("GET .*/consolelog", times=3)

    task(deferrable=deferrable).run()

    assert logged() == console_of(polytomic_sandbox, "bulk")


def test_a_failure_shows_its_tail_too(polytomic_sandbox: Any, deferrable: bool, logged: Any) -> None:
    """The message of a failure ends with the last lines, although they have been logged."""
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


def test_somebody_elses_log_is_not_shown(polytomic_sandbox: Any, deferrable: bool, logged: Any) -> None:
    """While another's execution is waited for, its console log is not this task's."""
    foreign = polytomic_sandbox.start_foreign(SYNCS["bulk"])

    task(deferrable=deferrable).run()

    asked = [request.path for request in polytomic_sandbox.requests if request.path.endswith("/consolelog")]
    assert asked
    assert not any(foreign.id in path for path in asked)


class Airflow:
    """Where a triggerer keeps XComs, and finds them again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> None:
        self.xcoms: dict[str, Any] = {}
        self.fails = fails
        monkeypatch.setattr(trigger_module, "aset_xcom", self.aset)
        monkeypatch.setattr(trigger_module, "aget_xcom", self.aget)

    async def aset(self, task_instance: Any, key: str, value: Any) -> None:
        if self.fails:
            raise RuntimeError("no supervisor")
        self.xcoms[key] = value

    async def aget(self, task_instance: Any, key: str) -> Any:
        if self.fails:
            raise RuntimeError("no supervisor")
        return self.xcoms.get(key)


def deferral_of(kind: str) -> Any:
    with pytest.raises(TaskDeferred) as deferred:
        task(kind, deferrable=True).make().execute(make_context())
    return deferred.value.trigger


async def _run_for_a_while(trigger: Any, until: Callable[[], Any]) -> None:
    """A triggerer that dies as soon as something holds."""
    running = asyncio.ensure_future(recreate_in_triggerer(trigger).run().__anext__())
    while not until():
        assert not running.done()
        await asyncio.wait({running}, timeout=0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_triggerer_that_begins_again_repeats_nothing(
    polytomic_sandbox: Any, logged: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Another triggerer goes on with the line after the last one that was logged."""
    airflow = Airflow(monkeypatch)
    trigger = deferral_of(kind)

    asyncio.run(_run_for_a_while(trigger, lambda: airflow.xcoms))
    before = logged()
    assert 0 < len(before) < len(console_of(polytomic_sandbox, kind))

    event = fire_one(recreate_in_triggerer(trigger))
    task(kind).make().execute_complete(make_context(), event)

    assert logged() == console_of(polytomic_sandbox, kind)


def fire_one(trigger: Any) -> Any:
    async def first() -> Any:
        return (await trigger.run().__anext__()).payload

    return asyncio.run(first())


def test_what_another_execution_left_is_not_taken(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """How far the log of an earlier execution was logged says nothing about this one."""
    airflow = Airflow(monkeypatch)
    airflow.xcoms[trigger_module.CONSOLE_KEY] = {"execution_id": "another", "after": "7"}
    trigger = recreate_in_triggerer(deferral_of("bulk"))

    fire_one(trigger)

    asked = [request for request in polytomic_sandbox.requests if request.path.endswith("/consolelog")]
    assert "after" not in asked[0].query


def test_without_a_place_to_note_it_the_wait_goes_on(
    polytomic_sandbox: Any, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow not answering costs at worst that lines are logged again after a restart."""
    Airflow(monkeypatch, fails=True)
    trigger = recreate_in_triggerer(deferral_of("bulk"))

    event = fire_one(trigger)

    assert event["outcome"] == "ended"
    assert len(logged()) == len(set(logged()))


def test_a_trigger_without_it_keeps_nothing(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger that follows no log neither reads nor writes XComs."""
    airflow = Airflow(monkeypatch)
    with pytest.raises(TaskDeferred) as deferred:
        task(log_console=False, deferrable=True).make().execute(make_context())

    fire(deferred.value.trigger)

    assert airflow.xcoms == {}
