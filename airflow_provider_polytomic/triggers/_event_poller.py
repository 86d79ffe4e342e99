"""Polling of Polytomic's events, shared by all asset watchers with the same connection and poll interval."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic._airflow.compat import SharedStreamProducer

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.client import AsyncClient
    from airflow_provider_polytomic.api.events.poll import EventWindow
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

log = logging.getLogger(__name__)

SAVE_TIMEOUT = 10.0  # seconds for saving the positions of all watchers
GATHER_DELAY = 1.0  # seconds before an early poll, so that other watchers with a gap can join it
LIST_TIMEOUT = 30.0  # seconds for the list of syncs, which only serves a warning


class EventBatch:
    """The result of one poll, as each watcher receives it.

    :param window: the events.
    :param request_floor: makes the next poll start at this time (seconds since the epoch) or earlier.
    :param run: runs a plan with the client of the poll.
    """

    def __init__(
        self, window: EventWindow, request_floor: Callable[[float], None], run: Callable[[Any], Awaitable[Any]]
    ) -> None:
        self.window = window
        self.request_floor = request_floor
        self.run = run
        self._stored_callbacks: list[Callable[[], Awaitable[None]]] = []
        self._list_lock = asyncio.Lock()
        self._is_listed = False
        self._syncs: list[dict[str, Any]] | None = None

    async def list_syncs(self) -> list[dict[str, Any]] | None:
        """List all syncs of the organization, once for all watchers; None when the requests failed."""
        from airflow_provider_polytomic.api.events import poll

        async with self._list_lock:
            if not self._is_listed:
                self._is_listed = True
                try:
                    self._syncs = await asyncio.wait_for(self.run(poll.list_syncs()), LIST_TIMEOUT)
                except Exception as error:  # noqa: BLE001  the list only serves a warning
                    log.debug("Could not list the syncs: %s", error)
        return self._syncs

    def add_stored_callback(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Register a function to call when Airflow has stored the events that all watchers fired for this batch."""
        self._stored_callbacks.append(callback)

    async def run_stored_callbacks(self) -> None:
        """Call the registered functions."""
        await asyncio.gather(*(callback() for callback in self._stored_callbacks))


class EventPoller(SharedStreamProducer):
    """Polls the events of an organization for all watchers with the same connection.

    It never stops by itself. After a failure it logs a warning, reads the connection again, and polls again.

    :param hook: of the connection.
    :param poke_interval: seconds between two polls.
    """

    def __init__(self, hook: PolytomicHook, poke_interval: float) -> None:
        self._hook = hook
        self._source = f"the events of connection {hook.polytomic_conn_id!r}"
        self._poke_interval = poke_interval
        self._client: AsyncClient | None = None
        self._since: float | None = None
        self._requested_floor = float("inf")
        self._is_early_poll_requested = asyncio.Event()
        self._failures = 0

    async def open_stream(self) -> AsyncIterator[tuple[EventBatch, EventBatch]]:
        """Yield the batches. Airflow calls this; the first item of each pair is what the watchers receive."""
        await asyncio.to_thread(_import_api)
        while True:
            batch = await self.poll()
            if batch is not None:
                yield batch, batch
            await self._sleep()

    async def advance(self, batch: Sequence[Any]) -> None:
        """Save the positions of watchers. Airflow calls this when it has stored the events of these batches."""
        for item in batch:
            # Airflow restarts a watcher that failed. It must continue from the position before this batch.
            if item.outcome.failed == 0:
                with contextlib.suppress(asyncio.TimeoutError):  # a triggerer that stops no longer responds
                    await asyncio.wait_for(item.broker_payload.run_stored_callbacks(), SAVE_TIMEOUT)

    async def aclose(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.close()

    async def poll(self) -> EventBatch | None:
        """Poll once (``GET /api/events``); None when the requests failed."""
        from airflow_provider_polytomic.api.events.poll import poll_events

        requested_floor, self._requested_floor = self._requested_floor, float("inf")
        since = None if self._since is None else min(self._since, requested_floor)
        try:
            if self._client is None:
                self._client = await self._hook.async_client()
            elif self._failures:
                await self._client.reload_credentials()  # the connection may have been corrected meanwhile
            window = await self._client.run(poll_events(since))
        except Exception as error:  # noqa: BLE001  the next poll may succeed
            self._failures += 1
            if self._failures & (self._failures - 1) == 0:  # warn on failures 1, 2, 4, 8 …
                warn(f"Could not read {self._source}, {self._failures} times in a row", error)
            return None
        if self._failures:
            log.info("Read %s again after %d failures.", self._source, self._failures)
        self._since, self._failures = window.floor, 0
        return EventBatch(window, self._request_floor, self._client.run)

    def _request_floor(self, floor: float) -> None:
        if floor < self._requested_floor:
            self._requested_floor = floor
            self._is_early_poll_requested.set()

    async def _sleep(self) -> None:
        if self._failures:
            await asyncio.sleep(self._poke_interval)
        else:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._is_early_poll_requested.wait(), self._poke_interval)
                await asyncio.sleep(min(GATHER_DELAY, self._poke_interval))
        self._is_early_poll_requested.clear()


def warn(message: str, error: Exception) -> None:
    """Log an error as a warning, and its traceback on level debug."""
    log.warning("%s: %s: %s", message, type(error).__name__, error)
    log.debug("%s", message, exc_info=error)


def _import_api() -> None:
    """Import what polling needs, in a thread: the imports would block the triggerer's event loop."""
    from airflow_provider_polytomic.api import client  # noqa: F401
    from airflow_provider_polytomic.api.events import poll  # noqa: F401
    from airflow_provider_polytomic.api.transport import aiohttp_transport  # noqa: F401
