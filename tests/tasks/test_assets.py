"""Asset events: which tables a task says that it has written, and what it says of them."""

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
    """The events of the task's alias: URI to extra."""
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


def test_each_table_has_an_event(polytomic_sandbox: Any, deferrable: bool) -> None:
    """Named by its own address, with its rows, and with the execution that wrote them; in both modes."""
    seen = context()

    execution_id = task(deferrable=deferrable).run(seen)

    tables = emitted(seen)
    assert set(tables) == {f"{WAREHOUSE}/{table}" for table in ("account", "contact", "opportunity")}
    account = tables[f"{WAREHOUSE}/account"]
    assert (account["record_count"], account["error_count"], account["schema"]) == (120, 0, "account")
    assert (account["execution_id"], account["sync_id"]) == (execution_id, SYNC)
    assert account["started_at"] < account["completed_at"]
    assert account["sources"] == f"polytomic://{polytomic_sandbox.url[7:]}/connections/{SALESFORCE}/account"
    assert frozenset(account.items())  # with what Airflow 2.11 and 3.0 could not do this they fail the task


@pytest.mark.parametrize("arguments", [{"test": True}, {"assets": False}, {"wait_for_completion": False}], ids=str)
def test_no_events_and_no_questions(polytomic_sandbox: Any, deferrable: bool, arguments: dict[str, Any]) -> None:
    """A test run, a task that was told not to, and one that does not wait tell nothing, and read no names for it."""
    seen = context()

    task(deferrable=deferrable, **arguments).run(seen)

    assert emitted(seen) == {}
    assert not any("/connections/" in request.path for request in polytomic_sandbox.requests)


def test_the_alias_is_an_outlet() -> None:
    """What is emitted goes through an alias of the task; the user's own outlets stay, and `assets=False` adds none."""
    mine = Asset("s3://bucket/mine")

    with_both = PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, outlets=[mine])
    without = PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, outlets=[mine], assets=False)

    assert with_both.outlets[0] == mine
    assert [outlet.name for outlet in with_both.outlets[1:]] == [ALIAS]
    assert without.outlets == [mine]


@pytest.mark.parametrize("way", ["added", "downstream", "grouped", "mapped", "mapped in a group"])
def test_a_task_that_was_made_before_its_dag(polytomic_sandbox: Any, way: str) -> None:
    """Its events go through an alias with the name that it has in the DAG, which is among its outlets by then."""
    arguments: Any = {"task_id": "sync", "poke_interval": 0.05}
    with DAG("late", schedule=None, start_date=datetime(2026, 1, 1)) as dag:
        first = PolytomicBulkSyncOperator(task_id="first", sync_id=SYNC)
        with TaskGroup("group") as group:
            mapped_in_group = PolytomicBulkSyncOperator.partial(**arguments).expand(sync_id=[SYNC])
        mapped = PolytomicBulkSyncOperator.partial(**arguments).expand(sync_id=[SYNC])
    if way.startswith("mapped"):
        made = (mapped if way == "mapped" else mapped_in_group).unmap({"sync_id": SYNC})
    else:
        made = PolytomicBulkSyncOperator(**{**arguments, "task_id": "later"}, sync_id=SYNC)
        if way == "grouped":
            group.add(made)
        if way == "downstream":
            first >> made
        else:
            dag.add_task(made)
    seen = context()

    Task(lambda: made).run(seen)

    alias = f"polytomic:late.{made.task_id}"
    assert len(emitted(seen, alias)) == 3
    assert alias in [outlet.name for outlet in made.outlets]


def test_tables_can_be_called_otherwise(polytomic_sandbox: Any, deferrable: bool) -> None:
    """By output name or schema id: a URI, an asset; None leaves a table out, and all others keep their names."""
    seen = context()
    names = {"account": "x-mine://accounts", "contact": None}

    task(deferrable=deferrable, assets=names).run(seen)

    assert set(emitted(seen)) == {"x-mine://accounts", f"{WAREHOUSE}/opportunity"}


@pytest.mark.parametrize("wrong", ["yes", 1, ["account"], {"account": 7}, {7: "s3://a/b"}, {"account": ""}], ids=str)
def test_bad_names_are_refused_early(wrong: Any) -> None:
    """A bad `assets` is a ValueError of the constructor that names it."""
    with pytest.raises(ValueError, match="assets"):
        PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, assets=wrong)


