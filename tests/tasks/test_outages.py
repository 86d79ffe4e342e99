"""Outages while deferred tasks wait for hours: real triggers on a virtual clock, against the sandbox over HTTP."""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_polytomic.api.executions.outage import MAX_BACKOFF, MAX_POLL_TIME, OUTAGE_BUDGET

from .virtual_time import REQUEST_TIMEOUT, Triggerer, make_triggerer

MINUTE, HOUR = 60.0, 3600.0
PAGE = b"<!DOCTYPE html><html><title>Bad gateway</title></html>"
STORMS = int(os.environ.get("POLYTOMIC_STORMS", "3"))
STORM_HOURS = 24.0
RECOVERY_TIME = 2 * MINUTE + REQUEST_TIMEOUT  # by then every trigger has polled successfully after an outage


def seed(kind: str, number: int) -> dict[str, Any]:
    more = {"schemas": ["one"]} if kind == "bulk" else {}
    return {
        f"{kind}_syncs": [
            {"name": f"{kind} {n}", "id": f"{kind}-{n}", "duration": 1000 * HOUR, **more} for n in range(number)
        ]
    }


@pytest.fixture
def triggerer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Triggerer:
    return make_triggerer(monkeypatch, seed("bulk", 12) | seed("model", 3), request.addfinalizer)


@contextmanager
def outage(triggerer: Triggerer, kind: str, on: str = ".*") -> Iterator[None]:
    """Requests that match ``on`` fail, in the way that ``kind`` names."""
    faults = triggerer.sandbox.faults
    make: dict[str, Callable[[], Any]] = {
        "page": lambda: faults.status(502, on, times=None, body=PAGE),
        "api error": lambda: faults.status(503, on, times=None),
        "busy": lambda: faults.status(429, on, times=None, headers={"Retry-After": "120"}),
        "access denied": lambda: faults.status(403, on, times=None, body=PAGE),
        "dropped": lambda: faults.drop_before(on, times=None),
        "truncated": lambda: faults.garbage("truncated", on, times=None),
        "another execution": lambda: faults.status(
            200, on, times=None, body={"data": {"id": "yesterday", "status": "completed"}}
        ),
    }
    triggerer.hangs = kind == "hangs"
    fault = None if triggerer.hangs else make[kind]()
    try:
        yield
    finally:
        triggerer.hangs = False
        if fault is not None:
            fault.left = 0


class Waits:
    """Triggers that each wait for an execution: many bulk syncs polled in batches, one alone, or many model syncs."""

    def __init__(self, triggerer: Triggerer, which: str, interval: float) -> None:
        kind, number = {"batch": ("bulk", 12), "alone": ("bulk", 1), "model": ("model", 3)}[which]
        self.triggerer = triggerer
        self.executions = {f"{kind}-{n}": triggerer.sandbox.start_foreign(f"{kind}-{n}").id for n in range(number)}
        self.tasks = [(kind, sync_id, execution_id, interval) for sync_id, execution_id in self.executions.items()]

    def run(self, meanwhile: Callable[[], Any]) -> None:
        async def main() -> None:
            waiting = [asyncio.ensure_future(self.triggerer.run_trigger(*task)) for task in self.tasks]
            await meanwhile()
            for sync_id, execution_id in self.executions.items():
                self.triggerer.sandbox.finish(sync_id, execution_id)
            await asyncio.gather(*waiting)

        self.triggerer.run(main())

    @property
    def outcomes(self) -> set[str]:
        return {event["outcome"] for _, event in self.triggerer.events.values()}

    def assert_failed_after_the_budget(self, began: float, *, later: float = 0.0) -> None:
        """Assert that each wait failed after its own polls had failed for 10 minutes."""
        assert len(self.triggerer.events) == len(self.executions)
        for execution_id, (at, event) in self.triggerer.events.items():
            assert event["outcome"] == "error"
            lasted = re.search(r"no valid response for (\d+) s", event["message"])
            assert lasted, event
            assert OUTAGE_BUDGET <= int(lasted[1]) <= OUTAGE_BUDGET + MAX_BACKOFF + REQUEST_TIMEOUT
            waited = at - self.triggerer.first_failure(execution_id, began)
            assert OUTAGE_BUDGET <= waited <= OUTAGE_BUDGET + MAX_BACKOFF + REQUEST_TIMEOUT + later


INTERVALS = [(5.0, False), (30.0, False), (900.0, True), (3600.0, True)]


