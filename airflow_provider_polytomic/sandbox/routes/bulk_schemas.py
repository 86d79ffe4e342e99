# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of the schemas of bulk syncs: which are enabled, and their configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..history import cancel_response
from ..wire import Call, HttpError, Router, check_timestamp, get_list, get_typed
from ..world import Schema, Sync, World

route = Router()

FIELDS = ("id", "name", "amount", "updated_at")  # the same for every schema of the sandbox

# The configuration of a schema for which a request leaves a field out.
SCHEMA_DEFAULTS: dict[str, Any] = {
    "enabled": True,
    "data_cutoff_timestamp": None,
    "disable_data_cutoff": False,
    "fields": None,
    "filters": None,
    "history_enabled": False,
    "partition_key": None,
    "tracking_field": None,
    "user_output_name": None,
}


@route("GET", "/api/bulk/syncs/{sync_id}/schemas")
def list_schemas(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    enabled = replace(call, query={"enabled": call.query.get("filters[enabled]", [])}).flag("enabled")
    rows = [_schema_row(schema) for schema in sync.schemas.values() if enabled is None or schema.enabled is enabled]
    for row in rows:
        del row["fields"], row["filters"]
    return {"data": rows or None}


@route("PATCH", "/api/bulk/syncs/{sync_id}/schemas")
def patch_schemas(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    changes = get_list(call.json(), "schemas", dict)
    schemas = [_find_schema(sync, str(change.get("id"))) for change in changes]
    for schema, change in zip(schemas, changes, strict=True):
        _configure(sync, schema, {**schema.config, "fields": None, **change}, world.now)
    return {"data": [_schema_row(schema) for schema in schemas] or None}


@route("GET", "/api/bulk/syncs/{sync_id}/schemas/{schema_id}")
def get_schema(world: World, call: Call, sync_id: str, schema_id: str) -> Any:
    return {"data": _schema_row(_find_schema(world.find_sync("bulk", sync_id), schema_id))}


@route("PUT", "/api/bulk/syncs/{sync_id}/schemas/{schema_id}")
def replace_schema(world: World, call: Call, sync_id: str, schema_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    schema = _find_schema(sync, schema_id)
    body = call.json()
    kept = {"history_enabled": schema.config.get("history_enabled", False)}  # "omit to keep the current value"
    _configure(sync, schema, {**kept, **body}, world.now)
    return {"data": _schema_row(schema)}


@route("PATCH", "/api/bulk/syncs/{sync_id}/schemas/{schema_id}")
def patch_schema(world: World, call: Call, sync_id: str, schema_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    schema = _find_schema(sync, schema_id)
    _configure(sync, schema, {**schema.config, "fields": None, **call.json()}, world.now)
    return {"data": _schema_row(schema)}


@route("POST", "/api/bulk/syncs/{sync_id}/schemas/{schema_id}/cancel")
def cancel_schema(world: World, call: Call, sync_id: str, schema_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    _find_schema(sync, schema_id)
    running = world.running(sync)
    parts = [part for part in running.parts if part.schema == schema_id] if running else []
    for part in parts:
        part.canceled_at = part.canceled_at or world.now
    return cancel_response(bool(parts))


def _find_schema(sync: Sync, schema_id: str) -> Schema:
    schema = sync.schemas.get(schema_id)
    if schema is None:
        raise HttpError(404, "not_found", f"bulk sync {sync.id} has no schema {schema_id}")
    return schema


def _configure(sync: Sync, schema: Schema, config: dict[str, Any], now: float) -> None:
    schema.config = read_config(config)
    sync.updated_at = now


def read_config(given: dict[str, Any]) -> dict[str, Any]:
    """Read a schema's configuration from a request body.

    :raises HttpError: for a field of the wrong type.
    """
    for name in ("enabled", "disable_data_cutoff", "history_enabled"):
        get_typed(given, name, bool)
    for name in ("partition_key", "tracking_field", "user_output_name"):
        get_typed(given, name, str)
    check_timestamp(given, "data_cutoff_timestamp")
    get_list(given, "filters", dict)
    get_typed(given, "fields", list)
    return {name: value for name, value in given.items() if name in SCHEMA_DEFAULTS and value is not None}


def _schema_row(schema: Schema) -> dict[str, Any]:
    config = {**SCHEMA_DEFAULTS, **schema.config}
    overrides = {
        item["id"]: item
        for item in config["fields"] or []
        if isinstance(item, dict) and isinstance(item.get("id"), str)
    }
    fields = [
        {
            "id": name,
            "enabled": overrides.get(name, {}).get("enabled", True),
            "obfuscated": False,
            "output_name": name,
            "user_output_name": None,
        }
        for name in FIELDS
    ]
    return {**config, "id": schema.spec.id, "output_name": schema.output_name, "fields": fields}
