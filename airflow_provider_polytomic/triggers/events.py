"""Watching, for an Airflow asset, how syncs end: whoever has started them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import (
    BaseEventTrigger,
    SharedStreamProducer,
    TriggerEvent,
    asset_state_stores,
)
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.client import AsyncClient
    from airflow_provider_polytomic.api.events.poll import EventFilter, EventWindow, ExecutionEnd, Position

log = logging.getLogger(__name__)

EVENTS = ("completed", "completed_with_errors", "failed", "canceled")
KINDS = ("bulk", "model")
SAVE_INTERVAL = 300.0  # seconds; how often a position is saved when nothing happens
SAVE_TIMEOUT = 10.0  # seconds; how long Airflow may take for it
GATHER_DELAY = 1.0  # seconds in which watchers that have to look further back can join the first of them
# Seconds for the executions after a long absence; Airflow gives up a watcher that has not taken in a look after 300.
CATCH_UP_TIMEOUT = 200.0
LIST_TIMEOUT = 30.0  # seconds for the list of syncs that shows whether a watcher's sync exists
MAX_CONCURRENT_LISTS = 10  # syncs whose executions are asked for at the same time
STORED_MARKER = "stored"  # among the arguments that Airflow stores, and in no DAG


class PolytomicSyncEventTrigger(BaseEventTrigger):
    """Fires each time that an execution of a sync has ended, whoever started it: for an ``AssetWatcher`` (Airflow ≥ 3).

    The payload of the event is a dict: ``event_id``, ``type`` and ``created_at`` as in Polytomic's event, ``kind``
    (``bulk`` or ``model``), ``event`` (one of ``events``), ``sync_id``, ``sync_name``, ``execution_id``,
    ``source_connection_id``, ``destination_connection_id``, ``target_connection_id``, ``trigger_source``, ``error``;
    None where Polytomic says nothing. The API call behind it is ``GET /api/events``: one for all watchers with the
    same connection and ``poke_interval`` (Airflow ≥ 3.3), or one for each.

    :param sync_id: only executions of this sync. None: of any. A sync that the organization does not have is warned
        of once.
    :param sync_name: only executions of syncs that have this name; excludes ``sync_id``.
    :param kind: only ``bulk`` or only ``model`` syncs. None: both.
    :param events: which ends: ``completed``, ``completed_with_errors``, ``failed``, ``canceled``; one or several.
    :param trigger_source: only executions that were started by this (for instance ``schedule``), in the words of
        Polytomic's events. They tell it of bulk syncs that were not cancelled, so it needs ``kind="bulk"``.
    :param polytomic_conn_id: the Airflow connection.
    :param poke_interval: time between two looks, in seconds or as a timedelta.
    :raises ValueError: an argument is wrong; the message names it.
    """

    def __init__(
        self,
        *,
        sync_id: str | None = None,
        sync_name: str | None = None,
        kind: str | None = None,
        events: str | Sequence[str] = "completed",
        trigger_source: str | None = None,
        polytomic_conn_id: str = PolytomicHook.default_conn_name,
        poke_interval: float | timedelta = 60,
        **unknown: Any,
    ) -> None:
        super().__init__()
        _check_unknown(unknown)
        self.sync_id = _text("sync_id", sync_id)
        if self.sync_id is not None:
            self.sync_id = validation.canonical_id("sync_id", self.sync_id)
        self.sync_name = _text("sync_name", sync_name)
        if self.sync_id is not None and self.sync_name is not None:
            raise ValueError("give sync_id or sync_name, or none of them for any sync, but not both")
        self.kind = validation.choice("kind", _text("kind", kind), KINDS)
        self.events = _events(events)
        self.trigger_source = _text("trigger_source", trigger_source)
        if self.trigger_source is not None and (self.kind != "bulk" or "canceled" in self.events):
            raise ValueError(
                "trigger_source needs kind='bulk', and events without 'canceled': Polytomic tells it of no others"
            )
        conn_id = _text("polytomic_conn_id", polytomic_conn_id)
        if conn_id is None:
            raise ValueError("polytomic_conn_id must be the id of a connection, not None")
        self.polytomic_conn_id = conn_id
        interval = validation.seconds("poke_interval", poke_interval)
        if interval is None:
            raise ValueError("poke_interval must be more than 0 seconds, not None")
        self.poke_interval = interval
        self._position: Position | None = None
        self._save_after = 0.0

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow_provider_polytomic.triggers.events.PolytomicSyncEventTrigger",
            {**self._watched_for, "poke_interval": self.poke_interval, STORED_MARKER: True},
        )

    @property
    def _watched_for(self) -> dict[str, Any]:
        return {
            "sync_id": self.sync_id,
            "sync_name": self.sync_name,
            "kind": self.kind,
            "events": list(self.events),
            "trigger_source": self.trigger_source,
            "polytomic_conn_id": self.polytomic_conn_id,
        }

    # --- what Airflow calls

    def shared_stream_key(self) -> tuple[str, str, float]:
        return ("polytomic-events", self.polytomic_conn_id, self.poke_interval)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> EventPoller:
        return EventPoller(PolytomicHook(kwargs["polytomic_conn_id"]), kwargs["poke_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[EventBatch]) -> AsyncIterator[TriggerEvent]:
        async for look in shared_stream:
            new = await self._new(look)
            for ended in new:
                yield TriggerEvent(dict(ended.data))
            # Only what Airflow has stored may be passed over after a restart.
            if self._position is not None and (new or self._position.polled_at >= self._save_after):
                look.when_stored(functools.partial(self._save, self._position))

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch alone: Airflow before 3.3 shares nothing, and stores no position."""
        looks = self.create_shared_stream_producer(self.serialize()[1])
        try:
            async for event in self.filter_shared_stream(look async for look, _ in looks.open_stream()):
                yield event
        finally:
            await looks.aclose()

    # --- what is new

    async def _new(self, look: EventBatch) -> list[ExecutionEnd]:
        try:
            return await self._judge(look)
        except Exception as error:  # noqa: BLE001  a watcher has no end: it considers the next look instead
            _warn(f"{self._says}: what has ended cannot be told yet", error)
            return []

    async def _judge(self, look: EventBatch) -> list[ExecutionEnd]:
        from airflow_provider_polytomic.api.events import poll

        window, wanted = look.window, self._wanted
        if self._position is None:
            self._position = await self._stored()
        if self._position is None:
            self._position = poll.initial_position(window, wanted)
            log.info("%s: beginning now", self._says)
            await self._warn_if_unknown(look)
            return []
        if poll.has_gap(self._position, window):
            look.request_floor(self._position.floor)
            return []
        since = poll.events_lost_since(self._position, window)
        executions = [] if since is None else await self._executions(look, since)
        new, position = poll.advance(self._position, window, wanted, executions)
        if new and (stored := await self._stored()):
            # Another triggerer may have had this watcher meanwhile: what it has told is not told again.
            new, position = poll.advance(self._position.merged_with(stored), window, wanted, executions)
        self._position = position
        return new

    async def _warn_if_unknown(self, look: EventBatch) -> None:
        """Warn once when the organization has no such sync: nothing else shows that a watcher is misspelled."""
        wanted = self._wanted
        if wanted.sync_id is None and wanted.sync_name is None:
            return
        if any(wanted.matches_sync(ended.data) for ended in look.window.ends):
            return
        syncs = await look.list_syncs()
        if syncs is not None and not any(wanted.matches_sync(sync) for sync in syncs):
            log.warning("%s: the organization has no such sync, so nothing fires until it has one", self._says)

    @property
    def _wanted(self) -> EventFilter:
        from airflow_provider_polytomic.api.events.poll import EventFilter

        return EventFilter(self.kind, self.sync_id, self.sync_name, self.events, self.trigger_source)

    @property
    def _says(self) -> str:
        sync = self.sync_id or (repr(self.sync_name) if self.sync_name else "any sync")
        return f"Watching {self.kind or ''}{' ' if self.kind else ''}{sync} ({', '.join(self.events)})"

    async def _executions(self, look: EventBatch, since: float) -> list[ExecutionEnd]:
        """What ended after ``since``: the events of it may be gone."""
        if self.trigger_source is not None:
            log.warning("%s: events may be gone, and executions do not tell their trigger_source", self._says)
            return []
        log.warning("%s: events may be gone, so the executions of the syncs are looked at", self._says)
        try:
            return await asyncio.wait_for(self._ended_since(look, since), CATCH_UP_TIMEOUT)
        except asyncio.TimeoutError:
            log.error("%s: the executions were not read within %d s: some may be missed", self._says, CATCH_UP_TIMEOUT)
            return []

    async def _ended_since(self, look: EventBatch, since: float) -> list[ExecutionEnd]:
        from airflow_provider_polytomic.api.events import poll

        few = asyncio.Semaphore(MAX_CONCURRENT_LISTS)

        async def ended(kind: Any, sync: Any) -> list[ExecutionEnd]:
            async with few:
                found: list[ExecutionEnd] = await look.run(poll.list_ended_since(kind, sync, since))
                return found

        syncs = await look.run(poll.find_watched_syncs(self._wanted))
        asking = [asyncio.ensure_future(ended(*sync)) for sync in syncs]
        try:
            return [one for found in await asyncio.gather(*asking) for one in found]
        finally:
            for question in asking:  # of which one may have failed
                question.cancel()

    # --- what is kept

    @property
    def _key(self) -> str:
        """One asset can have several watchers. What only shapes the waiting is no part of it."""
        told = json.dumps(self._watched_for, sort_keys=True).encode()
        return f"polytomic.{hashlib.sha256(told).hexdigest()[:16]}"

    async def _stored(self) -> Position | None:
        """The position that was saved last; None: there is none, or nowhere to save one."""
        from airflow_provider_polytomic.api.events.poll import Position

        found = None
        for store in asset_state_stores(self):
            value = await store.aget(self._key)
            if value is None:
                continue
            try:
                position = Position.from_json(value)
            except ValueError as error:
                log.warning("%s: what is stored is passed over: %s", self._says, error)
                continue
            found = position if found is None else found.merged_with(position)
        return found

    async def _save(self, position: Position) -> None:
        try:
            if stored := await self._stored():
                position = position.merged_with(stored)
            for store in asset_state_stores(self):
                await store.aset(self._key, position.to_json())
            self._save_after = position.polled_at + SAVE_INTERVAL
        except Exception as error:  # noqa: BLE001  the next one is saved as well
            _warn(f"{self._says}: the position cannot be saved", error)


