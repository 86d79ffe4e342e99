"""Spoil the batch status of syncs for any test run, for instance: make unit SUMMARY=stale.

No result of a task may depend on the batch status, because it only saves requests."""

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
DELAY = 5.0  # seconds
Handle = Callable[..., SendResult]


def missing(handle: Handle, *request: Any) -> SendResult:
    """Respond with 404."""
    handle(*request)
    return error_response(404, "not_found", "no such endpoint")


def slow(handle: Handle, *request: Any) -> SendResult:
    """Respond late."""
    sleep(DELAY)
    return handle(*request)


def stale(handle: Handle, sandbox: Sandbox, method: str, target: str, *more: Any) -> SendResult:
    """Respond with the state of some seconds ago."""
    responses: dict[str, tuple[float, SendResult]] = vars(sandbox).setdefault("stale_responses", {})
    now, response = clock(), handle(sandbox, method, target, *more)
    if target not in responses or now - responses[target][0] > DELAY:
        responses[target] = now, response
    return responses[target][1]


def unrelated(handle: Handle, *request: Any) -> SendResult:
    """Respond with other executions."""
    response = handle(*request)
    if isinstance(response, Response):
        response = replace(response, body=re.sub(rb'("execution_id": ?")[^"]', rb"\1_", response.body))
    return response


KINDS: dict[str, Callable[..., SendResult]] = {kind.__name__: kind for kind in (missing, slow, stale, unrelated)}


def spoil(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Set this kind of batch status for all sandboxes; ``off`` makes triggerers not request it."""
    if kind == "off":
        monkeypatch.setenv("AIRFLOW__POLYTOMIC__TRIGGERER_BATCH_SIZE", "1")
        return
    if kind not in KINDS:
        raise pytest.UsageError(f"SUMMARY must be one of {', '.join(KINDS)}, off, not {kind!r}")
    response, handle = KINDS[kind], Sandbox.handle

    def spoiled(self: Sandbox, method: str, target: str, *more: Any) -> SendResult:
        if target.partition("?")[0] == PATH:
            return response(handle, self, method, target, *more)
        return handle(self, method, target, *more)

    monkeypatch.setattr(Sandbox, "handle", spoiled)


def spoil_from_environment() -> None:
    if kind := os.environ.get("SUMMARY"):
        spoil(pytest.MonkeyPatch(), kind)
