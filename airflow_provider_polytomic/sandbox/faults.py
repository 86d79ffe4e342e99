"""Trouble on demand.

A test says what is to go wrong with the next requests that match::

    sandbox.faults.status(503, "POST .*/executions", headers={"Retry-After": "1"})
    sandbox.faults.drop_after("POST .*/executions")          # it happens, but the answer is lost
    sandbox.faults.delay(2, "GET .*", times=None)            # from now on
    held = sandbox.faults.delay(60, "POST .*/executions")    # until held.release(), but for a minute at most
    sandbox.faults.garbage("html", times=3)
    sandbox.faults.edit(lambda answer: answer["data"].update(warning_count="x"), "GET .*/executions/.*")
    sandbox.faults.vanish(execution_id)                      # 404 from now on
    sandbox.faults.lag(5)                                    # lists omit executions younger than 5 seconds
    sandbox.faults.skew(-90)                                 # the server's clock is 90 seconds slow
    sandbox.faults.omit_date()                               # answers have no Date header
    # a list that moves while it is read
    sandbox.faults.meanwhile(lambda: sandbox.touch(sync_id), "GET /api/bulk/syncs")

A pattern is a regular expression for the whole of ``METHOD /path``, without the query. Faults are used
up in the order in which they were made: a request meets the first that matches and has times left.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_polytomic.api.plan import Response, SendResult, TransportFailure

from .wire import problem

HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

GARBAGE = {
    "html": Response(200, {"content-type": "text/html"}, HTML),
    "truncated": Response(200, {"content-type": "application/json", "content-length": "4096"}, b'{"data": {"id": "'),
    "cut": Response(200, {"content-type": "application/json"}, b'{"data": {"id": "'),
    "empty": Response(200, {"content-type": "application/json"}, b""),
    "text": Response(200, {"content-type": "text/plain"}, b"upstream connect error or disconnect/reset before headers"),
}


@dataclass
class Fault:
    """One kind of trouble; made by the methods of :class:`Faults`."""

    pattern: re.Pattern[str]
    left: int | None
    processed: bool = True  # whether the API gets to do what was asked
    recorded: bool = False  # whether `instead` becomes the outcome of the Idempotency-Key
    dropped: bool = False
    instead: Response | None = None
    change: Callable[[Any], object] | None = None  # edits the JSON of a successful answer
    before: float = 0.0  # seconds
    after: float = 0.0
    meanwhile: Callable[[], object] | None = None  # what happens when the answer is made, before it is sent
    hits: int = field(default=0)  # how often it has struck
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    def wait(self, seconds: float) -> None:
        """Hold up for so long, unless :meth:`release` was called, or is."""
        self._over.wait(seconds)

    def release(self) -> None:
        """Hold up nobody any more, now and later."""
        self._over.set()

    def edited(self, answer: SendResult) -> SendResult:
        """The answer with its JSON edited, where this fault edits answers and it is a successful one."""
        if self.change is None or isinstance(answer, TransportFailure) or answer.status >= 300 or not answer.body:
            return answer
        body = json.loads(answer.body)
        self.change(body)
        return replace(answer, body=json.dumps(body).encode())


@dataclass
class Conditions:
    """Permanent conditions, as opposed to faults of single requests."""

    skew: float = 0.0  # seconds by which the server's clock is ahead of the client's
    lag: float = 0.0  # seconds until a list shows a new execution
    lag_of_get: float = 0.0  # seconds until a GET finds a new execution
    sends_date: bool = True


class Faults:
    def __init__(self, conditions: Conditions, vanish: Callable[[str], None]) -> None:
        self._conditions = conditions
        self._faults: list[Fault] = []
        self.vanish = vanish

    def status(
        self,
        status: int,
        on: str = ".*",
        *,
        times: int | None = 1,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        recorded: bool = False,
        processed: bool = False,
        after: float = 0.0,
    ) -> Fault:
        """SendResult with ``status``.

        :param body: data is sent as JSON, text and bytes as an HTML page; left out, an error as the API words it.
        :param recorded: the answer becomes the outcome of the request's Idempotency-Key and is given again ever
            after, as the API's own errors are. Otherwise it is a gateway's, and a repeated request gets through.
        :param processed: what was asked for happens all the same.
        :param after: seconds until the answer.
        """
        if body is None:
            answer = problem(status, f"http_{status}", f"injected {status}")
        elif isinstance(body, str | bytes):
            answer = Response(status, {"content-type": "text/html"}, body.encode() if isinstance(body, str) else body)
        else:
            answer = Response(status, {"content-type": "application/json"}, json.dumps(body).encode())
        answer = Response(status, {**answer.headers, **{k.lower(): v for k, v in (headers or {}).items()}}, answer.body)
        return self._add(on, times, instead=answer, recorded=recorded, processed=processed, after=after)

    def drop_before(self, on: str = ".*", *, times: int | None = 1) -> Fault:
        """Close the connection without an answer; nothing happens."""
        return self._add(on, times, dropped=True, processed=False)

    def drop_after(self, on: str = ".*", *, times: int | None = 1) -> Fault:
        """Do what was asked, then close the connection without an answer."""
        return self._add(on, times, dropped=True)

    def delay(self, seconds: float, on: str = ".*", *, times: int | None = 1, after: bool = False) -> Fault:
        """Take ``seconds`` before what was asked happens, or ``after`` it, before the answer.

        Either way the request is in flight meanwhile, and so is its Idempotency-Key.
        """
        return self._add(on, times, **{"after" if after else "before": seconds})

    def garbage(self, kind: str = "html", on: str = ".*", *, times: int | None = 1, processed: bool = True) -> Fault:
        """SendResult 200 with what is not the API's.

        :param kind: ``html``; ``truncated`` (fewer bytes than announced); ``cut`` (half of a JSON text, as announced);
            ``empty``; ``text``.
        """
        return self._add(on, times, instead=GARBAGE[kind], processed=processed)

    def lag(self, seconds: float, *, get: bool = False) -> None:
        """Read from a replica that lags: lists and statuses of syncs omit executions that are younger than ``seconds``.

        A start is not affected: it is refused with 409 while an execution runs. ``lag(0)`` ends the lag.

        :param get: a GET of such an execution answers 404; otherwise it finds the execution.
        """
        self._conditions.lag = seconds
        self._conditions.lag_of_get = seconds if get else 0.0

    def skew(self, seconds: float) -> None:
        """Set the server's clock ahead of the client's; behind it, if negative.

        The clock decides timestamps, the ``Date`` header and how far executions have come, so call this
        before anything is started.
        """
        self._conditions.skew = seconds

    def omit_date(self) -> None:
        """Send no ``Date`` header, as some proxies and servers do."""
        self._conditions.sends_date = False

    def edit(self, change: Callable[[Any], object], on: str = ".*", *, times: int | None = None) -> Fault:
        """Edit successful answers, for instance to return a field with another type than the API documents.

        :param change: gets the answer's JSON and edits it in place.
        """
        return self._add(on, times, change=change)

    def meanwhile(self, action: Callable[[], object], on: str = ".*", *, times: int | None = 1) -> Fault:
        """SendResult as ever, and call ``action`` between that answer and the next request of the client."""
        return self._add(on, times, meanwhile=action)

    def clear(self) -> None:
        """Forget all faults and the lag, send ``Date`` again, and release held requests.

        Vanished executions stay vanished, and the clock keeps its skew.
        """
        self.lag(0)
        self._conditions.sends_date = True
        while self._faults:
            self._faults.pop().release()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets."""
        for fault in list(self._faults):
            if fault.left != 0 and fault.pattern.fullmatch(f"{method} {path}"):
                fault.hits += 1
                if fault.left is not None:
                    fault.left -= 1
                return fault
        return None

    def _add(self, on: str, times: int | None, **what: Any) -> Fault:
        fault = Fault(re.compile(on), times, **what)
        self._faults.append(fault)
        return fault
