"""Classifies the exceptions of the HTTP libraries, with the same messages for both transports."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator

from ..plan import TransportFailure
from ..settings import Settings

# Names of the exceptions of requests, urllib3, http.client and aiohttp, by their meaning.
_NOT_HTTP = frozenset({"HTTPException", "InvalidHeader", "ClientResponseError"})
_UNDECODABLE = frozenset({"ContentDecodingError", "DecodeError"})
_INVALID_HOST = frozenset({"InvalidURL", "LocationParseError"})
_CLOSED = frozenset({"IncompleteRead", "ServerDisconnectedError", "ClientPayloadError"})
_PROXY_REFUSAL = re.compile(r"Tunnel connection failed: (\d+.*)")


def classify_transport_error(
    error: BaseException,
    settings: Settings,
    timeout: float,
    *,
    status: int | None = None,
    connecting: bool = False,
    quote: bool = True,
) -> TransportFailure:
    """Convert an exception of an HTTP library.

    :param timeout: of the request, in seconds.
    :param status: of the response, if its head has arrived.
    :param connecting: whether the timeout passed before a connection was established.
    :param quote: whether the message may quote the exception, which may contain the URL.
    """
    causes = list(_causes(error))
    where = f"{settings.proxy_host} (the proxy)" if settings.proxy_host else settings.host
    if connecting:
        return TransportFailure(f"could not connect to {where} within {timeout:g} s", sent=False)
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return TransportFailure(f"the host name of {where} cannot be resolved", sent=False)
        if type(cause).__name__ in _INVALID_HOST or (isinstance(cause, UnicodeError) and "idna" in str(cause)):
            return TransportFailure(f"{where} is not a valid host name", sent=False)
        if isinstance(cause, ConnectionRefusedError):
            return TransportFailure(f"the connection to {where} was refused", sent=False)
        if untrusted := _certificate_error(cause):
            why = f"the certificate of {settings.host} is not trusted ({untrusted})"
            return TransportFailure(
                f"TLS failed: {why}; trusted certificates: {settings.ca_bundle or 'certifi'}", sent=False
            )
        if isinstance(cause, ssl.SSLError) and hasattr(cause, "reason"):
            return TransportFailure(f"TLS failed with {settings.host}: {cause.reason or cause}", status=status)
        if refused := _proxy_refusal(cause):
            return TransportFailure(
                f"the proxy {settings.proxy_host} refused the request: {settings.redact(refused)}", sent=False
            )
        if isinstance(cause, TimeoutError | asyncio.TimeoutError):  # two classes before Python 3.11
            return TransportFailure(f"{settings.host} did not respond within {timeout:g} s", status=status)
    return _classify_by_name(causes, where, settings, status, quote)


def _classify_by_name(
    causes: list[BaseException], where: str, settings: Settings, status: int | None, quote: bool
) -> TransportFailure:
    """Convert exceptions that the libraries only distinguish by their classes' names."""
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    if names & _UNDECODABLE:
        reason = "the response body cannot be decoded"
    elif names & _CLOSED or any(isinstance(cause, ConnectionError) for cause in causes):
        when = "without a response" if status is None else "in the middle of the response"
        reason = f"{where} closed the connection {when}"
    elif names & _NOT_HTTP:
        reason, status = f"the response of {where} is not HTTP", None
    elif quote:
        reason = settings.redact(causes[0]) or type(causes[0]).__name__
    else:
        messages = (cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror)
        reason = f"{where}: {next(messages, type(causes[0]).__name__)}"
    return TransportFailure(reason, status=status)


def _certificate_error(cause: BaseException) -> str | None:
    """Why a certificate is not trusted. aiohttp's exceptions may lack the attributes of their OpenSSL types."""
    if type(cause).__name__ == "CertificateError":  # urllib3 1.26 compares names itself
        return str(cause)
    return getattr(cause, "verify_message", None) if isinstance(cause, ssl.SSLCertVerificationError) else None


def _proxy_refusal(cause: BaseException) -> str | None:
    """The status and message of a proxy that refused to open a tunnel."""
    if type(cause).__name__ == "ClientHttpProxyError":
        return f"{getattr(cause, 'status', '')} {getattr(cause, 'message', '')}"
    match = _PROXY_REFUSAL.search(str(cause)) if type(cause) is OSError else None
    return match and match[1]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, which the libraries also store in attributes and arguments."""
    left, seen = [error], set[int]()
    while left:
        cause = left.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
        inner += [getattr(cause, "os_error", None)]
        left += [item for item in inner if isinstance(item, BaseException)]
