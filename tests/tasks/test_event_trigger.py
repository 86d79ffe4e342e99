"""The trigger of an asset watcher, with a sandbox behind its connection, in Airflow's own machinery."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
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
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import POSTGRES_TO_WAREHOUSE as OTHER
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sandbox.seed import WAREHOUSE_TO_SALESFORCE as MODEL
from airflow_provider_polytomic.sandbox.server import Server
from airflow_provider_polytomic.triggers import events as module
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
def test_bad_arguments_are_refused_when_the_dag_is_read(arguments: dict[str, Any], named: str) -> None:
    """A watcher that would never fire, or for the wrong thing, is none: the message names the argument."""
    with pytest.raises(ValueError, match=named):
        PolytomicSyncEventTrigger(**arguments)


def test_an_argument_that_does_not_exist_is_refused() -> None:
    """A slip of the pen would otherwise make a watcher for any sync."""
    with pytest.raises(TypeError, match="has no argument 'sync'"):
        PolytomicSyncEventTrigger(sync="Orders")


def test_a_row_of_another_release_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    """Arguments that this release does not know are passed over with a warning, if Airflow has them from a row."""
    path, kwargs = trigger(sync_name="Orders").serialize()

    revived = PolytomicSyncEventTrigger(**kwargs, from_the_future={"x": 1})

    assert revived.serialize() == (path, kwargs)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["'from_the_future'"]


def test_what_is_stored_of_it_brings_it_back() -> None:
    """serialize() holds every argument as plain JSON, and makes an equal trigger again."""
    told = trigger(kind="bulk", sync_name="Orders", events=["failed"], trigger_source="api", polytomic_conn_id="other")

    _, kwargs = told.serialize()

    assert kwargs == json.loads(json.dumps(kwargs))
    assert recreate_trigger(told).serialize() == told.serialize()


def test_equal_watchers_are_one_however_they_are_written() -> None:
    """Airflow tells triggers apart by what is stored of them: spelling, order and doubles must not count."""
    written = [
        trigger(events="completed,failed", poke_interval=timedelta(minutes=1)),
        trigger(events=("failed", "completed"), poke_interval=60),
        trigger(events=["failed", "completed", "failed"], poke_interval=60.0),
    ]

    assert len({json.dumps(one.serialize()) for one in written}) == 1


def test_the_key_is_not_in_what_is_stored(polytomic_sandbox: Sandbox) -> None:
    """The trigger's row names the connection, and holds nothing of what the connection holds."""
    assert polytomic_sandbox.key not in json.dumps(trigger().serialize()[1])


# --- what Airflow does with it


class Store(dict[str, Any]):
    """What Airflow ≥ 3.3 keeps for an asset."""

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
    """One that is asked one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = asyncio.Lock()

    async def aget(self, key: str) -> Any:
        async with self._turn:
            await asyncio.sleep(0.005)
            return await super().aget(key)


class Stores:
    """The same for a trigger that several assets have."""

    def __init__(self, **by_name: Store) -> None:
        self._by_name = by_name


@dataclass
class Triggerer:
    """Runs watchers as a triggerer of Airflow ≥ 3.3 does: with Airflow's own stream, and a database that is told."""

    confirms: bool = True  # whether events get into the database
    patience: float = 300.0  # seconds that Airflow grants for that
    told: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shared_stream = pytest.importorskip("airflow.triggers.shared_stream")
        self.manager = shared_stream.SharedStreamManager(ack_timeout=self.patience)
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self, watcher: PolytomicSyncEventTrigger, store: Any = None) -> list[dict[str, Any]]:
        """Start a watcher; returns the list to which its events will be added."""
        watcher = recreate_trigger(watcher)
        watcher.asset_state_store = store
        number = len(self._tasks)
        self.told[number] = []
        self._tasks.append(asyncio.create_task(self._run(number, watcher)))
        return self.told[number]

    async def _run(self, number: int, watcher: PolytomicSyncEventTrigger) -> None:
        key = watcher.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=number, trigger=watcher, key=key)
        try:
            async for event in watcher.filter_shared_stream(stream):
                seq = self.manager.bind_pending_event(trigger_id=number, key=key)
                self.told[number].append(json.loads(json.dumps(event.payload)))
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
    def given_up(self) -> bool:
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
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def looks(sandbox: Sandbox) -> int:
    """How often the events were read to a good end."""
    return sum(request.path == "/api/events" and request.status == 200 for request in sandbox.requests)


