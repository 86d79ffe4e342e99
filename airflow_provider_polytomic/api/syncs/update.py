"""Brings a bulk sync to a desired state: creates it, or replaces it if it differs.

A replacement contains the complete sync and can be repeated, so it needs no idempotency key: it is repeated until the
sync, as the server returns it, has the desired state.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import Any

from .. import models
from ..call import Call, fetch
from ..endpoints import bulk_syncs
from ..errors import PolytomicLookupError
from ..idempotency import compute_key, read_current, replay_key
from ..parsers import parse_document
from ..plan import Plan, current_time, sleep
from .create import CreateRequest, create_once, list_syncs_named, require_complete
from .desired_state import (
    CONFIGURATIONS,
    Change,
    find_changes,
    find_schema_changes,
    schema_item,
)
from .destination import check_configuration
from .lookup import walk
from .merge import merge_changes

log = logging.getLogger(__name__)

MAX_REPLACEMENTS = 3  # until the sync is read with the desired state
CONFIRMATION_DELAY = 2.0  # seconds before a state that differs after a replacement is replaced again
_DETAILS = ("fields", "filters")  # of a schema, which the list of schemas does not contain
_READ_ONLY_OF_SCHEMA = ("output_name", "destination_history_output_name")


def ensure_sync(request: CreateRequest) -> Plan[str]:
    """Create the sync, or update the one that has its name, so that it has the state in the request.

    :returns: the sync's id.
    :raises PolytomicLookupError: several syncs have the name; or the list of syncs changed so often that it may be
        taken.
    :raises ValueError: ``destination_configuration`` violates the JSON schema of the destination.
    :raises PolytomicError: the server refused a request, or its outcome is unknown. A retry resolves it.
    """
    name = request.body["name"]
    existing = yield from list_syncs_named(name)
    if len(existing.items) > 1:
        ids = [sync.id for sync in existing.items]
        message = (
            f"{len(ids)} bulk syncs are named {name!r}, and if_exists='update' needs exactly one: {', '.join(ids)}"
        )
        raise PolytomicLookupError(message, ids)
    if existing.items:
        sync_id = existing.items[0].id
    else:
        require_complete(existing, name)
        sync_id = yield from _create(request)
    yield from _update(sync_id, request.body)
    return sync_id


def _create(request: CreateRequest) -> Plan[str]:
    """Create the sync with a key that all tasks with this desired state share, so that only one of them creates it.

    If the key is used up, by an error or by a sync that was deleted, the task creates the sync with keys of its own.
    """
    body = request.body
    yield from check_configuration(body["destination_connection_id"], body["destination_configuration"])
    sent_before = yield from current_time()
    call = bulk_syncs.create(body, idempotency_key=compute_key(["ensure", body]))
    created = yield from replay_key(call, "creation", sent_before)
    if isinstance(created, models.BulkSync):
        current = yield from read_current(bulk_syncs.get(created.id))
        if current is not None:
            log.info("Created bulk sync %r (%s).", body["name"], created.id)
            return created.id
        log.info("Bulk sync %s, which was created with this state before, no longer exists.", created.id)
    else:
        log.info("The shared idempotency key created no bulk sync: %s", created)
    sync = yield from create_once(replace(request, if_exists="skip"))
    return sync.id


def _update(sync_id: str, body: dict[str, Any]) -> Plan[None]:
    """Replace a sync until it has the desired state. If nothing differs, nothing is sent."""
    name = body["name"]
    state = yield from _read_state(sync_id, body)
    if not state.changes:
        log.info("Bulk sync %r (%s) is up to date. Nothing was changed.", name, sync_id)
        return
    log.info("Updating bulk sync %r (%s): %s.", name, sync_id, "; ".join(map(str, state.changes)))
    for number in range(MAX_REPLACEMENTS):
        if number:
            yield from sleep(CONFIRMATION_DELAY)  # a replica may lag, or another client may write
        replacement = yield from _build_replacement(state, body)
        yield from fetch(bulk_syncs.replace(sync_id, merge_changes(state.sync, replacement)))
        state = yield from _read_state(sync_id, body)
        if not state.changes:
            log.info("Updated bulk sync %r (%s).", name, sync_id)
            return
    log.warning(
        "Bulk sync %r (%s) was replaced %d times, and the server still returns other values for %s. It may not return "
        "what was sent, or another client changes the sync.",
        name,
        sync_id,
        MAX_REPLACEMENTS,
        ", ".join(change.field for change in state.changes),
    )


@dataclass(frozen=True)
class _State:
    """A sync as the server returns it, and how it differs from the desired state."""

    sync: dict[str, Any]
    schemas: list[dict[str, Any]]
    changes: list[Change]


def _read_state(sync_id: str, body: dict[str, Any]) -> Plan[_State]:
    sync = yield from fetch(_document(bulk_syncs.get(sync_id)))
    changes, schemas = find_changes(sync, body), []
    if wanted := body.get("schemas"):
        schemas = yield from _read_schemas(sync_id, wanted)
        changes += find_schema_changes(schemas, wanted)
    return _State(sync, schemas, changes)


def _read_schemas(sync_id: str, wanted: list[Any]) -> Plan[list[dict[str, Any]]]:
    """The schemas of a sync, with fields and filters where these are desired."""
    listed = yield from walk(bulk_syncs.schemas(sync_id))
    detailed = {item["id"] for item in map(schema_item, wanted) if any(name in item for name in _DETAILS)}
    schemas = []
    for schema in listed:
        document = schema.model_dump(mode="json")
        if schema.id in detailed:
            document = yield from fetch(_document(bulk_syncs.schema(sync_id, schema.id)))
        schemas.append(document)
    return schemas


def _build_replacement(state: _State, body: dict[str, Any]) -> Plan[dict[str, Any]]:
    """The fields to replace, with what their values contain besides the desired state.

    :raises ValueError: ``destination_configuration`` violates the JSON schema of the destination.
    """
    differing = {re.split(r"[.\[]", change.field)[0] for change in state.changes}
    replacement = {name: body[name] for name in body if name in differing}
    for name in CONFIGURATIONS:
        if name in replacement:
            replacement[name] = {**(state.sync.get(name) or {}), **body[name]}
    if "destination_configuration" in replacement:
        yield from check_configuration(body["destination_connection_id"], replacement["destination_configuration"])
    if "schemas" in replacement:
        replacement["schemas"] = yield from _merge_schemas(state, body["schemas"])
    return replacement


def _merge_schemas(state: _State, wanted: list[Any]) -> Plan[list[dict[str, Any]]]:
    """The desired schemas, each with its other settings as they are. The server would reset those left out."""
    known, merged = {schema["id"] for schema in state.schemas}, []
    for item in map(schema_item, wanted):
        current: dict[str, Any] = {}
        if item["id"] in known:
            current = yield from fetch(_document(bulk_syncs.schema(state.sync["id"], item["id"])))
        kept = {name: value for name, value in current.items() if name not in _READ_ONLY_OF_SCHEMA}
        merged.append({**kept, "enabled": True, **item})
    return merged


def _document(call: Call[Any]) -> Call[dict[str, Any]]:
    """The same call with the document as the API returned it. A model has None for a value that it cannot parse."""
    return Call(call.request, parse_document)
