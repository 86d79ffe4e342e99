"""Run when certain tables have been loaded, by any DAG: a DAG scheduled on tables.

A task that ran a sync successfully emits an asset event for each written table. The asset's URI is the table's own
address, which other providers use too. An asset that has a name in Airflow keeps its name.
"""

from datetime import datetime
from typing import Any

try:
    from airflow.sdk import Asset, AssetAlias, dag, task

    ACCOUNTS = Asset(name="accounts", uri="snowflake://ab12345/ANALYTICS/salesforce/account")
    CONTACTS = Asset("snowflake://ab12345/ANALYTICS/salesforce/contact")
except ImportError:  # Airflow 2
    from airflow.datasets import Dataset  # type: ignore
    from airflow.datasets import DatasetAlias as AssetAlias  # type: ignore
    from airflow.decorators import dag, task  # type: ignore

    ACCOUNTS = Dataset("snowflake://ab12345/ANALYTICS/salesforce/account")
    CONTACTS = Dataset("snowflake://ab12345/ANALYTICS/salesforce/contact")


@dag(schedule=[ACCOUNTS, CONTACTS], start_date=datetime(2026, 1, 1), tags=["polytomic"])
def after_tables() -> None:
    @task
    def report(**context: Any) -> dict[str, int]:
        # Airflow 2 calls assets datasets.
        loaded = context.get("triggering_asset_events") or context.get("triggering_dataset_events") or {}
        rows: dict[str, int] = {}
        for asset, events in loaded.items():
            if isinstance(asset, AssetAlias):  # Airflow 3 also lists each event for the alias of its task
                continue
            for event in events:
                table = event.extra.get("output_name")
                if table is None:  # an event of another task, or one that was created in the UI
                    continue
                rows[table] = event.extra.get("record_count")
                print(f"{table}: {rows[table]} records, execution {event.extra.get('execution_id')}")
        return rows

    report()


after_tables()
