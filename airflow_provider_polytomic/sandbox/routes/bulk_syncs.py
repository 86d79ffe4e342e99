# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of bulk syncs and their executions, and of connections as their source or destination."""

from __future__ import annotations

import uuid
from typing import Any

from ..clock import format_timestamp
from ..execution import Execution
from ..history import cancel_response, execution_page, status_response
from ..schedule import parse_rule
from ..seed import RESYNC_MODES, BulkSyncSpec
from ..wire import (
    Call,
    HttpError,
    InvalidValueError,
    Router,
    check_timestamp,
    get_choice,
    get_list,
    get_typed,
    list_response,
    paginate,
)
from ..world import BULK_DEFAULTS, Schema, Sync, World
from . import logs
from .bulk_schemas import FIELDS, read_config

route = Router()

REQUIRED = (
    "name",
    "source_connection_id",
    "destination_connection_id",
    "destination_configuration",
    "default_schedule",
    "mode",
)
ENUMS = {
    "mode": ("snapshot", "replicate", "append"),
    "automatically_add_new_fields": ("all", "onlyIncremental", "onlyNonIncremental", "none"),
    "automatically_add_new_objects": ("all", "onlyIncremental", "onlyNonIncremental", "none"),
    "normalize_names": ("enabled", "disabled", "legacy"),
}
FETCH_MODES = ("none", "incremental", "full")
LEGACY_RESYNC_REMOVED_IN = "2025-09-18"  # the API version since which `resync` is rejected


@route("GET", "/api/bulk/syncs")
def list_syncs(world: World, call: Call) -> Any:
    active = call.flag("active")
    syncs = [sync for sync in world.list_syncs("bulk") if active is None or sync.doc["active"] is active]
    shown, token = paginate(call, syncs, lambda sync: (-sync.updated_at, sync.id), call.limit(50))
    return list_response([sync.row() for sync in shown], token)


@route("POST", "/api/bulk/syncs", unprocessable=True)
def create(world: World, call: Call) -> Any:
    body = call.json()
    doc = _document(world, body)
    spec = BulkSyncSpec(name=doc["name"], id=str(uuid.uuid4()))
    schemas = _select_schemas(world, doc["source_connection_id"], body.get("schemas"))
    sync = world.add_sync("bulk", doc, spec)
    sync.schemas = schemas
    return {"data": sync.row()}


@route("GET", "/api/bulk/syncs/status")
def get_many_statuses(world: World, call: Call) -> Any:
    if call.flag("all") or call.flag("active"):
        syncs = [sync for sync in world.list_syncs("bulk") if call.flag("all") or sync.doc["active"]]
    elif call.query.get("sync_id"):
        wanted = dict.fromkeys(call.query["sync_id"])
        syncs = [world.syncs[sync_id] for sync_id in wanted if sync_id in world.syncs]
    else:
        raise InvalidValueError("sync_id, all or active is required")
    return {"data": [_status_row(world, sync) for sync in syncs if sync.kind == "bulk"] or None}


def _status_row(world: World, sync: Sync) -> dict[str, Any]:
    """Return a sync's status with each schema once, as of its newest execution."""
    now = world.now
    history = world.history(sync)
    rows: dict[str, dict[str, Any]] = {}
    for execution in reversed(history):
        for row in execution.part_summaries(now):
            rows.setdefault(row["schema"], row)
        if rows.keys() >= sync.schemas.keys():
            break
    return {
        "sync_id": sync.id,
        "status": history[-1].status(now) if history else None,
        "nextExecutionTime": format_timestamp(sync.next_due(now)),
        "schemas": list(rows.values()) or None,
    }


@route("GET", "/api/bulk/syncs/{sync_id}")
def get(world: World, call: Call, sync_id: str) -> Any:
    return {"data": world.find_sync("bulk", sync_id).row()}


