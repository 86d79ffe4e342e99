"""What routes of both kinds say about the executions of a sync."""

from __future__ import annotations

from typing import Any

from .clock import stamp
from .execution import Execution
from .wire import Call, page
from .world import Sync, World


def sync_status(world: World, sync: Sync) -> dict[str, Any]:
    now = world.now
    history = world.history(sync)
    running = [item.row(now) for item in history[-1:] if not item.ended(now)]
    ended = [item for item in history[-2:] if item.ended(now)]
    return {
        "data": {
            "current_execution": running[0] if running else None,
            "last_execution": ended[-1].row(now) if ended else None,
            "next_execution_time": stamp(sync.due(now)),
        }
    }


def execution_page(
    call: Call, history: list[Execution], only_ended: bool, now: float
) -> tuple[list[Execution], str | None]:
    """Newest start first; of ended ones, what ended last first."""
    sign = 1 if call.flag("ascending") else -1
    if only_ended:
        ended = [item for item in history if item.ended(now)]
        return page(call, ended, lambda item: (sign * item.updated_at(now), sign * item.seq), call.limit(100))
    return page(call, history, lambda item: (sign * item.seq,), call.limit(100))


def cancel_answer(something: bool) -> dict[str, Any]:
    return {"data": {"message": "cancellation requested" if something else "nothing is running"}}
