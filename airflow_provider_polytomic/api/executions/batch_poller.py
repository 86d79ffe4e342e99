"""Batch status polling: one request covers up to 100 executions of bulk syncs.

A batch response (``GET /api/bulk/syncs/status``) can prove that an execution has not ended, and nothing else. While it
does, the waiting plan keeps sleeping. In every other case (the response does not list the execution, the request fails,
only one plan is waiting, or every 20 to 40 batch polls) the plan is woken and polls its execution directly. It also
logs failures itself, so nothing is logged here.
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
from ..settings import MAX_BATCH_SIZE

MAX_SCHEMAS_PER_POLL = 2000  # per batch response, because parsing blocks the event loop
DEFAULT_SCHEMA_COUNT = 20  # assumed per sync until more are known
BATCH_POLL_TIMEOUT = 10.0  # seconds
# Batch polls before a direct poll (random, from, to): a stale batch response could hide an end.
DIRECT_POLL_EVERY = (20, 40)
BATCH_SUSPENSION = (60.0, 600.0)  # seconds without batch polls: after the first unusable response, and at most


# Only the fields that are needed, as plain dicts: responses are parsed once per interval for every waiting plan.
class _Schema(TypedDict, total=False):
    execution_id: str | None
    status: str | None


class _Row(TypedDict):
    sync_id: str
    schemas: NotRequired[list[_Schema] | None]


class _Body(TypedDict):
    data: list[_Row] | None


_body = TypeAdapter(_Body)
_row = TypeAdapter(_Row)


class _Waiter:
    """A plan that sleeps.

    :ivar woken: resolved when the plan has to poll directly.
    :ivar wake_at: when the sleep ends in any case, by the event loop's clock.
    :ivar schema_count: how many schemas the sync has, as far as is known.
    :ivar batch_polls_left: how many batch polls may come before a direct poll.
    :ivar seen_non_terminal: whether a batch response has shown that the execution has not ended.
    """

    __slots__ = ("batch_polls_left", "schema_count", "seen_non_terminal", "step", "wake_at", "woken")

    def __init__(self, step: BatchableSleep, woken: asyncio.Future[None], wake_at: float | None) -> None:
        self.step = step
        self.woken = woken
        self.wake_at = wake_at
        self.schema_count = max(step.schema_count, DEFAULT_SCHEMA_COUNT)
        self.batch_polls_left = random.randint(*DIRECT_POLL_EVERY)
        self.seen_non_terminal = False

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class BatchPoller:
    """Polls for all plans of one event loop whose clients have equal settings.

    :param send: sends a request.
    :param max_syncs: syncs per batch poll, at most :data:`.settings.MAX_BATCH_SIZE`; 1 disables batch polling.
    :param on_poll: called with the number of syncs in each batch poll. It must not block or raise.
    """

    def __init__(
        self,
        send: Callable[[Request], Awaitable[SendResult]],
        max_syncs: int = MAX_BATCH_SIZE,
        on_poll: Callable[[int], None] | None = None,
    ) -> None:
        self._send = send
        self._max_syncs = max_syncs
        self._on_poll = on_poll
        self._waiting = 0
        # Ordered by due time. A waiter that has left stays until it is due.
        self._queue: list[tuple[float, int, _Waiter]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._polls: set[asyncio.Task[None]] = set()
        self._direct_period = 0.0
        self._direct_until = 0.0

    async def sleep(self, step: BatchableSleep) -> bool:
        """Return when it is time to poll the execution directly.

        :returns: whether a batch response has shown in the meantime that it has not ended.
        """
        loop = asyncio.get_running_loop()
        wake_at = None if step.deadline is None else loop.time() + step.deadline - time.time()
        waiter = _Waiter(step, loop.create_future(), wake_at)
        self._waiting += 1
        try:
            self._enqueue(waiter, loop.time() + step.seconds)
            await waiter.woken
            return waiter.seen_non_terminal
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._stop()

    def _stop(self) -> None:
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for poll in self._polls:
            poll.cancel()

    def _enqueue(self, waiter: _Waiter, due: float) -> None:
        due = due if waiter.wake_at is None else min(due, waiter.wake_at)
        heapq.heappush(self._queue, (due, next(self._order), waiter))
        self._set_timer()

    def _set_timer(self) -> None:
        while self._queue and self._queue[0][2].woken.done():
            heapq.heappop(self._queue)
        if self._timer is not None and (not self._queue or self._timer.when() != self._queue[0][0]):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and self._queue:
            # In an empty context: with the current one, log lines would go to the log of this plan's task.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._queue[0][0], self._poll_all_due, context=Context())

    def _poll_all_due(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while batch := self._take_batch(now):
            if len(batch) == 1:  # a direct poll costs the same, and returns more
                batch[0].wake()
            else:
                poll = loop.create_task(self._poll(batch))
                self._polls.add(poll)
                poll.add_done_callback(self._polls.discard)
        self._set_timer()

    def _take_batch(self, now: float) -> list[_Waiter]:
        """Take waiters that are due, and add those that are due soon, so that their polls fall into step."""
        max_syncs = self._max_syncs if now >= self._direct_until else 1
        batch: list[_Waiter] = []
        schema_count = 0
        wall_time = time.time()
        while self._queue and len(batch) < max_syncs:
            due, _, waiter = self._queue[0]
            if waiter.woken.done():
                heapq.heappop(self._queue)
                continue
            early = due - now
            if early > 0 and (not batch or early > waiter.step.interval(wall_time) / 2):
                break
            if batch and schema_count + waiter.schema_count > MAX_SCHEMAS_PER_POLL:
                break
            heapq.heappop(self._queue)
            if waiter.wake_at is not None and waiter.wake_at <= now:
                waiter.wake()
                continue
            batch.append(waiter)
            schema_count += waiter.schema_count
        return batch

    async def _poll(self, batch: list[_Waiter]) -> None:
        sent_at = asyncio.get_running_loop().time()
        sync_ids = dict.fromkeys(waiter.step.sync_id for waiter in batch)
        if self._on_poll is not None:
            self._on_poll(len(sync_ids))
        retry_after = 0.0
        schemas: dict[str, list[_Schema] | None] = {}
        try:
            response = await self._send(
                bulk_syncs.status_of_many(list(sync_ids)).page().with_timeout(BATCH_POLL_TIMEOUT).request
            )
            if isinstance(response, Response) and response.status == 429:
                # Direct polls would send many requests to a server that is throttling.
                retry_after = retry_after_delay(response, time.time()) or 1.0
            else:
                schemas = _parse(response)
            self._direct_period = 0.0
        except Exception:  # noqa: BLE001  each plan finds the cause with its direct poll
            self._suspend(sent_at)
        wall_time = time.time()
        for waiter in batch:
            sync_schemas = schemas.get(waiter.step.sync_id)
            waiter.batch_polls_left -= 1
            is_non_terminal = _is_non_terminal(waiter.step.execution_id, sync_schemas)
            waiter.seen_non_terminal |= is_non_terminal
            if waiter.batch_polls_left > 0 and (retry_after or is_non_terminal):
                waiter.schema_count = len(sync_schemas) if sync_schemas else waiter.schema_count
                self._enqueue(waiter, sent_at + max(waiter.step.interval(wall_time), retry_after))
            else:
                waiter.wake()

    def _suspend(self, now: float) -> None:
        """Suspend batch polls for a period that doubles with each unusable response."""
        if now >= self._direct_until:  # concurrent failures count once
            self._direct_period = min(max(self._direct_period * 2, BATCH_SUSPENSION[0]), BATCH_SUSPENSION[1])
            self._direct_until = now + self._direct_period


def _parse(response: SendResult) -> dict[str, list[_Schema] | None]:
    """The schemas of each sync in a batch response.

    :raises ValueError: it is not a batch response.
    """
    if not isinstance(response, Response) or response.status != 200:
        raise ValueError("not a batch response")
    try:
        rows = _body.validate_json(response.body)["data"] or []
    except ValidationError:
        rows = _valid_rows(response.body)
    return {row["sync_id"]: row.get("schemas") for row in rows}


def _valid_rows(body: bytes) -> list[_Row]:
    """The valid rows of a response that also contains invalid ones.

    :raises ValueError: there is no list of rows.
    """
    content = from_json(body)
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise ValueError("not a batch response")
    rows = []
    for row in content["data"]:
        with contextlib.suppress(ValidationError):
            rows.append(_row.validate_python(row))
    return rows


def _is_non_terminal(execution_id: str, schemas: list[_Schema] | None) -> bool:
    """Whether a sync's schemas prove that the execution has not ended."""
    return schemas is not None and any(
        schema.get("execution_id") == execution_id and schema.get("status") in NON_TERMINAL_STATUSES
        for schema in schemas
    )
