"""Polls the events of an organization, and selects those that are new to a watcher.

``GET /api/events`` does not guarantee an order: an event may appear late, below events that were read before. Each poll
therefore reads the last minutes (``OVERLAP``) again, and a watcher remembers the events that it has seen in that time.
Times that are compared are the server's. This machine's clock is used only where an error costs a larger response, not
an event.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ..call import fetch
from ..endpoints import events
from ..errors import PolytomicAuthError, PolytomicNotFoundError, PolytomicValidationError
from ..executions.poll import PAGE_SIZE
from ..kinds import SYNC_KINDS, SyncKind
from ..pagination import PageReader
from ..plan import Plan, current_time
from ..syncs.lookup import walk, walk_until_complete
from ..text import printable

if TYPE_CHECKING:
    from ..models import Event, Execution

log = logging.getLogger(__name__)

OVERLAP = 600.0  # seconds by which an event may be late
EVENT_RETENTION = 48 * 3600.0  # seconds for which the API keeps events
MARGIN = 3600.0  # seconds before the end of EVENT_RETENTION from which events count as lost
MAX_SYNCS = 1000  # syncs of each kind whose executions are listed when events were lost
MAX_ERROR_LENGTH = 300  # characters
MAX_TEXT_LENGTH = 1000  # characters of any other field, which are names and ids

# How an execution can end: the API's event types without prefix, in one spelling for both kinds of sync.
COMPLETED, WITH_ERRORS, FAILED, CANCELED = ENDS = ("completed", "completed_with_errors", "failed", "canceled")
_TYPES = {
    **{f"sync.{name}": ("model", name) for name in ENDS},
    **{f"bulk_sync.{name}": ("bulk", name) for name in ENDS},
    "bulk_sync.completed_with_error": ("bulk", WITH_ERRORS),
}
_EVENT_TYPES = {end: name for name, end in _TYPES.items()}
_END_BY_STATUS = {
    "completed": COMPLETED,
    "errors": WITH_ERRORS,
    "failed": FAILED,
    "interrupted": FAILED,
    "canceled": CANCELED,
}


@dataclass(frozen=True)
class ExecutionEnd:
    """The end of an execution, from an event or from the execution itself.

    :ivar key: identifies it: the execution's id. Several events about one end have the same key.
    :ivar at: seconds since the epoch, by the server's clock.
    :ivar data: the payload of the trigger event.
    """

    key: str
    at: float
    data: Mapping[str, Any]


@dataclass(frozen=True)
class EventFilter:
    """Selects the ends that a watcher waits for. None matches any value."""

    kind: str | None = None
    sync_id: str | None = None
    sync_name: str | None = None
    events: tuple[str, ...] = (COMPLETED,)
    trigger_source: str | None = None

    def select(self, ends: Iterable[ExecutionEnd]) -> list[ExecutionEnd]:
        """The matching ends, oldest first."""
        return sorted(
            (
                end
                for end in ends
                if end.data["event"] in self.events
                and self.matches_sync(end.data)
                and self.trigger_source in (None, end.data["trigger_source"])
            ),
            key=lambda end: end.at,
        )

    def matches_sync(self, sync: Mapping[str, Any]) -> bool:
        """Whether the filter matches a sync, given as a mapping with kind, id and name."""
        return all(getattr(self, name) in (None, sync[name]) for name in ("kind", "sync_id", "sync_name"))


# --- polling


@dataclass(frozen=True)
class EventWindow:
    """The result of one poll: the ends among all events created after ``since``.

    :ivar since: by the server's clock; ``-inf`` for all events.
    :ivar polled_at: when the poll began, by this machine's clock.
    :ivar newest: when the newest event was created, by the server's clock.
    """

    since: float
    polled_at: float
    newest: float = -math.inf
    ends: tuple[ExecutionEnd, ...] = ()

    @property
    def floor(self) -> float:
        """From when on the next poll has to read events."""
        return _overlap_start(self.newest, self.polled_at)


def poll_events(since: float | None) -> Plan[EventWindow]:
    """Poll the events once (``GET /api/events``, all pages).

    :param since: from when on to read events, in seconds since the epoch by the server's clock. None, for the first
        poll, begins :data:`OVERLAP` before the newest event.
    """
    polled_at = yield from current_time()
    if since is None:
        newest = yield from fetch(events.list_(limit=1).page())
        since = _overlap_start(_newest(newest.items, polled_at), polled_at)
    rows = yield from walk(events.list_(starting_after=_rfc3339(since), limit=100))
    ends = tuple(end for event in rows if (end := _end_from_event(event, polled_at)))
    return EventWindow(since, polled_at, _newest(rows, polled_at), ends)


def _newest(rows: Iterable[Event], polled_at: float) -> float:
    return max((_created(event, polled_at) for event in rows), default=-math.inf)


def _overlap_start(newest: float, now: float) -> float:
    # Bounded by this machine's clock, so that one event from the future does not hide others. A slow clock only makes
    # the next poll read more.
    return min(newest, now) - OVERLAP


def _created(event: Event, polled_at: float) -> float:
    return event.created_at.timestamp() if event.created_at else polled_at


def _rfc3339(seconds: float) -> str | None:
    if seconds < 0:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _end_from_event(event: Event, polled_at: float) -> ExecutionEnd | None:
    if event.type not in _TYPES or event.event is None:
        return None
    kind, name = _TYPES[event.type]
    details = event.event
    data = {
        "event_id": event.id,
        "type": event.type,
        "created_at": event.created_at.isoformat() if event.created_at else None,
        "kind": kind,
        "event": name,
        "sync_id": details.sync_id,
        "sync_name": details.sync_name,
        "execution_id": details.execution_id,
        "source_connection_id": details.source_connection_id,
        "destination_connection_id": details.destination_connection_id,
        "target_connection_id": details.target_connection_id,
        "trigger_source": details.trigger_source,
        "error": printable(details.error, MAX_ERROR_LENGTH) if details.error else None,
    }
    return _make_end(details.execution_id or event.id, _created(event, polled_at), data)


# --- what is new


@dataclass(frozen=True)
class Position:
    """A watcher's cursor in the events.

    :param floor: all earlier events have been handled; by the server's clock.
    :param polled_at: when the last poll that the watcher has handled began, by this machine's clock.
    :param seen: the ends after ``floor`` that have been handled: when they were created, by key.
    """

    floor: float
    polled_at: float
    seen: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The position as JSON-safe data."""
        floor = None if self.floor == -math.inf else self.floor
        return {"floor": floor, "polled_at": self.polled_at, "seen": dict(self.seen)}

    @classmethod
    def from_json(cls, value: Any) -> Position:
        """The position that :meth:`to_json` returned.

        :raises ValueError: the value is not a position.
        """
        try:
            floor = -math.inf if value["floor"] is None else _number(value["floor"])
            seen = {str(key): _number(at) for key, at in value["seen"].items()}
            return cls(floor, _number(value["polled_at"]), seen)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(f"not a position: {value!r:.200}") from None

    def merged_with(self, other: Position) -> Position:
        """Combine the positions of two watchers with equal filters: what either has handled."""
        return self.advanced_to(other.floor, other.polled_at, {**self.seen, **other.seen})

    def advanced_to(self, floor: float, polled_at: float, seen: Mapping[str, float]) -> Position:
        """Move forward, never back, and forget ends before the floor."""
        floor, polled_at = max(self.floor, floor), max(self.polled_at, polled_at)
        return Position(floor, polled_at, {key: at for key, at in seen.items() if at > floor})