@pytest.mark.parametrize("kind", ["page", "hangs"])
@pytest.mark.parametrize(("interval", "over_http"), INTERVALS)
@pytest.mark.parametrize("which", ["batch", "alone", "model"])
def test_trigger_keeps_waiting_through_an_outage_of_nine_minutes(
    triggerer: Triggerer, which: str, interval: float, over_http: bool, kind: str
) -> None:
    """Outages of a second, a minute and nine minutes do not end the wait, whatever the poll interval."""
    triggerer.over_http = over_http
    waits = Waits(triggerer, which, interval)

    async def outages() -> None:
        for number, duration in enumerate((1.0, MINUTE, 9 * MINUTE)):
            # Shortly after polls that are a multiple of an interval apart are due.
            await triggerer.until((number + 1) * (HOUR + 2 * MINUTE) + 20)
            with outage(triggerer, kind):
                await asyncio.sleep(duration)
        await asyncio.sleep(RECOVERY_TIME)
        assert triggerer.events == {}

    waits.run(outages)
    assert waits.outcomes == {"ended"}


@pytest.mark.parametrize("kind", ["page", "hangs"])
@pytest.mark.parametrize(("interval", "over_http"), INTERVALS)
@pytest.mark.parametrize("which", ["batch", "alone", "model"])
def test_trigger_stops_waiting_after_ten_minutes_of_outage(
    triggerer: Triggerer, which: str, interval: float, over_http: bool, kind: str
) -> None:
    """The wait ends 10 minutes after its first failed poll, whatever the poll interval."""
    triggerer.over_http = over_http
    waits = Waits(triggerer, which, interval)
    began = 2 * HOUR + 17

    async def long_outage() -> None:
        await triggerer.until(began)
        with outage(triggerer, kind):
            await asyncio.sleep(interval + 20 * MINUTE)  # every trigger polls once, and fails for 20 minutes

    waits.run(long_outage)
    waits.assert_failed_after_the_budget(began)


@pytest.mark.parametrize("interval", [5.0, 30.0])
def test_trigger_keeps_waiting_when_direct_polls_fail_but_batch_polls_succeed(
    triggerer: Triggerer, interval: float
) -> None:
    """A batch response that lists the execution is a successful poll, whatever happens to the direct polls."""
    waits = Waits(triggerer, "batch", interval)

    async def outage_of_single_polls() -> None:
        await triggerer.until(HOUR)
        with outage(triggerer, "page", "GET .*/executions/.*"):
            await asyncio.sleep(2 * HOUR)
            assert triggerer.events == {}

    waits.run(outage_of_single_polls)
    assert waits.outcomes == {"ended"}


@pytest.mark.parametrize("interval", [30.0, 900.0])
@pytest.mark.parametrize("which", ["batch", "alone", "model"])
@pytest.mark.parametrize("during", ["pause", "request"])
def test_outage_budget_excludes_the_suspension_of_the_triggerer(
    triggerer: Triggerer, which: str, interval: float, during: str
) -> None:
    """A triggerer that is suspended for an hour between two failed polls has not seen an hour of failures."""
    waits = Waits(triggerer, which, interval)

    async def suspension() -> None:
        await triggerer.until(2 * HOUR)
        triggerer.clock.suspend(HOUR)  # no outage at the same time
        await asyncio.sleep(20 * MINUTE)
        with outage(triggerer, "hangs" if during == "request" else "page"):
            while triggerer.polls[-1].good:  # noqa: ASYNC110
                await asyncio.sleep(1)
            await asyncio.sleep(2 * MINUTE)
            triggerer.clock.suspend(HOUR)
            await asyncio.sleep(MINUTE)
        await asyncio.sleep(RECOVERY_TIME)
        assert triggerer.events == {}

    waits.run(suspension)
    assert waits.outcomes == {"ended"}


@pytest.mark.parametrize("jump", [-2 * HOUR, 2 * HOUR])
@pytest.mark.parametrize("which", ["batch", "model"])
def test_outage_budget_tolerates_a_jump_of_the_wall_clock(triggerer: Triggerer, which: str, jump: float) -> None:
    """A wall clock that is set by hours during an outage changes the counted time by two minutes at most."""
    triggerer.over_http = False
    waits = Waits(triggerer, which, 30.0)
    began = 3 * HOUR

    async def jumps() -> None:
        await triggerer.until(HOUR)
        triggerer.clock.offset += jump  # no outage at the same time
        await triggerer.until(2 * HOUR)
        with outage(triggerer, "page"):
            await asyncio.sleep(4 * MINUTE)
            triggerer.clock.offset -= jump
            await asyncio.sleep(3 * MINUTE)
        await triggerer.until(began)
        assert triggerer.events == {}
        with outage(triggerer, "page"):
            await asyncio.sleep(5 * MINUTE)
            triggerer.clock.offset += jump
            await asyncio.sleep(15 * MINUTE)

    waits.run(jumps)
    for execution_id, (at, event) in triggerer.events.items():
        assert "no valid response for" in event["message"]
        # An interval with a backward jump counts as zero seconds, and a poll with a jump as two minutes.
        waited = at - triggerer.first_failure(execution_id, began)
        assert OUTAGE_BUDGET - MAX_POLL_TIME - 1 <= waited <= OUTAGE_BUDGET + MAX_BACKOFF


