"""The lifecycle of an operator that starts an execution of a sync: start or resume, wait or defer, judge, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import AirflowFailException, AirflowSkipException
from airflow_provider_polytomic.links import PolytomicExecutionLink
from airflow_provider_polytomic.operators._requests import ExecutionRequests

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.deferral import DeferralState, ExecutionEvent
    from airflow_provider_polytomic._airflow.task_context import Tries
    from airflow_provider_polytomic.api.executions.console_log import ConsoleLogFollower
    from airflow_provider_polytomic.api.executions.start_decision import Blocked, Decision, ResolvedExecution
    from airflow_provider_polytomic.api.executions.start_request import StartRequest
    from airflow_provider_polytomic.api.models import Execution
    from airflow_provider_polytomic.lineage import LineageRecord
    from airflow_provider_polytomic.operators._reporting import EndReport
    from airflow_provider_polytomic.operators._start_request import Target


class ExecutionOperator(ExecutionRequests):
    """Starts an execution of a sync exactly once, and waits for its end in the worker or deferred.

    A base class: each subclass sets the kind, and adds the arguments of the start.
    """

    operator_extra_links = (PolytomicExecutionLink(),)
    ui_color = "#e8e4ff"
    _tries: Tries
    _deadline_limit: str | None = None  # the argument that sets the deadline, for messages
    _may_have_started = False  # after a start, invalid arguments and rejected requests are retried
    _lineage: LineageRecord | None = None  # of the execution that has ended

    # --- the lifecycle: resolve, start or resume, wait or defer, judge, report

    def execute(self, context: Any) -> str:
        """Start an execution and wait for its end.

        :returns: the execution's id.
        """
        with self._handle_errors(context):
            return self._start_and_finish(context, self._prepare_target(context))

    def execute_complete(self, context: Any, event: Any = None) -> str:
        """Continue the task after the deferral: judge and report what the trigger event says.

        :returns: the execution's id.
        """
        from airflow_provider_polytomic._airflow.deferral import ExecutionEvent, is_stray_event
        from airflow_provider_polytomic.operators._blocking_execution import require_end_of_blocking_execution
        from airflow_provider_polytomic.operators._start_request import Target, restore_deadline

        with self._handle_errors(context):
            event = ExecutionEvent.from_payload(event)
            state = event.deferral_state
            if is_stray_event(context, state):
                return self._start_and_finish(context, self._prepare_target(context))
            if event.precedes_start:
                event = restore_deadline(event, self._kind, self._hook)
            target = self._set_map_index_name(context, Target.from_event(event))
            self._deadline_limit = state.deadline_limit
            if state.is_blocking:
                require_end_of_blocking_execution(event, self._describe(target))
                target.require_time_left(self._describe(target), str(event.execution_id))
                return self._start_and_finish(context, target, state.attempts)
            self._may_have_started = True
            execution = self._merge_ended(event.sync_id, self._handle_event(event), state.earlier_ids)
            console = self._open_console_log(event.sync_id, execution.id, event.console_cursor)
            report = self._end_wait(context, target, execution, console)
            if self._must_start_again(target, state.origin, execution):
                return self._start_and_finish(context, target)
            return self._finish(report, execution, state.origin)

    def _start_and_finish(self, context: Any, target: Target, attempts: int = 0) -> str:
        """Start or resume an execution, wait for its end, and judge it. Repeat if a resumed one was canceled.

        :param attempts: how many keys of this try are used up.
        """
        from airflow_provider_polytomic.operators._reporting import report_start

        while True:
            resolved = self._start_or_resume(context, target, attempts)
            target = report_start(self, context, target, resolved)
            console = self._open_console_log(target.sync_id, resolved.execution.id)
            if not self.wait_for_completion:
                self._ownership.release()
                return resolved.execution.id
            execution = resolved.repair.merge(self._wait_or_defer(context, target, resolved, console))
            report = self._end_wait(context, target, execution, console)
            if not self._must_start_again(target, resolved.origin, execution):
                return self._finish(report, execution, resolved.origin)
            attempts = 0

    @contextmanager
    def _handle_errors(self, context: Any) -> Iterator[None]:
        """Translate errors for Airflow, and leave no owned execution behind that no try knows of."""
        from airflow_provider_polytomic._airflow.errors import as_airflow_errors
        from airflow_provider_polytomic._airflow.task_context import Tries
        from airflow_provider_polytomic.api.errors import PolytomicTimeoutError, add_context

        self._tries, self._may_have_started = Tries(context, self.retries), False
        try:
            conn_id = self.polytomic_conn_id
            with as_airflow_errors(conn_id, lambda: self._may_have_started or self._tries.infer_is_retry()):
                yield
        except Exception as error:
            if isinstance(error, PolytomicTimeoutError) and error.limit is None and self._deadline_limit:
                add_context(error, f"The deadline is set by {self._deadline_limit}")
            owned = self._ownership.release()
            if owned is not None:
                is_final = isinstance(error, AirflowFailException)
                self._cancel_unless_next_try(owned.sync_id, owned.execution_id, is_final=is_final)
            raise

    # --- resolve

    def _prepare_target(self, context: Any) -> Target:
        """The sync by id or name. A retry takes the sync in which an earlier try started an execution."""
        from airflow_provider_polytomic._airflow.task_context import compute_deadline, find_deadline_limit, resolve_sync
        from airflow_provider_polytomic.operators._start_request import Target

        validation.require_rendered(self)
        self._validate()
        deadline = compute_deadline(self.timeout, self.execution_timeout)
        self._deadline_limit = find_deadline_limit(self.timeout, self.execution_timeout)
        sync_name, stored = validation.blank_to_none(self.sync_name), self._tries.read_start_since_clear()
        if sync_name is not None and stored is not None and stored.sync_name == sync_name:
            sync_id = stored.sync_id
        else:
            sync_id, sync_name = resolve_sync(self._run, self._kind, self.sync_id, self.sync_name, deadline)
        return self._set_map_index_name(context, Target(sync_id, sync_name, deadline))

    def _set_map_index_name(self, context: Any, target: Target) -> Target:
        from airflow_provider_polytomic._airflow.reporting import set_map_index_name

        name = set_map_index_name(self._send_and_own, self._kind, self, context, target.sync_id, target.sync_name)
        return target._replace(sync_name=name)

    # --- start or resume

    def _start_or_resume(self, context: Any, target: Target, attempts: int) -> ResolvedExecution:
        """Start, resume or attach to an execution, after every blocking one has ended.

        :raises AirflowSkipException: a foreign execution is running, and ``if_running`` is ``skip``.
        """
        from airflow_provider_polytomic.api.executions.start_decision import ResolvedExecution, Skipped
        from airflow_provider_polytomic.operators._start_request import build_start_request, skip_reason

        request = build_start_request(self, context, self._tries, target.sync_id, attempts)
        while True:
            decision = self._run_start_pass(target, request)
            if isinstance(decision, ResolvedExecution):
                self._register(context, request, decision)
                return decision
            if isinstance(decision, Skipped):
                raise AirflowSkipException(skip_reason(decision, self._describe(target)))
            self.log.info("Waiting to start %s: %s.", self._describe(target), decision.reason)
            self._wait_or_defer_for_blocking_execution(context, target, decision)
            request = replace(request, attempts=decision.attempts)

    def _run_start_pass(self, target: Target, request: StartRequest) -> Decision:
        """Run one pass of the start protocol, which may start an execution and cancel another one."""
        from airflow_provider_polytomic.api.call import with_deadline
        from airflow_provider_polytomic.api.errors import PolytomicConflictError
        from airflow_provider_polytomic.api.executions.start import start_or_resume
        from airflow_provider_polytomic.api.executions.start_decision import ResolvedExecution
        from airflow_provider_polytomic.api.syncs.destination import with_argument_hints

        self._starting_sync_id = target.sync_id
        plan = with_argument_hints(start_or_resume(request), target.sync_id, request.arguments)
        try:
            milestone = f"an execution of {self._describe(target)} could be started"
            decision: Decision = self._run(with_deadline(target.deadline, plan, milestone))
        except PolytomicConflictError:
            self._ownership.release()  # the executions of earlier tries have ended
            raise
        if not isinstance(decision, ResolvedExecution) or not decision.is_owned:
            self._ownership.release()  # the execution of a replayed key has ended
        return decision

    def _register(self, context: Any, request: StartRequest, resolved: ResolvedExecution) -> None:
        """Own the execution, and store its start for later tries, unless a foreign one was attached to."""
        from airflow_provider_polytomic.operators._start_request import to_stored_start

        self._may_have_started = True
        if resolved.is_owned:
            self._ownership.acquire(self._hook.client.settings, request.sync_id, resolved.execution.id)
            self._tries.store(to_stored_start(context, request, resolved, self.sync_name))

    # --- wait or defer

    def _wait_or_defer_for_blocking_execution(self, context: Any, target: Target, decision: Blocked) -> None:
        from airflow_provider_polytomic._airflow.deferral import DeferralState
        from airflow_provider_polytomic.api.executions.wait import wait_for_execution
        from airflow_provider_polytomic.operators import _blocking_execution

        sync_id, execution = target.sync_id, decision.execution
        if self.deferrable:
            state = DeferralState(sync_name=target.sync_name, is_blocking=True, attempts=decision.attempts)
            self._defer(context, target, execution.id, state, execution)
        plan = wait_for_execution(
            self._kind,
            sync_id,
            execution.id,
            sync_name=target.sync_name,
            is_blocking=True,
            poke_interval=self.poke_interval,
            deadline=target.deadline,
        )
        _blocking_execution.wait_for_blocking_execution(self._run, plan, execution.id, self._describe(target))
        target.require_time_left(self._describe(target), execution.id)

    def _wait_or_defer(
        self, context: Any, target: Target, resolved: ResolvedExecution, console: ConsoleLogFollower | None
    ) -> Execution:
        """Wait for the end of the task's execution in the worker, or defer unless it has ended already."""
        from airflow_provider_polytomic._airflow.deferral import DeferralState
        from airflow_provider_polytomic.api.errors import PolytomicTimeoutError
        from airflow_provider_polytomic.api.executions.poll import poll_execution
        from airflow_provider_polytomic.api.executions.wait import wait_for_execution

        execution_id = resolved.execution.id
        if self.deferrable:
            seen: Execution | None = self._run(poll_execution(self._kind, target.sync_id, execution_id)).value
            if seen is not None and seen.is_terminal:
                return seen
            earlier_ids = resolved.repair.execution_ids
            state = DeferralState(sync_name=target.sync_name, origin=resolved.origin, earlier_ids=earlier_ids)
            self._defer(context, target, execution_id, state, seen)
        plan = wait_for_execution(
            self._kind,
            target.sync_id,
            execution_id,
            sync_name=target.sync_name,
            poke_interval=self.poke_interval,
            deadline=target.deadline,
            cancel_at_deadline=self.cancel_on_kill and resolved.is_owned,
            queue_timeout=self._get_queue_timeout(is_owned=resolved.is_owned),
            console=console,
        )
        try:
            ended: Execution = self._run(plan)
        except PolytomicTimeoutError:
            self._ownership.release()  # the wait has tried to cancel it, unless cancel_on_kill is False
            raise
        return ended

    def _defer(
        self, context: Any, target: Target, execution_id: str, state: DeferralState, seen: Execution | None
    ) -> NoReturn:
        from airflow_provider_polytomic._airflow.deferral import create_trigger

        cancels = state.is_owned and self.cancel_on_kill
        trigger = create_trigger(
            context,
            self._kind,
            target.sync_id,
            execution_id,
            self._hook.polytomic_conn_id,
            self.poke_interval,
            seen=seen,
            deadline=target.deadline,
            clock_difference=self._hook.client.server_clock.difference,
            cancel_at_deadline=cancels,
            queue_timeout=self._get_queue_timeout(is_owned=state.is_owned),
            cancel_on_kill=cancels,
            log_console=self.log_console and not state.is_blocking,
            deferral_state=replace(state, resolved_at=target.resolved_at, deadline_limit=self._deadline_limit),
        )
        if state.is_blocking:
            text = "Deferred: the triggerer waits for the end of blocking execution %s. Then this task starts its own."
        else:
            text = "Deferred: the triggerer waits for the end of execution %s."
        self.log.info(text, execution_id)
        self._ownership.release()  # from here on the trigger cancels it, if necessary
        self.defer(trigger=trigger, method_name="execute_complete", timeout=None)

    def _handle_event(self, event: ExecutionEvent) -> Execution:
        """The execution that a trigger event reports as ended.

        :raises PolytomicError: the trigger reports a timeout or an error. An owned execution that may still run is
            released to the next try, or canceled.
        """
        from airflow_provider_polytomic.api.errors import PolytomicNotFoundError
        from airflow_provider_polytomic.operators._ownership import cancel_if_possible

        if event.outcome == "ended":
            return event.read_execution(self._kind)
        sync_id, execution_id = event.sync_id, str(event.execution_id)
        owned = event.still_running and event.deferral_state.is_owned
        if event.outcome == "timeout":
            if owned and self.cancel_on_kill:
                reason = f"{event.limit or 'its deadline'} has passed"
                cancel_if_possible(self._run, self._kind, sync_id, execution_id, reason)
            raise event.read_timeout()
        error = event.read_error()
        if owned:
            # An execution that was not found fails the task without further tries.
            is_final = isinstance(error, PolytomicNotFoundError)
            self._cancel_unless_next_try(sync_id, execution_id, is_final=is_final)
        raise error

    # --- judge and report

    def _merge_ended(self, sync_id: str, execution: Execution, earlier_ids: list[str]) -> Execution:
        """Merge an execution that has ended with those of earlier tries that count together with it."""
        if not earlier_ids:
            return execution
        from airflow_provider_polytomic.api.executions.repair import merge_ended

        merged: Execution = self._run(merge_ended(self._kind, sync_id, execution, earlier_ids))
        return merged

    def _end_wait(
        self, context: Any, target: Target, execution: Execution, console: ConsoleLogFollower | None
    ) -> EndReport:
        """Release an execution that has ended, and log the rest of its console log.

        :returns: what reports its end.
        """
        from airflow_provider_polytomic.operators._reporting import EndReport

        self._ownership.release()
        report = EndReport(self, context, target, execution)
        report.finish_console_log(console)
        return report

    def _must_start_again(self, target: Target, origin: str | None, execution: Execution) -> bool:
        """Whether an earlier try started the execution, and it was canceled. A late kill of that try may have done so.

        :raises PolytomicTimeoutError: it was, and the deadline has passed.
        """
        if origin != "resumed" or execution.status != "canceled":
            return False
        target.require_time_left(self._describe(target), execution.id)
        subject = f"Execution {execution.id} of {self._describe(target)}"
        self.log.info("%s, which an earlier try started, was canceled. Starting a new one.", subject)
        return True

    def _finish(self, report: EndReport, execution: Execution, origin: str | None) -> str:
        """Judge an execution that has ended, and report on it.

        :param origin: how the task came to it: one of :data:`~.deferral.ORIGINS`.

        :returns: the execution's id.
        :raises PolytomicSyncError: the execution did not succeed.
        """
        from airflow_provider_polytomic.api.executions.outcome import failure_reason

        reason = failure_reason(execution, **self._criteria())
        report.push_summary(origin)
        if origin != "fresh":  # it was counted when it ended
            report.send_metrics(has_failed=reason is not None)
        if reason is not None:
            raise report.report_failure(reason)
        report.report_success(origin)
        return execution.id

    def _open_console_log(
        self, sync_id: str, execution_id: str, cursor: str | None = None
    ) -> ConsoleLogFollower | None:
        from airflow_provider_polytomic.api.executions.console_log import ConsoleLogFollower

        return ConsoleLogFollower(self._kind, sync_id, execution_id, cursor) if self.log_console else None

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002  OpenLineage's signature
        """The lineage for OpenLineage: the tables that were read and written, the rows, and the execution's id."""
        from airflow_provider_polytomic.lineage import build_lineage

        return build_lineage(self._lineage)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """The lineage of a task that failed, with its error message."""
        return self.get_openlineage_facets_on_complete(task_instance)

    def _cancel_unless_next_try(self, sync_id: str, execution_id: str, *, is_final: bool) -> None:
        """Leave an owned execution to the next try, or cancel it if there is none.

        :param is_final: whether the error ends the task, however many tries are left.
        """
        from airflow_provider_polytomic.operators._ownership import cancel_unless_next_try

        has_next_try = self._tries.has_next and not is_final
        cancel_unless_next_try(self._run, self._kind, sync_id, execution_id, has_next_try, self.cancel_on_kill)
