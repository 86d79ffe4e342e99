"""What operators and sensors share: deferring, reading the event, telling of the end, errors for Airflow."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import (
    AirflowFailException,
    AirflowTaskTimeout,
    is_known_uncleared,
    task_state_store,
)
from airflow_provider_polytomic.links import XCOM_KEY as LINK_KEY

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.errors import PolytomicError
    from airflow_provider_polytomic.api.executions.start_request import StoredStart
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.api.models import Execution
    from airflow_provider_polytomic.api.plan import Plan, Request, SendResult
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
    from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

log = logging.getLogger(__name__)
T = TypeVar("T")

XCOM_KEY = "execution"
STORE_KEY = "polytomic_start"
OUTCOMES = ("ended", "timeout", "error")
SHORTEST_RESERVE, LONGEST_RESERVE = 30.0, 300.0  # seconds before execution_timeout
REPORTING_TIMEOUT = 30.0  # seconds for all reporting on an execution whose end is known
REPORTING_REQUEST_TIMEOUT = 10.0  # seconds for each of its requests
SHORTEST_REQUEST_TIMEOUT = 0.05  # seconds; with less left nothing is sent


def try_number(context: Any) -> int:
    return _number(getattr(context.get("ti"), "try_number", None), 1)


def max_tries(context: Any, otherwise: int = 0) -> int:
    return _number(getattr(context.get("ti"), "max_tries", None), otherwise)


def first_try(context: Any, retries: int | None, stored: StoredStart | None = None) -> int:
    """The first try since the task was last cleared.

    :param stored: what an earlier try has stored of its start.
    """
    from airflow_provider_polytomic.api.executions.start_request import first_try_since_clear

    return first_try_since_clear(
        try_number(context),
        max_tries(context, retries or 0),
        retries or 0,
        stored=stored,
        uncleared=is_known_uncleared(context),
    )


def read_stored_start(context: Any) -> StoredStart | None:
    """What an earlier try has stored of its start. Without it, the server's memory of keys lasts for a day."""
    from airflow_provider_polytomic.api.executions.start_request import StoredStart

    store = task_state_store(context)
    if store is None:
        return None
    try:
        value = store.get(STORE_KEY)
        return None if value is None else StoredStart.from_store(value)
    except Exception as error:  # noqa: BLE001  any error of Airflow's API
        log.warning("The stored start of an earlier try could not be read: %s", error)
        return None


def store_start(context: Any, start: StoredStart) -> None:
    """Keep a start for later tries, where Airflow has a store for it."""
    store = task_state_store(context)
    if store is None:
        return
    try:
        store.set(STORE_KEY, start.to_store())
    except Exception as error:  # noqa: BLE001  any error of Airflow's API
        log.warning("The start of execution %s could not be stored in Airflow: %s", start.execution_id, error)


