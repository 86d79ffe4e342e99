"""The work that is waited for: its ids, which the server and all kinds of waiters agree upon."""

from __future__ import annotations

SYNC, EXECUTION = "5c000000-0000-4000-8000-000000000000", "ec000000-0000-4000-8000-000000000000"
WARM_UP = 10**9  # the number of a waiter that is no part of the measurement: its work has ended before it asks


def sync_id(number: int) -> str:
    return f"{SYNC[:-12]}{number:012d}"


def execution_id(number: int) -> str:
    return f"{EXECUTION[:-12]}{number:012d}"


def number_of(name: str) -> int:
    return int(name[-12:])
