"""Following a console log, with scripted responses."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from airflow_provider_polytomic.api.executions.console_log import (
    CONSOLE_LOG_TIMEOUT,
    MAX_FINAL_PAGES,
    MAX_LINE_LENGTH,
    ConsoleLogFollower,
    fetch_tail,
)
from airflow_provider_polytomic.api.kinds import SYNC_KINDS
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure

from .plans import PlanDriver

BULK = SYNC_KINDS["bulk"]


def page(*numbers: int, cursor: bool = True, ids: bool = True, **more: Any) -> Response:
    entries = [
        {"message": f"line {n}", "level": "info", "timestamp": f"2026-01-01T00:00:{n % 60:02d}Z", **more}
        | ({"id": str(n)} if ids else {})
        for n in numbers
    ]
    data = {"entries": entries or None, "next_cursor": str(numbers[-1]) if numbers and cursor else None}
    return Response(200, {}, json.dumps({"data": data}).encode())


def refused(status: int) -> Response:
    body = {"status": status, "message": "no", "key": "k", "metadata": {}}
    return Response(status, {}, json.dumps(body).encode())


class Followed:
    """Follows a console log with one request per scripted response."""

    def __init__(self, caplog: pytest.LogCaptureFixture, *responses: SendResult, after: str | None = None) -> None:
        self.hand = PlanDriver(responses)
        self.console = ConsoleLogFollower(BULK, "s1", "e1", after)
        with caplog.at_level(logging.INFO):
            self.more = [self.hand.drive(self.console.follow()) for _ in responses]
        self.records = [record for record in caplog.records if record.name.endswith("console_log")]
        messages = [record.getMessage() for record in self.records]
        self.lines = [text.split()[-1] for text in messages if text.startswith("Polytomic: ")]

    @property
    def cursors(self) -> list[str | None]:
        return [after_of(request) for request in self.hand.requests]


def after_of(request: Request) -> str | None:
    return dict(request.query).get("after")


def test_console_log_requests_only_new_entries(caplog: pytest.LogCaptureFixture) -> None:
    """Each request asks for entries after those that were logged."""
    followed = Followed(caplog, page(1, 2), page(), page(3))

    assert followed.lines == ["1", "2", "3"]
    assert followed.cursors == [None, "2", "2"]


def test_console_log_continues_from_a_cursor(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing before the cursor is requested. If the server returns its entry again, it is not logged."""
    followed = Followed(caplog, page(4, 5), after="4")

    assert followed.lines == ["5"]
    assert followed.cursors == ["4"]


@pytest.mark.parametrize("cursor", [True, False])
def test_console_log_logs_overlapping_entries_once(caplog: pytest.LogCaptureFixture, cursor: bool) -> None:
    """A server that ignores the cursor, or returns none, causes no repeated lines."""
    followed = Followed(caplog, page(1, 2, cursor=cursor), page(1, 2, 3, cursor=cursor), page(2, 3, 4, cursor=cursor))

    assert followed.lines == ["1", "2", "3", "4"]


def test_console_log_drops_a_refused_cursor(caplog: pytest.LogCaptureFixture) -> None:
    """After a 400 the next request has no cursor, and no entry is logged twice."""
    followed = Followed(caplog, page(1, 2), refused(400), page(1, 2, 3))

    assert followed.cursors == [None, "2", None]
    assert followed.lines == ["1", "2", "3"]


@pytest.mark.parametrize(
    "failure", [TransportFailure("reset"), refused(500), refused(404), Response(200, {}, b"<html>")]
)
def test_console_log_failures_are_logged_once_and_lose_no_entries(
    caplog: pytest.LogCaptureFixture, failure: SendResult
) -> None:
    """Repeated failures are one warning and one request per poll. Entries are logged when requests succeed again."""
    followed = Followed(caplog, page(1), failure, failure, page(1, 2) if failure == refused(404) else page(2))

    assert followed.lines == ["1", "2"]
    assert [r.levelname for r in followed.records] == ["INFO", "WARNING", "INFO"]
    assert len(followed.hand.requests) == 4


def test_console_log_requests_have_a_short_timeout(caplog: pytest.LogCaptureFixture) -> None:
    """A slow console log does not delay a wait: seconds per request, and no more than are left."""
    console = ConsoleLogFollower(BULK, "s1", "e1")
    driver = PlanDriver([page(), page()])
    driver.drive(console.follow())
    driver.drive(console.follow(timeout=1.5))

    assert [request.timeout for request in driver.requests] == [CONSOLE_LOG_TIMEOUT, 1.5]


def test_console_log_keeps_the_levels_of_entries(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings and errors keep their level. Everything else, including unknown levels, is logged as information."""
    responses = [page(n, level=level) for n, level in enumerate(["info", "warn", "ERROR", "strange", None])]
    followed = Followed(caplog, *responses)

    assert [r.levelname for r in followed.records] == ["INFO", "WARNING", "ERROR", "INFO", "INFO"]


def test_console_log_lines_are_short_and_contain_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """A message is one bounded line, without the signature of a signed URL."""
    message = "line\x1b[31m\nwrote https://bucket.example/log?X-Amz-Signature=abc and " + "x" * 9999
    followed = Followed(caplog, page(1, message=message), page(2, message=None))

    (text, empty) = [record.getMessage() for record in followed.records]
    assert "\x1b" not in text
    assert "\n" not in text
    assert "abc" not in text
    assert len(text) < MAX_LINE_LENGTH + 50
    assert empty.startswith("Polytomic: 00:00:02")


def test_console_log_is_read_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """Full pages are followed by another request. One that is not full is the last."""
    driver = PlanDriver([page(*range(50)), page(*range(50, 100)), page(100)])
    with caplog.at_level(logging.INFO):
        driver.drive(ConsoleLogFollower(BULK, "s1", "e1").follow_to_end())

    assert len([r for r in caplog.records if "line" in r.getMessage()]) == 101


def test_console_log_end_is_bounded() -> None:
    """A console log that always returns more, or repeats itself, is not read without end."""
    numbers = iter(range(0, 5000, 50))
    endless = PlanDriver(page(*range(n, n + 50)) for n in numbers)
    endless.drive(ConsoleLogFollower(BULK, "s1", "e1").follow_to_end())
    assert len(endless.requests) == MAX_FINAL_PAGES

    same = PlanDriver(page(*range(50)) for _ in range(5))
    same.drive(ConsoleLogFollower(BULK, "s1", "e1").follow_to_end())
    assert len(same.requests) == 2


def test_console_log_tail_requests_the_newest_entries() -> None:
    """The tail is requested without a cursor. A failure returns no lines."""
    driver = PlanDriver([page(*range(30))])
    assert driver.drive(fetch_tail(BULK, "s1", "e1")) == [f"info: line {n}" for n in range(20, 30)]
    assert [after_of(request) for request in driver.requests] == [None]

    assert PlanDriver([refused(404)]).drive(fetch_tail(BULK, "s1", "e1")) == []
