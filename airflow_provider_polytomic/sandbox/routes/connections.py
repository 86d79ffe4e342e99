# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes around the syncs: connections and what is known of their schemas, events."""

from __future__ import annotations

import uuid
from typing import Any

from airflow_provider_polytomic.api.plan import Response

from ..clock import moment, stamp
from ..seed import ACTOR, ConnectionSpec
from ..wire import Call, Invalid, Router, listing, page
from ..world import World

route = Router()

EVENTS_KEPT = 48 * 3600  # seconds
REFRESH_TAKES = 5.0  # seconds at speed 1
EVENT_TYPES = (
    *(f"sync.{name}" for name in ("running", "completed", "canceled", "failed", "completed_with_errors")),
    *(f"bulk_sync.{name}" for name in ("running", "completed", "canceled", "failed", "completed_with_error")),
)


@route("GET", "/api/connections")
def list_connections(world: World, call: Call) -> Any:
    return {"data": [_row(world, item) for item in world.connections.values()] or None}


@route("GET", "/api/connections/{connection_id}")
def get_connection(world: World, call: Call, connection_id: str) -> Any:
    return {"data": _row(world, world.find_connection(connection_id))}


@route("POST", "/api/connections/{connection_id}/schemas/refresh")
def refresh_schemas(world: World, call: Call, connection_id: str) -> Any:
    starts, ends = _refreshes(world, connection_id)
    if ends[-1] <= world.now:
        world.refreshes[connection_id] = [*starts, world.now]
    return Response(202, {"location": f"{world.url}/api/connections/{connection_id}/schemas/status"})


@route("GET", "/api/connections/{connection_id}/schemas/status")
def schema_cache(world: World, call: Call, connection_id: str) -> Any:
    starts, ends = _refreshes(world, connection_id)
    return {
        "data": {
            "cache_status": "fresh" if ends[-1] <= world.now else "refreshing",
            "last_refresh_started": stamp(starts[-1]),
            "last_refresh_finished": stamp(max(end for end in ends if end <= world.now)),
        }
    }


def _refreshes(world: World, connection_id: str) -> tuple[list[float], list[float]]:
    """When the refreshes of a connection's schemas begin, and when they end. One has been before all."""
    world.find_connection(connection_id)
    takes = REFRESH_TAKES / world.speed
    starts = world.refreshes.get(connection_id, [world.began_at - takes])
    return starts, [start + takes for start in starts]


def _row(world: World, connection: ConnectionSpec) -> dict[str, Any]:
    return {
        "id": connection.id,
        "name": connection.name,
        "type": {"id": connection.type, "name": connection.type.capitalize(), "operations": ["bulk", "model"]},
        "configuration": connection.configuration,
        "organization_id": world.id,
        "policies": None,
        "saved": True,
        "status": "healthy",
        "status_error": None,
        "created_at": stamp(world.began_at),
        "created_by": ACTOR,
        "updated_at": stamp(world.began_at),
        "updated_by": ACTOR,
    }


@route("GET", "/api/events_types")
def event_types(world: World, call: Call) -> Any:
    return {"data": list(EVENT_TYPES)}


@route("GET", "/api/events", unprocessable=True)
def events(world: World, call: Call) -> Any:
    now = world.now
    wanted = call.text("type")
    if wanted is not None and wanted not in EVENT_TYPES:
        raise Invalid(f"type: there are no events of type {wanted!r}")
    after, before = call.moment("starting_after"), call.moment("ending_before")
    rows = []
    for execution in world.executions:
        for at, kind, body in execution.events(now):
            # Compared as they are shown: a client gives back what it has read.
            shown_at = moment(at)
            if (
                now - at < EVENTS_KEPT
                and wanted in (None, kind)
                and (after is None or shown_at > after)
                and (before is None or shown_at < before)
            ):
                rows.append((at, execution.seq, kind, execution.id, body))
    shown, token = page(call, rows, lambda row: (-row[0], -row[1], row[2]), call.limit(100, 10))
    return listing(
        [
            {
                "id": str(uuid.uuid5(uuid.UUID(execution_id), kind)),
                "type": kind,
                "created_at": stamp(at),
                "organization_id": world.id,
                "event": body,
            }
            for at, _, kind, execution_id, body in shown
        ],
        token,
    )
