"""Requests that must take effect at most once although a response may be lost: starts and creations.

Each has an idempotency key, so it is safe to repeat it until its outcome is known.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from .call import Call, decode, fetch
from .errors import (
    PolytomicApiError,
    PolytomicAuthError,
    PolytomicConflictError,
    PolytomicError,
    PolytomicNotFoundError,
    PolytomicRateLimitError,
    PolytomicResponseError,
    PolytomicServerError,
    PolytomicUnreachableError,
    add_context,
    parse_api_error,
)
from .plan import Plan, Response, SendResult, TransportFailure, current_time, send, sleep
from .retry import backoff, retry_after_delay

T = TypeVar("T")

log = logging.getLogger(__name__)

OUTCOME_TIMEOUT = 60.0  # seconds during which a key is repeated until its outcome is known
REPLICA_LAG = 60.0  # seconds during which the server's replicas may not know a new object
READ_INTERVAL = 5.0  # seconds between two reads of an object that is not found
Operation = Literal["start", "creation"]
_REPEATABLE = (
    PolytomicConflictError,
    PolytomicUnreachableError,
    PolytomicResponseError,
    PolytomicServerError,
    PolytomicRateLimitError,
)


def compute_key(parts: list[Any]) -> str:
    """Derive an idempotency key from ``parts``: equal parts always give the same key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def send_once(call: Call[T], operation: Operation, *, timeout: float | None = None) -> Plan[T]:
    """Make a call that has an idempotency key, and repeat it until its outcome is known.

    :param operation: what the call does, for messages.
    :param timeout: seconds during which the call is repeated, default :data:`OUTCOME_TIMEOUT`; 0 sends one request.
    :raises PolytomicConflictError: the server refused the request because of another object or execution.
    :raises PolytomicError: the request was refused, or its outcome is unknown. The message says which.
    """
    outcome = yield from resolve_outcome(call, operation, timeout=timeout)
    if isinstance(outcome, PolytomicApiError):
        raise outcome
    return outcome


@dataclass(eq=False, repr=False)
class _KeyRequests(Generic[T]):
    """What the requests with one key have shown so far. Times are in seconds since the epoch.

    :ivar unanswered_since: when a request was last sent whose outcome is unknown. Until the timeout has passed since
        then, a 409 may mean that the server is still processing that request.
    :ivar is_uncertain: whether a request of this call may have arrived although its response was lost.
    """

    call: Call[T]
    operation: Operation
    timeout: float
    unanswered_since: float | None
    is_uncertain: bool = False
    failing_since: float | None = None

    def record_failure(self, response: SendResult, error: PolytomicError, now: float) -> None:
        """Record a failed request.

        :raises PolytomicError: ``error``, if repeating the request cannot help.
        """
        if isinstance(response, Response) and 300 <= response.status < 400:
            raise error
        is_indecisive = isinstance(error, (PolytomicConflictError, PolytomicRateLimitError))
        if not is_indecisive and _may_have_arrived(response):
            self.unanswered_since, self.is_uncertain = now, True
        if self.failing_since is None:
            self.failing_since = now

    def is_final_conflict(self, error: PolytomicError, now: float) -> bool:
        """Whether the error is a conflict with something other than an earlier request with the same key."""
        if not isinstance(error, PolytomicConflictError):
            return False
        return self.unanswered_since is None or now - self.unanswered_since >= self.timeout

    def is_timed_out(self, error: PolytomicError, now: float) -> bool:
        """Whether requests have failed for longer than the timeout. A conflict has a limit of its own."""
        assert self.failing_since is not None  # noqa: S101  a failure was recorded
        return now - self.failing_since >= self.timeout and not isinstance(error, PolytomicConflictError)

    def unresolved_error(self, error: PolytomicError) -> PolytomicError:
        """The error to raise after the timeout."""
        if not self.is_uncertain:
            return error
        return add_context(
            error,
            f"Could not confirm whether the {self.operation} succeeded. Repeating it with idempotency key "
            f"{self.call.request.idempotency_key} is safe; the next try of an Airflow task does so automatically",
        )


