"""Start a sync in one task, run another task in parallel, and wait for the sync in a third.

With this pattern, a failed sync isn't started again by a retry, and a timeout cancels nothing: the sensor only waits.
Prefer one deferrable operator, unless a task has to run while the sync runs.
"""

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor

SYNC = "Salesforce to warehouse"


@dag(schedule=None, tags=["polytomic"])
def start_then_sensor() -> None:
    start = PolytomicBulkSyncOperator(task_id="start", sync_name=SYNC, wait_for_completion=False)

    @task
    def meanwhile() -> None:
        print("This task runs while the sync runs.")

    wait = PolytomicBulkSyncSensor(
        task_id="wait",
        sync_name=SYNC,
        execution_id=start.output,  # this execution, not any other execution of the sync
        deferrable=True,
        poke_interval=5,
        timeout=3600,
    )

    start >> meanwhile()

    @task
    def use_the_data() -> None:
        print("The sync succeeded.")

    wait >> use_the_data()


start_then_sensor()