def _number(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(number)
    return number


def initial_position(window: EventWindow, wanted: EventFilter) -> Position:
    """The position of a new watcher: all ends so far count as handled."""
    return advance(Position(-math.inf, window.polled_at), window, wanted)[1]


def has_gap(position: Position, window: EventWindow) -> bool:
    """Whether a poll begins later than the watcher's position, so that events in between are missing."""
    return window.since > position.floor


def events_lost_since(position: Position, window: EventWindow) -> float | None:
    """From when on the API may have removed events that the watcher has not seen; None if it has not."""
    if window.polled_at - position.polled_at <= EVENT_RETENTION - MARGIN:
        return None
    # A watcher that has seen no event has no time of the server. There was none within EVENT_RETENTION, so half of it
    # before this machine's time is early enough, and finds no end twice.
    return position.floor if position.floor > -math.inf else position.polled_at - EVENT_RETENTION / 2


def advance(
    position: Position, window: EventWindow, wanted: EventFilter, executions: Iterable[ExecutionEnd] = ()
) -> tuple[list[ExecutionEnd], Position]:
    """Select the ends that are new to a watcher, oldest first, and return them with its next position.

    :param executions: ends from executions, whose events may have been removed. If there is an event as well, the
        event is used.
    """
    by_event = {end.key for end in window.ends}
    seen = dict(position.seen)
    new = []
    for end in wanted.select([*window.ends, *(end for end in executions if end.key not in by_event)]):
        if end.at > position.floor:
            if end.key not in seen:
                new.append(end)
            seen[end.key] = max(end.at, seen.get(end.key, -math.inf))
    return new, position.advanced_to(window.floor, window.polled_at, seen)


# --- ends from executions, when events were lost

# Final errors. Repeating the request would keep the watcher from ever catching up.
_REFUSALS = (PolytomicAuthError, PolytomicNotFoundError, PolytomicValidationError)


def find_watched_syncs(wanted: EventFilter) -> Plan[list[tuple[SyncKind, Any]]]:
    """List the syncs that a filter matches, with their kinds."""
    found: list[tuple[SyncKind, Any]] = []
    for kind in SYNC_KINDS.values() if wanted.kind is None else [SYNC_KINDS[wanted.kind]]:
        try:
            if wanted.sync_id is not None:
                found.append((kind, (yield from fetch(kind.sync(wanted.sync_id)))))
                continue
            # A sync that is missed here stays missed after the watcher has caught up.
            listing = yield from walk_until_complete(kind.syncs())
        except PolytomicNotFoundError:
            continue  # it is of the other kind, or no longer exists
        except _REFUSALS as error:
            log.error("The %ss could not be listed, so ends of some may be missed: %s", kind.label, error)
            continue
        if not listing.complete:
            log.warning("The list of %ss kept changing, so ends of some may be missed.", kind.label)
        matching = [sync for sync in listing.items if wanted.sync_name in (None, sync.name)]
        if len(matching) > MAX_SYNCS:
            log.error(
                "There are %d matching %ss, of which %d are checked. Ends of the others may be missed.",
                len(matching),
                kind.label,
                MAX_SYNCS,
            )
        found += [(kind, sync) for sync in matching[:MAX_SYNCS]]
    return found


def list_syncs() -> Plan[list[dict[str, Any]]]:
    """List kind, id and name of all syncs of the organization.

    :raises PolytomicError: the syncs could not be listed.
    """
    found: list[dict[str, Any]] = []
    for kind in SYNC_KINDS.values():
        listing = yield from walk_until_complete(kind.syncs())
        found += [{"kind": kind.name, "sync_id": sync.id, "sync_name": sync.name} for sync in listing.items]
    return found


def list_ended_since(kind: SyncKind, sync: Any, since: float) -> Plan[list[ExecutionEnd]]:
    """List the ends of a sync's executions after ``since``, test runs excluded."""
    found: list[ExecutionEnd] = []
    pages = PageReader(kind.executions(sync.id, limit=PAGE_SIZE))
    while True:
        try:
            page = yield from pages.fetch_next()
        except _REFUSALS as error:
            log.error(
                "The executions of %s could not be listed, so ends of some may be missed: %s",
                kind.describe(sync.id, sync.name),
                error,
            )
            return found
        if page is None:
            return found
        for execution in page.items:  # newest first, and they do not overlap
            if not execution.is_terminal:
                continue
            at = execution.completed_at or execution.updated_at or execution.created_at
            if at is None or execution.is_test_run:
                continue
            if at.timestamp() <= since:
                return found
            if end := _end_from_execution(kind, sync, execution, at):
                found.append(end)


def _end_from_execution(kind: SyncKind, sync: Any, execution: Execution, at: datetime) -> ExecutionEnd | None:
    name = _END_BY_STATUS.get(str(execution.status))
    if name is None:
        return None
    if name == COMPLETED and execution.partially_failed:
        name = WITH_ERRORS
    data = {
        "event_id": None,
        "type": _EVENT_TYPES[kind.name, name],
        "created_at": at.isoformat(),
        "kind": kind.name,
        "event": name,
        "sync_id": sync.id,
        "sync_name": sync.name,
        "execution_id": execution.id,
        "source_connection_id": getattr(sync, "source_connection_id", None),
        "destination_connection_id": getattr(sync, "destination_connection_id", None),
        "target_connection_id": _target_connection_id(sync),
        "trigger_source": None,
        "error": None,
    }
    return _make_end(execution.id, at.timestamp(), data)


def _target_connection_id(sync: Any) -> Any:
    """The target connection of a model sync. A list returns it in its own field, a single sync within ``target``."""
    target = getattr(sync, "target", None) or {}
    return getattr(sync, "target_connection_id", None) or target.get("connection_id")


def _make_end(key: str, at: float, data: dict[str, Any]) -> ExecutionEnd:
    # Bounded, because it is stored in Airflow's database.
    bounded = {name: value and str(value)[:MAX_TEXT_LENGTH] for name, value in data.items()}
    return ExecutionEnd(key[:MAX_TEXT_LENGTH], at, bounded)
