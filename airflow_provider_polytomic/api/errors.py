"""Every way in which an exchange with Polytomic can fail.

::

    PolytomicError
        PolytomicApiError               the API answered with an error
            PolytomicAuthError          401, 403
            PolytomicNotFoundError      404, 410
            PolytomicConflictError      409
            PolytomicValidationError    400, 422
            PolytomicRateLimitError     429
            PolytomicServerError        5xx, and 408: the server gave up
        PolytomicUnreachableError       no answer
        PolytomicResponseError          an answer that is not the API's
        PolytomicLookupError            a name that none or several have, or that is taken
        PolytomicSyncError              an execution that did not succeed
        PolytomicTimeoutError           a deadline passed
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .plan import BODY_TOO_LARGE, Request, Response, SendResult, TransportFailure
from .text import printable, redact

if TYPE_CHECKING:
    from .models import Execution


class PolytomicError(Exception):
    """Base of all errors of this package."""

    def __reduce__(self) -> Any:
        # Rebuilt from the message and the attributes: Airflow pickles exceptions between processes,
        # and the constructors below take keyword arguments that pickle does not know of.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[PolytomicError], args: tuple[Any, ...], state: dict[str, Any]) -> PolytomicError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class PolytomicApiError(PolytomicError):
    """The API answered with an error.

    :ivar status_code: the HTTP status
    :ivar key: the API's own name for the error, where it gave one
    :ivar message: what the server said
    :ivar method: the request's method
    :ivar path: the request's path
    :ivar request_id: the server's id of the request, where it gave one; quote it to Polytomic's support
    """

    hint = ""
    # None where an error was met in the triggerer, which tells no more than type and message.
    status_code: int | None = None
    key: str | None = None
    message: str | None = None
    method: str | None = None
    path: str | None = None
    request_id: str | None = None

    def __init__(self, request: Request, response: Response, *, message: str, key: str | None) -> None:
        self.status_code = response.status
        self.key = key
        self.message = message
        self.method = request.method
        self.path = request.path
        self.request_id = request_id(response)
        parts = [f"{request.method} {request.path}: HTTP {response.status}: {message}"]
        if key:
            parts.append(f"[{key}]")
        if self.request_id:
            parts.append(f"(request id {self.request_id})")
        if self.hint:
            parts.append(f"- {self.hint}")
        super().__init__(" ".join(parts))


class PolytomicAuthError(PolytomicApiError):
    """401 or 403, but no HTML page: the key is wrong, was revoked, or may not do this."""

    hint = "check the API key of the Polytomic connection (password), and what it may do"


class PolytomicNotFoundError(PolytomicApiError):
    """404 or 410: there is no such sync, execution or connection, or this key cannot see it."""

    hint = "check the id, and that the key belongs to the organization that owns it"


class PolytomicConflictError(PolytomicApiError):
    """409: another execution of the sync is running, or the request contradicts the state of things."""


class PolytomicValidationError(PolytomicApiError):
    """400 or 422: the API refused what was asked."""


class PolytomicRateLimitError(PolytomicApiError):
    """429: too many requests, for longer than we waited."""


class PolytomicServerError(PolytomicApiError):
    """5xx or 408 from the API itself."""


class PolytomicUnreachableError(PolytomicError):
    """No answer came: refused, reset, timed out, no such host, TLS failed.

    :ivar reason: what the transport said
    """

    def __init__(self, request: Request, reason: str) -> None:
        self.reason = reason
        self.method = request.method
        self.path = request.path
        super().__init__(f"{request.method} {request.path}: no answer: {reason}")


class PolytomicResponseError(PolytomicError):
    """An answer that is not the API's: HTML from a proxy, a redirect, truncated or empty where data was due; or one
    about another execution.

    :ivar status_code: the HTTP status
    :ivar too_large: whether it had more bytes than are read
    """

    too_large = False

    def __init__(self, request: Request, response: Response, reason: str) -> None:
        self.status_code = response.status
        self.too_large = reason == BODY_TOO_LARGE
        self.method = request.method
        self.path = request.path
        super().__init__(f"{request.method} {request.path}: HTTP {response.status}: {reason}")


class PolytomicLookupError(PolytomicError):
    """No item has the name that was looked up, or several have it; or the name of a sync to be created is taken.

    :ivar ids: the ids of the items that have the name. Empty when none has it, which a later look-up may find changed.
    """

    ids: tuple[str, ...] = ()

    def __init__(self, message: str, ids: Iterable[str] = ()) -> None:
        self.ids = tuple(ids)
        super().__init__(message)


class PolytomicSyncError(PolytomicError):
    """An execution ended, but not as it should have.

    :ivar execution: the execution, or its summary where only that is known
    """

    def __init__(self, message: str, execution: Execution | dict[str, Any] | None = None) -> None:
        self.execution = execution
        super().__init__(message)


class PolytomicTimeoutError(PolytomicError):
    """A deadline passed before what was waited for had ended: an execution, or a refresh of schemas.

    :ivar still_running: whether the execution runs on as far as we know, because it was not cancelled
    """

    def __init__(self, message: str, still_running: bool = False) -> None:
        self.still_running = still_running
        super().__init__(message)


_BY_STATUS: dict[int, type[PolytomicApiError]] = {
    400: PolytomicValidationError,
    401: PolytomicAuthError,
    403: PolytomicAuthError,
    404: PolytomicNotFoundError,
    408: PolytomicServerError,
    409: PolytomicConflictError,
    410: PolytomicNotFoundError,
    422: PolytomicValidationError,
    429: PolytomicRateLimitError,
}


# Bytes of a body that are searched for secrets before its start is shown.
_MAX_SEARCHED_BYTES = 1_000_000
# A gateway's page with one of these says nothing about what the API would have said.
_API_ONLY_STATUSES = frozenset({400, 401, 403, 404, 409, 410, 422})


def error_from_response(request: Request, answer: SendResult) -> PolytomicError:
    """The error that ``answer`` is: for every answer that is not a 2xx."""
    if isinstance(answer, TransportFailure):
        if answer.status is not None:
            return PolytomicResponseError(request, Response(answer.status), answer.reason)
        return PolytomicUnreachableError(request, answer.reason)
    if 300 <= answer.status < 400:
        where = _redacted_excerpt(answer, answer.headers.get("location", "nowhere"), 200)
        return PolytomicResponseError(
            request,
            answer,
            f"the server redirects to {where!r}. Redirects are not followed, so that the key "
            "goes to no other host: mend `host` of the Polytomic connection",
        )
    body = parse_api_error(answer)
    kind = _BY_STATUS.get(answer.status, PolytomicServerError if answer.status >= 500 else PolytomicApiError)
    foreign = body is None and (
        answer.status not in _BY_STATUS or (_is_html(answer) and answer.status in _API_ONLY_STATUSES)
    )
    if foreign:
        return PolytomicResponseError(request, answer, f"not an answer of the Polytomic API: {body_excerpt(answer)}")
    message = _redacted_excerpt(answer, (body or {}).get("message"), 1000) or body_excerpt(answer)
    key = _redacted_excerpt(answer, (body or {}).get("key"), 100)
    return kind(request, answer, message=message, key=key or None)


def parse_api_error(response: Response) -> dict[str, Any] | None:
    """The API's own error body, or None when somebody else (a gateway, a proxy) wrote the answer."""
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and ("message" in body or "key" in body) else None


