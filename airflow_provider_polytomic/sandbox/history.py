"""Responses about executions that the routes of bulk and model syncs share."""

from __future__ import annotations

from typing import Any

from .clock import format_timestamp
from .execution import Execution
from .wire import Call, paginate
from .world import Sync, World


def status_response(world: World, sync: Sync) -> dict[str, Any]:
    now = world.now
    history = world.history(sync)
    running = [item.row(now) for item in history[-1:] if not item.ended(now)]
    ended = [item for item in history[-2:] if item.ended(now)]
    return {
        "data": {
            "current_execution": running[0] if running else None,
            "last_execution": ended[-1].row(now) if ended else None,
            "next_execution_time": format_timestamp(sync.next_due(now)),
        }
    }


def execution_page(
    call: Call, history: list[Execution], only_ended: bool, now: float
) -> tuple[list[Execution], str | None]:
    """Return one page of a sync's executions and the token of the next page.

    Executions are ordered by their start, newest first; with ``only_ended`` by their end.
    """
    sign = 1 if call.flag("ascending") else -1
    if only_ended:
        ended = [item for item in history if item.ended(now)]
        return paginate(call, ended, lambda item: (sign * item.updated_at(now), sign * item.seq), call.limit(100))
    return paginate(call, history, lambda item: (sign * item.seq,), call.limit(100))


def cancel_response(was_canceled: bool) -> dict[str, Any]:
    return {"data": {"message": "cancellation requested" if was_canceled else "nothing is running"}}