class EventBatch:
    """One look at the events, on its way to the watchers.

    :param window: what it showed.
    :param request_floor: ask that the next look goes back as far as this.
    :param run: carry out a plan, as the look itself was.
    """

    def __init__(
        self, window: EventWindow, request_floor: Callable[[float], None], run: Callable[[Any], Awaitable[Any]]
    ) -> None:
        self.window = window
        self.request_floor = request_floor
        self.run = run
        self._when_stored: list[Callable[[], Awaitable[None]]] = []
        self._listing = asyncio.Lock()
        self._listed = False
        self._syncs: list[dict[str, Any]] | None = None

    async def list_syncs(self) -> list[dict[str, Any]] | None:
        """All syncs of the organization, listed once for all watchers that ask; None: they could not be listed."""
        from airflow_provider_polytomic.api.events import poll

        async with self._listing:
            if not self._listed:
                self._listed = True
                try:
                    self._syncs = await asyncio.wait_for(self.run(poll.list_syncs()), LIST_TIMEOUT)
                except Exception as error:  # noqa: BLE001  it only serves a warning
                    log.debug("The syncs could not be listed: %s", error)
        return self._syncs

    def when_stored(self, what: Callable[[], Awaitable[None]]) -> None:
        """Do this when Airflow has stored all that came of the look, in all watchers."""
        self._when_stored.append(what)

    async def stored(self) -> None:
        await asyncio.gather(*(what() for what in self._when_stored))


