"""Bulk syncs (ELT) and their executions: one function per endpoint, which returns the call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import models
from ..call import Call
from ..pagination import ListCall
from ..parsers import parse_execution, parse_export, parse_list, parse_nothing, parse_one
from ..plan import Request, build_path, build_query, to_list

if TYPE_CHECKING:
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
    )

SYNCS = "/api/bulk/syncs"
SYNC = SYNCS + "/{sync_id}"
EXECUTIONS = SYNC + "/executions"
EXECUTION = EXECUTIONS + "/{execution_id}"
SCHEMAS = SYNC + "/schemas"
SCHEMA = SCHEMAS + "/{schema_id}"

_sync, _syncs = parse_one(lambda: models.BulkSync), parse_list(lambda: models.BulkSync)
_execution, _executions = parse_one(lambda: models.BulkSyncExecution), parse_list(lambda: models.BulkSyncExecution)
_status, _summaries = parse_one(lambda: models.BulkSyncStatus), parse_list(lambda: models.BulkSyncStatusSummary)
_schema, _schemas = parse_one(lambda: models.BulkSyncSchema), parse_list(lambda: models.BulkSyncSchema)
_source, _destination = parse_one(lambda: models.BulkSyncSource), parse_one(lambda: models.BulkSyncDestination)
_console_log, _log_files = parse_one(lambda: models.ConsoleLog), parse_one(lambda: models.LogFiles)


def list_(*, active: bool | None = None, limit: int | None = None) -> ListCall[BulkSync]:
    """``GET /api/bulk/syncs``: all bulk syncs, last changed first; 50 a page at most."""
    return ListCall(Request("GET", SYNCS, build_query(active=active, limit=limit)), _syncs)


def create(body: dict[str, Any], *, idempotency_key: str | None = None) -> Call[BulkSync]:
    """``POST /api/bulk/syncs``: create a bulk sync."""
    return Call(Request("POST", SYNCS, json=body, idempotency_key=idempotency_key), _sync)


def get(sync_id: str) -> Call[BulkSync]:
    """``GET /api/bulk/syncs/{id}``."""
    return Call(Request("GET", build_path(SYNC, sync_id=sync_id)), _sync)


def replace(sync_id: str, body: dict[str, Any]) -> Call[BulkSync]:
    """``PUT /api/bulk/syncs/{id}``: replace a bulk sync. What ``body`` leaves out is reset."""
    return Call(Request("PUT", build_path(SYNC, sync_id=sync_id), json=body), _sync)


def delete(sync_id: str) -> Call[None]:
    """``DELETE /api/bulk/syncs/{id}``: also cancels what runs, and removes the history."""
    return Call(Request("DELETE", build_path(SYNC, sync_id=sync_id)), parse_nothing)


def activate(sync_id: str, active: bool) -> Call[None]:
    """``POST /api/bulk/syncs/{id}/activate``. Deactivating also cancels what runs."""
    return Call(
        Request("POST", build_path(SYNC + "/activate", sync_id=sync_id), json={"active": active}),
        parse_nothing,
        idempotent=True,
    )


def cancel_running(sync_id: str) -> Call[None]:
    """``POST /api/bulk/syncs/{id}/cancel``: cancel the running execution, whichever client started it."""
    return Call(Request("POST", build_path(SYNC + "/cancel", sync_id=sync_id)), parse_nothing)


def status(sync_id: str) -> Call[BulkSyncStatus]:
    """``GET /api/bulk/syncs/{id}/status``: the current and the last execution."""
    return Call(Request("GET", build_path(SYNC + "/status", sync_id=sync_id)), _status)


def status_of_many(
    sync_ids: Sequence[str] = (),
    *,
    all: bool | None = None,  # noqa: A002  the API's name
    active: bool | None = None,
) -> ListCall[BulkSyncStatusSummary]:
    """``GET /api/bulk/syncs/status``: a summary for up to 100 syncs. It proves no end of an execution."""
    parameters = build_query(sync_id=to_list("sync_ids", sync_ids), all=all, active=active)
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
    :param idempotency_key: the API returns the recorded response for a repeated key, and starts nothing.
    """
    if test and resync_mode:
        raise ValueError("test and resync_mode exclude each other")
    wanted = {
        "test": test,
        "resync_mode": resync_mode,
        "fetch_mode": fetch_mode,
        "schemas": to_list("schemas", schemas),
    }
    body = {name: value for name, value in wanted.items() if value}
    request = Request("POST", build_path(EXECUTIONS, sync_id=sync_id), json=body, idempotency_key=idempotency_key)
    return Call(request, _execution)


def executions(
    sync_id: str, *, only_terminal: bool | None = None, ascending: bool | None = None, limit: int | None = None
) -> ListCall[BulkSyncExecution]:
    """``GET /api/bulk/syncs/{id}/executions``: newest first; 100 a page at most."""
    parameters = build_query(only_terminal=only_terminal, ascending=ascending, limit=limit)
    return ListCall(Request("GET", build_path(EXECUTIONS, sync_id=sync_id), parameters), _executions)


