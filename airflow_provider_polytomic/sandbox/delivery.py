"""Delivery: made-up rows of completed bulk executions, written to SQLite so that SQL after a sync has data to read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone

from .execution import Execution, Part
from .seed import ConnectionSpec

_FIRST_ROW = datetime(2026, 1, 1, tzinfo=timezone.utc)


class Delivery:
    """Writes rows to ``path`` for every sync, and to the file of a destination of type ``sqlite`` for its own syncs."""

    def __init__(self, path: str | None) -> None:
        self.path = path

    def deliver(self, execution: Execution, destination: ConnectionSpec | None) -> str | None:
        """Write the completed schemas of an execution, each to the table that is its output name.

        :return: the error message when writing failed, otherwise None.
        """
        paths = [self.path] if self.path else []
        if destination is not None and destination.type == "sqlite" and destination.configuration.get("path"):
            paths.append(str(destination.configuration["path"]))
        if not paths or execution.final not in ("completed", "errors"):
            return None
        parts = [part for part in execution.parts if execution.part_status(part, execution.end) == "completed"]
        replace = execution.resync_mode in ("resync", "rebuild")
        failures = (_write(path, parts, replace) for path in paths)
        return next((failure for failure in failures if failure), None)


def _write(path: str, parts: list[Part], replace: bool) -> str | None:
    try:
        with closing(sqlite3.connect(path, timeout=5)) as connection, connection:
            for part in parts:
                _write_table(connection, part, replace)
    except sqlite3.Error as error:
        return f"cannot write to {path}: {error}"
    return None


def _write_table(connection: sqlite3.Connection, part: Part, replace: bool) -> None:
    table = '"' + part.output_name.replace('"', '""') + '"'  # quoted here, because a name cannot be bound
    if replace:
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, name TEXT, amount REAL, updated_at TEXT)"
    )
    connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?)", _rows(part))  # noqa: S608


def _rows(part: Part) -> Iterator[tuple[int, str, float, str]]:
    for number in range(1, part.rows - part.errors + 1):
        at = (_FIRST_ROW + timedelta(minutes=number)).isoformat().replace("+00:00", "Z")
        yield number, f"{part.output_name} {number}", number * 37 % 1000 / 10, at
