"""The trigger for asset watchers, which fires when executions of syncs end."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import (
    BaseEventTrigger,
    TriggerEvent,
    asset_state_stores,
)
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.types import EventName, KindName

from ._event_poller import EventBatch, EventPoller, warn

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.events.poll import EventFilter, ExecutionEnd, Position

log = logging.getLogger(__name__)

EVENTS: tuple[EventName, ...] = get_args(EventName)
SAVE_INTERVAL = 300.0  # seconds between two saves of an unchanged position
# Seconds to list executions when events may have expired. Airflow fails a watcher that takes 300 s for a batch.
CATCH_UP_TIMEOUT = 200.0
MAX_CONCURRENT_LISTS = 10  # syncs whose executions are listed at the same time
# Seconds in which the scheduler has usually started the DAG runs of an event. Up to Airflow 3.3, an event that arrives
# earlier after another one has no run of its own: the run of the event after it contains both.
RUN_CREATION_TIME = 10.0
STORED_MARKER = "stored"  # an argument that only serialized triggers have


class PolytomicSyncEventTrigger(BaseEventTrigger):
    """Trigger of an ``AssetWatcher`` (Airflow ≥ 3) that fires each time an execution of a sync ends.

    It does not matter what started the execution. The payload of the event is a dict: ``event_id``, ``type`` and
    ``created_at`` as in Polytomic's event, ``kind`` (``bulk`` or ``model``), ``event`` (one of ``events``),
    ``sync_id``, ``sync_name``, ``execution_id``, ``source_connection_id``, ``destination_connection_id``,
    ``target_connection_id``, ``trigger_source``, ``error``. A value is None if Polytomic does not report it.

    The API call is ``GET /api/events``. Since Airflow 3.3, all watchers with the same connection and
    ``poke_interval`` share it; before, each watcher makes its own.

    :param sync_id: only executions of this sync; default: of any. If the organization has no such sync, the trigger
        logs one warning.
    :param sync_name: only executions of syncs with this name; excludes ``sync_id``.
    :param kind: only ``bulk`` or only ``model`` syncs; default: both.
    :param events: one or several of ``completed``, ``completed_with_errors``, ``failed``, ``canceled``.
    :param trigger_source: only executions started by this source, for instance ``schedule``, as named in Polytomic's
        events. These report it only for bulk syncs that were not canceled, so it requires ``kind="bulk"`` and
        ``events`` without ``canceled``.
    :param polytomic_conn_id: id of the Airflow connection.
    :param poke_interval: time between two polls, in seconds or as a timedelta.
    :raises ValueError: an argument is invalid. The message names it.
    """

    def __init__(
        self,
        *,
        sync_id: str | None = None,
        sync_name: str | None = None,
        kind: KindName | None = None,
        events: EventName | Sequence[EventName] = "completed",
        trigger_source: str | None = None,
        polytomic_conn_id: str = PolytomicHook.default_conn_name,
        poke_interval: float | timedelta = 60,
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        _check_unknown(unknown)
        self.sync_id = _text("sync_id", sync_id)
        if self.sync_id is not None:
            self.sync_id = validation.canonical_id("sync_id", self.sync_id)
        self.sync_name = _text("sync_name", sync_name)
        if self.sync_id is not None and self.sync_name is not None:
            raise ValueError("sync_id and sync_name exclude each other: pass one of them, or neither for any sync")
        self.kind = validation.choice("kind", _text("kind", kind), get_args(KindName))
        self.events = _events(events)
        self.trigger_source = _text("trigger_source", trigger_source)
        if self.trigger_source is not None and (self.kind != "bulk" or "canceled" in self.events):
            raise ValueError(
                "trigger_source requires kind='bulk' and events without 'canceled': "
                "Polytomic reports it for no other events"
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
        self._fired_at = -math.inf  # by the monotonic clock

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which Airflow creates the trigger again."""
        return (
            "airflow_provider_polytomic.triggers.events.PolytomicSyncEventTrigger",
            {**self._filter_arguments, "poke_interval": self.poke_interval, STORED_MARKER: True},
        )

    @property
    def _filter_arguments(self) -> dict[str, Any]:
        return {
            "sync_id": self.sync_id,
            "sync_name": self.sync_name,
            "kind": self.kind,
            "events": list(self.events),
            "trigger_source": self.trigger_source,
            "polytomic_conn_id": self.polytomic_conn_id,
        }

    # --- called by Airflow

    def shared_stream_key(self) -> tuple[str, str, float]:
        """Return the key under which watchers share their polls."""
        return ("polytomic-events", self.polytomic_conn_id, self.poke_interval)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> EventPoller:
        """Create the poller for all watchers with the same key."""
        return EventPoller(PolytomicHook(kwargs["polytomic_conn_id"]), kwargs["poke_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[EventBatch]) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each execution that has ended and matches the arguments."""
        async for batch in shared_stream:
            new = await self._find_new(batch)
            for end in new:
                if end is new[-1]:
                    await self._wait_for_runs()
                self._fired_at = time.monotonic()
                yield TriggerEvent(dict(end.data))
            # Not before Airflow has stored the events: after a restart, those before the position are skipped.
            if self._position is not None and (new or self._position.polled_at >= self._save_after):
                batch.add_stored_callback(functools.partial(self._save, self._position))

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for this watcher only. Airflow before 3.3 calls this; it shares no polls and stores no position."""
        poller = self.create_shared_stream_producer(self.serialize()[1])
        try:
            async for event in self.filter_shared_stream(batch async for batch, _ in poller.open_stream()):
                yield event
        finally:
            await poller.aclose()

    async def _wait_for_runs(self) -> None:
        """Wait until the scheduler has started the runs of earlier events, so that the next event gets its own run.

        Without the last event of a batch, nothing would start a run for those before it until another execution ends.
        """
        pause = min(RUN_CREATION_TIME, self.poke_interval)
        await asyncio.sleep(max(0.0, self._fired_at + pause - time.monotonic()))

    # --- new ends

    async def _find_new(self, batch: EventBatch) -> list[ExecutionEnd]:
        try:
            return await self._advance_position(batch)
        except Exception as error:  # noqa: BLE001  a watcher must not fail: the next batch contains the ends, too
            warn(f"{self._label}: could not determine yet which executions have ended", error)
            return []

    async def _advance_position(self, batch: EventBatch) -> list[ExecutionEnd]:
        from airflow_provider_polytomic.api.events import poll

        window, event_filter = batch.window, self._event_filter
        if self._position is None:
            self._position = await self._read_stored()
        if self._position is None:
            self._position = poll.initial_position(window, event_filter)
            log.info("%s: starting from now.", self._label)
            await self._warn_if_unknown(batch)
            return []
        if poll.has_gap(self._position, window):
            batch.request_floor(self._position.floor)
            return []
        since = poll.events_lost_since(self._position, window)
        executions = [] if since is None else await self._list_executions(batch, since)
        new, position = poll.advance(self._position, window, event_filter, executions)
        if new and (stored := await self._read_stored()):
            # Another triggerer may have run this watcher meanwhile. Its events must not fire again.
            new, position = poll.advance(self._position.merged_with(stored), window, event_filter, executions)
        self._position = position
        return new

    async def _warn_if_unknown(self, batch: EventBatch) -> None:
        """Warn when the organization has no such sync, because an id or name with a typo matches nothing."""
        event_filter = self._event_filter
        if event_filter.sync_id is None and event_filter.sync_name is None:
            return
        if any(event_filter.matches_sync(end.data) for end in batch.window.ends):
            return
        syncs = await batch.list_syncs()
        if syncs is not None and not any(event_filter.matches_sync(sync) for sync in syncs):
            log.warning("%s: the organization has no such sync; nothing fires until it is created.", self._label)

    @property
    def _event_filter(self) -> EventFilter:
        from airflow_provider_polytomic.api.events.poll import EventFilter

        return EventFilter(self.kind, self.sync_id, self.sync_name, self.events, self.trigger_source)

    @property
    def _label(self) -> str:
        sync = self.sync_id or (repr(self.sync_name) if self.sync_name else "any sync")
        return f"Watching {self.kind or ''}{' ' if self.kind else ''}{sync} ({', '.join(self.events)})"

    async def _list_executions(self, batch: EventBatch, since: float) -> list[ExecutionEnd]:
        """List the executions that ended after ``since``, for which events may have expired."""
        if self.trigger_source is not None:
            log.warning(
                "%s: events may have expired. Executions cannot replace them: they do not contain a trigger_source.",
                self._label,
            )
            return []
        log.warning("%s: events may have expired; listing the executions of the syncs instead.", self._label)
        try:
            return await asyncio.wait_for(self._list_ended_since(batch, since), CATCH_UP_TIMEOUT)
        except asyncio.TimeoutError:
            log.error(
                "%s: could not list the executions within %d s; some may be missed.", self._label, CATCH_UP_TIMEOUT
            )
            return []

    async def _list_ended_since(self, batch: EventBatch, since: float) -> list[ExecutionEnd]:
        from airflow_provider_polytomic.api.events import poll

        limit = asyncio.Semaphore(MAX_CONCURRENT_LISTS)

        async def list_ends(kind: Any, sync: Any) -> list[ExecutionEnd]:
            async with limit:
                ends: list[ExecutionEnd] = await batch.run(poll.list_ended_since(kind, sync, since))
                return ends

        syncs = await batch.run(poll.find_watched_syncs(self._event_filter))
        tasks = [asyncio.ensure_future(list_ends(*sync)) for sync in syncs]
        try:
            return [end for ends in await asyncio.gather(*tasks) for end in ends]
        finally:
            for task in tasks:  # when one has failed, the others still run
                task.cancel()

    # --- the stored position

    @property
    def _key(self) -> str:
        """The key of the position among the states of an asset, which may have several watchers.

        ``poke_interval`` does not affect it.
        """
        arguments = json.dumps(self._filter_arguments, sort_keys=True).encode()
        return f"polytomic.{hashlib.sha256(arguments).hexdigest()[:16]}"

    async def _read_stored(self) -> Position | None:
        """Read the last saved position; None when there is none, or no state store."""
        from airflow_provider_polytomic.api.events.poll import Position

        found = None
        for store in asset_state_stores(self):
            value = await store.aget(self._key)
            if value is None:
                continue
            try:
                position = Position.from_json(value)
            except ValueError as error:
                log.warning("%s: ignoring an invalid stored position: %s", self._label, error)
                continue
            found = position if found is None else found.merged_with(position)
        return found

    async def _save(self, position: Position) -> None:
        try:
            if stored := await self._read_stored():
                position = position.merged_with(stored)
            for store in asset_state_stores(self):
                await store.aset(self._key, position.to_json())
            self._save_after = position.polled_at + SAVE_INTERVAL
        except Exception as error:  # noqa: BLE001  the next position is saved as well
            warn(f"{self._label}: could not save the position", error)


def _check_unknown(unknown: dict[str, Any]) -> None:
    """Reject unknown arguments in a DAG; ignore those of a trigger that another release has serialized.

    :raises TypeError: there are unknown arguments. The message names them.
    """
    is_stored = unknown.pop(STORED_MARKER, False)
    if not unknown:
        return
    names = ", ".join(map(repr, unknown))
    if not is_stored:
        raise TypeError(f"PolytomicSyncEventTrigger has no argument {names}")
    log.warning("Ignoring arguments of a watcher that another release of the provider has stored: %s", names)


def _text(name: str, value: Any) -> str | None:
    """Validate text. It must not be a template, because Airflow does not render the arguments of a watcher."""
    if value is not None and (
        not isinstance(value, str) or validation.blank_to_none(value) is None or validation.is_templated(value)
    ):
        raise ValueError(f"{name} must be non-empty text without a template, not {validation.format_value(value)}")
    return value


def _events(value: Any) -> tuple[str, ...]:
    names = validation.items("events", value) or []
    unknown = [name for name in names if name not in EVENTS]
    if unknown or not names:
        raise ValueError(f"events must be one or several of {', '.join(EVENTS)}, not {validation.format_value(value)}")
    return tuple(
        name for name in EVENTS if name in names
    )  # in a fixed order, so that equal watchers have equal arguments