class EventPoller(SharedStreamProducer):
    """Looks at the events of an organization, again and again, for all watchers with the same connection.

    It goes on for ever: whatever is wrong it warns of, reads the connection again, and looks once more.

    :param hook: of the connection.
    :param poke_interval: seconds between two looks.
    """

    def __init__(self, hook: PolytomicHook, poke_interval: float) -> None:
        self._hook = hook
        self._says = f"Polytomic's events, by connection {hook.polytomic_conn_id!r},"
        self._poke_interval = poke_interval
        self._client: AsyncClient | None = None
        self._since: float | None = None
        self._requested_floor = float("inf")
        self._asked = asyncio.Event()
        self._failures = 0

    async def open_stream(self) -> AsyncIterator[tuple[EventBatch, EventBatch]]:
        await asyncio.to_thread(_import_api)
        while True:
            look = await self.poll()
            if look is not None:
                yield look, look
            await self._pause()

    async def advance(self, batch: Sequence[Any]) -> None:
        """Airflow has stored all events that came of these looks, or has given up watchers over it."""
        for item in batch:
            # A watcher that was given up begins again where it was saved last: that must stay as it is.
            if item.outcome.failed == 0:
                with contextlib.suppress(asyncio.TimeoutError):  # a triggerer that stops answers nobody
                    await asyncio.wait_for(item.broker_payload.stored(), SAVE_TIMEOUT)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def poll(self) -> EventBatch | None:
        """Look once; None: it failed."""
        from airflow_provider_polytomic.api.events.poll import poll_events

        back_to, self._requested_floor = self._requested_floor, float("inf")
        since = None if self._since is None else min(self._since, back_to)
        try:
            if self._client is None:
                self._client = await self._hook.async_client()
            elif self._failures:
                await self._client.reload_credentials()  # it may have been mended meanwhile
            window = await self._client.run(poll_events(since))
        except Exception as error:  # noqa: BLE001  nothing ends it
            self._failures += 1
            if self._failures & (self._failures - 1) == 0:  # the 1st, the 2nd, the 4th, the 8th …
                _warn(f"{self._says} cannot be read, {self._failures} in a row", error)
            return None
        if self._failures:
            log.info("%s can be read again", self._says)
        self._since, self._failures = window.floor, 0
        return EventBatch(window, self._request_floor, self._client.run)

    def _request_floor(self, floor: float) -> None:
        if floor < self._requested_floor:
            self._requested_floor = floor
            self._asked.set()

    async def _pause(self) -> None:
        if self._failures:
            await asyncio.sleep(self._poke_interval)
        else:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._poke_interval)
                await asyncio.sleep(min(GATHER_DELAY, self._poke_interval))
        self._asked.clear()


