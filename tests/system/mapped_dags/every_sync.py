"""One mapped task for each active sync."""

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator


@dag(schedule=None)
def every_sync():
    @task
    def find_syncs():
        from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

        return [sync.id for sync in PolytomicHook().list_bulk_syncs(active=True)]

    PolytomicBulkSyncOperator.partial(
        task_id="sync", poke_interval=0.05, deferrable=False, map_index_template="{{ sync_name }}"
    ).expand(sync_id=find_syncs())


every_sync()
