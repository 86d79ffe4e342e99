"""The link to the execution in Polytomic's web app."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_polytomic import links
from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.links import XCOM_KEY, PolytomicExecutionLink
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
    """The connection says where the web app is."""
    connection = {"conn_type": "polytomic", "host": polytomic_sandbox.url, "password": polytomic_sandbox.key}
    connection["extra"] = {"ui_url": TEMPLATE}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))


def shown(context: dict[str, Any]) -> list[str]:
    return [value for key, value in context["ti"].xcoms if key == XCOM_KEY]


@pytest.mark.parametrize("make", KINDS, ids=lambda made: made.__name__)
def test_it_leads_to_the_execution(polytomic_sandbox: Any, ui_url: None, make: Any, deferrable: bool) -> None:
    """Operators and sensors of both kinds link the execution, once, in both modes."""
    kind, sync_id = KINDS[make]
    context = make_context()
    arguments = {"task_id": "sync", "sync_id": sync_id, "poke_interval": 0.05, "deferrable": deferrable}
    if "Sensor" in make.__name__:
        arguments["execution_id"] = polytomic_sandbox.start_foreign(sync_id).id

    execution_id = Task(lambda: make(**arguments)).run(context)

    expected = f"https://app.example.com/#/{kind}/{sync_id}?run={execution_id}"
    assert set(shown(context)) == {expected}


def test_it_is_there_before_the_wait(polytomic_sandbox: Any, ui_url: None) -> None:
    """A deferred task has its link already."""
    context = make_context()
    with pytest.raises(TaskDeferred) as deferred:
        PolytomicBulkSyncOperator(task_id="sync", sync_id=SALESFORCE_TO_WAREHOUSE, deferrable=True).execute(context)

    (link,) = shown(context)
    assert link.endswith(deferred.value.trigger.execution_id)


class TestFailure:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return {"bulk_syncs": [{"name": "Fails", "id": SALESFORCE_TO_WAREHOUSE, "schemas": ["t"], "outcome": "failed"}]}

    def test_it_is_there_after_a_failure(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """When somebody wants it most."""
        context = make_context()
        with pytest.raises(PolytomicSyncError):
            Task(
                lambda: PolytomicBulkSyncOperator(
                    task_id="sync", sync_id=SALESFORCE_TO_WAREHOUSE, poke_interval=0.05, deferrable=deferrable
                )
            ).run(context)

        assert shown(context) == [polytomic_sandbox.url]


def test_without_a_template_it_is_the_base_url(polytomic_sandbox: Any) -> None:
    """Nobody documents the address of an execution, so the default is where all of it begins."""
    context = make_context()
    Task(lambda: PolytomicBulkSyncOperator(task_id="sync", sync_id=SALESFORCE_TO_WAREHOUSE, poke_interval=0.05)).run(
        context
    )

    assert shown(context) == [polytomic_sandbox.url]


@pytest.mark.parametrize(
    ("kept", "link"), [("https://x.example/1", "https://x.example/1"), (None, ""), ({"odd": 1}, "")]
)
def test_get_link_gives_what_was_written_down(monkeypatch: pytest.MonkeyPatch, kept: Any, link: str) -> None:
    """The link is what the task has written down, or empty."""
    monkeypatch.setattr(links, "read_xcom", lambda ti_key, key: kept)

    assert PolytomicExecutionLink().get_link(object(), ti_key=object()) == link


def test_get_link_never_raises() -> None:
    """Asked outside of Airflow, or of a task that there is not, it is empty."""
    assert PolytomicExecutionLink().get_link(None, ti_key=None) == ""
