"""Moments as the API spells them."""

from __future__ import annotations

from datetime import datetime, timezone


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def stamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, with microseconds."""
    if seconds is None:
        return None
    return moment(seconds).isoformat(timespec="microseconds").replace("+00:00", "Z")
