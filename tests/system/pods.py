"""An executor without workers, as KubernetesExecutor is: each task runs in a process of its own, here called a pod.

The pod has a log folder of its own, which no other process reads, and reports to Airflow only what its task does. The
executor notices that it ended. A test ends a pod as Kubernetes does: see :func:`end_pod`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.executors.base_executor import BaseExecutor

if TYPE_CHECKING:
    from tools.stage import Run

EXECUTOR = "tests.system.pods.PodExecutor"


class PodExecutor(BaseExecutor):
    def start(self) -> None:
        self._pods: dict[Any, subprocess.Popen[bytes]] = {}

    def queue_workload(self, workload: Any, session: Any = None) -> None:  # Airflow 3
        module = "airflow.sdk.execution_time.execute_workload"
        self._start_pod(workload.ti.key, [sys.executable, "-m", module, "--json-string", workload.model_dump_json()])

    def execute_async(self, key: Any, command: list[str], queue: Any = None, executor_config: Any = None) -> None:
        self._start_pod(key, command)  # Airflow 2

    def _start_pod(self, key: Any, command: list[str]) -> None:
        self.running.add(key)
        folder = tempfile.mkdtemp(prefix="pod-", dir=os.environ["AIRFLOW_HOME"])
        env = {**os.environ, "AIRFLOW__LOGGING__BASE_LOG_FOLDER": f"{folder}/logs"}
        with open(f"{folder}/output", "wb") as output:
            self._pods[key] = subprocess.Popen(
                command,
                env=env,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def sync(self) -> None:
        for key, pod in list(self._pods.items()):
            if pod.poll() is not None:
                del self._pods[key]
                self.success(key) if pod.returncode == 0 else self.fail(key)

    def end(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        for pod in self._pods.values():
            pod.kill()


def end_pod(run: Run, grace: float) -> float:
    """End the pod of a task as Kubernetes does: a SIGTERM to its main process, and later a SIGKILL to all processes.

    :param grace: seconds between the two, the pod's `terminationGracePeriodSeconds`; 0 sends only the SIGKILL.
    :returns: after how many seconds the processes had ended.
    """
    processes = [run.worker(), run.process()]
    began = time.monotonic()
    if grace:
        os.kill(processes[0].pid, signal.SIGTERM)
        pids = {process.pid for process in processes}
        while time.monotonic() - began < grace and pids & {process.pid for process in run.stage.airflow.processes()}:
            time.sleep(0.05)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return time.monotonic() - began


def read_pod_logs(home: Path) -> str:
    """Return the task logs of all pods."""
    return "\n".join(path.read_text(errors="replace") for path in sorted(home.glob("pod-*/logs/**/*.log*")))
