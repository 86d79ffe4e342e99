"""Run when certain tables have been loaded, by whatever DAG: scheduled on the tables themselves.

A finished task with a sync tells Airflow of each table that was written. A table is known by its own address, so that
other providers call it the same. Whoever has given it a name in Airflow keeps that name.
"""

from datetime import datetime

try:
    from airflow.sdk import Asset, dag, task

    ACCOUNTS = Asset(name="accounts", uri="snowflake://ab12345/ANALYTICS/salesforce/account")
    CONTACTS = Asset("snowflake://ab12345/ANALYTICS/salesforce/contact")
except ImportError:  # Airflow 2
    from airflow.datasets import Dataset
    from airflow.decorators import dag, task

    ACCOUNTS = Dataset("snowflake://ab12345/ANALYTICS/salesforce/account")
    CONTACTS = Dataset("snowflake://ab12345/ANALYTICS/salesforce/contact")


@dag(schedule=[ACCOUNTS, CONTACTS], start_date=datetime(2026, 1, 1), tags=["polytomic"])
def after_tables():
    @task
    def report(**context):
        # Airflow 2 calls them datasets.
        loaded = context.get("triggering_asset_events") or context.get("triggering_dataset_events") or {}
        rows = {}
        for events in loaded.values():
            for event in events:
                rows[event.extra["output_name"]] = event.extra["record_count"]
                print(
                    f"{event.extra['output_name']}: {event.extra['record_count']} records,", event.extra["execution_id"]
                )
        return rows

    report()


after_tables()
