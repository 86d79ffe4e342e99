"""The types of fields that several models share."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from ..text import CONTROL_CHARACTERS, printable

NON_TERMINAL_STATUSES = frozenset(
    {
        "created",
        "scheduled",
        "queued",
        "waiting",
        "running",
        "exporting",
        "processing",
        "canceling",
    }
)
TERMINAL_STATUSES = frozenset({"completed", "canceled", "failed", "interrupted", "errors"})


def _no_time(value: object) -> object:
    # An empty text, and the year 1 (how Go spells "no time"), are no times.
    return None if value == "" or (isinstance(value, str) and value.startswith("0001-")) else value


def _aware(value: datetime | None) -> datetime | None:
    return value.replace(tzinfo=timezone.utc) if value is not None and value.tzinfo is None else value


_AnyTime = Annotated[datetime | None, BeforeValidator(_no_time), AfterValidator(_aware)]
_any_time: TypeAdapter[datetime | None] = TypeAdapter(_AnyTime)
_YEAR_2 = datetime(2, 1, 1, tzinfo=timezone.utc)
_from_iso = datetime.fromisoformat  # looking it up each time takes half as long as what it does


def _time(value: Any) -> datetime | None:
    """What ``_AnyTime`` reads, sooner where it is written as the API writes it: an answer holds thousands of times."""
    if value is None:
        return None
    try:
        time = _from_iso(value)
        return time if time >= _YEAR_2 else None
    except (TypeError, ValueError):  # also of one without a time zone, which cannot be compared
        return _any_time.validate_python(value)


if sys.version_info >= (3, 11):
    Time = Annotated[datetime | None, BeforeValidator(_time)]
else:  # there, `fromisoformat` reads next to nothing of what the API writes
    Time = _AnyTime

# Ids are written into logs, URLs and databases. In a path, dots alone would lead elsewhere.
Id = Annotated[
    str,
    Field(max_length=1000, pattern=rf"^[^{CONTROL_CHARACTERS}]*[^{CONTROL_CHARACTERS}\s.][^{CONTROL_CHARACTERS}]*$"),
]

# So are the statuses of executions. One that is too long to be one is unknown as it is, and stays so.
KNOWN_STATUSES = NON_TERMINAL_STATUSES | TERMINAL_STATUSES
Status = Annotated[str, AfterValidator(lambda status: status if status in KNOWN_STATUSES else printable(status, 100))]
