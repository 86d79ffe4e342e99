"""Each documented form of an argument. `mypy --strict` accepts this file."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, Param, dag, task

from airflow_provider_polytomic.bodies import NewBulkSync
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor
from airflow_provider_polytomic.triggers.events import PolytomicSyncEventTrigger
from airflow_provider_polytomic.types import (
    AdditionalSchedule,
    IfRunning,
    ResyncMode,
    Schedule,
    SchemaConfiguration,
    SourceIdentity,
    Template,
)

IF_RUNNING: IfRunning = "attach"
NIGHTLY: Schedule = {"frequency": "daily", "hour": "3", "minute": "{{ params.minute }}"}
WEEKLY: AdditionalSchedule = {"frequency": "weekly", "day_of_week": "sunday", "schemas": ["account"]}
CONTACTS: SchemaConfiguration = {"id": "contact", "user_output_name": "contacts", "fields": ["Id", {"id": "Name"}]}


@task
def choose() -> list[str]:
    return ["account"]


@task
def report(execution: Any) -> None:
    print(execution["record_count"])


with DAG("documented_forms", params={"mode": Param("rebuild", type="string")}) as documented_forms:
    create = PolytomicCreateBulkSyncOperator(
        task_id="create",
        name="New {{ params.suffix }}",
        mode="replicate",
        default_schedule={"frequency": "manual"},
        destination_configuration={"schema": "{{ params.schema }}"},
        source_connection="Salesforce",
        destination_connection_id="{{ params.destination }}",
        schemas=["account", {"id": "lead", "enabled": False}, CONTACTS],
        active="{{ params.active }}",
        additional_schedules=[WEEKLY, {"frequency": Template("{{ params.often }}"), "resync_mode": "normal"}],
        automatically_add_new_fields="onlyIncremental",
        data_cutoff_timestamp=datetime(2026, 1, 1, tzinfo=timezone.utc),
        concurrency_limit=4,
        policies={"p1", "p2"},
        if_exists="update",
    )
    PolytomicCreateBulkSyncOperator(
        task_id="rendered",
        name=create.output,
        mode=Template("{{ params.mode }}"),
        default_schedule=NIGHTLY,
        destination_configuration="{{ params.configuration | tojson }}",
        source_connection_id=documented_forms.param("source"),
        destination_connection=create.output,
        schemas="{{ params.schemas | tojson }}",
        normalize_names=documented_forms.param("names"),
        data_cutoff_timestamp="2026-01-01T00:00:00Z",
        concurrency_limit="{{ params.limit }}",
        if_exists=Template("{{ params.if_exists }}"),
    )

    sync = PolytomicBulkSyncOperator(
        task_id="literal",
        sync_id="s",
        resync_mode="rebuild",
        fetch_mode="full",
        schemas=["account", "contact"],
        deferrable=True,
        poke_interval=timedelta(seconds=30),
        timeout=3600,
        queue_timeout=timedelta(minutes=5),
        if_running=IF_RUNNING,
        fresh_within=1800,
        allow_errors=0.01,
        min_records=1,
        retry_failed_schemas_only=True,
        assets={"account": "snowflake://ab12345/CRM/salesforce/account", "contact": None},
        retries=3,
        pool="polytomic",
    )
    PolytomicBulkSyncOperator(
        task_id="templates",
        sync_name="{{ params.sync }}",
        test="{{ params.test }}",
        resync_mode=Template("{{ params.mode }}"),
        fetch_mode=Template("{{ 'full' if params.all else '' }}"),
        schemas="{{ 'account,contact' if params.full else '' }}",
        queue_timeout="{{ params.queue_timeout }}",
        if_running=Template("{{ params.if_running }}"),
        fresh_within="{{ '' if params.force else 1800 }}",
        allow_errors="{{ params.allow_errors }}",
        min_records="{{ params.min_records }}",
        polytomic_conn_id="{{ params.conn_id }}",
    )
    PolytomicBulkSyncOperator(
        task_id="references",
        sync_id=create.output,
        test=documented_forms.param("test"),
        resync_mode=documented_forms.param("mode"),
        schemas=choose(),
        allow_errors=create.output,
        min_records=create.output,
        assets={"account": Asset("snowflake://ab12345/CRM/salesforce/account")},
    )
    PolytomicBulkSyncOperator(task_id="test", sync_id="s", test=True)
    PolytomicBulkSyncOperator.partial(task_id="mapped", resync_mode="rebuild").expand(sync_id=choose())
    report(sync.output["execution"])

    record: SourceIdentity = {"source": {"model_id": "m1", "field": "email"}, "value": "ada@example.com"}
    model_sync = PolytomicModelSyncOperator(task_id="model", sync_name="Health", identities=["a@b.c"], resync=True)
    PolytomicModelSyncOperator(task_id="records", sync_id="m", source_identities=[[record]], if_running="skip")
    PolytomicModelSyncOperator(
        task_id="model_templates", sync_id="m", identities="{{ params.identities | tojson }}", resync="{{ params.all }}"
    )

    PolytomicBulkSyncSensor(
        task_id="ended",
        sync_id="{{ params.sync }}",
        execution_id=sync.output,
        allow_errors=5,
        mode="reschedule",
        timeout=3600,
    )
    written = PolytomicModelSyncSensor(
        task_id="written", sync_name="Health", completed_after="{{ data_interval_end }}", allow_errors=True
    )
    PolytomicModelSyncSensor(task_id="since", sync_name="Health", completed_after=datetime(2026, 1, 1))
    report(model_sync.output["execution"])
    report(written.output["execution"])

loaded = Asset(
    "loaded",
    watchers=[
        AssetWatcher(
            name="ended",
            trigger=PolytomicSyncEventTrigger(sync_name="Orders", kind="bulk", events=["failed", "completed"]),
        ),
        AssetWatcher(name="failed", trigger=PolytomicSyncEventTrigger(events="failed", poke_interval=60)),
    ],
)


@dag(schedule=[loaded])
def with_parameter(mode: ResyncMode = "resync") -> None:
    PolytomicBulkSyncOperator(task_id="sync", sync_id="s", resync_mode=mode)


with_parameter()


def use_the_hook(params: dict[str, Any], names: list[str]) -> list[str]:
    hook = PolytomicHook()
    sync_id = hook.create_bulk_sync(
        name="New",
        source_connection_id="c1",
        destination_connection_id="c2",
        destination_configuration={"schema": "crm"},
        default_schedule={"frequency": "manual"},
        mode="replicate",
        schemas=["account", {"id": "contact", "user_output_name": "contacts"}],
    ).id
    body: NewBulkSync = {
        "name": "Another",
        "source_connection_id": "c1",
        "destination_connection_id": "c2",
        "destination_configuration": {"schema": "crm"},
        "default_schedule": NIGHTLY,
    }
    hook.create_bulk_sync(**body)
    hook.create_bulk_sync(**params)
    hook.update_bulk_sync(sync_id, name="Renamed", concurrency_limit=4)
    hook.update_bulk_sync(sync_id, default_schedule={"frequency": "manual"}, additional_schedules=[])
    hook.update_bulk_sync(sync_id, **params)
    execution = hook.start_bulk_sync(sync_id, resync_mode=params["mode"], schemas=set(names))
    hook.wait_for_bulk_sync_execution(sync_id, execution.id, poke_interval=5, timeout=600)

    model_sync = hook.create_model_sync(
        name="Health",
        mode="updateOrCreate",
        fields=[{"target": "Name", "source": {"model_id": "m1", "field": "name"}}],
        target={"connection_id": "c3", "object": "Lead"},
        schedule={"frequency": "runafter", "run_after_success_only": True},
    )
    hook.update_model_sync(model_sync.id, only_enrich_updates=True)
    hook.start_model_sync(model_sync.id, source_identities=[[record]])
    files = hook.iter_model_sync_logs(model_sync.id, "e1", "errors")
    return [file.name for file in files]
