"""Those who wait together: with an event loop whose time passes when nothing happens, and a server of functions."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import json
import math
import random
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from airflow_provider_polytomic.api.client import adrive
from airflow_provider_polytomic.api.executions import batch_poller
from airflow_provider_polytomic.api.executions.batch_poller import BatchPoller
from airflow_provider_polytomic.api.executions.wait import wait_for_execution
from airflow_provider_polytomic.api.kinds import SYNC_KINDS
from airflow_provider_polytomic.api.plan import BatchableSleep, Request, Response, SendResult, TransportFailure

INTERVAL = 30.0


class Loop(asyncio.SelectorEventLoop):
    """An event loop that does not wait for the time when it has nothing to do until then."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(Selector(self))

    def time(self) -> float:
        return self.now


class Selector(selectors.SelectSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits for ever"
        self.loop.now += max(timeout, 0)
        return super().select(0)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    loop = Loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


class Server:
    """Knows what runs, and what it has been asked when."""

    def __init__(self, schemas: int = 2) -> None:
        self.schemas = schemas
        self.ended: set[str] = set()
        self.asked: list[tuple[float, list[str]]] = []
        self.instead: Callable[[], SendResult] | None = None
        self.takes = 0.1
        self.batch_poller = BatchPoller(self.send)

    async def send(self, request: Request) -> SendResult:
        assert (request.method, request.path) == ("GET", "/api/bulk/syncs/status")
        sync_ids = [value for name, value in request.query if name == "sync_id"]
        self.asked.append((now(), sync_ids))
        await asyncio.sleep(self.takes)
        return self.instead() if self.instead else answer([self.row(sync_id) for sync_id in sync_ids])

    def row(self, sync_id: str) -> dict[str, Any]:
        status = "completed" if sync_id in self.ended else "running"
        schemas = [{"schema": str(n), "status": status, "execution_id": f"of {sync_id}"} for n in range(self.schemas)]
        return {"sync_id": sync_id, "status": status, "schemas": schemas}

    async def rest(self, sync_id: str, seconds: float = INTERVAL, **how: Any) -> float:
        """How long a waiter rested."""
        began = now()
        await self.batch_poller.sleep(
            BatchableSleep(sync_id, f"of {sync_id}", seconds, **{"pace": lambda _: INTERVAL, **how})
        )
        return now() - began


def now() -> float:
    return asyncio.get_running_loop().time()


def answer(rows: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, headers, json.dumps({"data": rows}).encode())


async def after(seconds: float, *resting: asyncio.Task[Any]) -> list[bool]:
    """Who has been woken by then."""
    await asyncio.sleep(seconds)
    return [task.done() for task in resting]


async def leave(resting: list[asyncio.Task[Any]]) -> None:
    for task in resting:
        task.cancel()
    await asyncio.gather(*resting, return_exceptions=True)


@pytest.mark.parametrize("number", [2, 99, 100, 101, 250, 1000])
def test_a_hundred_are_one_request_an_interval(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever they began, waiters cost one request an interval for each hundred, and nobody is passed over."""
    monkeypatch.setattr(batch_poller, "DIRECT_POLL_EVERY", (10**6, 10**6))

    async def main() -> None:
        server, intervals = Server(), 15
        looks: list[tuple[float, list[str]]] = []

        async def wait(name: str) -> None:
            await server.rest(name, seconds=5 + random.random() * INTERVAL)
            while True:
                looks.append((now(), [name]))
                await server.rest(name)

        waiting = [asyncio.ensure_future(wait(f"s{n}")) for n in range(number)]
        await asyncio.sleep(5 + 3 * INTERVAL)  # until they are in step
        server.asked.clear()
        looks.clear()
        await asyncio.sleep(intervals * INTERVAL)

        requests = server.asked + looks
        assert len(requests) <= (intervals + 1) * math.ceil(number / 100)
        for n in range(number):
            times = sorted(at for at, sync_ids in requests if f"s{n}" in sync_ids)
            assert max(b - a for a, b in itertools.pairwise(times)) <= INTERVAL + 1
        await leave(waiting)

    run(main())


def test_only_who_ended_is_woken() -> None:
    """A waiter whose execution has ended is woken within an interval; the others rest on."""

    async def main() -> None:
        server = Server()
        resting = [asyncio.ensure_future(server.rest(name)) for name in "abc"]
        assert await after(2.5 * INTERVAL, *resting) == [False, False, False]
        server.ended.add("b")
        assert await after(INTERVAL, *resting) == [False, True, False]
        await leave(resting)

    run(main())


def test_one_alone_looks_for_itself() -> None:
    """For a single waiter nothing is asked: it is woken when it is due."""

    async def main() -> None:
        server = Server()
        assert await server.rest("a", seconds=7) == 7
        assert server.asked == []

    run(main())


ODD = {
    "no row": lambda server: answer([server.row("a")]),
    "no schemas": lambda server: answer([server.row("a"), {"sync_id": "b", "schemas": None}]),
    "another execution": lambda server: answer([server.row("a"), server.row("x") | {"sync_id": "b"}]),
    "another sync": lambda server: answer([server.row("a"), server.row("b") | {"sync_id": "x"}]),
    "unheard-of status": lambda server: answer(
        [server.row("a"), {"sync_id": "b", "schemas": [{"execution_id": "of b", "status": "warming_up"}]}]
    ),
    "no status": lambda server: answer([server.row("a"), {"sync_id": "b", "schemas": [{"execution_id": "of b"}]}]),
    "a status of another type": lambda server: answer(
        [server.row("a"), {"sync_id": "b", "schemas": [{"execution_id": "of b", "status": 7}]}]
    ),
    "a schema that is no object": lambda server: answer(
        [server.row("a"), {"sync_id": "b", "schemas": [*server.row("b")["schemas"], "x"]}]
    ),
    "schemas that are no list": lambda server: answer([{"sync_id": "b", "schemas": 7}, server.row("a")]),
    "a sync id of another type": lambda server: answer([server.row("b") | {"sync_id": 7}, server.row("a")]),
    "a row that is no object": lambda server: answer([None, server.row("a")]),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_proves_nothing_wakes_one(odd: str) -> None:
    """Whoever is not certainly running looks for itself. The neighbours rest on."""

    async def main() -> None:
        server = Server()
        server.instead = lambda: ODD[odd](server)
        resting = [asyncio.ensure_future(server.rest(name)) for name in "ab"]
        assert await after(INTERVAL + 1, *resting) == [False, True]
        await leave(resting)

    run(main())


BAD: dict[str, Callable[[], SendResult]] = {
    "missing": lambda: answer(None, 404),
    "forbidden": lambda: answer(None, 403),
    "broken": lambda: answer(None, 500),
    "elsewhere": lambda: answer(None, 302),
    "cut": lambda: Response(200, {}, b'{"data": [{"sync_id"'),
    "not a summary": lambda: answer({"a": "running"}),
    "not an object": lambda: Response(200, {}, b"[]"),
    "slow": lambda: TransportFailure("no answer within 10 s"),
    "a mistake of ours": lambda: 1 / 0,  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_summary_wakes_all_and_is_left_alone(bad: str) -> None:
    """All look for themselves, now and for a minute; then one more question is tried, and then for longer."""

    async def main() -> None:
        server = Server()
        server.instead = BAD[bad]

        async def wait() -> None:
            while True:
                looks.append(await server.rest(random.choice("abc")))

        looks: list[float] = []
        waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
        await asyncio.sleep(1000)
        times = [at for at, _ in server.asked]
        pauses = [b - a for a, b in itertools.pairwise(times)]
        assert 60 <= pauses[0] <= 60 + INTERVAL + 1
        assert 120 <= pauses[1] <= 120 + INTERVAL + 1
        assert len(looks) >= 3 * 1000 // (INTERVAL + 1) - 3
        server.instead = None
        await asyncio.sleep(700)
        looks.clear()
        assert await after(2 * INTERVAL, *waiting) == [False] * 3
        assert looks == []  # it is believed again
        await leave(waiting)

    run(main())


def test_too_many_questions_are_not_answered_by_more() -> None:
    """A 429 wakes nobody: the next question is asked when the server says so."""

    async def main() -> None:
        server = Server()
        server.instead = lambda: answer(None, 429, **{"retry-after": "50"})
        resting = [asyncio.ensure_future(server.rest(name)) for name in "ab"]
        assert await after(4 * INTERVAL, *resting) == [False, False]
        times = [at for at, _ in server.asked]
        assert [round(b - a) for a, b in itertools.pairwise(times)] == [50]
        await leave(resting)

    run(main())


@pytest.mark.parametrize("instead", [None, lambda: answer(None, 429)])
def test_a_stuck_summary_hides_nothing_for_ever(instead: Any) -> None:
    """Whatever the summary says, a waiter looks for itself in the end."""

    async def main() -> None:
        server = Server()
        server.instead = instead
        rested = await asyncio.gather(server.rest("a"), server.rest("b"))
        assert min(rested) >= (batch_poller.DIRECT_POLL_EVERY[0] - 1) * INTERVAL
        assert max(rested) <= (batch_poller.DIRECT_POLL_EVERY[1] + 1) * INTERVAL

    run(main())


def test_a_deadline_ends_the_rest() -> None:
    """Who has a deadline is woken then, between two questions too."""

    async def main() -> None:
        server = Server()
        neighbour = asyncio.ensure_future(server.rest("b"))
        assert await server.rest("a", until=time.time() + 40) == pytest.approx(40, abs=1)
        assert not neighbour.done()
        await leave([neighbour])

    run(main())


def test_who_leaves_leaves_nothing() -> None:
    """A waiter that is stopped, also during a question, harms no neighbour, and the last one takes all along."""

    async def main() -> None:
        server = Server()
        server.takes = 5
        first, second, third = resting = [asyncio.ensure_future(server.rest(name)) for name in "abc"]
        await asyncio.sleep(INTERVAL + 1)
        await leave([first])
        assert await after(2 * INTERVAL, second, third) == [False, False]
        assert server.asked[-1][1] == ["b", "c"]
        await asyncio.sleep(server.asked[-1][0] + INTERVAL + 1 - now())  # in the middle of a question
        await leave(resting)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (server.batch_poller._queue, server.batch_poller._timer, server.batch_poller._polls) == (
            [],
            None,
            set(),
        )

    run(main())


def test_large_syncs_share_an_answer_with_few() -> None:
    """An answer holds so many schemas that reading it stalls nobody, once it is known how many a sync has."""

    async def main() -> None:
        server = Server(schemas=200)
        resting = [asyncio.ensure_future(server.rest(f"s{n}")) for n in range(100)]
        await asyncio.sleep(2 * INTERVAL)
        server.asked.clear()
        await asyncio.sleep(INTERVAL)
        assert {len(sync_ids) for _, sync_ids in server.asked} == {10}
        assert len(server.asked) == 10
        await leave(resting)

    run(main())


def test_how_large_a_sync_is_may_be_known_before() -> None:
    """Who has seen how many schemas there are says so, and the first answer is no larger than the others."""

    async def main() -> None:
        server = Server(schemas=200)
        resting = [asyncio.ensure_future(server.rest(f"s{n}", schemas=200)) for n in range(100)]
        await asyncio.sleep(INTERVAL + 1)
        assert {len(sync_ids) for _, sync_ids in server.asked} == {10}
        await leave(resting)

    run(main())


def test_two_who_wait_for_the_same_sync_name_it_once() -> None:
    """Several waiters of one sync ask for it once."""

    async def main() -> None:
        server = Server()
        resting = [asyncio.ensure_future(server.rest("a")) for _ in range(3)]
        await asyncio.sleep(INTERVAL + 1)
        assert [sync_ids for _, sync_ids in server.asked] == [["a"]]
        await leave(resting)

    run(main())


def test_a_question_belongs_to_nobody() -> None:
    """What is logged during a question does not come into the log of the task that happened to be there first."""
    whose = contextvars.ContextVar("whose", default="nobody")

    async def main() -> None:
        server = Server()
        server.instead = lambda: seen.append(whose.get()) or answer(None, 500)  # type: ignore[func-returns-value]
        whose.set("a task")
        await asyncio.gather(server.rest("a"), server.rest("b"))

    seen: list[str] = []
    run(main())
    assert seen == ["nobody"]


@pytest.mark.parametrize("number", ["1", "0"])
def test_it_can_be_switched_off(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With POLYTOMIC_TRIGGERER_BATCH=1 everybody looks for itself."""
    monkeypatch.setenv("POLYTOMIC_TRIGGERER_BATCH", number)

    async def main() -> None:
        server = Server()
        assert await asyncio.gather(server.rest("a"), server.rest("b"), server.rest("c")) == [INTERVAL] * 3
        assert server.asked == []

    run(main())


def test_a_number_that_is_none_is_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """By the name of the variable, and they share as if nothing had been said."""
    monkeypatch.setenv("POLYTOMIC_TRIGGERER_BATCH", "many")

    async def main() -> None:
        server = Server()
        rests = [asyncio.ensure_future(server.rest(name)) for name in "abc"]
        await asyncio.sleep(INTERVAL * 1.5)
        assert len(server.asked) == 1
        for rest in rests:
            rest.cancel()

    run(main())
    assert "POLYTOMIC_TRIGGERER_BATCH must be a whole number from 0 on, not 'many': taking 100" in caplog.text


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_summary_says_the_end_is_found(seed: int) -> None:
    """The summary lies, is stuck, breaks or is slow: each waiter finds its end, and nobody finds one too early."""
    chance = random.Random(seed)
    ends = {f"s{n}": chance.uniform(0, 3000) for n in range(120)}
    late = (batch_poller.DIRECT_POLL_EVERY[1] + 2) * INTERVAL + batch_poller.DIRECT_POLL_PERIOD[1]

    async def main() -> None:
        server = Server()
        began = now()

        def summary() -> SendResult:
            behind = chance.choice([0, 0, 0, 600, 1e6])
            server.ended = {sync_id for sync_id, end in ends.items() if began + end < now() - behind}
            odd = chance.choice([None] * 20 + [*ODD.values()] + [lambda _, bad=bad: bad() for bad in BAD.values()])
            return odd(server) if odd else answer([server.row(sync_id) for sync_id in server.asked[-1][1]])

        server.instead = summary

        async def send(request: Request) -> SendResult:
            await asyncio.sleep(0.1)
            sync_id = request.path.split("/")[4]
            status = "completed" if now() >= began + ends[sync_id] else "running"
            return Response(200, {}, json.dumps({"data": {"id": f"of {sync_id}", "status": status}}).encode())

        async def wait(sync_id: str) -> None:
            await asyncio.sleep(chance.uniform(0, 60))
            plan = wait_for_execution(SYNC_KINDS["bulk"], sync_id, f"of {sync_id}", poke_interval=INTERVAL)
            await adrive(plan, send, sleep_batchable=server.batch_poller.sleep, now=now)
            found = now() - began - ends[sync_id]
            assert 0 <= found <= late

        await asyncio.gather(*[wait(sync_id) for sync_id in ends])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
