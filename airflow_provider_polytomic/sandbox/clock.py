"""Timestamps in the API's format."""

from __future__ import annotations

from datetime import datetime, timezone


def to_datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def format_timestamp(seconds: float | None) -> str | None:
    """Format seconds since the epoch as RFC 3339 in UTC, with microseconds."""
    if seconds is None:
        return None
    return to_datetime(seconds).isoformat(timespec="microseconds").replace("+00:00", "Z")
