"""The statuses of executions that the API documents."""

from __future__ import annotations

NON_TERMINAL_STATUSES = frozenset(
    {
        "created",
        "scheduled",
        "queued",
        "waiting",
        "running",
        "exporting",
        "processing",
        "canceling",
    }
)
TERMINAL_STATUSES = frozenset({"completed", "canceled", "failed", "interrupted", "errors"})
KNOWN_STATUSES = NON_TERMINAL_STATUSES | TERMINAL_STATUSES
