"""Asset watchers in randomized histories: bursts, late events, outages, restarts, and skewed clocks.

A history is a list of steps, generated from a seed. The real trigger runs in it between a small model of Polytomic
and one of Airflow, and dies where a step requires it. At the end, each watcher must have fired for every end that it
matches.

``POLYTOMIC_FUZZ=3000`` generates more histories.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_polytomic.api.client import drive
from airflow_provider_polytomic.api.events.poll import EVENT_RETENTION, OVERLAP
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure
from airflow_provider_polytomic.triggers.events import EventBatch, EventPoller, PolytomicSyncEventTrigger

from .test_any_response import MAX_EXAMPLES

HOUR = 3600.0
SYNCS = ("orders", "customers", "returns")
MANY_SYNCS = tuple(f"shop-{number}" for number in range(130))  # more than a page of events at once
WORDS = {"completed": "completed", "failed": "failed", "canceled": "canceled", "errors": "completed_with_error"}


@dataclass(frozen=True)
class End:
    """An execution that has ended, and the delay of its event in seconds."""

    id: str
    sync: str
    status: str
    at: float
    late: float

    @property
    def shown_at(self) -> float:
        return self.at + self.late


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass
class Polytomic:
    """A small model of the server. Where the API guarantees no order, its lists are in an arbitrary one."""

    in_order: bool
    now: float = 1_790_000_000.0
    down: bool = False
    ends: list[End] = field(default_factory=list)

    def end(self, sync: str, status: str, late: float) -> None:
        self.now += 0.001
        self.ends.append(End(f"e{len(self.ends)}", sync, status, self.now, late))

    def burst(self) -> None:
        """End many executions at the same moment."""
        self.now += 0.001
        self.ends += [End(f"e{len(self.ends)}-{sync}", sync, "completed", self.now, 0.0) for sync in MANY_SYNCS]

    def send(self, request: Request) -> SendResult:
        self.now += 0.01
        if self.down:
            return TransportFailure("no server", sent=False)
        query = dict(request.query)
        parts = request.path.split("/")[2:]
        if parts == ["events"]:
            return self.events(query)
        if parts == ["syncs"]:
            return self.page([])
        if parts == ["bulk", "syncs"]:
            return self.page([{"id": sync, "name": sync.upper()} for sync in (*SYNCS, *MANY_SYNCS)])
        if parts[:2] == ["bulk", "syncs"] and len(parts) == 3:
            return Response(200, {}, json.dumps({"data": {"id": parts[2], "name": parts[2].upper()}}).encode())
        assert parts[3:] == ["executions"]
        ends = [end for end in self.ends if end.sync == parts[2]]
        return self.page([{"id": e.id, "status": e.status, "completed_at": stamp(e.at)} for e in reversed(ends)])

    def events(self, query: dict[str, str]) -> Response:
        after, seen = query.get("starting_after", ""), query.get("page_token", "")

        def place(end: End) -> str:
            return f"{9e9 - end.at if self.in_order else zlib.crc32(end.id.encode()):014.3f}{end.id}"

        shown = [
            end
            for end in sorted(self.ends, key=place)
            if end.shown_at <= self.now
            and self.now - end.at < EVENT_RETENTION
            and stamp(end.at) > after
            and (not seen or place(end) > seen)
        ]
        page = shown[: int(query["limit"])]
        rows = [
            {
                "id": f"event of {end.id}",
                "type": f"bulk_sync.{WORDS[end.status]}",
                "created_at": stamp(end.at),
                "event": {"sync_id": end.sync, "sync_name": end.sync.upper(), "execution_id": end.id},
            }
            for end in page
        ]
        return self.page(rows, place(page[-1]) if len(shown) > len(page) else None)

    @staticmethod
    def page(rows: list[Any], token: str | None = None) -> Response:
        return Response(200, {}, json.dumps({"data": rows or None, "pagination": {"next_page_token": token}}).encode())


class Client:
    """The client of the trigger, on a machine with a skewed clock."""

    def __init__(self, server: Polytomic, skew: float) -> None:
        self._server, self._skew = server, skew

    async def run(self, plan: Any) -> Any:
        def sleep(seconds: float) -> None:
            self._server.now += seconds

        return drive(plan, self._server.send, sleep=sleep, now=lambda: self._server.now + self._skew)

    async def reload_credentials(self) -> None:
        pass


@dataclass
class Hook:
    """The part of the hook that the poller uses."""

    client: Client
    polytomic_conn_id: str = "a_connection"

    async def async_client(self) -> Client:
        return self.client


class Store(dict[str, Any]):
    """Asset state store."""

    async def aget(self, key: str) -> Any:
        return json.loads(self[key]) if key in self else None

    async def aset(self, key: str, value: Any) -> None:
        self[key] = json.dumps(value, allow_nan=False)


class Watcher:
    """A trigger in a triggerer, which receives one batch after another."""

    def __init__(self, arguments: dict[str, Any], store: Store | None) -> None:
        # The pause before the last of several events is as long as the interval, and takes real time.
        self.trigger = PolytomicSyncEventTrigger(**arguments, poke_interval=0.001)
        self.trigger.asset_state_store = store
        self.fired: list[str] = []
        self._batches: asyncio.Queue[EventBatch] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for event in self.trigger.filter_shared_stream(self._stream()):
            self.fired.append(event.payload["execution_id"])

    async def _stream(self) -> AsyncIterator[EventBatch]:
        while True:
            yield await self._batches.get()
            self._batches.task_done()

    async def process(self, batch: EventBatch) -> None:
        self._batches.put_nowait(batch)
        joining = asyncio.ensure_future(self._batches.join())
        await asyncio.wait([joining, self._task], return_when=asyncio.FIRST_COMPLETED)
        joining.cancel()
        if self._task.done():
            self._task.result()

    def die(self) -> None:
        self._task.cancel()


WATCHERS: list[tuple[dict[str, Any], Any]] = [
    ({}, lambda end: end.status == "completed"),
    ({"kind": "bulk", "sync_id": "orders"}, lambda end: end.sync == "orders" and end.status == "completed"),
    (
        {"sync_name": "CUSTOMERS", "events": ["failed", "canceled", "completed_with_errors"]},
        lambda end: end.sync == "customers" and end.status != "completed",
    ),
]


@dataclass
class History:
    """The state of a history: what has happened so far, and which events have fired."""

    server: Polytomic
    skew: float
    has_store: bool = True
    store: Store = field(default_factory=Store)
    triggerers: list[list[Watcher]] = field(default_factory=list)
    fired: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in WATCHERS])
    may_repeat: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in WATCHERS])
    first_poll_started: float | None = None
    first_poll_finished: float | None = None

    def start_triggerer(self, skew: float) -> None:
        """Start a triggerer with all watchers."""
        self.poller = EventPoller(Hook(Client(self.server, self.skew + skew)), 60)  # type: ignore[arg-type]
        store = self.store if self.has_store else None
        self.triggerers.append([Watcher(arguments, store) for arguments, _ in WATCHERS])

    def rejoin(self, number: int) -> None:
        """Restart one watcher, because its DAG was unpaused, or because it has failed."""
        if self.first_poll_finished is not None:
            watchers = self.triggerers[-1]
            watchers[number].die()
            watchers[number] = Watcher(WATCHERS[number][0], self.store if self.has_store else None)

    async def poll(self, death: str = "") -> None:
        """Poll once. The watchers of the newest triggerer process the batch, and then die if `death` is set."""
        started = self.server.now
        batch = await self.poller.poll()
        if batch is None:
            return
        self.first_poll_started = started if self.first_poll_started is None else self.first_poll_started
        for watcher in self.triggerers[-1]:
            await watcher.process(batch)
        if death != "before Airflow has stored anything":
            for watcher, fired, may_repeat in zip(self.triggerers[-1], self.fired, self.may_repeat, strict=True):
                fired.update(watcher.fired)
                if death:
                    may_repeat.update(watcher.fired)
                watcher.fired = []
        if death:
            self.die()
        else:
            await batch.run_stored_callbacks()
            if self.first_poll_finished is None:
                self.first_poll_finished = self.server.now

    def die(self) -> None:
        for watcher in self.triggerers[-1]:
            watcher.die()
        self.start_triggerer(0)


Step = tuple[Any, ...]


def generate(seed: int) -> list[Step]:
    """Generate a history. Its first step contains the order of the server's lists and the skew of the clock."""
    chance = random.Random(seed)

    def step() -> Step:
        what = chance.choices(
            ["poll", "pass", "end", "burst", "death", "restart", "rejoin", "down", "up"], [8, 8, 8, 1, 2, 2, 2, 1, 2]
        )[0]
        if what == "pass":
            return what, chance.choice([1.0, 60.0, 300.0, 700.0, 700.0, HOUR, 46.5 * HOUR, 49 * HOUR, 200 * HOUR])
        if what == "end":
            late = chance.choice([0.0, 0.0, 0.5, 100.0, OVERLAP - 10])
            return what, chance.choice(SYNCS), chance.choice(["completed", *WORDS]), late
        if what == "death":
            return what, chance.choice(["before Airflow has stored anything", "before it was saved"])
        if what == "restart":
            return what, chance.choice([-1400.0, 0.0, 1400.0])
        return (what, chance.randrange(len(WATCHERS))) if what == "rejoin" else (what,)

    conditions = chance.choice([True, False]), chance.choice([-2 * HOUR, -30.0, 0.0, 30.0, 2 * HOUR])
    return [("conditions", *conditions), *(step() for _ in range(chance.randint(5, 30)))]


