"""A sync that is created and run, with the name that the run's configuration has."""

from datetime import timedelta

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator

with DAG("create_and_run_bulk", schedule=None):
    create = PolytomicCreateBulkSyncOperator(
        task_id="create",
        name="{{ dag_run.conf['sync'] }}",
        source_connection="Salesforce",
        destination_connection="Warehouse",
        mode="replicate",
        default_schedule={"frequency": "manual"},
        destination_configuration={"schema": "{{ dag_run.conf['sync'] }}"},
        retries=3,
        retry_delay=timedelta(seconds=1),
    )
    PolytomicBulkSyncOperator(task_id="run", sync_id=create.output, deferrable=True, poke_interval=1)
