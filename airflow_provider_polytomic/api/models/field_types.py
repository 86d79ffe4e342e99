"""The types of fields that several models share."""

from __future__ import annotations

import functools
import sys
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from ..text import CONTROL_CHARACTERS, printable
from .statuses import KNOWN_STATUSES


def _no_time(value: object) -> object:
    # Empty text and the year 1 (the zero value in Go) mean "no time".
    return None if value == "" or (isinstance(value, str) and value.startswith("0001-")) else value


def _aware(value: datetime | None) -> datetime | None:
    return value.replace(tzinfo=timezone.utc) if value is not None and value.tzinfo is None else value


_AnyTime = Annotated[datetime | None, BeforeValidator(_no_time), AfterValidator(_aware)]
_YEAR_2 = datetime(2, 1, 1, tzinfo=timezone.utc)
_from_iso = datetime.fromisoformat  # an attribute lookup per call would add half of its time


@functools.cache  # few processes need it, and it takes a millisecond to build
def _any_time() -> TypeAdapter[datetime | None]:
    return TypeAdapter(_AnyTime)


def _time(value: Any) -> datetime | None:
    """Parse a time as ``_AnyTime`` does, but faster in the API's format: a response may contain thousands of times."""
    if value is None:
        return None
    try:
        time = _from_iso(value)
        return time if time >= _YEAR_2 else None
    except (TypeError, ValueError):  # includes the comparison of a time without a time zone
        return _any_time().validate_python(value)


if sys.version_info >= (3, 11):
    Time = Annotated[datetime | None, BeforeValidator(_time)]
else:  # `fromisoformat` of Python 3.10 does not parse the API's format
    Time = _AnyTime

# Ids are written to logs, URLs and databases. An id of dots alone would change a path.
Id = Annotated[
    str,
    Field(max_length=1000, pattern=rf"^[^{CONTROL_CHARACTERS}]*[^{CONTROL_CHARACTERS}\s.][^{CONTROL_CHARACTERS}]*$"),
]

# An unknown status is written to logs too, so it is made printable and truncated.
Status = Annotated[str, AfterValidator(lambda status: status if status in KNOWN_STATUSES else printable(status, 100))]