class TestPartlyFailed:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas = ["good", {"id": "bad", "outcome": "failed"}]
        return {"bulk_syncs": [{"name": "Partly", "id": SYNC, "schemas": schemas}]}

    def test_only_what_completed_has_an_event(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """With `allow_errors` the tables that failed are left out."""
        seen = context()

        task(deferrable=deferrable, allow_errors=True).run(seen)

        assert [extra["schema"] for extra in emitted(seen).values()] == ["good"]

    def test_a_failure_has_none(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """A task that fails tells nothing."""
        seen = context()

        with pytest.raises(PolytomicSyncError):
            task(deferrable=deferrable).run(seen)

        assert emitted(seen) == {}


@pytest.mark.parametrize("path", [f"/api/bulk/syncs/{SYNC}", "/api/connections/.*"])
def test_no_trouble_with_names_fails_a_task(
    polytomic_sandbox: Any, deferrable: bool, path: str, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    """When the names cannot be read the task is green, without events, and with a warning."""
    polytomic_sandbox.faults.garbage("html", f"GET {path}", times=None)
    seen = context()

    task(deferrable=deferrable).run(seen)

    assert emitted(seen) == {}
    assert "No asset events" in caplog.text + capsys.readouterr().out


def test_a_table_that_has_no_good_name_harms_no_other(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What Airflow refuses is left out with a warning."""
    from airflow_provider_polytomic import assets

    add = assets.add_asset_event

    def refuse_one(events: Any, asset: Any, extra: Any) -> None:
        if "contact" in asset:
            raise ValueError("not for Airflow")
        add(events, asset, extra)

    monkeypatch.setattr(assets, "add_asset_event", refuse_one)
    seen = context()

    task().run(seen)

    assert len(emitted(seen)) == 2
    assert "not for Airflow" in caplog.text


def test_a_model_sync_tells_of_its_target(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The object that was written, and the models that it came from."""
    seen = context()

    Task(
        lambda: PolytomicModelSyncOperator(
            task_id="sync", sync_id=WAREHOUSE_TO_SALESFORCE, poke_interval=0.05, deferrable=deferrable
        )
    ).run(seen)

    ((uri, extra),) = emitted(seen).items()
    assert uri == f"polytomic://{polytomic_sandbox.url[7:]}/connections/{SALESFORCE}/Account"
    assert extra["record_count"] == 150
    assert "/models/" in extra["sources"].split()[0]


class TestManyTables:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas = [{"id": f"t{rows:03}", "rows": rows} for rows in range(1, 251)]
        return {"bulk_syncs": [{"name": "Wide", "id": SYNC, "schemas": schemas}]}

    def test_only_the_largest_tables_have_events(
        self, polytomic_sandbox: Any, deferrable: bool, caplog: pytest.LogCaptureFixture, capsys: Any
    ) -> None:
        """Of 250 tables the 100 with the most records have one, those that `assets` names among them; the log says."""
        caplog.set_level("INFO")
        seen = context()
        names = {"t001": "x-mine://smallest", "t250": None}

        task(deferrable=deferrable, assets=names).run(seen)

        tables = emitted(seen)
        assert len(tables) == 100
        assert "x-mine://smallest" in tables
        assert {extra["schema"] for extra in tables.values()} == {"t001", *(f"t{rows:03}" for rows in range(151, 250))}
        assert "100 tables with the most records of 249; 149 are left out" in caplog.text + capsys.readouterr().out


@pytest.mark.skipif(AIRFLOW_2, reason="a dataset has no name but its URI")
def test_missing_asset_is_no_error_in_the_log(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `dag.test()` Airflow's API client runs in the task's process: its error for a new table is dropped."""
    from airflow.sdk.api import client

    logged: list[str] = []

    def ask_airflow(name: str | None = None, uri: str | None = None) -> Any:
        client.log.error("Asset not found", params={"uri": uri})
        client.log.error("Another error", params={"uri": uri})
        raise RuntimeError("ASSET_NOT_FOUND")

    monkeypatch.setattr(client, "log", SimpleNamespace(error=lambda event, **details: logged.append(event)))
    monkeypatch.setattr(OutletEventAccessors()[AssetAlias("any")].__class__, "_get_asset_from_db", ask_airflow)
    seen = context()

    task().run(seen)

    assert len(emitted(seen)) == 3
    assert logged == ["Another error"] * 3
