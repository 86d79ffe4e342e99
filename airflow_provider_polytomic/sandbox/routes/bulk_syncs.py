# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of bulk syncs: ``/api/bulk/syncs``, and what a connection offers them."""

from __future__ import annotations

import uuid
from typing import Any

from ..clock import stamp
from ..execution import Execution
from ..history import cancel_answer, execution_page, sync_status
from ..schedule import rule
from ..seed import RESYNC_MODES, BulkSyncSpec
from ..wire import ApiProblem, Call, Invalid, Router, list_of, listing, one_of, page, timestamp, typed
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
LEGACY_RESYNC_UNTIL = "2025-09-18"


@route("GET", "/api/bulk/syncs")
def list_syncs(world: World, call: Call) -> Any:
    active = call.flag("active")
    syncs = [sync for sync in world.syncs_of("bulk") if active is None or sync.doc["active"] is active]
    shown, token = page(call, syncs, lambda sync: (-sync.updated_at, sync.id), call.limit(50))
    return listing([sync.row() for sync in shown], token)


@route("POST", "/api/bulk/syncs", unprocessable=True)
def create(world: World, call: Call) -> Any:
    body = call.json()
    doc = _document(world, body)
    spec = BulkSyncSpec(name=doc["name"], id=str(uuid.uuid4()))
    schemas = _chosen(world, doc["source_connection_id"], body.get("schemas"))
    sync = world.add_sync("bulk", doc, spec)
    sync.schemas = schemas
    return {"data": sync.row()}


@route("GET", "/api/bulk/syncs/status")
def status_of_many(world: World, call: Call) -> Any:
    if call.flag("all") or call.flag("active"):
        syncs = [sync for sync in world.syncs_of("bulk") if call.flag("all") or sync.doc["active"]]
    elif call.query.get("sync_id"):
        wanted = dict.fromkeys(call.query["sync_id"])
        syncs = [world.syncs[sync_id] for sync_id in wanted if sync_id in world.syncs]
    else:
        raise Invalid("sync_id, all or active is needed")
    return {"data": [_summary(world, sync) for sync in syncs if sync.kind == "bulk"] or None}


def _summary(world: World, sync: Sync) -> dict[str, Any]:
    """Each schema once, with its newest execution. One that runs is always the newest."""
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
        "nextExecutionTime": stamp(sync.due(now)),
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
        chosen = _chosen(world, doc["source_connection_id"], body["schemas"])
        for schema_id, schema in sync.schemas.items():
            if schema_id not in chosen:
                schema.config["enabled"] = False
        sync.schemas.update(chosen)
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
    active = typed(call.json(), "active", bool)
    if active is None:
        raise Invalid("active: is required")
    sync.doc["active"] = active
    sync.updated_at = world.now
    if not active:
        world.cancel_running(sync)
    return {"data": {"id": sync.id, "active": active}}


@route("POST", "/api/bulk/syncs/{sync_id}/cancel")
def cancel(world: World, call: Call, sync_id: str) -> Any:
    return cancel_answer(world.cancel_running(world.find_sync("bulk", sync_id)))


@route("GET", "/api/bulk/syncs/{sync_id}/status")
def get_status(world: World, call: Call, sync_id: str) -> Any:
    return sync_status(world, world.find_sync("bulk", sync_id))


# executions


