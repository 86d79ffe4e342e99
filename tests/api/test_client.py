"""The clients that run plans: the blocking one, and the asynchronous one with its shared sessions."""

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

from .servers import Reply, Script, Server, http, wait_until

GET = Request("GET", "/api/me")
ME = http(200, b'{"data": {"id": "me"}}')


def settings(server: Server, **more: Any) -> Settings:
    return Settings(base_url=server.url, key="key", timeout=60.0, **more)


# plans


def example_plan() -> Plan[list[Any]]:
    results: list[Any] = [(yield from send(GET)), (yield from current_time())]
    yield from sleep(2.5)
    yield from reload_credentials()
    results.append((yield from send(Request("GET", "/2"))))
    return results


class Steps:
    """Records the steps that a plan yields."""

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


def test_drive_performs_each_step_and_returns_the_result_of_the_plan() -> None:
    """The outcome of each step is passed back to the plan."""
    steps = Steps()
    assert (
        drive(example_plan(), steps.send, sleep=steps.sleep, now=steps.now, reload_credentials=steps.reload_credentials)
        == EXPECTED
    )
    assert steps.done == DONE


def test_adrive_performs_each_step_and_returns_the_result_of_the_plan() -> None:
    """The steps and the result are the same as with `drive`."""
    steps = Steps()
    awaited = {name: steps.awaited(getattr(steps, name)) for name in ("sleep", "reload_credentials")}
    assert asyncio.run(adrive(example_plan(), steps.awaited(steps.send), now=steps.now, **awaited)) == EXPECTED
    assert steps.done == DONE


def failing_plan() -> Plan[None]:
    yield from send(GET)
    raise PolytomicUnreachableError(GET, "no")


def test_drivers_raise_the_error_of_the_plan() -> None:
    """This applies to `drive` and `adrive`."""
    steps = Steps()
    with pytest.raises(PolytomicUnreachableError):
        drive(failing_plan(), steps.send)
    with pytest.raises(PolytomicUnreachableError):
        asyncio.run(adrive(failing_plan(), steps.awaited(steps.send)))


# the blocking client


def test_client_call_returns_the_parsed_response() -> None:
    """The repr of the client names the URL and not the key."""
    with Server([ME]) as server, Client(settings(server)) as client:
        assert client.call(identity.get()).id == "me"
        assert repr(client) == f"<Polytomic client of {server.url}>"


def test_client_retries_as_often_as_max_retries_allows() -> None:
    """`max_retries` comes from the settings."""
    with Server([http(503, b'{"message": "later"}', "Retry-After: 0.01"), ME]) as server:
        with Client(settings(server, max_retries=1)) as client:
            assert client.call(identity.get()).id == "me"
        assert len(server.requests) == 2


def test_client_reloads_its_settings_when_a_plan_requests_it() -> None:
    """Later requests use the new key; without a reload function, nothing changes."""
    with Server([ME]) as server:
        first, second = settings(server), replace(settings(server), key="new")
        with Client(first, lambda: second) as client:
            client.run(reloading_plan())
            assert client.settings == second
        with Client(first) as client:
            client.run(reloading_plan())
            assert client.settings == first
        sent = [received.headers["authorization"] for received in server.requests]
    assert sent == ["Bearer key", "Bearer new", "Bearer key", "Bearer key"]


def test_client_returns_an_unsent_failure_until_its_settings_can_be_reloaded() -> None:
    """Each request tries to read the settings again."""
    with Server([ME]) as server:
        outcomes = iter(
            [RuntimeError("secrets backend: 503"), ValueError("verify"), replace(settings(server), key="new")]
        )

        def reload_settings() -> Settings:
            return return_or_raise(next(outcomes))

        with Client(settings(server), reload_settings) as client:
            client.reload_credentials()
            results = [client.send(GET) for _ in range(4)]
    check_failed_reloads(results, server)


def return_or_raise(outcome: Any) -> Any:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def check_failed_reloads(results: list[SendResult], server: Server) -> None:
    assert [getattr(result, "sent", None) for result in results] == [False, False, None, None]
    assert "the connection cannot be read: RuntimeError: secrets backend: 503" in str(results[0])
    assert [received.headers["authorization"] for received in server.requests] == ["Bearer new"] * 2


def reloading_plan() -> Plan[None]:
    yield from send(GET)
    yield from reload_credentials()
    yield from send(GET)


# shared sessions


def test_async_clients_with_equal_settings_share_at_most_ten_connections() -> None:
    """Many clients in one event loop use one session."""
    with Server([ME, replace(ME, ready=lambda server: server.connections >= 10)]) as server:

        async def one() -> str | None:
            async with AsyncClient(settings(server)) as client:
                return (await client.call(identity.get())).id

        async def all_at_once() -> list[str | None]:
            async with AsyncClient(settings(server)) as first:  # keeps the session open
                await first.send(GET)
                return await asyncio.gather(*(one() for _ in range(40)))

        assert asyncio.run(all_at_once()) == ["me"] * 40
        assert server.connections == 10
        wait_until(lambda: not server.open)


