"""Calls: a request with the parser of its response, and plans that make a call and keep a deadline."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from .errors import (
    PolytomicError,
    PolytomicResponseError,
    PolytomicTimeoutError,
    add_context,
    body_excerpt,
    error_from_response,
)
from .plan import Plan, Request, Response, SendResult, Sleep, TransportFailure, current_time, send, sleep
from .retry import is_transient, retry_delay, was_not_processed
from .settings import Credential
from .text import encoded_forms, redact

T = TypeVar("T")
DEFAULT_MAX_RETRIES = 5
MIN_CREDENTIAL_LENGTH = 8  # shorter credentials are not redacted in responses: they occur in names and ids by chance


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of the API: the request, and the parser of the response body.

    :param idempotent: whether a POST without an idempotency key may be sent twice without further effect.
    """

    request: Request
    parse: Callable[[bytes], T]
    idempotent: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether sending the request twice has no further effect."""
        return self.idempotent or self.request.method != "POST" or self.request.idempotency_key is not None

    def with_timeout(self, seconds: float) -> Call[T]:
        """Return the same call with a timeout for each of its requests."""
        return replace(self, request=replace(self.request, timeout=seconds))


def decode(call: Call[T], response: SendResult) -> T:
    """Parse a response.

    :raises PolytomicError: the response is an error, is missing, or cannot be parsed.
    """
    if isinstance(response, TransportFailure) or not 200 <= response.status < 300:
        raise error_from_response(call.request, response)
    try:
        return call.parse(_redacted_body(response))
    except (ValidationError, ValueError, RecursionError) as error:
        why = _describe_parse_error(error, response)
    # Raised outside the handler: the context of this error would otherwise be the library's, which quotes the response.
    raise PolytomicResponseError(call.request, response, why)


def _redacted_body(response: Response) -> bytes:
    """The body, with stars for the credentials that it quotes.

    Parts of a response may be written to logs, messages and Airflow's database.
    """
    secrets = [it for it in response.secrets if isinstance(it, Credential) and len(it) >= MIN_CREDENTIAL_LENGTH]
    if not any(form.encode("utf-8", "replace") in response.body for form in encoded_forms(secrets)):
        return response.body

    def redact_in(value: Any) -> Any:
        if isinstance(value, dict):
            return {redact(name, secrets): redact_in(item) for name, item in value.items()}
        if isinstance(value, list):
            return [redact_in(item) for item in value]
        return redact(value, secrets) if isinstance(value, str) else value

    return json.dumps(redact_in(json.loads(response.body))).encode()


def fetch(call: Call[T], max_retries: int = DEFAULT_MAX_RETRIES) -> Plan[T]:
    """Make one call, and repeat it as :func:`~.retry.retry_delay` decides.

    :raises PolytomicError: the last response was an error.
    """
    request_count = 1
    while True:
        response = yield from send(call.request)
        if isinstance(response, Response) and response.status < 300:
            return decode(call, response)
        delay = retry_delay(
            response,
            request_count,
            repeatable=call.repeatable,
            max_retries=max_retries,
            now=(yield from current_time()),
            jitter=random.random(),
        )
        if delay is None:
            try:
                return decode(call, response)
            except PolytomicError as error:
                if request_count > 1:
                    add_context(error, f"gave up after {request_count} requests")
                raise
        yield from sleep(delay)
        request_count += 1


def with_deadline(deadline: float | None, plan: Plan[T], milestone: str, *, only_reads: bool = False) -> Plan[T]:
    """Run a plan until a deadline.

    After the deadline, no new idempotency key is sent, no failed request is repeated, and the plan does not sleep.
    The outcome of a request with a key that may have arrived is still resolved: an unknown execution cannot be
    canceled.

    :param deadline: in seconds since the epoch; None for no deadline.
    :param milestone: what had to happen before the deadline, for the message.
    :param only_reads: whether the plan only reads. No request at all is then sent after the deadline.
    :raises PolytomicTimeoutError: the deadline has passed. The message contains the last failure.
    """
    if deadline is None:
        return (yield from plan)
    result: SendResult | float | None = None
    sent_keys: set[str] = set()  # keys that may have reached the server
    unresolved = False  # whether the outcome of the last key is unknown
    failure = ""

    def deadline_error() -> PolytomicTimeoutError:
        return PolytomicTimeoutError(f"The deadline passed before {milestone}{failure and ': ' + failure}")

    try:
        while True:
            step = plan.send(result)
            left = deadline - (yield from current_time())
            if isinstance(step, Request):
                key = step.idempotency_key
                refused = key not in sent_keys if key is not None else only_reads or (failure and not unresolved)
                if left <= 0 and refused:
                    raise deadline_error()
                if key is None:
                    step = replace(step, timeout=min(max(left, 1.0), step.timeout or math.inf))
                result = response = yield from send(step)
                good = isinstance(response, Response) and response.status < 300
                failure = "" if good else str(error_from_response(step, response))
                if key is not None and not was_not_processed(response):
                    sent_keys.add(key)
                    # A 409 after a lost response may mean that the server is still processing the first request.
                    conflict = isinstance(response, Response) and response.status == 409
                    unresolved = not good and (is_transient(response) or (unresolved and conflict))
            elif isinstance(step, Sleep) and not unresolved:
                if left <= 0:
                    raise deadline_error()
                result = yield Sleep(min(step.seconds, left))
            else:
                result = yield step
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _describe_parse_error(error: Exception, response: Response) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        what = f"{where}: {first['msg']}"
    else:
        what = str(error)
    return f"not a response of the Polytomic API ({what[:200]}): {body_excerpt(response)}"
