"""The address of a table: its URI, and its OpenLineage namespace and name.

A URI follows the convention of the destination: `postgres://host:5432/database/schema/table`. If there is no convention
for a destination, or the API does not return enough for it, the URI is one of Polytomic's: `polytomic://host/...`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from ..models import Connection


ATHENA_CATALOG = "AwsDataCatalog"  # the one that each account has


@dataclass(frozen=True)
class Table:
    """A table, file or object: its URI, and its OpenLineage namespace and name."""

    uri: str
    namespace: str
    name: str


def _path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)


def _database(
    scheme: str, port: int, namespace_of: Callable[[str], str] = str, *, name_has_database: bool = True
) -> Callable[..., Table | None]:
    """Addresses in a database server whose databases contain schemas."""

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
            f"{database}.{schema}.{table}" if name_has_database else f"{schema}.{table}",
        )

    return address


def _database_without_schemas(scheme: str, port: int, database_setting: str) -> Callable[..., Table | None]:
    """Addresses in a database server for which a schema is a database."""

    def address(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
        host = _setting(configuration, "hostname")
        database = _schema(destination) or _setting(configuration, database_setting)
        if not (host and database):
            return None
        where = f"{scheme}://{host}:{_setting(configuration, 'port') or port}"
        return Table(f"{where}/{_path(database, table)}", where, f"{database}.{table}")

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


def _motherduck(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
    database, schema = _setting(configuration, "database"), _schema(destination)
    if not (database and schema):
        return None
    # OpenLineage's names are those of its dbt integration, which uses DuckDB's name of the database.
    return Table(
        f"motherduck://{_path(database, schema, table)}", f"duckdb://md:{database}", f"{database}.{schema}.{table}"
    )


def _athena(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
    region = _setting(configuration, "region")
    database = _schema(destination) or _setting(destination, "database")
    if not (region and database):
        return None
    catalog = _setting(destination, "catalog") or ATHENA_CATALOG
    where = f"awsathena://athena.{region}.amazonaws.com"
    return Table(f"{where}/{_path(catalog, database, table)}", where, f"{catalog}.{database}.{table}")


def _azure_blob(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
    container, _, folder = _setting(configuration, "container_name").strip("/").partition("/")
    account = _setting(configuration, "account_name")
    if not (container and account):
        return None
    path = _join(folder, _setting(destination, "path"), table)
    return Table(
        # Airflow 2.11 drops what precedes the @ of a URI, so OpenLineage's form would lose the container.
        f"https://{account}.blob.core.windows.net/{_path(container, *path)}",
        f"wasbs://{container}@{account}.dfs.core.windows.net",
        "/".join(path),
    )


def _bucket(scheme: str, bucket_setting: str) -> Callable[..., Table | None]:
    def address(configuration: Mapping[str, Any], destination: Mapping[str, Any], table: str) -> Table | None:
        bucket, _, folder = _setting(configuration, bucket_setting).partition("://")[-1].strip("/").partition("/")
        if not bucket:
            bucket, _, folder = _setting(configuration, bucket_setting).strip("/").partition("/")
        if not bucket:
            return None
        path = _join(folder, _setting(destination, "path"), table)
        return Table(f"{scheme}://{bucket}/{_path(*path)}", f"{scheme}://{bucket}", "/".join(path))

    return address


def _join(folder: str, path: str, table: str) -> list[str]:
    """The parts of a path, without empty ones."""
    return [part for part in (*folder.split("/"), *path.split("/"), table) if part]


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
    "azureblob": _azure_blob,
    "azuresql": _database("mssql", 1433),
    "mssql": _database("mssql", 1433),
    "sqlserver": _database("mssql", 1433),
    "synapse": _database("sqlserver", 1433, name_has_database=False),
    "mysql": _database_without_schemas("mysql", 3306, "dbname"),
    "clickhouse": _database_without_schemas("clickhouse", 9440, "database"),
    "motherduck": _motherduck,
    "awsathena": _athena,
    "athena": _athena,
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


def polytomic_address(base_url: str, *parts: str) -> Table:
    host = urlsplit(base_url).netloc
    return Table(f"polytomic://{host}/{_path(*parts)}", f"polytomic://{host}", "/".join(parts))
