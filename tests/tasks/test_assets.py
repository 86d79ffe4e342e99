"""Asset events: the tables for which a task emits them, and their extras."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import Asset, AssetAlias
from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE, SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE
from tools.local_airflow import AIRFLOW_2

from .conftest import Task, make_context

try:
    from airflow.sdk import DAG, TaskGroup
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:
    from airflow import DAG
    from airflow.utils.context import OutletEventAccessors
    from airflow.utils.task_group import TaskGroup

SYNC = SALESFORCE_TO_WAREHOUSE
ALIAS = "polytomic:sync"
WAREHOUSE = "snowflake://ab12345/ANALYTICS/salesforce"


def context() -> dict[str, Any]:
    return make_context() | {"outlet_events": OutletEventAccessors()}


def task(**arguments: Any) -> Task:
    arguments = {"task_id": "sync", "sync_id": SYNC, "poke_interval": 0.05, **arguments}
    return Task(lambda: PolytomicBulkSyncOperator(**arguments))


def emitted(context: dict[str, Any], alias: str = ALIAS) -> dict[str, dict[str, Any]]:
    """Return the extras of the alias's events by URI."""
    outlets = context["outlet_events"]
    if not len(outlets):
        return {}
    assert len(outlets) == 1
    events = outlets[AssetAlias(name=alias)]
    found = {}
    for event in getattr(events, "asset_alias_events", None) or events.dataset_alias_events:
        key = getattr(event, "dest_asset_key", None)
        found[key.uri if key else event["dest_dataset_uri"]] = getattr(event, "extra", None) or event["extra"]
    return found


def test_task_emits_an_event_for_each_table(polytomic_sandbox: Any, deferrable: bool) -> None:
    """It has the address of the table, its records, and the execution that wrote them."""
    task_context = context()

    execution_id = task(deferrable=deferrable).run(task_context)

    tables = emitted(task_context)
    assert set(tables) == {f"{WAREHOUSE}/{table}" for table in ("account", "contact", "opportunity")}
    account = tables[f"{WAREHOUSE}/account"]
    assert (account["record_count"], account["error_count"], account["schema"]) == (120, 0, "account")
    assert (account["execution_id"], account["sync_id"]) == (execution_id, SYNC)
    assert account["started_at"] < account["completed_at"]
    assert account["sources"] == f"polytomic://{polytomic_sandbox.url[7:]}/connections/{SALESFORCE}/account"
    assert frozenset(account.items())  # Airflow 2.11 and 3.0 fail the task for extras that are not hashable


@pytest.mark.parametrize("arguments", [{"test": True}, {"assets": False}, {"wait_for_completion": False}], ids=str)
def test_task_emits_no_events_when_tables_are_unknown_or_unwanted(
    polytomic_sandbox: Any, deferrable: bool, arguments: dict[str, Any]
) -> None:
    """A test run, `assets=False` and a task that does not wait emit none, and send no requests for addresses."""
    task_context = context()

    task(deferrable=deferrable, **arguments).run(task_context)

    assert emitted(task_context) == {}
    assert not any("/connections/" in request.path for request in polytomic_sandbox.requests)


def test_alias_is_an_outlet_of_the_task() -> None:
    """The outlets of the user stay, and `assets=False` adds none."""
    outlet = Asset("s3://bucket/outlet")

    with_both = PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, outlets=[outlet])
    without = PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, outlets=[outlet], assets=False)

    assert with_both.outlets[0] == outlet
    assert [alias.name for alias in with_both.outlets[1:]] == [ALIAS]
    assert without.outlets == [outlet]


@pytest.mark.parametrize("way", ["added", "downstream", "grouped", "mapped", "mapped in a group"])
def test_alias_contains_the_final_task_id_when_the_task_is_added_to_its_dag_later(
    polytomic_sandbox: Any, way: str
) -> None:
    """The alias is among the outlets of the task by then."""
    arguments: Any = {"task_id": "sync", "poke_interval": 0.05}
    with DAG("late", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        first = PolytomicBulkSyncOperator(task_id="first", sync_id=SYNC)
        with TaskGroup("group") as group:
            mapped_in_group = PolytomicBulkSyncOperator.partial(**arguments).expand(sync_id=[SYNC])
        mapped = PolytomicBulkSyncOperator.partial(**arguments).expand(sync_id=[SYNC])
    if way.startswith("mapped"):
        operator = (mapped if way == "mapped" else mapped_in_group).unmap({"sync_id": SYNC})
    else:
        operator = PolytomicBulkSyncOperator(**{**arguments, "task_id": "later"}, sync_id=SYNC)
        if way == "grouped":
            group.add(operator)
        if way == "downstream":
            first >> operator
        else:
            dag.add_task(operator)
    task_context = context()

    Task(lambda: operator).run(task_context)

    alias = f"polytomic:late.{operator.task_id}"
    assert len(emitted(task_context, alias)) == 3
    assert alias in [outlet.name for outlet in operator.outlets]


def test_assets_replaces_the_addresses_of_tables(polytomic_sandbox: Any, deferrable: bool) -> None:
    """By output name or schema id, with a URI or an asset. None omits a table, and all others keep their addresses."""
    task_context = context()
    names = {"account": "x-custom://accounts", "contact": None}

    task(deferrable=deferrable, assets=names).run(task_context)

    assert set(emitted(task_context)) == {"x-custom://accounts", f"{WAREHOUSE}/opportunity"}


@pytest.mark.parametrize("invalid", ["yes", 1, ["account"], {"account": 7}, {7: "s3://a/b"}, {"account": ""}], ids=str)
def test_assets_rejects_invalid_values_in_the_constructor(invalid: Any) -> None:
    """The ValueError names the argument."""
    with pytest.raises(ValueError, match="assets"):
        PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, assets=invalid)


