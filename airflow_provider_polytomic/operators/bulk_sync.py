"""Operators for bulk syncs (ELT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_provider_polytomic import _arguments
from airflow_provider_polytomic._compat import default_deferrable
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators._execution import ExecutionOperator

RESYNC_MODES = ("refetch", "resync", "rebuild")
FETCH_MODES = ("none", "incremental", "full")


class PolytomicBulkSyncOperator(ExecutionOperator):
    """Start an execution of a bulk sync exactly once, and wait until it has ended.

    Returns the execution's id. XCom ``execution`` holds a summary (status, counts, schemas), pushed at the start
    and at the end, also on failure. A retry resumes what an earlier try started; a clear starts anew.

    :param sync_id: the sync. (templated)
    :param sync_name: the sync's name, instead of ``sync_id``; looked up when the task runs. (templated)
    :param test: validate the sync; excludes ``resync_mode``. The API reference says that nothing is written, the
        vendor's SDK that up to 5 records per schema are synced. (templated)
    :param resync_mode: ``refetch``, ``resync`` or ``rebuild``; default: sync what is new. (templated)
    :param fetch_mode: ``none``, ``incremental`` or ``full``; for Salesforce. (templated)
    :param schemas: ids of the schemas to sync; default: all that are enabled. (templated)
    :param polytomic_conn_id: the Airflow connection. (templated)
    :param wait_for_completion: False ends the task as soon as the execution is started.
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``.
    :param poke_interval: seconds (or timedelta) between looks; default 30. In the triggerer the first look comes
        after 5 seconds or more.
    :param timeout: seconds (or timedelta) for all of it, waiting for others included; default: none. Then the
        execution is cancelled (unless ``cancel_on_kill=False``) and PolytomicTimeoutError raised. An
        ``execution_timeout`` has the same effect, shortly before it strikes.
    :param if_running: what to do while somebody else's execution of the sync runs: ``wait`` for its end and start
        then, ``attach`` to it if it does at least what is asked, ``fail``, ``skip`` the task, or ``cancel`` it and
        start. (templated)
    :param allow_errors: whether an execution in which some rows or schemas failed is a success. (templated)
    :param min_records: how many records make a success; not judged for test runs. (templated)
    :param cancel_on_kill: whether the execution that this task started is cancelled when the task is ended without
        it: killed, marked, cleared, timed out.
    :param log_console: whether the execution's console log is logged while it is waited for, with one request more
        for each look.
    :param assets: whether Airflow is told of each table that the execution wrote, as an asset event with its counts;
        or a dict that says which asset (a URI, an ``Asset``, or None to leave it out) a table is, by output name or
        schema id, where it is not the address that the destination's connection gives it.
    :raises PolytomicSyncError: the execution did not succeed.
    :raises PolytomicTimeoutError: it had not ended in time.
    :raises PolytomicConflictError: somebody else's runs, and ``if_running="fail"``.
    :raises AirflowFailException: what a retry cannot mend: bad arguments, a refused key, no such sync.

    Behind it: ``GET`` and ``POST /api/bulk/syncs/{id}/executions``, ``GET …/executions/{exec_id}``.
    """

    kind = "bulk"
    template_fields: Sequence[str] = (
        "sync_id",
        "sync_name",
        "test",
        "resync_mode",
        "fetch_mode",
        "schemas",
        "if_running",
        "allow_errors",
        "min_records",
        "polytomic_conn_id",
    )

    def __init__(
        self,
        *,
        sync_id: str | None = None,
        sync_name: str | None = None,
        test: bool = False,
        resync_mode: str | None = None,
        fetch_mode: str | None = None,
        schemas: Sequence[str] | None = None,
        polytomic_conn_id: str = PolytomicHook.default_conn_name,
        wait_for_completion: bool = True,
        deferrable: bool = default_deferrable(),
        poke_interval: float | timedelta = 30,
        timeout: float | timedelta | None = None,
        if_running: str = "wait",
        allow_errors: bool = False,
        min_records: int | None = None,
        cancel_on_kill: bool = True,
        log_console: bool = False,
        assets: bool | Mapping[str, Any] = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            sync_id=sync_id,
            sync_name=sync_name,
            polytomic_conn_id=polytomic_conn_id,
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            poke_interval=poke_interval,
            timeout=timeout,
            if_running=if_running,
            allow_errors=allow_errors,
            min_records=min_records,
            cancel_on_kill=cancel_on_kill,
            log_console=log_console,
            assets=assets,
            **kwargs,
        )
        self.test = test
        self.resync_mode = resync_mode
        self.fetch_mode = fetch_mode
        self.schemas = schemas
        self._check()

    def _check(self) -> None:
        super()._check()
        self._start_arguments()

    def _start_arguments(self) -> dict[str, Any]:
        checks: dict[str, Any] = {
            "test": _arguments.boolean,
            "resync_mode": lambda name, value: _arguments.choice(name, value, RESYNC_MODES),
            "fetch_mode": lambda name, value: _arguments.choice(name, value, FETCH_MODES),
            "schemas": _arguments.ids,
        }
        values = {
            name: check(name, getattr(self, name))
            for name, check in checks.items()
            if not _arguments.templated(getattr(self, name))
        }
        if values.get("test") and values.get("resync_mode"):
            raise ValueError("test and resync_mode exclude each other")
        return values