def resolve_outcome(
    call: Call[T],
    operation: Operation,
    *,
    sent_before: float | None = None,
    timeout: float | None = None,
    find_effect: Callable[[], Plan[T | None]] | None = None,
) -> Plan[T | PolytomicConflictError | PolytomicServerError]:
    """Send a call with an idempotency key until its outcome is known.

    :param operation: what the call does, for messages.
    :param sent_before: the time before which an earlier process may have sent the key, in seconds since the epoch. A
        409 may then mean that the server is still processing that request.
    :param timeout: seconds during which the call is repeated, default :data:`OUTCOME_TIMEOUT`; 0 sends one request.
    :param find_effect: finds what a request has started although the API responded with a 5xx.
    :returns: the result, or the error that the server recorded for the key: a conflict, or a 5xx of the API itself.
    :raises PolytomicError: the request was refused, or its outcome is unknown.
    """
    key_requests = _KeyRequests(call, operation, OUTCOME_TIMEOUT if timeout is None else timeout, sent_before)
    request_count = 0
    while True:
        response = yield from send(call.request)
        now = yield from current_time()
        request_count += 1
        try:
            return decode(call, response)
        except _REPEATABLE as error:
            failure = error
        if isinstance(failure, PolytomicConflictError) and key_requests.is_final_conflict(failure, now):
            return failure
        key_requests.record_failure(response, failure, now)
        recorded = failure if isinstance(failure, PolytomicServerError) and _is_api_error(response) else None
        if recorded is not None and find_effect is not None:
            found = yield from find_effect()
            if found is not None:
                return found
        if key_requests.is_timed_out(failure, now):
            if recorded is not None and not key_requests.is_uncertain:
                return recorded
            raise key_requests.unresolved_error(failure)
        if request_count == 1:
            text = "%s. Repeating the %s with the same idempotency key until its outcome is known, for up to %.0f s."
            log.info(text, failure, operation, key_requests.timeout)
        retry_after = retry_after_delay(response, now)
        yield from sleep(backoff(request_count, jitter=random.random()) if retry_after is None else retry_after)


def replay_key(call: Call[T], operation: Operation, sent_before: float) -> Plan[T | PolytomicApiError]:
    """Send a key again that an earlier process may have sent. If it has not, this request takes effect.

    :param operation: what the call does, for messages.
    :param sent_before: the time before which the earlier process may have sent the key, in seconds since the epoch.
        A conflict within :data:`OUTCOME_TIMEOUT` of it may mean that the server is still processing that request.
    :returns: the result, or the error that the server recorded for the key.
    :raises PolytomicError: the outcome is unknown.
    """
    try:
        return (yield from resolve_outcome(call, operation, sent_before=sent_before))
    except (PolytomicAuthError, PolytomicRateLimitError, PolytomicServerError):
        raise  # these do not refuse the request itself
    except PolytomicApiError as refusal:
        return refusal


def read_current(call: Call[T]) -> Plan[T | None]:
    """Read the current state of an object that a replayed, possibly old, response described.

    :returns: the object; None if it does not exist.
    :raises PolytomicError: the server did not respond, or only about another object.
    """
    began = yield from current_time()
    while True:
        try:
            return (yield from fetch(call))
        except PolytomicNotFoundError:
            if (yield from current_time()) - began >= REPLICA_LAG:
                return None
        except PolytomicResponseError as error:
            # A stale cache lasts no longer than a replica lags.
            if error.status_code != 200 or (yield from current_time()) - began >= REPLICA_LAG:
                raise
        yield from sleep(READ_INTERVAL)


def _may_have_arrived(response: SendResult) -> bool:
    if isinstance(response, TransportFailure):
        return response.sent
    return not _is_api_error(response)


def _is_api_error(response: SendResult) -> bool:
    return isinstance(response, Response) and response.status >= 400 and parse_api_error(response) is not None
