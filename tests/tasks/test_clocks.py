"""Workers and triggerers on machines whose clocks differ: real tasks and triggers on a virtual clock, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_polytomic.api.executions import outage
from airflow_provider_polytomic.api.executions.server_clock import MAX_CORRECTION
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from tests.tasks.conftest import TaskDeferred, make_context, recreate_trigger

from .virtual_time import Triggerer, make_triggerer

MINUTE = 60.0
SYNC, OTHER = "orders", "customers"
TIMEOUT = 10 * MINUTE
LIMITS: dict[str, dict[str, Any]] = {
    SYNC: {"timeout": TIMEOUT},
    OTHER: {"execution_timeout": timedelta(seconds=TIMEOUT / 0.9)},  # a tenth is reserved
}
# Errors of the clocks in seconds: of the worker's and of the triggerer's, compared to the server's.
ERRORS = [(0, 300), (0, -300), (300, -300), (3600, 3600)]
TOLERANCE = 2.0  # seconds: a Date header has no fraction
POKE_INTERVAL = 30.0


@pytest.fixture
def triggerer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Triggerer:
    syncs = [{"name": sync, "id": sync, "duration": 1e6, "schemas": ["one"]} for sync in (SYNC, OTHER)]
    return make_triggerer(monkeypatch, {"bulk_syncs": syncs}, request.addfinalizer)


class Machines:
    """A worker and a triggerer, each with an error of its clock."""

    def __init__(self, triggerer: Triggerer, worker: float, other: float) -> None:
        self.triggerer, self.clock = triggerer, triggerer.clock
        self.worker, self._other = worker, other

    def work(self, step: Callable[[], Any]) -> Any:
        """Run a step of a task in the worker: return its result, or its deferral."""
        self.clock.offset = self.worker
        try:
            return step()
        except TaskDeferred as deferral:
            return deferral

    def wait(
        self, *triggers: Any, meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None
    ) -> list[tuple[float, dict[str, Any]]]:
        """Run triggers in the triggerer. Return for each when it fired, and its event."""
        self.clock.offset = self._other
        events: list[tuple[float, dict[str, Any]]] = []

        async def run(trigger: Any) -> None:
            async for event in recreate_trigger(trigger).run():
                events.append((self.clock.elapsed, event.payload))

        async def run_all() -> None:
            await asyncio.gather(*map(run, triggers), *([meanwhile()] if meanwhile else []))

        self.triggerer.run(run_all())
        return events


def make_operator(sync_id: str = SYNC, **arguments: Any) -> PolytomicBulkSyncOperator:
    return PolytomicBulkSyncOperator(
        **{"task_id": "sync", "sync_id": sync_id, "deferrable": True, "poke_interval": POKE_INTERVAL, **arguments}
    )


def cancel_requests(triggerer: Triggerer) -> list[str]:
    return [request.path for request in triggerer.sandbox.requests if request.path.endswith("/cancel")]


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "batched"])
@pytest.mark.parametrize(("worker", "other"), ERRORS)
def test_deadline_passes_on_time_when_the_clocks_of_worker_and_triggerer_differ(
    triggerer: Triggerer, worker: float, other: float, batched: bool
) -> None:
    """Neither early nor late, by the time that the worker measured."""
    machines = Machines(triggerer, worker, other)
    syncs = [SYNC, OTHER] if batched else [SYNC]
    deferrals = [
        machines.work(lambda sync=sync: make_operator(sync, **LIMITS[sync]).execute(make_context(task_id=sync)))
        for sync in syncs
    ]

    events = machines.wait(*(deferral.trigger for deferral in deferrals))

    for fired, event in events:
        assert event["outcome"] == "timeout"
        assert TIMEOUT - TOLERANCE <= fired <= TIMEOUT + TOLERANCE
    assert len(cancel_requests(triggerer)) == len(syncs)


@pytest.mark.parametrize(("worker", "other"), ERRORS)
def test_new_execution_may_be_unknown_for_a_minute_when_the_clocks_differ(
    triggerer: Triggerer, worker: float, other: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trigger counts the minute from the deferral."""
    monkeypatch.setattr(outage, "REPLICA_LAG", MINUTE)
    machines = Machines(triggerer, worker, other)
    deferral = machines.work(lambda: make_operator(poke_interval=5).execute(make_context()))
    (execution,) = triggerer.sandbox.starts(SYNC)
    unknown = triggerer.sandbox.faults.status(404, f"GET .*/{execution.id}", times=None)

    async def become_known() -> None:
        await triggerer.until(40)
        unknown.left = 0
        triggerer.sandbox.finish(SYNC, execution.id)

    ((_, event),) = machines.wait(deferral.trigger, meanwhile=become_known)

    assert event["outcome"] == "ended"


