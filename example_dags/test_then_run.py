"""Try a sync before running it.

A test run takes a few records of each schema at most. When it fails, a credential or a mapping is broken, and the real
run, which may take an hour to find that out, is not started.
"""

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

SYNC = "Postgres to warehouse"


@dag(schedule=None, tags=["polytomic"])
def test_then_run():
    test = PolytomicBulkSyncOperator(task_id="test", sync_name=SYNC, test=True, deferrable=True, poke_interval=5)
    run = PolytomicBulkSyncOperator(task_id="run", sync_name=SYNC, deferrable=True, poke_interval=5)
    test >> run


test_then_run()
