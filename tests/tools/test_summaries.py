"""Each value of SUMMARY spoils the batch status of syncs as its name says."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from tests import summaries

HEADERS = {"authorization": "Bearer sandbox"}


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, which advances when somebody waits."""
    now = [1000.0]
    monkeypatch.setattr(summaries, "clock", lambda: now[0])
    monkeypatch.setattr(summaries, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


class Asked:
    def __init__(self) -> None:
        self.sandbox = Sandbox(speed=1e-6)
        self.execution = self.sandbox.start_foreign(SYNC)

    def __call__(self) -> tuple[int, Any]:
        """Return the status and the executions of the batch response."""
        answer: Any = self.sandbox.handle("GET", f"{summaries.PATH}?sync_id={SYNC}", HEADERS)
        if answer.status != 200:
            return answer.status, None
        rows = json.loads(answer.body)["data"][0]["schemas"]
        return 200, {(row["execution_id"], row["status"]) for row in rows}


def test_batch_status_is_unchanged_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The responses are those of the sandbox."""
    monkeypatch.delenv("SUMMARY", raising=False)
    handle = Sandbox.handle
    summaries.spoil_from_environment()
    assert Sandbox.handle is handle


def test_missing_responds_404(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such endpoint."""
    asked = Asked()
    summaries.spoil(monkeypatch, "missing")
    assert asked() == (404, None)


def test_slow_responds_late(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    """The response is correct."""
    asked = Asked()
    right = asked()
    summaries.spoil(monkeypatch, "slow")
    assert asked() == right
    assert now[0] == 1000.0 + summaries.DELAY


def test_stale_lists_ended_executions_as_running(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    """For some seconds."""
    asked = Asked()
    summaries.spoil(monkeypatch, "stale")
    running = asked()
    asked.sandbox.finish(SYNC, asked.execution.id)
    assert asked() == running
    now[0] += summaries.DELAY + 1
    assert {status for _, status in asked()[1]} == {"completed"}


def test_unrelated_lists_unknown_executions(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them belongs to a waiting task."""
    asked = Asked()
    _, own = asked()
    summaries.spoil(monkeypatch, "unrelated")
    status, others = asked()
    assert status == 200
    assert others
    assert not {execution_id for execution_id, _ in own} & {execution_id for execution_id, _ in others}


def test_off_disables_batch_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is sent."""
    summaries.spoil(monkeypatch, "off")
    assert os.environ["AIRFLOW__POLYTOMIC__TRIGGERER_BATCH_SIZE"] == "1"


def test_unknown_value_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests would prove nothing."""
    monkeypatch.setenv("SUMMARY", "missin")
    with pytest.raises(
        pytest.UsageError, match="SUMMARY must be one of missing, slow, stale, unrelated, off, not 'missin'"
    ):
        summaries.spoil_from_environment()
