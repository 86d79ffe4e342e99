"""Compares a running execution with the arguments of a start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import models

if TYPE_CHECKING:
    from ..models import BulkSyncExecution, Execution


# What each resync mode does to the destination's tables. An execution has this instead of its mode.
DISPOSITIONS = {"refetch": "retain", "resync": "truncate", "rebuild": "rebuild"}


def covers_request(execution: Execution, arguments: Mapping[str, Any]) -> bool:
    """Whether an execution does at least what a start with these arguments would do. What is unknown counts as no."""
    if not isinstance(execution, models.BulkSyncExecution):
        return not any(arguments.values())
    requested = set(arguments.get("schemas") or ())
    covered = requested <= _schema_ids(execution) if requested else not execution.is_partial
    return covered and _has_same_mode(execution, arguments)


def matches_request(execution: Execution, arguments: Mapping[str, Any]) -> bool:
    """Whether an execution may be the one that a start with these arguments began. What is unknown counts as yes."""
    if not isinstance(execution, models.BulkSyncExecution):
        return True
    requested, schema_ids = set(arguments.get("schemas") or ()), _schema_ids(execution)
    same_schemas = not requested or not schema_ids or schema_ids == requested
    return same_schemas and execution.is_partial in (None, bool(requested)) and _has_same_mode(execution, arguments)


def _has_same_mode(execution: BulkSyncExecution, arguments: Mapping[str, Any]) -> bool:
    resync_mode = arguments.get("resync_mode")
    if resync_mode:
        same_resync = bool(execution.is_resync) and execution.output_disposition == DISPOSITIONS.get(resync_mode)
    else:
        same_resync = not execution.is_resync and execution.output_disposition in (None, "retain")
    return (
        same_resync
        and bool(execution.is_test) == bool(arguments.get("test"))
        and (execution.fetch_mode or "none") == (arguments.get("fetch_mode") or "none")
    )


def _schema_ids(execution: BulkSyncExecution) -> set[str | None]:
    return {schema.schema_id for schema in execution.schemas or []}
