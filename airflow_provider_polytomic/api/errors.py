"""The errors of this package.

::

    PolytomicError
        PolytomicApiError               the API responded with an error
            PolytomicAuthError          401, 403
            PolytomicNotFoundError      404, 410
            PolytomicConflictError      409
            PolytomicValidationError    400, 422
            PolytomicRateLimitError     429
            PolytomicServerError        5xx, and 408
        PolytomicUnreachableError       no response
        PolytomicResponseError          a response that is not the API's
        PolytomicLookupError            no item or several items have a name, or the name is taken
        PolytomicSyncError              an execution did not succeed
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
        # Airflow pickles exceptions, and pickle would not pass the keyword arguments of the constructors below.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[PolytomicError], args: tuple[Any, ...], state: dict[str, Any]) -> PolytomicError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class PolytomicApiError(PolytomicError):
    """The API responded with an error.

    :ivar status_code: the HTTP status
    :ivar key: the API's name for the error, or None
    :ivar message: the server's message
    :ivar method: the request's method
    :ivar path: the request's path
    :ivar request_id: the server's id of the request, or None; include it when you contact Polytomic's support
    """

    hint = ""
    # None for an error from the triggerer, whose event contains only the type and the message.
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
    """401 or 403: the API key is wrong, was revoked, or lacks a permission. An HTML page is not one of these."""

    hint = "check the API key of the Polytomic connection (password) and its permissions"


class PolytomicNotFoundError(PolytomicApiError):
    """404 or 410: the sync, execution or connection does not exist, or the API key has no access to it."""

    hint = "check the id, that the object was not deleted, and that the key belongs to the organization that owns it"


class PolytomicConflictError(PolytomicApiError):
    """409: another execution of the sync is running, or the request conflicts with the state of the sync."""


class PolytomicValidationError(PolytomicApiError):
    """400 or 422: the API rejected the request as invalid."""


class PolytomicRateLimitError(PolytomicApiError):
    """429: the API still limited the rate of requests after the last retry."""


class PolytomicServerError(PolytomicApiError):
    """5xx or 408 from the API itself."""


class PolytomicUnreachableError(PolytomicError):
    """No response: refused, reset, timed out, unknown host, or TLS failed.

    :ivar reason: what the transport reported
    """

    def __init__(self, request: Request, reason: str) -> None:
        self.reason = reason
        self.method = request.method
        self.path = request.path
        super().__init__(f"{request.method} {request.path}: no response: {reason}")


class PolytomicResponseError(PolytomicError):
    """A response that is not the API's: HTML from a proxy, a redirect, an incomplete body, or the wrong execution.

    :ivar status_code: the HTTP status
    :ivar too_large: whether the body exceeds the size limit
    """

    too_large = False

    def __init__(self, request: Request, response: Response, reason: str) -> None:
        self.status_code = response.status
        self.too_large = reason == BODY_TOO_LARGE
        self.method = request.method
        self.path = request.path
        super().__init__(f"{request.method} {request.path}: HTTP {response.status}: {reason}")


class PolytomicLookupError(PolytomicError):
    """No item or several items have the name, or the name of a sync to be created is taken.

    :ivar ids: the ids of the items that have the name
    """

    ids: tuple[str, ...] = ()

    def __init__(self, message: str, ids: Iterable[str] = ()) -> None:
        self.ids = tuple(ids)
        super().__init__(message)


class PolytomicSyncError(PolytomicError):
    """An execution ended without success.

    :ivar execution: the execution, or its summary if only that is known
    """

    def __init__(self, message: str, execution: Execution | dict[str, Any] | None = None) -> None:
        self.execution = execution
        super().__init__(message)


class PolytomicTimeoutError(PolytomicError):
    """A deadline passed before an execution, a refresh of schemas or a request had ended, or ``queue_timeout`` passed.

    :ivar still_running: whether the execution is probably still running, because it was not canceled
    :ivar limit: ``queue_timeout``, or None for a deadline
    :ivar status: the status of an execution that was queued for too long
    """

    def __init__(
        self, message: str, still_running: bool = False, *, limit: str | None = None, status: str | None = None
    ) -> None:
        self.still_running = still_running
        self.limit = limit
        self.status = status
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


_MAX_SEARCHED_BYTES = 1_000_000  # of a body that are searched for secrets before its start is quoted
# An HTML page with one of these is a gateway's, and does not show how the API would respond.
_API_ONLY_STATUSES = frozenset({400, 401, 403, 404, 409, 410, 422})


def error_from_response(request: Request, response: SendResult) -> PolytomicError:
    """Create the error for a response that is not a 2xx, or for a missing response."""
    if isinstance(response, TransportFailure):
        if response.status is not None:
            return PolytomicResponseError(request, Response(response.status), response.reason)
        return PolytomicUnreachableError(request, response.reason)
    if 300 <= response.status < 400:
        where = _redacted_excerpt(response, response.headers.get("location", "nowhere"), 200)
        return PolytomicResponseError(
            request,
            response,
            f"the server redirects to {where!r}. Redirects are not followed, so that the API key "
            "is not sent to another host: correct `host` of the Polytomic connection",
        )
    body = parse_api_error(response)
    kind = _BY_STATUS.get(response.status, PolytomicServerError if response.status >= 500 else PolytomicApiError)
    is_non_api = body is None and (
        response.status not in _BY_STATUS or (_is_html(response) and response.status in _API_ONLY_STATUSES)
    )
    if is_non_api:
        return PolytomicResponseError(
            request, response, f"not a response of the Polytomic API: {body_excerpt(response)}"
        )
    message = _redacted_excerpt(response, (body or {}).get("message"), 1000) or body_excerpt(response)
    key = _redacted_excerpt(response, (body or {}).get("key"), 100)
    return kind(request, response, message=message, key=key or None)


def parse_api_error(response: Response) -> dict[str, Any] | None:
    """Parse the API's error body; None if the response is not the API's but, for example, a proxy's."""
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) and ("message" in body or "key" in body) else None


def request_id(response: Response) -> str | None:
    """Return the server's id of the request, or None."""
    for name in ("x-request-id", "x-polytomic-request-id", "cf-ray"):
        if value := _redacted_excerpt(response, response.headers.get(name), 100):
            return value
    return None


def error_from_payload(name: str, message: str) -> PolytomicError:
    """Recreate an error of another process from the name of its type and its message."""
    kind = globals().get(name)
    if not (isinstance(kind, type) and issubclass(kind, PolytomicError)):
        return PolytomicError(f"{name}: {message}")
    return _rebuild(kind, (message,), {})


def add_context(error: PolytomicError, context: str) -> PolytomicError:
    """Append ``context``, a clause or a sentence, to the message of an error, and return that error."""
    error.args = (f"{error}{'. ' if context[0].isupper() else '; '}{context}",)
    return error


def body_excerpt(response: Response) -> str:
    """The start of a body, as one printable line without secrets."""
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
    """Part of a response, printable and without secrets."""
    return printable(None if text is None else redact(str(text), response.secrets), longest)
