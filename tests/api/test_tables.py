"""URIs and OpenLineage names of the tables that an execution wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicServerError
from airflow_provider_polytomic.api.executions.table_address import ADDRESS_FORMATS, Table, table_address
from airflow_provider_polytomic.api.executions.tables import written_tables
from airflow_provider_polytomic.api.models import BulkSyncExecution, Connection, ModelSyncExecution
from airflow_provider_polytomic.api.plan import Response

from .plans import PlanDriver

BASE = "https://app.polytomic.com/prefix"
POSTGRES = {"hostname": "db.example.com", "port": 5433, "database": "shop", "password": "secret"}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], Table | None]] = [
    (
        "postgresql",
        POSTGRES,
        {"schema": "raw"},
        Table("postgres://db.example.com:5433/shop/raw/orders", "postgres://db.example.com:5433", "shop.raw.orders"),
    ),
    (
        "postgresql",
        {"hostname": "db", "database": "shop"},
        {"schema": "raw"},
        Table("postgres://db:5432/shop/raw/orders", "postgres://db:5432", "shop.raw.orders"),
    ),
    ("postgresql", {"hostname": "db", "database": "shop"}, {}, None),
    ("postgresql", {}, {"schema": "raw"}, None),
    (
        "redshift",
        {"hostname": "mine.abc123.eu-west-1.redshift.amazonaws.com", "port": "5439", "database": "dev"},
        {"schema": "raw"},
        Table(
            "redshift://mine.abc123.eu-west-1.redshift.amazonaws.com:5439/dev/raw/orders",
            "redshift://mine.eu-west-1:5439",
            "dev.raw.orders",
        ),
    ),
    (
        "snowflake",
        {"account": "ORG-ACCOUNT", "dbname": "ANALYTICS"},
        {"schema": "RAW"},
        Table("snowflake://ORG-ACCOUNT/ANALYTICS/RAW/orders", "snowflake://ORG-ACCOUNT", "ANALYTICS.RAW.orders"),
    ),
    ("snowflake", {"account": "ORG-ACCOUNT"}, {"schema": "RAW"}, None),
    (
        "bigquery",
        {"project_id": "a-project"},
        {"dataset": "raw"},
        Table("bigquery://a-project/raw/orders", "bigquery", "a-project.raw.orders"),
    ),
    (
        "bigquery",
        {"project_id": "of-the-key", "override_project_id": "another"},
        {"schema": "raw"},
        Table("bigquery://another/raw/orders", "bigquery", "another.raw.orders"),
    ),
    ("bigquery", {}, {"dataset": "raw"}, None),
    (
        "databricks",
        {"server_hostname": "dbc-1.cloud.databricks.com"},
        {"catalog": "main", "schema": "raw"},
        Table(
            "databricks://dbc-1.cloud.databricks.com/main/raw/orders",
            "databricks://dbc-1.cloud.databricks.com",
            "main.raw.orders",
        ),
    ),
    ("databricks", {"server_hostname": "dbc-1"}, {}, None),
    (
        "s3",
        {"s3_bucket_name": "s3://lake/landing/"},
        {},
        Table("s3://lake/landing/orders", "s3://lake", "landing/orders"),
    ),
    ("s3", {"s3_bucket_name": "lake"}, {"path": "/a/b/"}, Table("s3://lake/a/b/orders", "s3://lake", "a/b/orders")),
    ("s3", {}, {}, None),
    ("gcs", {"bucket": "lake"}, {}, Table("gs://lake/orders", "gs://lake", "orders")),
    (
        "azureblob",
        {"account_name": "acme", "container_name": "lake/landing"},
        {"path": "crm"},
        Table(
            "https://acme.blob.core.windows.net/lake/landing/crm/orders",
            "wasbs://lake@acme.dfs.core.windows.net",
            "landing/crm/orders",
        ),
    ),
    ("azureblob", {"container_name": "lake"}, {}, None),
    ("azureblob", {"account_name": "acme"}, {}, None),
    (
        "azuresql",
        {"hostname": "acme.database.windows.net", "port": 1433, "database": "shop"},
        {"schema": "raw"},
        Table(
            "mssql://acme.database.windows.net:1433/shop/raw/orders",
            "mssql://acme.database.windows.net:1433",
            "shop.raw.orders",
        ),
    ),
    (
        "mssql",
        {"hostname": "db", "database": "shop"},
        {"schema": "dbo"},
        Table("mssql://db:1433/shop/dbo/orders", "mssql://db:1433", "shop.dbo.orders"),
    ),
    (
        "sqlserver",
        {"hostname": "db", "port": "1434", "database": "shop"},
        {"schema": "dbo"},
        Table("mssql://db:1434/shop/dbo/orders", "mssql://db:1434", "shop.dbo.orders"),
    ),
    ("sqlserver", {"hostname": "db", "database": "shop"}, {}, None),
    (
        "synapse",
        {"hostname": "acme.sql.azuresynapse.net", "database": "pool"},
        {"schema": "raw"},
        Table(
            "sqlserver://acme.sql.azuresynapse.net:1433/pool/raw/orders",
            "sqlserver://acme.sql.azuresynapse.net:1433",
            "raw.orders",
        ),
    ),
    (
        "mysql",
        {"hostname": "db", "port": 3307, "dbname": "shop"},
        {},
        Table("mysql://db:3307/shop/orders", "mysql://db:3307", "shop.orders"),
    ),
    (
        "mysql",
        {"hostname": "db", "dbname": "shop"},
        {"schema": "raw"},
        Table("mysql://db:3306/raw/orders", "mysql://db:3306", "raw.orders"),
    ),
    ("mysql", {"hostname": "db"}, {}, None),
    (
        "clickhouse",
        {"hostname": "ch.example.com", "database": "default"},
        {},
        Table("clickhouse://ch.example.com:9440/default/orders", "clickhouse://ch.example.com:9440", "default.orders"),
    ),
    ("clickhouse", {"database": "default"}, {}, None),
    (
        "motherduck",
        {"database": "my_db"},
        {"schema": "raw"},
        Table("motherduck://my_db/raw/orders", "duckdb://md:my_db", "my_db.raw.orders"),
    ),
    ("motherduck", {"database": "my_db"}, {}, None),
    (
        "awsathena",
        {"region": "eu-west-1", "outputbucket": "s3://results"},
        {"schema": "raw"},
        Table(
            "awsathena://athena.eu-west-1.amazonaws.com/AwsDataCatalog/raw/orders",
            "awsathena://athena.eu-west-1.amazonaws.com",
            "AwsDataCatalog.raw.orders",
        ),
    ),
    (
        "athena",
        {"region": "us-east-1"},
        {"catalog": "lake", "database": "raw"},
        Table(
            "awsathena://athena.us-east-1.amazonaws.com/lake/raw/orders",
            "awsathena://athena.us-east-1.amazonaws.com",
            "lake.raw.orders",
        ),
    ),
    ("awsathena", {"region": "eu-west-1"}, {}, None),
    ("something new", {"hostname": "h"}, {"schema": "raw"}, None),
]


@pytest.mark.parametrize(("kind", "configuration", "destination", "expected"), CASES)
def test_table_address_follows_the_convention_of_the_destination(
    kind: str, configuration: dict[str, Any], destination: dict[str, Any], expected: Table | None
) -> None:
    """Without a required setting there is no address."""
    connection = Connection(id="c", type={"id": kind}, configuration=configuration)

    assert table_address(connection, destination, "orders") == expected


def test_every_address_format_has_a_case() -> None:
    """The cases cover each type of connection with a convention, except for aliases."""
    assert set(ADDRESS_FORMATS) - {"amazon_rds_postgresql"} == {case[0] for case in CASES} - {"something new"}


@pytest.mark.parametrize("case", [case for case in CASES if case[3]], ids=lambda case: case[3].uri)
def test_table_uri_is_kept_by_airflow(case: tuple[str, dict[str, Any], dict[str, Any], Table]) -> None:
    """Airflow stores the URI as the name of the asset and changes no part of it, with a warning as an error."""
    from airflow_provider_polytomic._airflow.compat import Asset

    assert Asset(case[3].uri).uri == case[3].uri


OPENLINEAGE_NAMES: list[tuple[str, dict[str, str], str]] = [
    ("postgresql", {"host": "db", "port": "5432", "database": "shop", "schema": "raw"}, "Postgres"),
    ("mysql", {"host": "db", "port": "3306", "database": "raw"}, "MySQL"),
    ("synapse", {"host": "acme.sql.azuresynapse.net", "port": "1433", "schema": "raw"}, "AzureSynapse"),
    ("awsathena", {"region_name": "eu-west-1", "catalog": "AwsDataCatalog", "database": "raw"}, "Athena"),
]


@pytest.mark.parametrize(("kind", "parts", "helper"), OPENLINEAGE_NAMES)
def test_openlineage_name_equals_that_of_openlineage_client(kind: str, parts: dict[str, str], helper: str) -> None:
    """The client's naming helpers are the reference for the destinations that they know."""
    naming = pytest.importorskip("openlineage.client.naming.dataset", reason="OpenLineage is not installed")
    expected = getattr(naming, helper)(**parts, table="orders")

    tables = [case[3] for case in CASES if case[0] == kind and case[3]]
    assert (expected.get_namespace(), expected.get_name()) in [(table.namespace, table.name) for table in tables]


