"""The execution trigger: what is serialized, when it fires, and what it cancels."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import pytest

from airflow_provider_polytomic.api.executions import outage
from airflow_provider_polytomic.api.transport import aiohttp_transport
from airflow_provider_polytomic.hooks import polytomic as hook_module
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sandbox.seed import WAREHOUSE_TO_SALESFORCE as MODEL
from airflow_provider_polytomic.triggers import execution as module
from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

from .conftest import finish_after_polls, fire, recreate_trigger

ENDLESS = {"bulk_syncs": [{"name": "Orders", "id": SYNC, "schemas": ["orders"], "duration": 100_000}]}


def trigger(execution_id: str | None, **more: Any) -> PolytomicExecutionTrigger:
    arguments = {"kind": "bulk", "sync_id": SYNC, "execution_id": execution_id, "poke_interval": 0.05, **more}
    return PolytomicExecutionTrigger(**arguments)


def test_trigger_survives_serialization(polytomic_sandbox: Any) -> None:
    """`serialize()` holds every argument as plain JSON, and recreates an equal trigger."""
    stored = trigger("e1", deadline=1.5, after="2026-01-01T00:00:00+00:00", deferral_state={"sync_name": "x"})

    _, kwargs = stored.serialize()

    assert kwargs == json.loads(json.dumps(kwargs))
    assert recreate_trigger(stored).serialize() == stored.serialize()


def test_trigger_accepts_arguments_of_another_release(polytomic_sandbox: Any) -> None:
    """Arguments that this release does not know are ignored; those that it adds have defaults."""
    old = PolytomicExecutionTrigger(kind="bulk", sync_id=SYNC, execution_id="e1", from_the_future={"x": 1})

    assert old.serialize()[1]["poke_interval"] == 30


def test_execution_trigger_serializes_no_api_key(polytomic_sandbox: Any) -> None:
    """The serialized trigger has the id of the connection, and nothing that the connection holds."""
    assert polytomic_sandbox.key not in json.dumps(trigger("e1").serialize()[1])


def test_trigger_releases_its_session_before_it_fires(polytomic_sandbox: Any) -> None:
    """When the event is yielded, the shared HTTP session has been released and closed."""
    execution = polytomic_sandbox.start_foreign(SYNC)

    async def run() -> list[Any]:
        seen = []
        async for _ in trigger(execution.id).run():
            seen.append(dict(aiohttp_transport._shared.get(asyncio.get_running_loop(), {})))
        return seen

    assert asyncio.run(run()) == [{}]


def test_trigger_fires_an_error_event_when_its_connection_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that lasts longer than the outage budget becomes an event."""
    monkeypatch.setattr(outage, "OUTAGE_BUDGET", 0.0)
    event = fire(trigger("e1", polytomic_conn_id="no_such_connection"))

    assert event["outcome"] == "error"
    assert "no_such_connection" in event["message"]
    assert event["still_running"] is True


