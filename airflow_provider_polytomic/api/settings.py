"""Where Polytomic is and how to reach it: decided once, for both transports."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from .http import Request, Response

DEFAULT_HOST = "https://app.polytomic.com"
DEFAULT_API_VERSION = "2025-09-18"
DEFAULT_TIMEOUT = 60.0
DEFAULT_MAX_RETRIES = 5
MAX_BODY = 64 * 1024 * 1024  # bytes; what an answer may hold, unpacked
USER_AGENT = "airflow-provider-polytomic"
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


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

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc

    @property
    def proxy_host(self) -> str | None:
        return urlsplit(self.proxy).netloc.rpartition("@")[2] if self.proxy else None

    def timeout_of(self, request: Request) -> float:
        return min(request.timeout or self.timeout, self.timeout)

    def url(self, request: Request) -> str:
        return self.base_url + request.path

    def headers(self, request: Request) -> dict[str, str]:
        headers = {
            "Authorization": self._authorization(),
            "X-Polytomic-Version": self.api_version,
            "Accept": "application/json",
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
    def secrets(self) -> list[str]:
        """What must not be seen by anybody: the key, as it is and as it is sent, and a proxy's password."""
        password = urlsplit(self.proxy).password if self.proxy else None
        candidates = [self.key, self._basic() if self.key else None, password and unquote(password), password]
        return list(dict.fromkeys(secret for secret in candidates if secret))

    def censor(self, what: object) -> str:
        """``what`` as text, without secrets."""
        text = str(what)
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return re.sub(r"//[^/@\s]+@", "//***@", text)

    def censored(self, response: Response) -> Response:
        """The response; without secrets if it is an error, whose text goes into exceptions and logs."""
        if response.status < 300:
            return response
        body = response.body
        for secret in self.secrets:
            body = body.replace(secret.encode(), b"***")
        headers = {name: self.censor(value) for name, value in response.headers.items()}
        return Response(response.status, headers, body)


def proxy_from_environment(base_url: str) -> str | None:
    """The proxy that ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` name for this URL."""
    where = urlsplit(base_url)
    proxies = getproxies_environment()
    if proxy_bypass_environment(where.netloc.rpartition("@")[2], proxies):
        return None
    return proxies.get(where.scheme) or proxies.get("all")


def ca_bundle_from_environment() -> str:
    """The CA certificates that the environment names, or else certifi's, as ``requests`` would."""
    for name in _CA_VARIABLES:
        if value := os.environ.get(name):
            return value
    from certifi import where

    return where()
