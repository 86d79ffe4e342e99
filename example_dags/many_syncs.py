"""Run every active sync of the organization: one mapped task for each, whatever their number is today."""

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator


@dag(schedule=None, tags=["polytomic"])
def many_syncs():
    @task
    def find_active_syncs():
        # Imported where it is used: the file is read again and again by the DAG processor, the task runs once.
        from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

        return [sync.id for sync in PolytomicHook().list_bulk_syncs(active=True)]

    # They all run at once. To have ten at a time, give them a pool with ten slots that counts deferred tasks, too.
    PolytomicBulkSyncOperator.partial(task_id="sync", deferrable=True, poke_interval=5).expand(
        sync_id=find_active_syncs()
    )


many_syncs()
