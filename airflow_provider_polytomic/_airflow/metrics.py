"""Metrics, sent by Airflow's own client if Airflow sends metrics. Without it nothing is imported or computed.

No error of a metrics backend changes the result of a task.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic._airflow import compat

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from airflow_provider_polytomic.api.models import Execution

log = logging.getLogger(__name__)

# The switches of Airflow's metrics clients.
_SWITCHES = ("statsd_on", "statsd_datadog_enabled", "otel_on")


def are_enabled() -> bool:
    """Whether Airflow sends metrics."""
    return any(compat.conf.getboolean("metrics", switch, fallback=False) for switch in _SWITCHES)


def record_start(context: Any, kind: str, origin: str) -> None:
    """Count an execution that a task waits for.

    :param kind: ``bulk`` or ``model``.
    :param origin: how the task came to it: ``started``, ``resumed`` or ``attached``.
    """
    _send(lambda client: client.incr(f"polytomic.executions.{origin}", tags=_tags(context, kind)))


def record_end(context: Any, kind: str, execution: Execution, *, has_failed: bool, waited: float | None) -> None:
    """Count an execution that has ended: its outcome, records and errors.

    :param has_failed: by the task's criteria.
    :param waited: seconds from the start, or from when the task resumed or attached, to the end; None if unknown.
    """

    def send(client: Any) -> None:
        tags = _tags(context, kind)
        client.incr(f"polytomic.executions.{'failed' if has_failed else 'succeeded'}", tags=tags)
        if waited is not None:
            client.timing("polytomic.executions.wait_duration", waited * 1000, tags=tags)  # Airflow's unit
        for name, count in (("records", execution.records), ("errors", execution.error_records)):
            if count:
                client.incr(f"polytomic.executions.{name}", count, tags=tags)

    _send(send)


class BatchPollObserver:
    """Sends the size of batch polls in a thread. While a backend hangs, the newest sizes are dropped.

    Each trigger has one, but only that of the trigger that opened the shared session is called. The configuration is
    therefore read with the first batch poll: for each trigger, it would cost 0.1 ms.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._is_idle = threading.Semaphore()

    @cached_property
    def is_enabled(self) -> bool:
        try:
            return are_enabled()
        except Exception:
            log.debug("Airflow's configuration of metrics could not be read.", exc_info=True)
            return False

    def __call__(self, size: int) -> None:
        """Record the number of syncs in a batch poll, without blocking the triggerer."""
        if not self.is_enabled or not self._is_idle.acquire(blocking=False):
            return
        from concurrent.futures import ThreadPoolExecutor

        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="polytomic-metrics")
        try:
            self._thread.submit(self._send, size)
        except RuntimeError:  # the interpreter is shutting down
            self._is_idle.release()

    def _send(self, size: int) -> None:
        try:
            _send(lambda client: client.gauge("polytomic.batch_poll.size", size), in_triggerer=True)
        finally:
            self._is_idle.release()


def _send(report: Callable[[Any], None], *, in_triggerer: bool = False) -> None:
    try:
        if are_enabled():
            report(compat.metrics_client(in_triggerer=in_triggerer))
    except Exception:
        log.debug("The metrics of Polytomic could not be sent.", exc_info=True)


def _tags(context: Any, kind: str) -> dict[str, str]:
    ti = context.get("ti")
    ids = {name: str(getattr(ti, name)) for name in ("dag_id", "task_id") if getattr(ti, name, None)}
    return {**ids, "kind": kind}
