"""Schedules of bulk syncs, in UTC. A sync has one default schedule, and may have more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import models
from ..call import Call
from ..pagination import ListCall
from ..parsers import parse_list, parse_nothing, parse_one
from ..plan import Request, build_path

if TYPE_CHECKING:
    from ..models import BulkSyncSchedule

SCHEDULES = "/api/bulk/syncs/{sync_id}/schedules"
SCHEDULE = SCHEDULES + "/{schedule_id}"

_schedule, _schedules = parse_one(lambda: models.BulkSyncSchedule), parse_list(lambda: models.BulkSyncSchedule)


def list_(sync_id: str) -> ListCall[BulkSyncSchedule]:
    """``GET /api/bulk/syncs/{id}/schedules``."""
    return ListCall(Request("GET", build_path(SCHEDULES, sync_id=sync_id)), _schedules)


def create(sync_id: str, schedule: dict[str, Any], *, idempotency_key: str | None = None) -> Call[BulkSyncSchedule]:
    """``POST /api/bulk/syncs/{id}/schedules``: add a schedule to those that there are.

    :param schedule: ``frequency`` (``manual``, ``hourly``, ``daily``, ``weekly``, …) and, as text, what of ``minute``,
        ``hour``, ``dayOfWeek``, ``dayOfMonth`` and ``month`` it needs; ``selectiveMode``.
    """
    where = build_path(SCHEDULES, sync_id=sync_id)
    return Call(Request("POST", where, json={"schedule": schedule}, idempotency_key=idempotency_key), _schedule)


def get(sync_id: str, schedule_id: str) -> Call[BulkSyncSchedule]:
    """``GET /api/bulk/syncs/{id}/schedules/{schedule_id}``."""
    return Call(Request("GET", build_path(SCHEDULE, sync_id=sync_id, schedule_id=schedule_id)), _schedule)


def replace(sync_id: str, schedule_id: str, schedule: dict[str, Any]) -> Call[BulkSyncSchedule]:
    """``PUT /api/bulk/syncs/{id}/schedules/{schedule_id}``: replace it, all of it.

    :param schedule: as in :func:`create`.
    """
    where = build_path(SCHEDULE, sync_id=sync_id, schedule_id=schedule_id)
    return Call(Request("PUT", where, json={"schedule": schedule}), _schedule)


def delete(sync_id: str, schedule_id: str) -> Call[None]:
    """``DELETE /api/bulk/syncs/{id}/schedules/{schedule_id}``. What runs goes on."""
    return Call(Request("DELETE", build_path(SCHEDULE, sync_id=sync_id, schedule_id=schedule_id)), parse_nothing)
