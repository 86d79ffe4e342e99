"""Requests, responses and plans: the parts of an exchange with Polytomic, without I/O.

A *plan* is a generator. It yields one of five steps and is sent the result of each:

========================== =====================================================
:class:`Request`          a :class:`Response`, or :class:`TransportFailure`
:class:`Sleep`            ``None``, after the sleep
:class:`BatchableSleep`   whether a batch response showed meanwhile that the execution has not ended
:class:`Now`              the wall clock, in seconds since the epoch
:class:`ReloadCredentials` ``None``, after the credentials were read again
========================== =====================================================

It returns a result or raises an error. A plan does no I/O and reads no clock, so that a worker (``client.drive``), the
triggerer (``client.adrive``) and tests can run the same plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, cast
from urllib.parse import quote

from .text import CONTROL_CHARACTERS

T = TypeVar("T")
_CONTROL = re.compile(f"[{CONTROL_CHARACTERS}]")
_KEY = re.compile(r"[A-Za-z0-9_-]{8,255}")
BODY_TOO_LARGE = "the response is too large"  # the reason of a TransportFailure


@dataclass(frozen=True)
class Request:
    """One HTTP request, without the parts that all requests share: base URL, credentials and API version."""

    method: str
    path: str  # percent-encoded, starting with "/api/"
    query: tuple[tuple[str, str], ...] = ()
    json: Any = None  # the body as data; None sends no body
    idempotency_key: str | None = None
    timeout: float | None = None  # seconds; an upper bound on top of the client's own

    def __post_init__(self) -> None:
        key = self.idempotency_key
        if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
            shown = repr(key) if isinstance(key, str) else f"a {type(key).__name__}"  # another repr may fail
            raise ValueError(f"idempotency_key must be 8 to 255 of A-Z, a-z, 0-9, _ and -, not {shown}")

    @property
    def body(self) -> bytes | None:
        return None if self.json is None else json.dumps(self.json, allow_nan=False).encode()


@dataclass(frozen=True)
class Response:
    """An HTTP response, from the API or from a proxy in front of it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""
    secrets: tuple[str, ...] = field(default=(), repr=False, compare=False)  # texts that no message may quote


class TransportFailure(NamedTuple):
    """No complete response arrived. The request may have been processed, unless ``sent`` is False."""

    reason: str
    sent: bool = True
    status: int | None = None  # of a response that ended early


class Sleep(NamedTuple):
    seconds: float


class BatchableSleep(NamedTuple):
    """Sleep until an execution of a bulk sync has to be polled.

    The driver may extend the sleep while batch polling shows that the execution has not ended.

    :param seconds: the time until the poll.
    :param interval: returns the seconds until a further poll, for a time in seconds since the epoch.
    :param deadline: when the sleep ends in any case, in seconds since the epoch.
    :param schema_count: the number of schemas of the execution, or 0 if unknown.
    """

    sync_id: str
    execution_id: str
    seconds: float
    interval: Callable[[float], float]
    deadline: float | None = None
    schema_count: int = 0


@dataclass(frozen=True)  # a tuple without fields would equal every other
class Now:
    pass


@dataclass(frozen=True)
class ReloadCredentials:
    pass


SendResult: TypeAlias = Response | TransportFailure
Step: TypeAlias = Request | Sleep | BatchableSleep | Now | ReloadCredentials
Plan: TypeAlias = Generator[Step, SendResult | float | None, T]


def send(request: Request) -> Plan[SendResult]:
    return cast(SendResult, (yield request))


def sleep(seconds: float) -> Plan[None]:
    yield Sleep(seconds)


def sleep_batchable(step: BatchableSleep) -> Plan[bool]:
    """Sleep, and return whether a batch response showed meanwhile that the execution has not ended."""
    return bool((yield step))


def current_time() -> Plan[float]:
    return cast(float, (yield Now()))


def reload_credentials() -> Plan[None]:
    yield ReloadCredentials()


def build_path(template: str, **ids: str) -> str:
    """Insert percent-encoded ids into ``template``.

    :raises ValueError: an id would change which resource the path names. Both HTTP libraries resolve dot segments, so
        that an execution id of ``..`` would turn "cancel this execution" into "cancel the running execution".
    """
    return template.format(**{name: _segment(name, value) for name, value in ids.items()})


def is_valid_id(value: object) -> bool:
    """Whether :func:`build_path` accepts the value."""
    try:
        _segment("id", value)
    except ValueError:
        return False
    return True


def _segment(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {type(value).__name__}: {value!r}")
    if value.strip() in ("", ".", ".."):
        raise ValueError(f"{name} must not be empty, '.' or '..': {value!r}")
    if _CONTROL.search(value):
        raise ValueError(f"{name} must not contain control characters: {value!r}")
    return quote(value, safe="")


def build_query(**values: object) -> tuple[tuple[str, str], ...]:
    """Build query parameters.

    ``None`` is omitted, and booleans are written as in JSON. A list repeats the name. A mapping appends each key to the
    name, in brackets.
    """
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            pairs += build_query(**{f"{name}[{key}]": inner for key, inner in value.items()})
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is not None:
                text = str(item).lower() if isinstance(item, bool) else str(item)
                pairs.append((name, text))
    return tuple(pairs)


def to_list(name: str, values: Iterable[Any] | Literal[False] | None) -> list[Any]:
    """Convert an argument to a list; None becomes an empty list.

    :param name: the argument's name, for messages.
    :raises ValueError: the argument is text (which would become a list of letters), a mapping (which would lose its
        values), or not iterable.
    """
    if values is None or values is False:
        return []
    if isinstance(values, str | bytes) and values:
        raise ValueError(f"{name} must be a list, not text: {values!r:.200}")
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a list, not {type(values).__name__}")
    return list(values)
