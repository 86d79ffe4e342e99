# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of connections and of their schema caches."""

from __future__ import annotations

from typing import Any

from airflow_provider_polytomic.api.plan import Response

from ..clock import format_timestamp
from ..seed import ACTOR, ConnectionSpec
from ..wire import Call, Router
from ..world import World

route = Router()

REFRESH_DURATION = 5.0  # seconds at speed 1 until a refreshed schema cache is fresh


@route("GET", "/api/connections")
def list_connections(world: World, call: Call) -> Any:
    return {"data": [_row(world, item) for item in world.connections.values()] or None}


@route("GET", "/api/connections/{connection_id}")
def get_connection(world: World, call: Call, connection_id: str) -> Any:
    return {"data": _row(world, world.find_connection(connection_id))}


@route("POST", "/api/connections/{connection_id}/schemas/refresh")
def refresh_schemas(world: World, call: Call, connection_id: str) -> Any:
    starts, ends = _refresh_times(world, connection_id)
    if ends[-1] <= world.now:
        world.refreshes[connection_id] = [*starts, world.now]
    return Response(202, {"location": f"{world.url}/api/connections/{connection_id}/schemas/status"})


@route("GET", "/api/connections/{connection_id}/schemas/status")
def get_schema_status(world: World, call: Call, connection_id: str) -> Any:
    starts, ends = _refresh_times(world, connection_id)
    return {
        "data": {
            "cache_status": "fresh" if ends[-1] <= world.now else "refreshing",
            "last_refresh_started": format_timestamp(starts[-1]),
            "last_refresh_finished": format_timestamp(max(end for end in ends if end <= world.now)),
        }
    }


def _refresh_times(world: World, connection_id: str) -> tuple[list[float], list[float]]:
    """Return the start and end times of a connection's schema refreshes; one precedes the first request."""
    world.find_connection(connection_id)
    duration = REFRESH_DURATION / world.speed
    starts = world.refreshes.get(connection_id, [world.created_at - duration])
    return starts, [start + duration for start in starts]


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
        "created_at": format_timestamp(world.created_at),
        "created_by": ACTOR,
        "updated_at": format_timestamp(world.created_at),
        "updated_by": ACTOR,
    }
