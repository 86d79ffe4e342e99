"""The limits of a wait, `queue_timeout` in particular, with a simulated server whose clock may differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import formatdate
from typing import Any

import pytest

from airflow_provider_polytomic.api.client import drive
from airflow_provider_polytomic.api.errors import PolytomicTimeoutError
from airflow_provider_polytomic.api.executions.wait import wait_for_execution
from airflow_provider_polytomic.api.kinds import SYNC_KINDS
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure

EPOCH = 1_790_000_000.3
TIMEOUT = 600.0
LATE = 2.0  # seconds: the resolution of a Date header, and two requests


@dataclass
class Server:
    """A server with one execution, and a clock that requests and sleeps move.

    :ivar elapsed: seconds since the wait began.
    :ivar skew: seconds that the server's clock is ahead of this machine's.
    :ivar created: when the execution was created, in seconds since the wait began.
    :ivar status: the execution's status at a time.
    :ivar fails: whether requests fail at a time.
    :ivar canceled_at: when each cancel request arrived.
    """

    status: Callable[[float], str] = lambda _: "scheduled"
    fails: Callable[[float], bool] = lambda _: False
    skew: float = 0.0
    created: float | None = -0.5
    is_dated: bool = True
    refuses: bool = False
    elapsed: float = 0.0
    canceled_at: list[float] = field(default_factory=list)
    polls: list[float] = field(default_factory=list)

    def send(self, request: Request) -> SendResult:
        self.elapsed += 0.1
        if request.path.endswith("/cancel"):
            self.canceled_at.append(self.elapsed)
            return Response(403, {}, b'{"status": 403, "message": "no", "key": "k"}') if self.refuses else Response(200)
        self.polls.append(self.elapsed)
        if self.fails(self.elapsed):
            return TransportFailure("no response")
        status = self.status(self.elapsed)
        data: dict[str, Any] = {"id": "e1", "status": status}
        if self.created is not None:
            created = EPOCH + self.skew + self.created
            data["created_at"] = datetime.fromtimestamp(created, timezone.utc).isoformat()
        headers = {"date": formatdate(EPOCH + self.skew + self.elapsed, usegmt=True)} if self.is_dated else {}
        return Response(200, headers, json.dumps({"data": data}).encode())

    def wait(self, **how: Any) -> Any:
        arguments = {"poke_interval": 30.0, "queue_timeout": TIMEOUT, "cancel_at_deadline": True, **how}
        plan = wait_for_execution(SYNC_KINDS["bulk"], "s1", "e1", **arguments)
        return drive(plan, self.send, sleep=self.sleep, now=lambda: EPOCH + self.elapsed)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.elapsed += seconds

    def wait_too_long(self, **how: Any) -> PolytomicTimeoutError:
        with pytest.raises(PolytomicTimeoutError) as caught:
            self.wait(**how)
        return caught.value


@pytest.mark.parametrize("skew", [0.0, -7200.4, 7200.4])
@pytest.mark.parametrize("poke_interval", [2.0, 30.0, 3600.0])
@pytest.mark.parametrize("created", [-0.5, -400.0, -5000.0])
def test_queued_execution_is_canceled_when_queue_timeout_has_passed_since_its_creation(
    skew: float, poke_interval: float, created: float
) -> None:
    """The wait wakes at the limit, whatever the poll interval, and however much the clocks differ."""
    server = Server(skew=skew, created=created)

    error = server.wait_too_long(poke_interval=poke_interval)

    due = max(created + TIMEOUT, 0)
    assert len(server.canceled_at) == 1
    assert due <= server.canceled_at[0] <= due + LATE
    assert (error.limit, error.status, error.still_running) == ("queue_timeout", "scheduled", False)
    assert "has been queued for" in str(error)
    assert "(status 'scheduled'), and queue_timeout is 600 s; the cancel request was accepted" in str(error)


@pytest.mark.parametrize(("is_dated", "created"), [(False, -5000.0), (True, None)])
def test_queue_timeout_counts_from_the_wait_when_the_server_does_not_say_the_time(
    is_dated: bool, created: float | None
) -> None:
    """Without `Date` or `created_at`, a wrong clock must not cancel an execution early."""
    server = Server(is_dated=is_dated, created=created)

    server.wait_too_long()

    assert TIMEOUT <= server.canceled_at[0] <= TIMEOUT + LATE


def test_queue_timeout_counts_from_an_earlier_wait_when_the_server_does_not_say_the_time() -> None:
    """A triggerer that takes over continues the count of the one before."""
    server = Server(is_dated=False)

    server.wait_too_long(waiting_since=EPOCH - 500)

    assert 100 <= server.canceled_at[0] <= 100 + LATE


@pytest.mark.parametrize("status", ["running", "exporting", "processing", "a new status"])
def test_execution_that_has_left_the_queue_is_not_canceled(status: str) -> None:
    """After it has begun to run, it may take as long as it takes, and also wait again."""

    def statuses(elapsed: float) -> str:
        if elapsed < 500:
            return "queued"
        return status if elapsed < 2000 else "waiting" if elapsed < 3000 else "completed"

    server = Server(statuses)

    assert server.wait().status == "completed"
    assert server.canceled_at == []


def test_execution_that_cannot_be_polled_at_the_limit_is_canceled_when_a_poll_shows_that_it_is_queued() -> None:
    """During an outage it is not known whether the execution is queued, and polling keeps its pace."""
    server = Server(fails=lambda elapsed: 590 <= elapsed < 700)

    server.wait_too_long()

    assert 700 <= server.canceled_at[0] <= 735
    assert len([at for at in server.polls if 590 <= at < 700]) < 12


def test_execution_that_begins_to_run_during_an_outage_at_the_limit_is_not_canceled() -> None:
    """The first good poll after the limit shows it running."""
    server = Server(
        lambda elapsed: "created" if elapsed < 620 else "running" if elapsed < 900 else "completed",
        fails=lambda elapsed: 590 <= elapsed < 700,
    )

    assert server.wait().status == "completed"
    assert server.canceled_at == []


def test_deadline_before_queue_timeout_ends_the_wait() -> None:
    """The error names no `limit`."""
    server = Server()

    error = server.wait_too_long(deadline=EPOCH + 300)

    assert (error.limit, error.status) == (None, None)
    assert "had not ended at the deadline" in str(error)


def test_queued_execution_is_left_in_the_queue_when_it_must_not_be_canceled() -> None:
    """The error says so."""
    server = Server()

    error = server.wait_too_long(cancel_at_deadline=False)

    assert (server.canceled_at, error.still_running) == ([], True)
    assert str(error).endswith("queue_timeout is 600 s; it is left in the queue")


def test_error_says_when_a_queued_execution_could_not_be_canceled() -> None:
    """The task that waits for it then repeats the cancel request."""
    server = Server(refuses=True)

    error = server.wait_too_long()

    assert error.still_running
    assert "canceling it failed: " in str(error)
