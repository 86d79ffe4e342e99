"""Reverse ETL: write warehouse data to a business application, and wait for the execution in another task."""

from typing import Any

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore

from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor

SYNC = "Customer health to Salesforce"


@dag(schedule=None, tags=["polytomic"])
def reverse_etl() -> None:
    write_back = PolytomicModelSyncOperator(
        task_id="write_back",
        sync_name=SYNC,
        wait_for_completion=False,
    )

    # A sensor can be in another DAG. An operator with wait_for_completion=True does the same in one task.
    written = PolytomicModelSyncSensor(
        task_id="written",
        sync_name=SYNC,
        execution_id=write_back.output,
        allow_errors=True,  # the report below lists the records that the target rejects
        deferrable=True,
        poke_interval=5,
    )

    # Sync two records again, with Polytomic's console log in the task's log.
    again = PolytomicModelSyncOperator(
        task_id="again",
        sync_name=SYNC,
        identities=["ada@example.com", "grace@example.com"],
        deferrable=True,
        poke_interval=5,
        log_console=True,
    )

    @task
    def report(execution: Any) -> None:
        print(f"{execution['record_count']} records, {execution['error_count']} rejected: {execution['errors']}")

    report(written.output["execution"])
    written >> again


reverse_etl()
