"""Reads of connections that the triggers of an event loop share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_polytomic.api.settings import Settings
from airflow_provider_polytomic.hooks import _shared_reads
from airflow_provider_polytomic.hooks._shared_reads import MAX_AGE, SharedReader


class Connection:
    """A connection whose key can be rotated, and which takes time to read."""

    def __init__(self) -> None:
        self.key = "first"
        self.reads = 0
        self.error: Exception | None = None

    async def read(self) -> Settings:
        self.reads += 1
        key, error = self.key, self.error
        await asyncio.sleep(0.02)
        if error is not None:
            raise error
        return Settings(key=key)

    def reader(self, not_before: float = 0.0, key: Any = "connection") -> SharedReader:
        return SharedReader(key, self.read, not_before)


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The wall clock, as its seconds that have passed."""
    passed, now = [0.0], time.time
    monkeypatch.setattr(_shared_reads.time, "time", lambda: now() + passed[0])
    return passed


def test_clients_that_read_the_same_connection_together_share_one_read(connection: Connection) -> None:
    """A thousand triggers of a triggerer that starts cause one request to Airflow."""

    async def run() -> list[Settings]:
        return await asyncio.gather(*(connection.reader()() for _ in range(1000)))

    assert {settings.key for settings in asyncio.run(run())} == {"first"}
    assert connection.reads == 1


def test_clients_of_different_connections_do_not_share_a_read(connection: Connection) -> None:
    """Each connection is read."""

    async def run() -> None:
        await asyncio.gather(connection.reader(key="a")(), connection.reader(key="b")())

    asyncio.run(run())
    assert connection.reads == 2


def test_canceled_client_does_not_cancel_the_read_of_the_others(connection: Connection) -> None:
    """It may be the one that began the read."""

    async def run() -> str:
        first, second = (asyncio.create_task(connection.reader()()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return (await second).key

    assert asyncio.run(run()) == "first"
    assert connection.reads == 1


def test_error_of_a_shared_read_is_raised_to_all_and_not_kept(connection: Connection) -> None:
    """The next read asks Airflow again."""
    connection.error = RuntimeError("secrets backend: 503")

    async def run() -> None:
        readers = [connection.reader() for _ in range(3)]
        errors = await asyncio.gather(*(reader() for reader in readers), return_exceptions=True)
        assert [str(error) for error in errors] == ["secrets backend: 503"] * 3
        connection.error = None
        assert [settings.key for settings in await asyncio.gather(*(reader() for reader in readers))] == ["first"] * 3

    asyncio.run(run())
    assert connection.reads == 2


def test_client_with_a_rejected_key_shares_no_read_that_began_before(connection: Connection) -> None:
    """The second read of a client follows a 401, and gets the rotated key, also while an older read is under way."""

    async def run() -> list[str]:
        reader = connection.reader()
        keys = [(await reader()).key]
        others = asyncio.create_task(connection.reader(time.time())())
        await asyncio.sleep(0)  # until its task has begun
        await asyncio.sleep(0)  # and its read
        assert connection.reads == 2
        connection.key = "rotated"
        keys.append((await reader()).key)
        assert (await others).key == "first"
        return keys

    assert asyncio.run(run()) == ["first", "rotated"]
    assert connection.reads == 3


def test_clients_with_a_rejected_key_share_the_next_read(connection: Connection) -> None:
    """A rotated key is read once for all triggers."""

    async def run() -> list[str]:
        readers = [connection.reader() for _ in range(50)]
        await asyncio.gather(*(reader() for reader in readers))
        connection.key = "rotated"
        reads = [asyncio.create_task(reader()) for reader in readers]
        return [(await read).key for read in reads]

    assert set(asyncio.run(run())) == {"rotated"}
    assert 1 < connection.reads < 52


def test_read_is_shared_for_a_minute_at_most(connection: Connection, clock: list[float]) -> None:
    """A trigger that starts later reads the connection as it is then."""

    async def run() -> list[str]:
        keys = [(await connection.reader()()).key]
        connection.key = "rotated"
        for seconds in (MAX_AGE - 1, 2):
            clock[0] += seconds
            keys.append((await connection.reader()()).key)
        return keys

    assert asyncio.run(run()) == ["first", "first", "rotated"]


def test_task_that_deferred_after_a_read_does_not_share_it(connection: Connection) -> None:
    """The connection may have been changed between the read and the task's start."""

    async def run() -> list[str]:
        keys = [(await connection.reader()()).key]
        connection.key = "rotated"
        keys.append((await connection.reader(not_before=time.time())()).key)
        return keys

    assert asyncio.run(run()) == ["first", "rotated"]


def test_worker_whose_clock_is_ahead_does_not_prevent_a_read(connection: Connection) -> None:
    """A time in the future counts as now."""

    async def run() -> str:
        return (await connection.reader(not_before=time.time() + 3600)()).key

    assert asyncio.run(run()) == "first"


def test_event_loops_do_not_share_a_read(connection: Connection) -> None:
    """A read belongs to the event loop in which it began."""

    async def run() -> str:
        return (await connection.reader()()).key

    assert [asyncio.run(run()) for _ in range(2)] == ["first", "first"]
    assert connection.reads == 2


def test_read_is_forgotten_after_a_minute(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A triggerer without triggers keeps no API key."""
    monkeypatch.setattr(_shared_reads, "MAX_AGE", 0.0)

    async def run() -> bool:
        await connection.reader()()
        await asyncio.sleep(0.01)
        return bool(_shared_reads._reads[asyncio.get_running_loop()])

    assert not asyncio.run(run())


def test_failed_read_of_canceled_clients_is_not_logged(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """All clients may have been canceled before the read failed."""
    connection.error = RuntimeError("secrets backend: 503")

    async def run() -> None:
        client = asyncio.create_task(connection.reader()())
        await asyncio.sleep(0)
        client.cancel()
        await asyncio.gather(client, return_exceptions=True)
        await asyncio.sleep(0.1)

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert not caplog.records
