"""Polytomic's connections to databases, warehouses and services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import models
from ..call import Call
from ..pagination import ListCall
from ..parsers import parse_list, parse_nothing, parse_one
from ..plan import Request, build_path

if TYPE_CHECKING:
    from ..models import Connection, SchemaCache

CONNECTION = "/api/connections/{connection_id}"

_connection, _connections = parse_one(lambda: models.Connection), parse_list(lambda: models.Connection)
_schema_cache = parse_one(lambda: models.SchemaCache)


def list_() -> ListCall[Connection]:
    """``GET /api/connections``."""
    return ListCall(Request("GET", "/api/connections"), _connections)


def get(connection_id: str) -> Call[Connection]:
    """``GET /api/connections/{id}``."""
    return Call(Request("GET", build_path(CONNECTION, connection_id=connection_id)), _connection)


def refresh_schemas(connection_id: str) -> Call[None]:
    """``POST /api/connections/{id}/schemas/refresh``: start a refresh of the schemas and fields."""
    where = build_path(CONNECTION + "/schemas/refresh", connection_id=connection_id)
    return Call(Request("POST", where), parse_nothing, idempotent=True)


def schema_cache(connection_id: str) -> Call[SchemaCache]:
    """``GET /api/connections/{id}/schemas/status``: whether a refresh is running, and when the last one ran."""
    return Call(Request("GET", build_path(CONNECTION + "/schemas/status", connection_id=connection_id)), _schema_cache)
