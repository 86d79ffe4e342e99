"""The API's wire format: requests as routes receive them, responses and errors, pagination, routing."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import unquote

from airflow_provider_polytomic.api.plan import Response

T = TypeVar("T")

# Its Base64 form begins with "+++/", so that a client that does not URL-encode a token gets an error.
_TOKEN_PREFIX = b"\xfb\xef\xbf"


class HttpError(Exception):
    """Ends a request with an error response in the API's format."""

    def __init__(self, status: int, key: str, message: str, **metadata: Any) -> None:
        super().__init__(message)
        self.response = error_response(status, key, message, **metadata)


class InvalidValueError(HttpError):
    """Rejects a value of the request, with 400 or 422, whichever the API reference lists for the route."""

    def __init__(self, message: str, **metadata: Any) -> None:
        super().__init__(400, "bad_request", message, **metadata)
        self.unprocessable = error_response(422, "validation", message, **metadata)


def error_response(status: int, key: str, message: str, **metadata: Any) -> Response:
    return json_response({"status": status, "message": message, "key": key, "metadata": metadata}, status)


def json_response(data: Any, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(data).encode())


@dataclass(frozen=True)
class Call:
    """One request, as a route receives it."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    version: str = ""
    caller: str = "user"  # or "organization" (HTTP Basic), or "partner" (a partner key as Bearer)
    pages_by_position: bool = False  # what `page_token` encodes; see `paginate`

    def json(self) -> dict[str, Any]:
        """Return the body, which must be a JSON object; an absent body is an empty object."""
        if not self.body.strip():
            return {}
        try:
            data = json.loads(self.body)
        except (ValueError, RecursionError):
            raise HttpError(400, "bad_request", "the body is not JSON") from None
        if not isinstance(data, dict):
            raise HttpError(400, "bad_request", "the body must be a JSON object")
        return data

    def text(self, name: str) -> str | None:
        return (self.query.get(name) or [""])[-1] or None

    def flag(self, name: str) -> bool | None:
        text = self.text(name)
        if text is None:
            return None
        if text.lower() in ("true", "t", "1"):
            return True
        if text.lower() in ("false", "f", "0"):
            return False
        raise InvalidValueError(f"{name}: must be true or false, not {text!r}")

    def limit(self, most: int, default: int | None = None) -> int:
        """Return the page size: at most ``most``; the default when it is absent, 0 or negative."""
        text = self.text("limit")
        try:
            number = int(text or 0)
        except ValueError:
            raise InvalidValueError(f"limit: must be a number, not {text!r}") from None
        return min(number, most) if number > 0 else default or most

    def timestamp(self, name: str) -> datetime | None:
        text = self.text(name)
        moment = None if text is None else parse_timestamp(text)
        if text is not None and moment is None:
            raise InvalidValueError(f"{name}: must be an RFC 3339 timestamp, not {text!r}")
        return moment


def parse_timestamp(text: str) -> datetime | None:
    """Parse an RFC 3339 timestamp; None if the text is not one."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment


def get_typed(body: dict[str, Any], name: str, kind: type) -> Any:
    """Return a field of a body, which must have that type or be null or absent."""
    value = body.get(name)
    if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise HttpError(400, "bad_request", f"{name}: not a {kind.__name__}")
    return value


def check_timestamp(body: dict[str, Any], name: str) -> None:
    """Check that a field of a body is an RFC 3339 timestamp, null or absent."""
    text = get_typed(body, name, str)
    if text is not None and parse_timestamp(text) is None:
        raise HttpError(400, "bad_request", f"{name}: not an RFC 3339 timestamp")


def get_list(body: dict[str, Any], name: str, kind: type[T]) -> list[T]:
    """Return a list from a body, whose items must have that type; empty when it is null or absent."""
    items = get_typed(body, name, list) or []
    if not all(isinstance(item, kind) for item in items):
        raise HttpError(400, "bad_request", f"{name}: not a list of {kind.__name__}")
    return list(items)


