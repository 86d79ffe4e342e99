"""`map_index_template="{{ sync_name }}"`: a mapped task is labelled with its sync's name."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor

from .conftest import Task, make_context

NAME = "Salesforce to warehouse"
LABELLED = {"map_index_template": "{{ sync_name }}"}


@pytest.fixture(params=[PolytomicBulkSyncOperator, PolytomicBulkSyncSensor])
def make(request: pytest.FixtureRequest, polytomic_sandbox: Any) -> Any:
    """An operator, and a sensor that has something to wait for."""
    known = {"task_id": "sync", "poke_interval": 0.05}
    if request.param is PolytomicBulkSyncSensor:
        known["execution_id"] = polytomic_sandbox.start_foreign(SYNC).id
    return lambda **arguments: Task(lambda: request.param(**known, **arguments))


def lookups(sandbox: Any) -> int:
    """How often the sync itself was asked for."""
    return sum(request.path == f"/api/bulk/syncs/{SYNC}" for request in sandbox.requests)


def run(task: Task) -> dict[str, Any]:
    """The context of the leg that ended the task."""
    contexts: list[dict[str, Any]] = []
    make = task.make

    def remembering() -> Any:
        operator = make()
        for name in ("execute", "execute_complete"):
            leg = getattr(operator, name)

            def with_its_own(context: Any, *args: Any, leg: Any = leg, **kwargs: Any) -> Any:
                contexts.append(dict(context))
                return leg(contexts[-1], *args, **kwargs)

            object.__setattr__(operator, name, with_its_own)
        return operator

    Task(remembering).run(make_context())
    return contexts[-1]


@pytest.mark.parametrize("which", [{"sync_id": SYNC}, {"sync_name": NAME}], ids=["by id", "by name"])
def test_the_context_has_the_name(make: Any, deferrable: bool, which: dict[str, str]) -> None:
    """In the leg that ends the task the name is there for the template, whether it was given or not."""
    assert run(make(deferrable=deferrable, **which, **LABELLED))["sync_name"] == NAME


def test_the_name_is_asked_for_once(make: Any, polytomic_sandbox: Any, deferrable: bool) -> None:
    """The resumed task has it from the trigger."""
    run(make(deferrable=deferrable, sync_id=SYNC, **LABELLED))

    assert lookups(polytomic_sandbox) == 1


def test_nobody_else_pays_for_it(make: Any, polytomic_sandbox: Any, deferrable: bool) -> None:
    """Without a template that uses it, the name of a sync that is given by id is not asked for."""
    context = run(make(deferrable=deferrable, sync_id=SYNC, map_index_template="{{ task.sync_id }}"))

    assert context["sync_name"] == SYNC
    assert lookups(polytomic_sandbox) == 0


def test_without_an_answer_it_is_the_id(make: Any, polytomic_sandbox: Any, deferrable: bool) -> None:
    """A label is not worth a failure."""
    polytomic_sandbox.faults.status(500, f"GET /api/bulk/syncs/{SYNC}", times=None)

    assert run(make(deferrable=deferrable, sync_id=SYNC, **LABELLED))["sync_name"] == SYNC
