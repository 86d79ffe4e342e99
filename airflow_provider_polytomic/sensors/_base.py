"""The sensor that waits for an execution which somebody else started, for either kind of sync."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_polytomic._airflow import deferral, validation
from airflow_provider_polytomic._airflow.compat import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    default_deferrable,
)
from airflow_provider_polytomic.links import PolytomicExecutionLink

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.executions.outage import OutageTracker
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.api.models import Execution
    from airflow_provider_polytomic.api.plan import Request, SendResult
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook


class ExecutionSensor(BaseSensorOperator):
    """Waits for the end of an execution, and judges it. Never cancels anything: it did not start it.

    Not to be used itself: a subclass names the kind.
    """

    kind: ClassVar[str]
    operator_extra_links = (PolytomicExecutionLink(),)
    ui_color = "#f1eeff"

    def __init__(
        self,
        *,
        sync_id: str | None = None,
        sync_name: str | None = None,
        execution_id: str | None = None,
        completed_after: datetime | str | None = None,
        allow_errors: bool | int | float = False,
        polytomic_conn_id: str = validation.DEFAULT_CONN_ID,
        deferrable: bool = default_deferrable(),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sync_id = sync_id
        self.sync_name = sync_name
        self.execution_id = execution_id
        self.completed_after = completed_after
        self.allow_errors = allow_errors
        self.polytomic_conn_id = polytomic_conn_id
        self.deferrable = validation.flag("deferrable", deferrable)
        if validation.seconds("poke_interval", self.poke_interval) is None:
            raise ValueError("poke_interval must be more than 0 seconds, not None")
        self._check()
        # Kept over the pokes of one process; a rescheduled poke asks Airflow, or begins anew.
        self._began: datetime | None = None
        self._sync: tuple[str, str | None] | None = None
        self._outage: OutageTracker | None = None
        self._execution_id: str | None = None  # once seen, it is this one, whatever clocks say of its end
        self._answered = False
        self._linked: str | None = None

    def _check(self) -> None:
        """Refuse bad arguments.

        :raises ValueError: naming the argument.
        """
        validation.exactly_one("sync_id", self.sync_id, "sync_name", self.sync_name)
        known = validation.validate_known(self, _CHECKS)
        if known.get("execution_id") is not None and known.get("completed_after") is not None:
            raise ValueError("give either execution_id or completed_after: both given")
        if not validation.is_templated(self.allow_errors):
            validation.error_limit("allow_errors", self.allow_errors)

    # --- what Airflow calls

    def execute(self, context: Any) -> Any:
        """Wait: in the worker, poke by poke, or deferred.

        :returns: the execution's id.
        """
        with self._skips():
            if not self.deferrable:
                return super().execute(context)
            with deferral.as_airflow_errors(lambda: self._answered):
                return self._begin_deferrable(context)

    def poke(self, context: Any) -> PokeReturnValue:
        """Poll once."""
        with deferral.as_airflow_errors(lambda: self._answered):
            sync_id, sync_name = self._resolved(context)
            execution = self._look(context, sync_id, self._after(context))
            if execution is None or not execution.is_terminal:
                return PokeReturnValue(is_done=False)
            return PokeReturnValue(is_done=True, xcom_value=self._finish(context, sync_id, sync_name, execution))

    def execute_complete(self, context: Any, event: Any = None) -> Any:
        """Go on when the trigger has fired."""
        with self._skips(), deferral.as_airflow_errors(lambda: True):
            event = deferral.read_event(event, may_know_none=True)
            if deferral.is_foreign_event(context, event, of_any_try=True):
                return self._begin_deferrable(context)
            if event["outcome"] == "timeout":
                raise _timeout_error(event["notes"].get("deadline_of"), str(event.get("message")))
            if event["outcome"] == "error":
                raise deferral.error_from_event(event)
            sync_name = self._label(context, event["sync_id"], event["notes"].get("sync_name"))
            execution = deferral.execution_from_event(self._kind, event)
            self._link(context, event["sync_id"], execution.id)
            return self._finish(context, event["sync_id"], sync_name, execution)

    # --- looking

    def _begin_deferrable(self, context: Any) -> Any:
        deadline, deadline_of = self._deadline()
        sync_id, sync_name = self._resolved(context)
        after = self._after(context)
        execution = self._look(context, sync_id, after)
        if execution is not None and execution.is_terminal:
            return self._finish(context, sync_id, sync_name, execution)
        if time.time() >= deadline:
            raise _timeout_error(deadline_of, f"{self._subject(sync_id)} had not ended at the deadline")
        return self.defer(
            trigger=deferral.create_trigger(
                context,
                self._kind,
                sync_id,
                self._known_id,
                self._hook.polytomic_conn_id,
                self.poke_interval,
                deadline=deadline,
                after=after.isoformat(),
                seen=execution,
                notes={"sync_name": sync_name, "deadline_of": deadline_of},
            ),
            method_name="execute_complete",
            timeout=None,
        )

    def _deadline(self) -> tuple[float, str]:
        """When a deferred sensor gives up, in seconds since the epoch, and the argument that says so."""
        limits: dict[str, tuple[float | None, timedelta | None]] = {
            "timeout": (self.timeout, None),
            "execution_timeout": (None, self.execution_timeout),
        }
        deadlines = {name: deferral.deadline(*limit) for name, limit in limits.items()}
        return min((deadline, name) for name, deadline in deadlines.items() if deadline is not None)

    def _resolved(self, context: Any) -> tuple[str, str | None]:
        validation.require_rendered(self)
        self._check()
        if self._sync is None:
            sync_id, name = deferral.resolve_sync(self._carry_out, self._kind, self.sync_id, self.sync_name)
            self._sync = sync_id, self._label(context, sync_id, name)
        return self._sync

    def _label(self, context: Any, sync_id: str, sync_name: str | None) -> str | None:
        return deferral.set_map_index_name(self._send, self._kind, self, context, sync_id, sync_name)

    def _after(self, context: Any) -> datetime:
        """From when on an execution counts; by default from the first poke on."""
        return _completed_after("completed_after", self.completed_after) or self._first_poke(context)

    def _first_poke(self, context: Any) -> datetime:
        if self._began is None:
            self._began = _first_reschedule(context) if self.reschedule else None
            self._began = self._began or datetime.now(timezone.utc)
        return self._began

    @property
    def _known_id(self) -> str | None:
        return self._execution_id or validation.identifier("execution_id", self.execution_id)

    def _subject(self, sync_id: str) -> str:
        execution_id = self._known_id
        which = f"Execution {execution_id}" if execution_id else "The next execution"
        return f"{which} of {self._kind.describe(sync_id)}"

    def _look(self, context: Any, sync_id: str, after: datetime) -> Execution | None:
        """The execution that is waited for; None while there is none, or no answer."""
        from airflow_provider_polytomic.api.executions.messages import format_progress
        from airflow_provider_polytomic.api.executions.outage import OutageTracker
        from airflow_provider_polytomic.api.executions.poll import poll_execution, poll_next_execution

        if self._outage is None:
            now = time.time()
            since = min(now, self._first_poke(context).timestamp()) if self.reschedule else now
            self._outage = OutageTracker(self._subject(sync_id), self.poke_interval, since, fixed_interval=True)
        execution_id = self._known_id
        while True:
            plan = (
                poll_execution(self._kind, sync_id, execution_id)
                if execution_id
                else poll_next_execution(self._kind, sync_id, after)
            )
            poll = self._carry_out(plan)
            if poll.error is None:
                break
            if self._carry_out(self._outage.record_failure(poll, time.time())):
                return None
            # No delay: the connection was read again, and the next poke may be another process.
        self._outage.record_success()
        self._answered = True
        execution: Execution | None = poll.value
        if execution is None:
            self.log.info("No execution of %s %s has begun yet", self._kind.label, sync_id)
        else:
            self._execution_id = execution.id
            self.log.info("Execution %s: %s", execution.id, format_progress(execution))
            self._link(context, sync_id, execution.id)
        return execution

    def _link(self, context: Any, sync_id: str, execution_id: str) -> None:
        if execution_id != self._linked:
            self._linked = execution_id
            deferral.push_link(context, self._hook, self._kind, sync_id, execution_id, wanted=self.do_xcom_push)

    def _finish(self, context: Any, sync_id: str, sync_name: str | None, execution: Execution) -> str:
        from airflow_provider_polytomic.api.executions.outcome import failure_reason
        from airflow_provider_polytomic.api.executions.summary import summarize

        reporting, wanted = deferral.Reporting(self._send, self.execution_timeout), self.do_xcom_push
        why = failure_reason(execution, allow_errors=validation.error_limit("allow_errors", self.allow_errors))
        reporting.best_effort(
            "summary",
            lambda: deferral.push_summary(context, summarize(sync_id, execution), wanted=wanted),
        )
        if why is None:
            return execution.id
        # A retry of the sensor would find the same end again: only who started the execution can do better.
        raise AirflowFailException(deferral.describe_failure(reporting, self._kind, sync_id, sync_name, execution, why))

    @contextmanager
    def _skips(self) -> Iterator[None]:
        """Apply ``soft_fail`` and ``never_fail`` in all modes: the base class does so only for what a poke raises."""
        try:
            yield
        except (AirflowSkipException, AirflowRescheduleException):
            raise
        except (Exception, AirflowTaskTimeout) as error:
            final = isinstance(error, AirflowFailException | AirflowSensorTimeout | AirflowTaskTimeout)
            if self.never_fail or (self.soft_fail and final):
                raise AirflowSkipException(str(error)) from error
            raise

    @cached_property
    def _hook(self) -> PolytomicHook:
        return deferral.create_hook(self.polytomic_conn_id)

    @property
    def _kind(self) -> SyncKind:
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        return get_sync_kind(self.kind)

    def _carry_out(self, plan: Any) -> Any:
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


def _timeout_error(deadline_of: str | None, message: str) -> BaseException:
    """What the base class or Airflow itself raises in the other modes: only an ``execution_timeout`` is retried."""
    return (AirflowTaskTimeout if deadline_of == "execution_timeout" else AirflowSensorTimeout)(message)


def _first_reschedule(context: Any) -> datetime | None:
    """When a rescheduled sensor poked first; None in that poke itself."""
    ti = context.get("ti")
    ask = getattr(ti, "get_first_reschedule_date", None)
    found = ask(context) if callable(ask) else getattr(ti, "start_date", None)
    return found if isinstance(found, datetime) else None
