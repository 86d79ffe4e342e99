"""Those who wait for executions of bulk syncs ask together: one request for up to a hundred of them.

``GET /api/bulk/syncs/status`` can prove that an execution runs, and nothing else. While it does, a waiter rests;
otherwise it is woken and looks for itself, and so says what is wrong, too, in its own log. So nothing here needs
to be told about: no error, and no other execution of a sync.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from contextvars import Context

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import NotRequired, TypedDict

from ..endpoints import bulk_syncs
from ..models import NON_TERMINAL_STATUSES
from ..plan import BatchableSleep, Request, Response, SendResult
from ..retry import retry_after_delay
from ..settings import read_number_from_environment

MAX_SYNCS = 100  # of one question, as its answer and its URL grow with them
MAX_SCHEMAS = 2000  # schemas of one answer: reading them must not stall the event loop
DEFAULT_SCHEMAS = 20  # schemas of a sync, where no more are known of
REQUEST_TIMEOUT = 10.0  # seconds for an answer
# A summary that is stuck could hide an end. So this is how often a waiter believes it before it looks for itself.
DIRECT_POLL_EVERY = (20, 40)
DIRECT_POLL_PERIOD = (60.0, 600.0)  # seconds for which all look for themselves: after one bad answer, and after many


# Only what is needed, and as plain dicts: this is read for every waiter and interval.
class _Schema(TypedDict, total=False):
    execution_id: str | None
    status: str | None


class _Row(TypedDict):
    sync_id: str
    schemas: NotRequired[list[_Schema] | None]


class _Summary(TypedDict):
    data: list[_Row] | None


_summary = TypeAdapter(_Summary)
_row = TypeAdapter(_Row)


class _Waiter:
    __slots__ = ("believes", "rest", "rows", "shown_running", "until", "wakes")

    def __init__(self, rest: BatchableSleep, wakes: asyncio.Future[None], until: float | None) -> None:
        self.rest = rest
        self.wakes = wakes
        self.until = until  # by the loop's clock
        self.rows = max(rest.schemas, DEFAULT_SCHEMAS)
        self.believes = random.randint(*DIRECT_POLL_EVERY)
        self.shown_running = False  # by a batch response

    def wake(self) -> None:
        if not self.wakes.done():
            self.wakes.set_result(None)


class BatchPoller:
    """All who wait in an event loop with equal settings.

    :param send: how to ask.
    """

    def __init__(self, send: Callable[[Request], Awaitable[SendResult]]) -> None:
        self._send = send
        most = read_number_from_environment("POLYTOMIC_TRIGGERER_BATCH", MAX_SYNCS, least=0)
        self._most = max(1, min(most, MAX_SYNCS))
        self._number = 0
        # By when they are due. Who has left meanwhile is passed over when the turn comes.
        self._queue: list[tuple[float, int, _Waiter]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._questions: set[asyncio.Task[None]] = set()
        self._mistrust = 0.0
        self._alone_until = 0.0

    async def sleep(self, step: BatchableSleep) -> bool:
        """Return when it is time to poll the execution.

        :returns: whether a batch response has shown meanwhile that it runs.
        """
        loop = asyncio.get_running_loop()
        until = None if step.until is None else loop.time() + step.until - time.time()
        waiter = _Waiter(step, loop.create_future(), until)
        self._number += 1
        try:
            self._put(waiter, loop.time() + step.seconds)
            await waiter.wakes
            return waiter.shown_running
        finally:
            self._number -= 1
            if not self._number:
                self._end()

    def _end(self) -> None:
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for question in self._questions:
            question.cancel()

    def _put(self, waiter: _Waiter, due: float) -> None:
        due = due if waiter.until is None else min(due, waiter.until)
        heapq.heappush(self._queue, (due, next(self._order), waiter))
        self._set_timer()

    def _set_timer(self) -> None:
        while self._queue and self._queue[0][2].wakes.done():
            heapq.heappop(self._queue)
        if self._timer is not None and (not self._queue or self._timer.when() != self._queue[0][0]):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and self._queue:
            # In a context of its own: the one of a waiter has that waiter's log.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._queue[0][0], self._ask_for_all_due, context=Context())

    def _ask_for_all_due(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while batch := self._due(now):
            if len(batch) == 1:  # for one it saves nothing, and its own look tells more
                batch[0].wake()
            else:
                question = loop.create_task(self._ask_for(batch))
                self._questions.add(question)
                question.add_done_callback(self._questions.discard)
        self._set_timer()

    def _due(self, now: float) -> list[_Waiter]:
        """Some who are due, and others who soon will be: so those who began at different times get into step."""
        most = self._most if now >= self._alone_until else 1
        batch: list[_Waiter] = []
        rows = 0
        wall = time.time()
        while self._queue and len(batch) < most:
            due, _, waiter = self._queue[0]
            if waiter.wakes.done():
                heapq.heappop(self._queue)
                continue
            early = due - now
            if early > 0 and (not batch or early > waiter.rest.pace(wall) / 2):
                break
            if batch and rows + waiter.rows > MAX_SCHEMAS:
                break
            heapq.heappop(self._queue)
            if waiter.until is not None and waiter.until <= now:
                waiter.wake()
                continue
            batch.append(waiter)
            rows += waiter.rows
        return batch

    async def _ask_for(self, batch: list[_Waiter]) -> None:
        asked = asyncio.get_running_loop().time()
        sync_ids = dict.fromkeys(waiter.rest.sync_id for waiter in batch)
        busy = 0.0
        schemas: dict[str, list[_Schema] | None] = {}
        try:
            answer = await self._send(
                bulk_syncs.status_of_many(list(sync_ids)).page().with_timeout(REQUEST_TIMEOUT).request
            )
            if isinstance(answer, Response) and answer.status == 429:
                # A server that has too many questions is not asked a hundred instead.
                busy = retry_after_delay(answer, time.time()) or 1.0
            else:
                schemas = _read(answer)
            self._mistrust = 0.0
        except Exception:  # noqa: BLE001  whatever is wrong, each finds it out
            self._look_alone(asked)
        wall = time.time()
        for waiter in batch:
            rest, known = waiter.rest, schemas.get(waiter.rest.sync_id)
            waiter.believes -= 1
            runs = _runs(rest.execution_id, known)
            waiter.shown_running |= runs
            if waiter.believes > 0 and (busy or runs):
                waiter.rows = len(known) if known else waiter.rows
                self._put(waiter, asked + max(rest.pace(wall), busy))
            else:
                waiter.wake()

    def _look_alone(self, now: float) -> None:
        if now >= self._alone_until:  # several questions at once are one reason
            self._mistrust = min(max(self._mistrust * 2, DIRECT_POLL_PERIOD[0]), DIRECT_POLL_PERIOD[1])
            self._alone_until = now + self._mistrust


def _read(answer: SendResult) -> dict[str, list[_Schema] | None]:
    """What a summary tells of each sync.

    :raises ValueError: it is none.
    """
    if not isinstance(answer, Response) or answer.status != 200:
        raise ValueError("no summary")
    try:
        rows = _summary.validate_json(answer.body)["data"] or []
    except ValidationError:
        rows = _readable_rows(answer.body)
    return {row["sync_id"]: row.get("schemas") for row in rows}


def _readable_rows(body: bytes) -> list[_Row]:
    """The rows of an answer in which another row is unreadable: that one proves nothing, these still do.

    :raises ValueError: there is no list of rows.
    """
    summary = from_json(body)
    if not isinstance(summary, dict) or not isinstance(summary.get("data"), list):
        raise ValueError("no summary")
    rows = []
    for row in summary["data"]:
        with contextlib.suppress(ValidationError):
            rows.append(_row.validate_python(row))
    return rows


def _runs(execution_id: str, schemas: list[_Schema] | None) -> bool:
    """Whether this proves that the execution runs."""
    return schemas is not None and any(
        schema.get("execution_id") == execution_id and schema.get("status") in NON_TERMINAL_STATUSES
        for schema in schemas
    )
