"""Part ``imports``: the costs of importing a provider and of parsing DAG files."""

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
PROVIDER = "airflow_provider_polytomic"
# By kind: environment, modules with operators and sensors, and a task.
KINDS: dict[str, tuple[str, list[str], str]] = {
    "provider": (
        "provider",
        [f"{PROVIDER}.operators.bulk_sync", f"{PROVIDER}.sensors.bulk_sync"],
        f"from {PROVIDER}.operators.bulk_sync import PolytomicBulkSyncOperator as Operator\n"
        "FIELDS = {'sync_id': 'one'}",
    ),
    "bare": ("provider", ["benchmarks.bare"], "from benchmarks.bare import BareOperator as Operator\nFIELDS = {}"),
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
MANY_TASKS = f"""
from airflow.sdk import DAG
from {PROVIDER}.operators.bulk_sync import PolytomicBulkSyncOperator
with DAG("provider", schedule=None):
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
            task_id=f"task_{{number}}", owner="team", retries=3, retry_delay=60, retry_exponential_backoff=True,
            depends_on_past=True, priority_weight=2, queue="other", pool="other", execution_timeout=None,
            do_xcom_push=False,
        )
"""


def files(folder: Path) -> dict[str, str]:
    """Write the DAG files and return their paths."""
    contents = {"none": NO_TASK, "many-provider": MANY_TASKS, "many-empty": MANY_EMPTY}
    contents |= {kind: ONE_TASK.format(task=task) for kind, (_, _, task) in KINDS.items()}
    for name, content in contents.items():
        (folder / f"{name}.py").write_text(content)
    return {name: str(folder / f"{name}.py") for name in contents}


# --- in the measured process


def cost(names: list[str]) -> dict[str, Any]:
    """Return the costs of importing modules after ``airflow.sdk``, which every DAG file imports."""
    importlib.import_module("airflow.sdk")
    gc.collect()
    before, memory, used = set(sys.modules), probe.memory(), time.process_time()
    for name in names:
        importlib.import_module(name)
    cpu = time.process_time() - used
    added = set(sys.modules) - before
    heavy = {"aiohttp", "asgiref", "httpx", "httpx2", "polytomic", "requests", f"{PROVIDER}.api"}
    return {
        "cpu_ms": cpu * 1000,
        "modules": len(added),
        "memory_mb": (probe.memory() - memory) / 2**20,
        "heavy": sorted(heavy & added),
    }


def info() -> dict[str, Any]:
    """Return the third-party modules that the provider metadata import, which all processes of Airflow load."""
    from importlib.metadata import distribution

    (point,) = distribution("airflow-provider-polytomic").entry_points.select(group="apache_airflow_provider")
    before = set(sys.modules)
    point.load()()
    third_party = {name.split(".")[0] for name in set(sys.modules) - before} - {PROVIDER} - set(sys.stdlib_module_names)
    return {"third_party": sorted(third_party)}


def parse(paths: list[str], times: int) -> dict[str, Any]:
    """Return the CPU times of parsing DAG files alternately, after the imports of the DAG processor."""
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
    once(first)  # a DAG without tasks, for the imports of the first parse
    return {"parses": [[once(path) for path in rest] for _ in range(times)]}


def main(spec: dict[str, Any]) -> dict[str, Any]:
    do = {"cost": cost, "info": info, "parse": parse}[spec.pop("do")]
    return do(**spec)  # type: ignore[operator,no-any-return]


# --- in the controlling process


def measure(bench: Bench, kinds: list[str], times: int) -> dict[str, Any]:
    """Of each kind what importing costs, and the first parse of a file with one task; of provider also a large file."""
    written = files(bench.folder)
    costs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for repetition in range(times + 1):
        for kind in kinds:
            venv, modules, _ = KINDS[kind]
            cost = bench.measure("imports", {"do": "cost", "names": modules}, venv)
            paths = [written["none"], written[kind]]
            ((first,),) = bench.measure("imports", {"do": "parse", "paths": paths, "times": 1}, venv)["parses"]
            if repetition:  # the first repetition compiles
                costs[kind].append({**cost, "parse_ms": first})
            print(".", end="", flush=True)
    result: dict[str, Any] = {kind: _summarize(rows) for kind, rows in costs.items()}
    if "provider" in kinds:
        result["provider"] |= bench.measure("imports", {"do": "info"})
        paths = [written[name] for name in ("none", "many-provider", "many-empty")]
        _first, *parses = bench.measure("imports", {"do": "parse", "paths": paths, "times": 8})["parses"]
        result["provider"]["many_ms"] = spread([provider for provider, _ in parses])
        result["provider"]["many_empty_ms"] = spread([empty for _, empty in parses])
        result["provider"]["many_ratio"] = spread([provider / empty for provider, empty in parses])
    return result


def _summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    spreads = {name: spread([row[name] for row in rows]) for name in ("cpu_ms", "memory_mb", "parse_ms")}
    return {**spreads, "modules": rows[0]["modules"], "heavy": rows[0]["heavy"]}


if __name__ == "__main__":
    probe.report(main(probe.begin()))
