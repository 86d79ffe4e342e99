"""Runs real triggers against a sandbox on a virtual clock, so that hours of waiting take seconds.

The time of the event loop stands still while a request or a thread is in progress, and otherwise jumps to the next
timer. The sandbox has the same clock. The triggerer's wall clock can be wrong, and the process can be suspended.
Requests are sent over HTTP or, where there are too many, directly to the sandbox.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_polytomic.api import client
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure
from airflow_provider_polytomic.api.transport import aiohttp_transport
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.server import Server
from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

from .conftest import recreate_trigger

EPOCH = 1_790_000_000.0
REQUEST_TIMEOUT = 60.0
LATENCY = 0.2  # seconds; of a request that is not sent over HTTP


@dataclass
class Clock:
    elapsed: float = 0.0
    offset: float = 0.0  # error of the machine's wall clock

    def server(self) -> float:
        return EPOCH + self.elapsed

    def wall(self) -> float:
        return EPOCH + self.elapsed + self.offset

    def suspend(self, seconds: float) -> None:
        """Let time pass while the triggerer's process is suspended."""
        self.elapsed += seconds


class Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.in_progress = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.clock.elapsed

    def run_in_executor(self, *args: Any) -> Any:
        future = super().run_in_executor(*args)
        self.in_progress += 1
        future.add_done_callback(self._done)
        return future

    def _done(self, _future: Any) -> None:
        self.in_progress -= 1


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self._loop.in_progress:
            return super().select(1)
        if timeout is None:  # a closing loop waits for its threads
            events = super().select(60)
            assert events, "every task waits forever"
            return events
        self._loop.clock.elapsed += timeout
        return []


@dataclass
class Poll:
    """A request that a trigger has sent, and when its response arrived."""

    at: float
    path: str
    good: bool


@dataclass
class Triggerer:
    """An event loop with many triggers."""

    sandbox: Sandbox
    clock: Clock
    over_http: bool = True
    hangs: bool = False  # whether requests get no response
    polls: list[Poll] = field(default_factory=list)
    events: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)  # by execution: time and payload

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        loop = Loop(self.clock)
        try:
            loop.run_until_complete(main)
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    async def run_trigger(self, kind: str, sync_id: str, execution_id: str, interval: float, **more: Any) -> None:
        """Run one trigger until its event."""
        more = {"waiting_since": self.clock.wall(), **more}
        trigger = PolytomicExecutionTrigger(kind, sync_id, execution_id, poke_interval=interval, **more)
        async for event in recreate_trigger(trigger).run():
            assert execution_id not in self.events
            self.events[execution_id] = self.clock.elapsed, event.payload

    def first_failure(self, execution_id: str, since: float) -> float:
        """When the first poll of one execution since ``since`` failed."""
        return min(
            poll.at for poll in self.polls if poll.path.endswith(execution_id) and poll.at >= since and not poll.good
        )

    async def until(self, elapsed: float) -> None:
        await asyncio.sleep(max(elapsed - self.clock.elapsed, 0))


def make_triggerer(monkeypatch: pytest.MonkeyPatch, seed: dict[str, Any], close: Callable[..., Any]) -> Triggerer:
    """A triggerer and the sandbox that its connection leads to."""
    clock = Clock()
    sandbox = Sandbox(seed, now=clock.server)
    server = Server(sandbox)
    close(server.close)
    triggerer = Triggerer(sandbox, clock)
    connection = {"conn_type": "polytomic", "host": server.url, "password": sandbox.key}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
    monkeypatch.setattr(time, "time", clock.wall)
    for driver in (client.drive, client.adrive):
        monkeypatch.setitem(driver.__kwdefaults__, "now", clock.wall)
    send = aiohttp_transport.Transport.send

    async def send_and_log(transport: aiohttp_transport.Transport, request: Request) -> SendResult:
        loop: Any = asyncio.get_running_loop()
        if triggerer.hangs:
            await asyncio.sleep(min(request.timeout or REQUEST_TIMEOUT, REQUEST_TIMEOUT))
            response: SendResult = TransportFailure("no response in time")
        elif not triggerer.over_http:
            await asyncio.sleep(LATENCY)
            response = sandbox.send(request)
        else:
            loop.in_progress += 1
            try:
                response = await send(transport, request)
            finally:
                loop.in_progress -= 1
        good = isinstance(response, Response) and response.status == 200
        triggerer.polls.append(Poll(clock.elapsed, request.path, good))
        return response

    monkeypatch.setattr(aiohttp_transport.Transport, "send", send_and_log)
    return triggerer
