"""Collects all data that the provider persists: trigger rows, events, XComs, task state, asset events, keys.

Another process reads this data, possibly with another release of the provider. It is collected from tasks that run
against a sandbox with a stopped clock and counted ids. Each entry of the result is a scene: what one task or trigger
persists.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_polytomic import assets
from airflow_provider_polytomic.operators._arguments import task_alias
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox import world
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.routes import bulk_syncs
from airflow_provider_polytomic.sandbox.seed import (
    POSTGRES_TO_WAREHOUSE,
    SALESFORCE_TO_WAREHOUSE,
    WAREHOUSE_TO_SALESFORCE,
)
from airflow_provider_polytomic.sandbox.server import Server
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor
from airflow_provider_polytomic.triggers import execution as trigger_module
from airflow_provider_polytomic.triggers.events import PolytomicSyncEventTrigger

from .conftest import Store, TaskDeferred, make_context, recreate_in_triggerer
from .test_assets import OutletEventAccessors, emitted
from .test_create_bulk_sync import NEW as NEW_SYNC
from .test_event_trigger import until

NOON = 1767268800.0  # on the first day of 2026
COMMON = {"task_id": "sync", "deferrable": True, "poke_interval": 0.05}
# Tasks that defer. Each scene has an event with which the task ends, or starts its own execution.
TASKS: dict[str, tuple[type, dict[str, Any]]] = {
    "bulk operator": (
        PolytomicBulkSyncOperator,
        {"sync_id": SALESFORCE_TO_WAREHOUSE, "resync_mode": "resync", "schemas": ["account"], "log_console": True},
    ),
    "bulk operator by name": (
        PolytomicBulkSyncOperator,
        {"sync_name": "Postgres to warehouse", "timeout": 3600, "cancel_on_kill": False},
    ),
    "bulk operator that waits for another": (PolytomicBulkSyncOperator, {"sync_id": SALESFORCE_TO_WAREHOUSE}),
    "bulk operator that attaches": (
        PolytomicBulkSyncOperator,
        {"sync_id": SALESFORCE_TO_WAREHOUSE, "if_running": "attach"},
    ),
    "model operator": (
        PolytomicModelSyncOperator,
        {"sync_id": WAREHOUSE_TO_SALESFORCE, "resync": True, "identities": ["a@example.com"]},
    ),
    "bulk sensor": (
        PolytomicBulkSyncSensor,
        {"sync_id": SALESFORCE_TO_WAREHOUSE, "completed_after": "2026-01-01T00:00:00Z"},
    ),
    "model sensor": (
        PolytomicModelSyncSensor,
        {"sync_id": WAREHOUSE_TO_SALESFORCE, "completed_after": "2026-01-01T00:00:00Z", "soft_fail": True},
    ),
}
FOREIGN = ("bulk operator that waits for another", "bulk operator that attaches", "model sensor")
WATCHERS: dict[str, dict[str, Any]] = {
    "any sync": {},
    "one sync": {"sync_id": SALESFORCE_TO_WAREHOUSE, "events": ["failed", "completed"], "poke_interval": 5},
    "all filters": {"sync_name": "Orders", "kind": "bulk", "trigger_source": "schedule", "polytomic_conn_id": "mine"},
}
NEW: dict[str, Any] = {"task_id": "create", **NEW_SYNC}
# Values that depend on the time, or are messages for people.
VOLATILE = {
    "deadline": NOON + 3600,
    "waiting_since": NOON,
    "resolved_at": NOON,
    "clock_difference": 0.5,
    "polled_at": NOON,
    "message": "something went wrong",
}


class Stage:
    """A sandbox with a stopped clock and counted ids, and a replacement of Airflow's XComs for triggers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        numbers = count(1)
        counted = SimpleNamespace(uuid4=lambda: uuid.UUID(int=next(numbers)))
        for module in (world, bulk_syncs):
            monkeypatch.setattr(module, "uuid", counted)
        monkeypatch.setattr(assets, "make_alias", lambda alias: None)  # Airflow 2 stores aliases in a database
        monkeypatch.setattr(trigger_module, "MIN_FIRST_SLEEP", 0.02)
        monkeypatch.setattr(trigger_module, "aset_xcom", self._aset)
        monkeypatch.setattr(trigger_module, "aget_xcom", self._aget)
        self.now = NOON
        self.xcoms: dict[str, Any] = {}
        self.sandbox = Sandbox(now=lambda: self.now)

    async def _aset(self, _: Any, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    async def _aget(self, _: Any, key: str) -> Any:
        return self.xcoms.get(key)

    def fire(self, trigger: Any, *, after: float = 3600) -> Any:
        """The event of a trigger that ran for 5 seconds before ``after`` more seconds passed."""
        trigger = recreate_in_triggerer(trigger)

        async def first() -> Any:
            self.now += 5
            event = asyncio.ensure_future(trigger.run().__anext__())
            await until(lambda: not trigger.log_console or (self.xcoms and self.console_requests()))
            self.now += after
            return (await event).payload

        return json.loads(json.dumps(asyncio.run(first())))

    def console_requests(self) -> list[Any]:
        return [request for request in self.sandbox.requests if request.path.endswith("/consolelog")]

    def idempotency_keys(self) -> list[str]:
        """The idempotency keys of all requests."""
        return [
            request.headers["idempotency-key"]
            for request in self.sandbox.requests
            if "idempotency-key" in request.headers
        ]


@contextmanager
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage behind the default connection, which has links to a web app."""
    staged = Stage(monkeypatch)
    server = Server(staged.sandbox)
    extra = {"ui_url": "https://app.example.com/{kind}/{sync_id}/{execution_id}"}
    connection = {"conn_type": "polytomic", "host": server.url, "password": staged.sandbox.key, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
    try:
        yield staged
    finally:
        server.close()


def make_task(name: str) -> Any:
    cls, arguments = TASKS[name]
    return cls(**COMMON, **arguments)


def defer_task(name: str, context: dict[str, Any]) -> Any:
    with pytest.raises(TaskDeferred) as deferred:
        make_task(name).execute(context)
    return deferred.value


def collect_persisted_data(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All persisted data, by scene."""
    found: dict[str, Any] = {name: _task_scene(name, monkeypatch) for name in TASKS}
    found |= {f"watcher of {name}": _watcher_scene(arguments) for name, arguments in WATCHERS.items()}
    found["watcher state and payloads"] = _watcher_state_scene(monkeypatch)
    found["creation"] = _creation_scene(monkeypatch)
    found["trigger errors"] = _trigger_errors_scene(monkeypatch)
    found["aliases"] = [task_alias(None, "sync").name, task_alias("a_dag", "sync").name]
    persisted: dict[str, Any] = _replace_volatile(found)
    return persisted


def _replace_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: VOLATILE[k] if k in VOLATILE and v is not None else _replace_volatile(v) for k, v in value.items()}
    return [_replace_volatile(item) for item in value] if isinstance(value, list) else value


