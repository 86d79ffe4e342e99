"""The ways in which a suite can have the common status of many syncs spoiled are what they are called."""

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
    """The time, which passes when somebody waits."""
    now = [1000.0]
    monkeypatch.setattr(summaries, "clock", lambda: now[0])
    monkeypatch.setattr(summaries, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


class Asked:
    def __init__(self) -> None:
        self.sandbox = Sandbox(speed=1e-6)
        self.execution = self.sandbox.start_foreign(SYNC)

    def __call__(self) -> tuple[int, Any]:
        """What the summary says: its status, and executions with theirs."""
        answer: Any = self.sandbox.handle("GET", f"{summaries.PATH}?sync_id={SYNC}", HEADERS)
        if answer.status != 200:
            return answer.status, None
        rows = json.loads(answer.body)["data"][0]["schemas"]
        return 200, {(row["execution_id"], row["status"]) for row in rows}


def test_without_a_word_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the sandbox answers."""
    monkeypatch.delenv("SUMMARY", raising=False)
    handle = Sandbox.handle
    summaries.from_environment()
    assert Sandbox.handle is handle


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no such endpoint."""
    asked = Asked()
    summaries.spoil(monkeypatch, "missing")
    assert asked() == (404, None)


def test_slow(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    """The answer is right, and late."""
    asked = Asked()
    right = asked()
    summaries.spoil(monkeypatch, "slow")
    assert asked() == right
    assert now[0] == 1000.0 + summaries.BEHIND


def test_stale(monkeypatch: pytest.MonkeyPatch, now: list[float]) -> None:
    """What has ended is told of as running for some seconds."""
    asked = Asked()
    summaries.spoil(monkeypatch, "stale")
    running = asked()
    asked.sandbox.finish(SYNC, asked.execution.id)
    assert asked() == running
    now[0] += summaries.BEHIND + 1
    assert {status for _, status in asked()[1]} == {"completed"}


def test_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """No execution that it tells of is that of anybody."""
    asked = Asked()
    _, own = asked()
    summaries.spoil(monkeypatch, "foreign")
    status, others = asked()
    assert status == 200
    assert others
    assert not {execution_id for execution_id, _ in own} & {execution_id for execution_id, _ in others}


def test_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks."""
    summaries.spoil(monkeypatch, "off")
    assert os.environ["POLYTOMIC_TRIGGERER_BATCH"] == "1"


def test_a_word_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the suite would prove nothing."""
    monkeypatch.setenv("SUMMARY", "missin")
    with pytest.raises(
        pytest.UsageError, match="SUMMARY must be one of missing, slow, stale, foreign, off, not 'missin'"
    ):
        summaries.from_environment()
