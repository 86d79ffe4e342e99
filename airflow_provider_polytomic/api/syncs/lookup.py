"""Look-ups by name in lists that may change between two of their pages.

The API lists what was updated last first. An item that is updated while the pages are fetched moves to the front: it
can be missed, and others can be listed twice. After that it is on the first page, so the next walk finds it. A second
walk with the same ids, each on one page only, therefore confirms that nothing was missed.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..call import DEFAULT_MAX_RETRIES, ListCall, fetch_page
from ..errors import PolytomicLookupError, PolytomicResponseError, printable
from ..kinds import SyncKind
from ..plan import Plan, Response
from ..settings import MAX_BODY_SIZE

T = TypeVar("T")

MAX_WALKS = 5  # of a list that changes during each walk


@dataclass(frozen=True)
class Walked(Generic[T]):
    """The items of a list.

    :param complete: whether two walks agreed, or there was one page. Else these are the items of all walks together.
    """

    items: list[T]
    complete: bool


def walk(call: ListCall[T]) -> Plan[list[T]]:
    """All items of a list, page after page, each once. An item that moves to an earlier page meanwhile is missed.

    :raises PolytomicResponseError: the list is too large to be kept, or it never ends.
    """
    items, *_ = yield from _walk(call, DEFAULT_MAX_RETRIES)
    return list(items.values())


def walk_until_complete(
    call: ListCall[T],
    *,
    enough: Callable[[Iterable[Any]], bool] = lambda _: False,
    max_retries: int = DEFAULT_MAX_RETRIES,
) -> Plan[Walked[T]]:
    """Walk a list until two walks in a row find the same ids, the second each once, at most :data:`MAX_WALKS` times.

    One walk is enough for a list of one page, which comes in one answer.

    :param enough: whether these items suffice even if others were missed.
    :raises PolytomicResponseError: as :func:`walk`.
    """
    known: dict[str, T] = {}
    before: set[str] | None = None
    for _ in range(MAX_WALKS):
        found, pages, repeats = yield from _walk(call, max_retries)
        if pages == 1 or (found.keys() == before and not repeats):
            return Walked(list(found.values()), complete=True)
        known |= found
        if enough(known.values()):
            break
        before = set(found)
    return Walked(list(known.values()), complete=False)


def _walk(call: ListCall[Any], max_retries: int) -> Plan[tuple[dict[str, Any], int, bool]]:
    """The items of a list by their ids, how many pages it had, and whether an id was listed twice."""
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
    call: ListCall[Any], name: str, label: str, use: str, max_retries: int = DEFAULT_MAX_RETRIES
) -> Plan[Any]:
    """The one item of a list that has this name. A single match in one walk of all pages is enough.

    :param label: what the items are, in the singular.
    :param use: the argument that takes an id instead.
    :raises PolytomicLookupError: as :func:`single_match`.
    """
    walked = yield from walk_until_complete(
        call, enough=lambda items: len(with_name(items, name)) == 1, max_retries=max_retries
    )
    return single_match(walked, name, label, use)


def find_sync(kind: SyncKind, name: str, max_retries: int = DEFAULT_MAX_RETRIES) -> Plan[Any]:
    """Find the one sync that has this name.

    :raises PolytomicLookupError: as :func:`single_match`.
    """
    return (yield from find_by_name(kind.syncs(), name, kind.label, "sync_id", max_retries))


def with_name(items: Iterable[Any], name: str) -> list[Any]:
    """The items that have this name."""
    return [item for item in items if item.name == name]


def single_match(walked: Walked[Any], name: str, label: str, use: str) -> Any:
    """The one item that has this name.

    :raises PolytomicLookupError: none has it (the message lists the nearest names), or several (with their ids).
    """
    matches = with_name(walked.items, name)
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = printable(", ".join(item.id for item in matches), 2000)
        message = f"{len(matches)} {label}s are named {name!r}: use {use} with one of {ids}"
        raise PolytomicLookupError(message, [item.id for item in matches])
    names = {item.name for item in walked.items if item.name}
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or sorted(names)[:3]
    hint = (
        f"the nearest names are {', '.join(repr(printable(it, 100)) for it in near)}"
        if near
        else "this key sees none at all"
    )
    if not walked.complete:
        hint += f". It may have been missed: the list changed during each of {MAX_WALKS} walks"
    raise PolytomicLookupError(f"no {label} is named {name!r}; {hint}")
