"""Runs operators, sensors and triggers as Airflow does, leg by leg, against a sandbox over HTTP."""

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
if AIRFLOW_2:  # notes in the main thread alone who may call `execute`, and breaks in any other
    from airflow.models.baseoperator import ExecutorSafeguard

    ExecutorSafeguard._sentinel = SimpleNamespace(callers={})


class Store(dict[str, Any]):
    """What Airflow ≥ 3.3 keeps for a task over its tries."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


@dataclass
class TaskInstance:
    """What operators use of a task instance."""

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


def make_context(store: Store | None = None, run: DagRun | None = None, **of_ti: Any) -> dict[str, Any]:
    context: dict[str, Any] = {"ti": TaskInstance(**of_ti), "dag_run": run or DagRun()}
    if store is not None:
        context["task_state_store"] = store
    return context


@dataclass
class Task:
    """A task whose legs each run with an operator of their own, as in processes of their own."""

    make: Callable[[], Any]
    deferrals: list[Any] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)

    def run(self, context: dict[str, Any] | None = None) -> Any:
        """Run to the end.

        :returns: what it returns; what it raises goes up.
        """
        context = make_context() if context is None else context
        leg: Callable[[], Any] = lambda: self.make().execute(context)  # noqa: E731
        while True:
            try:
                return leg()
            except TaskDeferred as deferral:
                self.deferrals.append(deferral)
                event = fire(deferral.trigger)
                self.events.append(event)
                leg = self._resume(deferral, context, event)

    def _resume(self, deferral: Any, context: dict[str, Any], event: Any) -> Callable[[], Any]:
        return lambda: getattr(self.make(), deferral.method_name)(context, event=event)


def revive(trigger: Any) -> Any:
    """The trigger as the triggerer gets it: through the database."""
    path, kwargs = trigger.serialize()
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**json.loads(json.dumps(kwargs)))


def in_triggerer(trigger: Any) -> Any:
    """The same, with a task instance, which the triggerer tells it."""
    trigger = revive(trigger)
    # Where it is a property, its setter wants a whole one.
    setattr(trigger, "_task_instance" if hasattr(type(trigger), "task_instance") else "task_instance", object())
    return trigger


def fire(trigger: Any) -> Any:
    """The one event of a trigger."""

    async def collect() -> list[Any]:
        return [event.payload async for event in revive(trigger).run()]

    events = asyncio.run(collect())
    assert len(events) == 1
    return json.loads(json.dumps(events[0]))


@contextmanager
def ends_once_looked_at(sandbox: Any, execution: Any, times: int = 1) -> Iterator[None]:
    """Somebody's execution that does not end before it was seen so often, however slow the machine is."""

    def finish() -> None:
        while sum(request.path.endswith(f"/{execution.id}") for request in list(sandbox.requests)) < times:
            time.sleep(0.005)
        sandbox.finish(execution.sync_id, execution.id)

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    yield
    thread.join()


@pytest.fixture(autouse=True)
def _quick_triggers(monkeypatch: pytest.MonkeyPatch) -> None:
    # The pause that real executors need before a trigger may fire is tested on a real Airflow.
    monkeypatch.setattr(trigger_module, "MIN_FIRST_SLEEP", 0.02)


@pytest.fixture(autouse=True)
def _aliases_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow 2 writes them into a database, which these tests do not have.
    monkeypatch.setattr(assets, "make_alias", lambda alias: None)


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    # How long a start is repeated until its outcome is known, and how long what is new may be unknown to a replica.
    # Tests with a clock of their own use the real minute.
    monkeypatch.setattr(idempotency, "OUTCOME_TIMEOUT", 2.0)
    monkeypatch.setattr(idempotency, "REPLICA_LAG", 2.0)
    monkeypatch.setattr(outage, "REPLICA_LAG", 2.0)
    monkeypatch.setattr(start, "NEW_SYNC_DELAYS", (0.1, 0.1))


@pytest.fixture(params=["worker", "deferred"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    """Every test that asks for it runs in both modes."""
    return request.param == "deferred"