def get_choice(body: dict[str, Any], name: str, known: Sequence[str]) -> str | None:
    """Return a field of a body, which must have one of these values or be null or absent."""
    value = get_typed(body, name, str)
    if value is not None and value not in known:
        raise InvalidValueError(f"{name}: {value!r} is not one of {', '.join(known)}")
    return None if value is None else str(value)


def paginate(
    call: Call, items: Iterable[T], key: Callable[[T], Sequence[Any]], limit: int
) -> tuple[list[T], str | None]:
    """Return one page of ``items`` in the order of ``key``, and the token of the next page.

    A token encodes the key of the last item on its page. When items are added, removed or moved between two pages,
    a client sees no item twice, and misses only items that move to the front. With ``pages_by_position`` a token is a
    position: a client also sees items twice when others are added or move to the front, and misses some when others
    are removed.
    """
    last = _decode_token(call.text("page_token"))
    if call.pages_by_position:
        return _paginate_by_position(last, sorted(items, key=lambda item: list(key(item))), limit)
    try:
        rest = sorted(
            (item for item in items if last is None or list(key(item)) > last), key=lambda item: list(key(item))
        )
    except TypeError:
        raise _invalid_token() from None
    shown = rest[:limit]
    return shown, _encode_token(list(key(shown[-1]))) if len(rest) > limit else None


def _paginate_by_position(token: list[Any] | None, ordered: list[T], limit: int) -> tuple[list[T], str | None]:
    start = token[0] if token else 0
    if not (isinstance(start, int) and start >= 0):
        raise _invalid_token()
    end = start + limit
    return ordered[start:end], _encode_token([end]) if len(ordered) > end else None


def list_response(rows: list[Any], token: str | None = None) -> dict[str, Any]:
    return {"data": rows or None, "pagination": {"next_page_token": token} if token else {}}


def _invalid_token() -> HttpError:
    return HttpError(400, "bad_request", "page_token: not a token of this list")


def _encode_token(last: list[Any]) -> str:
    raw = _TOKEN_PREFIX + json.dumps(last).encode()
    return base64.b64encode(raw + b" " * (1 if len(raw) % 3 == 0 else 0)).decode()


def _decode_token(token: str | None) -> list[Any] | None:
    if token is None:
        return None
    try:
        raw = base64.b64decode(token, validate=True)
        last = json.loads(raw[len(_TOKEN_PREFIX) :])
    except (binascii.Error, ValueError):
        raise _invalid_token() from None
    if not raw.startswith(_TOKEN_PREFIX) or not isinstance(last, list):
        raise _invalid_token()
    return last


Handler = Callable[..., Any]


class Router:
    """Maps method and path to a handler function, which gets the ids of the path as keyword arguments."""

    def __init__(self, *parts: Router) -> None:
        self.routes: list[tuple[str, re.Pattern[str], Handler]] = [route for part in parts for route in part.routes]

    def __call__(self, method: str, template: str, *, unprocessable: bool = False) -> Callable[[Handler], Handler]:
        """Register a route.

        :param unprocessable: respond to an :class:`InvalidValueError` with 422, not with 400.
        """
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template))

        def register(handler: Handler) -> Handler:
            self.routes.append((method, pattern, _respond_with_422(handler) if unprocessable else handler))
            return handler

        return register

    def dispatch(self, world: Any, call: Call) -> Response:
        path_exists = False
        for method, pattern, handler in self.routes:
            match = pattern.fullmatch(call.path)
            if match and method == call.method:
                result = handler(world, call, **{name: unquote(value) for name, value in match.groupdict().items()})
                if isinstance(result, Response):
                    return result
                return Response(204) if result is None else json_response(result)
            path_exists = path_exists or match is not None
        if path_exists:
            raise HttpError(405, "method_not_allowed", f"{call.method} is not allowed for {call.path}")
        raise HttpError(404, "not_found", f"there is nothing at {call.path}")


def _respond_with_422(handler: Handler) -> Handler:
    def respond(*arguments: Any, **ids: str) -> Any:
        try:
            return handler(*arguments, **ids)
        except InvalidValueError as error:
            return error.unprocessable

    return respond
