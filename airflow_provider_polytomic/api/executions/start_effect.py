"""Finds the execution that a start began although the server responded with an error."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..plan import Plan, current_time, sleep
from .execution_list import ExecutionList, list_executions
from .matching import matches_request
from .server_clock import ServerClock
from .start_request import StartRequest

if TYPE_CHECKING:
    from ..models import Execution

log = logging.getLogger(__name__)

SEARCH_LIMIT = 25  # executions to search for the effect of a failed start
UNDATED_EFFECT_LAG = 5.0  # seconds within which the effect has to be listed if the server sends no Date
MAX_CLOCK_SAMPLES = 20  # requests to determine the server's clock; usually six are enough


def find_started_execution(
    request: StartRequest, before: ExecutionList, server_clock: ServerClock, sent: float, failed: float
) -> Plan[Execution | None]:
    """Find the execution that a start began although the server responded with an error.

    It is the oldest execution that matches the request and was created, by the server's clock, while the request was in
    progress. One created later belongs to another client. Without ``Date`` headers it has to be listed within seconds.

    :param before: the list before the start.
    :param sent: when the request was sent, by this machine's clock.
    :param failed: when the response was received.
    """
    for _ in range(MAX_CLOCK_SAMPLES):
        listed = yield from list_executions(request, SEARCH_LIMIT)
        now = yield from current_time()
        within = server_clock.interval(sent, failed)
        candidates = [
            execution
            for execution in reversed(listed.executions)
            if not before.has(execution)
            and matches_request(execution, request.start_arguments)
            and (
                (now - failed <= UNDATED_EFFECT_LAG and before.predates(execution))
                if within is None
                else (execution.created_at and within[0] <= execution.created_at.timestamp() <= within[1])
            )
        ]
        if not candidates:
            return None
        if within is None or server_clock.is_precise:
            log.warning(
                "The server responded to the start with an error, but began execution %s of %s.",
                candidates[0].id,
                request.sync,
            )
            return candidates[0]
        # The clock is too imprecise to exclude an execution of another client: take one more sample.
        yield from sleep(server_clock.seconds_to_tick(now))
    return None  # in doubt, none: two tasks must not report the same execution
