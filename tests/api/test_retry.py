"""When a call is asked again, and after how long: one pure rule."""

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


def delay(answer: SendResult, attempt: int = 1, *, repeatable: bool = True, max_retries: int = 5) -> float | None:
    return retry_delay(answer, attempt, repeatable=repeatable, max_retries=max_retries, now=NOW, jitter=0.0)


@pytest.mark.parametrize(
    ("answer", "repeatable", "otherwise"),
    [
        # answer                 GET, PUT, DELETE, POST with a key    POST without a key
        (LOST, True, False),
        (HALF, True, False),
        (NEVER_SENT, True, True),
        *((Response(status), False, False) for status in (200, 204, 301, 304, 400, 401, 403, 404, 409, 410, 422, 451)),
        *((Response(status), True, False) for status in (408, 425, 500, 501, 502, 503, 504, 520, 599)),
        (Response(429), True, True),
    ],
    ids=str,
)
def test_the_rule(answer: SendResult, repeatable: bool, otherwise: bool) -> None:
    """What may do more when sent twice is only sent again if it was surely not processed."""
    assert (delay(answer) is not None) is repeatable
    assert (delay(answer, repeatable=False) is not None) is otherwise
    assert is_transient(answer) is repeatable


def test_it_backs_off() -> None:
    """Twice as long each time, up to eight seconds."""
    assert [delay(LOST, attempt, max_retries=99) for attempt in range(1, 8)] == [0.5, 1, 2, 4, 8, 8, 8]
    assert delay(LOST, 98, max_retries=99) == 8


@pytest.mark.parametrize("max_retries", [0, 1, 5])
def test_it_ends(max_retries: int) -> None:
    """After that many repetitions the answer is taken as it is."""
    delays = [delay(LOST, attempt, max_retries=max_retries) for attempt in range(1, 8)]
    assert [value is not None for value in delays] == [True] * max_retries + [False] * (7 - max_retries)


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_jitter_shortens_by_a_quarter_at_most(attempt: int, jitter: float) -> None:
    """So that many callers do not come back at once."""
    assert 0.75 * backoff(attempt, jitter=0) <= backoff(attempt, jitter=jitter) <= backoff(attempt, jitter=0)


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_from_greenwich")
@pytest.mark.parametrize(
    ("status", "headers", "wish"),
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
        # The reset of a limit that is not what stopped us.
        (500, {"x-ratelimit-reset": str(NOW + 20)}, None),
        # No wishes: whoever heeded them would hammer.
        (429, {"retry-after": "0"}, None),
        (503, {"retry-after": formatdate(NOW - 5, usegmt=True)}, None),
        (429, {"x-ratelimit-reset": str(NOW - 5)}, None),
        (429, {"x-ratelimit-reset": "30"}, None),
        # Nonsense.
        *(
            (429, {"retry-after": text}, None)
            for text in ("", "soon", "-5", "nan", "inf", "1e400", "99, 99", "Wed, 99 Sep 2026 99:00:00 GMT", "9" * 500)
        ),
        (429, {"x-ratelimit-reset": "later"}, None),
        (429, {}, None),
    ],
)
def test_what_a_server_wishes(status: int, headers: dict[str, str], wish: float | None) -> None:
    """Seconds, HTTP dates in all their three forms, and the time of a limit's reset are understood."""
    assert retry_after_delay(Response(status, headers), NOW) == (None if wish is None else pytest.approx(wish, abs=1))


@given(st.text(), st.text(), st.sampled_from([429, 503, 500]))
def test_no_header_breaks_it(after: str, reset: str, status: int) -> None:
    """Whatever a server sends, it is a number of seconds, or nothing."""
    wish = retry_after_delay(Response(status, {"retry-after": after, "x-ratelimit-reset": reset}), NOW)
    assert wish is None or MIN_RETRY_AFTER <= wish <= MAX_RETRY_AFTER


def test_a_wish_is_heeded_exactly_and_up_to_two_minutes() -> None:
    """It replaces our own pace; a longer one is cut."""
    assert delay(Response(429, {"retry-after": "7"}), 3) == 7
    assert delay(Response(503, {"retry-after": "3600"})) == MAX_RETRY_AFTER == 120
    assert delay(Response(503, {"retry-after": "0.001"})) == MIN_RETRY_AFTER == 0.5
    assert delay(Response(429, {"retry-after": "0"}), 3) == 2


def test_a_wish_makes_nothing_repeatable() -> None:
    """A start without a key is not sent again because a gateway asks for it, nor is a call whose time is up."""
    asks = Response(503, {"retry-after": "7"})
    assert delay(asks, repeatable=False) is None
    assert delay(asks, 6) is None
    assert delay(Response(400, {"retry-after": "7"})) is None


def test_who_gave_no_answer_wishes_nothing() -> None:
    """A lost connection has no headers."""
    assert retry_after_delay(LOST, NOW) is None
