"""The API's data as typed values, under the API's own field names.

The models are open: unknown fields are kept, enumerations are plain text (the API may add values at any time), every
field but an id may be missing or null, and a field of an unexpected type is None (see :mod:`.tolerant`).
"""

from __future__ import annotations

from .bulk_syncs import (
    BulkSync,
    BulkSyncDestination,
    BulkSyncSchedule,
    BulkSyncSchema,
    BulkSyncSource,
    BulkSyncStatus,
    BulkSyncStatusSummary,
    SchemaStatus,
)
from .connections import Connection, SchemaCache
from .events import Event, EventDetails
from .executions import BulkSyncExecution, Execution, ModelSyncCounts, ModelSyncExecution, SchemaExecution
from .fields import NON_TERMINAL_STATUSES, TERMINAL_STATUSES
from .identity import Identity
from .jobs import Job
from .logs import ConsoleLog, ConsoleLogEntry, LogFiles, ModelLogFiles, ModelLogIndex, ModelLogIndexEntry
from .model_syncs import ModelField, ModelSync, ModelSyncSource, ModelSyncStatus, ModelSyncTarget, TargetObject

FETCH_MODES = ("none", "incremental", "full")
RESYNC_MODES = ("refetch", "resync", "rebuild")

__all__ = [
    "FETCH_MODES",
    "NON_TERMINAL_STATUSES",
    "RESYNC_MODES",
    "TERMINAL_STATUSES",
    "BulkSync",
    "BulkSyncDestination",
    "BulkSyncExecution",
    "BulkSyncSchedule",
    "BulkSyncSchema",
    "BulkSyncSource",
    "BulkSyncStatus",
    "BulkSyncStatusSummary",
    "Connection",
    "ConsoleLog",
    "ConsoleLogEntry",
    "Event",
    "EventDetails",
    "Execution",
    "Identity",
    "Job",
    "LogFiles",
    "ModelField",
    "ModelLogFiles",
    "ModelLogIndex",
    "ModelLogIndexEntry",
    "ModelSync",
    "ModelSyncCounts",
    "ModelSyncExecution",
    "ModelSyncSource",
    "ModelSyncStatus",
    "ModelSyncTarget",
    "SchemaCache",
    "SchemaExecution",
    "SchemaStatus",
    "TargetObject",
]
