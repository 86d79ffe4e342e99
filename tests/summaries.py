"""Any suite against a Polytomic whose common status of many syncs is not what it should be: make unit SUMMARY=stale.

Nothing that a task does may depend on it: it only saves requests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from time import monotonic as clock
from time import sleep
from typing import Any

import pytest

from airflow_provider_polytomic.api.plan import Response, SendResult
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.wire import error_response

PATH = "/api/bulk/syncs/status"
BEHIND = 5.0  # seconds
Handle = Callable[..., SendResult]


def missing(handle: Handle, *request: Any) -> SendResult:
    handle(*request)
    return error_response(404, "not_found", "no such endpoint")


def slow(handle: Handle, *request: Any) -> SendResult:
    sleep(BEHIND)
    return handle(*request)


def stale(handle: Handle, sandbox: Sandbox, method: str, target: str, *more: Any) -> SendResult:
    """What was so some seconds ago."""
    answers: dict[str, tuple[float, SendResult]] = vars(sandbox).setdefault("stale_answers", {})
    now, answer = clock(), handle(sandbox, method, target, *more)
    if target not in answers or now - answers[target][0] > BEHIND:
        answers[target] = now, answer
    return answers[target][1]


def foreign(handle: Handle, *request: Any) -> SendResult:
    """It tells of other executions."""
    answer = handle(*request)
    if isinstance(answer, Response):
        answer = replace(answer, body=re.sub(rb'("execution_id": ?")[^"]', rb"\1_", answer.body))
    return answer


KINDS: dict[str, Callable[..., SendResult]] = {kind.__name__: kind for kind in (missing, slow, stale, foreign)}


def spoil(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """All sandboxes have this kind of summary from now on; ``off`` is a triggerer that does not ask for it."""
    if kind == "off":
        monkeypatch.setenv("POLYTOMIC_TRIGGERER_BATCH", "1")
        return
    if kind not in KINDS:
        raise pytest.UsageError(f"SUMMARY must be one of {', '.join(KINDS)}, off, not {kind!r}")
    answer, handle = KINDS[kind], Sandbox.handle

    def spoiled(self: Sandbox, method: str, target: str, *more: Any) -> SendResult:
        if target.partition("?")[0] == PATH:
            return answer(handle, self, method, target, *more)
        return handle(self, method, target, *more)

    monkeypatch.setattr(Sandbox, "handle", spoiled)


def from_environment() -> None:
    if kind := os.environ.get("SUMMARY"):
        spoil(pytest.MonkeyPatch(), kind)
