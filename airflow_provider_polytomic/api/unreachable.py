"""Why no answer came: in the same words, whichever library sent the request."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from .settings import Settings


def why(error: BaseException, settings: Settings) -> str:
    """One line for a person: name not resolved, refused, TLS, or what the library said."""
    causes = list(_causes(error))
    where = settings.proxy_host or settings.host
    via = " (the proxy)" if settings.proxy_host else ""
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            return f"the host name of {where}{via} cannot be resolved"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS failed: the certificate of {settings.host} is not trusted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed with {settings.host}: {cause.reason or cause}"
        if isinstance(cause, ConnectionRefusedError):
            return f"the connection to {where}{via} was refused"
    return settings.censor(error) or type(error).__name__


def never_sent(error: BaseException) -> bool:
    """Whether the connection never came about, so that the request surely was not processed."""
    return any(
        isinstance(cause, socket.gaierror | ConnectionRefusedError | ssl.SSLCertVerificationError)
        for cause in _causes(error)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it wraps: libraries put causes into attributes and arguments, too."""
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
