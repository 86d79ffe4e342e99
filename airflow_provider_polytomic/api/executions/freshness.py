"""Finds an execution that has ended recently enough to be the result of a start, instead of another execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..idempotency import read_current
from ..plan import Plan, current_time
from .execution_list import ExecutionList
from .matching import covers_request
from .server_clock import ServerClock
from .start_request import StartRequest

if TYPE_CHECKING:
    from ..models import Execution


def find_fresh_execution(
    request: StartRequest, listed: ExecutionList, server_clock: ServerClock
) -> Plan[Execution | None]:
    """Find the newest execution that completed within ``fresh_within``, covers the request, and is a success.

    Its age is measured by the server's clock. What is unknown counts as no: an execution without ``completed_at``, and
    any execution while the server sends no ``Date``. A repair does not narrow the request: an execution of only the
    schemas that are left may have ended before they failed.
    """
    if request.fresh_within is None:
        return None
    for candidate in listed.executions:
        now = yield from current_time()
        if not candidate.is_terminal or not _is_fresh(candidate, request.fresh_within, server_clock, now):
            continue
        # The list may omit fields that the execution itself has.
        execution: Execution | None = yield from read_current(request.kind.execution(request.sync_id, candidate.id))
        now = yield from current_time()
        if (
            execution is not None
            and _is_fresh(execution, request.fresh_within, server_clock, now)
            and covers_request(execution, request.arguments)
            and request.succeeded(execution)
        ):
            return execution
    return None


def _is_fresh(execution: Execution, fresh_within: float, server_clock: ServerClock, now: float) -> bool:
    server_time = server_clock.interval(now, now)
    if server_time is None or execution.completed_at is None:
        return False
    return server_time[1] - execution.completed_at.timestamp() <= fresh_within
