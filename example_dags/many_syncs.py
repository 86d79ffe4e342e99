"""Run every active sync whose name matches a pattern, with one mapped task for each.

A pool limits the DAG to ten syncs at a time, whether the tasks wait in a worker or deferred. Create it first:

    airflow pools set --include-deferred polytomic 10 "Syncs that run at the same time"
"""

from typing import Any

try:
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore
    from airflow.models.param import Param  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator


@dag(schedule=None, tags=["polytomic"], params={"name": Param("* to warehouse", type="string")})
def many_syncs() -> None:
    @task
    def find_syncs(**context: Any) -> list[str]:
        # Imported here because the DAG processor parses the file often, and the task runs once.
        from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

        # Ids, because several syncs can have the same name.
        return [sync.id for sync in PolytomicHook().list_bulk_syncs(active=True, name=context["params"]["name"])]

    PolytomicBulkSyncOperator.partial(
        task_id="sync",
        deferrable=True,
        poke_interval=5,
        pool="polytomic",
        map_index_template="{{ sync_name }}",  # the label that the UI shows instead of 0, 1, 2
    ).expand(sync_id=find_syncs())


many_syncs()
