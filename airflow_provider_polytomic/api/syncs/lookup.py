"""Lists and look-ups by name, complete even if the list changes between two pages.

The API lists the most recently updated items first. An item that is updated while the pages are fetched moves to the
front: this walk can miss it, and can return others twice. The next walk finds it on the first page. A second walk with
the same ids, each listed once, therefore confirms that no item is missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..call import DEFAULT_MAX_RETRIES
from ..errors import PolytomicLookupError, PolytomicResponseError
from ..kinds import SyncKind
from ..pagination import ListCall, fetch_page
from ..plan import Plan, Response
from ..settings import MAX_BODY_SIZE
from ..text import printable

T = TypeVar("T")

MIN_SIMILARITY = 0.5  # of names, from 0 to 1. A distant name in an error hides that the connection is the wrong one
MAX_WALKS = 5  # of a list that changes during each of them


@dataclass(frozen=True)
class Listing(Generic[T]):
    """The items of a list.

    :param complete: whether two walks agreed, or the list has one page. If not, ``items`` are those of all walks.
    """

    items: list[T]
    complete: bool


def walk(call: ListCall[T]) -> Plan[list[T]]:
    """List all items, each once, in one walk. An item that moves to an earlier page during the walk is missed.

    :raises PolytomicResponseError: the list is too large to be kept in memory, or does not end.
    """
    items, *_ = yield from _walk(call, DEFAULT_MAX_RETRIES)
    return list(items.values())


def walk_until_complete(
    call: ListCall[T],
    *,
    is_sufficient: Callable[[Iterable[Any]], bool] = lambda _: False,
    max_retries: int = DEFAULT_MAX_RETRIES,
) -> Plan[Listing[T]]:
    """List all items, repeating the walk until two in a row agree, at most :data:`MAX_WALKS` times.

    Two walks agree when they find the same ids, and the second finds each id once. A list of one page needs one walk.

    :param is_sufficient: whether the items so far are sufficient, even if others are missing.
    :raises PolytomicResponseError: as :func:`walk`.
    """
    items: dict[str, T] = {}
    previous_ids: set[str] | None = None
    for _ in range(MAX_WALKS):
        found, pages, repeats = yield from _walk(call, max_retries)
        if pages == 1 or (found.keys() == previous_ids and not repeats):
            return Listing(list(found.values()), complete=True)
        items |= found
        if is_sufficient(items.values()):
            break
        previous_ids = set(found)
    return Listing(list(items.values()), complete=False)


def _walk(call: ListCall[Any], max_retries: int) -> Plan[tuple[dict[str, Any], int, bool]]:
    """Walk a list once.

    :returns: its items by id, the number of pages, and whether an id was listed twice.
    """
    items: dict[str, Any] = {}
    size = rows = pages = 0
    token: str | None = None
    seen: set[str] = set()
    while True:
        page = yield from fetch_page(call, token, seen, max_retries)
        items |= {item.id: item for item in page.items}
        size += page.size
        rows += len(page.items)
        pages += 1
        if size > MAX_BODY_SIZE:
            raise PolytomicResponseError(call.request, Response(200), f"the list has more than {MAX_BODY_SIZE} bytes")
        token = page.next_page_token
        if token is None:
            return items, pages, rows > len(items)


def find_by_name(
    call: ListCall[Any], name: str, label: str, id_argument: str, max_retries: int = DEFAULT_MAX_RETRIES
) -> Plan[Any]:
    """Find the one item of a list that has this name. A single match in one walk is sufficient.

    :param label: what the items are, in the singular, for messages.
    :param id_argument: the argument that accepts an id instead, for messages.
    :raises PolytomicLookupError: as :func:`single_match`.
    """
    listing = yield from walk_until_complete(
        call, is_sufficient=lambda items: len(with_name(items, name)) == 1, max_retries=max_retries
    )
    return single_match(listing, name, label, id_argument)


def find_sync(kind: SyncKind, name: str, max_retries: int = DEFAULT_MAX_RETRIES) -> Plan[Any]:
    """Find the one sync that has this name.

    :raises PolytomicLookupError: as :func:`single_match`.
    """
    return (yield from find_by_name(kind.syncs(), name, kind.label, "sync_id", max_retries))


def with_name(items: Iterable[Any], name: str) -> list[Any]:
    """The items that have this name."""
    return [item for item in items if item.name == name]


def single_match(listing: Listing[Any], name: str, label: str, id_argument: str) -> Any:
    """Return the one item that has this name.

    :raises PolytomicLookupError: none has it (the message lists the nearest names), or several (with their ids).
    """
    matches = with_name(listing.items, name)
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = printable(", ".join(item.id for item in matches), 2000)
        message = f"{len(matches)} {label}s are named {name!r}: use {id_argument} with one of {ids}"
        raise PolytomicLookupError(message, [item.id for item in matches])
    names = {item.name for item in listing.items if item.name}
    near = difflib.get_close_matches(name, names, n=3, cutoff=MIN_SIMILARITY) or _containing(names, name)[:3]
    if near:
        hint = f"the nearest names are {', '.join(repr(printable(it, 100)) for it in near)}"
    elif names:
        hint = f"none of the {len(names)} names to which the API key has access is similar"
    else:
        hint = f"the API key has access to no {label}"
    if not listing.complete:
        hint += f". The {label} may have been missed: the list changed during each of {MAX_WALKS} walks"
    raise PolytomicLookupError(f"no {label} is named {name!r}; {hint}")


def _containing(names: Iterable[str], part: str) -> list[str]:
    return sorted(name for name in names if part and part.lower() in name.lower())
