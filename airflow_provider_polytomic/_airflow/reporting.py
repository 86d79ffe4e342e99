"""Reports on an execution: XCom summary, link, map index name, failure message. None of them changes the result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_polytomic._airflow.compat import AirflowTaskTimeout
from airflow_provider_polytomic._airflow.task_context import execution_timeout_reserve
from airflow_provider_polytomic.links import LINK_KEY

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.api.models import Execution
    from airflow_provider_polytomic.api.plan import Plan, Request, SendResult
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

log = logging.getLogger(__name__)
T = TypeVar("T")

SUMMARY_KEY = "execution"
REPORTING_TIMEOUT = 30.0  # seconds for all reports on an execution that has ended
REPORT_REQUEST_TIMEOUT = 10.0  # seconds for each of their requests
MIN_REPORT_REQUEST_TIMEOUT = 0.05  # seconds; with less left no request is sent


def best_effort(report: str, step: Callable[[], T]) -> T | None:
    """Take a step that only reports on an execution. An error is logged, and the result is None.

    :param report: what the step provides, for the log.
    """
    try:
        return step()
    except Exception as error:  # noqa: BLE001  a report must not change the task's result
        from airflow_provider_polytomic.api.text import printable

        log.warning("No %s: %s", report, printable(error, 500) or type(error).__name__)
        return None


class Reporting:
    """The time for all reports on an execution that has ended. No error and no delay of theirs changes the result.

    All reports together have :data:`REPORTING_TIMEOUT`, and at most half of the time that
    :func:`~.task_context.execution_timeout_reserve` reserves before Airflow's own timeout.

    :param send: sends one request.
    """

    def __init__(self, send: Callable[[Request], SendResult], execution_timeout: timedelta | None = None) -> None:
        seconds = REPORTING_TIMEOUT
        if execution_timeout is not None:
            seconds = min(seconds, execution_timeout_reserve(execution_timeout) / 2)
        self._send = send
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(self._until - time.monotonic(), 0.0)

    def best_effort(self, report: str, step: Callable[[], T]) -> T | None:
        """Take a step like :func:`best_effort`. Airflow's own timeout, too, ends only the reporting."""
        try:
            return best_effort(report, step)
        except AirflowTaskTimeout:
            self._until = time.monotonic()
            log.warning(
                "No %s: execution_timeout is over. Reports that need requests are left out from here on.", report
            )
            return None

    def run(self, plan: Plan[T]) -> T:
        """Run a plan within the time that is left."""
        from airflow_provider_polytomic.api.client import drive

        return drive(plan, self._send_in_time, sleep=lambda seconds: time.sleep(min(seconds, self.left)))

    def _send_in_time(self, request: Request) -> SendResult:
        from airflow_provider_polytomic.api.plan import TransportFailure

        # A request that hangs leaves half of the time to those after it.
        timeout = min(request.timeout or REPORT_REQUEST_TIMEOUT, REPORT_REQUEST_TIMEOUT, self.left / 2)
        if timeout < MIN_REPORT_REQUEST_TIMEOUT:
            return TransportFailure("the time for reporting is used up", sent=False)
        return self._send(replace(request, timeout=timeout))


def sync_display_name(run: Callable[[Any], Any], kind: SyncKind, sync_id: str) -> str | None:
    """Read a sync's name, as one short line; None if it has none.

    :raises Exception: it cannot be read.
    """
    from airflow_provider_polytomic.api.call import fetch
    from airflow_provider_polytomic.api.text import printable

    return printable(run(fetch(kind.sync(sync_id), 0)).name, 300) or None


def set_map_index_name(
    send: Callable[[Request], SendResult], kind: SyncKind, task: Any, context: Any, sync_id: str, name: str | None
) -> str | None:
    """Provide ``{{ sync_name }}`` for ``map_index_template``. The name is read only if the template uses it.

    :returns: the sync's name, if it is known now.
    """
    if name is None and "sync_name" in (getattr(task, "map_index_template", None) or ""):
        reporting = Reporting(send, task.execution_timeout)
        name = best_effort("name of the sync", lambda: sync_display_name(reporting.run, kind, sync_id))
    context["sync_name"] = name or sync_id  # a template with an undefined variable could fail the task
    return name


def push_summary(context: Any, summary: dict[str, Any], *, wanted: bool) -> None:
    """Push the XCom ``execution``.

    :param wanted: the task's ``do_xcom_push``.
    """
    ti = context.get("ti")
    if ti is not None and wanted:
        best_effort(f"XCom {SUMMARY_KEY!r}", lambda: ti.xcom_push(key=SUMMARY_KEY, value=summary))


def push_link(
    context: Any, hook: PolytomicHook, kind: SyncKind, sync_id: str, execution_id: str, *, wanted: bool
) -> None:
    """Push the URL that :class:`~airflow_provider_polytomic.links.PolytomicExecutionLink` shows."""
    ti = context.get("ti")

    def push() -> None:
        ti.xcom_push(key=LINK_KEY, value=hook.client.settings.execution_url(kind.name, sync_id, execution_id))

    if ti is not None and wanted:
        best_effort("link to the execution", push)


def fetch_omitted_schemas(reporting: Reporting, kind: SyncKind, sync_id: str, execution: Execution) -> Execution:
    """The execution with the schemas that a trigger event omitted for size, if they can be read."""
    from airflow_provider_polytomic.api.call import fetch

    if not getattr(execution, "schemas_omitted", 0):
        return execution
    call = kind.execution(sync_id, execution.id)
    complete: Execution | None = reporting.best_effort("list of all schemas", lambda: reporting.run(fetch(call, 1)))
    if complete is not None and (complete.id, complete.status) == (execution.id, execution.status):
        return complete
    return execution


def build_failure_message(
    reporting: Reporting, kind: SyncKind, sync_id: str, sync_name: str | None, execution: Execution, reason: str
) -> str:
    """The error message for an execution that did not succeed, with the last lines of its console log."""
    from airflow_provider_polytomic.api.executions.console_log import fetch_tail
    from airflow_provider_polytomic.api.executions.messages import format_failure

    def read_tail() -> list[str]:
        return reporting.run(fetch_tail(kind, sync_id, execution.id))

    tail = reporting.best_effort("end of the console log", read_tail) or []
    if sync_name is None:
        sync_name = reporting.best_effort("name of the sync", lambda: sync_display_name(reporting.run, kind, sync_id))
    message = reporting.best_effort(
        "details of the failure", lambda: format_failure(kind, sync_id, sync_name, execution, reason, tail)
    )
    return message or f"Execution {execution.id} of {kind.label} {sync_id} {reason}."
