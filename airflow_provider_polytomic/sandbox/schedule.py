"""The schedule of a bulk sync, and when it is due next. A schedule starts no executions in the sandbox."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .clock import format_timestamp, to_datetime
from .seed import ACTOR
from .wire import InvalidValueError, get_choice, get_list, get_typed

FREQUENCIES = (
    "manual",
    "continuous",
    "hourly",
    "daily",
    "weekly",
    "custom",
    "builder",
    "runafter",
    "multi",
    "dbtcloud",
)
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MODES = {
    "selective_mode": ("none", "incrementalFields", "nonincrementalFields"),
    "resync_mode": ("normal", "refetch", "resync", "rebuild"),
}
_RANGES = {"minute": range(60), "hour": range(24), "day_of_month": range(1, 32), "month": range(1, 13)}
_FIELDS = ("frequency", *_RANGES, "day_of_week", *MODES, "schemas")


@dataclass
class Schedule:
    id: str
    rule: dict[str, Any]
    is_default: bool
    created_at: float
    updated_at: float

    def row(self) -> dict[str, Any]:
        """Return the schedule as the API includes it in a sync."""
        return {
            **self.rule,
            "created_at": format_timestamp(self.created_at),
            "created_by": ACTOR,
            "updated_at": format_timestamp(self.updated_at),
            "updated_by": ACTOR,
        }


def parse_rule(given: dict[str, Any]) -> dict[str, Any]:
    """Read a schedule from the fields of a request body.

    :raises HttpError: for a field that is missing or invalid.
    """
    if get_choice(given, "frequency", FREQUENCIES) is None:
        raise InvalidValueError("frequency: is required")
    for name, numbers in _RANGES.items():
        text = get_typed(given, name, str)
        if text and not (re.fullmatch("[0-9]{1,2}", text) and int(text) in numbers):
            raise InvalidValueError(f"{name}: must be {numbers[0]} to {numbers[-1]}, not {text!r}")
    for name, known in {"day_of_week": DAYS, **MODES}.items():
        get_choice(given, name, known)
    get_list(given, "schemas", str)
    return {name: given[name] for name in _FIELDS if given.get(name)}


def next_due(rule: dict[str, Any], now: float) -> float | None:
    """Return when a schedule is due next, in seconds since the epoch; None unless it is hourly, daily or weekly."""
    if rule["frequency"] not in ("hourly", "daily", "weekly"):
        return None
    at = to_datetime(now).replace(minute=int(rule.get("minute", 0)), second=0, microsecond=0)
    while at.timestamp() <= now or not _matches(rule, at.hour, DAYS[at.weekday()]):
        at += timedelta(hours=1)
    return at.timestamp()


def _matches(rule: dict[str, Any], hour: int, day: str) -> bool:
    if rule["frequency"] == "hourly":
        return True
    return hour == int(rule.get("hour", 0)) and (
        rule["frequency"] == "daily" or day == rule.get("day_of_week", DAYS[0])
    )
