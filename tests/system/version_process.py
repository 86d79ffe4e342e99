"""A process in which one version of the provider runs parts of a task, for tests of upgrades.

The version is the one whose directory comes first on PYTHONPATH. Each line of the input is a command in JSON, and each
line of the output its result:

    {"command": "execute", "store": {…} | null, "try": 2}    runs the operator until it returns or defers
    {"command": "fire", "row": {…}}                          runs a trigger from its database row to its event
    {"command": "resume", "event": {…}, "store": {…}}        runs the operator after the deferral
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

import airflow_provider_polytomic
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE
from tests.tasks.conftest import Store, TaskDeferred, make_context


def make_operator() -> PolytomicBulkSyncOperator:
    return PolytomicBulkSyncOperator(task_id="sync", sync_id=SALESFORCE_TO_WAREHOUSE, deferrable=True, poke_interval=1)


def execute(command: dict[str, Any]) -> dict[str, Any]:
    store = None if command["store"] is None else Store(command["store"])
    context = make_context(store, run_id=command["run"], try_number=command["try"], max_tries=1)
    try:
        return {"returned": make_operator().execute(context), "store": store}
    except TaskDeferred as deferral:
        path, kwargs = deferral.trigger.serialize()
        return {"row": {"path": path, "kwargs": kwargs}, "method": deferral.method_name, "store": store}


def fire(command: dict[str, Any]) -> dict[str, Any]:
    module, name = command["row"]["path"].rsplit(".", 1)
    trigger = getattr(importlib.import_module(module), name)(**command["row"]["kwargs"])

    async def first() -> Any:
        return (await trigger.run().__anext__()).payload

    return {"event": asyncio.run(first())}


def resume(command: dict[str, Any]) -> dict[str, Any]:
    context = make_context(Store(command["store"]), run_id=command["run"], max_tries=1)
    return {"returned": getattr(make_operator(), command["method"])(context, event=command["event"])}


def main() -> None:
    print(json.dumps({"version": airflow_provider_polytomic.__version__}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps({"execute": execute, "fire": fire, "resume": resume}[command["command"]](command)), flush=True)


if __name__ == "__main__":
    main()
