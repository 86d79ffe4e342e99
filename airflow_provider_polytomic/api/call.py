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
    error_from_response,
)
from .plan import Plan, Request, Response, SendResult, Sleep, TransportFailure, current_time, send, sleep
from .retry import is_transient, retry_delay, was_not_processed
from .settings import Credential
from .text import encoded_forms, redact

T = TypeVar("T")
DEFAULT_MAX_RETRIES = 5
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
