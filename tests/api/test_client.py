"""Clients run plans in a worker and in an event loop, where equal settings share a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_polytomic.api.client import AsyncClient, Client, adrive, drive
from airflow_provider_polytomic.api.endpoints import identity
from airflow_provider_polytomic.api.errors import PolytomicAuthError, PolytomicUnreachableError
from airflow_provider_polytomic.api.plan import (
    Plan,
    Request,
    Response,
    SendResult,
    current_time,
    reload_credentials,
    send,
    sleep,
)
from airflow_provider_polytomic.api.settings import Settings

from .servers import Reply, Script, Server, http, until

GET = Request("GET", "/api/me")
ME = http(200, b'{"data": {"id": "me"}}')


def settings(server: Server, **more: Any) -> Settings:
    return Settings(base_url=server.url, key="key", timeout=60.0, **more)


# plans


def a_plan() -> Plan[list[Any]]:
    told: list[Any] = [(yield from send(GET)), (yield from current_time())]
    yield from sleep(2.5)
    yield from reload_credentials()
    told.append((yield from send(Request("GET", "/2"))))
    return told


class Steps:
    """What a plan asked for, in order."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def send(self, request: Request) -> SendResult:
        self.done.append(request)
        return Response(200, {}, request.path.encode())

    def sleep(self, seconds: float) -> None:
        self.done.append(seconds)

    def reload_credentials(self) -> None:
        self.done.append("reload_credentials")

    def now(self) -> float:
        return 1000.0

    def awaited(self, function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            await asyncio.sleep(0)
            return function(*arguments)

        return call


EXPECTED = [Response(200, {}, b"/api/me"), 1000.0, Response(200, {}, b"/2")]
DONE = [GET, 2.5, "reload_credentials", Request("GET", "/2")]


def test_a_plan_is_driven() -> None:
    """Each step is carried out, and its outcome handed back to the plan."""
    steps = Steps()
    assert (
        drive(a_plan(), steps.send, sleep=steps.sleep, now=steps.now, reload_credentials=steps.reload_credentials)
        == EXPECTED
    )
    assert steps.done == DONE


def test_a_plan_is_driven_in_an_event_loop() -> None:
    """By the same steps to the same result."""
    steps = Steps()
    awaited = {name: steps.awaited(getattr(steps, name)) for name in ("sleep", "reload_credentials")}
    assert asyncio.run(adrive(a_plan(), steps.awaited(steps.send), now=steps.now, **awaited)) == EXPECTED
    assert steps.done == DONE


def failing() -> Plan[None]:
    yield from send(GET)
    raise PolytomicUnreachableError(GET, "no")


def test_what_a_plan_raises_is_raised() -> None:
    """In either way."""
    steps = Steps()
    with pytest.raises(PolytomicUnreachableError):
        drive(failing(), steps.send)
    with pytest.raises(PolytomicUnreachableError):
        asyncio.run(adrive(failing(), steps.awaited(steps.send)))


# the blocking client


def test_a_client_calls() -> None:
    """And says who it is without its key."""
    with Server([ME]) as server, Client(settings(server)) as client:
        assert client.call(identity.get()).id == "me"
        assert repr(client) == f"<Polytomic client of {server.url}>"


def test_a_client_repeats_as_its_settings_say() -> None:
    """`max_retries` of the connection, and not one more."""
    with Server([http(503, b'{"message": "later"}', "Retry-After: 0.01"), ME]) as server:
        with Client(settings(server, max_retries=1)) as client:
            assert client.call(identity.get()).id == "me"
        assert len(server.requests) == 2


def test_a_client_reads_its_settings_again() -> None:
    """A plan that says so goes on with the new key; without a way to read them, nothing changes."""
    with Server([ME]) as server:
        first, second = settings(server), replace(settings(server), key="new")
        with Client(first, lambda: second) as client:
            client.run(a_plan_that_reconnects())
            assert client.settings == second
        with Client(first) as client:
            client.run(a_plan_that_reconnects())
            assert client.settings == first
        sent = [received.headers["authorization"] for received in server.requests]
    assert sent == ["Bearer key", "Bearer new", "Bearer key", "Bearer key"]


def test_a_client_without_readable_settings_returns_a_failure() -> None:
    """Until it can: with each request it tries again."""
    with Server([ME]) as server:
        tries = iter([RuntimeError("secrets backend: 503"), ValueError("verify"), replace(settings(server), key="new")])

        def reload_settings() -> Settings:
            return settled(next(tries))

        with Client(settings(server), reload_settings) as client:
            client.reload_credentials()
            answers = [client.send(GET) for _ in range(4)]
    check_unread(answers, server)


def settled(outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def check_unread(answers: list[SendResult], server: Server) -> None:
    assert [getattr(answer, "sent", None) for answer in answers] == [False, False, None, None]
    assert "the connection cannot be read: RuntimeError: secrets backend: 503" in str(answers[0])
    assert [received.headers["authorization"] for received in server.requests] == ["Bearer new"] * 2


def a_plan_that_reconnects() -> Plan[None]:
    yield from send(GET)
    yield from reload_credentials()
    yield from send(GET)


# sharing


def test_clients_with_equal_settings_share_ten_connections() -> None:
    """Many at once in one event loop use one session, and at most ten connections."""
    with Server([ME, replace(ME, ready=lambda server: server.connections >= 10)]) as server:

        async def one() -> str | None:
            async with AsyncClient(settings(server)) as client:
                return (await client.call(identity.get())).id

        async def all_at_once() -> list[str | None]:
            async with AsyncClient(settings(server)) as first:  # keeps the session while the others come and go
                await first.send(GET)
                return await asyncio.gather(*(one() for _ in range(40)))

        assert asyncio.run(all_at_once()) == ["me"] * 40
        assert server.connections == 10
        until(lambda: not server.open)


def test_the_session_is_closed_by_its_last_release() -> None:
    """Who comes while others are there finds their connection; who comes after the last opens a new one."""
    with Server([ME]) as server:

        async def come_and_go() -> None:
            first, second = AsyncClient(settings(server)), AsyncClient(settings(server))
            await first.send(GET)
            await second.send(GET)
            await first.close()
            assert (server.connections, len(server.open)) == (1, 1)
            await second.send(GET)
            assert server.connections == 1
            await second.close()
            await asyncio.to_thread(until, lambda: not server.open)
            await first.send(GET)
            assert server.connections == 2
            await first.close()

        asyncio.run(come_and_go())
        until(lambda: not server.open)


@pytest.mark.parametrize("more", [{"login": "org"}, {"timeout": 1.0}, {"verify": False}, {"max_retries": 1}])
def test_clients_with_different_settings_do_not_share(more: dict[str, Any]) -> None:
    """Another key, or anything else that differs, is another session."""
    with Server([ME]) as server:

        async def two() -> None:
            async with (
                AsyncClient(settings(server)) as one,
                AsyncClient(replace(settings(server), **more)) as other,
            ):
                await one.send(GET)
                await other.send(GET)

        asyncio.run(two())
        assert server.connections == 2


def test_one_client_may_be_used_by_many_tasks() -> None:
    """That their first requests race for the session leaves none of it open."""
    with Server([replace(ME, ready=lambda server: server.connections >= 5)]) as server:

        async def race() -> None:
            async with AsyncClient(settings(server)) as client:
                await asyncio.gather(*(client.send(GET) for _ in range(5)))

        asyncio.run(race())
        until(lambda: not server.open)


def test_event_loops_do_not_share() -> None:
    """A session belongs to the loop that it was made in."""
    with Server([ME]) as server:

        async def one() -> SendResult:
            async with AsyncClient(settings(server)) as client:
                return await client.send(GET)

        async def here_and_there() -> list[SendResult]:
            return [await one(), await asyncio.to_thread(asyncio.run, one()), await one()]

        assert all(isinstance(answer, Response) for answer in asyncio.run(here_and_there()))


@pytest.mark.parametrize(
    ("asked", "script"),
    [(0, [ME]), (2, [ME, Reply(then="hold"), ME])],
    ids=["while it borrows", "while it waits for an answer"],
)
def test_a_canceled_task_releases_the_session(asked: int, script: list[Script]) -> None:
    """Nothing is left open, and the others go on."""
    with Server(script) as server:

        async def one(client: AsyncClient) -> None:
            async with client:
                await client.send(GET)

        async def cancel_one() -> None:
            async with AsyncClient(settings(server)) as other:
                if asked:  # else there is no session yet, and making one takes a while
                    await other.send(GET)
                task = asyncio.create_task(one(AsyncClient(settings(server))))
                await asyncio.sleep(0)
                if asked:
                    await asyncio.to_thread(until, lambda: len(server.requests) == asked)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert isinstance(await other.send(GET), Response)

        asyncio.run(cancel_one())
        assert len(server.requests) == asked + 1


def test_closing_a_client_twice_has_no_effect() -> None:
    """The second time there is nothing to give back."""
    with Server([ME]) as server:

        async def twice() -> None:
            one, other = AsyncClient(settings(server)), AsyncClient(settings(server))
            await one.send(GET)
            await other.send(GET)
            await one.close()
            await one.close()
            assert isinstance(await other.send(GET), Response)
            await other.close()

        asyncio.run(twice())


def test_an_async_client_reads_its_settings_again() -> None:
    """It gives the session of the old key back, and borrows that of the new one."""
    with Server([http(401, b'{"message": "no"}'), ME]) as server:

        async def rotate() -> str | None:
            async def reload_settings() -> Settings:
                return replace(settings(server), key="new")

            async with AsyncClient(settings(server), reload_settings) as client:
                with pytest.raises(PolytomicAuthError):
                    await client.call(identity.get())
                await client.reload_credentials()
                return (await client.call(identity.get())).id

        assert asyncio.run(rotate()) == "me"
        assert [received.headers["authorization"] for received in server.requests] == ["Bearer key", "Bearer new"]
        until(lambda: not server.open)


@pytest.mark.parametrize("known", [True, False])
def test_an_async_client_without_readable_settings_returns_a_failure(known: bool) -> None:
    """Until it can, whether it had settings before or none."""
    with Server([ME]) as server:
        tries = iter([RuntimeError("secrets backend: 503"), ValueError("verify"), replace(settings(server), key="new")])

        async def reload_settings() -> Settings:
            return settled(next(tries))

        async def ask() -> list[SendResult]:
            async with AsyncClient(settings(server) if known else None, reload_settings) as client:
                await client.reload_credentials()
                return [await client.send(GET) for _ in range(4)]

        check_unread(asyncio.run(ask()), server)


def test_the_repr_of_an_async_client_hides_the_api_key() -> None:
    """And without opening anything."""
    url = "http://127.0.0.1:1"
    assert repr(AsyncClient(Settings(base_url=url, key="key"))) == f"<Polytomic client of {url}>"
    assert repr(AsyncClient(None)) == "<Polytomic client of a connection to be read>"
