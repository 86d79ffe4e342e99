"""The API's data as typed values, under the API's own field names.

The models are open: unknown fields are kept, enumerations are plain text (the API may add values at any time), every
field but an id may be missing or null, and a field of an unexpected type is None (see :mod:`.tolerant`).

A module of models is imported when one of them is first used: pydantic takes milliseconds to build a model, and a task
uses few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .statuses import NON_TERMINAL_STATUSES, TERMINAL_STATUSES

if TYPE_CHECKING:
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
    from .executions import BulkSyncExecution, Execution, SchemaExecution
    from .identity import Identity
    from .jobs import Job
    from .logs import ConsoleLog, ConsoleLogEntry, LogFiles, ModelLogFiles, ModelLogIndex, ModelLogIndexEntry
    from .model_executions import ModelSyncCounts, ModelSyncExecution
    from .model_syncs import ModelField, ModelSync, ModelSyncSource, ModelSyncStatus, ModelSyncTarget, TargetObject
    from .tolerant import Model

FETCH_MODES = ("none", "incremental", "full")
RESYNC_MODES = ("refetch", "resync", "rebuild")

_MODULES = {
    "bulk_syncs": (
        "BulkSync BulkSyncDestination BulkSyncSchedule BulkSyncSchema BulkSyncSource BulkSyncStatus "
        "BulkSyncStatusSummary SchemaStatus"
    ),
    "connections": "Connection SchemaCache",
    "events": "Event EventDetails",
    "executions": "BulkSyncExecution Execution SchemaExecution",
    "identity": "Identity",
    "jobs": "Job",
    "logs": "ConsoleLog ConsoleLogEntry LogFiles ModelLogFiles ModelLogIndex ModelLogIndexEntry",
    "model_executions": "ModelSyncCounts ModelSyncExecution",
    "model_syncs": "ModelField ModelSync ModelSyncSource ModelSyncStatus ModelSyncTarget TargetObject",
    "tolerant": "Model",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}

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
    "Model",
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


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # The lock of the import system lets one thread build the models, while others wait.
    value = globals()[name] = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    return value
