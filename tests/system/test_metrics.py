"""Metrics on a real Airflow: its workers and its triggerer send them to a StatsD server."""

from __future__ import annotations

import re

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from tests.system.metrics import Metrics
from tools.local_airflow import LocalAirflow

pytestmark = pytest.mark.system

PREFIX = "airflow.polytomic.executions."


@pytest.fixture(scope="module")
def sent(airflow: LocalAirflow, sandbox: Sandbox, metrics: Metrics) -> dict[str, list[str]]:
    """What one deferred task added to the metrics."""
    before = {name: len(values) for name, values in metrics.received.items()}
    run_id = airflow.trigger("start_and_wait")
    airflow.wait_task("start_and_wait", run_id, "sync", "deferred")
    assert airflow.wait_run("start_and_wait", run_id) == "success"
    airflow.until(
        lambda: len(metrics.received.get(f"{PREFIX}records", [])) > before.get(f"{PREFIX}records", 0), "metrics"
    )
    return {name: values[before.get(name, 0) :] for name, values in metrics.received.items()}


def test_worker_sends_metrics_of_a_deferred_task(sent: dict[str, list[str]]) -> None:
    """The start before the deferral, and the end after it, under the names in the documentation."""
    assert sent[f"{PREFIX}started"] == sent[f"{PREFIX}succeeded"] == ["1|c"]
    assert sent[f"{PREFIX}records"] == ["860|c"]
    (waited,) = sent[f"{PREFIX}wait_duration"]
    assert waited.endswith("|ms")
    assert float(waited.removesuffix("|ms")) > 1000
    assert not sent.get(f"{PREFIX}failed")


def test_triggerer_sends_the_size_of_its_batch_polls(airflow: LocalAirflow, sandbox: Sandbox, metrics: Metrics) -> None:
    """Deferred tasks wait for executions of several syncs, which run until the triggerer has polled them together."""
    syncs = [sandbox.add_bulk_sync(f"Measured {number}", duration=100_000) for number in range(2)]
    airflow.add_pool("polytomic", 10)
    run_id = airflow.trigger("many_syncs", conf={"name": "Measured *"})

    def read_sizes() -> list[str]:
        return list(metrics.received.get("airflow.polytomic.batch_poll.size", []))

    airflow.until(lambda: "2|g" in read_sizes(), "a batch poll for two syncs")

    for sync in syncs:
        sandbox.finish(sync, sandbox.starts(sync)[-1].id)
    assert airflow.wait_run("many_syncs", run_id) == "success"
    assert {re.sub("[0-9]+", "", size) for size in read_sizes()} == {"|g"}
