"""The provider in a container with a read-only root file system, a random user, and no home directory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from tests.containers import USER, run_in_container, why_impossible

SYNC_ID = "orders"
REASON = why_impossible()

# Every module, then each component that contacts Polytomic, as Airflow runs it.
SCRIPT = """
import importlib, pkgutil

import airflow_provider_polytomic

for module in pkgutil.walk_packages(airflow_provider_polytomic.__path__, "airflow_provider_polytomic."):
    if "__main__" not in module.name and "pytest_plugin" not in module.name:
        importlib.import_module(module.name)

from airflow_provider_polytomic import assets
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.triggers import execution
from tests.tasks.conftest import Task, make_context

execution.MIN_FIRST_SLEEP = 0.02
assets.make_alias = lambda alias: None  # Airflow 2 stores aliases in a database, which there is none of
sync_id = os.environ["SYNC_ID"]
common = {"sync_id": sync_id, "poke_interval": 0.05}

works, message = PolytomicHook().test_connection()
assert works, message
assert PolytomicHook().get_bulk_sync(sync_id).id == sync_id
assert PolytomicHook().get_bulk_sync_execution(
    sync_id, Task(lambda: PolytomicBulkSyncOperator(task_id="sync", deferrable=False, **common)).run()
).succeeded
deferred = Task(lambda: PolytomicBulkSyncOperator(task_id="sync", deferrable=True, log_console=True, **common))
execution_id = deferred.run(make_context(run_id="another"))
assert deferred.deferrals
sensor = PolytomicBulkSyncSensor(task_id="wait", sync_id=sync_id, execution_id=execution_id, deferrable=False)
assert sensor.poke(make_context()).xcom_value == execution_id
"""


@pytest.fixture
def polytomic_sandbox_seed() -> dict[str, Any]:
    return {"bulk_syncs": [{"name": "Orders", "id": SYNC_ID, "schemas": ["one"], "duration": 20}]}


@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_provider_works_with_read_only_files_a_random_user_and_no_home(
    polytomic_sandbox: Sandbox, tmp_path: Path
) -> None:
    """Importing, calling, starting, and waiting write nothing outside of the folder that Airflow is given."""
    env = {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW_CONN_POLYTOMIC_DEFAULT": os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"],
        "SYNC_ID": SYNC_ID,
    }

    ended = run_in_container(SCRIPT, tmp_path, env)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(ended.stdout.splitlines()[-1])
    assert report == {"user": USER, "home": None, "writes": []}
    assert [polytomic_sandbox.status(execution.id) for execution in polytomic_sandbox.starts(SYNC_ID)] == [
        "completed"
    ] * 2
