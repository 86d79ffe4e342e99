"""Bulk syncs (ELT) and their executions: one function per endpoint, each returns the call to make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..call import Call, ListCall
from ..models import (
    BulkSync,
    BulkSyncDestination,
    BulkSyncExecution,
    BulkSyncSchema,
    BulkSyncSource,
    BulkSyncStatus,
    BulkSyncStatusSummary,
    ConsoleLog,
    Job,
    LogFiles,
    export,
    many,
    nothing,
    one,
    one_execution,
)
from ..plan import Request, listed, path, query

SYNCS = "/api/bulk/syncs"
SYNC = SYNCS + "/{sync_id}"
EXECUTIONS = SYNC + "/executions"
EXECUTION = EXECUTIONS + "/{execution_id}"
SCHEMAS = SYNC + "/schemas"
SCHEMA = SCHEMAS + "/{schema_id}"

_sync, _syncs = one(BulkSync), many(BulkSync)
_execution, _executions = one(BulkSyncExecution), many(BulkSyncExecution)
_status, _summaries = one(BulkSyncStatus), many(BulkSyncStatusSummary)
_schema, _schemas = one(BulkSyncSchema), many(BulkSyncSchema)
_source, _destination = one(BulkSyncSource), one(BulkSyncDestination)
_console_log, _log_files = one(ConsoleLog), one(LogFiles)


def list_(*, active: bool | None = None, limit: int | None = None) -> ListCall[BulkSync]:
    """``GET /api/bulk/syncs``: all bulk syncs, last changed first; 50 a page at most."""
    return ListCall(Request("GET", SYNCS, query(active=active, limit=limit)), _syncs)


def create(body: dict[str, Any], *, idempotency_key: str | None = None) -> Call[BulkSync]:
    """``POST /api/bulk/syncs``: create a bulk sync."""
    return Call(Request("POST", SYNCS, json=body, idempotency_key=idempotency_key), _sync)


def get(sync_id: str) -> Call[BulkSync]:
    """``GET /api/bulk/syncs/{id}``."""
    return Call(Request("GET", path(SYNC, sync_id=sync_id)), _sync)


def replace(sync_id: str, body: dict[str, Any]) -> Call[BulkSync]:
    """``PUT /api/bulk/syncs/{id}``: replace a bulk sync. What ``body`` leaves out is reset."""
    return Call(Request("PUT", path(SYNC, sync_id=sync_id), json=body), _sync)


def delete(sync_id: str) -> Call[None]:
    """``DELETE /api/bulk/syncs/{id}``: also cancels what runs, and removes the history."""
    return Call(Request("DELETE", path(SYNC, sync_id=sync_id)), nothing)


def activate(sync_id: str, active: bool) -> Call[None]:
    """``POST /api/bulk/syncs/{id}/activate``. Deactivating also cancels what runs."""
    return Call(
        Request("POST", path(SYNC + "/activate", sync_id=sync_id), json={"active": active}), nothing, idempotent=True
    )


def cancel_running(sync_id: str) -> Call[None]:
    """``POST /api/bulk/syncs/{id}/cancel``: cancel whatever execution runs, whoever started it."""
    return Call(Request("POST", path(SYNC + "/cancel", sync_id=sync_id)), nothing)


def status(sync_id: str) -> Call[BulkSyncStatus]:
    """``GET /api/bulk/syncs/{id}/status``: the current and the last execution."""
    return Call(Request("GET", path(SYNC + "/status", sync_id=sync_id)), _status)


def status_of_many(
    sync_ids: Sequence[str] = (),
    *,
    all: bool | None = None,  # noqa: A002  the API's name
    active: bool | None = None,
) -> ListCall[BulkSyncStatusSummary]:
    """``GET /api/bulk/syncs/status``: a summary for up to 100 syncs. It proves no end of an execution."""
    parameters = query(sync_id=listed("sync_ids", sync_ids), all=all, active=active)
    return ListCall(Request("GET", SYNCS + "/status", parameters), _summaries)


def start(
    sync_id: str,
    *,
    test: bool | None = None,
    resync_mode: str | None = None,
    fetch_mode: str | None = None,
    schemas: Sequence[str] | None = None,
    idempotency_key: str | None = None,
) -> Call[BulkSyncExecution]:
    """``POST /api/bulk/syncs/{id}/executions``: start an execution.

    What is unset, None, False or empty is not sent.

    :param test: validate the sync. (The API reference says that nothing is written; the vendor's SDK
        says that up to 5 records per schema are synced.)
    :param resync_mode: ``refetch``, ``resync`` or ``rebuild``.
    :param fetch_mode: ``none``, ``incremental`` or ``full`` (Salesforce).
    :param schemas: ids of the schemas to sync; by default all that are enabled.
    :param idempotency_key: asked again with the same key, the API starts nothing and answers the same.
    """
    if test and resync_mode:
        raise ValueError("test and resync_mode exclude each other")
    wanted = {"test": test, "resync_mode": resync_mode, "fetch_mode": fetch_mode, "schemas": listed("schemas", schemas)}
    body = {name: value for name, value in wanted.items() if value}
    request = Request("POST", path(EXECUTIONS, sync_id=sync_id), json=body, idempotency_key=idempotency_key)
    return Call(request, _execution)


def executions(
    sync_id: str, *, only_terminal: bool | None = None, ascending: bool | None = None, limit: int | None = None
) -> ListCall[BulkSyncExecution]:
    """``GET /api/bulk/syncs/{id}/executions``: newest first; 100 a page at most."""
    parameters = query(only_terminal=only_terminal, ascending=ascending, limit=limit)
    return ListCall(Request("GET", path(EXECUTIONS, sync_id=sync_id), parameters), _executions)


def execution(sync_id: str, execution_id: str) -> Call[BulkSyncExecution]:
    """``GET /api/bulk/syncs/{id}/executions/{exec_id}``, with a row per schema."""
    request = Request("GET", path(EXECUTION, sync_id=sync_id, execution_id=execution_id))
    return Call(request, one_execution(BulkSyncExecution, sync_id, execution_id))


def cancel(sync_id: str, execution_id: str) -> Call[None]:
    """``POST /api/bulk/syncs/{id}/executions/{exec_id}/cancel``: asynchronous, ask until it has ended."""
    return Call(
        Request("POST", path(EXECUTION + "/cancel", sync_id=sync_id, execution_id=execution_id)),
        nothing,
        idempotent=True,
    )


def console_log(
    sync_id: str, execution_id: str, *, after: str | None = None, limit: int | None = None
) -> Call[ConsoleLog]:
    """``GET …/executions/{exec_id}/consolelog``: up to 50 entries after the cursor ``after``."""
    where = path(EXECUTION + "/consolelog", sync_id=sync_id, execution_id=execution_id)
    return Call(Request("GET", where, query(after=after, limit=limit)), _console_log)


def schema_console_log(
    sync_id: str, execution_id: str, schema_id: str, *, after: str | None = None, limit: int | None = None
) -> Call[ConsoleLog]:
    """``GET …/executions/{exec_id}/schemas/{schema_id}/consolelog``."""
    where = path(
        EXECUTION + "/schemas/{schema_id}/consolelog", sync_id=sync_id, execution_id=execution_id, schema_id=schema_id
    )
    return Call(Request("GET", where, query(after=after, limit=limit)), _console_log)


def log_files(sync_id: str, execution_id: str) -> Call[LogFiles]:
    """``GET …/executions/{exec_id}/logs``: signed URLs, which are secrets."""
    return Call(Request("GET", path(EXECUTION + "/logs", sync_id=sync_id, execution_id=execution_id)), _log_files)


def export_logs(
    sync_id: str, execution_id: str, *, notify: bool | None = None, idempotency_key: str | None = None
) -> Call[Job]:
    """``POST …/executions/{exec_id}/logs/export``: have the log files packed into an archive.

    It is made meanwhile: ask ``jobs.get("exportlogs", job.job_id)`` until it is ``done`` or ``failed``. The ``url`` in
    its ``result`` is signed, and a secret.

    :param notify: have Polytomic send a mail when it is ready.
    """
    where = path(EXECUTION + "/logs/export", sync_id=sync_id, execution_id=execution_id)
    return Call(Request("POST", where, query(notify=notify), idempotency_key=idempotency_key), export)


def schemas(sync_id: str) -> ListCall[BulkSyncSchema]:
    """``GET /api/bulk/syncs/{id}/schemas``, without their fields and filters."""
    return ListCall(Request("GET", path(SCHEMAS, sync_id=sync_id)), _schemas)


def patch_schemas(sync_id: str, schemas: Sequence[dict[str, Any]]) -> Call[list[BulkSyncSchema]]:
    """``PATCH /api/bulk/syncs/{id}/schemas``: change some schemas, and leave the others as they are.

    :param schemas: each with its ``id``, and what is to change. Give ``fields`` back as they were read: without them
        all its fields are enabled.
    """
    request = Request("PATCH", path(SCHEMAS, sync_id=sync_id), json={"schemas": listed("schemas", schemas)})
    return Call(request, lambda body: _schemas(body).items)


def schema(sync_id: str, schema_id: str) -> Call[BulkSyncSchema]:
    """``GET /api/bulk/syncs/{id}/schemas/{schema_id}``, with its fields and filters."""
    return Call(Request("GET", path(SCHEMA, sync_id=sync_id, schema_id=schema_id)), _schema)


def replace_schema(sync_id: str, schema_id: str, body: dict[str, Any]) -> Call[BulkSyncSchema]:
    """``PUT /api/bulk/syncs/{id}/schemas/{schema_id}``: replace it. What ``body`` leaves out is reset."""
    return Call(Request("PUT", path(SCHEMA, sync_id=sync_id, schema_id=schema_id), json=body), _schema)


def cancel_schema(sync_id: str, schema_id: str) -> Call[None]:
    """``POST /api/bulk/syncs/{id}/schemas/{schema_id}/cancel``: cancel it in whatever execution runs."""
    return Call(Request("POST", path(SCHEMA + "/cancel", sync_id=sync_id, schema_id=schema_id)), nothing)


def source(connection_id: str, *, include_fields: bool | None = None) -> Call[BulkSyncSource]:
    """``GET /api/connections/{id}/bulksync/source``: what can be synced from a connection."""
    where = path("/api/connections/{connection_id}/bulksync/source", connection_id=connection_id)
    return Call(Request("GET", where, query(include_fields=include_fields)), _source)


def destination(connection_id: str) -> Call[BulkSyncDestination]:
    """``GET /api/connections/{id}/bulksync/target``: what a destination expects and supports."""
    where = path("/api/connections/{connection_id}/bulksync/target", connection_id=connection_id)
    return Call(Request("GET", where), _destination)
