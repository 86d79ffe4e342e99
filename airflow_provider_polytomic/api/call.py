"""A call is a request and the way to read its answer. The plans here make one, walk a list of pages, or end in time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pydantic import ValidationError

from .errors import PolytomicResponseError, PolytomicTimeoutError, error_from, excerpt
from .http import Answer, Plan, Request, Response, Sleep, Unreachable, ask, clock, pause
from .retry import retry_delay, surely_not_processed

T = TypeVar("T")
DEFAULT_MAX_RETRIES = 5
MOST_PAGES = 10_000  # of one list


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of the API: what is sent, and what the answer's body means."""

    request: Request
    parse: Callable[[bytes], T]
    idempotent: bool = False  # a POST that does no more when sent twice, without a key

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.idempotent or self.request.method != "POST" or self.request.idempotency_key is not None

    def within(self, seconds: float) -> Call[T]:
        """The same call, given at most ``seconds`` for each try."""
        return replace(self, request=replace(self.request, timeout=seconds))


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list, and the token of the next."""

    items: list[T]
    next_page_token: str | None
    size: int = 0  # bytes that it came in


@dataclass(frozen=True)
class ListCall(Generic[T]):
    """A list that comes in pages: how to read one."""

    request: Request
    parse: Callable[[bytes], Page[T]]

    def page(self, token: str | None = None) -> Call[Page[T]]:
        """The call for one page: the first, or the one that ``token`` (sent back unchanged) stands for."""
        request = self.request
        if token is not None:
            request = replace(request, query=(*request.query, ("page_token", token)))
        return Call(request, self.parse)


def decode(call: Call[T], answer: Answer) -> T:
    """The parsed answer.

    :raises PolytomicError: what the answer is instead.
    """
    if isinstance(answer, Unreachable) or not 200 <= answer.status < 300:
        raise error_from(call.request, answer)
    try:
        return call.parse(answer.body)
    except (ValidationError, ValueError, RecursionError) as error:
        why = _unreadable(error, answer)
    # Not in there: the library's error, which quotes the answer, would go along as the context of ours.
    raise PolytomicResponseError(call.request, answer, why)


def fetch(call: Call[T], max_retries: int = DEFAULT_MAX_RETRIES) -> Plan[T]:
    """Make one call, asking again as the retry rule says."""
    attempt = 1
    while True:
        answer = yield from ask(call.request)
        if isinstance(answer, Response) and answer.status < 300:
            return decode(call, answer)
        delay = retry_delay(
            answer,
            attempt,
            repeatable=call.repeatable,
            max_retries=max_retries,
            now=(yield from clock()),
            jitter=random.random(),
        )
        if delay is None:
            return decode(call, answer)
        yield from pause(delay)
        attempt += 1


def fetch_page(
    call: ListCall[T], token: str | None, seen: set[str], max_retries: int = DEFAULT_MAX_RETRIES
) -> Plan[Page[T]]:
    """Fetch one page of a list; ``seen`` collects the tokens of this walk.

    :raises PolytomicResponseError: when the server hands out a token twice, or too many: the walk would never end.
    """
    page = yield from fetch(call.page(token), max_retries)
    turn(call, page, seen)
    return page


def turn(call: ListCall[T], page: Page[T], seen: set[str]) -> None:
    """Take in that the page after this one is to be asked for.

    :raises PolytomicResponseError: as :func:`fetch_page`.
    """
    if page.next_page_token:
        if page.next_page_token in seen:
            raise PolytomicResponseError(
                call.request, Response(200), "the server repeats a page token: the list would never end"
            )
        if len(seen) >= MOST_PAGES:
            raise PolytomicResponseError(call.request, Response(200), f"the list has more than {MOST_PAGES} pages")
        seen.add(page.next_page_token)


def before(deadline: float | None, plan: Plan[T], what: str) -> Plan[T]:
    """The same plan, which gives up at a deadline when it is in trouble.

    What came of a start that may have arrived is asked on: who does not know it, cannot cancel it.

    :param deadline: seconds since the epoch; None is no deadline.
    :param what: what has to happen before it, for the message.
    :raises PolytomicTimeoutError: the deadline has passed; says what the trouble was.
    """
    if deadline is None:
        return (yield from plan)
    told: Answer | float | None = None
    key: str | None = None  # of the last request
    arrived: set[str | None] = set()  # the keys that may have
    trouble = ""
    try:
        while True:
            step = plan.send(told)
            left = deadline - (yield from clock())
            if isinstance(step, Request):
                key = step.idempotency_key
                if left <= 0 and trouble and key not in arrived:
                    raise PolytomicTimeoutError(f"the deadline passed before {what}: {trouble}")
                if key is None:
                    step = replace(step, timeout=min(max(left, 1.0), step.timeout or math.inf))
                told = answer = yield from ask(step)
                good = isinstance(answer, Response) and answer.status < 300
                trouble = "" if good else str(error_from(step, answer))
                if key is not None and not surely_not_processed(answer):
                    arrived.add(key)
            elif isinstance(step, Sleep) and key not in arrived:
                told = yield Sleep(min(step.seconds, max(left, 0.0)))
            else:
                told = yield step
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _unreadable(error: Exception, answer: Response) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        what = f"{where}: {first['msg']}"
    else:
        what = str(error)
    return f"not an answer of the Polytomic API ({what[:200]}): {excerpt(answer)}"
