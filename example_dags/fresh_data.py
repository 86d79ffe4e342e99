"""Use the last execution of a sync if it is at most half an hour old, and start one otherwise.

Any number of DAGs can contain such a task, and together they start one execution in half an hour. The second sync
always starts when a DAG parameter requests it:

    airflow dags trigger fresh_data --conf '{"force": true}'
"""

from datetime import timedelta

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag  # type: ignore
    from airflow.models.param import Param  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator


@dag(
    schedule=None,
    tags=["polytomic"],
    params={"force": Param(False, type="boolean", description="Sync the orders even if they are fresh?")},
)
def fresh_data() -> None:
    customers = PolytomicBulkSyncOperator(
        task_id="customers",
        sync_name="Salesforce to warehouse",
        fresh_within=timedelta(minutes=30),
        deferrable=True,
        poke_interval=5,
    )
    same_customers = PolytomicBulkSyncOperator(
        task_id="same_customers",
        sync_name="Salesforce to warehouse",
        schemas=["account"],
        fresh_within=timedelta(minutes=30),
        deferrable=True,
        poke_interval=5,
    )
    orders = PolytomicBulkSyncOperator(
        task_id="orders",
        sync_name="Postgres to warehouse",
        fresh_within="{{ '' if params.force else 1800 }}",  # an empty string means "not set"
        deferrable=True,
        poke_interval=5,
    )
    customers >> same_customers >> orders


fresh_data()
