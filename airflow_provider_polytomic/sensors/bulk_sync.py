"""Sensors for bulk syncs (ELT)."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_polytomic.sensors._base import ExecutionSensor


class PolytomicBulkSyncSensor(ExecutionSensor):
    """Wait until an execution of a bulk sync has ended. It does not matter what started it.

    Returns the id of the execution, and pushes a summary as XCom ``execution``. If the execution did not succeed, the
    sensor fails without retries, which would find the same outcome. A sensor never cancels an execution.

    :param sync_id: id of the sync. (templated)
    :param sync_name: name of the sync, instead of ``sync_id``; looked up when the task runs. (templated)
    :param execution_id: the execution to wait for; default: the oldest one that had not ended at
        ``completed_after`` and is not a test run. A template that renders to nothing is an error. (templated)
    :param completed_after: a datetime, or text in ISO 8601, in UTC if it has no time zone; default: the time of the
        sensor's first poke. Excludes ``execution_id``. (templated)
    :param allow_errors: tolerated errors. True: any number, also in schemas that failed completely. An int: up to this
        many records. A float below 1: up to this share of the records. (templated)
    :param polytomic_conn_id: id of the Airflow connection. (templated)
    :param deferrable: wait in the triggerer, without occupying a worker slot; default: the Airflow option
        ``[operators] default_deferrable``.

    ``poke_interval``, ``timeout``, ``mode``, ``soft_fail`` and ``never_fail`` are those of every sensor. With
    ``deferrable``, ``poke_interval`` is a maximum, and ``exponential_backoff``, ``max_wait`` and ``silent_fail`` have
    no effect.

    :raises AirflowFailException: the execution did not succeed, or does not exist any more.
    :raises AirflowSensorTimeout: the execution had not ended within ``timeout``.

    The API calls are ``GET /api/bulk/syncs/{id}/executions/{exec_id}``, and ``GET …/executions`` to find the execution.
    """

    kind_name = "bulk"
    template_fields: Sequence[str] = (
        "sync_id",
        "sync_name",
        "execution_id",
        "completed_after",
        "allow_errors",
        "polytomic_conn_id",
    )
