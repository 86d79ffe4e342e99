"""A call is a request and the way to read its answer. The plans here make one, walk a list of pages, or end in time."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from .errors import (
    PolytomicResponseError,
    PolytomicTimeoutError,
    body_excerpt,
    encoded_forms,
    error_from_response,
    redact,
)
from .plan import Plan, Request, Response, SendResult, Sleep, TransportFailure, current_time, send, sleep
from .retry import is_transient, retry_delay, was_not_processed
from .settings import Credential

T = TypeVar("T")
DEFAULT_MAX_RETRIES = 5
MAX_PAGES = 10_000  # of one list
MIN_CREDENTIAL_LENGTH = 8  # characters that are concealed in answers


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

    def with_timeout(self, seconds: float) -> Call[T]:
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

    def with_half_page_size(self) -> ListCall[T] | None:
        """The same list with half as many items a page; None where a page has one, or as many as the server likes."""
        limit = int(dict(self.request.query).get("limit", 0)) // 2
        if not limit:
            return None
        query = tuple((name, str(limit) if name == "limit" else value) for name, value in self.request.query)
        return replace(self, request=replace(self.request, query=query))


def decode(call: Call[T], answer: SendResult) -> T:
    """The parsed answer.

    :raises PolytomicError: what the answer is instead.
    """
    if isinstance(answer, TransportFailure) or not 200 <= answer.status < 300:
        raise error_from_response(call.request, answer)
    try:
        return call.parse(_redacted_body(answer))
    except (ValidationError, ValueError, RecursionError) as error:
        why = _unreadable(error, answer)
    # Not in there: the library's error, which quotes the answer, would go along as the context of ours.
    raise PolytomicResponseError(call.request, answer, why)


def _redacted_body(answer: Response) -> bytes:
    """The body, with stars where it quotes what was sent to the API as credentials.

    Whatever is taken from an answer may end in logs, messages and Airflow's database. Very short credentials are no
    secrets, and would occur in names and ids by chance.
    """
    secrets = [it for it in answer.secrets if isinstance(it, Credential) and len(it) >= MIN_CREDENTIAL_LENGTH]
    if not any(form.encode("utf-8", "replace") in answer.body for form in encoded_forms(secrets)):
        return answer.body

    def conceal_in(value: Any) -> Any:
        if isinstance(value, dict):
            return {redact(name, secrets): conceal_in(item) for name, item in value.items()}
        if isinstance(value, list):
            return [conceal_in(item) for item in value]
        return redact(value, secrets) if isinstance(value, str) else value

    return json.dumps(conceal_in(json.loads(answer.body))).encode()


def fetch(call: Call[T], max_retries: int = DEFAULT_MAX_RETRIES) -> Plan[T]:
    """Make one call, asking again as the retry rule says."""
    attempt = 1
    while True:
        answer = yield from send(call.request)
        if isinstance(answer, Response) and answer.status < 300:
            return decode(call, answer)
        delay = retry_delay(
            answer,
            attempt,
            repeatable=call.repeatable,
            max_retries=max_retries,
            now=(yield from current_time()),
            jitter=random.random(),
        )
        if delay is None:
            return decode(call, answer)
        yield from sleep(delay)
        attempt += 1


def fetch_page(
    call: ListCall[T], token: str | None, seen: set[str], max_retries: int = DEFAULT_MAX_RETRIES
) -> Plan[Page[T]]:
    """Fetch one page of a list; ``seen`` collects the tokens of this walk.

    :raises PolytomicResponseError: when the server hands out a token twice, or too many: the walk would never end.
    """
    page = yield from fetch(call.page(token), max_retries)
    record_page_token(call, page, seen)
    return page


def record_page_token(call: ListCall[T], page: Page[T], seen: set[str]) -> None:
    """Take in that the page after this one is to be asked for.

    :raises PolytomicResponseError: as :func:`fetch_page`.
    """
    if page.next_page_token:
        if page.next_page_token in seen:
            raise PolytomicResponseError(
                call.request, Response(200), "the server repeats a page token: the list would never end"
            )
        if len(seen) >= MAX_PAGES:
            raise PolytomicResponseError(call.request, Response(200), f"the list has more than {MAX_PAGES} pages")
        seen.add(page.next_page_token)


def fetch_fitting_page(
    call: ListCall[T], token: str | None, seen: set[str], max_retries: int = DEFAULT_MAX_RETRIES
) -> Plan[tuple[Page[T], ListCall[T]]]:
    """Fetch one page as :func:`fetch_page`, with half as many items for as long as the answer is too large.

    :returns: the page, and the list with the number of items that a page may have.
    """
    while True:
        try:
            return (yield from fetch_page(call, token, seen, max_retries)), call
        except PolytomicResponseError as error:
            smaller = call.with_half_page_size() if error.too_large else None
            if smaller is None:
                raise
        call = smaller


def with_deadline(deadline: float | None, plan: Plan[T], before: str, *, only_reads: bool = False) -> Plan[T]:
    """The same plan, ended by a deadline unless it has to find out whether something was started.

    After the deadline no key is sent that was not sent before it, no failed request is repeated, and the plan does not
    sleep. The outcome of a request with a key that may have arrived is still resolved: an execution that is unknown
    cannot be canceled.

    :param deadline: seconds since the epoch; None is no deadline.
    :param before: what had to happen before it, for the message.
    :param only_reads: whether the plan just looks something up: then no request at all is sent after the deadline.
    :raises PolytomicTimeoutError: the deadline has passed; the message holds the last failure.
    """
    if deadline is None:
        return (yield from plan)
    result: SendResult | float | None = None
    sent_keys: set[str] = set()  # those that may have reached the server
    unresolved = False  # whether it is unknown what the last of them has started
    failure = ""

    def passed() -> PolytomicTimeoutError:
        return PolytomicTimeoutError(f"The deadline passed before {before}{failure and ': ' + failure}")

    try:
        while True:
            step = plan.send(result)
            left = deadline - (yield from current_time())
            if isinstance(step, Request):
                key = step.idempotency_key
                refused = key not in sent_keys if key is not None else only_reads or (failure and not unresolved)
                if left <= 0 and refused:
                    raise passed()
                if key is None:
                    step = replace(step, timeout=min(max(left, 1.0), step.timeout or math.inf))
                result = answer = yield from send(step)
                good = isinstance(answer, Response) and answer.status < 300
                failure = "" if good else str(error_from_response(step, answer))
                if key is not None and not was_not_processed(answer):
                    sent_keys.add(key)
                    # A 409 after a lost answer may be about that first request, still being processed.
                    conflict = isinstance(answer, Response) and answer.status == 409
                    unresolved = not good and (is_transient(answer) or (unresolved and conflict))
            elif isinstance(step, Sleep) and not unresolved:
                if left <= 0:
                    raise passed()
                result = yield Sleep(min(step.seconds, left))
            else:
                result = yield step
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _unreadable(error: Exception, answer: Response) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        what = f"{where}: {first['msg']}"
    else:
        what = str(error)
    return f"not an answer of the Polytomic API ({what[:200]}): {body_excerpt(answer)}"
