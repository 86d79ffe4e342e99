"""Start a sync, do something else meanwhile, and wait for it later, in a task of its own."""

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor

SYNC = "Salesforce to warehouse"


@dag(schedule=None, tags=["polytomic"])
def start_then_sensor():
    start = PolytomicBulkSyncOperator(task_id="start", sync_name=SYNC, wait_for_completion=False)

    @task
    def meanwhile():
        print("The sync runs, and so does this.")

    wait = PolytomicBulkSyncSensor(
        task_id="wait",
        sync_name=SYNC,
        execution_id=start.output,  # this execution, and not just any that ends now
        deferrable=True,
        poke_interval=5,
        timeout=3600,
    )

    start >> meanwhile()

    @task
    def use_the_data():
        print("The sync has ended well.")

    wait >> use_the_data()


start_then_sensor()
