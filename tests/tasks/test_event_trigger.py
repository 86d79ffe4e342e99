"""The trigger for asset watchers against the sandbox, run by Airflow's shared stream."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_polytomic.api.events.poll import Position
from airflow_provider_polytomic.api.plan import Request
from airflow_provider_polytomic.api.transport import aiohttp_transport
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import POSTGRES_TO_WAREHOUSE as OTHER
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sandbox.seed import WAREHOUSE_TO_SALESFORCE as MODEL
from airflow_provider_polytomic.sandbox.server import Server
from airflow_provider_polytomic.triggers import _event_poller, events
from airflow_provider_polytomic.triggers.events import PolytomicSyncEventTrigger

from .conftest import recreate_trigger

HOUR = 3600.0
EVENTS = Request("GET", "/api/events")


def trigger(**arguments: Any) -> PolytomicSyncEventTrigger:
    return PolytomicSyncEventTrigger(**{"poke_interval": 0.05, **arguments})


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"sync_id": "a", "sync_name": "b"}, "sync_id"),
        ({"sync_id": ""}, "sync_id"),
        ({"sync_id": 7}, "sync_id"),
        ({"sync_id": ".."}, "sync_id"),
        ({"sync_id": "a\nb"}, "sync_id"),
        ({"sync_id": "{{ params.sync }}"}, "sync_id"),
        ({"sync_id": "None"}, "sync_id"),
        ({"sync_id": "a b"}, "sync_id"),
        ({"sync_name": "None"}, "sync_name"),
        ({"sync_name": " "}, "sync_name"),
        ({"sync_name": ["Orders"]}, "sync_name"),
        ({"kind": "bulk_sync"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"events": []}, "events"),
        ({"events": None}, "events"),
        ({"events": "running"}, "events"),
        ({"events": "['completed', 'failed'"}, "events"),
        ({"events": ["completed", "done"]}, "events"),
        ({"events": 7}, "events"),
        ({"events": [["completed"]]}, "events"),
        ({"trigger_source": "schedule"}, "trigger_source"),
        ({"trigger_source": "schedule", "kind": "model"}, "trigger_source"),
        ({"trigger_source": "schedule", "kind": "bulk", "events": ["canceled"]}, "trigger_source"),
        ({"trigger_source": 1, "kind": "bulk"}, "trigger_source"),
        ({"polytomic_conn_id": ""}, "polytomic_conn_id"),
        ({"polytomic_conn_id": None}, "polytomic_conn_id"),
        ({"poke_interval": 0}, "poke_interval"),
        ({"poke_interval": None}, "poke_interval"),
        ({"poke_interval": "60"}, "poke_interval"),
        ({"poke_interval": float("inf")}, "poke_interval"),
    ],
)
def test_watcher_rejects_invalid_arguments_when_the_dag_is_parsed(arguments: dict[str, Any], named: str) -> None:
    """The message names the argument."""
    with pytest.raises(ValueError, match=named):
        PolytomicSyncEventTrigger(**arguments)


def test_watcher_rejects_unknown_arguments() -> None:
    """A typo in an argument would otherwise make a watcher of any sync."""
    with pytest.raises(TypeError, match="has no argument 'sync'"):
        PolytomicSyncEventTrigger(sync="Orders")


def test_watcher_ignores_unknown_arguments_that_another_release_stored(caplog: pytest.LogCaptureFixture) -> None:
    """It logs a warning and keeps the arguments that it knows."""
    path, kwargs = trigger(sync_name="Orders").serialize()

    recreated = PolytomicSyncEventTrigger(**kwargs, from_the_future={"x": 1})

    assert recreated.serialize() == (path, kwargs)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["'from_the_future'"]


def test_serialize_contains_every_argument() -> None:
    """The arguments are plain JSON, and the trigger that they create is equal."""
    original = trigger(
        kind="bulk", sync_name="Orders", events=["failed"], trigger_source="api", polytomic_conn_id="other"
    )

    _, kwargs = original.serialize()

    assert kwargs == json.loads(json.dumps(kwargs))
    assert recreate_trigger(original).serialize() == original.serialize()


def test_equal_watchers_have_equal_serializations() -> None:
    """Airflow compares triggers by their serialization, so spelling, order and duplicates must not matter."""
    written = [
        trigger(events="completed,failed", poke_interval=timedelta(minutes=1)),
        trigger(events=("failed", "completed"), poke_interval=60),
        trigger(events=["failed", "completed", "failed"], poke_interval=60.0),
    ]

    assert len({json.dumps(one.serialize()) for one in written}) == 1


def test_serialize_contains_no_api_key(polytomic_sandbox: Sandbox) -> None:
    """The row of the trigger names the connection only."""
    assert polytomic_sandbox.key not in json.dumps(trigger().serialize()[1])


# --- the triggerer


class Store(dict[str, Any]):
    """Asset state store of Airflow ≥ 3.3."""

    broken = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.written: list[str] = []

    async def aget(self, key: str) -> Any:
        if self.broken:
            raise RuntimeError("the database is gone")
        return json.loads(self[key]) if key in self else None

    async def aset(self, key: str, value: Any) -> None:
        if self.broken:
            raise RuntimeError("the database is gone")
        self[key] = json.dumps(value)
        self.written.append(self[key])

    @property
    def position(self) -> Position:
        (kept,) = self.values()
        return Position.from_json(json.loads(kept))


class SlowStore(Store):
    """Store that handles one read at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = asyncio.Lock()

    async def aget(self, key: str) -> Any:
        async with self._turn:
            await asyncio.sleep(0.005)
            return await super().aget(key)


