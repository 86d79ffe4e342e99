"""Start a sync and continue when it ends.

While the sync runs, the task is deferred: it waits in the triggerer and doesn't occupy a worker. The task succeeds if
the sync succeeds. If the sync fails, the task fails and logs Polytomic's message.
"""

from typing import Any

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator


@dag(schedule=None, tags=["polytomic"])
def start_and_wait() -> None:
    sync = PolytomicBulkSyncOperator(
        task_id="sync",
        sync_name="Salesforce to warehouse",  # or sync_id="…", which saves the lookup
        deferrable=True,
        poke_interval=5,  # seconds between polls; keep the default of 30 for syncs that take minutes
    )

    @task
    def report(execution: Any) -> None:
        """The XCom `execution` is a summary of the execution. The task's return value is the execution's id."""
        print(f"{execution['execution_id']}: {execution['record_count']} records, {execution['error_count']} errors")

    report(sync.output["execution"])


start_and_wait()
