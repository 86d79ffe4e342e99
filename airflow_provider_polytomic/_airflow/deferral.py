"""Deferral: what a task leaves with its trigger, and the event that the trigger sends back to it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, fields, replace
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_polytomic._airflow import task_context

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.compat import BaseTrigger
    from airflow_provider_polytomic.api.errors import PolytomicError, PolytomicTimeoutError
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.api.models import Execution

log = logging.getLogger(__name__)

OUTCOMES = ("ended", "timeout", "error")
OWNED_ORIGINS = ("started", "resumed")
ORIGINS = (*OWNED_ORIGINS, "attached", "fresh")


@dataclass(frozen=True)
class DeferralState:
    """What a deferred task needs after the deferral. The trigger carries it, and returns it in its event.

    :param task_instance_name: the task that was deferred: see :func:`~.task_context.task_instance_name`.
    :param try_number: the try that was deferred.
    :param sync_name: the sync's name, if it is known.
    :param origin: how the task came to its execution: one of :data:`ORIGINS`; None for a sensor.
    :param is_blocking: whether the execution is a blocking one, after whose end the task starts its own.
    :param attempts: how many keys of the try are used up.
    :param deadline_limit: the argument that sets the deadline: see :func:`~.task_context.find_deadline_limit`.
    :param resolved_at: when the task started, resumed or attached to the execution, in seconds since the epoch.
    :param earlier_ids: the executions of earlier tries that count together with the task's execution.
    """

    task_instance_name: str | None = None
    try_number: int | None = None
    sync_name: str | None = None
    origin: str | None = None
    is_blocking: bool = False
    attempts: int = 0
    deadline_limit: str | None = None
    resolved_at: float | None = None
    earlier_ids: list[str] = field(default_factory=list)

    VERSION: ClassVar[int] = 1

    def to_json(self) -> dict[str, Any]:
        return {"version": self.VERSION, **{item.name: getattr(self, item.name) for item in fields(self)}}

    @classmethod
    def from_json(cls, value: Any) -> DeferralState:
        """
        :raises ValueError: the value is not a deferral state of this version.
        """
        from airflow_provider_polytomic.api.plan import is_valid_id

        if not isinstance(value, dict) or value.get("version") != cls.VERSION:
            raise ValueError(f"Not a deferral state of version {cls.VERSION}: {value!r:.200}")
        state = cls(**{item.name: value[item.name] for item in fields(cls) if item.name in value})
        texts = (state.task_instance_name, state.sync_name, state.deadline_limit)
        if (
            not all(isinstance(text, str | None) for text in texts)
            or type(state.try_number) not in (int, NoneType)
            or state.origin not in (*ORIGINS, None)
            or type(state.is_blocking) is not bool
            or type(state.resolved_at) not in (int, float, NoneType)
            or type(state.attempts) is not int
            or not 0 <= state.attempts <= _max_attempts()
            or not (isinstance(state.earlier_ids, list) and all(map(is_valid_id, state.earlier_ids)))
        ):
            raise ValueError(f"Deferral state with an invalid field: {value!r:.200}")
        return state

    @property
    def is_owned(self) -> bool:
        """Whether the task has started the execution, in this try or an earlier one."""
        return self.origin in OWNED_ORIGINS and not self.is_blocking


def _max_attempts() -> int:
    from airflow_provider_polytomic.api.executions.start_request import MAX_ATTEMPTS

    return MAX_ATTEMPTS


@dataclass(frozen=True)
class ExecutionEvent:
    """The event of an execution trigger.

    :param outcome: ``ended``, ``timeout`` (the deadline has passed) or ``error`` (the wait was given up).
    :param execution_id: the execution; None when a sensor's trigger has not seen one.
    :param deadline: the trigger's deadline, in seconds since the epoch, by the clock of the worker that deferred.
    :param clock_difference: the server's time minus that worker's in seconds; None if unknown.
    :param message: the error message, unless the execution has ended.
    :param error_type: the class name of the error.
    :param still_running: whether the execution may still run.
    :param limit: for a timeout, ``queue_timeout``; None for the deadline.
    :param status: the status of an execution that was queued for too long.
    :param console_cursor: the position up to which the console log was logged.
    :param execution: the summary of the execution that has ended: see :func:`.event_summary.to_event_summary`.
    """

    outcome: str
    sync_id: str
    execution_id: str | None
    deferral_state: DeferralState = field(default_factory=DeferralState)
    deadline: float | None = None
    clock_difference: float | None = None
    message: str = ""
    error_type: str | None = None
    still_running: bool = False
    limit: str | None = None
    status: str | None = None
    console_cursor: str | None = None
    execution: dict[str, Any] | None = None

    VERSION: ClassVar[int] = 1

    def to_payload(self) -> dict[str, Any]:
        payload = {item.name: getattr(self, item.name) for item in fields(self)}
        return {"version": self.VERSION, **payload, "deferral_state": self.deferral_state.to_json()}

    @classmethod
    def from_payload(cls, value: Any, *, may_lack_execution: bool = False) -> ExecutionEvent:
        """
        :param may_lack_execution: whether the trigger may have fired without having seen an execution.
        :raises PolytomicError: the payload is not one of this version. No outcome is assumed then.
        """
        from airflow_provider_polytomic.api.errors import PolytomicError
        from airflow_provider_polytomic.api.plan import is_valid_id

        try:
            if not isinstance(value, dict) or value.get("version") != cls.VERSION:
                raise ValueError(f"not an event of version {cls.VERSION}")
            known = {item.name: value[item.name] for item in fields(cls) if item.name in value}
            event = cls(**known | {"deferral_state": DeferralState.from_json(value.get("deferral_state"))})
            event._check()
            if not is_valid_id(event.sync_id) or not (event.execution_id is None or is_valid_id(event.execution_id)):
                raise ValueError("an invalid id")
            if event.execution_id is None and not (may_lack_execution and event.outcome != "ended"):
                raise ValueError("no execution_id")
        except (TypeError, ValueError) as error:
            raise PolytomicError(
                f"Unexpected trigger event; the execution's outcome is unknown: {error}: {value!r:.500}"
            ) from None
        return event

    def _check(self) -> None:
        """
        :raises ValueError: a field has an invalid value.
        """
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome is not one of {', '.join(OUTCOMES)}")
        types = {
            "deadline": (int, float, NoneType),
            "clock_difference": (int, float, NoneType),
            "message": (str,),
            "error_type": (str, NoneType),
            "still_running": (bool,),
            "limit": (str, NoneType),
            "status": (str, NoneType),
            "console_cursor": (str, NoneType),
            "execution": (dict,) if self.outcome == "ended" else (dict, NoneType),
        }
        for name, expected in types.items():
            if type(getattr(self, name)) not in expected:
                raise ValueError(f"{name} has an invalid type")

    @property
    def precedes_start(self) -> bool:
        """Whether a start follows: after the end of a blocking execution, or of one that an earlier try canceled."""
        canceled = self.outcome == "ended" and (self.execution or {}).get("status") == "canceled"
        return self.deferral_state.is_blocking or (self.deferral_state.origin == "resumed" and canceled)

    def read_timeout(self) -> PolytomicTimeoutError:
        """The error for the limit at which the trigger ended the wait."""
        from airflow_provider_polytomic.api.errors import PolytomicTimeoutError

        return PolytomicTimeoutError(self.message, self.still_running, limit=self.limit, status=self.status)

    def read_error(self) -> PolytomicError:
        """The error with which the trigger gave up the wait."""
        from airflow_provider_polytomic.api import errors

        return errors.error_from_payload(str(self.error_type), self.message)

    def read_execution(self, kind: SyncKind) -> Execution:
        """The execution that has ended. It is judged by the event alone, without a request.

        :raises PolytomicError: the event holds no execution, or another one.
        """
        from airflow_provider_polytomic.api.errors import PolytomicError
        from airflow_provider_polytomic.api.executions.event_summary import from_event_summary

        try:
            execution = from_event_summary(kind, self.execution or {})
        except (KeyError, TypeError, ValueError):
            execution = None
        if execution is None or execution.id != self.execution_id:
            raise PolytomicError(f"Unexpected execution in a trigger event; its outcome is unknown: {self!r:.500}")
        return execution


def is_stray_event(context: Any, state: DeferralState, *, any_try: bool = False) -> bool:
    """Whether the event is for another task, or for another try of this one.

    Airflow identifies a trigger by its row number, and SQLite reuses those: when a task is cleared or marked, and a
    task defers within a second, the triggerer may not notice that the number belongs to another trigger now.

    :param any_try: whether an event for another try of this task counts as its own.
    """
    key, number = task_context.task_instance_name(context), task_context.try_number(context)
    other_task = None not in (state.task_instance_name, key) and state.task_instance_name != key
    other_try = not any_try and state.try_number not in (None, number)
    if other_task or other_try:
        log.info(
            "Ignoring a trigger event for %s, try %s: this is %s, try %s. Starting over.",
            state.task_instance_name,
            state.try_number,
            key,
            number,
        )
    return other_task or other_try


def create_trigger(
    context: Any,
    kind: SyncKind,
    sync_id: str,
    execution_id: str | None,
    conn_id: str,
    poke_interval: float,
    *,
    seen: Execution | None,
    deferral_state: DeferralState,
    **options: Any,
) -> BaseTrigger:
    """Create the trigger that waits for an execution.

    :param seen: the execution as last polled.
    :param deferral_state: its task and try are set here.
    :param options: further arguments of the trigger.
    """
    from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

    state = replace(
        deferral_state,
        task_instance_name=task_context.task_instance_name(context),
        try_number=task_context.try_number(context),
    )
    return PolytomicExecutionTrigger(
        kind=kind.name,
        sync_id=sync_id,
        execution_id=execution_id,
        polytomic_conn_id=conn_id,
        poke_interval=poke_interval,
        waiting_since=time.time(),
        schema_count=len(getattr(seen, "schemas", None) or ()) or None,
        deferral_state=state.to_json(),
        **options,
    )
