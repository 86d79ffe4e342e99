"""A sandbox in memory, with a clock that only a test moves."""

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
class Asker:
    """Asks a sandbox as a client would, and returns what it says."""

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
        answer = self.sandbox.handle(
            method,
            target,
            {name: value for name, value in headers.items() if value is not None},
            b"" if body is None else json.dumps(body).encode(),
        )
        assert not isinstance(answer, TransportFailure), answer
        return answer

    def data(self, method: str, target: str, body: Any = None, **how: Any) -> Any:
        """The ``data`` of an answer that must be good."""
        answer = self(method, target, body, **how)
        assert answer.status == 200, answer
        return json.loads(answer.body)["data"]

    def start(self, sync: str = BULK, **body: Any) -> str:
        return self.data("POST", f"{sync}/executions", body)["id"]

    def execution(self, execution_id: str, sync: str = BULK) -> Any:
        return self.data("GET", f"{sync}/executions/{execution_id}")


def problem_of(answer: Response) -> tuple[int, str]:
    """Status and key of an error, which must be in the API's form."""
    body = json.loads(answer.body)
    assert set(body) == {"status", "message", "key", "metadata"}
    assert body["status"] == answer.status
    return answer.status, body["key"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Any:
    """Make a sandbox of any seed."""

    def make(seed: Any = None, **how: Any) -> Asker:
        return Asker(Sandbox(seed, now=clock, sleep=clock.sleep, **how), clock)

    return make


@pytest.fixture
def ask(make: Any) -> Asker:
    return make()
