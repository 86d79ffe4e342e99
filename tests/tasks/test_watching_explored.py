"""Watchers against many histories: bursts, late events, outages, restarts, clocks that disagree.

A history is a list of steps, made up from a seed. The real trigger takes part in it, with a small model of
Polytomic before it and one of Airflow behind it, and dies wherever a step says so. In the end everybody has told
what there was to tell.

``POLYTOMIC_FUZZ=3000`` makes up more of them.
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
from airflow_provider_polytomic.api.events.poll import OVERLAP, RETENTION
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure
from airflow_provider_polytomic.triggers.events import EventBatch, EventPoller, PolytomicSyncEventTrigger

from .test_any_response import MAX_EXAMPLES

HOUR = 3600.0
SYNCS = ("orders", "customers", "returns")
MANY_SYNCS = tuple(f"shop-{number}" for number in range(130))  # more than a page of events at once
WORDS = {"completed": "completed", "failed": "failed", "canceled": "canceled", "errors": "completed_with_error"}


@dataclass(frozen=True)
class End:
    """An execution that has ended, and how late the event that tells of it is."""

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
    """A small model of the server. Its lists have no order but that of made-up numbers, where none is promised."""

    in_order: bool
    now: float = 1_790_000_000.0
    down: bool = False
    ends: list[End] = field(default_factory=list)

    def end(self, sync: str, status: str, late: float) -> None:
        self.now += 0.001
        self.ends.append(End(f"e{len(self.ends)}", sync, status, self.now, late))

    def burst(self) -> None:
        """Many end at the same moment."""
        self.now += 0.001
        self.ends += [End(f"e{len(self.ends)}-{sync}", sync, "completed", self.now, 0.0) for sync in MANY_SYNCS]

    def send(self, request: Request) -> SendResult:
        self.now += 0.01
        if self.down:
            return TransportFailure("nobody is there", sent=False)
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
        mine = [end for end in self.ends if end.sync == parts[2]]
        return self.page([{"id": e.id, "status": e.status, "completed_at": stamp(e.at)} for e in reversed(mine)])

    def events(self, query: dict[str, str]) -> Response:
        after, seen = query.get("starting_after", ""), query.get("page_token", "")

        def place(end: End) -> str:
            return f"{9e9 - end.at if self.in_order else zlib.crc32(end.id.encode()):014.3f}{end.id}"

        shown = [
            end
            for end in sorted(self.ends, key=place)
            if end.shown_at <= self.now
            and self.now - end.at < RETENTION
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
    """What the trigger asks Polytomic with, on a machine whose clock is wrong."""

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
    client: Client
    polytomic_conn_id: str = "a_connection"

    async def async_client(self) -> Client:
        return self.client


class Store(dict[str, Any]):
    """What Airflow keeps for the asset."""

    async def aget(self, key: str) -> Any:
        return json.loads(self[key]) if key in self else None

    async def aset(self, key: str, value: Any) -> None:
        self[key] = json.dumps(value, allow_nan=False)


class Watcher:
    """A trigger in a triggerer, which is handed one look after the other."""

    def __init__(self, arguments: dict[str, Any], store: Store | None) -> None:
        self.trigger = PolytomicSyncEventTrigger(**arguments)
        self.trigger.asset_state_store = store
        self.told: list[str] = []
        self._looks: asyncio.Queue[EventBatch] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for event in self.trigger.filter_shared_stream(self._handed()):
            self.told.append(event.payload["execution_id"])

    async def _handed(self) -> AsyncIterator[EventBatch]:
        while True:
            yield await self._looks.get()
            self._looks.task_done()

    async def consider(self, look: EventBatch) -> None:
        self._looks.put_nowait(look)
        joining = asyncio.ensure_future(self._looks.join())
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
    """What happens, and what has come of it."""

    server: Polytomic
    skew: float
    stored: bool = True
    store: Store = field(default_factory=Store)
    lives: list[list[Watcher]] = field(default_factory=list)
    told: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in WATCHERS])
    twice: list[Counter[str]] = field(default_factory=lambda: [Counter() for _ in WATCHERS])
    begun: float | None = None  # when the watchers had seen what there was before them
    before: float | None = None  # when they looked for the first time

    def live(self, skew: float) -> None:
        """A triggerer begins."""
        self.looks = EventPoller(Hook(Client(self.server, self.skew + skew)), 60)  # type: ignore[arg-type]
        store = self.store if self.stored else None
        self.lives.append([Watcher(arguments, store) for arguments, _ in WATCHERS])

    def rejoin(self, number: int) -> None:
        """One watcher begins again, beside the others: its DAG was unpaused, or it has failed."""
        if self.begun is not None:
            life = self.lives[-1]
            life[number].die()
            life[number] = Watcher(WATCHERS[number][0], self.store if self.stored else None)

    async def look(self, death: str = "") -> None:
        """The watchers of the newest life consider a look, and may die of it."""
        began = self.server.now
        look = await self.looks.poll()
        if look is None:
            return
        self.before = began if self.before is None else self.before
        for watcher in self.lives[-1]:
            await watcher.consider(look)
        if death != "before Airflow has stored anything":
            for watcher, told, twice in zip(self.lives[-1], self.told, self.twice, strict=True):
                told.update(watcher.told)
                if death:
                    twice.update(watcher.told)
                watcher.told = []
        if death:
            self.die()
        else:
            await look.stored()
            self.begun = self.server.now if self.begun is None else self.begun

    def die(self) -> None:
        for watcher in self.lives[-1]:
            watcher.die()
        self.live(0)


Step = tuple[Any, ...]


def made_up(seed: int) -> list[Step]:
    """A history, and the two circumstances under which it takes place."""
    chance = random.Random(seed)

    def step() -> Step:
        what = chance.choices(
            ["look", "pass", "end", "burst", "death", "restart", "rejoin", "down", "up"], [8, 8, 8, 1, 2, 2, 2, 1, 2]
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

    circumstances = chance.choice([True, False]), chance.choice([-2 * HOUR, -30.0, 0.0, 30.0, 2 * HOUR])
    return [("under", *circumstances), *(step() for _ in range(chance.randint(5, 30)))]


async def happen(history: list[Step]) -> History:
    (_, in_order, skew), *steps = history
    past = History(Polytomic(in_order), skew)
    past.live(0)
    for what, *more in steps:
        if what == "look":
            await past.look()
        elif what == "pass":
            past.server.now += more[0]
        elif what == "end":
            past.server.end(*more)
        elif what == "burst":
            past.server.burst()
        elif what == "death":
            await past.look(more[0])
        elif what == "restart":
            past.die()
            past.live(more[0])
        elif what == "rejoin":
            past.rejoin(more[0])
        else:
            past.server.down = what == "down"
    past.server.down = False
    for _ in range(4):
        past.server.now += OVERLAP / 2
        await past.look()
    past.die()
    return past


def wrong(history: list[Step]) -> str:
    """What should not have come of a history."""
    return judge(asyncio.run(happen(history)))


def shortest(history: list[Step]) -> list[Step]:
    """The same without what is not needed for it to go wrong."""
    for at in range(len(history) - 1, 0, -1):
        shorter = history[:at] + history[at + 1 :]
        if wrong(shorter):
            return shortest(shorter)
    return history


def test_no_history_loses_an_end_or_tells_it_twice(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happens, each end that shows after the first look is told once to each watcher that wants it; again
    only if the triggerer died after Airflow had stored the event, and before the position was saved.
    """
    caplog.set_level(logging.CRITICAL)
    for seed in range(MAX_EXAMPLES):
        history = made_up(seed)
        if wrong(history):
            history = shortest(history)
            pytest.fail(f"{wrong(history)}, with seed {seed}:\n" + "\n".join(map(str, history)))


def judge(past: History) -> str:
    if past.begun is None or past.before is None:
        return "nobody ever looked"
    for (_, wants), told, twice in zip(WATCHERS, past.told, past.twice, strict=True):
        for end in past.server.ends:
            times = told[end.id]
            if times > 0 and (not wants(end) or end.shown_at <= past.before):
                return f"{end} was not for it"
            if times == 0 and wants(end) and end.shown_at > past.begun:
                return f"{end} is lost"
            if times > 1 + twice[end.id]:
                return f"{end} was told {times} times"
    return ""
