# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of model syncs and their executions, and of connections as their source or target."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from airflow_provider_polytomic.api.plan import Response

from ..execution import Execution
from ..history import cancel_response, execution_page, status_response
from ..schedule import FREQUENCIES
from ..seed import ModelSyncSpec
from ..wire import Call, HttpError, InvalidValueError, Router, get_choice, get_list, get_typed, list_response, paginate
from ..world import MODEL_DEFAULTS, Sync, World
from . import logs

route = Router()

REQUIRED = ("name", "mode", "fields", "schedule", "target")
MODES = ("create", "update", "updateOrCreate", "replace", "append", "remove", "snapshot")
MAX_IDENTITIES = 1000
LOG_TYPES = ("records", "errors", "warnings", "inserts", "updates", "deletes")
# The fields of a sync in a list, which has fewer than the sync itself.
LIST_FIELDS = (
    "active",
    "mode",
    "model_ids",
    "name",
    "only_enrich_updates",
    "schedule",
    "skip_initial_backfill",
    "sync_all_records",
)


@route("GET", "/api/syncs")
def list_syncs(world: World, call: Call) -> Any:
    active, mode, target = call.flag("active"), call.text("mode"), call.text("target_connection_id")
    syncs = [
        sync
        for sync in world.list_syncs("model")
        if active in (None, sync.doc["active"])
        and mode in (None, sync.doc["mode"])
        and target in (None, sync.doc["target"]["connection_id"])
    ]
    shown, token = paginate(call, syncs, lambda sync: (-sync.updated_at, sync.id), call.limit(50))
    return list_response([_list_row(sync) for sync in shown], token)


def _list_row(sync: Sync) -> dict[str, Any]:
    hidden = set(sync.doc) - set(LIST_FIELDS)
    return {
        **{name: value for name, value in sync.row().items() if name not in hidden},
        "target_connection_id": sync.doc["target"]["connection_id"],
        "target_object": sync.doc["target"].get("object"),
    }


@route("POST", "/api/syncs", unprocessable=True)
def create(world: World, call: Call) -> Any:
    doc = _document(world, call.json())
    return {"data": world.add_sync("model", doc, ModelSyncSpec(name=doc["name"], id=str(uuid.uuid4()))).row()}


@route("GET", "/api/syncs/schedules")
def list_schedule_options(world: World, call: Call) -> Any:
    options = [{"frequency": name, "label": name.capitalize(), "configuration": {}} for name in FREQUENCIES]
    return {"data": {"schedule_options": options}}


@route("GET", "/api/syncs/{sync_id}")
def get(world: World, call: Call, sync_id: str) -> Any:
    return {"data": world.find_sync("model", sync_id).row()}


