"""Reverse ETL: write what the warehouse knows back to where people work, and wait for it in another task, too."""

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor

SYNC = "Customer health to Salesforce"


@dag(schedule=None, tags=["polytomic"])
def reverse_etl():
    write_back = PolytomicModelSyncOperator(
        task_id="write_back",
        sync_name=SYNC,
        wait_for_completion=False,
    )

    # An operator that waits by itself does the same in one task. This one may be in another DAG.
    written = PolytomicModelSyncSensor(
        task_id="written",
        sync_name=SYNC,
        execution_id=write_back.output,
        allow_errors=True,  # records that the target refuses are for the report below
        deferrable=True,
        poke_interval=5,
    )

    # Once more, for two records that somebody has changed by hand; with Polytomic's own log in that of the task.
    again = PolytomicModelSyncOperator(
        task_id="again",
        sync_name=SYNC,
        identities=["ada@example.com", "grace@example.com"],
        deferrable=True,
        poke_interval=5,
        log_console=True,
    )

    @task
    def report(execution):
        print(f"{execution['record_count']} records, {execution['error_count']} of them refused: {execution['errors']}")

    report(written.output["execution"])
    written >> again


reverse_etl()
