"""Sends the requests of the triggerer with ``aiohttp``. Triggers with equal settings share one session."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
import time
from collections.abc import Callable
from io import BytesIO
from weakref import WeakKeyDictionary

import aiohttp
import certifi
from yarl import URL

from ..executions.batch_poller import BatchPoller
from ..executions.server_clock import ServerClock
from ..plan import BODY_TOO_LARGE, Request, SendResult, TransportFailure
from ..settings import MAX_TRIGGERER_BODY_SIZE, Settings, warn_if_unverified
from .failures import classify_transport_error
from .responses import MAX_HEADER_LINE, InvalidResponseError, build_response, read_headers


class Transport:
    """A session with a limited number of connections, and the batch poller of its triggers.

    :param on_batch_poll: called with the number of syncs in each batch poll.
    """

    def __init__(
        self, settings: Settings, tls: ssl.SSLContext, on_batch_poll: Callable[[int], None] | None = None
    ) -> None:
        warn_if_unverified(settings)
        self.settings = settings
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.triggerer_connections, ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=["Content-Type"],  # of a POST without a body
            trust_env=False,
            auto_decompress=False,
            max_line_size=MAX_HEADER_LINE,
            max_field_size=MAX_HEADER_LINE,
        )
        self.batch_poller = BatchPoller(self.send, settings.triggerer_batch_size, on_batch_poll)
        self.server_clock = ServerClock()
        self.users = 0

    async def send(self, request: Request) -> SendResult:
        sent = time.time()
        response = await self._send(request)
        self.server_clock.record_response(sent, time.time(), response)
        return response

    async def _send(self, request: Request) -> SendResult:
        settings = self.settings
        timeout = settings.request_timeout(request)
        status = None
        try:
            async with self._session.request(
                request.method,
                URL(settings.url(request), encoded=True),
                data=request.body,
                headers=settings.headers(request),
                # As in the worker: for connecting, for each read, and for the complete response.
                timeout=aiohttp.ClientTimeout(
                    total=settings.total_timeout(request), sock_connect=timeout, sock_read=timeout
                ),
                proxy=settings.proxy,
                allow_redirects=False,
            ) as response:
                headers = read_headers(response.status, response.raw_headers)
                status = response.status
                body = BytesIO()
                async for chunk in response.content.iter_chunked(65536):
                    body.write(chunk)
                    if body.tell() > MAX_TRIGGERER_BODY_SIZE:
                        return TransportFailure(BODY_TOO_LARGE, status=status)
                return build_response(status, headers, body.getvalue(), MAX_TRIGGERER_BODY_SIZE, settings.secrets)
        except aiohttp.ConnectionTimeoutError as error:
            return classify_transport_error(error, settings, timeout, connecting=True)
        except (aiohttp.ClientError, InvalidResponseError, asyncio.TimeoutError, OSError, ValueError) as error:
            return classify_transport_error(error, settings, timeout, status=status)

    async def close(self) -> None:
        await self._session.close()


# Per event loop, because a session belongs to the loop in which it was created.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, Transport]] = WeakKeyDictionary()
_creating: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def acquire_transport(settings: Settings, on_batch_poll: Callable[[int], None] | None = None) -> Transport:
    """Return the transport that all clients with equal settings share in this event loop.

    Release it with :func:`release_transport`.

    :param on_batch_poll: called with the number of syncs in each batch poll, if this call creates the transport.
    :raises OSError: the CA certificates cannot be loaded.
    """
    sessions = _shared.setdefault(asyncio.get_running_loop(), {})
    if settings not in sessions:
        # Many triggers start together, and a thread for each, to load the certificates, would stall the event loop.
        async with _creating.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if settings not in sessions:  # another task may have created it meanwhile
                tls = await asyncio.to_thread(_tls, settings.verify, settings.ca_bundle)
                sessions[settings] = Transport(settings, tls, on_batch_poll)
    transport = sessions[settings]
    transport.users += 1
    return transport


async def release_transport(transport: Transport) -> None:
    """Release a transport. The last release closes it."""
    transport.users -= 1
    if transport.users == 0:
        del _shared[asyncio.get_running_loop()][transport.settings]
        await transport.close()


def _tls(verify: bool, ca_bundle: str | None) -> ssl.SSLContext:
    trusted = ca_bundle if verify and ca_bundle else certifi.where()
    return _load(verify, trusted, os.stat(trusted).st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _load(verify: bool, trusted: str, _changed: int) -> ssl.SSLContext:
    # Loading the certificates takes some 20 ms of CPU. They are loaded again only when the file has changed.
    is_folder = os.path.isdir(trusted)
    context = ssl.create_default_context(capath=trusted if is_folder else None, cafile=None if is_folder else trusted)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
