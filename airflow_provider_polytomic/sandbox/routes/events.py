# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of events: what executions have reported, newest first."""

from __future__ import annotations

import uuid
from typing import Any

from ..clock import format_timestamp, to_datetime
from ..wire import Call, InvalidValueError, Router, list_response, paginate
from ..world import World

route = Router()

EVENT_RETENTION = 48 * 3600  # seconds; the API drops events after it
EVENT_TYPES = (
    *(f"sync.{name}" for name in ("running", "completed", "canceled", "failed", "completed_with_errors")),
    *(f"bulk_sync.{name}" for name in ("running", "completed", "canceled", "failed", "completed_with_error")),
)


@route("GET", "/api/events_types")
def list_event_types(world: World, call: Call) -> Any:
    return {"data": list(EVENT_TYPES)}


@route("GET", "/api/events", unprocessable=True)
def list_events(world: World, call: Call) -> Any:
    now = world.now
    wanted = call.text("type")
    if wanted is not None and wanted not in EVENT_TYPES:
        raise InvalidValueError(f"type: there are no events of type {wanted!r}")
    after, before = call.timestamp("starting_after"), call.timestamp("ending_before")
    rows = []
    for execution in world.executions:
        for at, kind, body in execution.events(now):
            # Compared with the precision of the response, because a client sends back a timestamp that it has read.
            shown_at = to_datetime(at)
            if (
                now - at < EVENT_RETENTION
                and wanted in (None, kind)
                and (after is None or shown_at > after)
                and (before is None or shown_at < before)
            ):
                rows.append((at, execution.seq, kind, execution.id, body))
    shown, token = paginate(call, rows, lambda row: (-row[0], -row[1], row[2]), call.limit(100, 10))
    return list_response(
        [
            {
                "id": str(uuid.uuid5(uuid.UUID(execution_id), kind)),
                "type": kind,
                "created_at": format_timestamp(at),
                "organization_id": world.id,
                "event": body,
            }
            for at, _, kind, execution_id, body in shown
        ],
        token,
    )
