# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of the schedules of bulk syncs. Their fields are in camelCase, unlike those of the syncs."""

from __future__ import annotations

import re
import uuid
from typing import Any

from ..clock import format_timestamp
from ..schedule import Schedule, parse_rule
from ..seed import ACTOR
from ..wire import Call, HttpError, Router, get_typed
from ..world import Sync, World

route = Router()

SCHEDULES = "/api/bulk/syncs/{sync_id}/schedules"
SCHEDULE = SCHEDULES + "/{schedule_id}"


@route("GET", SCHEDULES)
def list_schedules(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    return {"data": [_row(sync, schedule) for schedule in sync.schedules]}


@route("POST", SCHEDULES)
def create(world: World, call: Call, sync_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    schedule = Schedule(str(uuid.uuid4()), _rule(call), False, world.now, world.now)
    sync.schedules.append(schedule)
    sync.updated_at = world.now
    return {"data": _row(sync, schedule)}


@route("GET", SCHEDULE)
def get(world: World, call: Call, sync_id: str, schedule_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    return {"data": _row(sync, _find(sync, schedule_id))}


@route("PUT", SCHEDULE)
def replace(world: World, call: Call, sync_id: str, schedule_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    schedule = _find(sync, schedule_id)
    schedule.rule = _rule(call)
    schedule.updated_at = sync.updated_at = world.now
    return {"data": _row(sync, schedule)}


@route("DELETE", SCHEDULE)
def delete(world: World, call: Call, sync_id: str, schedule_id: str) -> Any:
    sync = world.find_sync("bulk", sync_id)
    schedule = _find(sync, schedule_id)
    if schedule.is_default:
        raise HttpError(403, "forbidden", "the default schedule can be replaced, but not deleted")
    sync.schedules.remove(schedule)
    sync.updated_at = world.now


def _find(sync: Sync, schedule_id: str) -> Schedule:
    for schedule in sync.schedules:
        if schedule.id == schedule_id:
            return schedule
    raise HttpError(404, "not_found", f"bulk sync {sync.id} has no schedule {schedule_id}")


def _rule(call: Call) -> dict[str, Any]:
    given = get_typed(call.json(), "schedule", dict) or {}
    return parse_rule(
        {re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name): value for name, value in given.items()}
    )


def _row(sync: Sync, schedule: Schedule) -> dict[str, Any]:
    shown = {
        **schedule.rule,
        "id": schedule.id,
        "is_default": schedule.is_default,
        "sync_id": sync.id,
        "created_at": format_timestamp(schedule.created_at),
        "created_by": ACTOR["id"],
        "updated_at": format_timestamp(schedule.updated_at),
        "updated_by": ACTOR["id"],
    }
    if "resync_mode" in shown:
        shown["sync_mode"] = shown.pop("resync_mode")
    return {re.sub("_(.)", lambda match: match[1].upper(), name): value for name, value in shown.items()}
