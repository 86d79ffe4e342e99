"""Model syncs (reverse ETL) and their executions: one function per endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import models
from ..call import Call
from ..pagination import ListCall
from ..parsers import parse_execution, parse_list, parse_nothing, parse_one
from ..plan import Request, build_path, build_query, to_list

if TYPE_CHECKING:
    from ..models import (
        ConsoleLog,
        Model,
        ModelField,
        ModelLogFiles,
        ModelLogIndex,
        ModelSync,
        ModelSyncExecution,
        ModelSyncSource,
        ModelSyncStatus,
        ModelSyncTarget,
        TargetObject,
    )

SYNCS = "/api/syncs"
SYNC = SYNCS + "/{sync_id}"
EXECUTIONS = SYNC + "/executions"
EXECUTION = EXECUTIONS + "/{execution_id}"
CONNECTION = "/api/connections/{connection_id}/modelsync"
MAX_IDENTITIES = 1000

_sync, _syncs = parse_one(lambda: models.ModelSync), parse_list(lambda: models.ModelSync)
_execution, _executions = parse_one(lambda: models.ModelSyncExecution), parse_list(lambda: models.ModelSyncExecution)
_status, _schedule_options = parse_one(lambda: models.ModelSyncStatus), parse_one(lambda: models.Model)
_console_log, _log_index, _log_files = (
    parse_one(lambda: models.ConsoleLog),
    parse_one(lambda: models.ModelLogIndex),
    parse_one(lambda: models.ModelLogFiles),
)
_source, _source_fields = parse_one(lambda: models.ModelSyncSource), parse_list(lambda: models.ModelField)
_targets, _target = parse_list(lambda: models.TargetObject), parse_one(lambda: models.ModelSyncTarget)


def list_(
    *,
    active: bool | None = None,
    mode: str | None = None,
    target_connection_id: str | None = None,
    limit: int | None = None,
) -> ListCall[ModelSync]:
    """``GET /api/syncs``: all model syncs, last changed first; 50 a page at most."""
    parameters = build_query(active=active, mode=mode, target_connection_id=target_connection_id, limit=limit)
    return ListCall(Request("GET", SYNCS, parameters), _syncs)


def create(body: dict[str, Any], *, idempotency_key: str | None = None) -> Call[ModelSync]:
    """``POST /api/syncs``: create a model sync."""
    return Call(Request("POST", SYNCS, json=body, idempotency_key=idempotency_key), _sync)


def get(sync_id: str) -> Call[ModelSync]:
    """``GET /api/syncs/{id}``."""
    return Call(Request("GET", build_path(SYNC, sync_id=sync_id)), _sync)


def replace(sync_id: str, body: dict[str, Any]) -> Call[ModelSync]:
    """``PUT /api/syncs/{id}``: replace a model sync. What ``body`` leaves out is reset."""
    return Call(Request("PUT", build_path(SYNC, sync_id=sync_id), json=body), _sync)


def delete(sync_id: str) -> Call[None]:
    """``DELETE /api/syncs/{id}``."""
    return Call(Request("DELETE", build_path(SYNC, sync_id=sync_id)), parse_nothing)


def activate(sync_id: str, active: bool) -> Call[None]:
    """``POST /api/syncs/{id}/activate``."""
    return Call(
        Request("POST", build_path(SYNC + "/activate", sync_id=sync_id), json={"active": active}),
        parse_nothing,
        idempotent=True,
    )


def cancel_running(sync_id: str) -> Call[None]:
    """``POST /api/syncs/{id}/cancel``: cancel the running execution, whichever client started it."""
    return Call(Request("POST", build_path(SYNC + "/cancel", sync_id=sync_id)), parse_nothing)


def status(sync_id: str) -> Call[ModelSyncStatus]:
    """``GET /api/syncs/{id}/status``: the current and the last execution."""
    return Call(Request("GET", build_path(SYNC + "/status", sync_id=sync_id)), _status)


def schedule_options() -> Call[Model]:
    """``GET /api/syncs/schedules``: how model syncs can be scheduled."""
    return Call(Request("GET", SYNCS + "/schedules"), _schedule_options)


def start(
    sync_id: str,
    *,
    test: bool | None = None,
    resync: bool | None = None,
    identities: Sequence[str] | None = None,
    source_identities: Sequence[Sequence[dict[str, Any]]] | None = None,
    idempotency_key: str | None = None,
) -> Call[ModelSyncExecution]:
    """``POST /api/syncs/{id}/executions``: start an execution. Returns only its id, status and creation time.

    What is unset, None, False or empty is not sent.

    :param test: validate the sync without writing.
    :param resync: sync all records again.
    :param identities: sync only the records with these values of the identity field; 1000 at most.
    :param source_identities: sync only these records, each a list of source fields and their values:
        ``[{"source": {"model_id": …, "field": "email"}, "value": "a@example.com"}]``; 1000 at most.
    :param idempotency_key: the API returns the recorded response for a repeated key, and starts nothing.
    """
    if identities and source_identities:
        raise ValueError("identities and source_identities exclude each other")
    wanted: dict[str, Any] = {"test": test, "resync": resync}
    for name, values in (("identities", identities), ("source_identities", source_identities)):
        wanted[name] = to_list(name, values)
        if len(wanted[name]) > MAX_IDENTITIES:
            raise ValueError(f"{name} takes {MAX_IDENTITIES} entries at most, not {len(wanted[name])}")
    body = {name: value for name, value in wanted.items() if value}
    request = Request("POST", build_path(EXECUTIONS, sync_id=sync_id), json=body, idempotency_key=idempotency_key)
    return Call(request, _execution)


def executions(
    sync_id: str, *, only_terminal: bool | None = None, ascending: bool | None = None, limit: int | None = None
) -> ListCall[ModelSyncExecution]:
    """``GET /api/syncs/{id}/executions``: newest first; 100 a page at most.

    :param only_terminal: only those that have ended (the API's ``only_completed``).
    """
    parameters = build_query(only_completed=only_terminal, ascending=ascending, limit=limit)
    return ListCall(Request("GET", build_path(EXECUTIONS, sync_id=sync_id), parameters), _executions)


def execution(sync_id: str, execution_id: str) -> Call[ModelSyncExecution]:
    """``GET /api/syncs/{id}/executions/{exec_id}``, with counts and errors."""
    request = Request("GET", build_path(EXECUTION, sync_id=sync_id, execution_id=execution_id))
    return Call(request, parse_execution(lambda: models.ModelSyncExecution, sync_id, execution_id))


def cancel(sync_id: str, execution_id: str) -> Call[None]:
    """``POST /api/syncs/{id}/executions/{exec_id}/cancel``: asynchronous; poll until it has ended."""
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


def log_index(sync_id: str, execution_id: str) -> Call[ModelLogIndex]:
    """``GET …/executions/{exec_id}/logs``: list the types of log files."""
    return Call(Request("GET", build_path(EXECUTION + "/logs", sync_id=sync_id, execution_id=execution_id)), _log_index)


def log_files(sync_id: str, execution_id: str, log_type: str) -> Call[ModelLogFiles]:
    """``GET …/executions/{exec_id}/{type}``: the log files of one type as signed URLs, which are secrets.

    :param log_type: ``records``, ``errors``, ``warnings``, ``inserts``, ``updates`` or ``deletes``.
    """
    where = build_path(EXECUTION + "/{log_type}", sync_id=sync_id, execution_id=execution_id, log_type=log_type)
    return Call(Request("GET", where), _log_files)


def source(connection_id: str, configuration: Mapping[str, str | list[str]] | None = None) -> Call[ModelSyncSource]:
    """``GET /api/connections/{id}/modelsync/source``: the settings that a model with this source needs.

    :param configuration: the values chosen so far, by the names of an earlier response.
    """
    where = build_path(CONNECTION + "/source", connection_id=connection_id)
    return Call(Request("GET", where, build_query(params=configuration)), _source)


def source_fields(
    connection_id: str, configuration: Mapping[str, str | list[str]] | None = None
) -> ListCall[ModelField]:
    """``GET /api/connections/{id}/modelsync/source/fields``: the fields of the records.

    :param configuration: which records, for instance a table, by the names that :func:`source` returns.
    """
    where = build_path(CONNECTION + "/source/fields", connection_id=connection_id)
    return ListCall(Request("GET", where, build_query(params=configuration)), _source_fields)


def targets(connection_id: str) -> ListCall[TargetObject]:
    """``GET /api/connections/{id}/modelsync/targetobjects``: what can be written to."""
    return ListCall(Request("GET", build_path(CONNECTION + "/targetobjects", connection_id=connection_id)), _targets)


def target_fields(connection_id: str, target: str, *, refresh: bool | None = None) -> Call[ModelSyncTarget]:
    """``GET /api/connections/{id}/modelsync/target/fields``: the fields and modes of one target object.

    :param target: its id, as :func:`targets` returns it.
    :param refresh: refresh the target first.
    """
    where = build_path(CONNECTION + "/target/fields", connection_id=connection_id)
    return Call(Request("GET", where, build_query(target=target, refresh=refresh)), _target)
