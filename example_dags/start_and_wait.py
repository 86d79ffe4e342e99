"""Start a sync and go on when it has ended.

While the sync runs the task is deferred: it waits in the triggerer and takes up no worker. It succeeds if the sync
does, and fails, with Polytomic's own message in the log, if the sync fails.
"""

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator


@dag(schedule=None, tags=["polytomic"])
def start_and_wait():
    sync = PolytomicBulkSyncOperator(
        task_id="sync",
        sync_name="Salesforce to warehouse",  # or sync_id="…", which needs no look-up
        deferrable=True,
        poke_interval=5,  # seconds between two looks; leave it at 30 where a sync takes minutes
    )

    @task
    def report(execution):
        """The XCom `execution` says how it went; the return value of the task is the execution's id."""
        print(f"{execution['execution_id']}: {execution['record_count']} records, {execution['error_count']} errors")

    report(sync.output["execution"])


start_and_wait()
