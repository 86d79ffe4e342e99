# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of events: what executions have reported, newest first."""

from __future__ import annotations

import uuid
from typing import Any

from ..clock import moment, stamp
from ..wire import Call, Invalid, Router, listing, page
from ..world import World

route = Router()

EVENTS_KEPT = 48 * 3600  # seconds
EVENT_TYPES = (
    *(f"sync.{name}" for name in ("running", "completed", "canceled", "failed", "completed_with_errors")),
    *(f"bulk_sync.{name}" for name in ("running", "completed", "canceled", "failed", "completed_with_error")),
)


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
