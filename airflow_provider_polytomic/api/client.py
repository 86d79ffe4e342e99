"""Clients: they run plans, blocking in a worker and awaiting in an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from .call import Call, fetch
from .executions.server_clock import ServerClock
from .pagination import ListCall, PageReader
from .plan import BatchableSleep, Now, Plan, ReloadCredentials, Request, SendResult, Sleep, TransportFailure
from .settings import Settings
from .text import printable

if TYPE_CHECKING:
    from .transport.requests_transport import Transport

T = TypeVar("T")


def connection_unreadable(error: Exception) -> TransportFailure:
    """The result of a request while the Airflow connection cannot be read. A wait handles it as any other outage."""
    return TransportFailure(
        f"the connection cannot be read: {type(error).__name__}: {printable(error, 300)}", sent=False
    )


def drive(
    plan: Plan[T],
    send: Callable[[Request], SendResult],
    *,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
    reload_credentials: Callable[[], None] = lambda: None,
) -> T:
    """Run a plan, blocking."""
    result: SendResult | float | None = None
    try:
        while True:
            step = plan.send(result)
            result = None
            if isinstance(step, Request):
                result = send(step)
            elif isinstance(step, Sleep | BatchableSleep):
                sleep(step.seconds)
            elif isinstance(step, Now):
                result = now()
            elif isinstance(step, ReloadCredentials):
                reload_credentials()
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


async def adrive(
    plan: Plan[T],
    send: Callable[[Request], Awaitable[SendResult]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    sleep_batchable: Callable[[BatchableSleep], Awaitable[bool]] | None = None,
    now: Callable[[], float] = time.time,
    reload_credentials: Callable[[], Awaitable[None]] | None = None,
) -> T:
    """Run a plan, awaiting."""
    result: SendResult | float | None = None
    try:
        while True:
            step = plan.send(result)
            result = None
            if isinstance(step, Request):
                result = await send(step)
            elif isinstance(step, BatchableSleep) and sleep_batchable is not None:
                result = await sleep_batchable(step)
            elif isinstance(step, Sleep | BatchableSleep):
                await sleep(step.seconds)
            elif isinstance(step, Now):
                result = now()
            elif isinstance(step, ReloadCredentials) and reload_credentials is not None:
                await reload_credentials()
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


class Client:
    """A blocking client.

    :param settings: the address, the credentials and the options of requests.
    :param reload_settings: reads the settings again after the server refused the API key.
    :ivar server_clock: the server's clock, as far as its responses have shown it.
    """

    def __init__(self, settings: Settings, reload_settings: Callable[[], Settings] | None = None) -> None:
        self.settings = settings
        self.server_clock = ServerClock()
        self._reload_settings = reload_settings
        self._needs_reload = False  # whether the next request needs new settings
        self._open_transport: Transport | None = None

    def __repr__(self) -> str:
        return f"<Polytomic client of {self.settings.base_url}>"

    def run(self, plan: Plan[T]) -> T:
        """Run any plan."""
        return drive(plan, self.send, reload_credentials=self.reload_credentials)

    def call(self, call: Call[T]) -> T:
        """Make one call, with retries.

        :raises PolytomicError: the call failed.
        """
        return self.run(fetch(call, self.settings.max_retries))

    def iterate(self, call: ListCall[T]) -> Iterator[T]:
        """Iterate over a list lazily, with one page in memory at a time.

        Each id is returned once. An item that moves to an earlier page during the iteration is missed.
        """
        pages = PageReader(call, self.settings.max_retries)
        ids: set[str] = set()  # of the items of all earlier pages
        while (page := self.run(pages.fetch_next())) is not None:
            items = [item for item in page.items if getattr(item, "id", None) not in ids]
            del page
            ids.update(item_id for item in items if (item_id := getattr(item, "id", None)) is not None)
            yield from items
            del items

    def send(self, request: Request) -> SendResult:
        if self._needs_reload and self._reload_settings is not None:
            try:
                settings = self._reload_settings()
            except Exception as error:  # noqa: BLE001  secrets backends raise any exception
                return connection_unreadable(error)
            self.close()
            self.settings, self._needs_reload = settings, False
        sent = time.time()
        response = self._transport.send(request)
        self.server_clock.record_response(sent, time.time(), response)
        return response

    def stream(self, url: str) -> Iterator[bytes | SendResult]:
        """Read a file from a signed URL in chunks, without sending credentials.

        If the file cannot be read to its end, the last item is the response or the failure.
        """
        return self._transport.stream(url)

    def reload_credentials(self) -> None:
        """Read the settings again with the next request. While that fails, requests fail too."""
        self._needs_reload = True

    @property
    def _transport(self) -> Transport:
        """Opened by the first request: a task that resumes may send none, and then does not import ``requests``."""
        if self._open_transport is None:
            from .transport.requests_transport import Transport

            self._open_transport = Transport(self.settings)
        return self._open_transport

    def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        transport, self._open_transport = self._open_transport, None
        if transport is not None:
            transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class AsyncClient:
    """An asynchronous client. Clients with equal settings share a session in each event loop.

    :param settings: as for :class:`Client`; None reads them with the first request.
    :param on_batch_poll: called with the number of syncs in each batch poll.
    """

    def __init__(
        self,
        settings: Settings | None,
        reload_settings: Callable[[], Awaitable[Settings]] | None = None,
        on_batch_poll: Callable[[int], None] | None = None,
    ) -> None:
        self.settings = settings
        self._reload_settings = reload_settings
        self._on_batch_poll = on_batch_poll
        self._transport: Any = None

    def __repr__(self) -> str:
        return f"<Polytomic client of {self.settings.base_url if self.settings else 'a connection to be read'}>"

    @property
    def server_clock(self) -> ServerClock:
        """The server's clock, as far as responses to all clients of the session have shown it."""
        return self._transport.server_clock if self._transport is not None else ServerClock()

    async def run(self, plan: Plan[T]) -> T:
        """Run any plan."""
        return await adrive(
            plan, self.send, sleep_batchable=self.sleep_batchable, reload_credentials=self.reload_credentials
        )

    async def call(self, call: Call[T]) -> T:
        """Make one call, with retries."""
        return await self.run(fetch(call, (await self._read()).max_retries))

    async def send(self, request: Request) -> SendResult:
        from .transport.failures import classify_transport_error

        try:
            settings = await self._read()
        except Exception as error:  # noqa: BLE001  secrets backends raise any exception
            return connection_unreadable(error)
        try:
            await self._acquire(settings)
        except (OSError, ValueError) as error:  # the CA certificates cannot be loaded
            return classify_transport_error(error, settings, settings.timeout)
        result: SendResult = await self._transport.send(request)
        return result

    async def connect(self) -> None:
        """Acquire the session that clients with equal settings share.

        :raises Exception: the settings cannot be read, or the CA certificates cannot be loaded.
        """
        await self._acquire(await self._read())

    async def sleep_batchable(self, step: BatchableSleep) -> bool:
        """Sleep, and continue to sleep while batch polling shows that the execution has not ended."""
        try:
            await self.connect()
        except Exception:  # noqa: BLE001  the poll that follows reports it
            await asyncio.sleep(step.seconds)
            return False
        return bool(await self._transport.batch_poller.sleep(step))

    async def _read(self) -> Settings:
        if self.settings is None:
            assert self._reload_settings is not None  # noqa: S101  the constructor requires one of them
            self.settings = await self._reload_settings()
        return self.settings

    async def _acquire(self, settings: Settings) -> None:
        from .transport import aiohttp_transport

        if self._transport is None:
            transport = await aiohttp_transport.acquire_transport(settings, self._on_batch_poll)
            if self._transport is None:
                self._transport = transport
            else:  # a concurrent task of this client acquired one first
                await aiohttp_transport.release_transport(transport)

    async def reload_credentials(self) -> None:
        if self._reload_settings is not None:
            await self.close()
            self.settings = None

    async def close(self) -> None:
        """Release the session."""
        from .transport import aiohttp_transport

        transport, self._transport = self._transport, None
        if transport is not None:
            await aiohttp_transport.release_transport(transport)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()
