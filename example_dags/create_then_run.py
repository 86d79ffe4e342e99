"""Create a sync, unless it is there, and run it.

The first run creates the sync; every later one finds it by its name, and runs it. Neither changes a sync that is there,
so what somebody sets up in Polytomic meanwhile stays.
"""

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator


@dag(schedule=None, tags=["polytomic"], params={"schema": "crm"})
def create_then_run():
    create = PolytomicCreateBulkSyncOperator(
        task_id="create",
        name="Accounts and contacts to {{ params.schema }}",
        source_connection="Salesforce",  # by name or id
        destination_connection="Warehouse",
        mode="replicate",
        schemas=["account", "contact"],
        default_schedule={"frequency": "manual"},  # Airflow is the only one who runs it
        destination_configuration={"schema": "{{ params.schema }}"},
        if_exists="skip",  # "fail", the default, is for a sync that must be new
    )

    PolytomicBulkSyncOperator(task_id="run", sync_id=create.output, deferrable=True, poke_interval=5)


create_then_run()