class Storm:
    """A day of waits and random faults, reproducible by seed.

    Triggers of both kinds of sync wait with all poll intervals, while outages, suspensions and clock changes follow one
    another.
    """

    KINDS = ("page", "api error", "busy", "access denied", "dropped", "truncated", "another execution", "hangs")
    SCOPES = (".*", "GET .*/executions/.*", "GET /api/bulk/syncs/status")

    def __init__(self, triggerer: Triggerer, number: int) -> None:
        triggerer.over_http = False
        self.triggerer = triggerer
        self.dice = random.Random(number)
        self.ends: dict[str, tuple[str, str, float, str]] = {}  # by execution: sync, status, time, interval
        self.outages = 0
        self.hours = 0.0

    def run(self) -> None:
        self.triggerer.run(self._main())

    async def _main(self) -> None:
        sandbox, dice = self.triggerer.sandbox, self.dice
        coroutines = []
        for sync_id in [*(f"bulk-{n}" for n in range(12)), *(f"model-{n}" for n in range(3))]:
            execution_id = sandbox.start_foreign(sync_id).id
            kind, interval = sync_id.split("-")[0], dice.choice([30.0, 60.0, 300.0, 900.0, HOUR])
            end, status = dice.uniform(HOUR, STORM_HOURS * HOUR), dice.choice(["completed", "failed", "canceled"])
            coroutines += [
                self._wait(kind, sync_id, execution_id, interval),
                self._end(sync_id, execution_id, end, status),
            ]
            self.ends[execution_id] = sync_id, status, end, str(interval)
        injection = asyncio.ensure_future(self._inject_faults())
        await asyncio.gather(*coroutines)
        injection.cancel()
        await asyncio.gather(injection, return_exceptions=True)

    async def _wait(self, kind: str, sync_id: str, execution_id: str, interval: float) -> None:
        """Run the trigger until its event.

        At random times the triggerer dies, and another one runs the trigger again.
        """
        since = self.triggerer.clock.wall()
        while execution_id not in self.triggerer.events:
            waiting = asyncio.ensure_future(
                self.triggerer.run_trigger(kind, sync_id, execution_id, interval, waiting_since=since)
            )
            await asyncio.wait([waiting], timeout=self.dice.uniform(HOUR, 20 * HOUR))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        self.hours += self.triggerer.events[execution_id][0] / HOUR

    async def _end(self, sync_id: str, execution_id: str, at: float, status: str) -> None:
        await self.triggerer.until(at)
        self.triggerer.sandbox.finish(sync_id, execution_id, status)

    async def _inject_faults(self) -> None:
        dice, clock = self.dice, self.triggerer.clock
        while True:
            await asyncio.sleep(RECOVERY_TIME + dice.expovariate(1 / (20 * MINUTE)))
            fault = dice.choice(["outage"] * 8 + ["suspension", "clock"])
            if fault == "suspension":
                clock.suspend(dice.uniform(MINUTE, HOUR))
            elif fault == "clock":
                clock.offset = dice.choice([0, -HOUR, HOUR, dice.uniform(-MINUTE, MINUTE)])
            else:
                self.outages += 1
                with outage(self.triggerer, dice.choice(self.KINDS), dice.choice(self.SCOPES)):
                    # Shorter than the outage budget less the longest Retry-After.
                    await asyncio.sleep(dice.choice([0.5, MINUTE, dice.uniform(0, 9 * MINUTE)]))


@pytest.mark.parametrize("number", range(STORMS))
def test_trigger_reports_the_end_of_its_execution_after_a_day_of_faults(triggerer: Triggerer, number: int) -> None:
    """Outages of up to nine minutes, suspensions, clock jumps and lost triggerers do not end a wait early."""
    storm = Storm(triggerer, number)

    storm.run()

    for execution_id, (_, status, end, _) in storm.ends.items():
        at, event = triggerer.events[execution_id]
        assert (event["outcome"], event["execution"]["status"]) == ("ended", status), event
        assert at >= end
    assert storm.outages >= 10
    print(f"{storm.hours:.0f} hours waited, {storm.outages} outages")
