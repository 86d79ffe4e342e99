"""Reads lists, which the API returns in pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from .call import DEFAULT_MAX_RETRIES, Call, fetch
from .errors import PolytomicError, PolytomicResponseError
from .plan import Plan, Request, Response

T = TypeVar("T")
MAX_PAGES = 10_000  # of one list


@dataclass(frozen=True, eq=False, repr=False)
class Page(Generic[T]):
    """One page of a list.

    :ivar next_page_token: the token of the next page; None on the last page.
    :ivar size: bytes of the response body.
    """

    items: list[T]
    next_page_token: str | None
    size: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class ListCall(Generic[T]):
    """A list that the API returns in pages: the request for its first page, and the parser of each page."""

    request: Request
    parse: Callable[[bytes], Page[T]]

    def page(self, token: str | None = None) -> Call[Page[T]]:
        """Return the call that reads one page.

        :param token: ``next_page_token`` of the previous page; None reads the first page.
        """
        request = self.request
        if token is not None:
            request = replace(request, query=(*request.query, ("page_token", token)))
        return Call(request, self.parse)

    def with_half_page_size(self) -> ListCall[T] | None:
        """Return the same list with half as many items per page.

        None if a page has one item already, or if the list has no ``limit`` parameter.
        """
        limit = int(dict(self.request.query).get("limit", 0)) // 2
        if not limit:
            return None
        query = tuple((name, str(limit) if name == "limit" else value) for name, value in self.request.query)
        return replace(self, request=replace(self.request, query=query))


class PageReader(Generic[T]):
    """Reads the pages of one list in order, with smaller pages when a page is too large.

    :meth:`fetch_next` sends the requests, with retries. A plan that sends them itself uses the other methods.

    :ivar is_exhausted: whether the last page has been read.
    """

    def __init__(self, call: ListCall[T], max_retries: int = DEFAULT_MAX_RETRIES) -> None:
        self.is_exhausted = False
        self._call = call
        self._max_retries = max_retries
        self._token: str | None = None
        self._seen_tokens: set[str] = set()

    def fetch_next(self) -> Plan[Page[T] | None]:
        """Fetch the next page; None after the last one.

        :raises PolytomicError: the page could not be fetched, or the list does not end.
        """
        while not self.is_exhausted:
            try:
                page = yield from fetch(self.next_call(), self._max_retries)
            except PolytomicResponseError as error:
                if not self.halve_page_size(error):
                    raise
                continue
            self.record_page(page)
            return page
        return None

    def next_call(self) -> Call[Page[T]]:
        """The call that reads the next page."""
        return self._call.page(self._token)

    def record_page(self, page: Page[T]) -> None:
        """Continue after this page.

        :raises PolytomicResponseError: as :func:`record_page_token`.
        """
        record_page_token(self._call, page, self._seen_tokens)
        self._token = page.next_page_token
        self.is_exhausted = self._token is None

    def halve_page_size(self, error: PolytomicError | None) -> bool:
        """Read smaller pages if the error is that a page is too large.

        :returns: whether smaller pages are possible.
        """
        is_too_large = isinstance(error, PolytomicResponseError) and error.too_large
        smaller = self._call.with_half_page_size() if is_too_large else None
        self._call = smaller or self._call
        return smaller is not None


def fetch_page(
    call: ListCall[T], token: str | None, seen: set[str], max_retries: int = DEFAULT_MAX_RETRIES
) -> Plan[Page[T]]:
    """Fetch one page of a list.

    :param seen: the page tokens of this walk so far; the new one is added.
    :raises PolytomicResponseError: as :func:`record_page_token`.
    """
    page = yield from fetch(call.page(token), max_retries)
    record_page_token(call, page, seen)
    return page


def record_page_token(call: ListCall[T], page: Page[T], seen: set[str]) -> None:
    """Add the token of the next page to ``seen``.

    :raises PolytomicResponseError: the server repeated a token, or the list has more than :data:`MAX_PAGES` pages.
    """
    if page.next_page_token:
        if page.next_page_token in seen:
            raise PolytomicResponseError(
                call.request, Response(200), "the server repeated a page token: the list would never end"
            )
        if len(seen) >= MAX_PAGES:
            raise PolytomicResponseError(call.request, Response(200), f"the list has more than {MAX_PAGES} pages")
        seen.add(page.next_page_token)