def _number(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def task_identity(context: Any) -> tuple[str, ...]:
    """What tells this task of this run from all others."""
    ti, run = context.get("ti"), context.get("dag_run")
    if ti is None:  # called by hand: every call is its own
        return (str(uuid.uuid4()),)
    began = getattr(run, "start_date", None)
    # A run that was deleted and created again has the same id, but not the same start.
    start = began.astimezone(timezone.utc).isoformat() if isinstance(began, datetime) else ""
    return (str(ti.dag_id), str(ti.run_id), start, str(ti.task_id), str(getattr(ti, "map_index", -1)))


def task_key(context: Any) -> str | None:
    """How a trigger's event names the task that it is for; None when it is called by hand."""
    ti = context.get("ti")
    names = [getattr(ti, name, None) for name in ("dag_id", "task_id", "run_id", "map_index")]
    return " ".join(map(str, names)) if all(isinstance(name, str | int) for name in names) else None


def deadline(timeout: float | None, execution_timeout: timedelta | None) -> float | None:
    """When to give up, in seconds since the epoch: early enough that Airflow's own timeout never strikes first."""
    limits = [] if timeout is None else [timeout]
    if execution_timeout is not None:
        limits.append(execution_timeout.total_seconds() - _reserve(execution_timeout))
    return time.time() + min(limits) if limits else None


def _reserve(execution_timeout: timedelta) -> float:
    """Seconds before Airflow's own timeout that are kept for the cancellation, and for reporting on the end."""
    limit = execution_timeout.total_seconds()
    return min(max(SHORTEST_RESERVE, limit / 10), LONGEST_RESERVE, limit / 2)


def best_effort(what: str, step: Callable[[], T]) -> T | None:
    """Take a step that only reports on an execution: whatever it raises is logged, and changes nothing else."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001  the execution runs, or its end is known: that is what counts
        from airflow_provider_polytomic.api.text import printable

        log.warning("No %s: %s", what, printable(error, 500) or type(error).__name__)
        return None


class Reporting:
    """The steps that only report on an execution whose end is known. No error and no delay changes the task's result.

    All of them together have :data:`REPORTING_TIMEOUT`, and no more than half of the time before Airflow's own timeout
    that :func:`deadline` keeps.

    :param send: sends one request.
    """

    def __init__(self, send: Callable[[Request], SendResult], execution_timeout: timedelta | None = None) -> None:
        seconds = REPORTING_TIMEOUT
        if execution_timeout is not None:
            seconds = min(seconds, _reserve(execution_timeout) / 2)
        self._send = send
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(self._until - time.monotonic(), 0.0)

    def best_effort(self, what: str, step: Callable[[], T]) -> T | None:
        """Take a step as :func:`best_effort` does. Airflow's own timeout, too, ends only the reporting."""
        try:
            return best_effort(what, step)
        except AirflowTaskTimeout:
            self._until = time.monotonic()
            log.warning("No %s, nor anything else that Polytomic would be asked for: execution_timeout is over", what)
            return None

    def run(self, plan: Plan[T]) -> T:
        """Carry out a plan within the time that is left."""
        from airflow_provider_polytomic.api.client import drive

        return drive(plan, self._send_in_time, sleep=lambda seconds: time.sleep(min(seconds, self.left)))

    def _send_in_time(self, request: Request) -> SendResult:
        from airflow_provider_polytomic.api.plan import TransportFailure

        # One that hangs leaves half of the time to those after it.
        timeout = min(request.timeout or REPORTING_REQUEST_TIMEOUT, REPORTING_REQUEST_TIMEOUT, self.left / 2)
        if timeout < SHORTEST_REQUEST_TIMEOUT:
            return TransportFailure("the time for reporting is used up", sent=False)
        return self._send(replace(request, timeout=timeout))


def resolve_sync(
    run: Callable[[Any], Any], kind: SyncKind, sync_id: Any, sync_name: Any, deadline: float | None = None
) -> tuple[str, str | None]:
    """The sync's id, and its name where that is known; a name is looked up."""
    from airflow_provider_polytomic.api.call import with_deadline
    from airflow_provider_polytomic.api.syncs.lookup import find_sync

    validation.exactly_one("sync_id", sync_id, "sync_name", sync_name)
    sync_id, sync_name = validation.identifier("sync_id", sync_id), validation.blank_to_none(sync_name)
    if sync_id is not None:
        return sync_id, None
    what = f"the {kind.label} named {sync_name!r} was found"
    return run(with_deadline(deadline, find_sync(kind, sync_name), what, only_reads=True)).id, sync_name


def sync_display_name(run: Callable[[Any], Any], kind: SyncKind, sync_id: str) -> str | None:
    """A sync's name, in one short line.

    :raises Exception: it cannot be read.
    """
    from airflow_provider_polytomic.api.call import fetch
    from airflow_provider_polytomic.api.text import printable

    return printable(run(fetch(kind.sync(sync_id), 0)).name, 300) or None


def set_map_index_name(
    send: Callable[[Request], SendResult], kind: SyncKind, task: Any, context: Any, sync_id: str, name: str | None
) -> str | None:
    """Let ``map_index_template`` use ``{{ sync_name }}``. Only a task that does pays for a look-up by id.

    :returns: the sync's name, where it is known now.
    """
    if name is None and "sync_name" in (getattr(task, "map_index_template", None) or ""):
        reporting = Reporting(send, task.execution_timeout)
        name = best_effort("name of the sync", lambda: sync_display_name(reporting.run, kind, sync_id))
    context["sync_name"] = name or sync_id  # a template that finds nothing could fail the task
    return name


def read_event(event: Any, *, may_know_none: bool = False) -> dict[str, Any]:
    """A trigger's event, if it is one of ours.

    :param may_know_none: whether the trigger may have ended without having seen an execution.
    :raises PolytomicError: it is not. Nothing is assumed then, least of all success.
    """
    from airflow_provider_polytomic.api.errors import PolytomicError
    from airflow_provider_polytomic.api.plan import is_valid_id

    if (
        not isinstance(event, dict)
        or event.get("outcome") not in OUTCOMES
        or not is_valid_id(event.get("sync_id"))
        or not isinstance(event.get("notes"), dict | NoneType)
        or not (event.get("execution_id") is None or is_valid_id(event["execution_id"]))
    ):
        raise PolytomicError(f"the trigger sent no event of ours, so nothing is known about the end: {event!r:.500}")
    if not (may_know_none and event["outcome"] != "ended") and event.get("execution_id") is None:
        raise PolytomicError(f"the trigger told of an execution, but not of which: {event!r:.500}")
    return event | {"notes": event.get("notes") or {}}


def is_foreign_event(context: Any, event: dict[str, Any], *, of_any_try: bool = False) -> bool:
    """Whether the trigger of another task, or of another try of it, has fired for this one.

    To Airflow a trigger is the number of its row, and SQLite gives numbers away again: where a task is cleared or
    marked, and it or another one defers within a second, the triggerer may not see that it is another trigger.
    """
    fired, ours = event["notes"].get("task"), task_key(context)
    number, our_number = event["notes"].get("try_number"), try_number(context)
    other_task = None not in (fired, ours) and fired != ours  # an event of another release names none
    other_try = not of_any_try and number not in (None, our_number)
    if other_task or other_try:
        log.info(
            "The trigger of %s, try %s, has fired for %s, try %s: beginning again", fired, number, ours, our_number
        )
    return other_task or other_try


def error_from_event(event: dict[str, Any]) -> PolytomicError:
    """The error that a trigger met."""
    from airflow_provider_polytomic.api import errors

    return errors.error_from_payload(str(event.get("error")), str(event.get("message")))


def execution_from_event(kind: SyncKind, event: dict[str, Any]) -> Execution:
    """The execution that a trigger's event reports as ended. It is judged by the event alone, which asks nobody.

    :raises PolytomicError: the event holds no execution.
    """
    from airflow_provider_polytomic.api.errors import PolytomicError
    from airflow_provider_polytomic.api.executions.summary import from_event_payload

    try:
        return from_event_payload(kind, event)
    except ValueError as error:
        raise PolytomicError(f"the trigger told of an end that makes no sense: {event!r:.500}") from error


def with_all_schemas(reporting: Reporting, kind: SyncKind, sync_id: str, execution: Execution) -> Execution:
    """The execution with the schemas that a trigger's event had no room for, where they can be read."""
    from airflow_provider_polytomic.api.call import fetch

    if not getattr(execution, "schemas_omitted", 0):
        return execution
    call = kind.execution(sync_id, execution.id)
    whole: Execution | None = reporting.best_effort("list of all schemas", lambda: reporting.run(fetch(call, 1)))
    return whole if whole is not None and (whole.id, whole.status) == (execution.id, execution.status) else execution


def describe_failure(
    reporting: Reporting, kind: SyncKind, sync_id: str, sync_name: str | None, execution: Execution, why: str
) -> str:
    """A failure in words: what failed, what the server said, the last lines of its log."""
    from airflow_provider_polytomic.api.executions.console_log import fetch_tail
    from airflow_provider_polytomic.api.executions.messages import format_failure

    def end_of_log() -> list[str]:
        return reporting.run(fetch_tail(kind, sync_id, execution.id))

    last_lines = reporting.best_effort("end of the console log", end_of_log) or []
    if sync_name is None:
        sync_name = reporting.best_effort("name of the sync", lambda: sync_display_name(reporting.run, kind, sync_id))
    message = reporting.best_effort(
        "details of the failure", lambda: format_failure(kind, sync_id, sync_name, execution, why, last_lines)
    )
    return message or f"Execution {execution.id} of {kind.label} {sync_id} {why}."


def push_summary(context: Any, summary: dict[str, Any], *, wanted: bool) -> None:
    """XCom ``execution``, unless the task was told to push nothing."""
    ti = context.get("ti")
    if ti is not None and wanted:
        best_effort(f"XCom {XCOM_KEY!r}", lambda: ti.xcom_push(key=XCOM_KEY, value=summary))


def push_link(
    context: Any, hook: PolytomicHook, kind: SyncKind, sync_id: str, execution_id: str, *, wanted: bool
) -> None:
    """What :class:`~airflow_provider_polytomic.links.PolytomicExecutionLink` shows, from now on."""
    ti = context.get("ti")

    def push() -> None:
        ti.xcom_push(key=LINK_KEY, value=hook.client.settings.execution_url(kind.name, sync_id, execution_id))

    if ti is not None and wanted:
        best_effort("link to the execution", push)


def create_trigger(
    context: Any,
    kind: SyncKind,
    sync_id: str,
    execution_id: str | None,
    conn_id: str,
    poke_interval: float,
    *,
    seen: Execution | None,
    notes: dict[str, Any],
    **options: Any,
) -> PolytomicExecutionTrigger:
    """The trigger that waits for an execution.

    :param seen: what the last look has shown.
    :param notes: what is to be found in its event again.
    """
    from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

    return PolytomicExecutionTrigger(
        kind=kind.name,
        sync_id=sync_id,
        execution_id=execution_id,
        polytomic_conn_id=conn_id,
        poke_interval=poke_interval,
        since=time.time(),
        schemas=len(getattr(seen, "schemas", None) or ()) or None,
        notes=notes | {"task": task_key(context), "try_number": try_number(context)},
        **options,
    )


@contextmanager
def as_airflow_errors(started: Callable[[], bool]) -> Iterator[None]:
    """Tell Airflow what a retry cannot mend; everything else goes up as it is.

    :param started: whether an execution of this task may have been started already.
    """
    from airflow_provider_polytomic.api.errors import (
        PolytomicAuthError,
        PolytomicLookupError,
        PolytomicNotFoundError,
        PolytomicValidationError,
    )

    try:
        yield
    except PolytomicLookupError as error:
        if not error.ids:
            raise  # what none has yet, the next try may find: lists lag, and change while they are read
        raise AirflowFailException(str(error)) from error
    except PolytomicNotFoundError as error:
        raise AirflowFailException(str(error)) from error
    except (ValueError, PolytomicAuthError, PolytomicValidationError) as error:
        if started():
            raise
        raise AirflowFailException(str(error)) from error


def create_hook(conn_id: Any) -> PolytomicHook:
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

    return PolytomicHook(validation.text("polytomic_conn_id", conn_id) or validation.DEFAULT_CONN_ID)
