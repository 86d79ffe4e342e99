"""Polls executions once, and classifies what came back: a value, a transient failure, or a final one."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from ..call import Call, decode
from ..errors import PolytomicError, PolytomicResponseError, parse_api_error
from ..kinds import SyncKind
from ..pagination import Page, PageReader
from ..plan import Plan, Response, current_time, send
from ..retry import is_transient, retry_after_delay

if TYPE_CHECKING:
    from ..models import Execution

T = TypeVar("T")

PAGE_SIZE = 10  # executions per page: each may contain thousands of schemas


@dataclass(frozen=True, eq=False, repr=False)
class PollResult(Generic[T]):
    """The result of one poll: a value, an error, or neither when there is nothing yet.

    :ivar transient: whether polling again may help.
    :ivar retry_after: seconds until the next request, if the server named them.
    :ivar duration: seconds that the request took.
    """

    value: T | None = None
    error: PolytomicError | None = None
    transient: bool = False
    retry_after: float | None = None
    duration: float = 0.0


def poll_execution(
    kind: SyncKind, sync_id: str, execution_id: str, *, timeout: float | None = None
) -> Plan[PollResult[Execution]]:
    """Poll an execution once.

    :param timeout: seconds for the request, if less than the client's own timeout.
    """
    return _poll(kind.execution(sync_id, execution_id), timeout)


def poll_next_execution(
    kind: SyncKind, sync_id: str, after: datetime, *, timeout: float | None = None
) -> Plan[PollResult[Execution]]:
    """Poll once for the oldest execution that had not ended at ``after``, test runs excluded.

    :param timeout: seconds for each page. When they have passed, no further page is requested, and the result is empty.
    """
    began = yield from current_time()
    oldest: Execution | None = None
    pages: PageReader[Execution] = PageReader(kind.executions(sync_id, limit=PAGE_SIZE))
    while not pages.is_exhausted:
        page: PollResult[Page[Execution]] = yield from _poll(pages.next_call(), timeout)
        if page.value is None:
            if pages.halve_page_size(page.error):
                continue
            return PollResult(None, page.error, page.transient, page.retry_after, page.duration)
        candidates = list(itertools.takewhile(lambda execution: not _ended_by(execution, after), page.value.items))
        oldest = next((execution for execution in reversed(candidates) if not execution.is_test_run), oldest)
        if len(candidates) < len(page.value.items):
            break
        try:
            pages.record_page(page.value)
        except PolytomicResponseError as error:
            return PollResult(error=error, transient=True)
        if not pages.is_exhausted and timeout is not None and (yield from current_time()) - began >= timeout:
            return PollResult()
    # The list may omit fields that the execution itself has.
    return PollResult() if oldest is None else (yield from poll_execution(kind, sync_id, oldest.id, timeout=timeout))


def _ended_by(execution: Execution, time: datetime) -> bool:
    """Whether an execution, other than a test run, had ended at a time."""
    ended = execution.completed_at or execution.updated_at or execution.created_at
    return not execution.is_test_run and execution.is_terminal and (ended is None or ended <= time)


def _poll(call: Call[T], timeout: float | None) -> Plan[PollResult[T]]:
    if timeout is not None:
        call = call.with_timeout(timeout)
    began = yield from current_time()
    response = yield from send(call.request)
    try:
        return PollResult(decode(call, response))
    except PolytomicError as error:
        # The API's own errors, redirects, and bodies that are too large are final. A proxy's error page or half a
        # response is transient, whatever its status.
        is_redirect = isinstance(response, Response) and 300 <= response.status < 400
        is_non_api = isinstance(response, Response) and parse_api_error(response) is None
        is_final = is_redirect
        if isinstance(error, PolytomicResponseError):
            is_final, is_non_api = is_redirect or error.too_large, True
        now = yield from current_time()
        return PollResult(
            error=error,
            transient=not is_final and (is_non_api or is_transient(response)),
            retry_after=retry_after_delay(response, now),
            duration=now - began,
        )
