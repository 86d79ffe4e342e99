"""Batch status polling, with a simulated server and an event loop whose clock jumps to the next timer."""

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
        assert timeout is not None, "every task waits without a timeout"
        self.loop.now += max(timeout, 0)
        return super().select(0)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    loop = Loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


class Server:
    """Answers batch polls, and records them.

    :ivar polls: when each batch poll was received, and its syncs.
    :ivar ended: syncs whose execution has ended.
    :ivar instead: makes the response, instead of a correct one.
    :ivar takes: seconds that a request takes.
    :ivar sizes: the number of syncs in each batch poll, as reported for metrics.
    """

    def __init__(self, schemas: int = 2, max_syncs: int = 100) -> None:
        self.schemas = schemas
        self.ended: set[str] = set()
        self.polls: list[tuple[float, list[str]]] = []
        self.instead: Callable[[], SendResult] | None = None
        self.takes = 0.1
        self.sizes: list[int] = []
        self.batch_poller = BatchPoller(self.send, max_syncs, self.sizes.append)

    async def send(self, request: Request) -> SendResult:
        assert (request.method, request.path) == ("GET", "/api/bulk/syncs/status")
        sync_ids = [value for name, value in request.query if name == "sync_id"]
        self.polls.append((now(), sync_ids))
        await asyncio.sleep(self.takes)
        return self.instead() if self.instead else batch_response([self.row(sync_id) for sync_id in sync_ids])

    def row(self, sync_id: str) -> dict[str, Any]:
        status = "completed" if sync_id in self.ended else "running"
        schemas = [{"schema": str(n), "status": status, "execution_id": f"of {sync_id}"} for n in range(self.schemas)]
        return {"sync_id": sync_id, "status": status, "schemas": schemas}

    async def sleep(self, sync_id: str, seconds: float = INTERVAL, **how: Any) -> float:
        """Sleep as a plan does; return for how long."""
        began = now()
        await self.batch_poller.sleep(
            BatchableSleep(sync_id, f"of {sync_id}", seconds, **{"interval": lambda _: INTERVAL, **how})
        )
        return now() - began


def now() -> float:
    return asyncio.get_running_loop().time()


def batch_response(rows: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, headers, json.dumps({"data": rows}).encode())


async def after(seconds: float, *sleeping: asyncio.Task[Any]) -> list[bool]:
    """Which sleeping plans have been woken after some seconds."""
    await asyncio.sleep(seconds)
    return [task.done() for task in sleeping]


async def cancel_all(sleeping: list[asyncio.Task[Any]]) -> None:
    for task in sleeping:
        task.cancel()
    await asyncio.gather(*sleeping, return_exceptions=True)


