"""Fixtures: a sandbox in memory with a clock that only the test moves, and a client for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_polytomic.api.plan import Response, TransportFailure
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE

BULK = f"/api/bulk/syncs/{SALESFORCE_TO_WAREHOUSE}"


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.25

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Client:
    """Sends requests to a sandbox and returns its responses."""

    sandbox: Sandbox
    clock: Clock

    def __call__(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        key: str | None = None,
        version: str | None = "2025-09-18",
        authorization: str | None = "Bearer sandbox",
    ) -> Response:
        headers = {"Authorization": authorization, "X-Polytomic-Version": version, "Idempotency-Key": key}
        response = self.sandbox.handle(
            method,
            target,
            {name: value for name, value in headers.items() if value is not None},
            b"" if body is None else json.dumps(body).encode(),
        )
        assert not isinstance(response, TransportFailure), response
        return response

    def data(self, method: str, target: str, body: Any = None, **how: Any) -> Any:
        """Return the ``data`` of a response, which must have status 200."""
        response = self(method, target, body, **how)
        assert response.status == 200, response
        return json.loads(response.body)["data"]

    def start(self, sync: str = BULK, **body: Any) -> str:
        return self.data("POST", f"{sync}/executions", body)["id"]

    def execution(self, execution_id: str, sync: str = BULK) -> Any:
        return self.data("GET", f"{sync}/executions/{execution_id}")


def error_of(response: Response) -> tuple[int, str]:
    """Return status and key of an error response, which must have the API's format."""
    body = json.loads(response.body)
    assert set(body) == {"status", "message", "key", "metadata"}
    assert body["status"] == response.status
    return response.status, body["key"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Any:
    """A function that makes a sandbox from a seed."""

    def make(seed: Any = None, **how: Any) -> Client:
        return Client(Sandbox(seed, now=clock, sleep=clock.sleep, **how), clock)

    return make


@pytest.fixture
def client(make: Any) -> Client:
    return make()
