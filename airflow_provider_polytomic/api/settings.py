"""Where Polytomic is and how to reach it: decided once, for both transports."""

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
TOTAL_TIMEOUT_FACTOR = 10  # times the timeout: how long all of an answer may take
MAX_BODY_SIZE = 64 * 1024 * 1024  # bytes; what an answer may hold, unpacked
MAX_TRIGGERER_BODY_SIZE = 8 * 1024 * 1024  # the same in the triggerer, where all wait while one is read
MIN_BYTES_PER_VALUE = 128  # bytes that an object or a list of an answer has, on average
LINK_PLACEHOLDERS = ("kind", "sync_id", "execution_id")
USER_AGENT = "airflow-provider-polytomic"
_SOCKS = re.compile(r"socks[0-9a-z]*://", re.IGNORECASE)
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def is_too_large(body: bytes, most: int) -> bool:
    """Whether an answer is longer than ``most`` bytes, or would be when it is read: ``{}`` takes 800 of them then."""
    if MIN_BYTES_PER_VALUE * len(body) <= most:  # nor if it were nothing but brackets
        return False
    return max(len(body), MIN_BYTES_PER_VALUE * (body.count(b"{") + body.count(b"["))) > most


class Secret(str):
    """Text that is not shown where what holds it is printed, whatever that is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


class Credential(Secret):
    """A secret that is sent to the API, whose answers could therefore quote it."""

    __slots__ = ()


@dataclass(frozen=True)
class Settings:
    """Everything a client needs to know. Equal settings may share connections.

    :param base_url: scheme, host, port and path, without a trailing slash.
    :param key: the API key.
    :param login: when not empty, the key is sent as HTTP Basic with this login; else as Bearer.
    :param timeout: seconds for connecting, and for each wait for more of an answer.
    :param verify: whether the server's certificate is checked.
    :param ca_bundle: path of the CA certificates that are trusted.
    :param proxy: URL of the proxy, or None.
    :param max_retries: how often a single call is asked again.
    :param ui_url: where a person finds an execution: a URL with ``{kind}``, ``{sync_id}`` and ``{execution_id}`` in it,
        each as often as it takes; empty: the base URL.
    :param no_proxy: whether no host is reached through a proxy, whatever the environment says.
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

    def __post_init__(self) -> None:
        for name in ("key", "login", "proxy"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, Secret(value))  # it is frozen

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc

    @property
    def proxy_host(self) -> str | None:
        return urlsplit(self.proxy).netloc.rpartition("@")[2] if self.proxy else None

    def execution_url(self, kind: str, sync_id: str, execution_id: str) -> str:
        """The page of an execution in Polytomic's web app."""
        ids = {"kind": kind, "sync_id": sync_id, "execution_id": execution_id}
        return (self.ui_url or self.base_url).format(**{name: quote(value, safe="") for name, value in ids.items()})

    def request_timeout(self, request: Request) -> float:
        return min(request.timeout or self.timeout, self.timeout)

    def total_timeout(self, request: Request) -> float:
        """Seconds for all of an answer, however little of it comes at a time."""
        return request.timeout or TOTAL_TIMEOUT_FACTOR * self.timeout

    def url(self, request: Request) -> str:
        query = f"?{urlencode(request.query)}" if request.query else ""
        return f"{self.base_url}{request.path}{query}"

    def for_other_host(self, url: str) -> Settings:
        """The way to another host, to which the key is not sent: TLS and a proxy as for Polytomic itself.

        A proxy that the environment has decided on is decided on anew.

        :raises ValueError: it is not a URL of an HTTP server, or is unencrypted where that of Polytomic is not.
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
            raise ValueError("an unencrypted URL, which an encrypted answer must not lead to")
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
        """What must not be seen by anybody: the key, as it is and as it is sent, and a proxy's password."""
        password = urlsplit(self.proxy).password if self.proxy else None
        credentials = [Credential(secret) for secret in (self.key, self._basic() if self.key else "") if secret]
        passwords = [Secret(secret) for secret in (password and unquote(password), password) if secret]
        return tuple(dict.fromkeys([*credentials, *passwords]))

    def redact(self, what: object) -> str:
        """``what`` as text, without secrets."""
        return re.sub(r"//[^/@\s]+@", "//***@", redact(str(what), self.secrets))


def warn_if_unverified(settings: Settings) -> None:
    """Said by each session when it is opened."""
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


def read_number_from_environment(name: str, default: int, least: int = 1) -> int:
    """A whole number that the environment may give. What is none is warned of, and not used."""
    text = os.environ.get(name) or default
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number >= least:
        return number
    log.warning(
        "The environment variable %s must be a whole number from %d on, not %r: taking %d", name, least, text, default
    )
    return default


def parse_http_url(text: str) -> SplitResult:
    """A URL of an HTTP server, its host name in the form that is looked up, without a trailing slash.

    :raises ValueError: it is none. The message quotes nothing: there may be a password in it.
    """
    parts = urlsplit(text)
    user, at, address = parts.netloc.rpartition("@")
    if address.endswith(":"):
        raise ValueError("no port behind the colon")
    if address.count(":") > 1 and "[" not in address:
        address = f"[{address}]"  # an IPv6 address as it stands in the host field of a connection
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
    """A URL for a browser, with none but the names in braces that :class:`Settings` knows.

    :raises ValueError: it is none.
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
    """The proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name for this URL.

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


@functools.cache  # one warning in a process
def _warn_of_socks() -> None:
    log.warning(
        "Ignoring the environment variable ALL_PROXY: it names a SOCKS proxy, and only HTTP proxies are supported. "
        "Set proxy in the connection's extra to the URL of an HTTP proxy, or to none"
    )


def _bypasses_proxies(where: SplitResult) -> bool:
    """Whether ``NO_PROXY`` has the host or its network in it.

    It is read as ``requests`` reads it. IPv6 networks and addresses in brackets or with a port count as well.
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
    """The CA certificates that the environment names, or else certifi's, as ``requests`` would.

    :raises ValueError: the environment names a file that does not exist.
    """
    for name in _CA_VARIABLES:
        if value := os.environ.get(name):
            if not os.path.exists(value):
                raise ValueError(f"the environment variable {name} names {value!r}, which does not exist")
            return value
    from certifi import where

    return where()
