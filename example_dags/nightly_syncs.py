"""Load two sources every night: with retries, time limits, a pool, and an alert.

Create the pool first. Deferred tasks have to count, or it limits nothing:

    airflow pools set --include-deferred polytomic 10 "Syncs that run at the same time"
"""

from datetime import datetime, timedelta
from typing import Any

try:
    from airflow.sdk import dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

# The names of the assets of two tables, for DAGs that are scheduled on them.
ORDERS = "postgres://warehouse:5432/shop/public/orders"
ACCOUNTS = "postgres://warehouse:5432/shop/public/account"


def alert(context: Any) -> None:
    """Say what failed. Airflow calls this when no try is left. Replace `print` with your chat or pager."""
    task_instance = context["ti"]
    print(f"ALERT: {task_instance.dag_id}.{task_instance.task_id}: {context.get('exception')}")
    # Pushed as soon as the execution is known, so it is there unless nothing was started.
    execution = task_instance.xcom_pull(task_ids=task_instance.task_id, key="execution")
    if execution:
        failed = [row["schema"] for row in execution["schemas"] if row["status"] != "completed"]
        print(f"ALERT: execution {execution['execution_id']} has status {execution['status']}. Not completed: {failed}")


@dag(
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # a sync loads what has changed since its last run, so missed runs need no repetition
    max_active_runs=1,
    is_paused_upon_creation=True,  # until the pool exists
    tags=["polytomic"],
    default_args={
        "deferrable": True,
        "pool": "polytomic",
        "retries": 2,  # a retry resumes an execution that is still running
        "retry_delay": timedelta(minutes=5),
        "timeout": timedelta(hours=3),  # cancels the execution, and fails the try
        "queue_timeout": timedelta(minutes=30),
        "on_failure_callback": alert,
    },
)
def nightly_syncs() -> None:
    orders = PolytomicBulkSyncOperator(
        task_id="load_orders", sync_name="Postgres to warehouse", assets={"orders": ORDERS}
    )
    accounts = PolytomicBulkSyncOperator(
        task_id="load_accounts", sync_name="Salesforce to warehouse", assets={"account": ACCOUNTS}
    )

    @task(pool="default_pool")
    def report(orders: Any, accounts: Any) -> int:
        """The XCom `execution` is a summary of the execution. The task's return value is the execution's id."""
        total: int = orders["record_count"] + accounts["record_count"]
        print(f"{total} records in executions {orders['execution_id']} and {accounts['execution_id']}")
        return total

    report(orders.output["execution"], accounts.output["execution"])


nightly_syncs()
