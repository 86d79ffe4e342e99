"""Test a sync before running it.

A test run fails quickly when a credential or a mapping is broken, and the real run, which can take an hour, doesn't
start. Polytomic's sources disagree about whether a test run of a bulk sync writes a few records of each schema: see
docs/howto/test-before-run.md.
"""

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

SYNC = "Postgres to warehouse"


@dag(schedule=None, tags=["polytomic"])
def test_then_run() -> None:
    test = PolytomicBulkSyncOperator(task_id="test", sync_name=SYNC, test=True, deferrable=True, poke_interval=5)
    run = PolytomicBulkSyncOperator(task_id="run", sync_name=SYNC, deferrable=True, poke_interval=5)
    test >> run


test_then_run()
