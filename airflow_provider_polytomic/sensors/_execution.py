"""The sensor that waits for an execution which somebody else started, for either kind of sync."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_polytomic import _arguments, _execution_task
from airflow_provider_polytomic._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    default_deferrable,
)
from airflow_provider_polytomic.links import PolytomicExecutionLink

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.executions import Kind, Trouble
    from airflow_provider_polytomic.api.http import Answer, Request
    from airflow_provider_polytomic.api.models import Execution
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
        polytomic_conn_id: str = _arguments.DEFAULT_CONN_ID,
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
        self.deferrable = _arguments.flag("deferrable", deferrable)
        if _arguments.seconds("poke_interval", self.poke_interval) is None:
            raise ValueError("poke_interval must be more than 0 seconds, not None")
        _arguments.seconds("timeout", self.timeout)
        self._check()
        # Kept over the pokes of one process; a rescheduled poke asks Airflow, or begins anew.
        self._began: datetime | None = None
        self._sync: tuple[str, str | None] | None = None
        self._trouble: Trouble | None = None
        self._answered = False
        self._linked: str | None = None

    def _check(self) -> None:
        """Refuse bad arguments.

        :raises ValueError: naming the argument.
        """
        _arguments.one_of_two("sync_id", self.sync_id, "sync_name", self.sync_name)
        known = _arguments.known(self, _CHECKS)
        if known.get("execution_id") is not None and known.get("completed_after") is not None:
            raise ValueError("give either execution_id or completed_after: both given")
        if not _arguments.templated(self.allow_errors):
            _arguments.error_limit("allow_errors", self.allow_errors)

    # --- what Airflow calls

    def execute(self, context: Any) -> Any:
        """Wait: in the worker, poke by poke, or deferred.

        :returns: the execution's id.
        """
        if not self.deferrable:
            return super().execute(context)
        with self._skips(), _execution_task.translated(lambda: self._answered):
            return self._begin_deferrable(context)

    def poke(self, context: Any) -> PokeReturnValue:
        """Look once."""
        with _execution_task.translated(lambda: self._answered):
            sync_id, sync_name = self._resolved(context)
            execution = self._look(context, sync_id, self._after(context))
            if execution is None or not execution.is_terminal:
                return PokeReturnValue(is_done=False)
            return PokeReturnValue(is_done=True, xcom_value=self._finish(context, sync_id, sync_name, execution))

    def execute_complete(self, context: Any, event: Any = None) -> Any:
        """Go on when the trigger has fired."""
        with self._skips(), _execution_task.translated(lambda: True):
            event = _execution_task.read_event(event, may_know_none=True)
            if _execution_task.is_anothers(context, event, of_any_try=True):
                return self._begin_deferrable(context)
            if event["outcome"] == "timeout":
                raise AirflowSensorTimeout(str(event.get("message")))
            if event["outcome"] == "error":
                raise _execution_task.error_of(event)
            sync_name = self._label(context, event["sync_id"], event["notes"].get("sync_name"))
            execution = _execution_task.execution_of(self._kind, event)
            self._link(context, event["sync_id"], execution.id)
            return self._finish(context, event["sync_id"], sync_name, execution)

    # --- looking

    def _begin_deferrable(self, context: Any) -> Any:
        sync_id, sync_name = self._resolved(context)
        after = self._after(context)
        execution = self._look(context, sync_id, after)
        if execution is not None and execution.is_terminal:
            return self._finish(context, sync_id, sync_name, execution)
        return self.defer(
            trigger=_execution_task.trigger(
                context,
                self._kind,
                sync_id,
                execution.id if execution else _arguments.identifier("execution_id", self.execution_id),
                self._hook.polytomic_conn_id,
                self._seconds(self.poke_interval),
                deadline=_execution_task.deadline(self._seconds(self.timeout), self.execution_timeout),
                after=after.isoformat(),
                seen=execution,
                notes={"sync_name": sync_name},
            ),
            method_name="execute_complete",
            timeout=None,
        )

    def _resolved(self, context: Any) -> tuple[str, str | None]:
        _arguments.refuse_unrendered(self)
        self._check()
        if self._sync is None:
            sync_id, name = _execution_task.resolve(self._carry_out, self._kind, self.sync_id, self.sync_name)
            self._sync = sync_id, self._label(context, sync_id, name)
        return self._sync

    def _label(self, context: Any, sync_id: str, sync_name: str | None) -> str | None:
        return _execution_task.label(self._send, self._kind, self, context, sync_id, sync_name)

    def _after(self, context: Any) -> datetime:
        """From when on an execution counts; by default from the first poke on."""
        return _after("completed_after", self.completed_after) or self._first_poke(context)

    def _first_poke(self, context: Any) -> datetime:
        if self._began is None:
            self._began = _first_reschedule(context) if self.reschedule else None
            self._began = self._began or datetime.now(timezone.utc)
        return self._began

    def _look(self, context: Any, sync_id: str, after: datetime) -> Execution | None:
        """The execution that is waited for; None while there is none, or no answer."""
        from airflow_provider_polytomic.api.executions import Trouble, look, look_for, progress

        execution_id = _arguments.identifier("execution_id", self.execution_id)
        if self._trouble is None:
            says = f"Execution {execution_id}" if execution_id else f"The next execution of {sync_id}"
            now = time.time()
            began = min(now, self._first_poke(context).timestamp()) if self.reschedule else now
            self._trouble = Trouble(says, now, self._seconds(self.poke_interval), known=False, began=began)
        while True:
            plan = look(self._kind, sync_id, execution_id) if execution_id else look_for(self._kind, sync_id, after)
            what = self._carry_out(plan)
            if what.error is None:
                break
            if self._carry_out(self._trouble.endure(what.error, what, time.time())):
                return None
            # No delay: the connection was read again, and the next poke may be another process.
        self._trouble.over(time.time())
        self._answered = True
        execution: Execution | None = what.value
        if execution is None:
            self.log.info("No execution of %s %s has begun yet", self._kind.label, sync_id)
        else:
            self.log.info("Execution %s: %s", execution.id, progress(execution))
            self._link(context, sync_id, execution.id)
        return execution

    def _link(self, context: Any, sync_id: str, execution_id: str) -> None:
        if execution_id != self._linked:
            self._linked = execution_id
            _execution_task.push_link(context, self._hook, self._kind, sync_id, execution_id, wanted=self.do_xcom_push)

    def _finish(self, context: Any, sync_id: str, sync_name: str | None, execution: Execution) -> str:
        from airflow_provider_polytomic.api.executions import problem, summary

        reporting, wanted = _execution_task.Reporting(self._send, self.execution_timeout), self.do_xcom_push
        why = problem(execution, allow_errors=_arguments.error_limit("allow_errors", self.allow_errors))
        reporting.attempt(
            "summary",
            lambda: _execution_task.push_summary(context, summary(sync_id, execution), wanted=wanted),
        )
        if why is None:
            return execution.id
        # A retry of the sensor would find the same end again: only who started the execution can do better.
        raise AirflowFailException(_execution_task.explain(reporting, self._kind, sync_id, sync_name, execution, why))

    @contextmanager
    def _skips(self) -> Iterator[None]:
        """``soft_fail`` and ``never_fail``, for the ways through a sensor that the base class does not see."""
        try:
            yield
        except Exception as error:
            last = isinstance(error, AirflowFailException | AirflowSensorTimeout)
            if getattr(self, "never_fail", False) or (self.soft_fail and last):
                raise AirflowSkipException(str(error)) from error
            raise

    @staticmethod
    def _seconds(value: Any) -> float:
        return _arguments.seconds("poke_interval", value) or 0

    @cached_property
    def _hook(self) -> PolytomicHook:
        return _execution_task.hook_of(self.polytomic_conn_id)

    @property
    def _kind(self) -> Kind:
        from airflow_provider_polytomic.api.executions import kind_of

        return kind_of(self.kind)

    def _carry_out(self, plan: Any) -> Any:
        return self._hook.client.run(plan)

    def _send(self, request: Request) -> Answer:
        return self._hook.client.send(request)


def _after(name: str, value: Any) -> datetime | None:
    return None if _arguments.given(value) is None else _arguments.moment(name, value)


_CHECKS: dict[str, _arguments.Check] = {
    "sync_id": _arguments.identifier,
    "execution_id": _arguments.identifier,
    "completed_after": _after,
}


def _first_reschedule(context: Any) -> datetime | None:
    """When a rescheduled sensor poked first; None in that poke itself."""
    ti = context.get("ti")
    ask = getattr(ti, "get_first_reschedule_date", None)
    found = ask(context) if callable(ask) else getattr(ti, "start_date", None)
    return found if isinstance(found, datetime) else None
