# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of model syncs: ``/api/syncs``, and what a connection offers them."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

from airflow_provider_polytomic.api.plan import Response

from ..execution import Execution
from ..history import cancel_answer, execution_page, sync_status
from ..schedule import FREQUENCIES
from ..seed import ModelSyncSpec
from ..wire import ApiProblem, Call, Invalid, Router, list_of, listing, one_of, page, typed
from ..world import MODEL_DEFAULTS, Sync, World
from . import logs

route = Router()

REQUIRED = ("name", "mode", "fields", "schedule", "target")
MODES = ("create", "update", "updateOrCreate", "replace", "append", "remove", "snapshot")
MAX_IDENTITIES = 1000
LOG_TYPES = ("records", "errors", "warnings", "inserts", "updates", "deletes")
# A list shows less of a sync than the sync itself does.
LISTED = (
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
        for sync in world.syncs_of("model")
        if active in (None, sync.doc["active"])
        and mode in (None, sync.doc["mode"])
        and target in (None, sync.doc["target"]["connection_id"])
    ]
    shown, token = page(call, syncs, lambda sync: (-sync.updated_at, sync.id), call.limit(50))
    return listing([_listed(sync) for sync in shown], token)


def _listed(sync: Sync) -> dict[str, Any]:
    hidden = set(sync.doc) - set(LISTED)
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
def schedule_options(world: World, call: Call) -> Any:
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
    # Unlike with bulk syncs, what runs goes on.
    sync = world.find_sync("model", sync_id)
    active = typed(call.json(), "active", bool)
    if active is None:
        raise Invalid("active: is required")
    sync.doc["active"] = active
    sync.updated_at = world.now
    return {"data": {"id": sync.id, "active": active}}


@route("POST", "/api/syncs/{sync_id}/cancel")
def cancel(world: World, call: Call, sync_id: str) -> Any:
    return cancel_answer(world.cancel_running(world.find_sync("model", sync_id)))


@route("GET", "/api/syncs/{sync_id}/status")
def get_status(world: World, call: Call, sync_id: str) -> Any:
    return sync_status(world, world.find_sync("model", sync_id))


# executions


