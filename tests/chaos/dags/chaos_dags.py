"""A task that syncs one schema, which no other task does, in each way of waiting. It is retried until it succeeds."""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

for way in ("worker", "deferred"):
    with DAG(way, schedule=None) as dag:
        PolytomicBulkSyncOperator(
            task_id="sync",
            sync_id="{{ dag_run.conf['sync'] }}",
            schemas="{{ dag_run.conf['schema'] }}",
            deferrable=way == "deferred",
            poke_interval=2,
            retries=60,
            retry_delay=timedelta(seconds=1),
        )
    globals()[way] = dag
