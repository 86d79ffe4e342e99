"""Whether a running execution does what a start asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..models import BulkSyncExecution, Execution

# What each resync mode does to the destination's tables: by this a running execution shows its mode.
DISPOSITIONS = {"refetch": "retain", "resync": "truncate", "rebuild": "rebuild"}


def does_enough(execution: Execution, arguments: Mapping[str, Any]) -> bool:
    """Whether an execution does at least what was asked for. What it does not say counts as different.

    :param arguments: those of the start.
    """
    if not isinstance(execution, BulkSyncExecution):
        return not any(arguments.values())
    wanted = set(arguments.get("schemas") or ())
    covered = wanted <= _schema_ids(execution) if wanted else not execution.is_partial
    return covered and _has_same_mode(execution, arguments)


def does_the_same(execution: Execution, arguments: Mapping[str, Any]) -> bool:
    """Whether an execution does just what was asked for, as far as it says: one of a model sync says nothing."""
    if not isinstance(execution, BulkSyncExecution):
        return True
    wanted, schema_ids = set(arguments.get("schemas") or ()), _schema_ids(execution)
    same_schemas = not wanted or not schema_ids or schema_ids == wanted
    return same_schemas and execution.is_partial in (None, bool(wanted)) and _has_same_mode(execution, arguments)


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
