"""Run an incremental sync that rebuilds two schemas when a DAG parameter requests it.

In the UI, the parameter is a switch in the "Trigger" form. On the command line:

    airflow dags trigger full_rebuild_param --conf '{"full_rebuild": true}'
"""

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag  # type: ignore
    from airflow.models.param import Param  # type: ignore

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.types import Template


@dag(
    schedule=None,
    tags=["polytomic"],
    params={"full_rebuild": Param(False, type="boolean", description="Drop account and contact and load all of them?")},
)
def full_rebuild_param() -> None:
    # An empty string means "not set", so one task serves both cases.
    PolytomicBulkSyncOperator(
        task_id="sync",
        sync_name="Salesforce to warehouse",
        resync_mode=Template("{{ 'rebuild' if params.full_rebuild else '' }}"),
        schemas="{{ 'account,contact' if params.full_rebuild else '' }}",
        deferrable=True,
        poke_interval=5,
    )


full_rebuild_param()
