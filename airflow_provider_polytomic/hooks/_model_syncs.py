"""The hook's everyday calls of model syncs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from airflow_provider_polytomic._airflow import validation

from ._sync_calls import (
    DEFAULT_MAX_LOG_BYTES,
    MAX_SYNCS_PER_PAGE,
    SyncCalls,
    matches_pattern,
    optional_flag,
    page_size,
    required_id,
    required_ids,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_polytomic.api.executions.log_files import LogFile
    from airflow_provider_polytomic.api.models import ModelSync, ModelSyncExecution
    from airflow_provider_polytomic.bodies import ModelSyncChanges, NewModelSync
    from airflow_provider_polytomic.types import LogType, SourceIdentity


class ModelSyncCalls(SyncCalls):
    """Everyday calls of model syncs, for the hook."""

    def list_model_syncs(
        self,
        active: bool | None = None,
        mode: str | None = None,
        target_connection_id: str | None = None,
        *,
        name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[ModelSync]:
        """List model syncs, most recently changed first (``GET /api/syncs``).

        A sync that is changed while the list is read may be missed, as for :meth:`list_bulk_syncs`.

        :param active: only active (True) or only paused syncs (False); default: both.
        :param mode: only syncs with this mode, for instance ``updateOrCreate``.
        :param target_connection_id: only syncs that write to this connection.
        :param name: only syncs whose name equals this, or matches it as a pattern of :mod:`fnmatch` (``*``, ``?``,
            ``[…]``). Case-sensitive.
        :param limit: return at most this many. Without ``name``, no more than these are requested; the API cannot
            search by name, so with it all pages may be read.
        :raises ValueError: ``limit`` is less than 1, or another argument is invalid.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        optional_flag("active", active)
        target_connection_id = validation.identifier("target_connection_id", target_connection_id)
        size = page_size(limit, MAX_SYNCS_PER_PAGE)
        if name is not None:
            size = None
        call = model_syncs.list_(active=active, mode=mode, target_connection_id=target_connection_id, limit=size)
        return islice((sync for sync in self.client.iterate(call) if matches_pattern(sync.name, name)), limit)

    def get_model_sync(self, sync_id: str) -> ModelSync:
        """Get a model sync (``GET /api/syncs/{id}``).

        :raises PolytomicNotFoundError: there is no such sync.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        return self.client.call(model_syncs.get(required_id("sync_id", sync_id)))

    def find_model_sync(self, name: str) -> ModelSync:
        """Find the model sync with this name (``GET /api/syncs``), as :meth:`find_bulk_sync` does.

        :raises PolytomicLookupError: no sync has the name (the message lists the most similar names), or several have
            it (the message and the error's ``ids`` list them).
        """
        sync: ModelSync = self._find_sync("model", name)
        return sync

    def create_model_sync(self, **body: Unpack[NewModelSync]) -> ModelSync:
        """Create a model sync (``POST /api/syncs``).

        If the response is lost, the request is repeated with the same idempotency key for up to a minute, which never
        creates a second sync.

        :param body: the fields of the API's request: :class:`airflow_provider_polytomic.bodies.NewModelSync`.
        :raises ValueError: a field cannot be encoded as JSON, or is text instead of a boolean.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        sync: ModelSync = self._create_sync(model_syncs, dict(body))
        return sync

    def update_model_sync(self, sync_id: str, **changes: Unpack[ModelSyncChanges]) -> ModelSync:
        """Change fields of a model sync: read it, merge the changes, and write it (``GET``, then ``PUT``).

        :param changes: fields of the API's request with their new values; other fields keep theirs:
            :class:`airflow_provider_polytomic.bodies.ModelSyncChanges`.
        :raises ValueError: a field cannot be encoded as JSON, or is text instead of a boolean.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        sync: ModelSync = self._update_sync(model_syncs, sync_id, dict(changes))
        return sync

    def activate_model_sync(self, sync_id: str, active: bool = True) -> None:
        """Activate a model sync, or pause it (``POST /api/syncs/{id}/activate``).

        :param active: False pauses the sync.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        self.client.call(model_syncs.activate(required_id("sync_id", sync_id), validation.flag("active", active)))

    def delete_model_sync(self, sync_id: str) -> None:
        """Delete a model sync (``DELETE /api/syncs/{id}``)."""
        from airflow_provider_polytomic.api.endpoints import model_syncs

        self.client.call(model_syncs.delete(required_id("sync_id", sync_id)))

    def start_model_sync(
        self,
        sync_id: str,
        *,
        test: bool | None = None,
        resync: bool | None = None,
        identities: Iterable[str] | None = None,
        source_identities: Iterable[Sequence[SourceIdentity]] | None = None,
        idempotency_key: str | None = None,
    ) -> ModelSyncExecution:
        """Start an execution of a model sync (``POST /api/syncs/{id}/executions``).

        If the response is lost, the request is repeated with the same idempotency key for up to a minute, which never
        starts a second execution.

        :param test: validate the sync without writing.
        :param resync: sync all records, not only changed ones.
        :param identities: only the records with these identities, in any iterable; at most 1000; excludes
            ``source_identities``.
        :param source_identities: only these records, each a list of source fields and their values:
            ``[{"source": {"model_id": …, "field": "email"}, "value": "a@example.com"}]``; at most 1000.
        :param idempotency_key: 8 to 255 letters, digits, ``-`` and ``_``; default: a random one.
        :raises PolytomicConflictError: another execution is running. The call does not wait for it.
        :raises ValueError: an argument is invalid, or two exclude each other; no request was sent. An empty list of
            identities is invalid, because the API would sync all records.
        """
        execution: ModelSyncExecution = self._start_execution(
            "model",
            sync_id,
            idempotency_key,
            {"test": test, "resync": resync, "identities": identities, "source_identities": source_identities},
        )
        return execution

    def get_model_sync_execution(self, sync_id: str, execution_id: str) -> ModelSyncExecution:
        """Get an execution with its counts and errors (``GET /api/syncs/{id}/executions/{exec_id}``).

        :raises PolytomicNotFoundError: there is no such execution of the sync.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        return self.client.call(model_syncs.execution(*required_ids(sync_id, execution_id)))

    def list_model_sync_executions(
        self,
        sync_id: str,
        only_terminal: bool | None = None,
        ascending: bool | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[ModelSyncExecution]:
        """List the executions of a model sync, newest first (``GET /api/syncs/{id}/executions``).

        Each is returned once. Executions that start while the list is read may be missing.

        :param only_terminal: only executions that have ended.
        :param ascending: oldest first.
        :param limit: return and request at most this many. ``limit=1`` is one small request for the newest.
        :raises ValueError: ``limit`` is less than 1, or another argument is invalid.
        """
        return self._list_executions("model", sync_id, only_terminal, ascending, limit)

    def cancel_model_sync_execution(self, sync_id: str, execution_id: str) -> None:
        """Request that an execution is canceled (``POST /api/syncs/{id}/executions/{exec_id}/cancel``).

        Does not wait until it has ended.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        self.client.call(model_syncs.cancel(*required_ids(sync_id, execution_id)))

    def wait_for_model_sync_execution(
        self, sync_id: str, execution_id: str, *, poke_interval: float = 30, timeout: float | None = None
    ) -> ModelSyncExecution:
        """Wait until an execution has ended (``GET /api/syncs/{id}/executions/{exec_id}``).

        :param poke_interval: the maximum poll interval in seconds. Polling starts at 5 s and backs off.
        :param timeout: seconds; default: no limit.
        :returns: the execution, whatever its terminal status.
        :raises PolytomicTimeoutError: it has not ended within ``timeout``. It keeps running.
        """
        execution: ModelSyncExecution = self._wait_for_execution("model", sync_id, execution_id, poke_interval, timeout)
        return execution

    def iter_model_sync_logs(
        self, sync_id: str, execution_id: str, log_type: LogType, *, max_bytes: int = DEFAULT_MAX_LOG_BYTES
    ) -> Iterator[LogFile]:
        """Read the log files of an execution in chunks (``GET /api/syncs/{id}/executions/{exec_id}/{log_type}``).

        The files are read as by :meth:`iter_bulk_sync_logs`.

        :param log_type: ``records``, ``errors``, ``warnings``, ``inserts``, ``updates`` or ``deletes``.
        :param max_bytes: limit for all files together; default: 1 GiB.
        :raises PolytomicResponseError: the files are larger, or the storage rejects the download.
        :raises PolytomicUnreachableError: a download failed or was interrupted.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        return self._iter_log_files(model_syncs.log_files(*required_ids(sync_id, execution_id), log_type), max_bytes)
