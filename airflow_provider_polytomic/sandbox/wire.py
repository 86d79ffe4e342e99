"""What routes are made of: the call that reaches one, errors and answers in the API's form, paging."""

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

# Decodes to text that encodes to "+++/": a token must survive URL encoding, so it holds all that does not
# survive carelessness.
_TOKEN_HEAD = b"\xfb\xef\xbf"


class ApiProblem(Exception):  # noqa: N818 - it is an answer, not a defect
    """Ends a call with an error in the API's form."""

    def __init__(self, status: int, key: str, message: str, **metadata: Any) -> None:
        super().__init__(message)
        self.response = problem(status, key, message, **metadata)


class Invalid(ApiProblem):
    """Ends a call because of a value in it: with the status that the reference lists for its route."""

    def __init__(self, message: str, **metadata: Any) -> None:
        super().__init__(400, "bad_request", message, **metadata)
        self.unprocessable = problem(422, "validation", message, **metadata)


def problem(status: int, key: str, message: str, **metadata: Any) -> Response:
    return answer({"status": status, "message": message, "key": key, "metadata": metadata}, status)


def answer(data: Any, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(data).encode())


@dataclass(frozen=True)
class Call:
    """One request, as a route sees it."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    version: str = ""
    caller: str = "user"  # or "organization" (HTTP Basic), or "partner" (a partner key as Bearer)
    pages_by_position: bool = False  # what `page_token` stands for; see `page`

    def json(self) -> dict[str, Any]:
        """The body, which must be an object; no body is an empty one."""
        if not self.body.strip():
            return {}
        try:
            data = json.loads(self.body)
        except (ValueError, RecursionError):
            raise ApiProblem(400, "bad_request", "the body is not JSON") from None
        if not isinstance(data, dict):
            raise ApiProblem(400, "bad_request", "the body must be a JSON object")
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
        raise Invalid(f"{name}: true or false is needed, not {text!r}")

    def limit(self, most: int, default: int | None = None) -> int:
        """The page size: too much is reduced to the most, and nothing or less falls back to the default."""
        text = self.text("limit")
        try:
            number = int(text or 0)
        except ValueError:
            raise Invalid(f"limit: a number is needed, not {text!r}") from None
        return min(number, most) if number > 0 else default or most

    def moment(self, name: str) -> datetime | None:
        text = self.text(name)
        moment = None if text is None else read_moment(text)
        if text is not None and moment is None:
            raise Invalid(f"{name}: an RFC 3339 timestamp is needed, not {text!r}")
        return moment


def read_moment(text: str) -> datetime | None:
    """The moment that an RFC 3339 timestamp names; None if it is no such timestamp."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment


def typed(body: dict[str, Any], name: str, kind: type) -> Any:
    """A field of a body: of that type, or None."""
    value = body.get(name)
    if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        raise ApiProblem(400, "bad_request", f"{name}: not a {kind.__name__}")
    return value


def timestamp(body: dict[str, Any], name: str) -> None:
    """Check that a field of a body is an RFC 3339 timestamp, or None."""
    text = typed(body, name, str)
    if text is not None and read_moment(text) is None:
        raise ApiProblem(400, "bad_request", f"{name}: not an RFC 3339 timestamp")


def list_of(body: dict[str, Any], name: str, kind: type[T]) -> list[T]:
    """A list in a body, all of that type; empty if there is none."""
    items = typed(body, name, list) or []
    if not all(isinstance(item, kind) for item in items):
        raise ApiProblem(400, "bad_request", f"{name}: not a list of {kind.__name__}")
    return list(items)


def one_of(body: dict[str, Any], name: str, known: Sequence[str]) -> str | None:
    """A field of a body that must have one of these values, or none."""
    value = typed(body, name, str)
    if value is not None and value not in known:
        raise Invalid(f"{name}: {value!r} is none of {', '.join(known)}")
    return None if value is None else str(value)


def page(call: Call, items: Iterable[T], key: Callable[[T], Sequence[Any]], limit: int) -> tuple[list[T], str | None]:
    """One page of ``items`` in the order of ``key``, and the token of the next.

    A token names the last item of its page. A walk then repeats nothing when items come, go or move meanwhile, and
    misses what moves to the front. With ``pages_by_position`` it is a position: a walk also repeats items when others
    come or move to the front, and misses some when others go.
    """
    last = _read_token(call.text("page_token"))
    if call.pages_by_position:
        return _page_at(last, sorted(items, key=lambda item: list(key(item))), limit)
    try:
        rest = sorted(
            (item for item in items if last is None or list(key(item)) > last), key=lambda item: list(key(item))
        )
    except TypeError:
        raise _bad_token() from None
    shown = rest[:limit]
    return shown, _write_token(list(key(shown[-1]))) if len(rest) > limit else None


def _page_at(token: list[Any] | None, ordered: list[T], limit: int) -> tuple[list[T], str | None]:
    start = token[0] if token else 0
    if not (isinstance(start, int) and start >= 0):
        raise _bad_token()
    end = start + limit
    return ordered[start:end], _write_token([end]) if len(ordered) > end else None


def listing(rows: list[Any], token: str | None = None) -> dict[str, Any]:
    return {"data": rows or None, "pagination": {"next_page_token": token} if token else {}}


def _bad_token() -> ApiProblem:
    return ApiProblem(400, "bad_request", "page_token: not a token of this list")


def _write_token(last: list[Any]) -> str:
    raw = _TOKEN_HEAD + json.dumps(last).encode()
    return base64.b64encode(raw + b" " * (1 if len(raw) % 3 == 0 else 0)).decode()


def _read_token(token: str | None) -> list[Any] | None:
    if token is None:
        return None
    try:
        raw = base64.b64decode(token, validate=True)
        last = json.loads(raw[len(_TOKEN_HEAD) :])
    except (binascii.Error, ValueError):
        raise _bad_token() from None
    if not raw.startswith(_TOKEN_HEAD) or not isinstance(last, list):
        raise _bad_token()
    return last


Handler = Callable[..., Any]


class Router:
    """Which function answers which method and path. The ids in a path are handed over by name."""

    def __init__(self, *parts: Router) -> None:
        self.routes: list[tuple[str, re.Pattern[str], Handler]] = [route for part in parts for route in part.routes]

    def __call__(self, method: str, template: str, *, unprocessable: bool = False) -> Callable[[Handler], Handler]:
        """Register a route.

        :param unprocessable: the reference lists 422 for it, so an :class:`Invalid` value is answered so, not with 400.
        """
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template))

        def register(handler: Handler) -> Handler:
            self.routes.append((method, pattern, _with_422(handler) if unprocessable else handler))
            return handler

        return register

    def dispatch(self, world: Any, call: Call) -> Response:
        known_path = False
        for method, pattern, handler in self.routes:
            match = pattern.fullmatch(call.path)
            if match and method == call.method:
                result = handler(world, call, **{name: unquote(value) for name, value in match.groupdict().items()})
                if isinstance(result, Response):
                    return result
                return Response(204) if result is None else answer(result)
            known_path = known_path or match is not None
        if known_path:
            raise ApiProblem(405, "method_not_allowed", f"{call.method} is not allowed here")
        raise ApiProblem(404, "not_found", f"there is nothing at {call.path}")


def _with_422(handler: Handler) -> Handler:
    def answering(*arguments: Any, **ids: str) -> Any:
        try:
            return handler(*arguments, **ids)
        except Invalid as error:
            return error.unprocessable

    return answering
