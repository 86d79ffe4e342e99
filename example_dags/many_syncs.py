"""Run every active sync whose name fits a pattern: one mapped task for each, whatever their number is today.

Ten at a time, whether their tasks are in a worker or deferred. That takes a pool, which has to be there:

    airflow pools set --include-deferred polytomic 10 "Syncs that run at the same time"
"""

try:
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator


@dag(schedule=None, tags=["polytomic"], params={"name": Param("* to warehouse", type="string")})
def many_syncs():
    @task
    def find_syncs(params):
        # Imported where it is used: the file is read again and again by the DAG processor, the task runs once.
        from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

        # Ids, because several syncs may have one name.
        return [sync.id for sync in PolytomicHook().list_bulk_syncs(active=True, name=params["name"])]

    PolytomicBulkSyncOperator.partial(
        task_id="sync",
        deferrable=True,
        poke_interval=5,
        pool="polytomic",
        map_index_template="{{ sync_name }}",  # what the grid shows instead of 0, 1, 2
    ).expand(sync_id=find_syncs())


many_syncs()
