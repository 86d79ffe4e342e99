"""The settings of a client, for both transports: address, credentials, TLS, proxy and limits."""

from __future__ import annotations

import base64
import functools
import logging
import os
import re
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from string import Formatter
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from .plan import Request
from .text import redact

log = logging.getLogger(__name__)

DEFAULT_HOST = "https://app.polytomic.com"
DEFAULT_API_VERSION = "2025-09-18"
DEFAULT_TIMEOUT = 60.0
DEFAULT_MAX_RETRIES = 5
DEFAULT_TRIGGERER_CONNECTIONS = 10  # of a session, for any number of triggers. A TLS connection takes some 300 kB.
MAX_BATCH_SIZE = 100  # syncs per batch poll, which bounds the URL and the response
TOTAL_TIMEOUT_FACTOR = 10  # times the timeout: the limit for a complete response
MAX_BODY_SIZE = 64 * 1024 * 1024  # bytes of a decoded response body
MAX_TRIGGERER_BODY_SIZE = 8 * 1024 * 1024  # bytes in the triggerer, where parsing blocks the event loop
MIN_BYTES_PER_VALUE = 128  # of a body, per JSON object or list on average: parsed, an empty one takes some 800 bytes
LINK_PLACEHOLDERS = ("kind", "sync_id", "execution_id")
USER_AGENT = "airflow-provider-polytomic"
_SOCKS = re.compile(r"socks[0-9a-z]*://", re.IGNORECASE)
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def is_too_large(body: bytes, most: int) -> bool:
    """Whether a body is longer than ``most`` bytes, or would take too much memory when parsed."""
    if MIN_BYTES_PER_VALUE * len(body) <= most:  # fits even if it consists of brackets only
        return False
    return max(len(body), MIN_BYTES_PER_VALUE * (body.count(b"{") + body.count(b"["))) > most