@route("PUT", "/api/syncs/{sync_id}", unprocessable=True)
def replace_sync(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("model", sync_id)
    sync.set_doc(_document(world, call.json()), world.now)
    sync.updated_at = world.now
    return {"data": sync.row()}


@route("DELETE", "/api/syncs/{sync_id}")
def delete(world: World, call: Call, sync_id: str) -> Any:
    world.remove_sync(world.find_sync("model", sync_id))


@route("POST", "/api/syncs/{sync_id}/activate", unprocessable=True)
def activate(world: World, call: Call, sync_id: str) -> Any:
    # Unlike a bulk sync, a model sync that is deactivated finishes its running execution.
    sync = world.find_sync("model", sync_id)
    active = get_typed(call.json(), "active", bool)
    if active is None:
        raise InvalidValueError("active: is required")
    sync.doc["active"] = active
    sync.updated_at = world.now
    return {"data": {"id": sync.id, "active": active}}


@route("POST", "/api/syncs/{sync_id}/cancel")
def cancel_running(world: World, call: Call, sync_id: str) -> Any:
    return cancel_response(world.cancel_running(world.find_sync("model", sync_id)))


@route("GET", "/api/syncs/{sync_id}/status")
def get_status(world: World, call: Call, sync_id: str) -> Any:
    return status_response(world, world.find_sync("model", sync_id))


# executions


@route("POST", "/api/syncs/{sync_id}/executions")
def start(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("model", sync_id)
    body = call.json()
    test, resync = get_typed(body, "test", bool), get_typed(body, "resync", bool)
    identities = get_list(body, "identities", str)
    source_identities = get_list(body, "source_identities", list)
    if identities and source_identities:
        raise InvalidValueError("identities and source_identities are mutually exclusive")
    wanted = len(identities or source_identities)
    if wanted > MAX_IDENTITIES:
        raise InvalidValueError(f"at most {MAX_IDENTITIES} identities, not {wanted}")
    parts, fields = world.full_run(sync)
    execution = world.start(
        sync,
        [replace(part, rows=min(part.rows, wanted or part.rows)) for part in parts],
        test=bool(test),
        resync_mode="resync" if resync else None,
        start_body=body,
        **fields,
    )
    row = execution.row(world.now)
    return {"data": {name: row[name] for name in ("id", "status", "created_at")}}


@route("GET", "/api/syncs/{sync_id}/executions")
def list_executions(world: World, call: Call, sync_id: str) -> Any:
    now = world.now
    history = world.history(world.find_sync("model", sync_id))
    if call.flag("only_completed"):
        history = [item for item in history if item.ended(now)]
    shown, token = execution_page(call, history, False, now)
    return list_response([item.row(now) for item in shown], token)


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}")
def get_execution(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return {"data": _find_execution(world, sync_id, execution_id).row(world.now)}


@route("POST", "/api/syncs/{sync_id}/executions/{execution_id}/cancel")
def cancel_execution(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return cancel_response(_find_execution(world, sync_id, execution_id).cancel(world.now))


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}/consolelog")
def get_console_log(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return logs.build_console_page(call, _find_execution(world, sync_id, execution_id).log(world.now))


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}/logs")
def get_log_index(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    counts = _find_execution(world, sync_id, execution_id).row(world.now)["counts"]
    names = {"records": "total", "errors": "error", "inserts": "insert", "updates": "update", "deletes": "delete"}
    base = f"{world.url}/api/syncs/{sync_id}/executions/{execution_id}"
    return {"data": {kind: {"count": counts[names.get(kind, kind)], "url": f"{base}/{kind}"} for kind in LOG_TYPES}}


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}/{log_type}")
def list_log_urls(world: World, call: Call, sync_id: str, execution_id: str, log_type: str) -> Any:
    expires, url = logs.sign_url(world, _find_execution(world, sync_id, execution_id), _log_name(log_type))
    return {"data": {"expires": expires, "urls": [url]}}


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}/{log_type}/{filename}")
def get_log_file(world: World, call: Call, sync_id: str, execution_id: str, log_type: str, filename: str) -> Any:
    execution = _find_execution(world, sync_id, execution_id)
    if filename != _log_name(log_type):
        raise HttpError(404, "not_found", f"there is no log file {filename}")
    return Response(302, {"location": logs.sign_url(world, execution, filename)[1]})


# connections

MODEL_FIELDS = ("id", "name", "email")
TARGET_OBJECTS = ("Account", "Contact", "Lead")


@route("GET", "/api/connections/{connection_id}/modelsync/source")
def get_source(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    return {"data": {"configuration": {"query": {"type": "string"}}, "items": {}, "requires_one_of": ["query"]}}


@route("GET", "/api/connections/{connection_id}/modelsync/source/fields")
def list_source_fields(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    fields = [
        {"id": name, "name": name, "label": name, "type": "string", "unique": name == "id"} for name in MODEL_FIELDS
    ]
    return {"data": fields}


@route("GET", "/api/connections/{connection_id}/modelsync/targetobjects")
def list_target_objects(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    modes = [{"id": mode, "requires_identity": mode != "create"} for mode in MODES]
    return {
        "data": [{"id": name, "name": name, "modes": modes} for name in TARGET_OBJECTS],
        "target_creation": {"supported": False},
    }


@route("GET", "/api/connections/{connection_id}/modelsync/target/fields")
def list_target_fields(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    name = call.text("target") or TARGET_OBJECTS[0]
    if name not in TARGET_OBJECTS:
        raise HttpError(404, "not_found", f"there is no target object {name}")
    fields = [{"id": field, "name": field, "type": "string", "required": False} for field in ("Id", "Name", "Email")]
    modes = [{"mode": mode, "label": mode, "requires_identity": mode != "create"} for mode in MODES]
    return {"data": {"id": name, "name": name, "fields": fields, "modes": modes}}


# helpers


def _find_execution(world: World, sync_id: str, execution_id: str) -> Execution:
    return world.find_execution(world.find_sync("model", sync_id), execution_id)


def _log_name(log_type: str) -> str:
    if log_type not in LOG_TYPES:
        raise HttpError(404, "not_found", f"there are no logs of type {log_type}")
    return f"{log_type}.json"


def _document(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """Read a sync from a request body, with defaults for fields that it leaves out.

    :raises HttpError: for a field that is missing or invalid.
    """
    for name in REQUIRED:
        if body.get(name) in (None, ""):
            raise InvalidValueError(f"{name}: is required")
    _check_types(body)
    target = get_typed(body, "target", dict)
    if str(target.get("connection_id")) not in world.connections:
        raise InvalidValueError(f"target.connection_id: there is no connection {target.get('connection_id')}")
    schedule = get_typed(body, "schedule", dict)
    get_choice(schedule, "frequency", FREQUENCIES)
    get_typed(schedule, "job_id", int)
    get_typed(schedule, "run_after", dict)
    get_typed(schedule, "run_after_success_only", bool)
    sources = [get_typed(item, "source", dict) or {} for item in get_list(body, "fields", dict)]
    model_ids = [get_typed(source, "model_id", str) for source in sources]
    given = {name: body[name] for name in (*REQUIRED, *MODEL_DEFAULTS) if body.get(name) is not None}
    return {
        **MODEL_DEFAULTS,
        **given,
        "model_ids": list(dict.fromkeys(model_id for model_id in model_ids if model_id)) or None,
    }


def _check_types(body: dict[str, Any]) -> None:
    for name in ("active", "only_enrich_updates", "skip_initial_backfill", "sync_all_records"):
        get_typed(body, name, bool)
    # Any mode is accepted, because the API reference names one that the SDK lacks.
    for name in ("name", "mode", "encryption_passphrase", "filter_logic", "organization_id"):
        get_typed(body, name, str)
    for name in ("identity", "identities", "model_filters", "target_filters"):
        get_typed(body, name, dict)
    for name in ("filters", "overrides", "override_fields"):
        get_list(body, name, dict)
    get_list(body, "policies", str)
