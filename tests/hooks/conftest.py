"""Airflow connections for tests on every version of Airflow, and an environment without proxies and certificates."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

try:
    from airflow.sdk import Connection
except ImportError:
    from airflow.models import Connection  # type: ignore[assignment]

VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"),
)
KEY = "k3y-of-this-test"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def connection(*, extra: Any = None, **fields: Any) -> Any:
    """Create an Airflow connection; ``extra`` may be an object."""
    text = extra if extra is None or isinstance(extra, str) else json.dumps(extra)
    return Connection(**{"conn_id": "c", "conn_type": "polytomic", "password": KEY, "extra": text} | fields)


Define = Callable[..., None]


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch) -> Define:
    """Define the default connection by a URI or by its fields."""

    def define(uri: str | None = None, **fields: Any) -> None:
        text = uri or json.dumps({"conn_type": "polytomic", "password": KEY, **fields})
        monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", text)

    return define
