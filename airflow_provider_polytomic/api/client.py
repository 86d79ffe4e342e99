"""What makes a plan happen: in a worker, and in an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from .call import Call, ListCall, fetch, fetch_fitting_page
from .errors import readable
from .plan import Answer, Now, Plan, Reconnect, Request, Rest, Sleep, Unreachable
from .settings import Settings
from .transport import requests_transport

T = TypeVar("T")


def unread(error: Exception) -> Unreachable:
    """The answer to a request while the connection cannot be read: those who wait endure it as any other outage."""
    return Unreachable(f"the connection cannot be read: {type(error).__name__}: {readable(error, 300)}", sent=False)


def drive(
    plan: Plan[T],
    send: Callable[[Request], Answer],
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
    reconnect: Callable[[], None] = lambda: None,
) -> T:
    """Carry out a plan, blocking."""
    answer: Answer | float | None = None
    try:
        while True:
            step = plan.send(answer)
            answer = None
            if isinstance(step, Request):
                answer = send(step)
            elif isinstance(step, Sleep | Rest):
                sleep(step.seconds)
            elif isinstance(step, Now):
                answer = now()
            elif isinstance(step, Reconnect):
                reconnect()
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def adrive(
    plan: Plan[T],
    send: Callable[[Request], Awaitable[Answer]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rest: Callable[[Rest], Awaitable[bool]] | None = None,
    now: Callable[[], float] = time.time,
    reconnect: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """Carry out a plan, awaiting."""
    answer: Answer | float | None = None
    try:
        while True:
            step = plan.send(answer)
            answer = None
            if isinstance(step, Request):
                answer = await send(step)
            elif isinstance(step, Rest) and rest is not None:
                answer = await rest(step)
            elif isinstance(step, Sleep | Rest):
                await sleep(step.seconds)
            elif isinstance(step, Now):
                answer = now()
            elif isinstance(step, Reconnect) and reconnect is not None:
                await reconnect()
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class Client:
    """A blocking client.

    :param settings: where Polytomic is and how to reach it.
    :param reread: where to get fresh settings from, when the server refuses the key.
    """

    def __init__(self, settings: Settings, reread: Callable[[], Settings] | None = None) -> None:
        self.settings = settings
        self._reread = reread
        self._refused = False  # what the settings say: the next request needs fresh ones
        self._transport = requests_transport.Transport(settings)

    def __repr__(self) -> str:
        return f"<Polytomic client of {self.settings.base_url}>"

    def run(self, plan: Plan[T]) -> T:
        """Carry out any plan."""
        return drive(plan, self.send, reconnect=self.reconnect)

    def call(self, call: Call[T]) -> T:
        """Make one call, asking again as the retry rule says.

        :raises PolytomicError: when it failed.
        """
        return self.run(fetch(call, self.settings.max_retries))

    def iterate(self, call: ListCall[T]) -> Iterator[T]:
        """Walk a list lazily, one page in memory at a time.

        What an earlier page had is left out. An item that moves to an earlier page meanwhile is missed.
        """
        token: str | None = None
        seen: set[str] = set()
        ids: set[str] = set()  # of the items of all earlier pages
        while True:
            page, call = self.run(fetch_fitting_page(call, token, seen, self.settings.max_retries))
            token = page.next_page_token
            fresh = [item for item in page.items if getattr(item, "id", None) not in ids]
            del page
            ids.update(item_id for item in fresh if (item_id := getattr(item, "id", None)) is not None)
            yield from fresh
            del fresh
            if token is None:
                return

    def send(self, request: Request) -> Answer:
        if self._refused and self._reread is not None:
            try:
                settings = self._reread()
            except Exception as error:  # noqa: BLE001  whatever a secrets backend raises
                return unread(error)
            self._transport.close()
            self.settings, self._refused = settings, False
            self._transport = requests_transport.Transport(settings)
        return self._transport.send(request)

    def stream(self, url: str) -> Iterator[bytes | Answer]:
        """Read a file from a signed URL, in chunks, without credentials; what is no chunk says why it ends early."""
        return self._transport.stream(url)

    def reconnect(self) -> None:
        """Read the settings again with the next request. While that fails, requests have no answer."""
        self._refused = True

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class AsyncClient:
    """The same, awaited. Its session is shared with everybody in the event loop who has equal settings.

    :param settings: None: they are read with the first request.
    """

    def __init__(self, settings: Settings | None, reread: Callable[[], Awaitable[Settings]] | None = None) -> None:
        self.settings = settings
        self._reread = reread
        self._transport: Any = None

    def __repr__(self) -> str:
        return f"<Polytomic client of {self.settings.base_url if self.settings else 'a connection to be read'}>"

    async def run(self, plan: Plan[T]) -> T:
        """Carry out any plan."""
        return await adrive(plan, self.send, rest=self.rest, reconnect=self.reconnect)

    async def call(self, call: Call[T]) -> T:
        """Make one call, asking again as the retry rule says."""
        return await self.run(fetch(call, (await self._read()).max_retries))

    async def send(self, request: Request) -> Answer:
        from .transport.failures import unreachable

        try:
            settings = await self._read()
        except Exception as error:  # noqa: BLE001  whatever a secrets backend raises
            return unread(error)
        try:
            await self._borrow(settings)
        except (OSError, ValueError) as error:  # the CA certificates cannot be loaded
            return unreachable(error, settings, settings.timeout)
        answer: Answer = await self._transport.send(request)
        return answer

    async def rest(self, rest: Rest) -> bool:
        """Let time pass, and more of it while a question for all who wait shows that the execution runs."""
        try:
            await self._borrow(await self._read())
        except Exception:  # noqa: BLE001  the look that follows says so
            await asyncio.sleep(rest.seconds)
            return False
        return bool(await self._transport.waiters.rest(rest))

    async def _read(self) -> Settings:
        if self.settings is None:
            assert self._reread is not None  # noqa: S101  who gives no settings tells where they are
            self.settings = await self._reread()
        return self.settings

    async def _borrow(self, settings: Settings) -> None:
        from .transport import aiohttp_transport

        if self._transport is None:
            transport = await aiohttp_transport.borrow(settings)
            if self._transport is None:
                self._transport = transport
            else:  # another task of ours was quicker
                await aiohttp_transport.give_back(transport)

    async def reconnect(self) -> None:
        if self._reread is not None:
            await self.close()
            self.settings = None

    async def close(self) -> None:
        """Give the session back."""
        from .transport import aiohttp_transport

        transport, self._transport = self._transport, None
        if transport is not None:
            await aiohttp_transport.give_back(transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()
