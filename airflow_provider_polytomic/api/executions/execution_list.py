"""The newest executions of a sync, as one response lists them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ..pagination import PageReader
from ..plan import Plan
from .start_request import StartRequest

if TYPE_CHECKING:
    from ..models import Execution

FRESH_LIMIT = 10  # executions to list for a request that a fresh execution satisfies
LIST_LIMIT = 3  # executions to list: at most one has not ended, and each may contain thousands of schemas


class ExecutionList(NamedTuple):
    """One response of the list of executions, newest first."""

    executions: list[Execution]

    @property
    def non_terminal(self) -> Execution | None:
        """The execution that has not ended, if any. A sync has at most one."""
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


def list_executions(request: StartRequest, limit: int | None = None) -> Plan[ExecutionList]:
    """List the newest executions of the request's sync."""
    if limit is None:
        limit = LIST_LIMIT if request.fresh_within is None else FRESH_LIMIT
    call = request.kind.executions(request.sync_id, limit=limit)
    page = yield from PageReader(call).fetch_next()
    return ExecutionList([] if page is None else page.items)
