"""The console log, followed without a network."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from airflow_provider_polytomic.api.executions.console_log import (
    MAX_FINAL_PAGES,
    MAX_LINE_LENGTH,
    REQUEST_TIMEOUT,
    ConsoleLogFollower,
    fetch_tail,
)
from airflow_provider_polytomic.api.kinds import SYNC_KINDS
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure

from .plans import Hand

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
    """A console log that was asked for as often as there are answers."""

    def __init__(self, caplog: pytest.LogCaptureFixture, *answers: SendResult, after: str | None = None) -> None:
        self.hand = Hand(answers)
        self.console = ConsoleLogFollower(BULK, "s1", "e1", after)
        with caplog.at_level(logging.INFO):
            self.more = [self.hand.drive(self.console.follow()) for _ in answers]
        self.records = [record for record in caplog.records if record.name.endswith("console_log")]
        said = [record.getMessage() for record in self.records]
        self.lines = [text.split()[-1] for text in said if text.startswith("Polytomic: ")]

    @property
    def cursors(self) -> list[str | None]:
        return [after_of(request) for request in self.hand.requests]


def after_of(request: Request) -> str | None:
    return dict(request.query).get("after")


def test_each_look_asks_for_what_is_new(caplog: pytest.LogCaptureFixture) -> None:
    """Each request asks for what came after the entries that have been logged, and logs that."""
    followed = Followed(caplog, page(1, 2), page(), page(3))

    assert followed.lines == ["1", "2", "3"]
    assert followed.cursors == [None, "2", "2"]


def test_it_goes_on_where_another_process_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """With a cursor nothing before it is asked for; a server that gives its entry again does not have it logged."""
    followed = Followed(caplog, page(4, 5), after="4")

    assert followed.lines == ["5"]
    assert followed.cursors == ["4"]


@pytest.mark.parametrize("cursor", [True, False])
def test_overlapping_answers_are_logged_once(caplog: pytest.LogCaptureFixture, cursor: bool) -> None:
    """A server that heeds no cursor, or gives none, is listened to all the same, and each entry logged once."""
    followed = Followed(caplog, page(1, 2, cursor=cursor), page(1, 2, 3, cursor=cursor), page(2, 3, 4, cursor=cursor))

    assert followed.lines == ["1", "2", "3", "4"]


def test_a_cursor_that_is_refused_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """A log that does not know the cursor is asked without one, and nothing is logged twice for it."""
    followed = Followed(caplog, page(1, 2), refused(400), page(1, 2, 3))

    assert followed.cursors == [None, "2", None]
    assert followed.lines == ["1", "2", "3"]


@pytest.mark.parametrize(
    "trouble", [TransportFailure("reset"), refused(500), refused(404), Response(200, {}, b"<html>")]
)
def test_trouble_is_told_once_and_costs_no_lines(caplog: pytest.LogCaptureFixture, trouble: SendResult) -> None:
    """A broken log is one warning, and one request a look; the lines come when it answers again."""
    followed = Followed(caplog, page(1), trouble, trouble, page(1, 2) if trouble == refused(404) else page(2))

    assert followed.lines == ["1", "2"]
    assert [r.levelname for r in followed.records] == ["INFO", "WARNING", "INFO"]
    assert len(followed.hand.requests) == 4


def test_a_request_is_given_little_time(caplog: pytest.LogCaptureFixture) -> None:
    """A log that hangs delays no end: seconds for an answer, and never more than there are left."""
    console = ConsoleLogFollower(BULK, "s1", "e1")
    hand = Hand([page(), page()])
    hand.drive(console.follow())
    hand.drive(console.follow(timeout=1.5))

    assert [request.timeout for request in hand.requests] == [REQUEST_TIMEOUT, 1.5]


def test_levels_are_those_of_the_entries(caplog: pytest.LogCaptureFixture) -> None:
    """Warnings and errors are logged as such, everything else, also what is unknown, as information."""
    answers = [page(n, level=level) for n, level in enumerate(["info", "warn", "ERROR", "strange", None])]
    followed = Followed(caplog, *answers)

    assert [r.levelname for r in followed.records] == ["INFO", "WARNING", "ERROR", "INFO", "INFO"]


def test_a_line_is_short_and_holds_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """A message is one bounded line, without the signature of a signed URL."""
    message = "line\x1b[31m\nwrote https://bucket.example/log?X-Amz-Signature=abc and " + "x" * 9999
    followed = Followed(caplog, page(1, message=message), page(2, message=None))

    (text, empty) = [record.getMessage() for record in followed.records]
    assert "\x1b" not in text
    assert "\n" not in text
    assert "abc" not in text
    assert len(text) < MAX_LINE_LENGTH + 50
    assert empty.startswith("Polytomic: 00:00:02")


def test_the_rest_is_read_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """At the end full pages are followed by another request, one that is not full ends it."""
    hand = Hand([page(*range(50)), page(*range(50, 100)), page(100)])
    with caplog.at_level(logging.INFO):
        hand.drive(ConsoleLogFollower(BULK, "s1", "e1").follow_to_end())

    assert len([r for r in caplog.records if "line" in r.getMessage()]) == 101


def test_the_rest_has_an_end() -> None:
    """A server that always has more is not listened to for ever; one that repeats itself not even twice."""
    numbers = iter(range(0, 5000, 50))
    endless = Hand(page(*range(n, n + 50)) for n in numbers)
    endless.drive(ConsoleLogFollower(BULK, "s1", "e1").follow_to_end())
    assert len(endless.requests) == MAX_FINAL_PAGES

    same = Hand(page(*range(50)) for _ in range(5))
    same.drive(ConsoleLogFollower(BULK, "s1", "e1").follow_to_end())
    assert len(same.requests) == 2


def test_the_tail_asks_for_the_newest() -> None:
    """The last lines are asked for without a cursor; trouble means fewer of them."""
    hand = Hand([page(*range(30))])
    assert hand.drive(fetch_tail(BULK, "s1", "e1")) == [f"info: line {n}" for n in range(20, 30)]
    assert [after_of(request) for request in hand.requests] == [None]

    assert Hand([refused(404)]).drive(fetch_tail(BULK, "s1", "e1")) == []