def execution(sync_id: str, execution_id: str) -> Call[BulkSyncExecution]:
    """``GET /api/bulk/syncs/{id}/executions/{exec_id}``, with a row per schema."""
    request = Request("GET", build_path(EXECUTION, sync_id=sync_id, execution_id=execution_id))
    return Call(request, parse_execution(lambda: models.BulkSyncExecution, sync_id, execution_id))


def cancel(sync_id: str, execution_id: str) -> Call[None]:
    """``POST /api/bulk/syncs/{id}/executions/{exec_id}/cancel``: asynchronous; poll until it has ended."""
    return Call(
        Request("POST", build_path(EXECUTION + "/cancel", sync_id=sync_id, execution_id=execution_id)),
        parse_nothing,
        idempotent=True,
    )


def console_log(
    sync_id: str, execution_id: str, *, after: str | None = None, limit: int | None = None
) -> Call[ConsoleLog]:
    """``GET …/executions/{exec_id}/consolelog``: up to 50 entries after the cursor ``after``."""
    where = build_path(EXECUTION + "/consolelog", sync_id=sync_id, execution_id=execution_id)
    return Call(Request("GET", where, build_query(after=after, limit=limit)), _console_log)


def schema_console_log(
    sync_id: str, execution_id: str, schema_id: str, *, after: str | None = None, limit: int | None = None
) -> Call[ConsoleLog]:
    """``GET …/executions/{exec_id}/schemas/{schema_id}/consolelog``."""
    where = build_path(
        EXECUTION + "/schemas/{schema_id}/consolelog", sync_id=sync_id, execution_id=execution_id, schema_id=schema_id
    )
    return Call(Request("GET", where, build_query(after=after, limit=limit)), _console_log)


def log_files(sync_id: str, execution_id: str) -> Call[LogFiles]:
    """``GET …/executions/{exec_id}/logs``: signed URLs, which are secrets."""
    return Call(Request("GET", build_path(EXECUTION + "/logs", sync_id=sync_id, execution_id=execution_id)), _log_files)


def export_logs(
    sync_id: str, execution_id: str, *, notify: bool | None = None, idempotency_key: str | None = None
) -> Call[Job]:
    """``POST …/executions/{exec_id}/logs/export``: start a job that packs the log files into an archive.

    Poll ``jobs.get("exportlogs", job.job_id)`` until it is ``done`` or ``failed``. The ``url`` in
    its ``result`` is signed, and a secret.

    :param notify: have Polytomic send a mail when it is ready.
    """
    where = build_path(EXECUTION + "/logs/export", sync_id=sync_id, execution_id=execution_id)
    return Call(Request("POST", where, build_query(notify=notify), idempotency_key=idempotency_key), parse_export)


def schemas(sync_id: str) -> ListCall[BulkSyncSchema]:
    """``GET /api/bulk/syncs/{id}/schemas``, without their fields and filters."""
    return ListCall(Request("GET", build_path(SCHEMAS, sync_id=sync_id)), _schemas)


def patch_schemas(sync_id: str, schemas: Sequence[dict[str, Any]]) -> Call[list[BulkSyncSchema]]:
    """``PATCH /api/bulk/syncs/{id}/schemas``: change some schemas, and leave the others as they are.

    :param schemas: each with its ``id``, and what is to change. Give ``fields`` back as they were read: without them
        all its fields are enabled.
    """
    request = Request("PATCH", build_path(SCHEMAS, sync_id=sync_id), json={"schemas": to_list("schemas", schemas)})
    return Call(request, lambda body: _schemas(body).items)


def schema(sync_id: str, schema_id: str) -> Call[BulkSyncSchema]:
    """``GET /api/bulk/syncs/{id}/schemas/{schema_id}``, with its fields and filters."""
    return Call(Request("GET", build_path(SCHEMA, sync_id=sync_id, schema_id=schema_id)), _schema)


def replace_schema(sync_id: str, schema_id: str, body: dict[str, Any]) -> Call[BulkSyncSchema]:
    """``PUT /api/bulk/syncs/{id}/schemas/{schema_id}``: replace it. What ``body`` leaves out is reset."""
    return Call(Request("PUT", build_path(SCHEMA, sync_id=sync_id, schema_id=schema_id), json=body), _schema)


def cancel_schema(sync_id: str, schema_id: str) -> Call[None]:
    """``POST /api/bulk/syncs/{id}/schemas/{schema_id}/cancel``: cancel the schema in the running execution."""
    return Call(Request("POST", build_path(SCHEMA + "/cancel", sync_id=sync_id, schema_id=schema_id)), parse_nothing)


def source(connection_id: str, *, include_fields: bool | None = None) -> Call[BulkSyncSource]:
    """``GET /api/connections/{id}/bulksync/source``: what can be synced from a connection."""
    where = build_path("/api/connections/{connection_id}/bulksync/source", connection_id=connection_id)
    return Call(Request("GET", where, build_query(include_fields=include_fields)), _source)


def destination(connection_id: str) -> Call[BulkSyncDestination]:
    """``GET /api/connections/{id}/bulksync/target``: what a destination expects and supports."""
    where = build_path("/api/connections/{connection_id}/bulksync/target", connection_id=connection_id)
    return Call(Request("GET", where), _destination)
