"""Sync the tables that match a pattern, and continue with those that received rows."""

from typing import Any

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

SYNC = "Postgres to warehouse"
TABLES = ["orders", "customers"]


@dag(schedule=None, tags=["polytomic"])
def some_schemas() -> None:
    @task
    def choose_schemas() -> list[str]:
        from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

        hook = PolytomicHook()
        # In a task of its own, so that a retry of the sync uses the same schemas and finds its execution.
        return hook.select_schemas(hook.find_bulk_sync(SYNC).id, "*.orders", "*.cust*")

    sync = PolytomicBulkSyncOperator(
        task_id="sync", sync_name=SYNC, schemas=choose_schemas(), deferrable=True, poke_interval=5
    )

    @task.branch
    def with_rows(execution: Any) -> list[str]:
        tables = [row["output_name"] for row in execution["schemas"] if row["record_count"]]
        return [f"transform_{table}" for table in tables]

    @task
    def transform(table: str) -> None:
        print(f"{table} has new rows")

    branches = [transform.override(task_id=f"transform_{table}")(table) for table in TABLES]
    with_rows(sync.output["execution"]) >> branches


some_schemas()
