"""The tables that an execution wrote, with URIs and OpenLineage names.

A URI follows the convention of the destination: `postgres://host:5432/database/schema/table`. If there is no convention
for a destination, or the API does not return enough for it, the URI is one of Polytomic's: `polytomic://host/...`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from ..call import fetch
from ..endpoints import bulk_syncs, connections, model_syncs
from ..errors import PolytomicAuthError, PolytomicNotFoundError
from ..models import BulkSync, BulkSyncExecution, Connection, Execution, ModelSync, SchemaExecution
from ..plan import Plan, is_valid_id

MAX_RETRIES = 1  # per request: the execution has ended, and only the names of tables are missing


@dataclass(frozen=True)
class Table:
    """A table, file or object: its URI, and its OpenLineage namespace and name."""

    uri: str
    namespace: str
    name: str


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


def _path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)


def _database(scheme: str, port: int, namespace_of: Callable[[str], str] = str) -> Callable[..., Table | None]:
    def address(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
        host, database, schema = (
            _setting(configuration, "hostname"),
            _setting(configuration, "database"),
            _schema(destination),
        )
        if not (host and database and schema):
            return None
        number = _setting(configuration, "port") or str(port)
        return Table(
            f"{scheme}://{host}:{number}/{_path(database, schema, table)}",
            f"{scheme}://{namespace_of(host)}:{number}",
            f"{database}.{schema}.{table}",
        )

    return address


def _snowflake(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
    account, database = _setting(configuration, "account"), _setting(configuration, "dbname")
    schema = _schema(destination)
    if not (account and database and schema):
        return None
    where = f"snowflake://{account}"
    return Table(f"{where}/{_path(database, schema, table)}", where, f"{database}.{schema}.{table}")


def _bigquery(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
    projects = (_setting(configuration, name) for name in ("override_project_id", "project_id", "wif_project_id"))
    project = next((project for project in projects if project), "")
    dataset = _setting(destination, "dataset") or _schema(destination)
    if not (project and dataset):
        return None
    return Table(f"bigquery://{_path(project, dataset, table)}", "bigquery", f"{project}.{dataset}.{table}")


def _databricks(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
    host, schema = _setting(configuration, "server_hostname"), _schema(destination)
    if not (host and schema):
        return None
    parts = [part for part in (_setting(destination, "catalog"), schema, table) if part]
    return Table(f"databricks://{host}/{_path(*parts)}", f"databricks://{host}", ".".join(parts))


def _bucket(scheme: str, bucket_setting: str) -> Callable[..., Table | None]:
    def address(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
        bucket, _, folder = _setting(configuration, bucket_setting).partition("://")[-1].strip("/").partition("/")
        if not bucket:
            bucket, _, folder = _setting(configuration, bucket_setting).strip("/").partition("/")
        if not bucket:
            return None
        parts = [part for part in (*folder.split("/"), *_setting(destination, "path").split("/"), table) if part]
        return Table(f"{scheme}://{bucket}/{_path(*parts)}", f"{scheme}://{bucket}", "/".join(parts))

    return address


def _redshift_cluster(host: str) -> str:
    """The OpenLineage name of a Redshift cluster: name and region from `name.id.region.redshift.amazonaws.com`."""
    match = re.fullmatch(r"([^.]+)\.[^.]+\.([^.]+)\.redshift\.amazonaws\.com", host)
    return f"{match[1]}.{match[2]}" if match else host


# By type of connection.
ADDRESS_FORMATS: dict[str, Callable[..., Table | None]] = {
    "postgresql": _database("postgres", 5432),
    "amazon_rds_postgresql": _database("postgres", 5432),
    "redshift": _database("redshift", 5439, _redshift_cluster),
    "snowflake": _snowflake,
    "bigquery": _bigquery,
    "databricks": _databricks,
    "s3": _bucket("s3", "s3_bucket_name"),
    "gcs": _bucket("gs", "bucket"),
}


def _setting(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _schema(destination: Mapping[str, Any]) -> str:
    return _setting(destination, "schema")


def table_address(
    connection: Connection | None, destination: Mapping[str, Any] | None, output_name: str
) -> Table | None:
    """The table that a schema is written to, or None if the connection lacks a convention or settings for its URI.

    :param destination: the sync's ``destination_configuration``.
    """
    if connection is None:
        return None
    address = ADDRESS_FORMATS.get(str((connection.type or {}).get("id")))
    return address(connection.configuration or {}, destination or {}, output_name) if address else None


def _polytomic_address(base_url: str, *parts: str) -> Table:
    host = urlsplit(base_url).netloc
    return Table(f"polytomic://{host}/{_path(*parts)}", f"polytomic://{host}", "/".join(parts))


def written_tables(sync_id: str, execution: Execution, base_url: str) -> Plan[list[WrittenTable]]:
    """List the tables that an execution wrote: each completed schema, or a model sync's target object; none for tests.

    Gets the sync and its destination connection from the API.

    :raises PolytomicError: the sync could not be read, or the connection, unless the key has no access to it.
    """
    if isinstance(execution, BulkSyncExecution):
        completed = _completed_schemas(execution)
        if execution.is_test or not completed:
            return []
        sync: BulkSync = yield from fetch(bulk_syncs.get(sync_id), MAX_RETRIES)
        destination = yield from _fetch_connection(sync.destination_connection_id)
        return [_bulk_table(sync, destination, row, base_url) for row in completed]
    if execution.status != "completed":
        return []
    model_sync: ModelSync = yield from fetch(model_syncs.get(sync_id), MAX_RETRIES)
    return _model_tables(model_sync, execution, base_url)


def tables_without_lookup(sync_id: str, execution: Execution, base_url: str) -> list[WrittenTable]:
    """List the tables that an execution of a bulk sync wrote, without requests: their URIs are Polytomic's."""
    if not isinstance(execution, BulkSyncExecution) or execution.is_test:
        return []
    completed = _completed_schemas(execution)
    return [_bulk_table(BulkSync(id=sync_id), None, row, base_url) for row in completed]


def _completed_schemas(execution: BulkSyncExecution) -> list[SchemaExecution]:
    return [row for row in execution.schemas or [] if row.status == "completed" and row.schema_id]


def _fetch_connection(connection_id: str | None) -> Plan[Connection | None]:
    if not is_valid_id(connection_id):
        return None
    try:
        return (yield from fetch(connections.get(str(connection_id)), MAX_RETRIES))
    except (PolytomicAuthError, PolytomicNotFoundError):
        return None  # the key has no access to it


def _bulk_table(sync: BulkSync, destination: Connection | None, row: SchemaExecution, base_url: str) -> WrittenTable:
    schema = str(row.schema_id)
    name = row.output_name or schema
    source_id = sync.source_connection_id
    return WrittenTable(
        sync_id=sync.id,
        schema=schema,
        output_name=name,
        table=table_address(destination, sync.destination_configuration, name)
        or _polytomic_address(base_url, "bulk", sync.id, schema),
        sources=(_polytomic_address(base_url, "connections", source_id, schema),) if source_id else (),
        records=row.record_count,
        errors=row.error_count,
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
            table=_polytomic_address(base_url, "connections", connection_id, name),
            sources=tuple(_polytomic_address(base_url, "models", model_id) for model_id in sync.model_ids or []),
            records=execution.records,
            errors=counts.error if counts else None,
        )
    ]
