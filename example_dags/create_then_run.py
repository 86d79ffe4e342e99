"""Create a sync if it doesn't exist, and run it.

The first run creates the sync. Later runs find it by its name. The DAG never changes an existing sync, so edits made in
Polytomic are kept.
"""

try:
    from airflow.sdk import dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator


@dag(schedule=None, tags=["polytomic"], params={"schema": "crm"})
def create_then_run() -> None:
    create = PolytomicCreateBulkSyncOperator(
        task_id="create",
        name="Accounts and contacts to {{ params.schema }}",
        source_connection="Salesforce",  # by name or id
        destination_connection="Warehouse",
        mode="replicate",
        schemas=["account", "contact"],
        default_schedule={"frequency": "manual"},  # only Airflow runs the sync
        destination_configuration={"schema": "{{ params.schema }}"},
        if_exists="skip",  # the default, "fail", requires that no sync has this name
    )

    PolytomicBulkSyncOperator(task_id="run", sync_id=create.output, deferrable=True, poke_interval=5)


create_then_run()
