"""Lists executions, and finds the one that a start began although the server responded with an error."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime

from ..models import Execution
from ..pagination import fetch_fitting_page
from ..plan import Plan, current_time, sleep
from .matching import matches_request
from .server_clock import ServerClock
from .start_request import StartRequest

log = logging.getLogger(__name__)

LIST_LIMIT = 3  # executions to list: at most one is running, and each may contain thousands of schemas
SEARCH_LIMIT = 25  # executions to search for the effect of a failed start
UNDATED_EFFECT_LAG = 5.0  # seconds within which the effect has to be listed if the server sends no Date
MAX_CLOCK_SAMPLES = 20  # requests to determine the server's clock; usually six are enough


@dataclass(frozen=True)
class ExecutionList:
    """One response of the list of executions, newest first."""

    executions: list[Execution]

    @property
    def active(self) -> Execution | None:
        return next((execution for execution in self.executions if not execution.is_terminal), None)

    def has(self, execution: Execution) -> bool:
        return any(execution.id == listed.id for listed in self.executions)

    def predates(self, execution: Execution) -> bool:
        """Whether the execution began after this list: it is not listed, and not older than the newest that is."""
        if self.has(execution):
            return False
        times = [listed.created_at for listed in self.executions if listed.created_at]
        newest: datetime | None = max(times, default=None)
        return newest is None or execution.created_at is None or execution.created_at >= newest


def list_executions(request: StartRequest, limit: int = LIST_LIMIT) -> Plan[ExecutionList]:
    """List the newest executions of the request's sync."""
    call = request.sync_kind.executions(request.sync_id, limit=limit)
    page, _ = yield from fetch_fitting_page(call, None, set())
    return ExecutionList(page.items)


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
            and matches_request(execution, request.arguments)
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
                request.sync_kind.describe(request.sync_id),
            )
            return candidates[0]
        # The clock is too imprecise to exclude an execution of another client: take one more sample.
        yield from sleep(server_clock.seconds_to_tick(now))
    return None  # in doubt, none: two tasks must not report the same execution
