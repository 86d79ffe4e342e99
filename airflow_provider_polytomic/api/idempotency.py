"""What must happen once although its answer may get lost: starts and creations.

Each carries an idempotency key, so asking again does nothing twice. What remains is to ask until the outcome is known.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any, TypeVar

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

OUTCOME_TIMEOUT = 60.0  # seconds for which an outcome is asked for
REPLICA_LAG = 60.0  # seconds for which what is new may be unknown to the server's replicas
START = "the start"
CREATION = "the creation"


def compute_key(what: list[Any]) -> str:
    """The idempotency key of something: the same whoever asks, and whenever."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def send_once(call: Call[T], what: str, *, patience: float | None = None) -> Plan[T]:
    """Make a call that has a key of its own, and ask with the same key until its outcome is known.

    :param what: :data:`START` or :data:`CREATION`, for messages.
    :param patience: seconds for which the outcome is asked for, default :data:`OUTCOME_TIMEOUT`; 0: one request.
    :raises PolytomicConflictError: the server refused it, because of something else.
    :raises PolytomicError: it was refused, or its outcome is unknown; the message says which.
    """
    done = yield from resolve_outcome(call, what, patience=patience)
    if isinstance(done, PolytomicApiError):
        raise done
    return done


def resolve_outcome(
    call: Call[T],
    what: str,
    *,
    sent_before: float | None = None,
    patience: float | None = None,
    find_effect: Callable[[], Plan[T | None]] | None = None,
) -> Plan[T | PolytomicConflictError | PolytomicServerError]:
    """Send one key until its outcome is known.

    :param sent_before: when the key may have been sent before: since when a 409 may mean that this task's own
        first request is still being processed.
    :param find_effect: looks for what a request that the API has just answered with 5xx has started all the same.
    :returns: the result, or the error that is recorded for the key: a conflict, or the API's own 5xx.
    :raises PolytomicError: refused, or the outcome is unknown.
    """
    patience = OUTCOME_TIMEOUT if patience is None else patience
    unanswered = sent_before
    lost = False
    failing_since: float | None = None
    attempt = 0
    while True:
        answer = yield from send(call.request)
        now = yield from current_time()
        attempt += 1
        try:
            return decode(call, answer)
        except PolytomicConflictError as error:
            if unanswered is None or now - unanswered >= patience:
                return error
            failure: PolytomicError = error
        except (PolytomicUnreachableError, PolytomicResponseError, PolytomicServerError) as error:
            if isinstance(answer, Response) and 300 <= answer.status < 400:
                raise
            failure = error
            if _may_have_arrived(answer):
                unanswered, lost = now, True
        except PolytomicRateLimitError as error:
            failure = error
        recorded = isinstance(failure, PolytomicServerError) and _is_api_error(answer)
        if recorded and find_effect is not None:
            found = yield from find_effect()
            if found is not None:
                return found
        failing_since = now if failing_since is None else failing_since
        if now - failing_since >= patience and not isinstance(failure, PolytomicConflictError):
            if recorded and isinstance(failure, PolytomicServerError) and not lost:
                return failure
            if not lost:
                raise failure
            raise add_context(
                failure,
                f"Could not confirm whether {what} succeeded. Repeating it with idempotency key "
                f"{call.request.idempotency_key} is safe; a task retry does so automatically",
            )
        wish = retry_after_delay(answer, now)
        yield from sleep(backoff(attempt, random.random()) if wish is None else wish)


def replay_key(call: Call[T], what: str, sent_before: float) -> Plan[T | PolytomicApiError]:
    """What a key holds that somebody who died may have sent: what came of it, or the error that is recorded for it.

    :raises PolytomicError: whether it holds anything is not known.
    """
    try:
        return (yield from resolve_outcome(call, what, sent_before=sent_before))
    except (PolytomicAuthError, PolytomicRateLimitError, PolytomicServerError):
        raise  # no refusal
    except PolytomicApiError as refused:
        return refused


def read_current(call: Call[T]) -> Plan[T | None]:
    """Read what an earlier answer was about, because that answer may be old; None when it is gone.

    :raises PolytomicError: the server has not answered, or only with something else, such as another execution.
    """
    since = yield from current_time()
    while True:
        try:
            return (yield from fetch(call))
        except PolytomicNotFoundError:
            if (yield from current_time()) - since >= REPLICA_LAG:
                return None
        except PolytomicResponseError as error:
            # A stale cache lasts no longer than a replica lags.
            if error.status_code != 200 or (yield from current_time()) - since >= REPLICA_LAG:
                raise
        yield from sleep(5)


def _may_have_arrived(answer: SendResult) -> bool:
    if isinstance(answer, TransportFailure):
        return answer.sent
    return not _is_api_error(answer)


def _is_api_error(answer: SendResult) -> bool:
    return isinstance(answer, Response) and answer.status >= 400 and parse_api_error(answer) is not None
