"""The retry rule of single calls: one pure function."""

from __future__ import annotations

from datetime import timezone
from email.utils import parsedate_to_datetime

from .plan import BODY_TOO_LARGE, Response, SendResult, TransportFailure

# An answer of these came from a server or gateway that may do better in a moment.
TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
MIN_RETRY_AFTER, MAX_RETRY_AFTER = 0.5, 120.0  # seconds; what a server may ask for
DEFAULT_MAX_BACKOFF = 8.0  # seconds
_THROTTLING_STATUSES = frozenset({429, 503})


def is_transient(answer: SendResult) -> bool:
    """Whether the same request may succeed later: after no answer, 408, 429, or any 5xx."""
    if isinstance(answer, TransportFailure):
        return answer.reason != BODY_TOO_LARGE
    return answer.status in TRANSIENT_STATUSES or answer.status >= 500


def retry_delay(
    answer: SendResult, attempt: int, *, repeatable: bool, max_retries: int, now: float, jitter: float
) -> float | None:
    """Seconds to wait before asking once more, or None: take this answer.

    :param attempt: how often this call has been asked, from 1 on.
    :param repeatable: whether asking twice does no more than asking once. Where it does not, only what
        was certainly not processed is asked again: a 429, and a connection that never came about.
    :param now: seconds since the epoch, for servers that name a point in time.
    :param jitter: in [0, 1), so that many callers do not come back at once.
    """
    if attempt > max_retries or not is_transient(answer):
        return None
    if not repeatable and not was_not_processed(answer):
        return None
    wish = retry_after_delay(answer, now)
    return backoff(attempt, jitter=jitter) if wish is None else wish


def backoff(attempt: int, *, max_delay: float = DEFAULT_MAX_BACKOFF, jitter: float) -> float:
    """Exponential backoff: 0.5, 1, 2, 4, 8, … seconds.

    :param attempt: the number of failures so far, from 1 on.
    :param max_delay: an upper bound in seconds, but never less than :data:`DEFAULT_MAX_BACKOFF`.
    :param jitter: a number in [0, 1): the part of a quarter of the delay that is subtracted.
    """
    delay = 0.5 * 2.0 ** min(attempt - 1, 12)
    return float(min(delay, max(max_delay, DEFAULT_MAX_BACKOFF)) * (1 - jitter / 4))


def retry_after_delay(answer: SendResult, now: float) -> float | None:
    """Seconds that the server asked us to wait (``Retry-After``, ``X-RateLimit-Reset``), within bounds, or None.

    "At once", and a time that has passed by our clock, are no wishes: whoever heeded them would ask
    without a pause for as long as the trouble lasts.
    """
    if not isinstance(answer, Response):
        return None
    after = answer.headers.get("retry-after", "").strip()
    wish = _parse_seconds(after)
    if wish is None and after:
        wish = _seconds_until(after, now)
    if wish is None and answer.status in _THROTTLING_STATUSES:
        reset = _parse_seconds(answer.headers.get("x-ratelimit-reset", ""))
        wish = None if reset is None else reset - now
    return min(max(wish, MIN_RETRY_AFTER), MAX_RETRY_AFTER) if wish is not None and wish > 0 else None


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
    return value if 0 <= value < 1e12 else None  # also refuses nan


def was_not_processed(answer: SendResult) -> bool:
    """Whether the API cannot have done what was asked: it was too busy, or there was no connection."""
    return not answer.sent if isinstance(answer, TransportFailure) else answer.status == 429