@route("POST", "/api/syncs/{sync_id}/executions")
def start(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("model", sync_id)
    body = call.json()
    test, resync = typed(body, "test", bool), typed(body, "resync", bool)
    identities = list_of(body, "identities", str)
    source_identities = list_of(body, "source_identities", list)
    if identities and source_identities:
        raise Invalid("identities and source_identities are mutually exclusive")
    wanted = len(identities or source_identities)
    if wanted > MAX_IDENTITIES:
        raise Invalid(f"at most {MAX_IDENTITIES} identities, not {wanted}")
    parts, how = world.full_run(sync)
    execution = world.begin(
        sync,
        [replace(part, rows=min(part.rows, wanted or part.rows)) for part in parts],
        test=bool(test),
        resync_mode="resync" if resync else None,
        asked=body,
        **how,
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
    return listing([item.row(now) for item in shown], token)


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}")
def get_execution(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return {"data": _execution(world, sync_id, execution_id).row(world.now)}


@route("POST", "/api/syncs/{sync_id}/executions/{execution_id}/cancel")
def cancel_execution(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return cancel_answer(_execution(world, sync_id, execution_id).cancel(world.now))


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}/consolelog")
def console_log(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    return logs.console(call, _execution(world, sync_id, execution_id).log(world.now))


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}/logs")
def log_index(world: World, call: Call, sync_id: str, execution_id: str) -> Any:
    counts = _execution(world, sync_id, execution_id).row(world.now)["counts"]
    names = {"records": "total", "errors": "error", "inserts": "insert", "updates": "update", "deletes": "delete"}
    base = f"{world.url}/api/syncs/{sync_id}/executions/{execution_id}"
    return {"data": {kind: {"count": counts[names.get(kind, kind)], "url": f"{base}/{kind}"} for kind in LOG_TYPES}}


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}/{log_type}")
def log_urls(world: World, call: Call, sync_id: str, execution_id: str, log_type: str) -> Any:
    expires, url = logs.signed(world, _execution(world, sync_id, execution_id), _log_name(log_type))
    return {"data": {"expires": expires, "urls": [url]}}


@route("GET", "/api/syncs/{sync_id}/executions/{execution_id}/{log_type}/{filename}")
def log_file(world: World, call: Call, sync_id: str, execution_id: str, log_type: str, filename: str) -> Any:
    execution = _execution(world, sync_id, execution_id)
    if filename != _log_name(log_type):
        raise ApiProblem(404, "not_found", f"there is no log file {filename}")
    return Response(302, {"location": logs.signed(world, execution, filename)[1]})


# what a connection offers

MODEL_FIELDS = ("id", "name", "email")
TARGET_OBJECTS = ("Account", "Contact", "Lead")


@route("GET", "/api/connections/{connection_id}/modelsync/source")
def source(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    return {"data": {"configuration": {"query": {"type": "string"}}, "items": {}, "requires_one_of": ["query"]}}


@route("GET", "/api/connections/{connection_id}/modelsync/source/fields")
def source_fields(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    fields = [
        {"id": name, "name": name, "label": name, "type": "string", "unique": name == "id"} for name in MODEL_FIELDS
    ]
    return {"data": fields}


@route("GET", "/api/connections/{connection_id}/modelsync/targetobjects")
def target_objects(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    modes = [{"id": mode, "requires_identity": mode != "create"} for mode in MODES]
    return {
        "data": [{"id": name, "name": name, "modes": modes} for name in TARGET_OBJECTS],
        "target_creation": {"supported": False},
    }


@route("GET", "/api/connections/{connection_id}/modelsync/target/fields")
def target_fields(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    name = call.text("target") or TARGET_OBJECTS[0]
    if name not in TARGET_OBJECTS:
        raise ApiProblem(404, "not_found", f"there is no target object {name}")
    fields = [{"id": field, "name": field, "type": "string", "required": False} for field in ("Id", "Name", "Email")]
    modes = [{"mode": mode, "label": mode, "requires_identity": mode != "create"} for mode in MODES]
    return {"data": {"id": name, "name": name, "fields": fields, "modes": modes}}


# shared by the above


def _execution(world: World, sync_id: str, execution_id: str) -> Execution:
    return world.find_execution(world.find_sync("model", sync_id), execution_id)


def _log_name(log_type: str) -> str:
    if log_type not in LOG_TYPES:
        raise ApiProblem(404, "not_found", f"there are no logs of type {log_type}")
    return f"{log_type}.json"


def _document(world: World, body: dict[str, Any]) -> dict[str, Any]:
    """The sync that a body describes: nothing of an older one is kept."""
    for name in REQUIRED:
        if body.get(name) in (None, ""):
            raise Invalid(f"{name}: is required")
    _check_types(body)
    target = typed(body, "target", dict)
    if str(target.get("connection_id")) not in world.connections:
        raise Invalid(f"target.connection_id: there is no connection {target.get('connection_id')}")
    schedule = typed(body, "schedule", dict)
    one_of(schedule, "frequency", FREQUENCIES)
    typed(schedule, "job_id", int)
    typed(schedule, "run_after", dict)
    typed(schedule, "run_after_success_only", bool)
    sources = [typed(item, "source", dict) or {} for item in list_of(body, "fields", dict)]
    model_ids = [typed(source, "model_id", str) for source in sources]
    given = {name: body[name] for name in (*REQUIRED, *MODEL_DEFAULTS) if body.get(name) is not None}
    return {
        **MODEL_DEFAULTS,
        **given,
        "model_ids": list(dict.fromkeys(model_id for model_id in model_ids if model_id)) or None,
    }


def _check_types(body: dict[str, Any]) -> None:
    for name in ("active", "only_enrich_updates", "skip_initial_backfill", "sync_all_records"):
        typed(body, name, bool)
    # Any mode is accepted: the list of modes is open, and the reference names one that the SDK does not have.
    for name in ("name", "mode", "encryption_passphrase", "filter_logic", "organization_id"):
        typed(body, name, str)
    for name in ("identity", "identities", "model_filters", "target_filters"):
        typed(body, name, dict)
    for name in ("filters", "overrides", "override_fields"):
        list_of(body, name, dict)
    list_of(body, "policies", str)