@route("POST", "/api/bulk/syncs/{sync_id}/executions")
def start(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    body = call.json()
    test = bool(typed(body, "test", bool))
    resync_mode = one_of(body, "resync_mode", RESYNC_MODES)
    if "resync" in body:
        if call.version >= LEGACY_RESYNC_UNTIL:
            raise Invalid("resync is no longer accepted: use resync_mode")
        resync_mode = resync_mode or ("rebuild" if typed(body, "resync", bool) else None)
    if test and resync_mode:
        raise Invalid("test and resync_mode are mutually exclusive")
    destination = world.connections[sync.doc["destination_connection_id"]]
    if resync_mode and resync_mode not in destination.resync_modes:
        raise Invalid(f"resync_mode: the destination does not support {resync_mode!r}")
    enabled = [schema for schema in sync.schemas.values() if schema.enabled]
    wanted = list_of(body, "schemas", str)
    unknown = [schema_id for schema_id in wanted if schema_id not in sync.schemas]
    if unknown:
        raise Invalid(f"schemas: the sync has no {', '.join(unknown)}", schemas=unknown)
    schemas = {schema_id: sync.schemas[schema_id] for schema_id in wanted} or {item.spec.id: item for item in enabled}
    execution = world.begin(
        sync,
        [world.part_of(sync, schema) for schema in schemas.values()],
        status_message=_behaviour(sync).status_message,
        test=test,
        resync_mode=resync_mode,
        fetch_mode=one_of(body, "fetch_mode", FETCH_MODES),
        partial=any(schema.spec.id not in schemas for schema in enabled),
        asked=body,
    )
    return {"data": execution.row(world.now)}


@route("GET", "/api/bulk/syncs/{sync_id}/executions")
def list_executions(world: World, call: Call, sync_id: str) -> Any:
    now = world.now
    history = world.history(world.find_sync("bulk", sync_id))
    shown, token = execution_page(call, history, call.flag("only_terminal") or False, now)
    return listing([item.row(now) for item in shown], token)


@route("GET", "/api/bulk/syncs/{sync_id}/executions/{execution_id}")
def get_execution(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return {"data": _execution(world, sync_id, execution_id).row(world.now)}


@route("POST", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/cancel")
def cancel_execution(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return cancel_answer(_execution(world, sync_id, execution_id).cancel(world.now))


@route("GET", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/consolelog")
def console_log(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return logs.console(call, _execution(world, sync_id, execution_id).log(world.now))


@route("GET", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/schemas/{schema_id}/consolelog")
def schema_console_log(world: World, call: Call, sync_id: str, execution_id: str, schema_id: str) -> Any:
    execution = _execution(world, sync_id, execution_id)
    if schema_id not in {part.schema for part in execution.parts}:
        raise ApiProblem(404, "not_found", f"execution {execution_id} has no schema {schema_id}")
    return logs.console(call, [line for line in execution.log(world.now) if line.schema == schema_id])


@route("GET", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/logs")
def log_files(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    execution = _execution(world, sync_id, execution_id)
    expires, url = logs.signed(world, execution, "log.json")
    return {"data": {"Expires": expires, "URLs": [url]}}


@route("POST", "/api/bulk/syncs/{sync_id}/executions/{execution_id}/logs/export")
def export_logs(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    job_id = str(uuid.uuid4())
    world.exports[job_id] = (world.now, _execution(world, sync_id, execution_id))
    return {"job": logs.export_row(world, job_id)}


# what a connection offers


@route("GET", "/api/connections/{connection_id}/bulksync/source")
def source(world: World, call: Call, connection_id: str) -> Any:
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
def target(world: World, call: Call, connection_id: str) -> Any:
    connection = world.find_connection(connection_id)
    return {
        "data": {
            "configuration": connection.target,
            "modes": [{"id": mode, "label": mode.capitalize(), "requires_identity": False} for mode in ENUMS["mode"]],
            "supported_resync_modes": connection.resync_modes,
            "supports_history_mode": False,
        }
    }


# shared by the above


def _execution(world: World, sync_id: str, execution_id: str) -> Execution:
    return world.find_execution(world.find_sync("bulk", sync_id), execution_id)


def _behaviour(sync: Sync) -> BulkSyncSpec:
    assert isinstance(sync.behaviour, BulkSyncSpec)  # noqa: S101 - told to the type checker
    return sync.behaviour


def _document(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """The sync that a body describes: nothing of an older one is kept."""
    for name in REQUIRED:
        if body.get(name) in (None, ""):
            raise Invalid(f"{name}: is required")
    for name, known in ENUMS.items():
        one_of(body, name, known)
    _check_types(body)
    for schedule in (typed(body, "default_schedule", dict), *list_of(body, "additional_schedules", dict)):
        rule(schedule)
    for name in ("source_connection_id", "destination_connection_id"):
        if body[name] not in world.connections:
            raise Invalid(f"{name}: there is no connection {body[name]}")
    _fitting(world.connections[body["destination_connection_id"]].target, body["destination_configuration"])
    given = {name: body[name] for name in (*REQUIRED, *BULK_DEFAULTS) if body.get(name) is not None}
    return {**BULK_DEFAULTS, **given}


def _check_types(body: dict[str, Any]) -> None:
    for name in ("active", "disable_record_timestamps"):
        typed(body, name, bool)
    for name in ("name", "source_connection_id", "destination_connection_id", "organization_id"):
        typed(body, name, str)
    for name in ("concurrency_limit", "resync_concurrency_limit"):
        typed(body, name, int)
    for name in ("source_configuration", "destination_configuration"):
        typed(body, name, dict)
    timestamp(body, "data_cutoff_timestamp")
    list_of(body, "policies", str)


def _fitting(schema: dict[str, Any], configuration: Any) -> None:
    from jsonschema import Draft202012Validator  # only for those that create: the sandbox starts without it

    for error in Draft202012Validator(schema).iter_errors(configuration):
        where = "".join(f".{step}" for step in error.absolute_path)
        raise Invalid(f"destination_configuration{where}: {error.message}")


def _chosen(world: World, source_id: str, wanted: Any) -> dict[str, Schema]:
    """The schemas that a body names, by id or with their configuration; all that the source has if it names none."""
    offered = {spec.id: spec for spec in world.connections[source_id].schemas}
    if not wanted:
        return {spec.id: Schema(spec) for spec in offered.values()}
    if not isinstance(wanted, list):
        raise ApiProblem(400, "bad_request", "schemas: not a list")
    chosen = {}
    for item in wanted:
        config = item if isinstance(item, dict) else {"id": item}
        schema_id = str(config.get("id"))
        if schema_id not in offered:
            raise Invalid(f"schemas: the source has no {schema_id}")
        chosen[schema_id] = Schema(offered[schema_id], read_config(config))
    return chosen
