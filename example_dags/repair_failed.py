"""Sync all tables. A retry syncs only those that failed."""

from datetime import timedelta

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator


@dag(schedule=None, tags=["polytomic"])
def repair_failed() -> None:
    PolytomicBulkSyncOperator(
        task_id="sync",
        sync_name="Salesforce to warehouse",
        retry_failed_schemas_only=True,
        retries=2,
        retry_delay=timedelta(seconds=5),
        deferrable=True,
        poke_interval=5,
    )


repair_failed()
