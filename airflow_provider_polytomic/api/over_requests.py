"""Requests sent by a worker, with the ``requests`` library."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from io import BytesIO
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from .http import TOO_LARGE, Answer, Request, Response, Unreachable
from .responses import complete
from .settings import MAX_BODY, USER_AGENT, Settings, warn_if_unprotected
from .strict_http import READ_SIZE, StrictHTTPResponse, response_deadline
from .unreachable import unreachable

CHUNK = 1024 * 1024  # bytes


class _PlainConnection(HTTPConnection):
    response_class = StrictHTTPResponse


class _TLSConnection(HTTPSConnection):
    response_class = StrictHTTPResponse


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    """Sends once, and reads responses as strictly as the triggerer's library."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TLSPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None. A session parses the target, which may be no URL, even if it does not follow redirects."""


class Transport:
    """One keep-alive session. Not for several threads at once."""

    def __init__(self, settings: Settings) -> None:
        warn_if_unprotected(settings)
        self._settings = settings
        self._session = _Session()
        # Neither netrc nor the library's own reading of proxies and CA bundles: Settings has decided.
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _Adapter(max_retries=0))

    def send(self, request: Request) -> Answer:
        with _unwarned(self._settings):
            return self._send(request)

    def _send(self, request: Request) -> Answer:
        settings = self._settings
        timeout = settings.timeout_of(request)
        deadline = time.monotonic() + settings.patience_with(request)
        status = None
        try:
            # Prepared here: the session would take a fifth of the whole call to merge it with what it does not have.
            prepared = requests.PreparedRequest()
            prepared.prepare(
                method=request.method,
                url=settings.url(request),
                data=request.body,
                headers={**self._session.headers, **settings.headers(request)},
            )
            with response_deadline(deadline):
                answer = self._session.send(prepared, timeout=timeout, **_how(settings))
            with answer:
                status = answer.status_code
                headers = {name.lower(): value for name, value in answer.headers.items()}
                body = BytesIO()
                for chunk in answer.raw.stream(READ_SIZE, decode_content=False):
                    body.write(chunk)
                    if body.tell() > MAX_BODY:
                        return Unreachable(TOO_LARGE, status=status)
                return complete(status, headers, body.getvalue(), MAX_BODY, settings.secrets)
        except requests.ConnectTimeout as error:
            return unreachable(error, settings, timeout, connecting=True)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            return unreachable(error, settings, timeout, status=status)

    def stream(self, url: str) -> Iterator[bytes | Answer]:
        """Read a file from a signed URL, in chunks. Our credentials are not sent, and the URL is not told to anybody.

        Where the file, or the rest of it, cannot be read, the last item says why: a :class:`Response` without its
        body, which may quote what was signed, or :class:`Unreachable`.
        """
        try:
            there = self._settings.elsewhere(url)
        except ValueError as error:
            yield Unreachable(str(error), sent=False)
            return
        headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
        status = None
        end: Answer
        try:
            with _unlogged(), _unwarned(there):
                answer = self._session.get(url, headers=headers, timeout=there.timeout, **_how(there))
            with answer:
                status = answer.status_code
                if status == 200:
                    yield from answer.iter_content(CHUNK)
                    return
                end = Response(status)
        except requests.ConnectTimeout as error:
            end = unreachable(error, there, there.timeout, connecting=True)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            end = unreachable(error, there, there.timeout, status=status, quote=False)
        yield end

    def close(self) -> None:
        self._session.close()


def _how(settings: Settings) -> dict[str, Any]:
    return {
        "verify": (settings.ca_bundle or True) if settings.verify else False,
        "proxies": {"http": settings.proxy, "https": settings.proxy} if settings.proxy else None,
        "allow_redirects": False,
        "stream": True,
    }


@contextmanager
def _unwarned(settings: Settings) -> Iterator[None]:
    """urllib3 warns of each request whose certificate is not verified; we have said so once."""
    if settings.verify:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureRequestWarning)
        yield


@contextmanager
def _unlogged() -> Iterator[None]:
    """urllib3 writes each URL into its debug log: not those of this thread, for now."""
    mine = threading.get_ident()
    log = logging.getLogger("urllib3.connectionpool")

    def of_others(_: logging.LogRecord) -> bool:
        return threading.get_ident() != mine

    log.addFilter(of_others)
    try:
        yield
    finally:
        log.removeFilter(of_others)