def test_openlineage_name_of_a_blob_equals_that_of_openlineage_client() -> None:
    """It names the container and the account, and the key in the container."""
    naming = pytest.importorskip("openlineage.client.naming.dataset", reason="OpenLineage is not installed")
    expected = naming.WASBS(container="lake", service_name="acme", object_key="landing/crm/orders")

    (blob,) = [case[3] for case in CASES if case[0] == "azureblob" and case[3]]
    assert (blob.namespace, blob.name) == (expected.get_namespace(), expected.get_name())


@pytest.mark.parametrize("kind", ADDRESS_FORMATS)
@pytest.mark.parametrize(
    "configuration", [None, {}, {"hostname": None, "port": True, "database": ["x"], "bucket": 7.5}]
)
def test_invalid_configuration_has_no_address(kind: str, configuration: Any) -> None:
    """Any value that the API may return as configuration is no error."""
    connection = Connection(id="c", type={"id": kind}, configuration=configuration)

    assert table_address(connection, None, "orders") is None


def test_table_names_are_percent_encoded() -> None:
    """Any name of a table yields a distinct URI."""
    connection = Connection(id="c", type={"id": "postgresql"}, configuration=POSTGRES)

    assert table_address(connection, {"schema": "raw"}, "Ö/ps ?#").uri.endswith("/raw/%C3%96%2Fps%20%3F%23")  # type: ignore[union-attr]


