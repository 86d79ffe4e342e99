"""Sync all tables, accept the tables that succeed, and sync the failed ones again."""

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

SYNC = "Salesforce to warehouse"


@dag(schedule=None, tags=["polytomic"])
def repair_failed():
    first = PolytomicBulkSyncOperator(
        task_id="first", sync_name=SYNC, allow_errors=True, deferrable=True, poke_interval=5
    )

    @task.short_circuit  # skips the next task when no schema failed (schemas=[] is an error)
    def failed_schemas(execution):
        return [row["schema"] for row in execution["schemas"] if row["status"] != "completed"]

    PolytomicBulkSyncOperator(
        task_id="again",
        sync_name=SYNC,
        schemas=failed_schemas(first.output["execution"]),
        deferrable=True,
        poke_interval=5,
    )


repair_failed()