def test_shared_session_is_open_until_the_last_client_is_closed() -> None:
    """A later client opens a new connection."""
    with Server([ME]) as server:

        async def open_and_close() -> None:
            first, second = AsyncClient(settings(server)), AsyncClient(settings(server))
            await first.send(GET)
            await second.send(GET)
            await first.close()
            assert (server.connections, len(server.open)) == (1, 1)
            await second.send(GET)
            assert server.connections == 1
            await second.close()
            await asyncio.to_thread(wait_until, lambda: not server.open)
            await first.send(GET)
            assert server.connections == 2
            await first.close()

        asyncio.run(open_and_close())
        wait_until(lambda: not server.open)


@pytest.mark.parametrize("more", [{"login": "org"}, {"timeout": 1.0}, {"verify": False}, {"max_retries": 1}])
def test_async_clients_with_different_settings_use_separate_sessions(more: dict[str, Any]) -> None:
    """Any difference of the settings counts, not the key alone."""
    with Server([ME]) as server:

        async def send_from_both() -> None:
            async with (
                AsyncClient(settings(server)) as one,
                AsyncClient(replace(settings(server), **more)) as other,
            ):
                await one.send(GET)
                await other.send(GET)

        asyncio.run(send_from_both())
        assert server.connections == 2


def test_async_client_leaves_no_session_open_when_many_tasks_use_it() -> None:
    """The first requests of the tasks race to open the session."""
    with Server([replace(ME, ready=lambda server: server.connections >= 5)]) as server:

        async def race() -> None:
            async with AsyncClient(settings(server)) as client:
                await asyncio.gather(*(client.send(GET) for _ in range(5)))

        asyncio.run(race())
        wait_until(lambda: not server.open)


def test_event_loops_use_separate_sessions() -> None:
    """A session belongs to the event loop in which it was opened."""
    with Server([ME]) as server:

        async def one() -> SendResult:
            async with AsyncClient(settings(server)) as client:
                return await client.send(GET)

        async def run_in_two_loops() -> list[SendResult]:
            return [await one(), await asyncio.to_thread(asyncio.run, one()), await one()]

        assert all(isinstance(result, Response) for result in asyncio.run(run_in_two_loops()))


@pytest.mark.parametrize(
    ("requests_before", "script"),
    [(0, [ME]), (2, [ME, Reply(then="hold"), ME])],
    ids=["while opening the session", "while waiting for a response"],
)
def test_canceled_task_releases_its_session(requests_before: int, script: list[Script]) -> None:
    """No connection stays open, and other clients continue."""
    with Server(script) as server:

        async def one(client: AsyncClient) -> None:
            async with client:
                await client.send(GET)

        async def cancel_one() -> None:
            async with AsyncClient(settings(server)) as other:
                if requests_before:  # otherwise the task is canceled while it opens the session
                    await other.send(GET)
                task = asyncio.create_task(one(AsyncClient(settings(server))))
                await asyncio.sleep(0)
                if requests_before:
                    await asyncio.to_thread(wait_until, lambda: len(server.requests) == requests_before)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert isinstance(await other.send(GET), Response)

        asyncio.run(cancel_one())
        assert len(server.requests) == requests_before + 1


def test_async_client_can_be_closed_twice() -> None:
    """The second call does not release the session of another client."""
    with Server([ME]) as server:

        async def close_twice() -> None:
            one, other = AsyncClient(settings(server)), AsyncClient(settings(server))
            await one.send(GET)
            await other.send(GET)
            await one.close()
            await one.close()
            assert isinstance(await other.send(GET), Response)
            await other.close()

        asyncio.run(close_twice())


def test_async_client_uses_a_new_session_after_its_settings_are_reloaded() -> None:
    """The session of the old key is released."""
    with Server([http(401, b'{"message": "no"}'), ME]) as server:

        async def rotate_key() -> str | None:
            async def reload_settings() -> Settings:
                return replace(settings(server), key="new")

            async with AsyncClient(settings(server), reload_settings) as client:
                with pytest.raises(PolytomicAuthError):
                    await client.call(identity.get())
                await client.reload_credentials()
                return (await client.call(identity.get())).id

        assert asyncio.run(rotate_key()) == "me"
        assert [received.headers["authorization"] for received in server.requests] == ["Bearer key", "Bearer new"]
        wait_until(lambda: not server.open)


@pytest.mark.parametrize("known", [True, False])
def test_async_client_returns_an_unsent_failure_until_its_settings_can_be_reloaded(known: bool) -> None:
    """This applies with and without settings from before."""
    with Server([ME]) as server:
        outcomes = iter(
            [RuntimeError("secrets backend: 503"), ValueError("verify"), replace(settings(server), key="new")]
        )

        async def reload_settings() -> Settings:
            return return_or_raise(next(outcomes))

        async def send_four() -> list[SendResult]:
            async with AsyncClient(settings(server) if known else None, reload_settings) as client:
                await client.reload_credentials()
                return [await client.send(GET) for _ in range(4)]

        check_failed_reloads(asyncio.run(send_four()), server)


def test_async_client_repr_names_the_url_and_not_the_key() -> None:
    """No session is opened."""
    url = "http://127.0.0.1:1"
    assert repr(AsyncClient(Settings(base_url=url, key="key"))) == f"<Polytomic client of {url}>"
    assert repr(AsyncClient(None)) == "<Polytomic client of a connection to be read>"
