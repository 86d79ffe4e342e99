"""Metrics of a task, with a recording client in place of Airflow's. Airflow's own is covered by tests/system."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_polytomic._airflow import compat, metrics
from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE

from .conftest import Task, make_context

SYNC = SALESFORCE_TO_WAREHOUSE
EXECUTIONS = "polytomic.executions."


class Client:
    """Records what Airflow's client would send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, float, dict[str, str]]] = []

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str] | None = None) -> None:
        self.sent.append((stat, count, tags or {}))

    def gauge(self, stat: str, value: float) -> None:
        self.sent.append((stat, value, {}))

    timing = incr

    @property
    def counts(self) -> dict[str, float]:
        return {stat.removeprefix(EXECUTIONS): count for stat, count, _ in self.sent}


class FailingClient:
    def __getattr__(self, name: str) -> Any:
        raise OSError("no such host")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    client = Client()
    monkeypatch.setattr(compat, "metrics_client", lambda **_: client)
    return client


def task(**arguments: Any) -> Task:
    arguments = {"task_id": "sync", "sync_id": SYNC, "poke_interval": 0.05, **arguments}
    return Task(lambda: PolytomicBulkSyncOperator(**arguments))


def test_task_sends_metrics_of_its_execution(polytomic_sandbox: Any, deferrable: bool, client: Client) -> None:
    """Its start, its end, its records, and how long the task waited."""
    task(deferrable=deferrable).run()

    assert set(client.counts) == {"started", "succeeded", "wait_duration", "records"}
    assert (client.counts["started"], client.counts["succeeded"], client.counts["records"]) == (1, 1, 860)
    assert client.counts["wait_duration"] > 0
    assert [tags for *_, tags in client.sent] == [{"dag_id": "a_dag", "task_id": "sync", "kind": "bulk"}] * 4


def test_model_sync_task_sends_metrics_of_its_execution(polytomic_sandbox: Any, client: Client) -> None:
    """They have the same names."""
    Task(lambda: PolytomicModelSyncOperator(task_id="sync", sync_id=WAREHOUSE_TO_SALESFORCE, poke_interval=0.05)).run()

    assert client.counts["started"] == client.counts["succeeded"] == 1
    assert {tags["kind"] for *_, tags in client.sent} == {"model"}


class LateTask(Task):
    """A task whose trigger fires 1,000 seconds after its start."""

    def _resume(self, deferral: Any, context: dict[str, Any], event: Any) -> Any:
        event["deferral_state"]["resolved_at"] -= 1000
        return super()._resume(deferral, context, event)


def test_wait_duration_contains_the_time_in_the_triggerer(polytomic_sandbox: Any, client: Client) -> None:
    """The time of the start is carried through the deferral."""
    LateTask(task(deferrable=True).make).run()

    assert client.counts["wait_duration"] >= 1000 * 1000


def test_retry_sends_that_it_resumed(polytomic_sandbox: Any, client: Client) -> None:
    """It does not count as a start."""
    arguments: Any = {"wait_for_completion": False}
    task(**arguments).run(make_context(try_number=1, max_tries=1))
    task(**arguments, retries=1).run(make_context(try_number=2, max_tries=1))

    assert client.counts == {"started": 1, "resumed": 1}


def test_task_sends_that_it_attached(polytomic_sandbox: Any, client: Client) -> None:
    """It does not count as a start."""
    polytomic_sandbox.start_foreign(SYNC)

    task(if_running="attach").run()

    assert client.counts["attached"] == 1
    assert "started" not in client.counts


class TestFailure:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas = [{"id": "good", "rows": 10, "errors": 3}]
        return {"bulk_syncs": [{"name": "Partly", "id": SYNC, "schemas": schemas}]}

    def test_failed_task_sends_its_errors(self, polytomic_sandbox: Any, deferrable: bool, client: Client) -> None:
        """The execution failed by the task's criteria, although it completed."""
        with pytest.raises(PolytomicSyncError):
            task(deferrable=deferrable).run()

        assert client.counts["failed"] == 1
        assert client.counts["errors"] == 3
        assert "succeeded" not in client.counts


def test_failing_metrics_backend_does_not_change_the_result(
    polytomic_sandbox: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task succeeds with the same XComs."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    monkeypatch.setattr(compat, "metrics_client", lambda **_: FailingClient())
    context = make_context()

    execution_id = task(deferrable=deferrable).run(context)

    assert context["ti"].summary["execution_id"] == execution_id
    assert context["ti"].summary["status"] == "completed"


def test_metrics_client_is_not_loaded_when_airflow_sends_no_metrics(
    polytomic_sandbox: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No client is looked up, and the triggerer has no thread for metrics."""
    monkeypatch.setattr(compat, "metrics_client", lambda **_: pytest.fail("it was loaded"))

    task(deferrable=deferrable).run()
    metrics.BatchPollObserver()(2)

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("polytomic-metrics")]


def test_invalid_metrics_configuration_does_not_disturb_batch_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The observer ignores it, and sends nothing."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "perhaps")
    monkeypatch.setattr(compat, "metrics_client", lambda **_: pytest.fail("it was loaded"))
    observe = metrics.BatchPollObserver()
    observe(2)

    assert not observe.is_enabled


@pytest.fixture
def hanging(client: Client) -> Iterator[threading.Event]:
    released, send = threading.Event(), client.gauge

    def gauge(stat: str, value: float) -> None:
        released.wait(10)
        send(stat, value)

    client.gauge = gauge  # type: ignore[method-assign]
    yield released
    released.set()


def test_hanging_metrics_backend_does_not_block_the_triggerer(client: Client, hanging: threading.Event) -> None:
    """Sizes that come while it hangs are dropped, and later ones are sent."""
    observe = metrics.BatchPollObserver()

    async def main() -> None:
        for size in (3, 4, 5):
            observe(size)
        assert client.sent == []
        hanging.set()
        while len(client.sent) < 2:
            if client.sent:
                observe(6)
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert client.sent[:2] == [("polytomic.batch_poll.size", 3, {}), ("polytomic.batch_poll.size", 6, {})]