class TestPartialFailure:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas = ["good", {"id": "bad", "outcome": "failed"}]
        return {"bulk_syncs": [{"name": "Partly", "id": SYNC, "schemas": schemas}]}

    def test_failed_tables_have_no_event_with_allow_errors(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """Only completed tables have one."""
        task_context = context()

        task(deferrable=deferrable, allow_errors=True).run(task_context)

        assert [extra["schema"] for extra in emitted(task_context).values()] == ["good"]

    def test_failed_task_emits_no_events(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """It emits none for completed tables either."""
        task_context = context()

        with pytest.raises(PolytomicSyncError):
            task(deferrable=deferrable).run(task_context)

        assert emitted(task_context) == {}


@pytest.mark.parametrize("path", [f"/api/bulk/syncs/{SYNC}", "/api/connections/.*"])
def test_task_succeeds_without_events_when_addresses_cannot_be_read(
    polytomic_sandbox: Any, deferrable: bool, path: str, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    """It logs a warning."""
    polytomic_sandbox.faults.garbage("html", f"GET {path}", times=None)
    task_context = context()

    task(deferrable=deferrable).run(task_context)

    assert emitted(task_context) == {}
    assert "No asset events" in caplog.text + capsys.readouterr().out


def test_event_that_airflow_rejects_does_not_affect_other_tables(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is omitted with a warning."""
    from airflow_provider_polytomic import assets

    add = assets.add_asset_event

    def refuse_one(events: Any, asset: Any, extra: Any) -> None:
        if "contact" in asset:
            raise ValueError("not for Airflow")
        add(events, asset, extra)

    monkeypatch.setattr(assets, "add_asset_event", refuse_one)
    task_context = context()

    task().run(task_context)

    assert len(emitted(task_context)) == 2
    assert "not for Airflow" in caplog.text


def test_model_sync_emits_an_event_for_its_target(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The asset is the object that was written; the models are its sources."""
    task_context = context()

    Task(
        lambda: PolytomicModelSyncOperator(
            task_id="sync", sync_id=WAREHOUSE_TO_SALESFORCE, poke_interval=0.05, deferrable=deferrable
        )
    ).run(task_context)

    ((uri, extra),) = emitted(task_context).items()
    assert uri == f"polytomic://{polytomic_sandbox.url[7:]}/connections/{SALESFORCE}/Account"
    assert extra["record_count"] == 150
    assert "/models/" in extra["sources"].split()[0]


class TestManyTables:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas = [{"id": f"t{rows:03}", "rows": rows} for rows in range(1, 251)]
        return {"bulk_syncs": [{"name": "Wide", "id": SYNC, "schemas": schemas}]}

    def test_only_the_hundred_largest_tables_have_events(
        self, polytomic_sandbox: Any, deferrable: bool, caplog: pytest.LogCaptureFixture, capsys: Any
    ) -> None:
        """Tables in `assets` have precedence. The log contains the number of tables."""
        caplog.set_level("INFO")
        task_context = context()
        names = {"t001": "x-custom://smallest", "t250": None}

        task(deferrable=deferrable, assets=names).run(task_context)

        tables = emitted(task_context)
        assert len(tables) == 100
        assert "x-custom://smallest" in tables
        assert {extra["schema"] for extra in tables.values()} == {"t001", *(f"t{rows:03}" for rows in range(151, 250))}
        assert "only for the 100 largest of 249 tables" in caplog.text + capsys.readouterr().out


@pytest.mark.skipif(AIRFLOW_2, reason="a dataset has no name but its URI")
def test_asset_that_airflow_does_not_have_logs_no_error(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `dag.test()` Airflow's API client runs in the task's process. Its error for a new asset is dropped."""
    from airflow.sdk.api import client

    logged: list[str] = []

    def get_asset(name: str | None = None, uri: str | None = None) -> Any:
        client.log.error("Asset not found", params={"uri": uri})
        client.log.error("Another error", params={"uri": uri})
        raise RuntimeError("ASSET_NOT_FOUND")

    monkeypatch.setattr(client, "log", SimpleNamespace(error=lambda event, **details: logged.append(event)))
    monkeypatch.setattr(OutletEventAccessors()[AssetAlias("any")].__class__, "_get_asset_from_db", get_asset)
    task_context = context()

    task().run(task_context)

    assert len(emitted(task_context)) == 3
    assert logged == ["Another error"] * 3
