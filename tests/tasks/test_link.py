"""The link to the execution in Polytomic's web app."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_polytomic import links
from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.links import LINK_KEY, PolytomicExecutionLink
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor

from .conftest import Task, TaskDeferred, make_context

TEMPLATE = "https://app.example.com/#/{kind}/{sync_id}?run={execution_id}"
KINDS = {
    PolytomicBulkSyncOperator: ("bulk", SALESFORCE_TO_WAREHOUSE),
    PolytomicBulkSyncSensor: ("bulk", SALESFORCE_TO_WAREHOUSE),
    PolytomicModelSyncOperator: ("model", WAREHOUSE_TO_SALESFORCE),
    PolytomicModelSyncSensor: ("model", WAREHOUSE_TO_SALESFORCE),
}


@pytest.fixture
def ui_url(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set `ui_url` in the connection."""
    connection = {"conn_type": "polytomic", "host": polytomic_sandbox.url, "password": polytomic_sandbox.key}
    connection["extra"] = {"ui_url": TEMPLATE}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))


def pushed_links(context: dict[str, Any]) -> list[str]:
    return [value for key, value in context["ti"].xcoms if key == LINK_KEY]


@pytest.mark.parametrize("task_class", KINDS, ids=lambda task_class: task_class.__name__)
def test_link_leads_to_the_execution(polytomic_sandbox: Any, ui_url: None, task_class: Any, deferrable: bool) -> None:
    """Operators and sensors of both kinds push it, in both modes."""
    kind, sync_id = KINDS[task_class]
    context = make_context()
    arguments = {"task_id": "sync", "sync_id": sync_id, "poke_interval": 0.05, "deferrable": deferrable}
    if "Sensor" in task_class.__name__:
        arguments["execution_id"] = polytomic_sandbox.start_foreign(sync_id).id

    execution_id = Task(lambda: task_class(**arguments)).run(context)

    expected = f"https://app.example.com/#/{kind}/{sync_id}?run={execution_id}"
    assert set(pushed_links(context)) == {expected}


def test_link_is_pushed_before_the_task_defers(polytomic_sandbox: Any, ui_url: None) -> None:
    """A deferred task has its link."""
    context = make_context()
    with pytest.raises(TaskDeferred) as deferred:
        PolytomicBulkSyncOperator(task_id="sync", sync_id=SALESFORCE_TO_WAREHOUSE, deferrable=True).execute(context)

    (link,) = pushed_links(context)
    assert link.endswith(deferred.value.trigger.execution_id)


class TestFailure:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return {"bulk_syncs": [{"name": "Fails", "id": SALESFORCE_TO_WAREHOUSE, "schemas": ["t"], "outcome": "failed"}]}

    def test_link_is_pushed_when_the_execution_fails(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """A failed task has its link."""
        context = make_context()
        with pytest.raises(PolytomicSyncError):
            Task(
                lambda: PolytomicBulkSyncOperator(
                    task_id="sync", sync_id=SALESFORCE_TO_WAREHOUSE, poke_interval=0.05, deferrable=deferrable
                )
            ).run(context)

        assert pushed_links(context) == [polytomic_sandbox.url]


def test_link_is_the_base_url_without_ui_url(polytomic_sandbox: Any) -> None:
    """Polytomic does not document the address of an execution."""
    context = make_context()
    Task(lambda: PolytomicBulkSyncOperator(task_id="sync", sync_id=SALESFORCE_TO_WAREHOUSE, poke_interval=0.05)).run(
        context
    )

    assert pushed_links(context) == [polytomic_sandbox.url]


@pytest.mark.parametrize(
    ("xcom", "link"), [("https://x.example/1", "https://x.example/1"), (None, ""), ({"odd": 1}, "")]
)
def test_get_link_returns_the_pushed_link(monkeypatch: pytest.MonkeyPatch, xcom: Any, link: str) -> None:
    """It is empty when the task has pushed none, or something else."""
    monkeypatch.setattr(links, "read_xcom", lambda ti_key, key: xcom)

    assert PolytomicExecutionLink().get_link(object(), ti_key=object()) == link


def test_get_link_returns_an_empty_string_on_errors() -> None:
    """For instance outside of Airflow, or for a task that does not exist."""
    assert PolytomicExecutionLink().get_link(None, ti_key=None) == ""