def _check_unknown(unknown: dict[str, Any]) -> None:
    """What another release has stored may hold more than this one knows. In a DAG it is a slip of the pen.

    :raises TypeError: naming the arguments that do not exist.
    """
    stored = unknown.pop(STORED_MARKER, False)
    if not unknown:
        return
    names = ", ".join(map(repr, unknown))
    if not stored:
        raise TypeError(f"PolytomicSyncEventTrigger has no argument {names}")
    log.warning("A watcher that another release has stored has arguments that this one passes over: %s", names)


def _text(name: str, value: Any) -> str | None:
    """Text that is not empty and no template: nothing renders the arguments of a watcher."""
    if value is not None and (
        not isinstance(value, str) or validation.blank_to_none(value) is None or validation.is_templated(value)
    ):
        raise ValueError(f"{name} must be text that is not empty and no template, not {validation.format_value(value)}")
    return value


def _events(value: Any) -> tuple[str, ...]:
    names = validation.items("events", value) or []
    unknown = [name for name in names if name not in EVENTS]
    if unknown or not names:
        raise ValueError(f"events must be one or several of {', '.join(EVENTS)}, not {validation.format_value(value)}")
    return tuple(name for name in EVENTS if name in names)  # equal watchers are one, however they were written


def _warn(what: str, error: Exception) -> None:
    log.warning("%s: %s: %s", what, type(error).__name__, error)
    log.debug("%s", what, exc_info=error)


def _import_api() -> None:
    from airflow_provider_polytomic.api import client  # noqa: F401
    from airflow_provider_polytomic.api.events import poll  # noqa: F401
    from airflow_provider_polytomic.api.transport import aiohttp_transport  # noqa: F401