def data_response(**data: Any) -> Response:
    return Response(200, {}, json.dumps({"data": data}).encode())


def refused(status: int) -> Response:
    return Response(status, {}, json.dumps({"status": status, "message": "no", "key": "k"}).encode())


SYNC = data_response(
    id="s1", source_connection_id="c0", destination_connection_id="c1", destination_configuration={"schema": "raw"}
)
CONNECTION = data_response(id="c1", type={"id": "postgresql"}, configuration=POSTGRES)
ROWS = [
    {"schema": "public.orders", "output_name": "orders", "status": "completed", "record_count": 7, "error_count": 1},
    {"schema": "public.users", "output_name": "users", "status": "failed"},
    {"schema": "public.items", "status": "completed"},
]


def bulk(**more: Any) -> BulkSyncExecution:
    return BulkSyncExecution.model_validate({"id": "e1", "status": "errors", "schemas": ROWS, **more})


def test_written_tables_are_the_completed_schemas() -> None:
    """Each has its counts and its source. Two requests suffice for any number of tables."""
    driver = PlanDriver([SYNC, CONNECTION])

    orders, items = driver.drive(written_tables("s1", bulk(), BASE))

    assert orders.table.uri == "postgres://db.example.com:5433/shop/raw/orders"
    assert (orders.schema, orders.records, orders.errors) == ("public.orders", 7, 1)
    assert [source.uri for source in orders.sources] == ["polytomic://app.polytomic.com/connections/c0/public.orders"]
    assert items.table.uri == "postgres://db.example.com:5433/shop/raw/public.items"
    assert [request.path for request in driver.requests] == ["/api/bulk/syncs/s1", "/api/connections/c1"]


@pytest.mark.parametrize("more", [{"is_test": True}, {"schemas": []}, {"schemas": ROWS[1:2]}])
def test_written_tables_sends_no_request_when_nothing_was_written(more: dict[str, Any]) -> None:
    """Without completed schemas, or for a test run, no request is sent."""
    assert PlanDriver([]).drive(written_tables("s1", bulk(**more), BASE)) == []


@pytest.mark.parametrize("status", [403, 404])
def test_written_tables_use_polytomic_uris_without_access_to_the_connection(status: int) -> None:
    """Without access to the connection the URIs are Polytomic's."""
    tables = PlanDriver([SYNC, refused(status)]).drive(written_tables("s1", bulk(), BASE))

    assert tables[0].table.uri == "polytomic://app.polytomic.com/bulk/s1/public.orders"


def test_written_tables_raises_transient_failures() -> None:
    """A transient failure is raised, so that a table never has another URI than usual."""
    driver = PlanDriver([SYNC, *[refused(500)] * 3])
    with pytest.raises(PolytomicServerError):
        driver.drive(written_tables("s1", bulk(), BASE))


def test_written_table_of_a_model_sync_is_its_target_object() -> None:
    """The sources are its models. The counts are those of the execution."""
    execution = ModelSyncExecution.model_validate(
        {"id": "e1", "status": "completed", "counts": {"total": 9, "error": 2}}
    )
    sync = data_response(id="m1", model_ids=["a", "b"], target={"connection_id": "c9", "object": "Account"})

    (one,) = PlanDriver([sync]).drive(written_tables("m1", execution, BASE))

    assert one.table.uri == "polytomic://app.polytomic.com/connections/c9/Account"
    assert [source.uri for source in one.sources] == [f"polytomic://app.polytomic.com/models/{m}" for m in "ab"]
    assert (one.records, one.errors) == (9, 2)


def test_written_tables_of_an_incomplete_model_sync_are_unknown() -> None:
    """No request is sent."""
    execution = ModelSyncExecution.model_validate({"id": "e1", "status": "errors"})

    assert PlanDriver([]).drive(written_tables("m1", execution, BASE)) == []