class Secret(str):
    """Text that its ``repr`` hides, and so the ``repr`` of every object that contains it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


class Credential(Secret):
    """A secret that is sent to the API, and that responses may therefore quote."""

    __slots__ = ()


@dataclass(frozen=True)
class Settings:
    """The settings of a client. Clients with equal settings may share connections.

    :param base_url: scheme, host, port and path, without a trailing slash.
    :param key: the API key.
    :param login: when not empty, the key is sent as HTTP Basic with this login; else as Bearer.
    :param timeout: seconds for connecting, and for each wait for more of a response.
    :param verify: whether the server's certificate is checked.
    :param ca_bundle: path of the trusted CA certificates.
    :param proxy: URL of the proxy, or None.
    :param max_retries: how often a single call is repeated.
    :param ui_url: the page of an execution in the web app: a URL that may contain ``{kind}``, ``{sync_id}``
        and ``{execution_id}``. Default: the base URL.
    :param no_proxy: whether the proxy variables of the environment are ignored.
    :param triggerer_connections: the connections of a session in the triggerer.
    :param triggerer_batch_size: syncs per batch poll; 1 disables batch polling.
    """

    base_url: str = DEFAULT_HOST
    key: str = field(default="", repr=False)
    login: str = field(default="", repr=False)
    api_version: str = DEFAULT_API_VERSION
    timeout: float = DEFAULT_TIMEOUT
    verify: bool = True
    ca_bundle: str | None = None
    proxy: str | None = field(default=None, repr=False)  # may hold a password
    max_retries: int = DEFAULT_MAX_RETRIES
    ui_url: str = field(default="", compare=False)
    no_proxy: bool = False
    triggerer_connections: int = DEFAULT_TRIGGERER_CONNECTIONS
    triggerer_batch_size: int = MAX_BATCH_SIZE

    def __post_init__(self) -> None:
        for name in ("key", "login", "proxy"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, Secret(value))  # the dataclass is frozen

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc

    @property
    def proxy_host(self) -> str | None:
        return urlsplit(self.proxy).netloc.rpartition("@")[2] if self.proxy else None

    def execution_url(self, kind_name: str, sync_id: str, execution_id: str) -> str:
        """The page of an execution in Polytomic's web app."""
        ids = {"kind": kind_name, "sync_id": sync_id, "execution_id": execution_id}
        return (self.ui_url or self.base_url).format(**{name: quote(value, safe="") for name, value in ids.items()})

    def request_timeout(self, request: Request) -> float:
        return min(request.timeout or self.timeout, self.timeout)

    def total_timeout(self, request: Request) -> float:
        """Seconds for a complete response."""
        return request.timeout or TOTAL_TIMEOUT_FACTOR * self.timeout

    def url(self, request: Request) -> str:
        query = f"?{urlencode(request.query)}" if request.query else ""
        return f"{self.base_url}{request.path}{query}"

    def for_other_host(self, url: str) -> Settings:
        """The settings for requests to another host, without credentials: TLS and proxy as for Polytomic.

        If the proxy came from the environment, the proxy for the new host is read from there too.

        :raises ValueError: ``url`` is not a URL of an HTTP server, or is unencrypted although Polytomic's is encrypted.
            The message does not quote it.
        """
        try:
            where = urlsplit(url)
            host = where.hostname if where.scheme in ("http", "https") and where.port != 0 else None
        except ValueError:
            host = None
        if not host:
            raise ValueError("not a URL of an HTTP server")
        if where.scheme == "http" and self.base_url.startswith("https:"):
            raise ValueError("an unencrypted URL, which an encrypted response must not lead to")
        decided = not self.no_proxy and self.proxy == proxy_from_environment(self.base_url)
        base_url = f"{where.scheme}://{where.netloc.rpartition('@')[2]}"
        return replace(
            self, base_url=base_url, key="", login="", proxy=proxy_from_environment(base_url) if decided else self.proxy
        )

    def headers(self, request: Request) -> dict[str, str]:
        headers = {
            "Authorization": self._authorization(),
            "X-Polytomic-Version": self.api_version,
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",  # what responses.py decodes
            "User-Agent": USER_AGENT,
        }
        if request.json is not None:
            headers["Content-Type"] = "application/json"
        if request.idempotency_key is not None:
            headers["Idempotency-Key"] = request.idempotency_key
        return headers

    def _authorization(self) -> str:
        if self.login:
            return "Basic " + self._basic()
        return f"Bearer {self.key}"

    def _basic(self) -> str:
        return base64.b64encode(f"{self.login}:{self.key}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts to redact: the API key, literal and as it is sent, and the password of the proxy."""
        password = urlsplit(self.proxy).password if self.proxy else None
        credentials = [Credential(secret) for secret in (self.key, self._basic() if self.key else "") if secret]
        passwords = [Secret(secret) for secret in (password and unquote(password), password) if secret]
        return tuple(dict.fromkeys([*credentials, *passwords]))

    def redact(self, value: object) -> str:
        """Convert a value to text without secrets."""
        return re.sub(r"//[^/@\s]+@", "//***@", redact(str(value), self.secrets))


def warn_if_unverified(settings: Settings) -> None:
    """Log a warning if the API key is sent unencrypted, or to a server whose certificate is not verified."""
    where = urlsplit(settings.base_url)
    if where.scheme == "http":
        if not _is_this_machine(where.hostname or ""):
            log.warning("The API key is sent to %s unencrypted: its connection says http, not https", settings.host)
    elif not settings.verify:
        log.warning("The TLS certificate of %s is not verified, as its connection says", settings.host)


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def parse_http_url(text: str) -> SplitResult:
    """Parse the URL of an HTTP server: with an IDNA-encoded host name, without a trailing slash.

    :raises ValueError: the text is not such a URL. The message does not quote it, because it may contain a password.
    """
    parts = urlsplit(text)
    user, at, address = parts.netloc.rpartition("@")
    if address.endswith(":"):
        raise ValueError("no port behind the colon")
    if address.count(":") > 1 and "[" not in address:
        address = f"[{address}]"  # an IPv6 address, which the host field of a connection has without brackets
    parts = parts._replace(netloc=user + at + address)
    host, port = parts.hostname or "", parts.port
    if parts.scheme not in ("http", "https") or parts.query or parts.fragment or not text.isprintable():
        raise ValueError("not the URL of an HTTP server")
    if ":" in host and "%" not in host:
        host = f"[{IPv6Address(host)}]"
    elif "[" in address or not re.fullmatch(r"[a-z0-9._-]+", host := _idna(host)):
        raise ValueError("not a host name")
    path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    if re.search(r"\\|%(?![0-9A-Fa-f]{2})|/\.\.?(/|$)", parts.path):
        raise ValueError("not a path")
    return parts._replace(netloc=f"{user}{at}{host}{f':{port}' if port else ''}", path=path)


def _idna(host: str) -> str:
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("not a host name") from None


def parse_link_template(text: str) -> str:
    """Validate a URL for a browser, with the placeholders :data:`LINK_PLACEHOLDERS`.

    :raises ValueError: the text is not such a URL, or has an unknown placeholder.
    """
    for _, name, spec, conversion in Formatter().parse(text):
        if name is not None and (name not in LINK_PLACEHOLDERS or spec or conversion):
            raise ValueError("unknown name in braces")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or "{" in parts.netloc:
        raise ValueError("not a URL for a browser")
    if not text.isprintable() or " " in text:
        raise ValueError("characters that no URL has")
    return text


def proxy_from_environment(base_url: str) -> str | None:
    """Return the proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name for this URL.

    A SOCKS proxy in ``ALL_PROXY`` is skipped with a warning, because it may be meant for other software.

    :raises ValueError: it is not the URL of an HTTP proxy.
    """
    where = urlsplit(base_url)
    proxies = getproxies_environment()
    if _bypasses_proxies(where):
        return None
    name = where.scheme if proxies.get(where.scheme) else "all"
    proxy = proxies.get(name)
    if not proxy:
        return None
    if name == "all" and _SOCKS.match(proxy):
        _warn_of_socks()
        return None
    try:
        return parse_http_url(proxy if "://" in proxy else f"http://{proxy}").geturl()
    except ValueError:
        raise ValueError(f"the environment variable {name.upper()}_PROXY is not the URL of an HTTP proxy") from None


@functools.cache  # one warning per process
def _warn_of_socks() -> None:
    log.warning(
        "Ignoring the environment variable ALL_PROXY: it names a SOCKS proxy, and only HTTP proxies are supported. "
        "Set proxy in the connection's extra to the URL of an HTTP proxy, or to none"
    )


def _bypasses_proxies(where: SplitResult) -> bool:
    """Whether ``NO_PROXY`` contains the host or its network.

    As in ``requests``, with the addition of IPv6 networks, and of addresses in brackets or with a port.
    """
    entries = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").replace(" ", "")
    host = where.hostname or ""
    for spelling in (host, where.netloc.rpartition("@")[2], f"{host}:{where.port}"):
        if proxy_bypass_environment(spelling, {"no": entries}):
            return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for entry in entries.split(",") if (network := _network(entry)))


def _network(entry: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(entry, strict=False) if "/" in entry else None
    except ValueError:
        return None


def ca_bundle_from_environment() -> str:
    """Return the path of the CA certificates that the environment names, by default certifi's, as ``requests`` does.

    :raises ValueError: the environment names a file that does not exist.
    """
    for name in _CA_VARIABLES:
        if value := os.environ.get(name):
            if not os.path.exists(value):
                raise ValueError(f"the environment variable {name} names {value!r}, which does not exist")
            return value
    from certifi import where

    return where()
