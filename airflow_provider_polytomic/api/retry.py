"""Decides whether and when a call is repeated. Pure functions."""

from __future__ import annotations

from datetime import timezone
from email.utils import parsedate_to_datetime

from .plan import BODY_TOO_LARGE, Response, SendResult, TransportFailure

# The same request may succeed later.
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
MIN_RETRY_AFTER, MAX_RETRY_AFTER = 0.5, 120.0  # seconds; bounds of the delay that a server requests
DEFAULT_MAX_BACKOFF = 8.0  # seconds
_THROTTLING_STATUSES = frozenset({429, 503})


def is_transient(response: SendResult) -> bool:
    """Whether the same request may succeed later: after no response, 408, 429, or any 5xx."""
    if isinstance(response, TransportFailure):
        return response.reason != BODY_TOO_LARGE
    return response.status in TRANSIENT_STATUSES or response.status >= 500


def retry_delay(
    response: SendResult, request_count: int, *, repeatable: bool, max_retries: int, now: float, jitter: float
) -> float | None:
    """Seconds until the call is repeated, or None if this response is final.

    :param request_count: the number of requests so far, from 1 on.
    :param repeatable: whether sending the request twice has no further effect. If not, it is repeated only if it was
        certainly not processed: after a 429, or if no connection was established.
    :param now: seconds since the epoch, for servers that name a point in time.
    :param jitter: a random number in [0, 1), so that many clients do not retry at the same time.
    """
    if request_count > max_retries or not is_transient(response):
        return None
    if not repeatable and not was_not_processed(response):
        return None
    retry_after = retry_after_delay(response, now)
    return backoff(request_count, jitter=jitter) if retry_after is None else retry_after


def backoff(failure_count: int, *, max_delay: float = DEFAULT_MAX_BACKOFF, jitter: float) -> float:
    """Exponential backoff: 0.5, 1, 2, 4, 8, … seconds.

    :param failure_count: the number of failures so far, from 1 on.
    :param max_delay: an upper bound in seconds, but never less than :data:`DEFAULT_MAX_BACKOFF`.
    :param jitter: a number in [0, 1): the part of a quarter of the delay that is subtracted.
    """
    delay = 0.5 * 2.0 ** min(failure_count - 1, 12)
    return float(min(delay, max(max_delay, DEFAULT_MAX_BACKOFF)) * (1 - jitter / 4))


def retry_after_delay(response: SendResult, now: float) -> float | None:
    """Seconds to wait that the server requests (``Retry-After``, ``X-RateLimit-Reset``), within bounds, or None.

    Zero and times in the past are ignored, because they would lead to retries without a delay.
    """
    if not isinstance(response, Response):
        return None
    after = response.headers.get("retry-after", "").strip()
    delay = _parse_seconds(after)
    if delay is None and after:
        delay = _seconds_until(after, now)
    if delay is None and response.status in _THROTTLING_STATUSES:
        reset = _parse_seconds(response.headers.get("x-ratelimit-reset", ""))
        delay = None if reset is None else reset - now
    return min(max(delay, MIN_RETRY_AFTER), MAX_RETRY_AFTER) if delay is not None and delay > 0 else None


def _seconds_until(date: str, now: float) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
        return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp() - now
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def _parse_seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < 1e12 else None  # also rejects NaN


def was_not_processed(response: SendResult) -> bool:
    """Whether the API cannot have processed the request: a 429, or no connection."""
    return not response.sent if isinstance(response, TransportFailure) else response.status == 429