class Stores:
    """Stores of a trigger that several assets have."""

    def __init__(self, **by_name: Store) -> None:
        self._by_name = by_name


@dataclass
class Triggerer:
    """Runs watchers as a triggerer of Airflow ≥ 3.3 does, with Airflow's shared stream and a fake database."""

    confirms: bool = True  # whether events are stored in the database
    ack_timeout: float = 300.0  # seconds that Airflow waits for that
    fired: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shared_stream = pytest.importorskip("airflow.triggers.shared_stream")
        self.manager = shared_stream.SharedStreamManager(ack_timeout=self.ack_timeout)
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self, watcher: PolytomicSyncEventTrigger, store: Any = None) -> list[dict[str, Any]]:
        """Start a watcher, and return the list to which its payloads will be added."""
        watcher = recreate_trigger(watcher)
        watcher.asset_state_store = store
        number = len(self._tasks)
        self.fired[number] = []
        self._tasks.append(asyncio.create_task(self._run(number, watcher)))
        return self.fired[number]

    async def _run(self, number: int, watcher: PolytomicSyncEventTrigger) -> None:
        key = watcher.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=number, trigger=watcher, key=key)
        try:
            async for event in watcher.filter_shared_stream(stream):
                seq = self.manager.bind_pending_event(trigger_id=number, key=key)
                self.fired[number].append(json.loads(json.dumps(event.payload)))
                if self.confirms:
                    asyncio.get_running_loop().call_later(0.01, self.manager.confirm_persisted, [seq])
        finally:
            await self.manager.unsubscribe(number, key)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.manager.stop_all()

    @property
    def has_failed_watcher(self) -> bool:
        return any(task.done() for task in self._tasks)

    def check(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


@asynccontextmanager
async def triggerer(**how: Any) -> AsyncIterator[Triggerer]:
    running = Triggerer(**how)
    try:
        yield running
        running.check()
    finally:
        await running.stop()


async def until(probe: Callable[[], Any], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not probe():
        assert time.monotonic() < deadline, "timed out"
        await asyncio.sleep(0.01)


def count_polls(sandbox: Sandbox) -> int:
    """Count the successful requests for events."""
    return sum(request.path == "/api/events" and request.status == 200 for request in sandbox.requests)


async def wait_for_polls(sandbox: Sandbox, number: int = 3) -> None:
    """Wait for more polls, so that all current events have been read."""
    seen = count_polls(sandbox)
    await until(lambda: count_polls(sandbox) >= seen + number)


def end_execution(sandbox: Sandbox, sync_id: str = SYNC, status: str = "completed") -> str:
    execution = sandbox.run_on_schedule(sync_id)
    sandbox.finish(sync_id, execution.id, status)
    return execution.id


def ids(payloads: list[dict[str, Any]]) -> list[str]:
    return [payload["execution_id"] for payload in payloads]


@pytest.fixture
def polytomic_sandbox_speed() -> float:
    return 0.001  # executions do not end by themselves


def test_payload_contains_all_fields_of_the_event(polytomic_sandbox: Sandbox) -> None:
    """It is plain JSON, with None for fields that the event does not have."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(sync_id=SYNC))
            await wait_for_polls(polytomic_sandbox)
            execution_id = end_execution(polytomic_sandbox)
            await until(lambda: payloads)
            (payload,) = payloads
            (row,) = [
                row
                for row in json.loads(polytomic_sandbox.send(EVENTS).body)["data"]  # type: ignore[union-attr]
                if row["type"] == "bulk_sync.completed"
            ]
            assert payload == {
                "event_id": row["id"],
                "type": "bulk_sync.completed",
                "created_at": row["created_at"].replace("Z", "+00:00"),
                "kind": "bulk",
                "event": "completed",
                "sync_id": SYNC,
                "sync_name": "Salesforce to warehouse",
                "execution_id": execution_id,
                "source_connection_id": row["event"]["source_connection_id"],
                "destination_connection_id": row["event"]["destination_connection_id"],
                "target_connection_id": None,
                "trigger_source": "schedule",
                "error": None,
            }

    asyncio.run(scenario())


def test_watcher_fires_only_for_matching_executions(polytomic_sandbox: Sandbox) -> None:
    """It filters by sync, kind, end and source, and is not affected by other watchers."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            any_completed = airflow.watch(trigger())
            of_sync = airflow.watch(trigger(sync_name="Postgres to warehouse", events=["completed", "failed"]))
            of_models = airflow.watch(trigger(kind="model", events="completed"))
            failed = airflow.watch(trigger(kind="bulk", events=["failed", "canceled", "completed_with_errors"]))
            scheduled = airflow.watch(trigger(kind="bulk", trigger_source="schedule"))
            await wait_for_polls(polytomic_sandbox)
            one, two, three = (
                end_execution(polytomic_sandbox),
                end_execution(polytomic_sandbox, OTHER),
                end_execution(polytomic_sandbox, MODEL),
            )
            four, five = (
                end_execution(polytomic_sandbox, OTHER, "failed"),
                end_execution(polytomic_sandbox, SYNC, "errors"),
            )
            foreign = polytomic_sandbox.start_foreign(SYNC).id
            polytomic_sandbox.finish(SYNC, foreign)
            await wait_for_polls(polytomic_sandbox)
            assert ids(any_completed) == [one, two, three, foreign]
            assert ids(of_sync) == [two, four]
            assert ids(of_models) == [three]
            assert ids(failed) == [four, five]
            assert ids(scheduled) == [one, two]

    asyncio.run(scenario())


def test_watchers_share_one_poll(polytomic_sandbox: Sandbox) -> None:
    """Twenty watchers of a connection cause as many requests as one. The syncs that they name are listed once."""

    async def requests_for(number: int, interval: float) -> int:
        async with triggerer() as airflow:
            for index in range(number):
                airflow.watch(trigger(sync_name=f"Sync {index}", poke_interval=interval))
            before = len(polytomic_sandbox.requests)
            await wait_for_polls(polytomic_sandbox, 2)
            await asyncio.sleep(0.1)
            return len(polytomic_sandbox.requests) - before

    async def scenario() -> None:
        assert await requests_for(20, 30) == await requests_for(1, 30) == 2 + len(["bulk syncs", "model syncs"])

    asyncio.run(scenario())


@pytest.mark.parametrize("sync_id", [SYNC.upper(), f" {SYNC}\n"])
def test_watcher_matches_its_sync_however_the_id_is_written(polytomic_sandbox: Sandbox, sync_id: str) -> None:
    """A UUID in upper case, or with white space around it, is the id that Polytomic's events have."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(sync_id=sync_id))
            await wait_for_polls(polytomic_sandbox)
            execution_id = end_execution(polytomic_sandbox)
            await until(lambda: payloads)
            assert ids(payloads) == [execution_id]

    asyncio.run(scenario())
    assert trigger(sync_id=sync_id).serialize() == trigger(sync_id=SYNC).serialize()


NO_SYNC = "the organization has no such sync"


@pytest.mark.parametrize(
    ("wanted", "is_known"),
    [
        ({"sync_id": SYNC}, True),
        ({"sync_id": SYNC, "kind": "model"}, False),
        ({"sync_id": MODEL}, True),
        ({"sync_id": "00000000-0000-4000-8000-000000000000"}, False),
        ({"sync_name": "Salesforce to warehouse"}, True),
        ({"sync_name": "salesforce to warehouse"}, False),
        ({}, True),
    ],
)
def test_watcher_warns_once_when_the_organization_has_no_such_sync(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture, wanted: dict[str, Any], is_known: bool
) -> None:
    """It warns when it starts. A watcher of an existing sync does not warn."""
    caplog.set_level(logging.WARNING)

    async def scenario() -> None:
        async with triggerer() as airflow:
            airflow.watch(trigger(**wanted))
            await wait_for_polls(polytomic_sandbox, 4)

    asyncio.run(scenario())

    assert sum(NO_SYNC in message for message in caplog.messages) == (0 if is_known else 1)


def test_watcher_does_not_warn_about_a_missing_sync_when_the_syncs_cannot_be_listed(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed list proves nothing, and the watcher starts."""
    caplog.set_level(logging.WARNING)
    polytomic_sandbox.faults.status(403, "GET /api/syncs", times=None)

    async def scenario() -> None:
        async with triggerer() as airflow:
            airflow.watch(trigger(sync_name="Unknown"))
            payloads = airflow.watch(trigger(sync_id=SYNC))
            await wait_for_polls(polytomic_sandbox, 4)
            end_execution(polytomic_sandbox)
            await until(lambda: payloads)

    asyncio.run(scenario())

    assert not any(NO_SYNC in message for message in caplog.messages)


def test_watchers_share_polls_only_with_equal_connection_and_interval() -> None:
    """The key of the shared stream consists of these two."""
    keys = {one.shared_stream_key() for one in (trigger(), trigger(sync_id="x"), trigger(events="failed"))}
    others = {trigger(polytomic_conn_id="b").shared_stream_key(), trigger(poke_interval=7).shared_stream_key()}

    assert len(keys) == 1
    assert len(keys | others) == 3


def test_new_watcher_ignores_executions_that_ended_before(polytomic_sandbox: Sandbox) -> None:
    """It fires for those that end from then on."""

    async def scenario() -> None:
        end_execution(polytomic_sandbox)
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(), Store())
            await wait_for_polls(polytomic_sandbox)
            later = end_execution(polytomic_sandbox)
            await until(lambda: payloads)
            assert ids(payloads) == [later]

    asyncio.run(scenario())


def test_late_event_fires_once(polytomic_sandbox: Sandbox) -> None:
    """An event that appears after younger ones fires when it appears."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(), Store())
            await wait_for_polls(polytomic_sandbox)
            late = end_execution(polytomic_sandbox)
            polytomic_sandbox.delay_events(late, 0.5)
            punctual = end_execution(polytomic_sandbox)
            await until(lambda: len(payloads) == 2)
            await wait_for_polls(polytomic_sandbox)
            assert ids(payloads) == [punctual, late]

    asyncio.run(scenario())


def test_burst_of_several_pages_fires_completely_in_order(polytomic_sandbox: Sandbox) -> None:
    """More events than a page contains, between two polls, fire in the order of their times."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(poke_interval=1), Store())
            await wait_for_polls(polytomic_sandbox, 2)
            burst = [end_execution(polytomic_sandbox) for _ in range(120)]
            await until(lambda: len(payloads) >= 120)
            await wait_for_polls(polytomic_sandbox, 2)
            assert ids(payloads) == burst

    asyncio.run(scenario())


def test_last_of_several_events_fires_after_a_pause(polytomic_sandbox: Sandbox) -> None:
    """The scheduler starts the run of the first event meanwhile, and another run for all others with the last one."""
    pause = 1.0

    async def scenario() -> None:
        watcher = recreate_trigger(trigger(poke_interval=pause))
        poller = watcher.create_shared_stream_producer(watcher.serialize()[1])

        async def batches() -> AsyncIterator[_event_poller.EventBatch]:
            for ends in (0, 3, 1):
                for _ in range(ends):
                    end_execution(polytomic_sandbox)
                batch = await poller.poll()
                assert batch is not None
                yield batch

        times = [time.monotonic() async for _ in watcher.filter_shared_stream(batches())]
        await poller.aclose()
        _, second, third, fourth = times
        assert third - second >= 0.9 * pause
        assert fourth - third >= 0.9 * pause

    asyncio.run(scenario())


# --- restarts


def test_restarted_watcher_continues_from_its_saved_position(polytomic_sandbox: Sandbox) -> None:
    """Executions that ended while no triggerer ran fire once; earlier ones do not fire again."""

    async def scenario() -> None:
        store = Store()
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: store)
            first = end_execution(polytomic_sandbox)
            await until(lambda: first in store.position.seen)
            assert ids(payloads) == [first]
        second = end_execution(polytomic_sandbox)
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: payloads)
            await wait_for_polls(polytomic_sandbox)
            assert ids(payloads) == [second]

    asyncio.run(scenario())


