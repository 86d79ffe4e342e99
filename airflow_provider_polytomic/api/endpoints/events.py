"""Events of the last 48 hours in the organization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import models
from ..call import Call
from ..pagination import ListCall
from ..parsers import parse_list
from ..plan import Request, build_query

if TYPE_CHECKING:
    from ..models import Event

_events = parse_list(lambda: models.Event)
_types = parse_list(lambda: str)


def list_(
    *,
    type: str | None = None,  # noqa: A002  the API's name
    starting_after: str | None = None,
    ending_before: str | None = None,
    limit: int | None = None,
) -> ListCall[Event]:
    """``GET /api/events``: newest first; 10 a page by default, 100 at most; kept for 48 hours.

    :param starting_after: only events created after this time (RFC 3339), exclusive.
    :param ending_before: only events created before this time, exclusive.
    """
    parameters = build_query(type=type, starting_after=starting_after, ending_before=ending_before, limit=limit)
    return ListCall(Request("GET", "/api/events", parameters), _events)


def types() -> Call[list[str]]:
    """``GET /api/events_types``: the types of events there are."""
    return Call(Request("GET", "/api/events_types"), lambda body: _types(body).items)
