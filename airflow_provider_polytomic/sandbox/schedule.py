"""A schedule of a bulk sync, and when it is due next. Nothing is started by it: who wants an execution starts one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from .clock import moment, stamp
from .seed import ACTOR
from .wire import Invalid, list_of, one_of, typed

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
        """The schedule as a sync shows it."""
        return {
            **self.rule,
            "created_at": stamp(self.created_at),
            "created_by": ACTOR,
            "updated_at": stamp(self.updated_at),
            "updated_by": ACTOR,
        }


def rule(given: dict[str, Any]) -> dict[str, Any]:
    """The schedule that a body describes.

    :raises ApiProblem: it describes none.
    """
    if one_of(given, "frequency", FREQUENCIES) is None:
        raise Invalid("frequency: is required")
    for name, numbers in _RANGES.items():
        text = typed(given, name, str)
        if text and not (re.fullmatch("[0-9]{1,2}", text) and int(text) in numbers):
            raise Invalid(f"{name}: {numbers[0]} to {numbers[-1]} is needed, not {text!r}")
    for name, known in {"day_of_week": DAYS, **MODES}.items():
        one_of(given, name, known)
    list_of(given, "schemas", str)
    return {name: given[name] for name in _FIELDS if given.get(name)}


def due(rule: dict[str, Any], now: float) -> float | None:
    """When an hourly, daily or weekly schedule is due next; None for the others."""
    if rule["frequency"] not in ("hourly", "daily", "weekly"):
        return None
    at = moment(now).replace(minute=int(rule.get("minute", 0)), second=0, microsecond=0)
    while at.timestamp() <= now or not _fits(rule, at.hour, DAYS[at.weekday()]):
        at += timedelta(hours=1)
    return at.timestamp()


def _fits(rule: dict[str, Any], hour: int, day: str) -> bool:
    if rule["frequency"] == "hourly":
        return True
    return hour == int(rule.get("hour", 0)) and (
        rule["frequency"] == "daily" or day == rule.get("day_of_week", DAYS[0])
    )