def test_event_that_airflow_has_not_stored_fires_again_after_a_restart(polytomic_sandbox: Sandbox) -> None:
    """The position is not saved before Airflow has stored the event."""

    async def scenario() -> None:
        store = Store()
        async with triggerer(confirms=False) as airflow:
            payloads = airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: store)
            unstored = end_execution(polytomic_sandbox)
            await until(lambda: payloads)
            await wait_for_polls(polytomic_sandbox)
        assert store.position.seen == {}
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: payloads)
            assert ids(payloads) == [unstored]

    asyncio.run(scenario())


def test_position_stays_before_an_event_that_airflow_could_not_store(polytomic_sandbox: Sandbox) -> None:
    """Airflow fails the watcher, and its saved position does not contain the event."""

    async def scenario() -> None:
        store = Store()
        async with triggerer() as airflow:
            airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: store)
        running = Triggerer(confirms=False, ack_timeout=0.3)
        payloads = running.watch(trigger(sync_id=SYNC), store)
        running.watch(trigger(events="failed"), Store())
        await wait_for_polls(polytomic_sandbox)
        unstored = end_execution(polytomic_sandbox)
        await until(lambda: payloads and running.has_failed_watcher)
        await wait_for_polls(polytomic_sandbox)
        await running.stop()
        assert not any(unstored in written for written in store.written)

    asyncio.run(scenario())


