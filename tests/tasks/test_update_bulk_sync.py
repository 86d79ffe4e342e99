"""The operator that creates bulk syncs with `if_exists="update"`, which brings a sync to a desired state."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import PolytomicError
from airflow_provider_polytomic.api.syncs import update
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE, WAREHOUSE

from .conftest import Task, make_context

SYNCS = "/api/bulk/syncs"
PUT = f"PUT {SYNCS}/.*"
STATE: dict[str, Any] = {
    "name": "New",
    "mode": "replicate",
    "default_schedule": {"frequency": "daily", "hour": "3"},
    "destination_configuration": {"schema": "new"},
    "source_connection_id": SALESFORCE,
    "destination_connection_id": WAREHOUSE,
    "schemas": ["account", {"id": "contact", "user_output_name": "contacts"}],
    "normalize_names": "legacy",
}


@pytest.fixture(autouse=True)
def _short_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update, "CONFIRMATION_DELAY", 0.05)


def task(**arguments: Any) -> Task:
    given = {"task_id": "create", "retries": 1, "if_exists": "update", **STATE, **arguments}
    return Task(lambda: PolytomicCreateBulkSyncOperator(**given))


def writes(sandbox: Sandbox) -> list[str]:
    return [request.method for request in sandbox.requests if request.method != "GET"]


def schemas(sync_id: str) -> dict[str, tuple[bool | None, str | None]]:
    listed = PolytomicHook().iterate(bulk_syncs.schemas(sync_id))
    return {schema.id: (schema.enabled, schema.user_output_name) for schema in listed}


def test_first_run_creates_the_sync_and_the_next_one_sends_nothing(polytomic_sandbox: Sandbox) -> None:
    """Nothing differs, so no request changes anything."""
    sync_id = task().run(make_context(run_id="first"))
    assert writes(polytomic_sandbox) == ["POST"]

    assert task().run(make_context(run_id="second")) == sync_id
    assert writes(polytomic_sandbox) == ["POST"]


def test_difference_is_replaced_and_all_else_is_kept(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    """One PUT has the given fields and the current values of all others. The log has each field, old and new."""
    caplog.set_level("INFO")
    sync_id = task(concurrency_limit=7, active=False).run(make_context(run_id="first"))
    before = PolytomicHook().get_bulk_sync(sync_id)

    changed = task(mode="append", default_schedule={"frequency": "daily", "hour": "4"})
    assert changed.run(make_context(run_id="second")) == sync_id

    after = PolytomicHook().get_bulk_sync(sync_id)
    assert (after.mode, after.concurrency_limit, after.active, after.normalize_names) == ("append", 7, False, "legacy")
    assert (after.default_schedule or {})["hour"] == "4"
    assert after.destination_configuration == before.destination_configuration
    assert writes(polytomic_sandbox) == ["POST", "PUT"]
    logged = caplog.text + capsys.readouterr().out
    assert f"Updating bulk sync 'New' ({sync_id}): mode: 'replicate' → 'append'; " in logged
    assert "default_schedule.hour: '3' → '4'" in logged


def test_schemas_become_the_desired_ones_and_keep_their_configuration(polytomic_sandbox: Sandbox) -> None:
    """Only the selection changes: the output name, which the new state does not contain, stays."""
    sync_id = task().run(make_context(run_id="first"))

    task(schemas=["contact", "opportunity"]).run(make_context(run_id="second"))

    assert schemas(sync_id) == {
        "account": (False, None),
        "contact": (True, "contacts"),
        "opportunity": (True, None),
    }
    count = len(writes(polytomic_sandbox))
    task(schemas=["opportunity", "contact"]).run(make_context(run_id="third"))
    assert len(writes(polytomic_sandbox)) == count


def test_values_of_configurations_are_not_logged(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    """Only the names of the fields that change are."""
    caplog.set_level("DEBUG")
    task(source_configuration={"password": "s3cr3t-old"}).run(make_context(run_id="first"))

    task(source_configuration={"password": "s3cr3t-new"}).run(make_context(run_id="second"))

    logged = caplog.text + capsys.readouterr().out
    assert "source_configuration.password" in logged
    assert "s3cr3t" not in logged


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
def test_lost_response_to_a_replacement_is_resolved(polytomic_sandbox: Sandbox, fault: str) -> None:
    """The request is repeated, because a replacement can be."""
    sync_id = task().run(make_context(run_id="first"))
    getattr(polytomic_sandbox.faults, fault)(PUT, times=2)

    assert task(mode="append").run(make_context(run_id="second")) == sync_id
    assert PolytomicHook().get_bulk_sync(sync_id).mode == "append"


def test_retry_completes_an_update_that_failed(polytomic_sandbox: Sandbox) -> None:
    """It compares again."""
    sync_id = task().run(make_context(run_id="first"))
    fault = polytomic_sandbox.faults.status(503, PUT, times=None)
    with pytest.raises(PolytomicError):
        task(mode="append").run(make_context(run_id="second", try_number=1, max_tries=1))
    fault.left = 0

    assert task(mode="append").run(make_context(run_id="second", try_number=2, max_tries=1)) == sync_id
    assert PolytomicHook().get_bulk_sync(sync_id).mode == "append"


@pytest.mark.parametrize("exists", [False, True])
def test_concurrent_tasks_end_in_one_sync_with_the_desired_state(polytomic_sandbox: Sandbox, exists: bool) -> None:
    """Tasks of several DAG runs create one sync, or update it, and return the same id."""
    if exists:
        task().run(make_context(run_id="first"))
    start = threading.Barrier(4)

    def run(number: int) -> Any:
        start.wait()
        return task(mode="append").run(make_context(run_id=f"run {number}"))

    with ThreadPoolExecutor(4) as pool:
        returned = list(pool.map(run, range(4)))

    (sync,) = PolytomicHook().list_bulk_syncs(name="New")
    assert returned == [sync.id] * 4
    assert sync.mode == "append"


def test_deleted_sync_is_created_again(polytomic_sandbox: Sandbox) -> None:
    """The recorded response of the first creation does not count as a sync."""
    first = task().run(make_context(run_id="first"))
    PolytomicHook().delete_bulk_sync(first)

    second = task().run(make_context(run_id="second"))

    assert second != first
    assert [sync.id for sync in PolytomicHook().list_bulk_syncs(name="New")] == [second]


def test_creation_succeeds_after_a_recorded_error(polytomic_sandbox: Sandbox) -> None:
    """An error that the server recorded for the shared key does not prevent the creation."""
    polytomic_sandbox.faults.status(500, f"POST {SYNCS}", recorded=True)

    sync_id = task().run()

    assert [sync.id for sync in PolytomicHook().list_bulk_syncs(name="New")] == [sync_id]


def test_invalid_destination_configuration_changes_nothing(polytomic_sandbox: Sandbox) -> None:
    """It is checked with the values that the sync keeps, before the replacement."""
    task().run(make_context(run_id="first"))

    with pytest.raises(AirflowFailException, match=r"destination_configuration\.schema: 5 is not of type 'string'"):
        task(destination_configuration={"schema": 5}).run(make_context(run_id="second"))
    assert writes(polytomic_sandbox) == ["POST"]


def test_value_that_the_server_does_not_return_is_warned_of(
    polytomic_sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    """For instance a secret. The task succeeds after a few replacements."""
    sync_id = task().run(make_context(run_id="first"))
    row = PolytomicHook().get_bulk_sync(sync_id).model_dump(mode="json")
    polytomic_sandbox.faults.status(200, f"GET {SYNCS}/{sync_id}", body={"data": row}, times=None)

    assert task(mode="append").run(make_context(run_id="second")) == sync_id

    assert writes(polytomic_sandbox) == ["POST", *["PUT"] * update.MAX_REPLACEMENTS]
    assert "still returns other values for mode" in caplog.text + capsys.readouterr().out
