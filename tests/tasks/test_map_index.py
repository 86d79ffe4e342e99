"""`map_index_template="{{ sync_name }}"`: a mapped task is labeled with the name of its sync."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor

from .conftest import Task, make_context

NAME = "Salesforce to warehouse"
LABELED = {"map_index_template": "{{ sync_name }}"}


@pytest.fixture(params=[PolytomicBulkSyncOperator, PolytomicBulkSyncSensor])
def make(request: pytest.FixtureRequest, polytomic_sandbox: Any) -> Any:
    """Create an operator, or a sensor with an execution to wait for."""
    defaults = {"task_id": "sync", "poke_interval": 0.05}
    if request.param is PolytomicBulkSyncSensor:
        defaults["execution_id"] = polytomic_sandbox.start_foreign(SYNC).id
    return lambda **arguments: Task(lambda: request.param(**defaults, **arguments))


def count_reads(sandbox: Any) -> int:
    """Count the requests for the sync."""
    return sum(request.path == f"/api/bulk/syncs/{SYNC}" for request in sandbox.requests)


def run(task: Task) -> dict[str, Any]:
    """Run a task, and return the context in which it ended."""
    contexts: list[dict[str, Any]] = []
    make = task.make

    def make_recording() -> Any:
        operator = make()
        for name in ("execute", "execute_complete"):
            method = getattr(operator, name)

            def record_context(context: Any, *args: Any, method: Any = method, **kwargs: Any) -> Any:
                contexts.append(dict(context))
                return method(contexts[-1], *args, **kwargs)

            object.__setattr__(operator, name, record_context)
        return operator

    Task(make_recording).run(make_context())
    return contexts[-1]


@pytest.mark.parametrize("which", [{"sync_id": SYNC}, {"sync_name": NAME}], ids=["by id", "by name"])
def test_context_contains_the_sync_name_when_the_task_ends(make: Any, deferrable: bool, which: dict[str, str]) -> None:
    """It is set for a sync given by id or by name."""
    assert run(make(deferrable=deferrable, **which, **LABELED))["sync_name"] == NAME


def test_sync_name_is_read_once(make: Any, polytomic_sandbox: Any, deferrable: bool) -> None:
    """A resumed task has it from the trigger."""
    run(make(deferrable=deferrable, sync_id=SYNC, **LABELED))

    assert count_reads(polytomic_sandbox) == 1


def test_sync_name_is_not_read_when_the_template_does_not_use_it(
    make: Any, polytomic_sandbox: Any, deferrable: bool
) -> None:
    """The context contains the id instead."""
    context = run(make(deferrable=deferrable, sync_id=SYNC, map_index_template="{{ task.sync_id }}"))

    assert context["sync_name"] == SYNC
    assert count_reads(polytomic_sandbox) == 0


def test_context_contains_the_id_when_the_name_cannot_be_read(
    make: Any, polytomic_sandbox: Any, deferrable: bool
) -> None:
    """The task does not fail."""
    polytomic_sandbox.faults.status(500, f"GET /api/bulk/syncs/{SYNC}", times=None)

    assert run(make(deferrable=deferrable, sync_id=SYNC, **LABELED))["sync_name"] == SYNC