def request_id(response: Response) -> str | None:
    for name in ("x-request-id", "x-polytomic-request-id", "cf-ray"):
        if value := _redacted_excerpt(response, response.headers.get(name), 100):
            return value
    return None


def error_from_payload(name: str, message: str) -> PolytomicError:
    """An error that was met in another process, by the name of its type and its message."""
    kind = globals().get(name)
    if not (isinstance(kind, type) and issubclass(kind, PolytomicError)):
        return PolytomicError(f"{name}: {message}")
    return _rebuild(kind, (message,), {})


def add_context(error: PolytomicError, what: str) -> PolytomicError:
    """The same error, saying more."""
    error.args = (f"{error}; {what}",)
    return error


def body_excerpt(response: Response) -> str:
    """The start of a body, as one readable line."""
    if not response.body.strip():
        return "an empty body"
    text = redact(response.body[:_MAX_SEARCHED_BYTES].decode("utf-8", "replace"), response.secrets).strip()
    if _is_html(response):
        title = re.search(r"<title[^>]*>(.*?)</title>", text[:2000], re.IGNORECASE | re.DOTALL)
        text = f"an HTML page{f', {printable(title[1], 100)!r}' if title else ''}"
    return printable(text, 200)


def _is_html(response: Response) -> bool:
    start = response.body[:2000].lower()
    return b"<html" in start or b"<!doctype" in start


def _redacted_excerpt(response: Response, text: object, longest: int) -> str:
    """A part of an answer, fit for a message."""
    return printable(None if text is None else redact(str(text), response.secrets), longest)
