"""Base class of the sensors, which wait for executions that their task did not start."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    default_deferrable,
    is_expanded_argument,
)
from airflow_provider_polytomic.links import PolytomicExecutionLink
from airflow_provider_polytomic.types import Resolvable

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.compat import PlainXComArg
    from airflow_provider_polytomic.api.executions.outage import OutageTracker
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.api.models import Execution
    from airflow_provider_polytomic.api.plan import Request, SendResult
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook


class ExecutionSensor(BaseSensorOperator):
    """Waits until an execution has ended, and checks its outcome. It never cancels an execution.

    Abstract: subclasses set ``kind_name``.
    """

    kind_name: ClassVar[str]  # of the sync: "bulk" or "model"
    sync_id: str | None
    sync_name: str | None
    execution_id: str | None
    completed_after: datetime | str | None
    allow_errors: bool | int | float
    polytomic_conn_id: str
    deferrable: bool
    operator_extra_links = (PolytomicExecutionLink(),)
    ui_color = "#f1eeff"
    if TYPE_CHECKING:

        @property
        def output(self) -> PlainXComArg:  # Airflow declares a type without ``output["execution"]``
            ...

    def __init__(
        self,
        *,
        sync_id: str | Resolvable | None = None,
        sync_name: str | Resolvable | None = None,
        execution_id: str | Resolvable | None = None,
        completed_after: datetime | str | Resolvable | None = None,
        allow_errors: bool | int | float | str | Resolvable = False,
        polytomic_conn_id: str | Resolvable = validation.DEFAULT_CONN_ID,
        deferrable: bool = default_deferrable(),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        validation.set_attributes(
            self,
            sync_id=sync_id,
            sync_name=sync_name,
            execution_id=execution_id,
            completed_after=completed_after,
            allow_errors=allow_errors,
            polytomic_conn_id=polytomic_conn_id,
            deferrable=validation.flag("deferrable", deferrable),
        )
        if validation.seconds("poke_interval", self.poke_interval) is None:
            raise ValueError("poke_interval must be more than 0 seconds, not None")
        self._validate()
        # State of the pokes in one process. In mode "reschedule", each poke runs in a new one.
        self._first_poke_date: datetime | None = None
        self._clock_difference: float | None = None  # server time minus local time
        self._sync: tuple[str, str | None] | None = None
        self._outage: OutageTracker | None = None
        self._has_execution_id_template = validation.is_templated(execution_id)
        self._execution_id: str | None = None  # once found, it stays, even if its end is before completed_after
        self._has_response = False
        self._linked_execution_id: str | None = None

    def _validate(self) -> None:
        """Validate the arguments that are known so far; templates are validated when they are rendered.

        :raises ValueError: an argument is invalid. The message names it.
        """
        validation.exactly_one("sync_id", self.sync_id, "sync_name", self.sync_name)
        known = validation.validate_known(self, _CHECKS)
        if known.get("execution_id") is not None and known.get("completed_after") is not None:
            raise ValueError("execution_id and completed_after exclude each other: pass only one of them")
        if not validation.is_templated(self.allow_errors):
            validation.error_limit("allow_errors", self.allow_errors)

    # --- called by Airflow

    def execute(self, context: Any) -> Any:
        """Wait for the execution, in the worker or deferred.

        :returns: the id of the execution.
        """
        from airflow_provider_polytomic._airflow.errors import as_airflow_errors

        with self._skip_on_failure():
            if not self.deferrable:
                return super().execute(context)
            with as_airflow_errors(self.polytomic_conn_id, lambda: self._has_response):
                return self._poll_or_defer(context)

    def poke(self, context: Any) -> PokeReturnValue:
        """Poll once, and finish when the execution has ended."""
        from airflow_provider_polytomic._airflow.errors import as_airflow_errors

        with as_airflow_errors(self.polytomic_conn_id, lambda: self._has_response):
            sync_id, sync_name = self._resolve_sync(context)
            execution = self._poll(context, sync_id)
            if execution is None or not execution.is_terminal:
                return PokeReturnValue(is_done=False)
            return PokeReturnValue(is_done=True, xcom_value=self._finish(context, sync_id, sync_name, execution))

    def execute_complete(self, context: Any, event: Any = None) -> Any:
        """Continue the task after the deferral: judge and report what the trigger event says.

        :returns: the id of the execution.
        """
        from airflow_provider_polytomic._airflow.deferral import ExecutionEvent, is_stray_event
        from airflow_provider_polytomic._airflow.errors import as_airflow_errors

        with self._skip_on_failure(), as_airflow_errors(self.polytomic_conn_id, lambda: True):
            event = ExecutionEvent.from_payload(event, may_lack_execution=True)
            state = event.deferral_state
            if is_stray_event(context, state, any_try=True):
                return self._poll_or_defer(context)
            if event.outcome == "timeout":
                raise _timeout_error(state.deadline_limit, event.message)
            if event.outcome == "error":
                raise event.read_error()
            sync_name = self._set_map_index_name(context, event.sync_id, state.sync_name)
            execution = event.read_execution(self._kind)
            self._push_link(context, event.sync_id, execution.id)
            return self._finish(context, event.sync_id, sync_name, execution)

    # --- polling

    def _poll_or_defer(self, context: Any) -> Any:
        from airflow_provider_polytomic._airflow.deferral import DeferralState, create_trigger

        deadline, deadline_limit = self._deadline()
        sync_id, sync_name = self._resolve_sync(context)
        execution = self._poll(context, sync_id)
        if execution is not None and execution.is_terminal:
            return self._finish(context, sync_id, sync_name, execution)
        if time.time() >= deadline:
            raise _timeout_error(deadline_limit, f"{self._subject(sync_id)} had not ended at the deadline")
        return self.defer(
            trigger=create_trigger(
                context,
                self._kind,
                sync_id,
                self._known_id,
                self._hook.polytomic_conn_id,
                self.poke_interval,
                deadline=deadline,
                clock_difference=self._hook.client.server_clock.difference,
                after=self._get_completed_after(context).isoformat(),
                seen=execution,
                deferral_state=DeferralState(sync_name=sync_name, deadline_limit=deadline_limit),
            ),
            method_name="execute_complete",
            timeout=None,
        )

    def _deadline(self) -> tuple[float, str]:
        """Return when a deferred sensor times out (seconds since the epoch), and the argument that sets it."""
        from airflow_provider_polytomic._airflow.task_context import compute_deadline, find_deadline_limit

        limits = self.timeout, self.execution_timeout
        return cast("float", compute_deadline(*limits)), cast("str", find_deadline_limit(*limits))  # timeout is set

    def _resolve_sync(self, context: Any) -> tuple[str, str | None]:
        validation.require_rendered(self)
        self._validate()
        self._require_execution_id()
        if self._sync is None:
            from airflow_provider_polytomic._airflow.task_context import resolve_sync

            sync_id, name = resolve_sync(self._run_plan, self._kind, self.sync_id, self.sync_name)
            self._sync = sync_id, self._set_map_index_name(context, sync_id, name)
        return self._sync

    def _require_execution_id(self) -> None:
        """Reject an ``execution_id`` that rendered to nothing: the sensor would wait for an execution of others.

        :raises ValueError: it did. ``.expand()`` replaces templates before ``__init__``, so None counts as one there.
        """
        if validation.blank_to_none(self.execution_id) is not None:
            return
        if self._has_execution_id_template or is_expanded_argument(self, "execution_id"):
            raise ValueError(
                f"execution_id rendered to nothing ({self.execution_id!r}); does the task that starts the sync run "
                "before this one, and is its task id right? To wait for the next execution, do not set execution_id"
            )

    def _set_map_index_name(self, context: Any, sync_id: str, sync_name: str | None) -> str | None:
        from airflow_provider_polytomic._airflow.reporting import set_map_index_name

        return set_map_index_name(self._send, self._kind, self, context, sync_id, sync_name)

    def _get_completed_after(self, context: Any) -> datetime:
        """Return the time before which executions are ignored: ``completed_after``, or the first poke.

        The latter is a time of the server's clock, as soon as that is known.
        """
        from airflow_provider_polytomic.api.executions.server_clock import clock_correction

        given = _completed_after("completed_after", self.completed_after)
        if given is not None:
            return given
        if self._clock_difference is None:
            self._clock_difference = self._hook.client.server_clock.difference
        return self._get_first_poke_date(context) + timedelta(seconds=clock_correction(0.0, self._clock_difference))

    def _get_first_poke_date(self, context: Any) -> datetime:
        if self._first_poke_date is None:
            self._first_poke_date = _first_reschedule(context) if self.reschedule else None
            self._first_poke_date = self._first_poke_date or datetime.fromtimestamp(time.time(), timezone.utc)
        return self._first_poke_date

    @property
    def _known_id(self) -> str | None:
        return self._execution_id or validation.identifier("execution_id", self.execution_id)

    def _subject(self, sync_id: str) -> str:
        execution_id = self._known_id
        which = f"Execution {execution_id}" if execution_id else "The next execution"
        return f"{which} of {self._describe(sync_id)}"

    def _describe(self, sync_id: str) -> str:
        return self._kind.describe(sync_id, self._sync[1] if self._sync else None)

    def _poll(self, context: Any, sync_id: str) -> Execution | None:
        """Request the execution; None while there is none, or while the API does not respond."""
        from airflow_provider_polytomic.api.executions.messages import format_progress
        from airflow_provider_polytomic.api.executions.outage import OutageTracker
        from airflow_provider_polytomic.api.executions.poll import poll_execution, poll_next_execution

        if self._outage is None:
            now = time.time()
            waiting_since = min(now, self._get_first_poke_date(context).timestamp()) if self.reschedule else now
            self._outage = OutageTracker(self._subject(sync_id), self.poke_interval, waiting_since, fixed_interval=True)
        execution_id = self._known_id
        while True:
            after = self._get_completed_after(context)
            plan = (
                poll_execution(self._kind, sync_id, execution_id)
                if execution_id
                else poll_next_execution(self._kind, sync_id, after)
            )
            poll = self._run_plan(plan)
            if poll.error is None:
                if execution_id or after == self._get_completed_after(context):
                    break
                continue  # the first response has shown that the server's clock differs
            if self._run_plan(self._outage.record_failure(poll, time.time())):
                return None
            # Poll again at once: the connection was read again, and the next poke may be in another process.
        self._outage.record_success()
        self._has_response = True
        execution: Execution | None = poll.value
        if execution is None:
            self.log.info("No execution of %s has started yet.", self._describe(sync_id))
        else:
            self._execution_id = execution.id
            self.log.info("%s: %s", self._subject(sync_id), format_progress(execution))
            self._push_link(context, sync_id, execution.id)
        return execution

    def _push_link(self, context: Any, sync_id: str, execution_id: str) -> None:
        from airflow_provider_polytomic._airflow.reporting import push_link

        if execution_id != self._linked_execution_id:
            self._linked_execution_id = execution_id
            push_link(context, self._hook, self._kind, sync_id, execution_id, wanted=self.do_xcom_push)

    def _finish(self, context: Any, sync_id: str, sync_name: str | None, execution: Execution) -> str:
        from airflow_provider_polytomic._airflow import reporting as _reporting
        from airflow_provider_polytomic._airflow.errors import final_error
        from airflow_provider_polytomic.api.errors import PolytomicSyncError
        from airflow_provider_polytomic.api.executions.messages import format_progress
        from airflow_provider_polytomic.api.executions.outcome import failure_reason
        from airflow_provider_polytomic.api.executions.summary import summarize

        reporting, wanted = _reporting.Reporting(self._send, self.execution_timeout), self.do_xcom_push
        reason = failure_reason(execution, allow_errors=validation.error_limit("allow_errors", self.allow_errors))
        reporting.best_effort(
            "summary",
            lambda: _reporting.push_summary(context, summarize(sync_id, execution), wanted=wanted),
        )
        if reason is None:
            sync = self._kind.describe(sync_id, sync_name)
            self.log.info("Execution %s of %s succeeded: %s.", execution.id, sync, format_progress(execution))
            return execution.id
        # No retry: it would find the same outcome. Only the task that started the execution can start another one.
        message = _reporting.build_failure_message(reporting, self._kind, sync_id, sync_name, execution, reason)
        raise final_error(PolytomicSyncError(message, execution))

    @contextmanager
    def _skip_on_failure(self) -> Iterator[None]:
        """Apply ``soft_fail`` and ``never_fail`` in all modes. The base class applies them only to errors of a poke."""
        try:
            yield
        except (AirflowSkipException, AirflowRescheduleException):
            raise
        except (Exception, AirflowTaskTimeout) as error:
            is_final = isinstance(error, AirflowFailException | AirflowSensorTimeout | AirflowTaskTimeout)
            if self.never_fail or (self.soft_fail and is_final):
                raise AirflowSkipException(str(error)) from error
            raise

    @cached_property
    def _hook(self) -> PolytomicHook:
        from airflow_provider_polytomic._airflow.task_context import create_hook

        return create_hook(self.polytomic_conn_id)

    @property
    def _kind(self) -> SyncKind:
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        return get_sync_kind(self.kind_name)

    def _run_plan(self, plan: Any) -> Any:
        return self._hook.client.run(plan)

    def _send(self, request: Request) -> SendResult:
        return self._hook.client.send(request)


def _completed_after(name: str, value: Any) -> datetime | None:
    return None if validation.blank_to_none(value) is None else validation.timestamp(name, value)


_CHECKS: dict[str, validation.Check] = {
    "sync_id": validation.identifier,
    "execution_id": validation.identifier,
    "completed_after": _completed_after,
}


def _timeout_error(deadline_limit: str | None, message: str) -> BaseException:
    """Create the error that is raised in the other modes, too. Airflow retries only an ``execution_timeout``."""
    is_execution_timeout = (deadline_limit or "").startswith("execution_timeout")
    message += f". The deadline is set by {deadline_limit}" if deadline_limit else ""
    return (AirflowTaskTimeout if is_execution_timeout else AirflowSensorTimeout)(message)


def _first_reschedule(context: Any) -> datetime | None:
    """Return the date of a rescheduled sensor's first poke; None during that poke."""
    ti = context.get("ti")
    get_date = getattr(ti, "get_first_reschedule_date", None)
    date = get_date(context) if callable(get_date) else getattr(ti, "start_date", None)
    return date if isinstance(date, datetime) else None