async def more_looks(sandbox: Sandbox, number: int = 3) -> None:
    """Wait until whoever looks has looked again, so that what there is has been seen."""
    seen = looks(sandbox)
    await until(lambda: looks(sandbox) >= seen + number)


def end(sandbox: Sandbox, sync_id: str = SYNC, status: str = "completed") -> str:
    execution = sandbox.run_on_schedule(sync_id)
    sandbox.finish(sync_id, execution.id, status)
    return execution.id


def ids(told: list[dict[str, Any]]) -> list[str]:
    return [payload["execution_id"] for payload in told]


@pytest.fixture
def polytomic_sandbox_speed() -> float:
    return 0.001  # nothing ends by itself


def test_it_tells_what_polytomic_tells(polytomic_sandbox: Sandbox) -> None:
    """The payload is plain JSON with all that the event holds, and None for what it does not."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            told = airflow.watch(trigger(sync_id=SYNC))
            await more_looks(polytomic_sandbox)
            execution_id = end(polytomic_sandbox)
            await until(lambda: told)
            (payload,) = told
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


def test_each_watcher_is_told_what_it_watches_for(polytomic_sandbox: Sandbox) -> None:
    """Sync, kind, end and source decide; whoever started it, and whatever others watch for."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            any_completed = airflow.watch(trigger())
            of_sync = airflow.watch(trigger(sync_name="Postgres to warehouse", events=["completed", "failed"]))
            of_models = airflow.watch(trigger(kind="model", events="completed"))
            failed = airflow.watch(trigger(kind="bulk", events=["failed", "canceled", "completed_with_errors"]))
            scheduled = airflow.watch(trigger(kind="bulk", trigger_source="schedule"))
            await more_looks(polytomic_sandbox)
            one, two, three = end(polytomic_sandbox), end(polytomic_sandbox, OTHER), end(polytomic_sandbox, MODEL)
            four, five = end(polytomic_sandbox, OTHER, "failed"), end(polytomic_sandbox, SYNC, "errors")
            foreign = polytomic_sandbox.start_foreign(SYNC).id
            polytomic_sandbox.finish(SYNC, foreign)
            await more_looks(polytomic_sandbox)
            assert ids(any_completed) == [one, two, three, foreign]
            assert ids(of_sync) == [two, four]
            assert ids(of_models) == [three]
            assert ids(failed) == [four, five]
            assert ids(scheduled) == [one, two]

    asyncio.run(scenario())


def test_many_watchers_share_one_look(polytomic_sandbox: Sandbox) -> None:
    """Twenty watchers of a connection cause no request more than one does; syncs that they name are listed once."""

    async def requests_for(number: int, interval: float) -> int:
        async with triggerer() as airflow:
            for index in range(number):
                airflow.watch(trigger(sync_name=f"Sync {index}", poke_interval=interval))
            before = len(polytomic_sandbox.requests)
            await more_looks(polytomic_sandbox, 2)
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
            told = airflow.watch(trigger(sync_id=sync_id))
            await more_looks(polytomic_sandbox)
            execution_id = end(polytomic_sandbox)
            await until(lambda: told)
            assert ids(told) == [execution_id]

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
    """A watcher that cannot fire says so when it begins, and only then; any other is silent."""
    caplog.set_level(logging.WARNING)

    async def scenario() -> None:
        async with triggerer() as airflow:
            airflow.watch(trigger(**wanted))
            await more_looks(polytomic_sandbox, 4)

    asyncio.run(scenario())

    assert sum(NO_SYNC in message for message in caplog.messages) == (0 if is_known else 1)


