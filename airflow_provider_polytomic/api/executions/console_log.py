"""An execution's console log: followed while it runs, and its last lines for failure messages."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..call import fetch
from ..errors import PolytomicError, PolytomicNotFoundError, PolytomicValidationError
from ..kinds import SyncKind
from ..plan import Plan
from ..text import printable

if TYPE_CHECKING:
    from ..models import ConsoleLog, ConsoleLogEntry

log = logging.getLogger(__name__)

MAX_ENTRIES = 50  # entries that the API keeps of a console log, and returns in one response
CONSOLE_LOG_TIMEOUT = 5.0  # seconds; a slow console log must not delay the end of a wait
TAIL_LINES = 10  # lines in a failure message
MAX_LINE_LENGTH = 1000  # characters
MAX_TAIL_LINE_LENGTH = 300  # characters
MAX_FINAL_PAGES = 10  # requests after the execution has ended
LEVELS = {"warn": logging.WARNING, "warning": logging.WARNING, "error": logging.ERROR, "fatal": logging.ERROR}


class ConsoleLogFollower:
    """Copies a console log to the task log, each entry once. Best effort: failures are logged, not raised.

    :param cursor: the cursor to continue from, of another process.
    :ivar cursor: the current cursor.
    """

    def __init__(self, kind: SyncKind, sync_id: str, execution_id: str, cursor: str | None = None) -> None:
        self.cursor = cursor
        self._kind = kind
        self._sync_id = sync_id
        self._execution_id = execution_id
        self._logged = [cursor] if cursor else []  # ids of the entries that were logged last
        self._failing = False

    def follow(self, timeout: float | None = None) -> Plan[bool]:
        """Log new entries, with one request.

        :param timeout: seconds for the request, if less than :data:`CONSOLE_LOG_TIMEOUT`.
        :returns: whether there may be more entries.
        """
        call = self._kind.console_log(self._sync_id, self._execution_id, after=self.cursor, limit=MAX_ENTRIES)
        try:
            page = yield from fetch(
                call.with_timeout(CONSOLE_LOG_TIMEOUT if timeout is None else min(timeout, CONSOLE_LOG_TIMEOUT)), 0
            )
        except PolytomicError as error:
            if isinstance(error, PolytomicValidationError | PolytomicNotFoundError):
                self.cursor = None  # the cursor is no longer valid
            if not self._failing:
                log.warning(
                    "The console log of execution %s of %s could not be read: %s",
                    self._execution_id,
                    self._kind.describe(self._sync_id),
                    error,
                )
            self._failing = True
            return False
        self._failing = False
        return self._log_new_entries(page)

    def follow_to_end(self) -> Plan[None]:
        """Log the remaining entries of an execution that has ended."""
        for _ in range(MAX_FINAL_PAGES):
            if not (yield from self.follow()):
                return

    def _log_new_entries(self, page: ConsoleLog) -> bool:
        entries = page.entries or []
        new = [entry for entry in entries if entry.id is None or entry.id not in self._logged]
        for entry in new:
            when = f"{entry.timestamp:%H:%M:%S} " if entry.timestamp else ""
            level = LEVELS.get((entry.level or "").lower(), logging.INFO)
            log.log(level, "Polytomic: %s%s", when, printable(entry.message, MAX_LINE_LENGTH))
        # Ids are remembered, so that no entry is logged twice even if the server ignores the cursor.
        self._logged = [*self._logged, *(entry.id for entry in new if entry.id is not None)][-2 * MAX_ENTRIES :]
        self.cursor = page.next_cursor or (entries[-1].id if entries else None) or self.cursor
        return bool(new) and len(entries) >= MAX_ENTRIES


def fetch_tail(kind: SyncKind, sync_id: str, execution_id: str) -> Plan[list[str]]:
    """Fetch the last lines of a console log. Best effort: returns no lines when the request fails."""
    try:
        # Without a cursor, the API returns the newest entries.
        page = yield from fetch(
            kind.console_log(sync_id, execution_id, limit=MAX_ENTRIES).with_timeout(2 * CONSOLE_LOG_TIMEOUT), 1
        )
    except PolytomicError as error:
        log.info(
            "The console log of execution %s of %s could not be read: %s", execution_id, kind.describe(sync_id), error
        )
        return []
    return [_format_entry(entry) for entry in (page.entries or [])[-TAIL_LINES:]]


def _format_entry(entry: ConsoleLogEntry) -> str:
    return f"{entry.level or 'info'}: {printable(entry.message, MAX_TAIL_LINE_LENGTH)}"
