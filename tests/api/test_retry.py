"""The retry rule: which failed requests are sent again, and after which delay."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polytomic.api.plan import Response, SendResult, TransportFailure
from airflow_provider_polytomic.api.retry import (
    MAX_RETRY_AFTER,
    MIN_RETRY_AFTER,
    backoff,
    is_transient,
    retry_after_delay,
    retry_delay,
)

NOW = 1_790_000_000.0
LOST = TransportFailure("reset")
NEVER_SENT = TransportFailure("refused", sent=False)
HALF = TransportFailure("closed in the middle", status=200)


def delay(result: SendResult, attempt: int = 1, *, repeatable: bool = True, max_retries: int = 5) -> float | None:
    return retry_delay(result, attempt, repeatable=repeatable, max_retries=max_retries, now=NOW, jitter=0.0)


@pytest.mark.parametrize(
    ("result", "repeatable", "unrepeatable"),
    [
        # result                 GET, PUT, DELETE, POST with a key    POST without a key
        (LOST, True, False),
        (HALF, True, False),
        (NEVER_SENT, True, True),
        *((Response(status), False, False) for status in (200, 204, 301, 304, 400, 401, 403, 404, 409, 410, 422, 451)),
        *((Response(status), True, False) for status in (408, 425, 500, 501, 502, 503, 504, 520, 599)),
        (Response(429), True, True),
    ],
    ids=str,
)
def test_retry_delay_is_none_when_a_repetition_could_act_twice(
    result: SendResult, repeatable: bool, unrepeatable: bool
) -> None:
    """A request that is not repeatable is sent again only if it was surely not processed."""
    assert (delay(result) is not None) is repeatable
    assert (delay(result, repeatable=False) is not None) is unrepeatable
    assert is_transient(result) is repeatable


def test_retry_delay_doubles_up_to_eight_seconds() -> None:
    """The first delay is half a second."""
    assert [delay(LOST, attempt, max_retries=99) for attempt in range(1, 8)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert delay(LOST, 98, max_retries=99) == 8


@pytest.mark.parametrize("max_retries", [0, 1, 5])
def test_retry_delay_is_none_after_max_retries(max_retries: int) -> None:
    """The last result is final."""
    delays = [delay(LOST, attempt, max_retries=max_retries) for attempt in range(1, 8)]
    assert [value is not None for value in delays] == [True] * max_retries + [False] * (7 - max_retries)


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_backoff_jitter_shortens_the_delay_by_at_most_a_quarter(attempt: int, jitter: float) -> None:
    """Jitter keeps many clients from sending at the same moment."""
    assert 0.75 * backoff(attempt, jitter=0) <= backoff(attempt, jitter=jitter) <= backoff(attempt, jitter=0)


@pytest.fixture
def non_utc_timezone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("non_utc_timezone")
@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "7"}, 7),
        (503, {"retry-after": "7"}, 7),
        (500, {"retry-after": " 2.5 "}, 2.5),
        (429, {"retry-after": formatdate(NOW + 30, usegmt=True)}, 30),
        (429, {"retry-after": formatdate(NOW + 30)}, 30),
        (429, {"retry-after": "Mon, 21 Sep 2026 14:14:00 GMT"}, 40),
        (429, {"retry-after": "Monday, 21-Sep-26 14:14:00 GMT"}, 40),
        (429, {"retry-after": "Mon Sep 21 14:14:00 2026"}, 40),
        (429, {"x-ratelimit-reset": str(NOW + 20)}, 20),
        (503, {"x-ratelimit-reset": str(int(NOW) + 20)}, 20),
        (429, {"retry-after": "7", "x-ratelimit-reset": str(NOW + 20)}, 7),
        (429, {"retry-after": "soon", "x-ratelimit-reset": str(NOW + 20)}, 20),
        # The reset of a rate limit that did not cause the failure.
        (500, {"x-ratelimit-reset": str(NOW + 20)}, None),
        # Delays of zero or less: they would cause a busy loop.
        (429, {"retry-after": "0"}, None),
        (503, {"retry-after": formatdate(NOW - 5, usegmt=True)}, None),
        (429, {"x-ratelimit-reset": str(NOW - 5)}, None),
        (429, {"x-ratelimit-reset": "30"}, None),
        # Unparsable values.
        *(
            (429, {"retry-after": text}, None)
            for text in ("", "soon", "-5", "nan", "inf", "1e400", "99, 99", "Wed, 99 Sep 2026 99:00:00 GMT", "9" * 500)
        ),
        (429, {"x-ratelimit-reset": "later"}, None),
        (429, {}, None),
    ],
)
def test_retry_after_delay_reads_seconds_and_http_dates_and_rate_limit_resets(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    """All three forms of HTTP dates are read as UTC; unusable values are None."""
    assert retry_after_delay(Response(status, headers), NOW) == (
        None if seconds is None else pytest.approx(seconds, abs=1)
    )


@given(st.text(), st.text(), st.sampled_from([429, 503, 500]))
def test_retry_after_delay_is_bounded_or_none_for_any_header(after: str, reset: str, status: int) -> None:
    """No header value raises."""
    seconds = retry_after_delay(Response(status, {"retry-after": after, "x-ratelimit-reset": reset}), NOW)
    assert seconds is None or MIN_RETRY_AFTER <= seconds <= MAX_RETRY_AFTER


def test_retry_after_replaces_the_backoff_up_to_two_minutes() -> None:
    """Longer delays are capped, shorter ones are raised to the minimum."""
    assert delay(Response(429, {"retry-after": "7"}), 3) == 7
    assert delay(Response(503, {"retry-after": "3600"})) == MAX_RETRY_AFTER == 120
    assert delay(Response(503, {"retry-after": "0.001"})) == MIN_RETRY_AFTER == 0.5
    assert delay(Response(429, {"retry-after": "0"}), 3) == 2


def test_retry_after_does_not_make_a_request_repeatable() -> None:
    """A start without an idempotency key is not repeated, and the number of retries stays limited."""
    response = Response(503, {"retry-after": "7"})
    assert delay(response, repeatable=False) is None
    assert delay(response, 6) is None
    assert delay(Response(400, {"retry-after": "7"})) is None


def test_retry_after_delay_is_none_when_there_is_no_response() -> None:
    """A transport failure has no headers."""
    assert retry_after_delay(LOST, NOW) is None
