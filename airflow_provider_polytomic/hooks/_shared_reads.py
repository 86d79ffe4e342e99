"""Reads of connections in the triggerer, shared by the triggers of an event loop.

When a triggerer starts, it starts up to a thousand triggers at once. If each read its connection, Airflow's API would
have to respond a thousand times, and the event loop would stall.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.settings import Settings

MAX_AGE = 60.0  # seconds after its beginning in which a read can be shared


class _Read:
    """One read, which may have ended.

    :ivar began: seconds since the epoch.
    """

    def __init__(self, read: Callable[[], Awaitable[Settings]]) -> None:
        self.began = time.time()
        self.task = asyncio.ensure_future(read())
        self.task.add_done_callback(_retrieve_error)

    @property
    def has_failed(self) -> bool:
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)


_reads: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Any, _Read]] = WeakKeyDictionary()


class SharedReader:
    """Reads the settings of one client, with one read for all clients that need the same settings.

    The first read is not older than ``not_before``. A further one follows a rejected key, so it begins after that.

    :param key: equal for equal settings.
    :param read: reads the settings.
    :param not_before: when the read may have begun, in seconds since the epoch.
    """

    def __init__(self, key: Any, read: Callable[[], Awaitable[Settings]], not_before: float) -> None:
        self._key = key
        self._read = read
        self._not_before = not_before
        self._has_settings = False

    async def __call__(self) -> Settings:
        if self._has_settings:
            self._not_before, self._has_settings = time.time(), False
        read = self._find_or_begin().task
        # A client that is canceled must not cancel the read of the others. With `shield`, Python 3.14 would log the
        # error of a read that all clients have left.
        await asyncio.wait([read])
        settings = read.result()
        self._has_settings = True
        return settings

    def _find_or_begin(self) -> _Read:
        loop, now = asyncio.get_running_loop(), time.time()
        reads = _reads.setdefault(loop, {})
        found = reads.get(self._key)
        # The clock of the worker that named the time may be ahead.
        oldest = max(min(self._not_before, now), now - MAX_AGE)
        if found is None or found.has_failed or found.began < oldest:
            found = reads[self._key] = _Read(self._read)
            loop.call_later(MAX_AGE, _forget, reads, self._key, found, context=Context())
        return found


def _forget(reads: dict[Any, _Read], key: Any, read: _Read) -> None:
    if reads.get(key) is read:
        del reads[key]


def _retrieve_error(task: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging an error that no client waits for: all of them may have been canceled."""
    if not task.cancelled():
        task.exception()
