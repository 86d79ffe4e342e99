"""One task that syncs what the run's configuration names, of each kind, and in each way in which it can wait."""

import os
from datetime import timedelta
from pathlib import Path

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator

KINDS = {"bulk": PolytomicBulkSyncOperator, "model": PolytomicModelSyncOperator}

WAYS = {
    "worker": {"deferrable": False},
    "deferred": {"deferrable": True},
    "deferred_with_log": {"deferrable": True, "log_console": True},
    # Nothing else has runs of these: they are paused for a while.
    "worker_to_delete": {"deferrable": False},
    "deferred_to_delete": {"deferrable": True},
    "unwaited": {"wait_for_completion": False},
    "worker_left_alone": {"deferrable": False, "cancel_on_kill": False},
    "deferred_left_alone": {"deferrable": True, "cancel_on_kill": False},
}

POD_EXECUTOR = "tests.system.pods.PodExecutor"
if POD_EXECUTOR in os.environ["AIRFLOW__CORE__EXECUTOR"]:
    # Each poll sleeps for 5 seconds or more, as with the default, so that a short grace period ends before it.
    pod = {"executor": POD_EXECUTOR, "deferrable": False, "poke_interval": 30}
    WAYS |= {
        "pod": pod,
        "pod_left_alone": {**pod, "cancel_on_kill": False},
        "pod_deferred": {"executor": POD_EXECUTOR, "deferrable": True},
    }

# A test edits the number of retries of one DAG by writing this file.
EDITED = Path(os.environ["AIRFLOW_HOME"]) / "retries"


def sync_task(task_id, conf, way, kind="bulk", retries=3, **more):
    return KINDS[kind](
        task_id=task_id,
        sync_id=f"{{{{ dag_run.conf['{conf}'] }}}}",
        retries=retries,
        retry_delay=timedelta(seconds=1),
        **{"poke_interval": 1, **WAYS[way], **more},
    )


for kind in KINDS:
    for way in WAYS:
        with DAG(f"{way}_{kind}", schedule=None) as dag:
            sync_task("sync", "sync", way, kind)
        globals()[dag.dag_id] = dag

with DAG("pair_bulk", schedule=None) as pair:
    sync_task("sync", "sync", "deferred")
    sync_task("other", "other", "deferred")

with DAG("repairing_bulk", schedule=None) as repairing:
    sync_task("sync", "sync", "deferred", retry_failed_schemas_only=True)

with DAG("edited_bulk", schedule=None) as edited:
    sync_task("sync", "sync", "worker", retries=int(EDITED.read_text()) if EDITED.exists() else 3)
