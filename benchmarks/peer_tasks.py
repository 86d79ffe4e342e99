"""The tasks of other providers, unchanged: one that starts a sync and defers, and the same one when it resumes.

What a kind needs is imported when it is used, because each has an environment of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .waiters import CONNECTION, connect_airbyte, connect_dbt_cloud, connect_fivetran


def airbyte() -> Any:
    from airflow.providers.airbyte.operators.airbyte import AirbyteTriggerSyncOperator

    return AirbyteTriggerSyncOperator(task_id="task", connection_id="one", airbyte_conn_id=CONNECTION, deferrable=True)


def dbt_cloud() -> Any:
    from airflow.providers.dbt.cloud.operators.dbt import DbtCloudRunJobOperator

    return DbtCloudRunJobOperator(
        task_id="task", job_id=1, account_id=1, trigger_reason="a", dbt_cloud_conn_id=CONNECTION, deferrable=True
    )


def fivetran() -> Any:
    from fivetran_provider_async.operators import FivetranOperator

    return FivetranOperator(task_id="task", connector_id="connector_0", fivetran_conn_id=CONNECTION, deferrable=True)


@dataclass(frozen=True)
class PeerTask:
    """A provider's task.

    :param module: the module with its operator, which is loaded before the measurement.
    :param connect: sets its connection, given the server's host and port.
    :param event: the trigger event of a sync that has succeeded.
    """

    module: str
    connect: Callable[[str], None]
    make: Callable[[], Any]
    event: dict[str, Any]


# By environment.
PEER_TASKS = {
    "airbyte": PeerTask(
        "airflow.providers.airbyte.operators.airbyte",
        connect_airbyte,
        airbyte,
        {"status": "success", "message": "Job run 0 has completed successfully.", "job_id": 0},
    ),
    "dbt-cloud": PeerTask(
        "airflow.providers.dbt.cloud.operators.dbt",
        connect_dbt_cloud,
        dbt_cloud,
        {"status": "success", "message": "Job run 0 has completed successfully.", "run_id": 0},
    ),
    "fivetran": PeerTask(
        "fivetran_provider_async.operators",
        connect_fivetran,
        fivetran,
        {"status": "success", "message": "Fivetran connector finished syncing", "return_value": None},
    ),
}
