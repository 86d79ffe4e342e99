"""An execution's console log: followed while it runs, and its last lines for a failure's message."""

from __future__ import annotations

import logging

from ..call import fetch
from ..errors import PolytomicError, PolytomicNotFoundError, PolytomicValidationError, printable
from ..kinds import SyncKind
from ..models import ConsoleLog, ConsoleLogEntry
from ..plan import Plan

log = logging.getLogger(__name__)

MAX_ENTRIES = 50  # entries that the API keeps of an execution's console log, and gives in one answer
REQUEST_TIMEOUT = 5.0  # seconds for an answer: a log that hangs must not keep anybody from seeing the end
TAIL_LINES = 10  # lines in a failure's message
MAX_LINE_LENGTH = 1000
MAX_TAIL_LINE_LENGTH = 300
MAX_FINAL_PAGES = 10
LEVELS = {"warn": logging.WARNING, "warning": logging.WARNING, "error": logging.ERROR, "fatal": logging.ERROR}


class ConsoleLogFollower:
    """Follows a console log, and logs each entry once. Best effort: no trouble with it ends a wait.

    :param after: the cursor that another process has come to.
    """

    def __init__(self, kind: SyncKind, sync_id: str, execution_id: str, after: str | None = None) -> None:
        self.after = after
        self._kind = kind
        self._sync_id = sync_id
        self._execution_id = execution_id
        self._logged = [after] if after else []  # ids of entries, the last ones
        self._in_trouble = False

    def follow(self, timeout: float | None = None) -> Plan[bool]:
        """Log what is new, with one request.

        :param timeout: seconds for the answer, if less than :data:`REQUEST_TIMEOUT`.
        :returns: whether there may be more already.
        """
        call = self._kind.console_log(self._sync_id, self._execution_id, after=self.after, limit=MAX_ENTRIES)
        try:
            page = yield from fetch(
                call.with_timeout(REQUEST_TIMEOUT if timeout is None else min(timeout, REQUEST_TIMEOUT)), 0
            )
        except PolytomicError as error:
            if isinstance(error, PolytomicValidationError | PolytomicNotFoundError):
                self.after = None  # a cursor that is refused once is refused for ever
            if not self._in_trouble:
                log.warning("The console log of execution %s could not be read: %s", self._execution_id, error)
            self._in_trouble = True
            return False
        self._in_trouble = False
        return self._take(page)

    def follow_to_end(self) -> Plan[None]:
        """Log what is left when the execution has ended."""
        for _ in range(MAX_FINAL_PAGES):
            if not (yield from self.follow()):
                return

    def _take(self, page: ConsoleLog) -> bool:
        entries = page.entries or []
        new = [entry for entry in entries if entry.id is None or entry.id not in self._logged]
        for entry in new:
            when = f"{entry.timestamp:%H:%M:%S} " if entry.timestamp else ""
            level = LEVELS.get((entry.level or "").lower(), logging.INFO)
            log.log(level, "Polytomic: %s%s", when, printable(entry.message, MAX_LINE_LENGTH))
        # Whatever the server takes for "after", and if it takes no cursor at all: no entry is logged twice.
        self._logged = [*self._logged, *(entry.id for entry in new if entry.id is not None)][-2 * MAX_ENTRIES :]
        self.after = page.next_cursor or (entries[-1].id if entries else None) or self.after
        return bool(new) and len(entries) >= MAX_ENTRIES


def fetch_tail(kind: SyncKind, sync_id: str, execution_id: str) -> Plan[list[str]]:
    """The last lines of a console log. Best effort: whatever goes wrong, fewer lines come back."""
    try:
        # Without a cursor the API answers the newest entries.
        page = yield from fetch(
            kind.console_log(sync_id, execution_id, limit=MAX_ENTRIES).with_timeout(2 * REQUEST_TIMEOUT), 1
        )
    except PolytomicError as error:
        log.info("The console log could not be read: %s", error)
        return []
    return [_format_entry(entry) for entry in (page.entries or [])[-TAIL_LINES:]]


def _format_entry(entry: ConsoleLogEntry) -> str:
    return f"{entry.level or 'info'}: {printable(entry.message, MAX_TAIL_LINE_LENGTH)}"