def test_watcher_warns_of_no_sync_when_the_syncs_cannot_be_listed(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed list proves nothing; the watcher begins all the same."""
    caplog.set_level(logging.WARNING)
    polytomic_sandbox.faults.status(403, "GET /api/syncs", times=None)

    async def scenario() -> None:
        async with triggerer() as airflow:
            airflow.watch(trigger(sync_name="Unknown"))
            told = airflow.watch(trigger(sync_id=SYNC))
            await more_looks(polytomic_sandbox, 4)
            end(polytomic_sandbox)
            await until(lambda: told)

    asyncio.run(scenario())

    assert not any(NO_SYNC in message for message in caplog.messages)


def test_other_connections_and_intervals_have_looks_of_their_own() -> None:
    """What is shared has the same key of what it is asked with."""
    keys = {one.shared_stream_key() for one in (trigger(), trigger(sync_id="x"), trigger(events="failed"))}
    others = {trigger(polytomic_conn_id="b").shared_stream_key(), trigger(poke_interval=7).shared_stream_key()}

    assert len(keys) == 1
    assert len(keys | others) == 3


def test_what_ended_before_it_began_is_not_told(polytomic_sandbox: Sandbox) -> None:
    """A new watcher is told of what ends from now on."""

    async def scenario() -> None:
        end(polytomic_sandbox)
        async with triggerer() as airflow:
            told = airflow.watch(trigger(), Store())
            await more_looks(polytomic_sandbox)
            later = end(polytomic_sandbox)
            await until(lambda: told)
            assert ids(told) == [later]

    asyncio.run(scenario())


def test_late_events_are_told_once(polytomic_sandbox: Sandbox) -> None:
    """An event that turns up after younger ones is told when it does, and never again."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            told = airflow.watch(trigger(), Store())
            await more_looks(polytomic_sandbox)
            late = end(polytomic_sandbox)
            polytomic_sandbox.delay_events(late, 0.5)
            punctual = end(polytomic_sandbox)
            await until(lambda: len(told) == 2)
            await more_looks(polytomic_sandbox)
            assert ids(told) == [punctual, late]

    asyncio.run(scenario())


def test_a_burst_of_pages_is_told_whole(polytomic_sandbox: Sandbox) -> None:
    """More events than a page holds, between two looks, are all told, in the order of their times."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            told = airflow.watch(trigger(poke_interval=1), Store())
            await more_looks(polytomic_sandbox, 2)
            burst = [end(polytomic_sandbox) for _ in range(120)]
            await until(lambda: len(told) >= 120)
            await more_looks(polytomic_sandbox, 2)
            assert ids(told) == burst

    asyncio.run(scenario())


# --- restarts


def test_a_restart_goes_on_where_it_ended(polytomic_sandbox: Sandbox) -> None:
    """What ended while no triggerer ran is told after, and what was told before is not told again."""

    async def scenario() -> None:
        store = Store()
        async with triggerer() as airflow:
            told = airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: store)
            first = end(polytomic_sandbox)
            await until(lambda: first in store.position.seen)
            assert ids(told) == [first]
        second = end(polytomic_sandbox)
        async with triggerer() as airflow:
            told = airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: told)
            await more_looks(polytomic_sandbox)
            assert ids(told) == [second]

    asyncio.run(scenario())


def test_what_airflow_has_not_stored_is_told_again(polytomic_sandbox: Sandbox) -> None:
    """A triggerer that dies with an event in its hands has not passed over it."""

    async def scenario() -> None:
        store = Store()
        async with triggerer(confirms=False) as airflow:
            told = airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: store)
            lost = end(polytomic_sandbox)
            await until(lambda: told)
            await more_looks(polytomic_sandbox)
        assert store.position.seen == {}
        async with triggerer() as airflow:
            told = airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: told)
            assert ids(told) == [lost]

    asyncio.run(scenario())


def test_what_airflow_could_not_store_is_not_passed_over(polytomic_sandbox: Sandbox) -> None:
    """When Airflow gives a watcher up over an event, its position stays before that event."""

    async def scenario() -> None:
        store = Store()
        async with triggerer() as airflow:
            airflow.watch(trigger(sync_id=SYNC), store)
            await until(lambda: store)
        running = Triggerer(confirms=False, patience=0.3)
        told = running.watch(trigger(sync_id=SYNC), store)
        running.watch(trigger(events="failed"), Store())
        await more_looks(polytomic_sandbox)
        lost = end(polytomic_sandbox)
        await until(lambda: told and running.given_up)
        await more_looks(polytomic_sandbox)
        await running.stop()
        assert not any(lost in written for written in store.written)

    asyncio.run(scenario())


def test_after_a_restart_all_look_back_together(polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers that missed an hour cause one longer look, not one each."""
    monkeypatch.setattr(module, "GATHER_DELAY", 0.3)

    async def scenario() -> None:
        end(polytomic_sandbox)
        store = SlowStore()
        watchers = [trigger(sync_name=f"Sync {number}", poke_interval=30) for number in range(20)]
        for watcher in watchers:
            await store.aset(watcher._key, Position(time.time() - HOUR, time.time() - HOUR).to_json())
        async with triggerer() as airflow:
            for watcher in watchers:
                airflow.watch(watcher, store)
            await until(lambda: looks(polytomic_sandbox) == 3)
            await until(lambda: all(json.loads(kept)["polled_at"] > time.time() - 60 for kept in store.values()))
        assert looks(polytomic_sandbox) == 3

    asyncio.run(scenario())


def test_a_watcher_that_another_triggerer_had_meanwhile(polytomic_sandbox: Sandbox) -> None:
    """A triggerer that froze does not tell again, when it wakes, what the one that stood in for it has told."""

    async def scenario() -> None:
        store = Store()
        async with triggerer() as frozen, triggerer() as standing_in:
            told = frozen.watch(trigger(), store)
            await until(lambda: store)
            frozen_for = polytomic_sandbox.faults.delay(0.8, "GET /api/events")
            await until(lambda: frozen_for.hits)
            execution_id = end(polytomic_sandbox)
            also = standing_in.watch(trigger(), store)
            await until(lambda: also and execution_id in store.position.seen)
            await more_looks(polytomic_sandbox, 10)
            await asyncio.sleep(1)
            assert (ids(also), ids(told)) == ([execution_id], [])

    asyncio.run(scenario())


def test_who_lags_behind_saves_nothing_over_who_is_ahead(
    polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triggerer that froze, and wakes with an old look, does not set the position back."""
    monkeypatch.setattr(module, "SAVE_INTERVAL", 0.0)

    async def scenario() -> None:
        store = Store()
        async with triggerer() as frozen, triggerer() as standing_in:
            frozen.watch(trigger(), store)
            await until(lambda: store)
            frozen_for = polytomic_sandbox.faults.delay(0.8, "GET /api/events", after=True)
            await until(lambda: frozen_for.hits)
            await asyncio.sleep(0.1)
            execution_id = end(polytomic_sandbox)
            standing_in.watch(trigger(), store)
            await until(lambda: execution_id in store.position.seen)
            told_by = len(store.written)
            await asyncio.sleep(1)
            assert all(execution_id in written for written in store.written[told_by:])

    asyncio.run(scenario())


def test_a_store_that_cannot_be_reached_is_waited_for(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A watcher whose position cannot be read does not begin anew: it goes on when it can be."""

    async def scenario() -> None:
        store = Store()
        async with triggerer() as airflow:
            airflow.watch(trigger(), store)
            await until(lambda: store)
        missed = end(polytomic_sandbox)
        store.broken = True
        async with triggerer() as airflow:
            told = airflow.watch(trigger(), store)
            await until(lambda: "cannot be told yet" in caplog.text)
            assert told == []
            store.broken = False
            await until(lambda: told)
            assert ids(told) == [missed]

    asyncio.run(scenario())


def test_what_is_stored_but_makes_no_sense_is_passed_over(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody may have edited it: the watcher begins now, and says so."""

    async def scenario() -> None:
        watcher = trigger()
        store = Store({watcher._key: '"yesterday"'})
        async with triggerer() as airflow:
            airflow.watch(watcher, store)
            await until(lambda: "yesterday" not in store[watcher._key])

    asyncio.run(scenario())
    assert "passed over" in caplog.text


def test_several_assets_can_have_an_equal_watcher(polytomic_sandbox: Sandbox) -> None:
    """Airflow makes one trigger of them; its position is kept with each, and any of these is enough."""

    async def scenario() -> None:
        one, other = Store(), Store()
        async with triggerer() as airflow:
            airflow.watch(trigger(), Stores(one=one, other=other))
            await until(lambda: one and other)
        missed = end(polytomic_sandbox)
        async with triggerer() as airflow:
            told = airflow.watch(trigger(), Stores(other=other, new=Store()))
            await until(lambda: told)
            assert ids(told) == [missed]

    asyncio.run(scenario())


def test_watchers_of_one_asset_keep_apart(polytomic_sandbox: Sandbox) -> None:
    """Each has a position of its own, which another poke_interval does not change."""
    watchers = [trigger(), trigger(sync_id="x"), trigger(events="failed"), trigger(polytomic_conn_id="other")]

    assert len({watcher._key for watcher in watchers}) == 4
    assert trigger(poke_interval=7)._key == trigger(poke_interval=8)._key


# --- a longer absence


class Later:
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def old_sandbox(later: Later, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A sandbox whose time the test puts forward."""
    sandbox = Sandbox(speed=0.001, now=later)
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
def test_after_more_than_two_days_the_executions_tell(
    old_sandbox: Sandbox, later: Later, watched: dict[str, Any], missed: list[str]
) -> None:
    """When events are gone that a watcher has not seen, it is told what the executions of its syncs tell."""

    async def scenario() -> None:
        watcher, store = trigger(**watched), Store()
        before = end(old_sandbox)
        later.ahead += HOUR
        seen = Position(later() - 700, time.time() - 55 * HOUR)
        await store.aset(watcher._key, seen.to_json())
        happened = {
            "one": end(old_sandbox),
            "two": end(old_sandbox, OTHER),
            "model": end(old_sandbox, MODEL),
            "failed": end(old_sandbox, OTHER, "failed"),
        }
        later.ahead += 55 * HOUR
        still_there = end(old_sandbox)
        async with triggerer() as airflow:
            told = airflow.watch(watcher, store)
            await more_looks(old_sandbox, 4)
            takes_it = watched.get("sync_id", SYNC) == SYNC and "sync_name" not in watched and "events" not in watched
            expected = [happened[name] for name in missed] + [still_there] * takes_it
            await until(lambda: len(told) >= len(expected))
            await more_looks(old_sandbox, 4)
            assert ids(told) == expected
            assert before not in ids(told)
        asked = [request for request in old_sandbox.requests if request.path.endswith("/executions")]
        assert bool(asked) == ("trigger_source" not in watched and watched.get("sync_id") != "gone")

    asyncio.run(scenario())


def test_a_long_absence_is_retried_until_the_executions_are_read(
    old_sandbox: Sandbox, later: Later, caplog: pytest.LogCaptureFixture
) -> None:
    """When the executions cannot be read at first, nothing is passed over."""

    async def scenario() -> None:
        watcher, store = trigger(sync_id=SYNC, kind="bulk"), Store()
        await store.aset(watcher._key, Position(later() - 700, time.time() - 55 * HOUR).to_json())
        missed = end(old_sandbox)
        later.ahead += 55 * HOUR
        old_sandbox.faults.garbage("html", "GET .*/executions")
        async with triggerer() as airflow:
            told = airflow.watch(watcher, store)
            await until(lambda: told)
            assert ids(told) == [missed]

    asyncio.run(scenario())
    assert "cannot be told yet" in caplog.text


@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ("GET .*/b0[^/]*1/executions", [OTHER, MODEL]),
        ("GET /api/syncs", [SYNC, OTHER]),
        ("GET /api/bulk/syncs", [MODEL]),
    ],
)
def test_executions_that_may_not_be_read_hold_up_no_watcher(
    old_sandbox: Sandbox, later: Later, caplog: pytest.LogCaptureFixture, refused: str, left: list[str]
) -> None:
    """What the key may not see is passed over, and a log says so; all else is told."""

    async def scenario() -> None:
        watcher, store = trigger(), Store()
        await store.aset(watcher._key, Position(later() - 700, time.time() - 55 * HOUR).to_json())
        happened = {sync: end(old_sandbox, sync) for sync in (SYNC, OTHER, MODEL)}
        later.ahead += 55 * HOUR
        old_sandbox.faults.status(403, refused, times=None)
        async with triggerer() as airflow:
            told = airflow.watch(watcher, store)
            await until(lambda: len(told) >= len(left))
            later_on = end(old_sandbox)
            await until(lambda: later_on in ids(told))
            assert ids(told) == [*(happened[sync] for sync in left), later_on]

    asyncio.run(scenario())
    assert "may be missed" in caplog.text


def test_executions_that_take_too_long_are_given_up(
    old_sandbox: Sandbox, later: Later, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watcher that would never come to an end with them goes on without, and says what that means."""
    monkeypatch.setattr(module, "CATCH_UP_TIMEOUT", 0.2)

    async def scenario() -> None:
        watcher, store = trigger(), Store()
        await store.aset(watcher._key, Position(later() - 700, time.time() - 55 * HOUR).to_json())
        end(old_sandbox)
        later.ahead += 55 * HOUR
        old_sandbox.faults.delay(5, "GET .*/syncs", times=None)
        async with triggerer() as airflow:
            told = airflow.watch(watcher, store)
            await until(lambda: "some may be missed" in caplog.text)
            await more_looks(old_sandbox, 2)
            execution_id = end(old_sandbox)
            await until(lambda: told)
            assert ids(told) == [execution_id]

    asyncio.run(scenario())


# --- trouble


@pytest.mark.parametrize(
    ("trouble", "warns"),
    [
        (lambda faults: faults.status(503, "GET /api/events", times=2), False),  # the call is repeated by itself
        (lambda faults: faults.garbage("html", "GET /api/events", times=3), True),
        (lambda faults: faults.garbage("cut", "GET /api/events", times=3), True),
        (lambda faults: faults.status(401, "GET /api/events", times=3), True),
        (lambda faults: faults.status(302, "GET /api/events", times=3, headers={"location": "https://else/"}), True),
    ],
    ids=["503", "a proxy's page", "half an answer", "401", "a redirect"],
)
def test_no_trouble_ends_a_watcher(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture, trouble: Callable[[Any], Any], warns: bool
) -> None:
    """Whatever is answered instead of events, it goes on, says so, and is told of all that ended meanwhile."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            told = airflow.watch(trigger())
            await more_looks(polytomic_sandbox)
            fault = trouble(polytomic_sandbox.faults)
            meanwhile = end(polytomic_sandbox)
            await until(lambda: fault.left == 0 and told)
            assert ids(told) == [meanwhile]

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    assert ("cannot be read" in caplog.text, "can be read again" in caplog.text) == (warns, warns)
    assert polytomic_sandbox.key not in caplog.text


def test_a_key_that_was_rotated_is_read_again(
    polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A watcher whose key is refused warns, and goes on as soon as the connection has the new one."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            told = airflow.watch(trigger())
            await more_looks(polytomic_sandbox)
            polytomic_sandbox.rotate_key("another-key")
            meanwhile = end(polytomic_sandbox)
            await until(lambda: "cannot be read" in caplog.text)
            connection = {"conn_type": "polytomic", "host": polytomic_sandbox.url, "password": "another-key"}
            monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
            await until(lambda: told)
            assert ids(told) == [meanwhile]

    asyncio.run(scenario())


def test_a_connection_may_come_later(polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher whose connection does not exist yet begins when it does."""
    import os

    connection = os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"]

    async def scenario() -> None:
        async with triggerer() as airflow:
            told = airflow.watch(trigger(polytomic_conn_id="later"))
            await asyncio.sleep(0.3)
            monkeypatch.setenv("AIRFLOW_CONN_LATER", connection)
            await more_looks(polytomic_sandbox)
            execution_id = end(polytomic_sandbox)
            await until(lambda: told)
            assert ids(told) == [execution_id]

    asyncio.run(scenario())


def test_warnings_become_rare(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Trouble that lasts is told of ever less often."""
    monkeypatch.delenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", raising=False)

    async def scenario() -> None:
        stream = module.EventPoller(module.PolytomicHook("no_such_connection"), 1)
        for _ in range(20):
            assert await stream.poll() is None

    asyncio.run(scenario())
    warned = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert [int(text.split("cannot be read, ")[1].split()[0]) for text in warned] == [1, 2, 4, 8, 16]


def test_nothing_is_left_open(polytomic_sandbox: Sandbox) -> None:
    """When the last watcher has gone, so has the session."""

    async def scenario() -> None:
        async with triggerer() as airflow:
            airflow.watch(trigger())
            airflow.watch(trigger(sync_id=SYNC))
            await more_looks(polytomic_sandbox)
            assert aiohttp_transport._shared.get(asyncio.get_running_loop())
        assert not aiohttp_transport._shared.get(asyncio.get_running_loop())

    asyncio.run(scenario())


# --- before Airflow 3.3


def test_alone_it_watches_as_well(polytomic_sandbox: Sandbox) -> None:
    """Where Airflow shares nothing, it is told what ends from its first look on, and leaves nothing open."""

    async def scenario() -> None:
        end(polytomic_sandbox)
        running = recreate_trigger(trigger(sync_id=SYNC)).run()
        first = asyncio.ensure_future(anext(running))
        await more_looks(polytomic_sandbox)
        executions = [end(polytomic_sandbox)]
        told = [(await first).payload]
        executions.append(end(polytomic_sandbox))
        told.append((await anext(running)).payload)
        assert ids(told) == executions
        await running.aclose()
        assert not aiohttp_transport._shared.get(asyncio.get_running_loop())

    asyncio.run(scenario())


def test_the_loop_is_not_blocked(polytomic_sandbox: Sandbox) -> None:
    """While it waits for an answer others get their turn."""
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
            await more_looks(polytomic_sandbox, 1)
        beside.cancel()

    asyncio.run(scenario())
    assert next(turns) > 100
