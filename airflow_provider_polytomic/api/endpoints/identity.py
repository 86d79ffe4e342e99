"""The owner of the API key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import models
from ..call import Call
from ..parsers import parse_one
from ..plan import Request

if TYPE_CHECKING:
    from ..models import Identity

_identity = parse_one(lambda: models.Identity)


def get() -> Call[Identity]:
    """``GET /api/me``: whom the key belongs to."""
    return Call(Request("GET", "/api/me"), _identity)
