"""What an exchange with Polytomic is made of: plain values, and the plan that yields them.

A *plan* is a generator. It yields one of five steps and is sent what became of it:

========================  =====================================================
:class:`Request`          a :class:`Response`, or :class:`TransportFailure`
:class:`Sleep`            ``None``, when that time has passed
:class:`BatchableSleep`             whether the execution was shown to run, when it is time to poll it
:class:`Now`              the wall clock, in seconds since the epoch
:class:`ReloadCredentials`        ``None``, when the credentials have been read again
========================  =====================================================

and it returns its result, or raises. It does no I/O and reads no clock, so the same plan is driven
by a worker (``client.drive``), by the triggerer (``client.adrive``) and by tests, by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import quote

from .text import CONTROL_CHARACTERS

T = TypeVar("T")
_CONTROL = re.compile(f"[{CONTROL_CHARACTERS}]")
_KEY = re.compile(r"[A-Za-z0-9_-]{8,255}")
BODY_TOO_LARGE = "the answer is too large to be read"  # the reason of an Unreachable


@dataclass(frozen=True)
class Request:
    """One HTTP request, without what every request has (base URL, credentials, version)."""

    method: str
    path: str  # percent-encoded, from "/api/" on
    query: tuple[tuple[str, str], ...] = ()
    json: Any = None  # the body as data; None sends no body
    idempotency_key: str | None = None
    timeout: float | None = None  # seconds; an upper bound on top of the client's own

    def __post_init__(self) -> None:
        key = self.idempotency_key
        if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
            raise ValueError(f"idempotency_key must be 8 to 255 of A-Z, a-z, 0-9, _ and -: {self.idempotency_key!r}")

    @property
    def body(self) -> bytes | None:
        return None if self.json is None else json.dumps(self.json, allow_nan=False).encode()


@dataclass(frozen=True)
class Response:
    """An answer, whoever gave it: the API, or a proxy in front of it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)  # names in lower case
    body: bytes = b""
    secrets: tuple[str, ...] = field(default=(), repr=False, compare=False)  # what no message may quote of it


@dataclass(frozen=True)
class TransportFailure:
    """No answer came, or not all of it. The request may have been processed, unless ``sent`` is False."""

    reason: str
    sent: bool = True
    status: int | None = None  # of an answer that broke off


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class BatchableSleep:
    """Let time pass until an execution of a bulk sync is looked at.

    Who drives the plan may let more of it pass for as long as the execution is known to run.

    :param seconds: until the look.
    :param interval: returns the seconds until a further poll, for a time in seconds since the epoch.
    :param deadline: when the sleep ends in any case, in seconds since the epoch.
    :param schemas: how many schemas the execution has, as far as is known.
    """

    sync_id: str
    execution_id: str
    seconds: float
    interval: Callable[[float], float]
    deadline: float | None = None
    schemas: int = 0


@dataclass(frozen=True)
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
    """Whether a batch response has shown meanwhile that the execution runs."""
    return bool((yield step))


def current_time() -> Plan[float]:
    return cast(float, (yield Now()))


def reload_credentials() -> Plan[None]:
    yield ReloadCredentials()


def build_path(template: str, **ids: str) -> str:
    """Fill the ids into ``template``, percent-encoded.

    :raises ValueError: for an id that would change which resource is meant. Both HTTP libraries
        resolve dot segments, so ``..`` for an execution id would turn "cancel this execution" into
        "cancel whatever runs".
    """
    return template.format(**{name: _segment(name, value) for name, value in ids.items()})


def is_valid_id(value: object) -> bool:
    """Whether :func:`build_path` takes it."""
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
        raise ValueError(f"{name} must not hold control characters: {value!r}")
    return quote(value, safe="")


def build_query(**values: object) -> tuple[tuple[str, str], ...]:
    """Query parameters; ``None`` is left out, booleans are spelled as in JSON, a list repeats its name, and what is
    in a mapping has its key in brackets behind the name."""
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


def to_list(name: str, values: Iterable[Any] | None) -> list[Any]:
    """A list as it is sent; an empty one for None.

    :raises ValueError: for text, which would be sent letter by letter, for a mapping, of which only the keys would be
        sent, and for what is no list at all; naming the argument.
    """
    if values is None or values is False:
        return []
    if isinstance(values, str | bytes) and values:
        raise ValueError(f"{name} must be a list, not text: {values!r:.200}")
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a list, not {type(values).__name__}")
    return list(values)