@route("PUT", "/api/bulk/syncs/{sync_id}")
def replace_sync(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    body = call.json()
    doc = _document(world, body)
    if body.get("schemas"):
        selected = _select_schemas(world, doc["source_connection_id"], body["schemas"])
        for schema_id, schema in sync.schemas.items():
            if schema_id not in selected:
                schema.config["enabled"] = False
        sync.schemas.update(selected)
    sync.set_doc(doc, world.now)
    sync.updated_at = world.now
    if not doc["active"]:
        world.cancel_running(sync)
    return {"data": sync.row()}


@route("DELETE", "/api/bulk/syncs/{sync_id}")
def delete(world: World, call: Call, sync_id: str) -> Any:
    world.remove_sync(world.find_sync("bulk", sync_id))


@route("POST", "/api/bulk/syncs/{sync_id}/activate")
def activate(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    active = get_typed(call.json(), "active", bool)
    if active is None:
        raise InvalidValueError("active: is required")
    sync.doc["active"] = active
    sync.updated_at = world.now
    if not active:
        world.cancel_running(sync)
    return {"data": {"id": sync.id, "active": active}}


@route("POST", "/api/bulk/syncs/{sync_id}/cancel")
def cancel_running(world: World, call: Call, sync_id: str) -> Any:
    return cancel_response(world.cancel_running(world.find_sync("bulk", sync_id)))


@route("GET", "/api/bulk/syncs/{sync_id}/status")
def get_status(world: World, call: Call, sync_id: str) -> Any:
    return status_response(world, world.find_sync("bulk", sync_id))


# executions


@route("POST", "/api/bulk/syncs/{sync_id}/executions")
def start(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    body = call.json()
    test = bool(get_typed(body, "test", bool))
    resync_mode = get_choice(body, "resync_mode", RESYNC_MODES)
    if "resync" in body:
        if call.version >= LEGACY_RESYNC_REMOVED_IN:
            raise InvalidValueError("resync is not accepted since this version: use resync_mode")
        resync_mode = resync_mode or ("rebuild" if get_typed(body, "resync", bool) else None)
    if test and resync_mode:
        raise InvalidValueError("test and resync_mode are mutually exclusive")
    destination = world.connections[sync.doc["destination_connection_id"]]
    if resync_mode and resync_mode not in destination.resync_modes:
        raise InvalidValueError(f"resync_mode: the destination does not support {resync_mode!r}")
    enabled = [schema for schema in sync.schemas.values() if schema.enabled]
    wanted = get_list(body, "schemas", str)
    unknown = [schema_id for schema_id in wanted if schema_id not in sync.schemas]
    if unknown:
        raise InvalidValueError(f"schemas: the sync has no {', '.join(unknown)}", schemas=unknown)
    schemas = {schema_id: sync.schemas[schema_id] for schema_id in wanted} or {item.spec.id: item for item in enabled}
    execution = world.start(
        sync,
        [world.make_part(sync, schema) for schema in schemas.values()],
        status_message=_bulk_spec(sync).status_message,
        test=test,
        resync_mode=resync_mode,
        fetch_mode=get_choice(body, "fetch_mode", FETCH_MODES),
        partial=any(schema.spec.id not in schemas for schema in enabled),
        start_body=body,
    )
    return {"data": execution.row(world.now)}


@route("GET", "/api/bulk/syncs/{sync_id}/executions")
def list_executions(world: World, call: Call, sync_id: str) -> Any:
    now = world.now
    history = world.history(world.find_sync("bulk", sync_id))
    shown, token = execution_page(call, history, call.flag("only_terminal") or False, now)
    return list_response([item.row(now) for item in shown], token)


@route("GET", "/api/bulk/syncs/{sync_id}/executions/{execution_id}")
def get_execution(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return {"data": _find_execution(world, sync_id, execution_id).row(world.now)}


@route("POST", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/cancel")
def cancel_execution(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return cancel_response(_find_execution(world, sync_id, execution_id).cancel(world.now))


@route("GET", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/consolelog")
def get_console_log(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return logs.build_console_page(call, _find_execution(world, sync_id, execution_id).log(world.now))


@route("GET", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/schemas/{schema_id}/consolelog")
def get_schema_console_log(world: World, call: Call, sync_id: str, execution_id: str, schema_id: str) -> Any:
    execution = _find_execution(world, sync_id, execution_id)
    if schema_id not in {part.schema for part in execution.parts}:
        raise HttpError(404, "not_found", f"execution {execution_id} has no schema {schema_id}")
    return logs.build_console_page(call, [line for line in execution.log(world.now) if line.schema == schema_id])


@route("GET", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/logs")
def list_log_files(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    execution = _find_execution(world, sync_id, execution_id)
    expires, url = logs.sign_url(world, execution, "log.json")
    return {"data": {"Expires": expires, "URLs": [url]}}


@route("POST", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/logs/export")
def export_logs(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    job_id = str(uuid.uuid4())
    world.exports[job_id] = (world.now, _find_execution(world, sync_id, execution_id))
    return {"job": logs.export_row(world, job_id)}


# connections


@route("GET", "/api/connections/{connection_id}/bulksync/source")
def get_source(world: World, call: Call, connection_id: str) -> Any:
    connection = world.find_connection(connection_id)
    schemas = []
    for spec in connection.schemas:
        row: dict[str, Any] = {"id": spec.id, "name": spec.id}
        if call.flag("include_fields"):
            row["fields"] = [{"id": name, "name": name, "is_primary_key": name == "id"} for name in FIELDS]
        schemas.append(row)
    return {
        "data": {
            "capabilities": {"supports_namespaces": connection.type != "salesforce", "supports_tracking_fields": True},
            "configuration": {},
            "schemas": schemas or None,
        }
    }


@route("GET", "/api/connections/{connection_id}/bulksync/target")
def get_target(world: World, call: Call, connection_id: str) -> Any:
    connection = world.find_connection(connection_id)
    return {
        "data": {
            "configuration": connection.target,
            "modes": [{"id": mode, "label": mode.capitalize(), "requires_identity": False} for mode in ENUMS["mode"]],
            "supported_resync_modes": connection.resync_modes,
            "supports_history_mode": False,
        }
    }


# helpers


def _find_execution(world: World, sync_id: str, execution_id: str) -> Execution:
    return world.find_execution(world.find_sync("bulk", sync_id), execution_id)


def _bulk_spec(sync: Sync) -> BulkSyncSpec:
    assert isinstance(sync.spec, BulkSyncSpec)  # noqa: S101 - for the type checker
    return sync.spec


def _document(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """Read a sync from a request body, with defaults for fields that it leaves out.

    :raises HttpError: for a field that is missing or invalid.
    """
    for name in REQUIRED:
        if body.get(name) in (None, ""):
            raise InvalidValueError(f"{name}: is required")
    for name, known in ENUMS.items():
        get_choice(body, name, known)
    _check_types(body)
    for schedule in (get_typed(body, "default_schedule", dict), *get_list(body, "additional_schedules", dict)):
        parse_rule(schedule)
    for name in ("source_connection_id", "destination_connection_id"):
        if body[name] not in world.connections:
            raise InvalidValueError(f"{name}: there is no connection {body[name]}")
    destination = world.connections[body["destination_connection_id"]]
    _validate_destination(destination.target, body["destination_configuration"])
    given = {name: body[name] for name in (*REQUIRED, *BULK_DEFAULTS) if body.get(name) is not None}
    return {**BULK_DEFAULTS, **given}


def _check_types(body: dict[str, Any]) -> None:
    for name in ("active", "disable_record_timestamps"):
        get_typed(body, name, bool)
    for name in ("name", "source_connection_id", "destination_connection_id", "organization_id"):
        get_typed(body, name, str)
    for name in ("concurrency_limit", "resync_concurrency_limit"):
        get_typed(body, name, int)
    for name in ("source_configuration", "destination_configuration"):
        get_typed(body, name, dict)
    check_timestamp(body, "data_cutoff_timestamp")
    get_list(body, "policies", str)


def _validate_destination(schema: dict[str, Any], configuration: Any) -> None:
    from jsonschema import Draft202012Validator  # imported for creation only, so that the sandbox starts faster

    for error in Draft202012Validator(schema).iter_errors(configuration):
        path = "".join(f".{step}" for step in error.absolute_path)
        raise InvalidValueError(f"destination_configuration{path}: {error.message}")


def _select_schemas(world: World, source_id: str, wanted: Any) -> dict[str, Schema]:
    """Return the schemas that a body names, by id or as configurations; all of the source when it names none."""
    offered = {spec.id: spec for spec in world.connections[source_id].schemas}
    if not wanted:
        return {spec.id: Schema(spec) for spec in offered.values()}
    if not isinstance(wanted, list):
        raise HttpError(400, "bad_request", "schemas: not a list")
    selected = {}
    for item in wanted:
        config = item if isinstance(item, dict) else {"id": item}
        schema_id = str(config.get("id"))
        if schema_id not in offered:
            raise InvalidValueError(f"schemas: the source has no {schema_id}")
        selected[schema_id] = Schema(offered[schema_id], read_config(config))
    return selected
