"""Run when a sync has ended that Polytomic itself has started, by its own schedule or by hand (Airflow 3)."""

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_provider_polytomic.triggers.events import PolytomicSyncEventTrigger

SYNC = "Postgres to warehouse"

# An asset stands for what is watched for; each DAG that is scheduled on it runs.
loaded = Asset(
    "postgres_to_warehouse_loaded",
    watchers=[
        AssetWatcher(name="completed", trigger=PolytomicSyncEventTrigger(sync_name=SYNC, kind="bulk", poke_interval=10))
    ],
)
failed = Asset(
    "postgres_to_warehouse_failed",
    watchers=[
        AssetWatcher(
            name="failed",
            trigger=PolytomicSyncEventTrigger(
                sync_name=SYNC, kind="bulk", events=["failed", "completed_with_errors"], poke_interval=10
            ),
        )
    ],
)


def told(triggering_asset_events, asset):
    """What Polytomic has told: several events, where several syncs have ended before the run began."""
    return [event.extra["payload"] for event in triggering_asset_events[asset]]


@dag(schedule=[loaded], tags=["polytomic"])
def run_after_sync():
    @task
    def use_the_data(triggering_asset_events):
        executions = told(triggering_asset_events, loaded)
        for execution in executions:
            print(f"{execution['sync_name']} has completed: execution {execution['execution_id']}")
        return [execution["execution_id"] for execution in executions]

    use_the_data()


@dag(schedule=[failed], tags=["polytomic"])
def run_after_sync_failed():
    @task
    def tell_somebody(triggering_asset_events):
        executions = told(triggering_asset_events, failed)
        for execution in executions:
            print(f"{execution['sync_name']}: {execution['event']}: {execution['error']}")
        return [execution["execution_id"] for execution in executions]

    tell_somebody()


run_after_sync()
run_after_sync_failed()
