"""Requests sent by the triggerer, with ``aiohttp``: one session for all triggers that have equal settings."""

from __future__ import annotations

import asyncio
import functools
import os
import ssl
from weakref import WeakKeyDictionary

import aiohttp
from yarl import URL

from .http import Answer, Request, Response, Unreachable
from .settings import MAX_BODY, Settings
from .unreachable import never_sent, why

# Connections of a session, whatever the number of triggers: each TLS connection costs some 300 kB.
CONNECTIONS = int(os.environ.get("POLYTOMIC_TRIGGERER_CONNECTIONS") or 10)


class Transport:
    """A session of at most :data:`CONNECTIONS` connections."""

    def __init__(self, settings: Settings, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        self.users = 0

    async def send(self, request: Request) -> Answer:
        settings = self._settings
        timeout = settings.timeout_of(request)
        status = None
        try:
            async with self._session.request(
                request.method,
                URL(settings.url(request), encoded=True).extend_query(list(request.query)),
                data=request.body,
                headers=settings.headers(request),
                # As in the worker: for connecting, and for each wait for more; in all only where asked.
                timeout=aiohttp.ClientTimeout(total=request.timeout, sock_connect=timeout, sock_read=timeout),
                proxy=settings.proxy,
                allow_redirects=False,
            ) as answer:
                status = answer.status
                headers = {name.lower(): value for name, value in answer.headers.items()}
                body = bytearray()
                async for chunk in answer.content.iter_chunked(65536):
                    body += chunk
                    if len(body) > MAX_BODY:
                        return Unreachable(f"the answer is larger than {MAX_BODY} bytes", status=status)
                return settings.censored(Response(status, headers, bytes(body)))
        except aiohttp.ConnectionTimeoutError:
            return Unreachable(f"could not connect to {settings.host} within {timeout:g} s", sent=False)
        except asyncio.TimeoutError:
            return Unreachable(f"{settings.host} did not answer within {timeout:g} s", status=status)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Unreachable(why(error, settings), sent=not never_sent(error), status=status)

    async def close(self) -> None:
        await self._session.close()


# Per event loop, because a session belongs to the loop that it was made in.
_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, Transport]] = WeakKeyDictionary()


async def borrow(settings: Settings) -> Transport:
    """The transport that everybody in this event loop with equal settings uses. Give it back."""
    tls = await asyncio.to_thread(_tls, settings.verify, settings.ca_bundle)
    sessions = _shared.setdefault(asyncio.get_running_loop(), {})
    transport = sessions.get(settings)
    if transport is None:
        transport = sessions[settings] = Transport(settings, tls)
    transport.users += 1
    return transport


async def give_back(transport: Transport, settings: Settings) -> None:
    """The last one to give it back closes it."""
    transport.users -= 1
    if transport.users == 0:
        del _shared[asyncio.get_running_loop()][settings]
        await transport.close()


@functools.lru_cache(maxsize=32)
def _tls(verify: bool, ca_bundle: str | None) -> ssl.SSLContext:
    # Loading the certificates takes some 20 ms of CPU: once per bundle, and in a thread.
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_bundle and os.path.isdir(ca_bundle):
        context = ssl.create_default_context(capath=ca_bundle)
    elif ca_bundle:
        context = ssl.create_default_context(cafile=ca_bundle)
    return context
