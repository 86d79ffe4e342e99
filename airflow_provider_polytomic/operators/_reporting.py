"""What an operator reports of its execution: XComs at the start, and all of its end. No report changes the result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic import assets
from airflow_provider_polytomic._airflow import reporting
from airflow_provider_polytomic._airflow.deferral import OWNED_ORIGINS

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.errors import PolytomicSyncError
    from airflow_provider_polytomic.api.executions.console_log import ConsoleLogFollower
    from airflow_provider_polytomic.api.executions.start_decision import ResolvedExecution
    from airflow_provider_polytomic.api.executions.tables import WrittenTable
    from airflow_provider_polytomic.api.models import Execution
    from airflow_provider_polytomic.operators._start_request import Target


def format_arguments(arguments: dict[str, Any]) -> str:
    """The arguments of a start for a log line; of identities only the number, because they are personal data."""
    from airflow_provider_polytomic.api.text import printable

    given = {name: value for name, value in arguments.items() if value}
    shown = {name: len(value) if name.endswith("identities") else value for name, value in given.items()}
    return f" with {printable(shown, 500)}" if shown else ""


def report_start(operator: Any, context: Any, target: Target, resolved: ResolvedExecution) -> Target:
    """Log and count the start of an execution, and push its XComs: the summary, and the link to it.

    :returns: the target, with the time from which the task waits.
    """
    from airflow_provider_polytomic._airflow import metrics
    from airflow_provider_polytomic.api.executions.summary import summarize

    kind, sync_id, execution = operator._kind, target.sync_id, resolved.execution
    verb, addition = {
        "started": ("Started", format_arguments(resolved.repair.narrow(operator._get_start_arguments()))),
        "resumed": ("Resumed", f", which try {resolved.try_number} of this task started"),
        "attached": ("Attached to", ", which this task did not start (if_running='attach')"),
        "fresh": ("Adopted", f", which completed at {execution.completed_at} (fresh_within={operator.fresh_within!r})"),
    }[resolved.origin]
    sync = kind.describe(sync_id, target.sync_name)
    operator.log.info("%s execution %s of %s%s.", verb, execution.id, sync, addition)
    wanted = operator.do_xcom_push
    summary = summarize(sync_id, resolved.repair.merge(execution), adopted=not resolved.is_owned)
    reporting.push_summary(context, summary, wanted=wanted)
    reporting.push_link(context, operator._hook, kind, sync_id, execution.id, wanted=wanted)
    metrics.record_start(context, kind.name, resolved.origin)
    return target._replace(resolved_at=time.time())


class EndReport:
    """Reports the end of an operator's execution, within the time that :class:`~.reporting.Reporting` allows.

    :param execution: the execution that has ended.
    """

    def __init__(self, operator: Any, context: Any, target: Target, execution: Execution) -> None:
        self._operator = operator
        self._context = context
        self._sync_id = target.sync_id
        self._sync_name = target.sync_name
        self._resolved_at = target.resolved_at
        self._execution = execution
        self._reporting = reporting.Reporting(operator._send_and_own, operator.execution_timeout)

    def finish_console_log(self, console: ConsoleLogFollower | None) -> None:
        """Log what is left of the console log, if it is logged."""
        if console is not None:
            self._best_effort("rest of the console log", lambda: self._reporting.run(console.follow_to_end()))

    def push_summary(self, origin: str | None) -> None:
        """Push the XCom ``execution``. Schemas that a trigger event omitted are read for the reports after it.

        :param origin: how the task came to the execution: one of :data:`~.deferral.ORIGINS`.
        """
        from airflow_provider_polytomic.api.executions.summary import summarize

        def push() -> None:
            summary = summarize(self._sync_id, self._execution, adopted=origin not in OWNED_ORIGINS)
            reporting.push_summary(self._context, summary, wanted=self._operator.do_xcom_push)

        self._best_effort("summary", push)
        self._execution = reporting.fetch_omitted_schemas(
            self._reporting, self._operator._kind, self._sync_id, self._execution
        )

    def send_metrics(self, *, has_failed: bool) -> None:
        """Count the execution, its records and its errors, if Airflow sends metrics."""
        from airflow_provider_polytomic._airflow import metrics

        kind, since = self._operator._kind.name, self._resolved_at
        execution = self._execution.unmerged  # earlier tries have counted the executions that are merged
        waited = None if since is None else max(time.time() - since, 0.0)
        self._best_effort(
            "metrics",
            lambda: metrics.record_end(self._context, kind, execution, has_failed=has_failed, waited=waited),
        )

    def report_success(self, origin: str | None) -> None:
        """Log the success, and report the tables that were written: as lineage, and as asset events.

        Not for a fresh execution: it wrote them before this task began.
        """
        from airflow_provider_polytomic.api.executions.messages import format_merged, format_progress

        execution, operator = self._execution, self._operator
        sync = operator._kind.describe(self._sync_id, self._sync_name)
        counts = format_progress(execution) + format_merged(execution)
        operator.log.info("Execution %s of %s succeeded: %s.", execution.id, sync, counts)
        if origin == "fresh":
            return
        self._best_effort("lineage", self._record_lineage)
        self._best_effort("asset events", self._emit_asset_events)

    def report_failure(self, reason: str) -> PolytomicSyncError:
        """Record the failure in the lineage.

        :returns: the error to raise.
        """
        from airflow_provider_polytomic.api.errors import PolytomicSyncError

        kind = self._operator._kind
        message = reporting.build_failure_message(
            self._reporting, kind, self._sync_id, self._sync_name, self._execution, reason
        )
        self._best_effort("lineage", lambda: self._record_lineage(failure=message))
        return PolytomicSyncError(message, self._execution)

    def _emit_asset_events(self) -> None:
        """Add an asset event for each table. Airflow stores them when the task has ended."""
        from airflow_provider_polytomic.api.executions.tables import written_tables

        operator, has_outlets = self._operator, self._context.get("outlet_events") is not None
        if operator.assets is False or not has_outlets or operator._get_start_arguments().get("test"):
            return
        tables = self._reporting.run(written_tables(self._sync_id, self._execution, self._base_url))
        self._record_lineage(tables)
        alias = operator._alias
        if alias not in operator.outlets:
            # The task got its DAG or its final id after __init__, and Airflow takes events through outlets only.
            operator.outlets.append(alias)
        assets.emit_events(self._context, alias, operator.assets, tables, self._execution, self._reporting)

    def _record_lineage(self, written: list[WrittenTable] | None = None, failure: str | None = None) -> None:
        """Record what OpenLineage may read when the task has ended.

        :param written: the tables that were written; None if they were not looked up.
        """
        from airflow_provider_polytomic.lineage import LineageRecord

        self._operator._lineage = LineageRecord(self._sync_id, self._execution, self._base_url, written, failure)

    @property
    def _base_url(self) -> str:
        base_url: str = self._operator._hook.client.settings.base_url
        return base_url

    def _best_effort(self, report: str, step: Any) -> None:
        self._reporting.best_effort(report, step)