async def run(history: list[Step]) -> History:
    (_, in_order, skew), *steps = history
    past = History(Polytomic(in_order), skew)
    past.start_triggerer(0)
    for what, *more in steps:
        if what == "poll":
            await past.poll()
        elif what == "pass":
            past.server.now += more[0]
        elif what == "end":
            past.server.end(*more)
        elif what == "burst":
            past.server.burst()
        elif what == "death":
            await past.poll(more[0])
        elif what == "restart":
            past.die()
            past.start_triggerer(more[0])
        elif what == "rejoin":
            past.rejoin(more[0])
        else:
            past.server.down = what == "down"
    past.server.down = False
    for _ in range(4):
        past.server.now += OVERLAP / 2
        await past.poll()
    past.die()
    return past


def find_violation(history: list[Step]) -> str:
    """Run a history, and describe the first violation; empty when there is none."""
    return check(asyncio.run(run(history)))


def shrink(history: list[Step]) -> list[Step]:
    """Remove all steps that the violation does not need."""
    for at in range(len(history) - 1, 0, -1):
        shorter = history[:at] + history[at + 1 :]
        if find_violation(shorter):
            return shrink(shorter)
    return history


def test_watchers_fire_exactly_once_for_every_end_in_any_history(caplog: pytest.LogCaptureFixture) -> None:
    """Each end that appears after the first poll fires once for each watcher that it matches. It may fire again only if
    the triggerer died after Airflow had stored the event and before the position was saved.
    """
    caplog.set_level(logging.CRITICAL)
    for seed in range(MAX_EXAMPLES):
        history = generate(seed)
        if find_violation(history):
            history = shrink(history)
            pytest.fail(f"{find_violation(history)}, with seed {seed}:\n" + "\n".join(map(str, history)))


def check(past: History) -> str:
    if past.first_poll_started is None or past.first_poll_finished is None:
        return "no poll succeeded"
    for (_, matches), fired, may_repeat in zip(WATCHERS, past.fired, past.may_repeat, strict=True):
        for end in past.server.ends:
            times = fired[end.id]
            if times > 0 and (not matches(end) or end.shown_at <= past.first_poll_started):
                return f"{end} must not fire"
            if times == 0 and matches(end) and end.shown_at > past.first_poll_finished:
                return f"{end} did not fire"
            if times > 1 + may_repeat[end.id]:
                return f"{end} fired {times} times"
    return ""