def _serialize(trigger: Any) -> dict[str, Any]:
    path, kwargs = trigger.serialize()
    return {"path": path, "kwargs": json.loads(json.dumps(kwargs))}


def _task_scene(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    with stage(monkeypatch) as staged:
        sync_id = TASKS[name][1].get("sync_id", POSTGRES_TO_WAREHOUSE)
        if name in FOREIGN:
            staged.sandbox.start_foreign(sync_id)
        store = Store()
        context = make_context(store, dag_id="a_dag", run_id="a_run") | {"outlet_events": OutletEventAccessors()}
        deferral = defer_task(name, context)
        if not staged.sandbox.starts(sync_id):
            staged.sandbox.start_foreign(sync_id)
        event = staged.fire(deferral.trigger)
        persisted = {
            "deferral": {
                "method_name": deferral.method_name,
                "kwargs": deferral.kwargs,
                "row": _serialize(deferral.trigger),
            },
            "event": event,
        }
        if not event["deferral_state"]["is_blocking"]:
            persisted["return_value"] = make_task(name).execute_complete(context, event)
        task_xcoms = {key: [value for k, value in context["ti"].xcoms if k == key] for key, _ in context["ti"].xcoms}
        persisted |= {
            "xcoms": task_xcoms | staged.xcoms,
            "task_state": dict(store),
            "asset_events": _without_port(emitted(context), staged.sandbox),
            "keys": staged.idempotency_keys(),
        }
        return persisted


def _without_port(events: dict[str, Any], sandbox: Sandbox) -> Any:
    return json.loads(json.dumps(events).replace(sandbox.url[len("http://") :], "polytomic.example.com"))


def _trigger_errors_scene(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The events of triggers that did not see the end: the deadline passed, or the API key was rejected."""
    with stage(monkeypatch) as staged:
        row = _serialize(defer_task("bulk operator by name", make_context()).trigger)["kwargs"]
        timed_out = staged.fire(trigger_module.PolytomicExecutionTrigger(**row | {"deadline": 1.0}), after=0)
        staged.sandbox.faults.status(403, "GET .*", times=None)
        rejected = staged.fire(trigger_module.PolytomicExecutionTrigger(**row))
        return {"timeout": timed_out, "error": rejected}


def _creation_scene(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    with stage(monkeypatch) as staged:
        returned = PolytomicCreateBulkSyncOperator(**NEW).execute(make_context(task_id="create"))
        return {"return_value": returned, "keys": staged.idempotency_keys()}


def _watcher_scene(arguments: dict[str, Any]) -> dict[str, Any]:
    trigger = PolytomicSyncEventTrigger(**arguments)
    return {"row": _serialize(trigger), "stored_as": trigger._key}


def _watcher_state_scene(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    async def scenario() -> dict[str, Any]:
        watcher = PolytomicSyncEventTrigger(
            events=["completed", "failed", "canceled", "completed_with_errors"], poke_interval=0.02
        )
        payloads: list[Any] = []

        async def watch() -> None:
            async for event in watcher.run():
                payloads.append(event.payload)

        watching = asyncio.ensure_future(watch())
        await until(lambda: watcher._position is not None)
        for sync_id, status in ENDS:
            staged.now += 60
            execution = staged.sandbox.run_on_schedule(sync_id)
            staged.sandbox.finish(sync_id, execution.id, status)
        await until(lambda: len(payloads) == len(ENDS))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        return {
            "payloads": sorted(payloads, key=lambda payload: payload["created_at"]),
            "position": watcher._position.to_json(),
        }

    with stage(monkeypatch) as staged:
        found: dict[str, Any] = json.loads(json.dumps(asyncio.run(scenario())))
        return found


ENDS = (
    (SALESFORCE_TO_WAREHOUSE, "completed"),
    (SALESFORCE_TO_WAREHOUSE, "failed"),
    (WAREHOUSE_TO_SALESFORCE, "completed"),
    (WAREHOUSE_TO_SALESFORCE, "canceled"),
)