@pytest.mark.parametrize("second_worker", [300, -300])
def test_deadline_stays_when_the_clocks_of_two_workers_differ(triggerer: Triggerer, second_worker: float) -> None:
    """A task that waited for a blocking execution starts its own on another worker, and has the rest of its time."""
    machines = Machines(triggerer, 0, 0)
    blocking = triggerer.sandbox.start_foreign(SYNC)
    context = make_context()
    deferral = machines.work(lambda: make_operator(timeout=TIMEOUT).execute(context))

    async def end_the_blocking_execution() -> None:
        await triggerer.until(TIMEOUT - MINUTE)
        triggerer.sandbox.finish(SYNC, blocking.id)

    ((_, event),) = machines.wait(deferral.trigger, meanwhile=end_the_blocking_execution)
    machines.worker = second_worker
    deferral = machines.work(lambda: make_operator(timeout=TIMEOUT).execute_complete(context, event))
    ((fired, event),) = machines.wait(deferral.trigger)

    assert event["outcome"] == "timeout"
    assert TIMEOUT - TOLERANCE <= fired <= TIMEOUT + TOLERANCE


@pytest.mark.parametrize("second_worker", [300, -300])
def test_retry_on_a_worker_with_another_clock_resumes_the_execution(triggerer: Triggerer, second_worker: float) -> None:
    """Idempotency keys contain no time of a worker."""
    machines = Machines(triggerer, 0, 0)
    machines.work(lambda: make_operator().execute(make_context(max_tries=1)))
    machines.worker = second_worker
    retry = make_context(max_tries=1, try_number=2)

    deferral = machines.work(lambda: make_operator(retries=1).execute(retry))

    (execution,) = triggerer.sandbox.starts(SYNC)
    assert deferral.trigger.execution_id == execution.id


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
@pytest.mark.parametrize(("worker", "other"), ERRORS[:-1])
def test_sensor_waits_for_the_first_execution_that_ends_after_its_first_poke_when_the_clocks_differ(
    triggerer: Triggerer, worker: float, other: float, deferrable: bool
) -> None:
    """An execution that ended before isn't the result, and one that ends soon after isn't missed."""
    machines = Machines(triggerer, worker, other)
    sandbox, clock = triggerer.sandbox, triggerer.clock
    sandbox.finish(SYNC, sandbox.start_foreign(SYNC).id)
    clock.suspend(2 * MINUTE)
    sensor = PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, deferrable=deferrable, poke_interval=POKE_INTERVAL)
    context = make_context()

    def run_next() -> str:
        execution = sandbox.start_foreign(SYNC)
        clock.suspend(MINUTE)
        sandbox.finish(SYNC, execution.id)
        return execution.id

    if deferrable:
        deferral = machines.work(lambda: sensor.execute(context))
        expected = run_next()
        ((_, event),) = machines.wait(deferral.trigger)
        found = event["execution_id"]
    else:
        assert not machines.work(lambda: sensor.poke(context)).is_done
        expected = run_next()
        found = machines.work(lambda: sensor.poke(context)).xcom_value

    assert found == expected


def test_given_time_of_a_sensor_is_not_corrected(triggerer: Triggerer) -> None:
    """`completed_after` is compared with the server's times as it is."""
    machines = Machines(triggerer, 300, 0)
    execution = triggerer.sandbox.start_foreign(SYNC)
    triggerer.sandbox.finish(SYNC, execution.id)
    after = datetime.fromtimestamp(triggerer.clock.server() - 1, timezone.utc)
    sensor = PolytomicBulkSyncSensor(task_id="wait", sync_id=SYNC, deferrable=False, completed_after=after)

    assert machines.work(lambda: sensor.poke(make_context())).xcom_value == execution.id


@pytest.mark.parametrize("error", [86_400, -86_400])
def test_wrong_clock_of_the_server_moves_a_deadline_by_ten_minutes_at_most(triggerer: Triggerer, error: float) -> None:
    """A server whose clock changes while a task waits can't keep the task waiting, or end it much earlier."""
    machines = Machines(triggerer, 0, 0)
    deferral = machines.work(lambda: make_operator(timeout=3 * TIMEOUT).execute(make_context()))
    triggerer.sandbox.faults.skew(error)

    ((fired, _),) = machines.wait(deferral.trigger)

    assert abs(fired - 3 * TIMEOUT) <= MAX_CORRECTION + POKE_INTERVAL


def test_difference_of_the_clocks_is_logged_once(triggerer: Triggerer, caplog: pytest.LogCaptureFixture) -> None:
    """The task's log contains one warning with the difference."""
    machines = Machines(triggerer, 0, 300)
    deferral = machines.work(lambda: make_operator(timeout=TIMEOUT).execute(make_context()))

    machines.wait(deferral.trigger)

    warnings = [record.getMessage() for record in caplog.records if "clocks of this machine" in record.getMessage()]
    assert len(warnings) == 1
    assert "differ by 300 s" in warnings[0] or "differ by 299 s" in warnings[0]