def test_restarted_watchers_share_one_longer_poll(polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers that missed an hour cause one additional poll, not one each."""
    monkeypatch.setattr(_event_poller, "GATHER_DELAY", 0.3)

    async def scenario() -> None:
        end_execution(polytomic_sandbox)
        store = SlowStore()
        watchers = [trigger(sync_name=f"Sync {number}", poke_interval=30) for number in range(20)]
        for watcher in watchers:
            await store.aset(watcher._key, Position(time.time() - HOUR, time.time() - HOUR).to_json())
        async with triggerer() as airflow:
            for watcher in watchers:
                airflow.watch(watcher, store)
            await until(lambda: count_polls(polytomic_sandbox) == 3)
            await until(lambda: all(json.loads(kept)["polled_at"] > time.time() - 60 for kept in store.values()))
        assert count_polls(polytomic_sandbox) == 3

    asyncio.run(scenario())


def test_watcher_does_not_repeat_the_events_of_another_triggerer(polytomic_sandbox: Sandbox) -> None:
    """A triggerer that froze does not fire events that its replacement has fired."""

    async def scenario() -> None:
        store = Store()
        async with triggerer() as frozen, triggerer() as standing_in:
            payloads = frozen.watch(trigger(), store)
            await until(lambda: store)
            frozen_for = polytomic_sandbox.faults.delay(0.8, "GET /api/events")
            await until(lambda: frozen_for.hits)
            execution_id = end_execution(polytomic_sandbox)
            also = standing_in.watch(trigger(), store)
            await until(lambda: also and execution_id in store.position.seen)
            await wait_for_polls(polytomic_sandbox, 10)
            await asyncio.sleep(1)
            assert (ids(also), ids(payloads)) == ([execution_id], [])

    asyncio.run(scenario())


def test_outdated_watcher_does_not_reset_the_saved_position(
    polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triggerer that froze and continues with an old batch keeps the newer position."""
    monkeypatch.setattr(events, "SAVE_INTERVAL", 0.0)

    async def scenario() -> None:
        store = Store()
        async with triggerer() as frozen, triggerer() as standing_in:
            frozen.watch(trigger(), store)
            await until(lambda: store)
            frozen_for = polytomic_sandbox.faults.delay(0.8, "GET /api/events", after=True)
            await until(lambda: frozen_for.hits)
            await asyncio.sleep(0.1)
            execution_id = end_execution(polytomic_sandbox)
            standing_in.watch(trigger(), store)
            await until(lambda: execution_id in store.position.seen)
            written_before = len(store.written)
            await asyncio.sleep(1)
            assert all(execution_id in written for written in store.written[written_before:])

    asyncio.run(scenario())


def test_watcher_waits_until_its_position_can_be_read(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not start from now when the store fails, and fires for missed executions later."""

    async def scenario() -> None:
        store = Store()
        async with triggerer() as airflow:
            airflow.watch(trigger(), store)
            await until(lambda: store)
        missed = end_execution(polytomic_sandbox)
        store.broken = True
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(), store)
            await until(lambda: "could not determine yet" in caplog.text)
            assert payloads == []
            store.broken = False
            await until(lambda: payloads)
            assert ids(payloads) == [missed]

    asyncio.run(scenario())


def test_watcher_starts_from_now_when_its_position_is_invalid(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """It logs a warning, because someone may have edited the position."""

    async def scenario() -> None:
        watcher = trigger()
        store = Store({watcher._key: '"yesterday"'})
        async with triggerer() as airflow:
            airflow.watch(watcher, store)
            await until(lambda: "yesterday" not in store[watcher._key])

    asyncio.run(scenario())
    assert "invalid stored position" in caplog.text


def test_equal_watchers_of_several_assets_save_the_position_with_each(polytomic_sandbox: Sandbox) -> None:
    """Airflow makes one trigger of them, and the position of any asset suffices to continue."""

    async def scenario() -> None:
        one, other = Store(), Store()
        async with triggerer() as airflow:
            airflow.watch(trigger(), Stores(one=one, other=other))
            await until(lambda: one and other)
        missed = end_execution(polytomic_sandbox)
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(), Stores(other=other, new=Store()))
            await until(lambda: payloads)
            assert ids(payloads) == [missed]

    asyncio.run(scenario())


def test_watchers_of_one_asset_have_separate_positions(polytomic_sandbox: Sandbox) -> None:
    """Another poke_interval does not change the position."""
    watchers = [trigger(), trigger(sync_id="x"), trigger(events="failed"), trigger(polytomic_conn_id="other")]

    assert len({watcher._key for watcher in watchers}) == 4
    assert trigger(poke_interval=7)._key == trigger(poke_interval=8)._key


# --- expired events


class AdjustableClock:
    """A clock that a test can move forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> AdjustableClock:
    return AdjustableClock()


@pytest.fixture
def old_sandbox(clock: AdjustableClock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A sandbox whose time the test moves forward."""
    sandbox = Sandbox(speed=0.001, now=clock)
    server = Server(sandbox)
    connection = {"conn_type": "polytomic", "host": server.url, "password": sandbox.key}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
    yield sandbox
    server.close()


@pytest.mark.parametrize(
    ("watched", "missed"),
    [
        ({}, ["one", "two", "model"]),
        ({"sync_id": SYNC}, ["one"]),
        ({"sync_id": MODEL, "kind": "model"}, ["model"]),
        ({"sync_name": "Postgres to warehouse", "events": ["completed", "failed"]}, ["two", "failed"]),
        ({"kind": "bulk", "events": "failed"}, ["failed"]),
        ({"sync_id": "gone"}, []),
        ({"kind": "bulk", "trigger_source": "schedule"}, []),
    ],
)
def test_watcher_lists_executions_when_events_have_expired(
    old_sandbox: Sandbox, clock: AdjustableClock, watched: dict[str, Any], missed: list[str]
) -> None:
    """After more than two days it fires for the executions of its syncs instead of the missing events."""

    async def scenario() -> None:
        watcher, store = trigger(**watched), Store()
        before = end_execution(old_sandbox)
        clock.ahead += HOUR
        seen = Position(clock() - 700, time.time() - 55 * HOUR)
        await store.aset(watcher._key, seen.to_json())
        ended = {
            "one": end_execution(old_sandbox),
            "two": end_execution(old_sandbox, OTHER),
            "model": end_execution(old_sandbox, MODEL),
            "failed": end_execution(old_sandbox, OTHER, "failed"),
        }
        clock.ahead += 55 * HOUR
        last = end_execution(old_sandbox)
        async with triggerer() as airflow:
            payloads = airflow.watch(watcher, store)
            await wait_for_polls(old_sandbox, 4)
            matches_last = (
                watched.get("sync_id", SYNC) == SYNC and "sync_name" not in watched and "events" not in watched
            )
            expected = [ended[name] for name in missed] + [last] * matches_last
            await until(lambda: len(payloads) >= len(expected))
            await wait_for_polls(old_sandbox, 4)
            assert ids(payloads) == expected
            assert before not in ids(payloads)
        asked = [request for request in old_sandbox.requests if request.path.endswith("/executions")]
        assert bool(asked) == ("trigger_source" not in watched and watched.get("sync_id") != "gone")

    asyncio.run(scenario())


def test_watcher_retries_until_the_executions_can_be_listed(
    old_sandbox: Sandbox, clock: AdjustableClock, caplog: pytest.LogCaptureFixture
) -> None:
    """No execution is skipped when the list fails at first."""

    async def scenario() -> None:
        watcher, store = trigger(sync_id=SYNC, kind="bulk"), Store()
        await store.aset(watcher._key, Position(clock() - 700, time.time() - 55 * HOUR).to_json())
        missed = end_execution(old_sandbox)
        clock.ahead += 55 * HOUR
        old_sandbox.faults.garbage("html", "GET .*/executions")
        async with triggerer() as airflow:
            payloads = airflow.watch(watcher, store)
            await until(lambda: payloads)
            assert ids(payloads) == [missed]

    asyncio.run(scenario())
    assert "could not determine yet" in caplog.text


@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ("GET .*/b0[^/]*1/executions", [OTHER, MODEL]),
        ("GET /api/syncs", [SYNC, OTHER]),
        ("GET /api/bulk/syncs", [MODEL]),
    ],
)
def test_watcher_skips_executions_that_the_key_may_not_read(
    old_sandbox: Sandbox, clock: AdjustableClock, caplog: pytest.LogCaptureFixture, refused: str, left: list[str]
) -> None:
    """It logs that some may be missed, and fires for all others."""

    async def scenario() -> None:
        watcher, store = trigger(), Store()
        await store.aset(watcher._key, Position(clock() - 700, time.time() - 55 * HOUR).to_json())
        ended = {sync: end_execution(old_sandbox, sync) for sync in (SYNC, OTHER, MODEL)}
        clock.ahead += 55 * HOUR
        old_sandbox.faults.status(403, refused, times=None)
        async with triggerer() as airflow:
            payloads = airflow.watch(watcher, store)
            await until(lambda: len(payloads) >= len(left))
            later_on = end_execution(old_sandbox)
            await until(lambda: later_on in ids(payloads))
            assert ids(payloads) == [*(ended[sync] for sync in left), later_on]

    asyncio.run(scenario())
    assert "may be missed" in caplog.text


def test_watcher_continues_without_executions_that_take_too_long_to_list(
    old_sandbox: Sandbox, clock: AdjustableClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It logs that some may be missed."""
    monkeypatch.setattr(events, "CATCH_UP_TIMEOUT", 0.2)

    async def scenario() -> None:
        watcher, store = trigger(), Store()
        await store.aset(watcher._key, Position(clock() - 700, time.time() - 55 * HOUR).to_json())
        end_execution(old_sandbox)
        clock.ahead += 55 * HOUR
        old_sandbox.faults.delay(5, "GET .*/syncs", times=None)
        async with triggerer() as airflow:
            payloads = airflow.watch(watcher, store)
            await until(lambda: "some may be missed" in caplog.text)
            await wait_for_polls(old_sandbox, 2)
            execution_id = end_execution(old_sandbox)
            await until(lambda: payloads)
            assert ids(payloads) == [execution_id]

    asyncio.run(scenario())


# --- failures


@pytest.mark.parametrize(
    ("fail", "warns"),
    [
        (lambda faults: faults.status(503, "GET /api/events", times=2), False),  # the call is retried
        (lambda faults: faults.garbage("html", "GET /api/events", times=3), True),
        (lambda faults: faults.garbage("cut", "GET /api/events", times=3), True),
        (lambda faults: faults.status(401, "GET /api/events", times=3), True),
        (lambda faults: faults.status(302, "GET /api/events", times=3, headers={"location": "https://else/"}), True),
    ],
    ids=["503", "a proxy's page", "a cut response", "401", "a redirect"],
)
def test_watcher_survives_failed_polls(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture, fail: Callable[[Any], Any], warns: bool
) -> None:
    """It warns, continues, and fires for executions that ended meanwhile."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger())
            await wait_for_polls(polytomic_sandbox)
            fault = fail(polytomic_sandbox.faults)
            meanwhile = end_execution(polytomic_sandbox)
            await until(lambda: fault.left == 0 and payloads)
            assert ids(payloads) == [meanwhile]

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert ("Could not read the events" in caplog.text, "Read the events" in caplog.text) == (warns, warns)
    assert polytomic_sandbox.key not in caplog.text


def test_watcher_reads_the_connection_again_when_the_key_is_rejected(
    polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It warns, and continues as soon as the connection contains the new key."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger())
            await wait_for_polls(polytomic_sandbox)
            polytomic_sandbox.rotate_key("another-key")
            meanwhile = end_execution(polytomic_sandbox)
            await until(lambda: "Could not read the events" in caplog.text)
            connection = {"conn_type": "polytomic", "host": polytomic_sandbox.url, "password": "another-key"}
            monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
            await until(lambda: payloads)
            assert ids(payloads) == [meanwhile]

    asyncio.run(scenario())


def test_watcher_starts_when_its_connection_is_created(
    polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing connection does not fail it."""
    import os

    connection = os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"]

    async def scenario() -> None:
        async with triggerer() as airflow:
            payloads = airflow.watch(trigger(polytomic_conn_id="later"))
            await asyncio.sleep(0.3)
            monkeypatch.setenv("AIRFLOW_CONN_LATER", connection)
            await wait_for_polls(polytomic_sandbox)
            execution_id = end_execution(polytomic_sandbox)
            await until(lambda: payloads)
            assert ids(payloads) == [execution_id]

    asyncio.run(scenario())


def test_warnings_become_rarer_during_an_outage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Failures 1, 2, 4, 8 … are logged."""
    monkeypatch.delenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", raising=False)

    async def scenario() -> None:
        stream = _event_poller.EventPoller(PolytomicHook("no_such_connection"), 1)
        for _ in range(20):
            assert await stream.poll() is None

    asyncio.run(scenario())
    warnings = [message for message in caplog.messages if "Could not read the events" in message]
    assert [int(re.findall(r", (\d+) times in a row", message)[0]) for message in warnings] == [1, 2, 4, 8, 16]


def test_http_session_closes_with_the_last_watcher(polytomic_sandbox: Sandbox) -> None:
    """The session is shared until then."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            airflow.watch(trigger())
            airflow.watch(trigger(sync_id=SYNC))
            await wait_for_polls(polytomic_sandbox)
            assert aiohttp_transport._shared.get(asyncio.get_running_loop())
        assert not aiohttp_transport._shared.get(asyncio.get_running_loop())

    asyncio.run(scenario())


# --- before Airflow 3.3


def test_run_polls_for_one_watcher(polytomic_sandbox: Sandbox) -> None:
    """Before Airflow 3.3 nothing is shared. It fires for executions that end after its first poll, and closes its
    session.
    """

    async def scenario() -> None:
        end_execution(polytomic_sandbox)
        running = recreate_trigger(trigger(sync_id=SYNC)).run()
        first = asyncio.ensure_future(anext(running))
        await wait_for_polls(polytomic_sandbox)
        executions = [end_execution(polytomic_sandbox)]
        payloads = [(await first).payload]
        executions.append(end_execution(polytomic_sandbox))
        payloads.append((await anext(running)).payload)
        assert ids(payloads) == executions
        await running.aclose()
        assert not aiohttp_transport._shared.get(asyncio.get_running_loop())

    asyncio.run(scenario())


def test_poll_does_not_block_the_event_loop(polytomic_sandbox: Sandbox) -> None:
    """Other tasks run while it waits for a response."""
    turns = itertools.count()

    async def scenario() -> None:
        async def others() -> None:
            while True:
                next(turns)
                await asyncio.sleep(0)

        beside = asyncio.create_task(others())
        async with triggerer() as airflow:
            airflow.watch(trigger())
            polytomic_sandbox.faults.delay(0.3, "GET /api/events")
            await wait_for_polls(polytomic_sandbox, 1)
        beside.cancel()

    asyncio.run(scenario())
    assert next(turns) > 100
