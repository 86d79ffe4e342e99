"""Executions as text: their progress for log lines, their failure for a task's error message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import models
from ..kinds import SyncKind
from ..text import printable
from .summary import MAX_MESSAGE_LENGTH, MAX_SCHEMAS, MAX_STATUS_MESSAGE_LENGTH, counted_ids

if TYPE_CHECKING:
    from ..models import BulkSyncExecution, Execution

MAX_LISTED_ERRORS = 10  # errors of a model sync's execution in a failure message
MAX_PROGRESS_LENGTH = 500  # characters


def format_progress(execution: Execution) -> str:
    """The status and counts of an execution, in one line."""
    details = execution.progress_details()
    so_far = " so far" if details and not execution.is_terminal else ""
    return printable(", ".join([str(execution.status), *details]) + so_far, MAX_PROGRESS_LENGTH)


def format_merged(execution: Execution) -> str:
    """The earlier executions whose schemas a merged execution counts, for the end of a sentence; else nothing."""
    *earlier, _ = counted_ids(execution)
    if not earlier:
        return ""
    several = len(earlier) > 1
    ids = printable(", ".join(earlier), MAX_PROGRESS_LENGTH)
    return f", together with execution{'s' * several} {ids} of {'earlier tries' if several else 'an earlier try'}"


def format_failure(
    kind: SyncKind, sync_id: str, sync_name: str | None, execution: Execution, reason: str, console_tail: list[str]
) -> str:
    """The error message for an execution that did not succeed.

    :param reason: the result of :func:`.outcome.failure_reason`.
    :param console_tail: the last lines of the execution's console log.
    """
    lines = [f"Execution {execution.id} of {kind.describe(sync_id, sync_name)} {reason}{format_merged(execution)}."]
    if isinstance(execution, models.BulkSyncExecution):
        lines += _bulk_failure_details(execution)
    elif isinstance(execution, models.ModelSyncExecution):
        lines += [f"  {printable(text, MAX_MESSAGE_LENGTH)}" for text in (execution.errors or [])[:MAX_LISTED_ERRORS]]
    if console_tail:
        lines += ["The last lines of Polytomic's console log:", *(f"  {line}" for line in console_tail)]
    return "\n".join(lines)


def _bulk_failure_details(execution: BulkSyncExecution) -> list[str]:
    lines = []
    if execution.status_message:
        lines.append(f"Polytomic's message: {printable(execution.status_message, MAX_STATUS_MESSAGE_LENGTH)}")
    listed = execution.failed_schemas[:MAX_SCHEMAS]
    for row in listed:
        message = printable(row.status_message, MAX_MESSAGE_LENGTH) or "no message"
        schema = printable(f"{row.output_name or row.schema_id}: {row.status}", MAX_MESSAGE_LENGTH)
        lines.append(f"  schema {schema}: {message}")
    unlisted = execution.failed_schema_count - len(listed)
    if unlisted > 0:
        lines.append(f"  and {unlisted} more schemas")
    return lines
