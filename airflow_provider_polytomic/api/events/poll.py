"""Following the events of an organization: what one look at them shows, and what of it is new to a watcher.

``GET /api/events`` promises no order: an event may turn up late, below others that have been read already.
So every look goes back over the last minutes (``OVERLAP``) once more, and a watcher remembers what it has
had of these. All times that are compared are the server's own; our clock is only used where a wrong one
costs a bigger page and no event.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ..call import fetch, fetch_fitting_page
from ..endpoints import events
from ..errors import PolytomicAuthError, PolytomicNotFoundError, PolytomicValidationError, printable
from ..executions.poll import PAGE_SIZE
from ..kinds import SYNC_KINDS, SyncKind
from ..models import Event, Execution
from ..plan import Plan, current_time
from ..syncs.lookup import walk, walk_until_complete

log = logging.getLogger(__name__)

OVERLAP = 600.0  # seconds by which an event may be late
RETENTION = 48 * 3600.0  # seconds for which the API keeps events
MARGIN = 3600.0  # seconds; an absence that came so close to that counts as longer
MAX_SYNCS = 1000  # of each kind, whose executions are looked at after a longer absence
MAX_ERROR_LENGTH = 300
MAX_TEXT_LENGTH = 1000  # all else that is told of an end is names and ids

# How an execution can end, in the words of the API's events, one spelling for both kinds.
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
    """An execution has ended: as an event tells it, or the execution itself."""

    key: str  # what it is recognized by: one end of an execution is one, however often and wherever it is told
    at: float  # seconds since the epoch, by the server's clock
    data: Mapping[str, Any]


@dataclass(frozen=True)
class EventFilter:
    """Which ends a watcher wants."""

    kind: str | None = None
    sync_id: str | None = None
    sync_name: str | None = None
    events: tuple[str, ...] = (COMPLETED,)
    trigger_source: str | None = None

    def of(self, told: Iterable[ExecutionEnd]) -> list[ExecutionEnd]:
        """What of this is wanted, the oldest first."""
        return sorted(
            (
                ended
                for ended in told
                if ended.data["event"] in self.events
                and self.matches_sync(ended.data)
                and self.trigger_source in (None, ended.data["trigger_source"])
            ),
            key=lambda ended: ended.at,
        )

    def matches_sync(self, sync: Mapping[str, Any]) -> bool:
        """Whether the watcher asks for this sync, or for the sync of this end."""
        return all(getattr(self, name) in (None, sync[name]) for name in ("kind", "sync_id", "sync_name"))


# --- looking


@dataclass(frozen=True)
class EventWindow:
    """What one look showed: all events created after ``since`` that there were by then."""

    since: float  # by the server's clock; -inf: from the first on
    asked_at: float  # by our clock
    newest: float = -math.inf  # when the newest event was created
    ended: tuple[ExecutionEnd, ...] = ()

    @property
    def floor(self) -> float:
        """Where the next look has to begin."""
        return _overlap_start(self.newest, self.asked_at)


def poll_events(since: float | None) -> Plan[EventWindow]:
    """Look at the events once (``GET /api/events``, all pages).

    :param since: where to begin; None, for the first look: a little before the newest event.
    """
    asked_at = yield from current_time()
    if since is None:
        newest = yield from fetch(events.list_(limit=1).page())
        since = _overlap_start(_newest(newest.items, asked_at), asked_at)
    rows = yield from walk(events.list_(starting_after=_rfc3339(since), limit=100))
    ended = tuple(ended for event in rows if (ended := _end_from_event(event, asked_at)))
    # A look that goes on where another one ended sees the newest event of that one again.
    return EventWindow(since, asked_at, _newest(rows, asked_at), ended)


def _newest(rows: Iterable[Event], asked_at: float) -> float:
    return max((_created(event, asked_at) for event in rows), default=-math.inf)


def _overlap_start(newest: float, now: float) -> float:
    # Our clock keeps an event from the future from hiding all others. If it is slow we only look back too far.
    return min(newest, now) - OVERLAP


def _created(event: Event, asked_at: float) -> float:
    return event.created_at.timestamp() if event.created_at else asked_at


def _rfc3339(seconds: float) -> str | None:
    if seconds < 0:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _end_from_event(event: Event, asked_at: float) -> ExecutionEnd | None:
    if event.type not in _TYPES or event.event is None:
        return None
    kind, name = _TYPES[event.type]
    about = event.event
    data = {
        "event_id": event.id,
        "type": event.type,
        "created_at": event.created_at.isoformat() if event.created_at else None,
        "kind": kind,
        "event": name,
        "sync_id": about.sync_id,
        "sync_name": about.sync_name,
        "execution_id": about.execution_id,
        "source_connection_id": about.source_connection_id,
        "destination_connection_id": about.destination_connection_id,
        "target_connection_id": about.target_connection_id,
        "trigger_source": about.trigger_source,
        "error": printable(about.error, MAX_ERROR_LENGTH) if about.error else None,
    }
    return _make_end(about.execution_id or event.id, _created(event, asked_at), data)


# --- what is new


@dataclass(frozen=True)
class Position:
    """How far a watcher has come.

    :param floor: what was created before is done with, by the server's clock.
    :param asked_at: when the newest look was made that the watcher has considered, by our clock.
    :param known: what it has had of what came after ``floor``, and when that was created.
    """

    floor: float
    asked_at: float
    known: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        floor = None if self.floor == -math.inf else self.floor
        return {"floor": floor, "asked_at": self.asked_at, "known": dict(self.known)}

    @classmethod
    def from_json(cls, value: Any) -> Position:
        """
        :raises ValueError: it is no position.
        """
        try:
            floor = -math.inf if value["floor"] is None else _number(value["floor"])
            known = {str(key): _number(at) for key, at in value["known"].items()}
            return cls(floor, _number(value["asked_at"]), known)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            raise ValueError(f"not a position: {value!r:.200}") from None

    def merged_with(self, other: Position) -> Position:
        """What two have come to together, who watched for the same."""
        known = {**self.known, **other.known}
        return self.advanced_to(other.floor, other.asked_at, known)

    def advanced_to(self, floor: float, asked_at: float, known: Mapping[str, float]) -> Position:
        """Forward, never back; what came before the floor is forgotten."""
        floor, asked_at = max(self.floor, floor), max(self.asked_at, asked_at)
        return Position(floor, asked_at, {key: at for key, at in known.items() if at > floor})


def _number(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(number)
    return number


def initial_position(window: EventWindow, wanted: EventFilter) -> Position:
    """The position of a watcher who sees events for the first time: what there is already is not for it."""
    return advance(Position(-math.inf, window.asked_at), window, wanted)[1]


def has_gap(position: Position, window: EventWindow) -> bool:
    """Whether a look went back less far than the watcher has to look."""
    return window.since > position.floor


def missed_since(position: Position, window: EventWindow) -> float | None:
    """Since when events may have been removed before the watcher saw them; None: that cannot be."""
    if window.asked_at - position.asked_at <= RETENTION - MARGIN:
        return None
    # Who has seen no event at all knows no time of the server's. None had been there for two days, so half of that
    # before our own time is early enough, and tells nothing twice.
    return position.floor if position.floor > -math.inf else position.asked_at - RETENTION / 2


def advance(
    position: Position, window: EventWindow, wanted: EventFilter, executions: Iterable[ExecutionEnd] = ()
) -> tuple[list[ExecutionEnd], Position]:
    """What of a look is new, the oldest first, and the position after it.

    :param executions: what executions told, of which there may be no event any more. Where there is one, the
        event is taken.
    """
    told = {ended.key for ended in window.ended}
    known = dict(position.known)
    new = []
    for ended in wanted.of([*window.ended, *(ended for ended in executions if ended.key not in told)]):
        if ended.at > position.floor:
            if ended.key not in known:
                new.append(ended)
            known[ended.key] = max(ended.at, known.get(ended.key, -math.inf))
    return new, position.advanced_to(window.floor, window.asked_at, known)


# --- executions, when events are gone

# What asking again does not mend: a watcher that insisted would be told of nothing any more.
_REFUSALS = (PolytomicAuthError, PolytomicNotFoundError, PolytomicValidationError)


def find_watched_syncs(wanted: EventFilter) -> Plan[list[tuple[SyncKind, Any]]]:
    """The syncs whose ends are wanted."""
    found: list[tuple[SyncKind, Any]] = []
    for kind in SYNC_KINDS.values() if wanted.kind is None else [SYNC_KINDS[wanted.kind]]:
        try:
            if wanted.sync_id is not None:
                found.append((kind, (yield from fetch(kind.sync(wanted.sync_id)))))
                continue
            # Once a watcher has caught up, a sync that was missed here stays missed.
            walked = yield from walk_until_complete(kind.syncs())
        except PolytomicNotFoundError:
            continue  # it is of the other kind, or gone
        except _REFUSALS as error:
            log.error("No %s can be looked at, so ends of some may be missed: %s", kind.label, error)
            continue
        if not walked.complete:
            log.warning("The list of %ss kept changing, so ends of some may be missed", kind.label)
        named = [sync for sync in walked.items if wanted.sync_name in (None, sync.name)]
        if len(named) > MAX_SYNCS:
            log.error("There are %d %ss: the ends of all but %d may be missed", len(named), kind.label, MAX_SYNCS)
        found += [(kind, sync) for sync in named[:MAX_SYNCS]]
    return found


def list_syncs() -> Plan[list[dict[str, Any]]]:
    """Kind, id and name of all syncs of the organization.

    :raises PolytomicError: the server did not list them.
    """
    found: list[dict[str, Any]] = []
    for kind in SYNC_KINDS.values():
        syncs = yield from walk(kind.syncs())
        found += [{"kind": kind.name, "sync_id": sync.id, "sync_name": sync.name} for sync in syncs]
    return found


def list_ended_since(kind: SyncKind, sync: Any, since: float) -> Plan[list[ExecutionEnd]]:
    """The executions of a sync that ended after ``since``, but for test runs."""
    found: list[ExecutionEnd] = []
    call, token, seen = kind.executions(sync.id, limit=PAGE_SIZE), None, set[str]()
    while True:
        try:
            page, call = yield from fetch_fitting_page(call, token, seen)
        except _REFUSALS as error:
            log.error("Ends of %s %s may be missed: %s", kind.label, sync.id, error)
            return found
        for execution in page.items:  # newest first, and one after the other
            if not execution.is_terminal:
                continue
            at = execution.completed_at or execution.updated_at or execution.created_at
            if at is None or execution.is_test_run:
                continue
            if at.timestamp() <= since:
                return found
            if ended := _end_from_execution(kind, sync, execution, at):
                found.append(ended)
        token = page.next_page_token
        if token is None:
            return found


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
    """Of a model sync: a list returns it in a field of its own, a single sync within its target."""
    target = getattr(sync, "target", None) or {}
    return getattr(sync, "target_connection_id", None) or target.get("connection_id")


def _make_end(key: str, at: float, data: dict[str, Any]) -> ExecutionEnd:
    # It is kept in Airflow's database, so it is of bounded length, whoever tells it.
    told = {name: value and str(value)[:MAX_TEXT_LENGTH] for name, value in data.items()}
    return ExecutionEnd(key[:MAX_TEXT_LENGTH], at, told)
