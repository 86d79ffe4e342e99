"""Finding by name: what has a name in Polytomic may share it with others."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from .call import ListCall, fetch_page
from .errors import PolytomicLookupError, PolytomicResponseError, readable
from .http import Plan, Response
from .settings import MAX_BODY

T = TypeVar("T")


def walk(call: ListCall[T]) -> Plan[list[T]]:
    """All items of a list, page after page.

    :raises PolytomicResponseError: they are more than can be kept, or the list never ends.
    """
    items: list[T] = []
    size = 0
    token: str | None = None
    seen: set[str] = set()
    while True:
        page = yield from fetch_page(call, token, seen)
        items += page.items
        size += page.size
        if size > MAX_BODY:
            raise PolytomicResponseError(call.request, Response(200), f"the list has more than {MAX_BODY} bytes")
        token = page.next_page_token
        if token is None:
            return items


def the_one(items: list[Any], name: str, label: str, use: str) -> Any:
    """The one item that has this name.

    :param label: what the items are, in the singular.
    :param use: the argument that takes an id instead.
    :raises PolytomicLookupError: for none (with the nearest names) or several (with their ids).
    """
    matches = [item for item in items if item.name == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = readable(", ".join(item.id for item in matches), 2000)
        raise PolytomicLookupError(f"{len(matches)} {label}s are named {name!r}: use {use} with one of {ids}")
    names = {item.name for item in items if item.name}
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or sorted(names)[:3]
    hint = (
        f"the nearest names are {', '.join(repr(readable(it, 100)) for it in near)}"
        if near
        else "this key sees none at all"
    )
    raise PolytomicLookupError(f"no {label} is named {name!r}; {hint}")
