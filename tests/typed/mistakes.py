"""Mistakes that `mypy --strict` reports: exactly the lines with a comment `# error: …`, whose text is in the report."""

from __future__ import annotations

from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.triggers.events import PolytomicSyncEventTrigger
from airflow_provider_polytomic.types import Schedule

PolytomicBulkSyncOperator(task_id="t", sync_id="s", resync_mode="rebild")  # error: Argument "resync_mode"
PolytomicBulkSyncOperator(task_id="t", sync_id="s", fetch_mode="all")  # error: Argument "fetch_mode"
PolytomicBulkSyncOperator(task_id="t", sync_id="s", if_running="atach")  # error: Argument "if_running"
PolytomicBulkSyncOperator(task_id="t", sync_id="s", resync_mode="{{ params.mode }}")  # error: Template | XComArg
PolytomicBulkSyncOperator(task_id="t", sync_id=7)  # error: Argument "sync_id"
PolytomicBulkSyncOperator(task_id="t", sync_id="s", schemas=[1])  # error: List item 0
PolytomicBulkSyncOperator(task_id="t", sync_id="s", deferrable="true")  # error: Argument "deferrable"
PolytomicModelSyncOperator(task_id="t", sync_id="s", if_running="restart")  # error: Argument "if_running"
PolytomicModelSyncOperator(task_id="t", sync_id="s", source_identities=[[{"sorce": {}}]])  # error: Extra key "sorce"
PolytomicBulkSyncSensor(task_id="t", sync_id="s", completed_after=1700000000)  # error: Argument "completed_after"
PolytomicSyncEventTrigger(kind="bulks")  # error: Argument "kind"
PolytomicSyncEventTrigger(events=["complete"])  # error: List item 0
PolytomicCreateBulkSyncOperator(
    task_id="t",
    name="New",
    source_connection="Salesforce",
    destination_connection="Warehouse",
    destination_configuration={"schema": "crm"},
    mode="replicated",  # error: Argument "mode"
    default_schedule={"frequency": "nightly"},  # error: expected "Schedule
    schemas=[{"id": "account", "output_name": "accounts"}],  # error: expected "str | SchemaConfiguration"
    if_exists="replace",  # error: Argument "if_exists"
)
nightly: Schedule = {"hour": "3"}  # error: Missing key "frequency"

hook = PolytomicHook()
hook.update_bulk_sync("s", concurency_limit=4)  # error: Unexpected keyword argument "concurency_limit"
hook.update_bulk_sync("s", concurrency_limit="4")  # error: Argument "concurrency_limit"
hook.update_bulk_sync("s", default_schedule={"frequency": "daily", "houre": "3"})  # error: Extra key "houre"
hook.create_bulk_sync(name="New", source_connection_id="c")  # error: Missing named argument "default_schedule"
hook.create_model_sync(name="New", feilds=[])  # error: Unexpected keyword argument "feilds"
hook.update_model_sync("s", sync_all_record=True)  # error: Unexpected keyword argument "sync_all_record"
hook.start_bulk_sync("s", resync_mode="rebild")  # error: Argument "resync_mode"
hook.iter_model_sync_logs("s", "e", "error")  # error: Argument 3
