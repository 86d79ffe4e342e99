"""Operators for model syncs (reverse ETL)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import default_deferrable
from airflow_provider_polytomic.operators._arguments import NOT_OWN
from airflow_provider_polytomic.operators._base import ExecutionOperator
from airflow_provider_polytomic.types import IfRunning, Resolvable, SourceIdentity, Template

MAX_IDENTITIES = 1000
_START: dict[str, validation.Check] = {
    "test": validation.boolean,
    "resync": validation.boolean,
    "identities": validation.non_empty(validation.texts),
    "source_identities": validation.non_empty(validation.lists),
}


class PolytomicModelSyncOperator(ExecutionOperator):
    """Start an execution of a model sync exactly once, and wait until it has ended.

    Returns the execution's id. XCom ``execution`` holds a summary (status, ``counts``, ``errors``), pushed at the
    start and at the end, also on failure. A retry resumes the execution of an earlier try; a clear starts a
    new one.

    :param sync_id: the sync. (templated)
    :param sync_name: the sync's name, instead of ``sync_id``; looked up when the task runs. (templated)
    :param test: validate the sync without writing. (templated)
    :param resync: sync all records again. (templated)
    :param identities: sync only the records with these values of the identity field; at most 1000, and at least
        one; excludes ``source_identities``. (templated)
    :param source_identities: sync only the records with these values of source fields: a list of lists of dicts with
        ``source`` (``model_id``, ``field``) and ``value``; at most 1000, and at least one; JSON values only.
        (templated)
    :param polytomic_conn_id: the Airflow connection. (templated)
    :param wait_for_completion: False ends the task as soon as the execution is started. It still waits for an
        execution that has to end first.
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``.
    :param poke_interval: maximum poll interval in seconds (or timedelta); default 30.
    :param timeout: seconds (or timedelta) for the whole task; default: none.
    :param queue_timeout: seconds (or timedelta) from the creation of the task's execution until it has to be running;
        default: none. (templated)
    :param if_running: what to do while an execution that this task did not start is running: ``wait``, ``attach``,
        ``fail``, ``skip`` or ``cancel``. ``attach`` applies only without ``test``, ``resync`` and identities, because
        the API does not return those of the running execution. (templated)
    :param fresh_within: seconds (or timedelta); default: none. If an execution completed successfully within this time,
        it is the result, and nothing is started. Like ``attach``, it applies only without ``test``, ``resync`` and
        identities. (templated)
    :param allow_errors: how many records with errors a success may have: True for any number, an int for a number, a
        float below 1 for a share of the records. (templated)
    :param min_records: the number of records (``counts.total``) that a success needs. (templated)
    :param cancel_on_kill: whether the execution is canceled when its task ends before it.
    :param log_console: whether to log the execution's console log during the wait.
    :param assets: whether to emit an asset event for the object that was written; or a dict of assets by name.

    The shared parameters and the errors are described at
    :class:`~airflow_provider_polytomic.operators.bulk_sync.PolytomicBulkSyncOperator`.

    API: ``GET`` and ``POST /api/syncs/{id}/executions``, ``GET …/executions/{exec_id}``.
    """

    kind_name = "model"
    template_fields: Sequence[str] = (
        "sync_id",
        "sync_name",
        "test",
        "resync",
        "identities",
        "source_identities",
        "queue_timeout",
        "if_running",
        "fresh_within",
        "allow_errors",
        "min_records",
        "polytomic_conn_id",
    )

    def __init__(
        self,
        *,
        sync_id: str | Resolvable | None = None,
        sync_name: str | Resolvable | None = None,
        test: bool | str | Resolvable = False,
        resync: bool | str | Resolvable = False,
        identities: str | Collection[str] | Resolvable | None = None,
        source_identities: str | Sequence[Sequence[SourceIdentity]] | Resolvable | None = None,
        polytomic_conn_id: str | Resolvable = validation.DEFAULT_CONN_ID,
        wait_for_completion: bool = True,
        deferrable: bool = default_deferrable(),
        poke_interval: float | timedelta = 30,
        timeout: float | timedelta | None = None,
        queue_timeout: float | timedelta | str | Resolvable | None = None,
        if_running: IfRunning | Template | Resolvable = "wait",
        fresh_within: float | timedelta | str | Resolvable | None = None,
        allow_errors: bool | int | float | str | Resolvable = False,
        min_records: int | str | Resolvable | None = None,
        cancel_on_kill: bool = True,
        log_console: bool = False,
        assets: bool | Mapping[str, Any] = True,
        **kwargs: Any,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in NOT_OWN}
        super().__init__(**kwargs)
        self._set_arguments(**arguments)

    def _get_start_arguments(self) -> dict[str, Any]:
        values = validation.validate_known(self, _START)
        if values.get("identities") and values.get("source_identities"):
            raise ValueError("identities and source_identities exclude each other")
        for name in ("identities", "source_identities"):
            if len(values.get(name) or ()) > MAX_IDENTITIES:
                raise ValueError(f"{name} takes {MAX_IDENTITIES} entries at most, not {len(values[name])}")
        return values
