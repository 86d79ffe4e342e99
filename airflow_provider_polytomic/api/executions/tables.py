"""The tables that an execution wrote, each with its address and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import models
from ..call import fetch
from ..endpoints import bulk_syncs, connections, model_syncs
from ..errors import PolytomicAuthError, PolytomicNotFoundError
from ..plan import Plan, is_valid_id
from .table_address import Table, polytomic_address, table_address

if TYPE_CHECKING:
    from ..models import BulkSync, BulkSyncExecution, Connection, Execution, ModelSync, SchemaExecution

MAX_RETRIES = 1  # per request: the execution has ended, and only the names of tables are missing


@dataclass(frozen=True)
class WrittenTable:
    """A table that an execution wrote, the tables that it read for it, and counts of records."""

    sync_id: str
    schema: str  # the schema's id; for a model sync, the target object
    output_name: str
    table: Table
    sources: tuple[Table, ...]
    records: int | None = None
    errors: int | None = None
    execution_id: str | None = None  # of an earlier try, if that wrote the table


def written_tables(sync_id: str, execution: Execution, base_url: str) -> Plan[list[WrittenTable]]:
    """List the tables that an execution wrote: each completed schema, or a model sync's target object; none for tests.

    Gets the sync and its destination connection from the API.

    :raises PolytomicError: the sync could not be read, or the connection, unless the key has no access to it.
    """
    if isinstance(execution, models.BulkSyncExecution):
        completed = _completed_schemas(execution)
        if execution.is_test or not completed:
            return []
        sync: BulkSync = yield from fetch(bulk_syncs.get(sync_id), MAX_RETRIES)
        destination = yield from _fetch_connection(sync.destination_connection_id)
        return [
            _bulk_table(
                sync.id,
                row,
                base_url,
                table_address(destination, sync.destination_configuration, row.output_name or str(row.schema_id)),
                sync.source_connection_id,
            )
            for row in completed
        ]
    if execution.status != "completed":
        return []
    model_sync: ModelSync = yield from fetch(model_syncs.get(sync_id), MAX_RETRIES)
    return _model_tables(model_sync, execution, base_url)


def tables_without_lookup(sync_id: str, execution: Execution, base_url: str) -> list[WrittenTable]:
    """List the tables that an execution of a bulk sync wrote, without requests: their URIs are Polytomic's."""
    if not isinstance(execution, models.BulkSyncExecution) or execution.is_test:
        return []
    completed = _completed_schemas(execution)
    return [_bulk_table(sync_id, row, base_url) for row in completed]


def _completed_schemas(execution: BulkSyncExecution) -> list[SchemaExecution]:
    return [row for row in execution.schemas or [] if row.status == "completed" and row.schema_id]


def _fetch_connection(connection_id: str | None) -> Plan[Connection | None]:
    if not is_valid_id(connection_id):
        return None
    try:
        return (yield from fetch(connections.get(str(connection_id)), MAX_RETRIES))
    except (PolytomicAuthError, PolytomicNotFoundError):
        return None  # the key has no access to it


def _bulk_table(
    sync_id: str, row: SchemaExecution, base_url: str, table: Table | None = None, source_id: str | None = None
) -> WrittenTable:
    schema = str(row.schema_id)
    execution_id = getattr(row, "execution_id", None)  # only a merged execution sets it
    return WrittenTable(
        sync_id=sync_id,
        schema=schema,
        output_name=row.output_name or schema,
        table=table or polytomic_address(base_url, "bulk", sync_id, schema),
        sources=(polytomic_address(base_url, "connections", source_id, schema),) if source_id else (),
        records=row.record_count,
        errors=row.error_count,
        execution_id=execution_id if isinstance(execution_id, str) else None,
    )


def _model_tables(sync: ModelSync, execution: Execution, base_url: str) -> list[WrittenTable]:
    target = sync.target or {}
    connection_id = str(sync.target_connection_id or target.get("connection_id") or "unknown")
    name = str(sync.target_object or target.get("object") or "unknown")
    counts = getattr(execution, "counts", None)
    return [
        WrittenTable(
            sync_id=sync.id,
            schema=name,
            output_name=name,
            table=polytomic_address(base_url, "connections", connection_id, name),
            sources=tuple(polytomic_address(base_url, "models", model_id) for model_id in sync.model_ids or []),
            records=execution.records,
            errors=counts.error if counts else None,
        )
    ]
