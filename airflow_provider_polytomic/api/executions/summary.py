"""Executions as small JSON-safe dicts, for XComs and trigger events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from .. import models
from ..text import printable

if TYPE_CHECKING:
    from ..models import BulkSyncExecution, Execution, SchemaExecution

T = TypeVar("T")

MAX_SCHEMAS = 100  # schemas (bulk sync) or errors (model sync) in a summary
MAX_MESSAGE_LENGTH = 300  # characters of one schema's message
MAX_STATUS_MESSAGE_LENGTH = 1000  # characters of the execution's own message
MAX_SUMMARY_SIZE = 64 * 1024  # bytes of JSON


def summarize(sync_id: str, execution: Execution, *, adopted: bool = False) -> dict[str, Any]:
    """Summarize an execution in at most :data:`MAX_SUMMARY_SIZE` bytes of JSON.

    :param adopted: whether the task attached to the execution instead of starting it.
    """
    summary: dict[str, Any] = {
        "sync_id": sync_id,
        "execution_id": execution.id,
        "status": execution.status,
        "status_message": _text(execution, "status_message", MAX_STATUS_MESSAGE_LENGTH),
        "type": _text(execution, "type"),
        "is_test": getattr(execution, "is_test", None),
        "is_resync": getattr(execution, "is_resync", None),
        "is_partial": getattr(execution, "is_partial", None),
        "fetch_mode": _text(execution, "fetch_mode"),
        "output_disposition": _text(execution, "output_disposition"),
        "record_count": execution.records,
        "error_count": execution.error_records,
        "warning_count": getattr(execution, "warning_count", None),
        "created_at": _time(execution.created_at),
        "started_at": _time(execution.started_at),
        "completed_at": _time(execution.completed_at),
        "updated_at": _time(execution.updated_at),
        "adopted": adopted,
    }
    if isinstance(execution, models.BulkSyncExecution):
        summary["executions"] = counted_ids(execution)
        summary["schemas"] = _take_fitting(summary, _schema_rows(execution))
        summary["schemas_omitted"] = execution.schema_count - len(summary["schemas"])
    elif isinstance(execution, models.ModelSyncExecution):
        counts = execution.counts
        summary["warning_count"] = counts.warnings if counts else None
        summary["counts"] = counts.model_dump(mode="json", exclude=set(counts.model_extra or ())) if counts else None
        errors = (printable(text, MAX_MESSAGE_LENGTH) for text in (execution.errors or [])[:MAX_SCHEMAS])
        summary["errors"] = _take_fitting(summary, errors)
    return summary


def counted_ids(execution: Execution) -> list[str]:
    """The executions whose schemas an execution counts, oldest first: several if it is a merged one."""
    return getattr(execution, "execution_ids", None) or [execution.id]


def _time(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None


def _text(execution: Execution, name: str, max_length: int = MAX_MESSAGE_LENGTH) -> str | None:
    return printable(getattr(execution, name, None), max_length) or None


def _schema_rows(execution: BulkSyncExecution) -> Iterable[dict[str, Any]]:
    """The schemas of an execution, failed ones first."""
    failed = {id(schema) for schema in execution.failed_schemas}

    def order(row: SchemaExecution) -> tuple[bool, str, str]:
        return id(row) not in failed, row.output_name or "", row.schema_id or ""

    for row in sorted(execution.schemas or [], key=order)[:MAX_SCHEMAS]:
        yield {
            "schema": row.schema_id,
            "output_name": row.output_name,
            "status": row.status,
            "record_count": row.record_count,
            "error_count": row.error_count,
            "warning_count": row.warning_count,
            "status_message": printable(row.status_message, MAX_MESSAGE_LENGTH) or None,
        }


def _take_fitting(summary: dict[str, Any], rows: Iterable[T]) -> list[T]:
    """As many of the first rows as fit into the summary."""
    room = MAX_SUMMARY_SIZE - len(json.dumps(summary)) - 100  # for the keys that are still to come
    fitting = []
    for row in rows:
        room -= len(json.dumps(row)) + 2
        if room < 0:
            break
        fitting.append(row)
    return fitting
