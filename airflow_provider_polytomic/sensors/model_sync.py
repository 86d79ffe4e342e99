"""Sensors for model syncs (reverse ETL)."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_polytomic.sensors._base import ExecutionSensor


class PolytomicModelSyncSensor(ExecutionSensor):
    """Wait until an execution of a model sync has ended, whoever started it.

    Returns the execution's id. XCom ``execution`` holds a summary of it. An execution that failed fails the sensor
    at once and without retries: only who started it can do better. A sensor never cancels an execution.

    :param sync_id: the sync. (templated)
    :param sync_name: the sync's name, instead of ``sync_id``; looked up when the task runs. (templated)
    :param execution_id: the execution to wait for; without it, the oldest one that had not ended at
        ``completed_after``. (The API does not tell which executions of a model sync are test runs.) (templated)
    :param completed_after: a time (datetime, or ISO 8601 text; without a time zone it is UTC); default: the
        sensor's first poke. (templated)
    :param allow_errors: how many records in error a success may have: True for any number, an int for so many, a
        float below 1 for such a share of them. (templated)
    :param polytomic_conn_id: the Airflow connection. (templated)
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``.

    ``poke_interval``, ``timeout``, ``mode``, ``soft_fail`` and the rest are those of every sensor; deferred,
    ``exponential_backoff``, ``max_wait`` and ``silent_fail`` mean nothing.

    :raises AirflowFailException: the execution did not succeed, or is gone.
    :raises AirflowSensorTimeout: it had not ended within ``timeout``.

    Behind it: ``GET /api/syncs/{id}/executions/{exec_id}``, and ``GET …/executions`` to find one.
    """

    kind = "model"
    template_fields: Sequence[str] = (
        "sync_id",
        "sync_name",
        "execution_id",
        "completed_after",
        "allow_errors",
        "polytomic_conn_id",
    )