def test_trigger_keeps_waiting_when_its_connection_is_briefly_unreadable(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A secrets backend that fails for a moment does not end the wait, and is logged once as a warning."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id)
    read, times = hook_module.aget_connection, iter(range(9))

    async def flaky(conn_id: str) -> Any:
        if next(times) < 4:  # the last of them is that of the first poll
            raise RuntimeError("secrets backend: 503")
        return await read(conn_id)

    monkeypatch.setattr(hook_module, "aget_connection", flaky)

    assert fire(trigger(execution.id, poke_interval=0.02))["outcome"] == "ended"
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert ["secrets backend: 503" in warning for warning in warnings] == [True]


class TestEndless:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return ENDLESS

    def test_trigger_polls_until_the_execution_ends_and_fires_once(self, polytomic_sandbox: Any) -> None:
        """It polls once per interval while the execution runs, and reports its end."""
        execution = polytomic_sandbox.start_foreign(SYNC)

        with finish_after_polls(polytomic_sandbox, execution, times=3):
            event = fire(trigger(execution.id))

        assert (event["outcome"], event["execution"]["status"]) == ("ended", "completed")

    def test_trigger_propagates_the_cancellation_of_a_stopping_triggerer(self, polytomic_sandbox: Any) -> None:
        """CancelledError is raised, the session is released, and no execution is canceled."""
        execution = polytomic_sandbox.start_foreign(SYNC)

        async def run() -> None:
            async def first() -> None:
                async for _ in trigger(execution.id, poke_interval=30).run():
                    pass

            task = asyncio.create_task(first())
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not aiohttp_transport._shared.get(asyncio.get_running_loop())

        asyncio.run(run())
        assert not [request for request in polytomic_sandbox.requests if request.method == "POST"]

    def test_trigger_delays_its_first_poll(self, polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first poll waits at least as long as executors need to notice the deferral."""
        monkeypatch.setattr(module, "MIN_FIRST_SLEEP", 0.4)
        execution = polytomic_sandbox.start_foreign(SYNC)

        fire(trigger(execution.id, deadline=time.time() + 0.2))

        assert len(polytomic_sandbox.requests) == 1

    def test_trigger_with_an_early_deadline_fires_after_the_first_sleep(
        self, polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A deadline soon after the deferral ends the wait no earlier than executors notice the deferral."""
        monkeypatch.setattr(module, "MIN_FIRST_SLEEP", 0.5)
        execution = polytomic_sandbox.start_foreign(SYNC)
        deferred_at = time.time()

        event = fire(trigger(execution.id, deadline=deferred_at + 0.1, waiting_since=deferred_at))

        assert event["outcome"] == "timeout"
        assert time.time() - deferred_at >= 0.5

    def test_trigger_cancels_the_execution_at_the_deadline_before_it_fires(self, polytomic_sandbox: Any) -> None:
        """The event is sent only after the cancel request."""
        execution = polytomic_sandbox.start_foreign(SYNC)

        event = fire(trigger(execution.id, deadline=time.time() + 0.1, cancel_at_deadline=True))

        assert (event["outcome"], event["still_running"]) == ("timeout", False)
        assert polytomic_sandbox.requests[-1].path.endswith(f"{execution.id}/cancel")

    def test_trigger_event_says_when_the_cancel_at_the_deadline_failed(self, polytomic_sandbox: Any) -> None:
        """The event says that the execution is still running."""
        execution = polytomic_sandbox.start_foreign(SYNC)
        polytomic_sandbox.faults.status(403, "POST .*/cancel", times=None)

        event = fire(trigger(execution.id, deadline=time.time() + 0.1, cancel_at_deadline=True))

        assert (event["outcome"], event["still_running"]) == ("timeout", True)

    @pytest.mark.parametrize(
        ("state", "cancels"),
        [
            ("success", 1),
            ("failed", 1),
            ("skipped", 1),
            ("", 1),  # the DAG run was deleted
            ("deferred", 0),  # moved to another triggerer
            ("scheduled", 0),
            ("running", 0),
            ("restarting", 0),
            (None, 0),
            (RuntimeError("no answer"), 0),
        ],
    )
    def test_trigger_kill_cancels_the_execution_only_when_the_task_has_ended(
        self, polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, state: Any, cancels: int
    ) -> None:
        """`on_kill` cancels when the task's state is terminal or the task is gone, and does nothing otherwise."""
        execution = polytomic_sandbox.start_foreign(SYNC)

        async def state_of(_task_instance: Any) -> Any:
            if isinstance(state, Exception):
                raise state
            return state

        monkeypatch.setattr(module, "task_instance_state", state_of)
        asyncio.run(trigger(execution.id, cancel_on_kill=True).on_kill())

        assert sum(request.method == "POST" for request in polytomic_sandbox.requests) == cancels
        assert len(polytomic_sandbox.requests) == 2 * cancels  # it polls first

    def test_trigger_kill_leaves_the_execution_running_when_cancel_on_kill_is_false(
        self, polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Adopted executions have `cancel_on_kill=False` as well."""
        execution = polytomic_sandbox.start_foreign(SYNC)

        asyncio.run(trigger(execution.id, cancel_on_kill=False).on_kill())

        assert polytomic_sandbox.requests == []

    def test_trigger_kill_ends_within_its_timeout_when_the_server_hangs(
        self, polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`on_kill` returns although the cancel request gets no response."""
        execution = polytomic_sandbox.start_foreign(SYNC)
        polytomic_sandbox.faults.delay(30, "POST .*/cancel", times=None)
        monkeypatch.setattr(module, "TRIGGER_KILL_TIMEOUT", 0.5)

        async def failed(_task_instance: Any) -> str:
            return "failed"

        monkeypatch.setattr(module, "task_instance_state", failed)
        began = time.monotonic()
        asyncio.run(trigger(execution.id, cancel_on_kill=True).on_kill())

        assert time.monotonic() - began < 10


def test_trigger_kill_finishes_when_it_is_canceled_again(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow cancels a trigger every second until it has ended, also while it handles the kill."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.faults.status(503, "GET .*", times=None)  # so that the status is unknown

    async def failed(_task_instance: Any) -> str:
        await asyncio.sleep(0.1)
        return "failed"

    monkeypatch.setattr(module, "task_instance_state", failed)

    async def run() -> None:
        killing = asyncio.create_task(trigger(execution.id, cancel_on_kill=True).on_kill())
        for _ in range(5):
            await asyncio.sleep(0.02)
            killing.cancel()
        await killing

    asyncio.run(run())
    assert [request.path.rsplit("/", 1)[1] for request in polytomic_sandbox.requests] == [execution.id, "cancel"]


def test_trigger_kill_after_the_event_cancels_nothing(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is canceled after the event, even if the task's state is terminal."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id)

    async def success(_task_instance: Any) -> str:
        return "success"

    monkeypatch.setattr(module, "task_instance_state", success)

    async def run() -> None:
        ended = trigger(execution.id, cancel_on_kill=True)
        async for _ in ended.run():
            await ended.on_kill()

    asyncio.run(run())
    assert not [request for request in polytomic_sandbox.requests if request.method == "POST"]


def test_triggers_of_one_connection_share_one_session(polytomic_sandbox: Any) -> None:
    """A hundred triggers use one session."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    sessions: list[int] = []

    async def run() -> None:
        async def one() -> Any:
            async for event in trigger(execution.id, poke_interval=0.1).run():
                return event.payload
            raise AssertionError("it never fired")

        async def watch() -> None:
            while True:
                sessions.append(len(aiohttp_transport._shared.get(asyncio.get_running_loop(), {})))
                await asyncio.sleep(0.005)

        watcher = asyncio.create_task(watch())
        events = await asyncio.gather(*(one() for _ in range(100)))
        watcher.cancel()
        assert {event["execution"]["status"] for event in events} == {"completed"}

    asyncio.run(run())
    assert max(sessions) == 1


@pytest.mark.parametrize(("kind", "sync_id"), [("bulk", SYNC), ("model", MODEL)])
def test_trigger_holds_the_shared_session_before_its_first_poll(
    kind: str, sync_id: str, polytomic_sandbox: Any
) -> None:
    """Triggers that start together and end with their first poll use one session, and not one each."""

    async def run() -> None:
        waiting = PolytomicExecutionTrigger(kind, sync_id, "e1", poke_interval=60).run()
        first = asyncio.ensure_future(anext(waiting))
        while not aiohttp_transport._shared.get(asyncio.get_running_loop()):  # noqa: ASYNC110  there is no event
            await asyncio.sleep(0.005)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not aiohttp_transport._shared.get(asyncio.get_running_loop())

    asyncio.run(asyncio.wait_for(run(), 4))
    assert polytomic_sandbox.requests == []
