"""An ELT pipeline: a sync extracts and loads, SQL transforms, and a last task uses the result.

The warehouse is a SQLite file, so that the pipeline runs on one machine. Start a sandbox that fills this file:

    python -m airflow_provider_polytomic.sandbox --deliver-to /tmp/warehouse.sqlite

The environment variable ELT_WAREHOUSE sets the path of the file; the parameter `warehouse` overrides it for one run.
"""

import os
import sqlite3
from contextlib import closing
from typing import Any

try:
    from airflow.sdk import Param, dag, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task  # type: ignore
    from airflow.models.param import Param  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

# Drops the table first, so that the task can run again.
PIPELINE_BY_SIZE = """
    DROP TABLE IF EXISTS pipeline_by_size;
    CREATE TABLE pipeline_by_size AS
    SELECT CASE WHEN amount < 25 THEN 'small' WHEN amount < 75 THEN 'medium' ELSE 'large' END AS size,
           count(*) AS opportunities,
           round(sum(amount), 2) AS amount
    FROM opportunity
    GROUP BY size;
"""


@dag(
    schedule=None,  # or "@daily", or an asset
    tags=["polytomic"],
    params={"warehouse": Param(os.environ.get("ELT_WAREHOUSE", "/tmp/warehouse.sqlite"), type="string")},
)
def elt_pipeline() -> None:
    load = PolytomicBulkSyncOperator(
        task_id="load",
        sync_name="Salesforce to warehouse",
        deferrable=True,
        poke_interval=5,
        timeout=3600,  # cancels the execution and fails the try after an hour
    )

    @task
    def transform(**context: Any) -> None:
        with closing(sqlite3.connect(context["params"]["warehouse"])) as warehouse:
            warehouse.executescript(PIPELINE_BY_SIZE)

    @task
    def report(**context: Any) -> dict[str, int]:
        with closing(sqlite3.connect(context["params"]["warehouse"])) as warehouse:
            rows = warehouse.execute("SELECT * FROM pipeline_by_size ORDER BY amount").fetchall()
        for size, opportunities, amount in rows:
            print(f"{size}: {opportunities} opportunities worth {amount}")
        return {size: opportunities for size, opportunities, _ in rows}

    load >> transform() >> report()


elt_pipeline()
