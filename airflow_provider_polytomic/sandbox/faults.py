"""Fault injection: a test sets what goes wrong with the next requests that match a pattern::

    sandbox.faults.status(503, "POST .*/executions", headers={"Retry-After": "1"})
    sandbox.faults.drop_after("POST .*/executions")          # processed, but the response is lost
    sandbox.faults.delay(2, "GET .*", times=None)            # from now on
    held = sandbox.faults.delay(60, "POST .*/executions")    # until held.release(), at most a minute
    sandbox.faults.garbage("html", times=3)
    sandbox.faults.edit(lambda body: body["data"].update(warning_count="x"), "GET .*/executions/.*")
    sandbox.faults.vanish(execution_id)                      # 404 from now on
    sandbox.faults.lag(5)                                    # lists omit executions younger than 5 seconds
    sandbox.faults.skew(-90)                                 # the server's clock is 90 seconds slow
    sandbox.faults.omit_date()                               # responses have no Date header
    # the list changes between two pages
    sandbox.faults.meanwhile(lambda: sandbox.touch(sync_id), "GET /api/bulk/syncs")

A pattern is a regular expression that has to match all of ``METHOD /path``, without the query. The first fault
that matches a request and has uses left is applied to it, in the order in which faults were added.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_polytomic.api.plan import Response, SendResult, TransportFailure

from .wire import error_response

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
    """One fault, created by the methods of :class:`Faults`."""

    pattern: re.Pattern[str]
    left: int | None  # requests to which it still applies; None is without limit
    processed: bool = True  # whether the API processes the request
    recorded: bool = False  # whether `instead` is recorded for the Idempotency-Key
    dropped: bool = False  # whether the connection is closed without a response
    instead: Response | None = None  # sent in place of the API's response
    change: Callable[[Any], object] | None = None  # edits the JSON of a successful response
    before: float = 0.0  # seconds of delay before processing
    after: float = 0.0  # seconds of delay after processing
    meanwhile: Callable[[], object] | None = None  # called after processing, before the response is sent
    hits: int = field(default=0)  # requests to which it was applied
    _released: threading.Event = field(default_factory=threading.Event, repr=False)

    def wait(self, seconds: float) -> None:
        """Sleep for that long, or until :meth:`release` is called."""
        self._released.wait(seconds)

    def release(self) -> None:
        """Release delayed requests, and delay no later ones."""
        self._released.set()

    def apply_edit(self, result: SendResult) -> SendResult:
        """Return the response with its JSON edited, if this fault edits and the response is successful."""
        if self.change is None or isinstance(result, TransportFailure) or result.status >= 300 or not result.body:
            return result
        body = json.loads(result.body)
        self.change(body)
        return replace(result, body=json.dumps(body).encode())


@dataclass
class Conditions:
    """Conditions that hold until they are changed, as opposed to faults of single requests."""

    skew: float = 0.0  # seconds by which the server's clock is ahead of the client's
    lag: float = 0.0  # seconds until a list shows a new execution
    get_lag: float = 0.0  # seconds until a GET finds a new execution
    sends_date: bool = True


class Faults:
    """The faults of a sandbox. ``on`` is a pattern, ``times`` the number of requests (None: no limit)."""

    def __init__(self, conditions: Conditions, vanish: Callable[[str], None]) -> None:
        self._conditions = conditions
        self._faults: list[Fault] = []
        self.vanish = vanish  # respond with 404 to any request for this execution id

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
        """Respond with ``status``.

        :param body: data is sent as JSON, text and bytes as an HTML page; the default is an error in the API's format.
        :param recorded: record the response for the request's Idempotency-Key, as the API does with its own errors,
            so that a replay returns it. Otherwise it stands for a gateway's, and a replay is processed.
        :param processed: process the request nevertheless.
        :param after: seconds until the response.
        """
        if body is None:
            response = error_response(status, f"http_{status}", f"injected {status}")
        elif isinstance(body, str | bytes):
            response = Response(status, {"content-type": "text/html"}, body.encode() if isinstance(body, str) else body)
        else:
            response = Response(status, {"content-type": "application/json"}, json.dumps(body).encode())
        response_headers = {**response.headers, **{k.lower(): v for k, v in (headers or {}).items()}}
        response = Response(status, response_headers, response.body)
        return self._add(on, times, instead=response, recorded=recorded, processed=processed, after=after)

    def drop_before(self, on: str = ".*", *, times: int | None = 1) -> Fault:
        """Close the connection without a response, and do not process the request."""
        return self._add(on, times, dropped=True, processed=False)

    def drop_after(self, on: str = ".*", *, times: int | None = 1) -> Fault:
        """Process the request, then close the connection without a response."""
        return self._add(on, times, dropped=True)

    def delay(self, seconds: float, on: str = ".*", *, times: int | None = 1, after: bool = False) -> Fault:
        """Wait ``seconds`` before the request is processed, or with ``after``, before the response is sent.

        Meanwhile the request is in flight, also for its Idempotency-Key.
        """
        return self._add(on, times, **{"after" if after else "before": seconds})

    def garbage(self, kind: str = "html", on: str = ".*", *, times: int | None = 1, processed: bool = True) -> Fault:
        """Respond with 200 and a body that is not the API's.

        :param kind: ``html``; ``truncated`` (fewer bytes than the header says); ``cut`` (incomplete JSON);
            ``empty``; ``text``.
        """
        return self._add(on, times, instead=GARBAGE[kind], processed=processed)

    def lag(self, seconds: float, *, get: bool = False) -> None:
        """Read from a lagging replica: lists and statuses of syncs omit executions that are younger than ``seconds``.

        A start is not affected: it gets a 409 while an execution runs. ``lag(0)`` ends the lag.

        :param get: also respond to a GET of such an execution with 404.
        """
        self._conditions.lag = seconds
        self._conditions.get_lag = seconds if get else 0.0

    def skew(self, seconds: float) -> None:
        """Set the server's clock ahead of the client's; behind it, if negative.

        The clock determines timestamps, the ``Date`` header and the progress of executions, so call this
        before an execution is started.
        """
        self._conditions.skew = seconds

    def omit_date(self) -> None:
        """Send no ``Date`` header, as some proxies and servers do."""
        self._conditions.sends_date = False

    def edit(self, change: Callable[[Any], object], on: str = ".*", *, times: int | None = None) -> Fault:
        """Edit successful responses, for instance to return a field of another type than documented.

        :param change: gets the response's JSON and edits it in place.
        """
        return self._add(on, times, change=change)

    def meanwhile(self, action: Callable[[], object], on: str = ".*", *, times: int | None = 1) -> Fault:
        """Respond normally, and call ``action`` before the response is sent."""
        return self._add(on, times, meanwhile=action)

    def clear(self) -> None:
        """Remove all faults and the lag, send ``Date`` again, and release delayed requests.

        Vanished executions stay vanished, and the clock keeps its skew.
        """
        self.lag(0)
        self._conditions.sends_date = True
        while self._faults:
            self._faults.pop().release()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that applies to a request, if any, and count its use."""
        for fault in list(self._faults):
            if fault.left != 0 and fault.pattern.fullmatch(f"{method} {path}"):
                fault.hits += 1
                if fault.left is not None:
                    fault.left -= 1
                return fault
        return None

    def _add(self, on: str, times: int | None, **fields: Any) -> Fault:
        fault = Fault(re.compile(on), times, **fields)
        self._faults.append(fault)
        return fault
