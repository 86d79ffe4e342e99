"""An execution: a plan that is fixed when it starts, and its state at any time.

There is no background simulation. Status, counts, timestamps, log lines and events are functions of the plan,
of the clock, and of the changes that a request or a test makes (a cancellation, an early end).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .clock import format_timestamp

RUNNING_FROM = 2  # index of the stage in which work begins, after "created" and "scheduled"
SHORT_STAGE = 0.05  # share of the duration that each of these two stages takes
TEST_ROWS = 5  # rows of each schema in a test execution
UNSUCCESSFUL = ("failed", "canceled", "interrupted")  # with one of these, schemas end as their execution does
TERMINAL = ("completed", "errors", *UNSUCCESSFUL)


@dataclass
class Part:
    """One schema in one execution. An execution of a model sync has a single part without a name."""

    schema: str
    output_name: str
    rows: int
    errors: int = 0
    warnings: int = 0
    outcome: str | None = None
    status_message: str = ""
    canceled_at: float | None = None


class LogLine(NamedTuple):
    """One line of a console log."""

    at: float  # seconds since the epoch
    level: str
    message: str
    schema: str | None
    payload: dict[str, Any]


@dataclass
class Execution:
    """One execution of a bulk or model sync. Times are in seconds since the epoch."""

    id: str
    seq: int  # orders the executions of all syncs by their start
    sync_id: str
    kind: str  # "bulk" or "model"
    created_at: float
    duration: float  # seconds from start to end as planned
    cancel_duration: float  # seconds from a cancellation request to the end
    stages: list[str]
    outcome: str
    parts: list[Part]
    status_message: str = ""
    error_messages: list[str] = field(default_factory=list)  # of a model sync
    test: bool = False
    resync_mode: str | None = None
    fetch_mode: str | None = None
    partial: bool = False
    start_body: dict[str, Any] = field(default_factory=dict)  # the JSON body of the request that started it
    event_fields: dict[str, Any] = field(
        default_factory=dict
    )  # fields of the sync in events, kept because events outlive a deleted sync
    canceling_since: float | None = None
    ended_early_at: float | None = None  # end by cancellation or by a test, with `early_status`
    early_status: str = ""
    source: str = "api"  # what started it: "api" or "schedule"
    event_delay: float = 0.0  # seconds until the API lists an event
    is_hidden: bool = False  # not found by any request: its sync was deleted, or a test hid it
    _starts: tuple[float, list[tuple[float, str]]] | None = field(default=None, repr=False)

    # changes

    def cancel(self, now: float) -> bool:
        """Request cancellation, which takes ``cancel_duration``.

        :return: whether the execution was running and not canceling already.
        """
        if self.ended(now) or self.canceling_since is not None:
            return False
        self.canceling_since = now
        self.ended_early_at = now + self.cancel_duration
        self.early_status = "canceled"
        return True

    def end_now(self, now: float, status: str, message: str = "") -> None:
        """End the execution now with the given status."""
        self.ended_early_at = now
        self.early_status = status
        self.status_message = message or self.status_message

    # times

    @property
    def end(self) -> float:
        return self.created_at + self.duration if self.ended_early_at is None else self.ended_early_at

    def ended(self, now: float) -> bool:
        return now >= self.end

    def stage_starts(self) -> list[tuple[float, str]]:
        """Return the start time and the name of each stage that begins before the end."""
        if self._starts is None or self._starts[0] != self.end:  # cached, because every schema needs it
            self._starts = (self.end, self._stage_starts())
        return self._starts[1]

    def _stage_starts(self) -> list[tuple[float, str]]:
        work = len(self.stages) - RUNNING_FROM
        starts = []
        for index, name in enumerate(self.stages):
            short = min(index, RUNNING_FROM) * SHORT_STAGE
            rest = max(index - RUNNING_FROM, 0) / work * (1 - RUNNING_FROM * SHORT_STAGE) if work > 0 else 0.0
            starts.append((self.created_at + self.duration * (short + rest), name))
        return [(at, name) for at, name in starts if at < self.end or at == self.created_at]

    def started_at(self, now: float) -> float | None:
        at = self.created_at + self.duration * RUNNING_FROM * SHORT_STAGE
        return at if at <= min(now, self.end) else None

    def completed_at(self, now: float) -> float | None:
        return self.end if self.ended(now) else None

    def updated_at(self, now: float) -> float:
        """Return the time of the last change of status."""
        moments = [at for at, _ in self.stage_starts()] + [self.end]
        if self.canceling_since is not None:
            moments.append(self.canceling_since)
        return max(at for at in moments if at <= now or at == self.created_at)

    # status and counts

    @property
    def final(self) -> str:
        return self.outcome if self.ended_early_at is None else self.early_status

    def status(self, now: float) -> str:
        if self.ended(now):
            return self.final
        return "canceling" if self.canceling_since is not None else self._stage(now)

    def _stage(self, now: float) -> str:
        return [name for at, name in self.stage_starts() if at <= now or at == self.created_at][-1]

    def part_status(self, part: Part, now: float) -> str:
        stopped = None if part.canceled_at is None else part.canceled_at + self.cancel_duration
        if stopped is not None and stopped <= min(now, self.end):
            return "canceled"
        if not self.ended(now):
            # Schemas have no status "canceling", so they keep the one from before the cancellation.
            return self._stage(now if self.canceling_since is None else self.canceling_since)
        if self.final in UNSUCCESSFUL and (part.outcome is None or self.ended_early_at is not None):
            return self.final
        return part.outcome or "completed"

    def part_counts(self, part: Part, now: float) -> tuple[int, int, int]:
        """Return the numbers of records, errors and warnings so far."""
        rows = min(part.rows, TEST_ROWS) if self.test else part.rows
        done = self._progress(now, part.canceled_at)
        if self.ended(now) and self.part_status(part, now) == "failed":
            done = min(done, 0.5)
        elif self.ended(now) and self.final not in UNSUCCESSFUL and part.canceled_at is None:
            done = 1.0
        errors = part.errors if self.ended(now) else int(part.errors * done)
        return int(rows * done), errors, int(part.warnings * done)

    def _progress(self, now: float, stopped: float | None) -> float:
        begin = self.created_at + self.duration * RUNNING_FROM * SHORT_STAGE
        planned = self.created_at + self.duration
        until = min(at for at in (now, self.end, self.canceling_since, stopped) if at is not None)
        if until >= planned:
            return 1.0
        return max(until - begin, 0.0) / (planned - begin)

    def part_message(self, part: Part, now: float) -> str | None:
        if not self.ended(now):
            return None
        if self.part_status(part, now) == "failed":
            return part.status_message or f"{part.output_name}: the source closed the connection"
        has_message = part.errors or part.warnings or part.outcome not in (None, "completed")
        return part.status_message or None if has_message else None

    def message(self, now: float) -> str | None:
        if not self.ended(now) or self.final == "completed":
            return None
        if self.status_message or self.final not in ("failed", "errors"):
            return self.status_message or None
        bad = [part.schema for part in self.parts if self.part_status(part, now) != "completed"]
        if self.kind == "bulk" and bad:
            return f"{len(bad)} of {len(self.parts)} schemas did not complete: {', '.join(bad[:5])}"
        return "some records could not be synced" if self.final == "errors" else "the source closed the connection"

    # rows of API responses

    def row(self, now: float) -> dict[str, Any]:
        return self._bulk_row(now) if self.kind == "bulk" else self._model_row(now)

    def _bulk_row(self, now: float) -> dict[str, Any]:
        schemas = self._part_rows(now)
        return {
            "id": self.id,
            "status": self.status(now),
            "status_message": self.message(now),
            "type": "manual" if self.source == "api" else "scheduled",
            "is_test": self.test,
            "is_resync": self.resync_mode is not None,
            "is_partial": self.partial,
            "fetch_mode": self.fetch_mode or "none",
            "output_disposition": {"resync": "truncate", "rebuild": "rebuild"}.get(self.resync_mode or "", "retain"),
            "record_count": sum(row["record_count"] for row in schemas),
            "error_count": sum(row["error_count"] for row in schemas),
            "warning_count": sum(row["warning_count"] for row in schemas),
            "created_at": format_timestamp(self.created_at),
            "started_at": format_timestamp(self.started_at(now)),
            "completed_at": format_timestamp(self.completed_at(now)),
            "updated_at": format_timestamp(self.updated_at(now)),
            "schemas": schemas or None,
        }

    def _part_rows(self, now: float) -> list[dict[str, Any]]:
        created, updated = format_timestamp(self.created_at), format_timestamp(self.updated_at(now))
        rows = []
        for part, summary in zip(self.parts, self.part_summaries(now), strict=True):
            del summary["execution_id"]
            rows.append({**summary, "output_name": part.output_name, "created_at": created, "updated_at": updated})
        return rows

    def part_summaries(self, now: float) -> Iterator[dict[str, Any]]:
        """Yield each schema's row in the batch status of syncs."""
        shared: dict[
            tuple[Any, ...], dict[str, Any]
        ] = {}  # by everything that a row depends on, because many schemas of a wide sync have equal rows
        for part in self.parts:
            name = part.output_name if part.outcome or self.final in UNSUCCESSFUL else ""  # part of the error message
            kind = (name, part.rows, part.errors, part.warnings, part.outcome, part.status_message, part.canceled_at)
            if kind not in shared:
                shared[kind] = self._part_state(part, now)
            yield {"schema": part.schema, "execution_id": self.id, **shared[kind]}

    def _part_state(self, part: Part, now: float) -> dict[str, Any]:
        records, errors, warnings = self.part_counts(part, now)
        return {
            "status": self.part_status(part, now),
            "status_message": self.part_message(part, now),
            "record_count": records,
            "error_count": errors,
            "warning_count": warnings,
            "started_at": format_timestamp(self.started_at(now)),
            "completed_at": format_timestamp(self.completed_at(now)),
        }

    def _model_row(self, now: float) -> dict[str, Any]:
        records, errors, warnings = self.part_counts(self.parts[0], now)
        inserted = (records - errors) // 3 if records > errors else 0
        messages = self.error_messages[:errors]
        if self.ended(now) and self.final == "failed":
            messages = [*messages, self.status_message or "the target closed the connection"]
        return {
            "id": self.id,
            "status": self.status(now),
            "type": "manual" if self.source == "api" else "scheduled",
            "created_at": format_timestamp(self.created_at),
            "started_at": format_timestamp(self.started_at(now)),
            "completed_at": format_timestamp(self.completed_at(now)),
            "counts": {
                "total": records,
                "insert": inserted,
                "update": max(records - errors - inserted, 0),
                "upserts": 0,
                "delete": 0,
                "error": errors,
                "warnings": warnings,
            },
            "errors": messages or None,
        }

    # console log and events

    def log(self, now: float) -> list[LogLine]:
        """Return the console log so far, oldest line first."""
        return sorted((line for line in self._log() if line.at <= now), key=lambda line: line.at)

    def _log(self) -> Iterator[LogLine]:
        starts = self.stage_starts()
        for at, name in starts:
            yield LogLine(at, "info", f"Execution {name}", None, {"status": name})
        begin = self.started_at(self.end)
        for part in self.parts if self.kind == "bulk" and begin is not None else []:
            yield LogLine(begin or 0.0, "info", f"Reading {part.schema}", part.schema, {})
            status = self.part_status(part, self.end)
            records, errors, warnings = self.part_counts(part, self.end)
            payload = {"records": records, "errors": errors, "warnings": warnings}
            if status == "completed":
                yield LogLine(self.end, "info", f"Wrote {records} records to {part.output_name}", part.schema, payload)
            else:
                why = self.part_message(part, self.end) or status
                yield LogLine(self.end, "error", f"{part.schema} {status}: {why}", part.schema, payload)
            if status == "completed" and errors:
                yield LogLine(self.end, "error", f"{part.schema}: {errors} records failed", part.schema, payload)
        for message in self.error_messages:
            yield LogLine(self.end, "error", message, None, {})
        if self.canceling_since is not None:
            yield LogLine(self.canceling_since, "warn", "Cancellation requested", None, {})
        reason = self.message(self.end)
        level = "info" if self.final == "completed" else "error"
        yield LogLine(self.end, level, f"Execution {self.final}" + (f": {reason}" if reason else ""), None, {})

    def events(self, now: float) -> list[tuple[float, str, dict[str, Any]]]:
        """Return time, type and body of each event that the API lists by now."""
        prefix = "bulk_sync" if self.kind == "bulk" else "sync"
        body = {**self.event_fields, "sync_id": self.sync_id, "execution_id": self.id}
        events = []
        started = self.started_at(now)
        if started is not None:
            events.append((started, f"{prefix}.running", body))
        if self.ended(now):
            errors = sum(self.part_counts(part, now)[1] for part in self.parts)
            bulk = self.kind == "bulk"
            name = {"interrupted": "failed"}.get(self.final, self.final)
            if self.final == "errors" or (self.final == "completed" and errors):
                name = "completed_with_error" if bulk else "completed_with_errors"
            body = dict(body)
            if bulk and name != "canceled":
                body["trigger_source"] = self.source
            if name in ("failed", "completed_with_errors"):
                body["error"] = self.message(now) or "some records could not be synced"
            if name in ("completed", "canceled", "failed", "completed_with_error", "completed_with_errors"):
                events.append((self.end, f"{prefix}.{name}", body))
        return [event for event in events if event[0] + self.event_delay <= now]