@pytest.mark.parametrize("number", [2, 99, 100, 101, 250, 1000])
def test_batch_poller_sends_one_request_per_interval_and_100_plans(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans cost one request per interval and 100 plans, whenever they began, and each is polled every interval."""
    monkeypatch.setattr(batch_poller, "DIRECT_POLL_EVERY", (10**6, 10**6))

    async def main() -> None:
        server, intervals = Server(), 15
        direct_polls: list[tuple[float, list[str]]] = []

        async def wait(name: str) -> None:
            await server.sleep(name, seconds=5 + random.random() * INTERVAL)
            while True:
                direct_polls.append((now(), [name]))
                await server.sleep(name)

        waiting = [asyncio.ensure_future(wait(f"s{n}")) for n in range(number)]
        await asyncio.sleep(5 + 3 * INTERVAL)  # until their polls fall into step
        server.polls.clear()
        direct_polls.clear()
        await asyncio.sleep(intervals * INTERVAL)

        requests = server.polls + direct_polls
        assert len(requests) <= (intervals + 1) * math.ceil(number / 100)
        for n in range(number):
            times = sorted(at for at, sync_ids in requests if f"s{n}" in sync_ids)
            assert max(b - a for a, b in itertools.pairwise(times)) <= INTERVAL + 1
        await cancel_all(waiting)

    run(main())


def test_batch_poller_wakes_only_plans_whose_execution_ended() -> None:
    """A plan whose execution has ended is woken within an interval. The others keep sleeping."""

    async def main() -> None:
        server = Server()
        sleeping = [asyncio.ensure_future(server.sleep(name)) for name in "abc"]
        assert await after(2.5 * INTERVAL, *sleeping) == [False, False, False]
        server.ended.add("b")
        assert await after(INTERVAL, *sleeping) == [False, True, False]
        await cancel_all(sleeping)

    run(main())


def test_batch_poller_wakes_a_single_plan_without_a_request() -> None:
    """For a single plan no batch poll is sent. It is woken when it is due."""

    async def main() -> None:
        server = Server()
        assert await server.sleep("a", seconds=7) == 7
        assert server.polls == []

    run(main())


UNPROVEN = {
    "no row": lambda server: batch_response([server.row("a")]),
    "no schemas": lambda server: batch_response([server.row("a"), {"sync_id": "b", "schemas": None}]),
    "another execution": lambda server: batch_response([server.row("a"), server.row("x") | {"sync_id": "b"}]),
    "another sync": lambda server: batch_response([server.row("a"), server.row("b") | {"sync_id": "x"}]),
    "unknown status": lambda server: batch_response(
        [server.row("a"), {"sync_id": "b", "schemas": [{"execution_id": "of b", "status": "warming_up"}]}]
    ),
    "no status": lambda server: batch_response(
        [server.row("a"), {"sync_id": "b", "schemas": [{"execution_id": "of b"}]}]
    ),
    "a status of another type": lambda server: batch_response(
        [server.row("a"), {"sync_id": "b", "schemas": [{"execution_id": "of b", "status": 7}]}]
    ),
    "a schema that is no object": lambda server: batch_response(
        [server.row("a"), {"sync_id": "b", "schemas": [*server.row("b")["schemas"], "x"]}]
    ),
    "schemas that are no list": lambda server: batch_response([{"sync_id": "b", "schemas": 7}, server.row("a")]),
    "a sync id of another type": lambda server: batch_response([server.row("b") | {"sync_id": 7}, server.row("a")]),
    "a row that is no object": lambda server: batch_response([None, server.row("a")]),
}


@pytest.mark.parametrize("case", UNPROVEN)
def test_plan_polls_directly_when_the_batch_response_does_not_show_it_running(case: str) -> None:
    """A plan is woken unless the response proves that its execution is running. The others keep sleeping."""

    async def main() -> None:
        server = Server()
        server.instead = lambda: UNPROVEN[case](server)
        sleeping = [asyncio.ensure_future(server.sleep(name)) for name in "ab"]
        assert await after(INTERVAL + 1, *sleeping) == [False, True]
        await cancel_all(sleeping)

    run(main())


UNUSABLE: dict[str, Callable[[], SendResult]] = {
    "missing": lambda: batch_response(None, 404),
    "forbidden": lambda: batch_response(None, 403),
    "broken": lambda: batch_response(None, 500),
    "redirect": lambda: batch_response(None, 302),
    "cut": lambda: Response(200, {}, b'{"data": [{"sync_id"'),
    "not a batch response": lambda: batch_response({"a": "running"}),
    "not an object": lambda: Response(200, {}, b"[]"),
    "slow": lambda: TransportFailure("no answer within 10 s"),
    "a bug": lambda: 1 / 0,  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_batch_response_suspends_batch_polls(case: str) -> None:
    """All plans poll directly for a minute. Then batch polls are tried again, and suspended for longer."""

    async def main() -> None:
        server = Server()
        server.instead = UNUSABLE[case]

        async def wait() -> None:
            while True:
                direct_polls.append(await server.sleep(random.choice("abc")))

        direct_polls: list[float] = []
        waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
        await asyncio.sleep(1000)
        times = [at for at, _ in server.polls]
        pauses = [b - a for a, b in itertools.pairwise(times)]
        assert 60 <= pauses[0] <= 60 + INTERVAL + 1
        assert 120 <= pauses[1] <= 120 + INTERVAL + 1
        assert len(direct_polls) >= 3 * 1000 // (INTERVAL + 1) - 3
        server.instead = None
        await asyncio.sleep(700)
        direct_polls.clear()
        assert await after(2 * INTERVAL, *waiting) == [False] * 3
        assert direct_polls == []  # batch polls are used again
        await cancel_all(waiting)

    run(main())


def test_batch_poller_backs_off_on_429_without_waking_plans() -> None:
    """A 429 wakes no plan. The next batch poll follows `Retry-After`."""

    async def main() -> None:
        server = Server()
        server.instead = lambda: batch_response(None, 429, **{"retry-after": "50"})
        sleeping = [asyncio.ensure_future(server.sleep(name)) for name in "ab"]
        assert await after(4 * INTERVAL, *sleeping) == [False, False]
        times = [at for at, _ in server.polls]
        assert [round(b - a) for a, b in itertools.pairwise(times)] == [50]
        await cancel_all(sleeping)

    run(main())


@pytest.mark.parametrize("instead", [None, lambda: batch_response(None, 429)])
def test_plan_polls_directly_after_20_to_40_batch_polls(instead: Any) -> None:
    """A stale batch response hides an end for a bounded time only."""

    async def main() -> None:
        server = Server()
        server.instead = instead
        slept = await asyncio.gather(server.sleep("a"), server.sleep("b"))
        assert min(slept) >= (batch_poller.DIRECT_POLL_EVERY[0] - 1) * INTERVAL
        assert max(slept) <= (batch_poller.DIRECT_POLL_EVERY[1] + 1) * INTERVAL

    run(main())


def test_deadline_ends_a_batchable_sleep() -> None:
    """A plan is woken at its deadline, also between two batch polls."""

    async def main() -> None:
        server = Server()
        other = asyncio.ensure_future(server.sleep("b"))
        assert await server.sleep("a", deadline=time.time() + 40) == pytest.approx(40, abs=1)
        assert not other.done()
        await cancel_all([other])

    run(main())


def test_canceled_plans_leave_nothing_behind() -> None:
    """A plan that is canceled, also during a batch poll, does not disturb others. The last one stops all tasks."""

    async def main() -> None:
        server = Server()
        server.takes = 5
        first, second, third = sleeping = [asyncio.ensure_future(server.sleep(name)) for name in "abc"]
        await asyncio.sleep(INTERVAL + 1)
        await cancel_all([first])
        assert await after(2 * INTERVAL, second, third) == [False, False]
        assert server.polls[-1][1] == ["b", "c"]
        await asyncio.sleep(server.polls[-1][0] + INTERVAL + 1 - now())  # during a batch poll
        await cancel_all(sleeping)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (server.batch_poller._queue, server.batch_poller._timer, server.batch_poller._polls) == (
            [],
            None,
            set(),
        )

    run(main())


def test_batch_size_is_bounded_by_the_number_of_schemas() -> None:
    """The number of schemas per response is bounded, once it is known how many each sync has."""

    async def main() -> None:
        server = Server(schemas=200)
        sleeping = [asyncio.ensure_future(server.sleep(f"s{n}")) for n in range(100)]
        await asyncio.sleep(2 * INTERVAL)
        server.polls.clear()
        await asyncio.sleep(INTERVAL)
        assert {len(sync_ids) for _, sync_ids in server.polls} == {10}
        assert len(server.polls) == 10
        await cancel_all(sleeping)

    run(main())


def test_batch_size_uses_known_numbers_of_schemas_from_the_start() -> None:
    """When plans know how many schemas there are, the first response is bounded, too."""

    async def main() -> None:
        server = Server(schemas=200)
        sleeping = [asyncio.ensure_future(server.sleep(f"s{n}", schema_count=200)) for n in range(100)]
        await asyncio.sleep(INTERVAL + 1)
        assert {len(sync_ids) for _, sync_ids in server.polls} == {10}
        await cancel_all(sleeping)

    run(main())


def test_batch_poll_lists_each_sync_once() -> None:
    """Several plans of one sync list it once."""

    async def main() -> None:
        server = Server()
        sleeping = [asyncio.ensure_future(server.sleep("a")) for _ in range(3)]
        await asyncio.sleep(INTERVAL + 1)
        assert [sync_ids for _, sync_ids in server.polls] == [["a"]]
        await cancel_all(sleeping)

    run(main())


def test_batch_poll_runs_outside_the_context_of_tasks() -> None:
    """Log lines of a batch poll do not appear in the log of a task."""
    log_owner = contextvars.ContextVar("log_owner", default="no task")

    async def main() -> None:
        server = Server()
        server.instead = lambda: seen.append(log_owner.get()) or batch_response(None, 500)  # type: ignore[func-returns-value]
        log_owner.set("a task")
        await asyncio.gather(server.sleep("a"), server.sleep("b"))

    seen: list[str] = []
    run(main())
    assert seen == ["no task"]


def test_batch_polling_can_be_disabled() -> None:
    """With a batch size of 1 every plan polls directly."""

    async def main() -> None:
        server = Server(max_syncs=1)
        assert await asyncio.gather(server.sleep("a"), server.sleep("b"), server.sleep("c")) == [INTERVAL] * 3
        assert server.polls == []

    run(main())


def test_size_of_each_batch_poll_is_reported() -> None:
    """It is the number of syncs in the request, at most the configured one."""

    async def main() -> None:
        server = Server(max_syncs=3)
        tasks = [asyncio.ensure_future(server.sleep(f"s{number}")) for number in range(8)]
        await asyncio.sleep(INTERVAL * 1.5)
        assert server.sizes == [len(syncs) for _, syncs in server.polls] == [3, 3, 2]
        for task in tasks:
            task.cancel()

    run(main())


@pytest.mark.parametrize("seed", range(12))
def test_every_end_is_found_with_arbitrary_batch_responses(seed: int) -> None:
    """Batch responses are wrong, stale, invalid or slow. Each plan finds its end in time, and none too early."""
    chance = random.Random(seed)
    ends = {f"s{n}": chance.uniform(0, 3000) for n in range(120)}
    late = (batch_poller.DIRECT_POLL_EVERY[1] + 2) * INTERVAL + batch_poller.BATCH_SUSPENSION[1]

    async def main() -> None:
        server = Server()
        began = now()

        def arbitrary_response() -> SendResult:
            behind = chance.choice([0, 0, 0, 600, 1e6])
            server.ended = {sync_id for sync_id, end in ends.items() if began + end < now() - behind}
            make = chance.choice(
                [None] * 20 + [*UNPROVEN.values()] + [lambda _, make=make: make() for make in UNUSABLE.values()]
            )
            return make(server) if make else batch_response([server.row(sync_id) for sync_id in server.polls[-1][1]])

        server.instead = arbitrary_response

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
