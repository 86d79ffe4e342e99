"""Runs operators, sensors and triggers as Airflow does, from deferral to deferral, against a sandbox over HTTP."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_polytomic import assets
from airflow_provider_polytomic.api import idempotency
from airflow_provider_polytomic.api.executions import outage, start
from airflow_provider_polytomic.triggers import execution as trigger_module
from tools.local_airflow import AIRFLOW_2

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred
if AIRFLOW_2:  # records callers of `execute` per thread, and fails in any but the main thread
    from airflow.models.baseoperator import ExecutorSafeguard

    ExecutorSafeguard._sentinel = SimpleNamespace(callers={})


class Store(dict[str, Any]):
    """Airflow's task state store (Airflow 3.3 or newer), which a task keeps over its tries."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


@dataclass
class TaskInstance:
    """The attributes of a task instance that operators use."""

    dag_id: str = "a_dag"
    run_id: str = "a_run"
    task_id: str = "sync"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    start_date: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    xcoms: list[tuple[str, Any]] = field(default_factory=list)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms.append((key, json.loads(json.dumps(value))))

    @property
    def summary(self) -> dict[str, Any]:
        """The last XCom `execution`."""
        return [value for key, value in self.xcoms if key == "execution"][-1]


@dataclass
class DagRun:
    start_date: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)


def make_context(store: Store | None = None, run: DagRun | None = None, **task_instance: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"ti": TaskInstance(**task_instance), "dag_run": run or DagRun()}
    if store is not None:
        context["task_state_store"] = store
    return context


@dataclass
class Task:
    """A task that runs with a new operator at its start and after each deferral, as in processes of its own."""

    make: Callable[[], Any]
    deferrals: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)

    def run(self, context: dict[str, Any] | None = None) -> Any:
        """Run the task and its triggers to the end.

        :returns: what the operator returns. Its errors are raised.
        """
        context = make_context() if context is None else context
        step: Callable[[], Any] = lambda: self.make().execute(context)  # noqa: E731
        while True:
            try:
                return step()
            except TaskDeferred as deferral:
                self.deferrals.append(deferral)
                event = fire(deferral.trigger)
                self.events.append(event)
                step = self._resume(deferral, context, event)

    def _resume(self, deferral: Any, context: dict[str, Any], event: Any) -> Callable[[], Any]:
        return lambda: getattr(self.make(), deferral.method_name)(context, event=event)


def recreate_trigger(trigger: Any) -> Any:
    """The trigger as the triggerer creates it from its database row."""
    path, kwargs = trigger.serialize()
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))


def recreate_in_triggerer(trigger: Any) -> Any:
    """The trigger as the triggerer creates it, with a task instance."""
    trigger = recreate_trigger(trigger)
    # Where `task_instance` is a property, its setter requires a complete task instance.
    setattr(trigger, "_task_instance" if hasattr(type(trigger), "task_instance") else "task_instance", object())
    return trigger


def fire(trigger: Any) -> Any:
    """Run a trigger and return the payload of its only event."""

    async def collect() -> list[Any]:
        return [event.payload async for event in recreate_trigger(trigger).run()]

    events = asyncio.run(collect())
    assert len(events) == 1
    return json.loads(json.dumps(events[0]))


@contextmanager
def finish_after_polls(sandbox: Any, execution: Any, times: int = 1) -> Iterator[None]:
    """Finish an execution once it has been polled ``times`` times, however slow the machine is."""

    def finish() -> None:
        while sum(request.path.endswith(f"/{execution.id}") for request in list(sandbox.requests)) < times:
            time.sleep(0.005)
        sandbox.finish(execution.sync_id, execution.id)

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    yield
    thread.join()


@pytest.fixture(autouse=True)
def _short_first_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first sleep, which real executors need before a trigger may fire, is tested on a real Airflow.
    monkeypatch.setattr(trigger_module, "MIN_FIRST_SLEEP", 0.02)


@pytest.fixture(autouse=True)
def _skip_alias_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow 2 stores aliases in a database, which these tests do not have.
    monkeypatch.setattr(assets, "make_alias", lambda alias: None)


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    # How long a start is repeated until its outcome is known, and how long a replica may lag behind.
    # Tests with a virtual clock use the real timeouts of a minute.
    monkeypatch.setattr(idempotency, "OUTCOME_TIMEOUT", 2.0)
    monkeypatch.setattr(idempotency, "REPLICA_LAG", 2.0)
    monkeypatch.setattr(outage, "REPLICA_LAG", 2.0)
    monkeypatch.setattr(start, "NEW_SYNC_DELAYS", (0.1, 0.1))


@pytest.fixture(params=["worker", "deferred"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    """Runs a test in both modes."""
    return request.param == "deferred"
