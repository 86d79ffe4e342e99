"""A task that syncs a part that no other task does, of each kind and in each way. It is retried until it succeeds."""

from datetime import timedelta

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator

PART = "{{ dag_run.conf['part'] }}"
KINDS = {
    "bulk": (PolytomicBulkSyncOperator, {"schemas": PART}),
    "model": (PolytomicModelSyncOperator, {"identities": PART}),
}

for kind, (operator, part) in KINDS.items():
    for way in ("worker", "deferred"):
        with DAG(f"storm_{way}_{kind}", schedule=None) as dag:
            operator(
                task_id="sync",
                sync_id="{{ dag_run.conf['sync'] }}",
                deferrable=way == "deferred",
                poke_interval=2,
                retries=60,
                # Tries that fail at once, because the API server is gone, must not delay its next start.
                retry_delay=timedelta(seconds=3),
                **part,
            )
        globals()[dag.dag_id] = dag
