"""Polytomic's connections to databases, warehouses and services."""

from __future__ import annotations

from ..call import Call, ListCall
from ..http import Request, path
from ..models import Connection, many, one

_connection, _connections = one(Connection), many(Connection)


def list_() -> ListCall[Connection]:
    """``GET /api/connections``."""
    return ListCall(Request("GET", "/api/connections"), _connections)


def get(connection_id: str) -> Call[Connection]:
    """``GET /api/connections/{id}``."""
    return Call(Request("GET", path("/api/connections/{connection_id}", connection_id=connection_id)), _connection)
