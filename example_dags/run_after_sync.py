"""Run after a sync that Polytomic starts, on its own schedule or manually (Airflow 3)."""

from typing import Any

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_provider_polytomic.triggers.events import PolytomicSyncEventTrigger

SYNC = "Postgres to warehouse"

# The asset stands for completed executions. Every DAG that is scheduled on it runs.
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


def payloads(asset: Asset, context: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of this run: several, if several executions ended before the run started."""
    return [event.extra["payload"] for event in context["triggering_asset_events"][asset]]


@dag(schedule=[loaded], tags=["polytomic"])
def run_after_sync() -> None:
    @task
    def use_the_data(**context: Any) -> list[str]:
        executions = payloads(loaded, context)
        for execution in executions:
            print(f"{execution['sync_name']} completed: execution {execution['execution_id']}")
        return [execution["execution_id"] for execution in executions]

    use_the_data()


@dag(schedule=[failed], tags=["polytomic"])
def run_after_sync_failed() -> None:
    @task
    def notify(**context: Any) -> list[str]:
        executions = payloads(failed, context)
        for execution in executions:
            print(f"{execution['sync_name']}: {execution['event']}: {execution['error']}")
        return [execution["execution_id"] for execution in executions]

    notify()


run_after_sync()
run_after_sync_failed()
