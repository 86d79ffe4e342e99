"""The hook's everyday calls of bulk syncs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

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
    from airflow_provider_polytomic.api.models import BulkSync, BulkSyncExecution
    from airflow_provider_polytomic.bodies import BulkSyncChanges, NewBulkSync
    from airflow_provider_polytomic.types import FetchMode, ResyncMode

MAX_LISTED_SCHEMAS = 20  # in an error message


class BulkSyncCalls(SyncCalls):
    """Everyday calls of bulk syncs, for the hook."""

    def list_bulk_syncs(
        self,
        active: bool | None = None,
        *,
        name: str | None = None,
        source_connection_id: str | None = None,
        destination_connection_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[BulkSync]:
        """List bulk syncs, most recently changed first (``GET /api/bulk/syncs``).

        Syncs are requested page by page, 50 at a time, and each is returned once. A sync that is changed while the
        list is read moves to the front and may be missed. To find one sync reliably, use :meth:`get_bulk_sync` or
        :meth:`find_bulk_sync`. To list all reliably, repeat the call until two results have the same ids.

        :param active: only active (True) or only paused syncs (False); default: both.
        :param name: only syncs whose name equals this, or matches it as a pattern of :mod:`fnmatch` (``*``, ``?``,
            ``[…]``). Case-sensitive.
        :param source_connection_id: only syncs that read from this connection.
        :param destination_connection_id: only syncs that write to this connection.
        :param limit: return at most this many. If none of the three conditions above is set, no more than these are
            requested; the API cannot apply those conditions, so with one of them all pages may be read.
        :raises ValueError: ``limit`` is less than 1, or another argument is invalid.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        optional_flag("active", active)
        source_connection_id = validation.identifier("source_connection_id", source_connection_id)
        destination_connection_id = validation.identifier("destination_connection_id", destination_connection_id)
        size = page_size(limit, MAX_SYNCS_PER_PAGE)
        if (name, source_connection_id, destination_connection_id) != (None, None, None):
            size = None
        matching = (
            sync
            for sync in self.client.iterate(bulk_syncs.list_(active=active, limit=size))
            if matches_pattern(sync.name, name)
            and source_connection_id in (None, sync.source_connection_id)
            and destination_connection_id in (None, sync.destination_connection_id)
        )
        return islice(matching, limit)

    def get_bulk_sync(self, sync_id: str) -> BulkSync:
        """Get a bulk sync (``GET /api/bulk/syncs/{id}``).

        :raises PolytomicNotFoundError: there is no such sync.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        return self.client.call(bulk_syncs.get(required_id("sync_id", sync_id)))

    def find_bulk_sync(self, name: str) -> BulkSync:
        """Find the bulk sync with this name (``GET /api/bulk/syncs``).

        A sync that is changed during the search is still found: if no sync has the name, the list is read again until
        two reads have the same ids, at most five times.

        :raises PolytomicLookupError: no sync has the name (the message lists the most similar names), or several have
            it (the message and the error's ``ids`` list them).
        """
        sync: BulkSync = self._find_sync("bulk", name)
        return sync

    def create_bulk_sync(self, **body: Unpack[NewBulkSync]) -> BulkSync:
        """Create a bulk sync (``POST /api/bulk/syncs``).

        If the response is lost, the request is repeated with the same idempotency key for up to a minute, which never
        creates a second sync.

        :param body: the fields of the API's request: :class:`airflow_provider_polytomic.bodies.NewBulkSync`.
        :raises ValueError: a field cannot be encoded as JSON, or is text instead of a boolean.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        sync: BulkSync = self._create_sync(bulk_syncs, dict(body))
        return sync

    def update_bulk_sync(self, sync_id: str, **changes: Unpack[BulkSyncChanges]) -> BulkSync:
        """Change fields of a bulk sync: read it, merge the changes, and write it (``GET``, then ``PUT``).

        :param changes: fields of the API's request with their new values; other fields keep theirs:
            :class:`airflow_provider_polytomic.bodies.BulkSyncChanges`.
        :raises ValueError: a field cannot be encoded as JSON, or is text instead of a boolean.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        sync: BulkSync = self._update_sync(bulk_syncs, sync_id, dict(changes))
        return sync

    def activate_bulk_sync(self, sync_id: str, active: bool = True) -> None:
        """Activate a bulk sync, or pause it (``POST /api/bulk/syncs/{id}/activate``).

        :param active: False pauses the sync, which also cancels its executions.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        self.client.call(bulk_syncs.activate(required_id("sync_id", sync_id), validation.flag("active", active)))

    def delete_bulk_sync(self, sync_id: str) -> None:
        """Delete a bulk sync and its history (``DELETE /api/bulk/syncs/{id}``). Cancels its executions."""
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        self.client.call(bulk_syncs.delete(required_id("sync_id", sync_id)))

    def start_bulk_sync(
        self,
        sync_id: str,
        *,
        test: bool | None = None,
        resync_mode: ResyncMode | None = None,
        fetch_mode: FetchMode | None = None,
        schemas: Iterable[str] | None = None,
        idempotency_key: str | None = None,
    ) -> BulkSyncExecution:
        """Start an execution of a bulk sync (``POST /api/bulk/syncs/{id}/executions``).

        If the response is lost, the request is repeated with the same idempotency key for up to a minute, which never
        starts a second execution.

        :param test: only validate the sync; excludes ``resync_mode``.
        :param resync_mode: ``refetch``, ``resync`` or ``rebuild``. If the destination does not support the mode, the
            error lists those that it supports.
        :param fetch_mode: ``none``, ``incremental`` or ``full``.
        :param schemas: ids of the schemas to sync, in any iterable; default: all enabled schemas.
        :param idempotency_key: 8 to 255 letters, digits, ``-`` and ``_``; default: a random one.
        :raises PolytomicConflictError: another execution is running. The call does not wait for it.
        :raises ValueError: an argument is invalid, or two exclude each other; no request was sent. An empty
            ``schemas`` is invalid, because the API would sync all schemas.
        """
        execution: BulkSyncExecution = self._start_execution(
            "bulk",
            sync_id,
            idempotency_key,
            {"test": test, "resync_mode": resync_mode, "fetch_mode": fetch_mode, "schemas": schemas},
        )
        return execution

    def get_bulk_sync_execution(self, sync_id: str, execution_id: str) -> BulkSyncExecution:
        """Get an execution with its schemas (``GET /api/bulk/syncs/{id}/executions/{exec_id}``).

        :raises PolytomicNotFoundError: there is no such execution of the sync.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        return self.client.call(bulk_syncs.execution(*required_ids(sync_id, execution_id)))

    def list_bulk_sync_executions(
        self,
        sync_id: str,
        only_terminal: bool | None = None,
        ascending: bool | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[BulkSyncExecution]:
        """List the executions of a bulk sync, newest first (``GET /api/bulk/syncs/{id}/executions``).

        Each is returned once. Executions that start while the list is read may be missing.

        :param only_terminal: only executions that have ended.
        :param ascending: oldest first.
        :param limit: return and request at most this many. ``limit=1`` is one small request for the newest.
        :raises ValueError: ``limit`` is less than 1, or another argument is invalid.
        """
        return self._list_executions("bulk", sync_id, only_terminal, ascending, limit)

    def cancel_bulk_sync_execution(self, sync_id: str, execution_id: str) -> None:
        """Request that an execution is canceled (``POST /api/bulk/syncs/{id}/executions/{exec_id}/cancel``).

        Does not wait until it has ended.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        self.client.call(bulk_syncs.cancel(*required_ids(sync_id, execution_id)))

    def wait_for_bulk_sync_execution(
        self, sync_id: str, execution_id: str, *, poke_interval: float = 30, timeout: float | None = None
    ) -> BulkSyncExecution:
        """Wait until an execution has ended (``GET /api/bulk/syncs/{id}/executions/{exec_id}``).

        :param poke_interval: the maximum poll interval in seconds. Polling starts at 5 s and backs off.
        :param timeout: seconds; default: no limit.
        :returns: the execution, whatever its terminal status.
        :raises PolytomicTimeoutError: it has not ended within ``timeout``. It keeps running.
        """
        execution: BulkSyncExecution = self._wait_for_execution("bulk", sync_id, execution_id, poke_interval, timeout)
        return execution

    def select_schemas(self, sync_id: str, *names: str) -> list[str]:
        """Return the ids of a sync's enabled schemas that match names, for ``schemas`` of :meth:`start_bulk_sync`.

        The API call is ``GET /api/bulk/syncs/{id}/schemas``.

        :param names: each the id or the output name of a schema, or a pattern of :mod:`fnmatch` for them (``*``,
            ``?``, ``[…]``). Case-sensitive.
        :returns: the ids in the API's order, each once.
        :raises ValueError: no name was passed, or one is not text.
        :raises PolytomicLookupError: a name matches no enabled schema.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs
        from airflow_provider_polytomic.api.errors import PolytomicLookupError

        sync_id = required_id("sync_id", sync_id)
        for name in names:
            if not isinstance(name, str):
                raise ValueError(f"names must each be text, not {validation.format_value(name)}")
        if not names:
            raise ValueError("names must contain at least one: a start with an empty list would sync all schemas")
        call = bulk_syncs.schemas(sync_id)
        enabled = [schema for schema in self.client.iterate(call) if schema.enabled is not False]

        def matches(schema: Any, name: str) -> bool:
            return matches_pattern(schema.id, name) or matches_pattern(schema.output_name, name)

        for name in names:
            if not any(matches(schema, name) for schema in enabled):
                ids = ", ".join(repr(schema.id) for schema in enabled[:MAX_LISTED_SCHEMAS]) or "none"
                omitted = len(enabled) - MAX_LISTED_SCHEMAS
                raise PolytomicLookupError(
                    f"bulk sync {sync_id} has no enabled schema {name!r}; enabled: {ids}"
                    + (f" and {omitted} more" if omitted > 0 else "")
                )
        selected = [schema.id for schema in enabled if any(matches(schema, name) for name in names)]
        return list(dict.fromkeys(selected))

    def iter_bulk_sync_logs(
        self, sync_id: str, execution_id: str, *, max_bytes: int = DEFAULT_MAX_LOG_BYTES
    ) -> Iterator[LogFile]:
        """Read the log files of an execution in chunks (``GET /api/bulk/syncs/{id}/executions/{exec_id}/logs``).

        Each file has a ``name`` and ``chunks`` of bytes, which must be read before the next file. Files are downloaded
        from signed URLs. Requests for them do not contain the API key, and the URLs appear in no log or error. An
        interrupted download is not resumed: let the task retry.

        :param max_bytes: limit for all files together; default: 1 GiB.
        :raises PolytomicResponseError: the files are larger, or the storage rejects the download.
        :raises PolytomicUnreachableError: a download failed or was interrupted.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        return self._iter_log_files(bulk_syncs.log_files(*required_ids(sync_id, execution_id)), max_bytes)
