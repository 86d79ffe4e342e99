"""Sends the requests of a worker with the ``requests`` library."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from email.errors import MissingHeaderBodySeparatorDefect
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from io import BytesIO
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from ..plan import BODY_TOO_LARGE, Request, Response, SendResult, TransportFailure
from ..settings import MAX_BODY_SIZE, USER_AGENT, Settings, warn_if_unverified
from .failures import classify_transport_error
from .responses import InvalidResponseError, build_response, read_headers

CHUNK = 1024 * 1024  # bytes


class _Response(HTTPResponse):
    """Skips interim responses other than 100, which the standard library would return as the response."""

    def begin(self) -> None:
        while self.headers is None or (100 <= self.status < 200 and self.status != 101):
            self.headers = None  # type: ignore[assignment]  # otherwise nothing is read
            super().begin()
            if any(isinstance(defect, MissingHeaderBodySeparatorDefect) for defect in self.headers.defects):
                raise InvalidResponseError("header field")  # the parser ignored all fields that follow


def _pool_class(kind: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    connection = type(kind.ConnectionCls.__name__, (kind.ConnectionCls,), {"response_class": _Response})
    return type(kind.__name__, (kind,), {"ConnectionCls": connection})


_POOL_CLASSES = {"http": _pool_class(HTTPConnectionPool), "https": _pool_class(HTTPSConnectionPool)}


class _Adapter(HTTPAdapter):
    """Uses :class:`_Response`, with and without a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOL_CLASSES

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOL_CLASSES
        return manager


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None. A session would parse the target, possibly not a URL, even if it does not follow redirects."""


class Transport:
    """One keep-alive session. Not thread-safe."""

    def __init__(self, settings: Settings) -> None:
        warn_if_unverified(settings)
        self._settings = settings
        self._session = _Session()
        # The library must not read netrc, proxies and CA bundles from the environment: Settings contains them.
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _Adapter(max_retries=0))

    def send(self, request: Request) -> SendResult:
        with _tls_warnings_suppressed(self._settings):
            return self._send(request)

    def _send(self, request: Request) -> SendResult:
        settings = self._settings
        timeout = settings.request_timeout(request)
        give_up = time.monotonic() + settings.total_timeout(request)
        status = None
        try:
            # Prepared here: merging with the settings of the session would take a fifth of the time of a call.
            prepared = requests.PreparedRequest()
            prepared.prepare(
                method=request.method,
                url=settings.url(request),
                data=request.body,
                headers={**self._session.headers, **settings.headers(request)},
            )
            with self._session.send(prepared, timeout=timeout, **_request_options(settings)) as response:
                headers = _headers(response)
                status = response.status_code
                body = BytesIO()
                for chunk in response.raw.stream(65536, decode_content=False):
                    body.write(chunk)
                    if body.tell() > MAX_BODY_SIZE:
                        return TransportFailure(BODY_TOO_LARGE, status=status)
                    if time.monotonic() > give_up:
                        raise TimeoutError
                _refuse_incomplete(response)
                return build_response(status, headers, body.getvalue(), MAX_BODY_SIZE, settings.secrets)
        except requests.ConnectTimeout as error:
            return classify_transport_error(error, settings, timeout, connecting=True)
        except (requests.RequestException, HTTPError, InvalidResponseError, OSError, ValueError) as error:
            return classify_transport_error(error, settings, timeout, status=status)

    def stream(self, url: str) -> Iterator[bytes | SendResult]:
        """Read a file from a signed URL in chunks, without sending credentials and without logging the URL.

        If the file cannot be read to its end, the last item is a :class:`Response` without its body, which may quote
        the signature, or a :class:`TransportFailure`.
        """
        try:
            target = self._settings.for_other_host(url)
        except ValueError as error:
            yield TransportFailure(str(error), sent=False)
            return
        headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
        status = None
        end: SendResult
        try:
            with _url_logging_suppressed(), _tls_warnings_suppressed(target):
                response = self._session.get(url, headers=headers, timeout=target.timeout, **_request_options(target))
            with response:
                _headers(response)
                status = response.status_code
                if status == 200:
                    yield from response.iter_content(CHUNK)
                    _refuse_incomplete(response)
                    return
                end = Response(status)
        except requests.ConnectTimeout as error:
            end = classify_transport_error(error, target, target.timeout, connecting=True)
        except (requests.RequestException, HTTPError, InvalidResponseError, OSError, ValueError) as error:
            end = classify_transport_error(error, target, target.timeout, status=status, quote=False)
        yield end

    def close(self) -> None:
        self._session.close()


def _request_options(settings: Settings) -> dict[str, Any]:
    return {
        "verify": (settings.ca_bundle or True) if settings.verify else False,
        "proxies": {"http": settings.proxy, "https": settings.proxy} if settings.proxy else None,
        "allow_redirects": False,
        "stream": True,
    }


def _headers(response: requests.Response) -> dict[str, str]:
    fields = ((name.encode("latin-1"), value.encode("latin-1")) for name, value in response.raw.headers.items())
    return read_headers(response.status_code, fields)


def _refuse_incomplete(response: requests.Response) -> None:
    """Raise an error if fewer bytes arrived than announced, which urllib3 1.26 does not check."""
    announced = "" if response.status_code in (204, 304) else response.headers.get("Content-Length", "")
    if announced.isdigit() and response.raw.tell() < int(announced):
        raise ConnectionAbortedError


@contextmanager
def _tls_warnings_suppressed(settings: Settings) -> Iterator[None]:
    """Suppress urllib3's warnings of unverified certificates: they repeat for each request, and one was logged."""
    if settings.verify:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureRequestWarning)
        yield


@contextmanager
def _url_logging_suppressed() -> Iterator[None]:
    """Keep the URLs of this thread out of the debug log of urllib3."""
    thread = threading.get_ident()
    log = logging.getLogger("urllib3.connectionpool")

    def is_from_other_thread(_: logging.LogRecord) -> bool:
        return threading.get_ident() != thread

    log.addFilter(is_from_other_thread)
    try:
        yield
    finally:
        log.removeFilter(is_from_other_thread)
