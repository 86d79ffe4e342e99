"""The owner of the API key."""

from __future__ import annotations

from ..call import Call
from ..models import Identity
from ..parsers import parse_one
from ..plan import Request

_identity = parse_one(Identity)


def get() -> Call[Identity]:
    """``GET /api/me``: whom the key belongs to."""
    return Call(Request("GET", "/api/me"), _identity)
