"""Requests sent by a worker, with the ``requests`` library."""

from __future__ import annotations

import time
import warnings
from http.cookiejar import DefaultCookiePolicy

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from .http import Answer, Request, Response, Unreachable
from .settings import MAX_BODY, Settings, warn_if_unverified
from .unreachable import unreachable


class Transport:
    """One keep-alive session. Not for several threads at once."""

    def __init__(self, settings: Settings) -> None:
        warn_if_unverified(settings)
        self._settings = settings
        self._session = requests.Session()
        # Neither netrc nor the library's own reading of proxies and CA bundles: Settings has decided.
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=0))

    def send(self, request: Request) -> Answer:
        if self._settings.verify:
            return self._send(request)
        with warnings.catch_warnings():  # urllib3 warns of each request
            warnings.simplefilter("ignore", InsecureRequestWarning)
            return self._send(request)

    def _send(self, request: Request) -> Answer:
        settings = self._settings
        timeout = settings.timeout_of(request)
        give_up = time.monotonic() + request.timeout if request.timeout else None
        status = None
        try:
            with self._session.request(
                request.method,
                settings.url(request),
                params=list(request.query),
                data=request.body,
                headers=settings.headers(request),
                timeout=timeout,
                verify=(settings.ca_bundle or True) if settings.verify else False,
                proxies={"http": settings.proxy, "https": settings.proxy} if settings.proxy else None,
                allow_redirects=False,
                stream=True,
            ) as answer:
                status = answer.status_code
                headers = {name.lower(): value for name, value in answer.headers.items()}
                body = bytearray()
                for chunk in answer.iter_content(65536):
                    body += chunk
                    if len(body) > MAX_BODY:
                        return Unreachable(f"the answer is larger than {MAX_BODY} bytes", status=status)
                    if give_up is not None and time.monotonic() > give_up:
                        raise TimeoutError
                announced = headers.get("content-length", "")
                if announced.isdigit() and answer.raw.tell() < int(announced):  # urllib3 1.26 does not look
                    raise ConnectionAbortedError
                return Response(status, headers, bytes(body), settings.secrets)
        except requests.ConnectTimeout as error:
            return unreachable(error, settings, timeout, connecting=True)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            return unreachable(error, settings, timeout, status=status)

    def close(self) -> None:
        self._session.close()
