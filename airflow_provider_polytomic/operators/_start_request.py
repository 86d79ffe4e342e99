"""What an operator starts: the sync, the start request made of the arguments, and the record for later tries."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from airflow_provider_polytomic._airflow import task_context, validation
from airflow_provider_polytomic.types import IfRunning

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.deferral import ExecutionEvent
    from airflow_provider_polytomic.api.executions.start_decision import ResolvedExecution, Skipped
    from airflow_provider_polytomic.api.executions.start_request import StartRequest, StoredStart
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook


class Target(NamedTuple):
    """The sync to execute, and until when.

    :param sync_name: the sync's name, if it is known.
    :param deadline: seconds since the epoch.
    :param resolved_at: when the task started, resumed or attached to its execution; None before that.
    """

    sync_id: str
    sync_name: str | None
    deadline: float | None
    resolved_at: float | None = None

    @classmethod
    def from_event(cls, event: ExecutionEvent) -> Target:
        """The target of a task that its trigger's event resumes."""
        state = event.deferral_state
        return cls(event.sync_id, state.sync_name, event.deadline, state.resolved_at)

    def require_time_left(self, sync: str, ended_id: str) -> None:
        """Check that the deadline has not passed, so that no execution is started just to be canceled.

        :param sync: the sync, as messages name it.
        :param ended_id: the execution that had to end first.
        :raises PolytomicTimeoutError: it has passed.
        """
        from airflow_provider_polytomic.api.errors import PolytomicTimeoutError

        if self.deadline is not None and time.time() >= self.deadline:
            raise PolytomicTimeoutError(
                f"The deadline passed before an execution of {sync} could be started: "
                f"execution {ended_id} had to end first"
            )


def restore_deadline(event: ExecutionEvent, kind: SyncKind, hook: PolytomicHook) -> ExecutionEvent:
    """Convert the deadline of an event to the clock of this machine, which the deferring worker's can differ from.

    The server's clock is known after one request.
    """
    from airflow_provider_polytomic.api.executions.poll import poll_execution
    from airflow_provider_polytomic.api.executions.server_clock import clock_correction

    if event.deadline is None or event.clock_difference is None:
        return event
    if hook.client.server_clock.difference is None:
        hook.client.run(poll_execution(kind, event.sync_id, str(event.execution_id)))
    correction = clock_correction(event.clock_difference, hook.client.server_clock.difference)
    return replace(event, deadline=event.deadline - correction)


def build_start_request(
    operator: Any, context: Any, tries: task_context.Tries, sync_id: str, attempts: int
) -> StartRequest:
    """Build the start request of a try from the operator's arguments.

    :param attempts: how many keys of this try are used up.
    :raises ValueError: an argument is invalid; the message begins with its name.
    """
    from airflow_provider_polytomic.api.executions.outcome import failure_reason
    from airflow_provider_polytomic.api.executions.repair import Repair
    from airflow_provider_polytomic.api.executions.start_request import StartRequest

    criteria, stored = operator._criteria(), tries.read_stored_start()
    request = StartRequest(
        kind_name=operator.kind_name,
        sync_id=sync_id,
        task=task_context.idempotency_scope(context),
        try_number=tries.number,
        first_try=tries.infer_first_try(),
        arguments=operator._get_start_arguments(),
        if_running=validation.choice("if_running", operator.if_running, get_args(IfRunning)) or "wait",
        fresh_within=validation.duration("fresh_within", operator.fresh_within),
        succeeded=lambda execution: failure_reason(execution, **criteria) is None,
        wait_for_completion=operator.wait_for_completion,
        cancel_from_before_clear=operator.cancel_on_kill,
        attempts=attempts,
        repair=Repair() if operator.retry_failed_schemas_only else None,
        sync_name=validation.blank_to_none(operator.sync_name),
    )
    # A stored start with another key is that of another mapped task, which had this index before.
    return replace(request, stored=stored) if stored and stored.key == request.key(0, 0) else request


def skip_reason(decision: Skipped, sync: str) -> str:
    """The message of a task that ``if_running='skip'`` has skipped.

    :param sync: the sync, as messages name it.
    """
    execution = decision.execution
    if execution is None:  # the server reported a conflict, but does not list the execution yet
        return f"Nothing was started: another execution of {sync} is running, and if_running='skip'"
    running = f"execution {execution.id} of {sync} has status {execution.status!r}"
    return f"Nothing was started: {running}, and if_running='skip'"


def to_stored_start(context: Any, request: StartRequest, resolved: ResolvedExecution, sync_name: Any) -> StoredStart:
    """What later tries need to know of a start.

    :param sync_name: the operator's argument.
    """
    from airflow_provider_polytomic.api.executions.start_request import StoredStart

    return StoredStart(
        try_number=resolved.try_number,
        execution_id=resolved.execution.id,
        sync_id=request.sync_id,
        key=request.key(0, 0),
        sync_name=validation.blank_to_none(sync_name),
        first_try=request.first_try,
        max_tries=task_context.max_tries(context),
        earlier_ids=resolved.repair.execution_ids,
    )
