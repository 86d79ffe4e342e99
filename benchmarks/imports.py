"""Part ``imports``: what a provider costs every process that imports it, and every parse of a DAG file."""

from __future__ import annotations

import gc
import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import probe
from .figures import spread

if TYPE_CHECKING:
    from .harness import Bench

TASKS = 500
OURS = "airflow_provider_polytomic"
# Of each kind: environment, modules with its operators and sensors, and a task.
KINDS: dict[str, tuple[str, list[str], str]] = {
    "ours": (
        "ours",
        [f"{OURS}.{part}.{kind}_sync" for part in ("operators", "sensors") for kind in ("bulk", "model")],
        f"from {OURS}.operators.bulk_sync import PolytomicBulkSyncOperator as Operator\nFIELDS = {{'sync_id': 'one'}}",
    ),
    "bare": ("ours", ["benchmarks.bare"], "from benchmarks.bare import BareOperator as Operator\nFIELDS = {}"),
    "airbyte": (
        "airbyte",
        ["airflow.providers.airbyte.operators.airbyte", "airflow.providers.airbyte.sensors.airbyte"],
        "from airflow.providers.airbyte.operators.airbyte import AirbyteTriggerSyncOperator as Operator\n"
        "FIELDS = {'connection_id': 'one'}",
    ),
    "dbt-cloud": (
        "dbt-cloud",
        ["airflow.providers.dbt.cloud.operators.dbt", "airflow.providers.dbt.cloud.sensors.dbt"],
        "from airflow.providers.dbt.cloud.operators.dbt import DbtCloudRunJobOperator as Operator\n"
        "FIELDS = {'job_id': 1}",
    ),
    "fivetran": (
        "fivetran",
        ["fivetran_provider_async.operators", "fivetran_provider_async.sensors"],
        "from fivetran_provider_async.operators import FivetranOperator as Operator\nFIELDS = {'connector_id': 'one'}",
    ),
}

NO_TASK = """
from airflow.sdk import DAG
dag = DAG("nothing", schedule=None)
"""
ONE_TASK = """
from airflow.sdk import DAG
{task}
with DAG("one", schedule=None):
    Operator(task_id="only", **FIELDS)
"""
# Ten arguments each, besides the task's id.
MANY_OURS = f"""
from airflow.sdk import DAG
from {OURS}.operators.bulk_sync import PolytomicBulkSyncOperator
with DAG("ours", schedule=None):
    for number in range({TASKS}):
        PolytomicBulkSyncOperator(
            task_id=f"task_{{number}}", sync_id=f"sync-{{number}}", polytomic_conn_id="other", resync_mode="resync",
            fetch_mode="full", poke_interval=60, timeout=3600, if_running="attach", allow_errors=True, min_records=1,
            cancel_on_kill=False,
        )
"""
MANY_EMPTY = f"""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
with DAG("empty", schedule=None):
    for number in range({TASKS}):
        EmptyOperator(
            task_id=f"task_{{number}}", owner="somebody", retries=3, retry_delay=60, retry_exponential_backoff=True,
            depends_on_past=True, priority_weight=2, queue="other", pool="other", execution_timeout=None,
            do_xcom_push=False,
        )
"""


def files(folder: Path) -> dict[str, str]:
    """Write the DAG files. Their paths."""
    contents = {"none": NO_TASK, "many-ours": MANY_OURS, "many-empty": MANY_EMPTY}
    contents |= {kind: ONE_TASK.format(task=task) for kind, (_, _, task) in KINDS.items()}
    for name, content in contents.items():
        (folder / f"{name}.py").write_text(content)
    return {name: str(folder / f"{name}.py") for name in contents}


# --- in the measured process


def cost(names: list[str]) -> dict[str, Any]:
    """Of importing these modules, after what every DAG file has imported already."""
    importlib.import_module("airflow.sdk")
    gc.collect()
    before, memory, used = set(sys.modules), probe.memory(), time.process_time()
    for name in names:
        importlib.import_module(name)
    cpu = time.process_time() - used
    added = set(sys.modules) - before
    heavy = {"aiohttp", "asgiref", "httpx", "httpx2", "polytomic", "requests", f"{OURS}.api"}
    return {
        "cpu_ms": cpu * 1000,
        "modules": len(added),
        "memory_mb": (probe.memory() - memory) / 2**20,
        "heavy": sorted(heavy & added),
    }


def info() -> dict[str, Any]:
    """What is imported besides when Airflow asks for our metadata, which it does in all its processes."""
    from importlib.metadata import distribution

    (point,) = distribution("airflow-provider-polytomic").entry_points.select(group="apache_airflow_provider")
    before = set(sys.modules)
    point.load()()
    foreign = {name.split(".")[0] for name in set(sys.modules) - before} - {OURS} - set(sys.stdlib_module_names)
    return {"foreign": sorted(foreign)}


def parse(paths: list[str], times: int) -> dict[str, Any]:
    """CPU time of each parse of DAG files, taking turns, where all is loaded that the DAG processor has loaded."""
    import airflow.dag_processing.manager
    import airflow.dag_processing.processor  # noqa: F401
    from airflow.dag_processing.dagbag import DagBag

    def once(path: str) -> float:
        gc.collect()
        used = time.process_time()
        bag = DagBag(path, safe_mode=False)
        cpu = time.process_time() - used
        if bag.import_errors or not bag.dags:
            raise RuntimeError(f"{path}: {bag.import_errors}")
        return cpu * 1000

    first, *rest = paths
    once(first)  # of a DAG without tasks, for what the first parse of a process loads
    return {"parses": [[once(path) for path in rest] for _ in range(times)]}


def main(spec: dict[str, Any]) -> dict[str, Any]:
    do = {"cost": cost, "info": info, "parse": parse}[spec.pop("do")]
    return do(**spec)  # type: ignore[operator,no-any-return]


# --- in the process that has it measured


def measure(bench: Bench, kinds: list[str], times: int) -> dict[str, Any]:
    """Of each kind what importing costs, and the first parse of a file with one task; of ours also a large file."""
    written = files(bench.folder)
    costs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for repetition in range(times + 1):
        for kind in kinds:
            venv, modules, _ = KINDS[kind]
            cost = bench.measure("imports", {"do": "cost", "names": modules}, venv)
            paths = [written["none"], written[kind]]
            ((first,),) = bench.measure("imports", {"do": "parse", "paths": paths, "times": 1}, venv)["parses"]
            if repetition:  # the first compiles
                costs[kind].append({**cost, "parse_ms": first})
            print(".", end="", flush=True)
    told: dict[str, Any] = {kind: _together(rows) for kind, rows in costs.items()}
    if "ours" in kinds:
        told["ours"] |= bench.measure("imports", {"do": "info"})
        paths = [written[name] for name in ("none", "many-ours", "many-empty")]
        _first, *parses = bench.measure("imports", {"do": "parse", "paths": paths, "times": 8})["parses"]
        told["ours"]["many_ms"] = spread([ours for ours, _ in parses])
        told["ours"]["many_empty_ms"] = spread([empty for _, empty in parses])
        told["ours"]["many_ratio"] = spread([ours / empty for ours, empty in parses])
    return told


def _together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    spreads = {name: spread([row[name] for row in rows]) for name in ("cpu_ms", "memory_mb", "parse_ms")}
    return {**spreads, "modules": rows[0]["modules"], "heavy": rows[0]["heavy"]}


if __name__ == "__main__":
    probe.report(main(probe.begin()))
