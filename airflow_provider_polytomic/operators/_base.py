"""The operator that starts an execution and waits for its end, for either kind of sync."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_polytomic import assets as _assets
from airflow_provider_polytomic._airflow import deferral, validation
from airflow_provider_polytomic._airflow.compat import AirflowFailException, AirflowSkipException, BaseOperator
from airflow_provider_polytomic.links import PolytomicExecutionLink

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.compat import AssetAlias
    from airflow_provider_polytomic.api.executions.console_log import ConsoleLogFollower
    from airflow_provider_polytomic.api.executions.start import Acquired
    from airflow_provider_polytomic.api.executions.start_request import StartRequest, StoredStart
    from airflow_provider_polytomic.api.executions.tables import WrittenTable
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.api.models import Execution
    from airflow_provider_polytomic.api.plan import Request, SendResult
    from airflow_provider_polytomic.api.settings import Settings
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
    from airflow_provider_polytomic.lineage import LineageRecord

IF_RUNNING = ("wait", "attach", "fail", "skip", "cancel")
_CHECKS: dict[str, validation.Check] = {
    "sync_id": validation.identifier,
    "if_running": validation.one_of(IF_RUNNING),
    "allow_errors": validation.error_limit,
    "min_records": validation.count,
}
_FLAGS = ("wait_for_completion", "deferrable", "cancel_on_kill", "log_console")  # not templated
KILL_TIMEOUT = 3.0  # seconds for the cancel of a kill; Airflow 3 ends the process 5 seconds after its signal
_WAITED_HINT = "it was waited for, because this task's own could not start before its end"


def _format_arguments(arguments: dict[str, Any]) -> str:
    """What a log says of the arguments of a start: how many identities, often people's addresses, but not which."""
    from airflow_provider_polytomic.api.text import printable

    given = {name: value for name, value in arguments.items() if value}
    told = {name: len(value) if name.endswith("identities") else value for name, value in given.items()}
    return f" with {printable(told, 500)}" if told else ""


def _read_attempts(notes: Mapping[str, Any]) -> int:
    """How many keys of this try conflicts have used up; less is safe, as a key that was used starts nothing more."""
    from airflow_provider_polytomic.api.executions.start_request import MAX_ATTEMPTS

    attempts = notes.get("attempts")
    return attempts if type(attempts) is int and 0 <= attempts <= MAX_ATTEMPTS else 0


class ExecutionOperator(BaseOperator):
    """Starts an execution of a sync exactly once, and waits for its end in the worker or deferred.

    Not to be used itself: a subclass names the kind, and adds the arguments of the start.
    """

    kind: ClassVar[str]
    operator_extra_links = (PolytomicExecutionLink(),)
    ui_color = "#e8e4ff"
    # The arguments, as they are kept.
    sync_id: str | None
    sync_name: str | None
    polytomic_conn_id: str
    wait_for_completion: bool
    deferrable: bool
    poke_interval: float
    timeout: float | None
    if_running: str
    allow_errors: bool | int | float
    min_records: int | None
    cancel_on_kill: bool
    log_console: bool
    assets: bool | Mapping[str, Any]
    # What on_kill needs: it runs in a signal handler, where nothing may be looked up.
    _killed = False
    _ours: tuple[Settings, str, str] | None = None
    _starting = ""
    _may_run = False
    _stored: StoredStart | None = None
    _stored_read = False
    _console: ConsoleLogFollower | None = None
    _story: LineageRecord | None = None

    def _take(
        self,
        *,
        poke_interval: float | timedelta,
        timeout: float | timedelta | None,
        assets: bool | Mapping[str, Any],
        **others: Any,
    ) -> None:
        """Keep the arguments, and refuse bad ones. No ``__init__``: Airflow wraps each in work of its own.

        :raises ValueError: naming the argument.
        """
        every = validation.seconds("poke_interval", poke_interval)
        if every is None:
            raise ValueError("poke_interval must be more than 0 seconds, not None")
        timeout = validation.seconds("timeout", timeout)
        _assets.validate_assets(assets)
        for name in _FLAGS:
            validation.flag(name, others[name])
        validation.set_attributes(self, poke_interval=every, timeout=timeout, assets=assets, **others)
        if assets is not False:
            self.outlets = [*self.outlets, self._alias]
        self._check()

    def _check(self) -> None:
        """Refuse bad arguments as early as they are known: in ``__init__`` if literal, else when rendered.

        :raises ValueError: naming the argument.
        """
        validation.exactly_one("sync_id", self.sync_id, "sync_name", self.sync_name)
        validation.validate_known(self, _CHECKS)
        self._start_arguments()

    def _start_arguments(self) -> dict[str, Any]:
        """The arguments of the start that are known already, as the endpoint function takes them.

        :raises ValueError: naming the argument.
        """
        raise NotImplementedError

    # --- what Airflow calls

    def execute(self, context: Any) -> str:
        """Start, and wait.

        :returns: the execution's id.
        """
        with self._accounting(context):
            return self._begin(context)

    def execute_complete(self, context: Any, event: Any = None) -> str:
        """Go on when the trigger has fired."""
        from airflow_provider_polytomic.api.errors import PolytomicNotFoundError, PolytomicTimeoutError

        with self._accounting(context):
            event = deferral.read_event(event)
            if deferral.is_foreign_event(context, event):
                return self._begin(context)
            notes, sync_id, outcome = event["notes"], event["sync_id"], event["outcome"]
            sync_name, deadline = self._label(context, sync_id, notes.get("sync_name")), notes.get("deadline")
            if notes.get("blocking"):
                if outcome == "timeout":
                    raise PolytomicTimeoutError(f"{event.get('message')}; {_WAITED_HINT}")
                gone = outcome == "error" and event.get("error") == PolytomicNotFoundError.__name__
                if outcome == "error" and not gone:
                    raise deferral.error_from_event(event)
                self.log.info("Execution %s is out of the way", event.get("execution_id"))
                self._begin_in_time(deadline, event["execution_id"])
                return self._run(context, sync_id, sync_name, deadline, _read_attempts(notes))
            self._may_run = True
            owned = event.get("still_running") and not notes.get("adopted")
            if outcome == "timeout":
                if owned and self.cancel_on_kill:
                    self._cancel(sync_id, event["execution_id"], "its deadline has passed")
                raise PolytomicTimeoutError(str(event.get("message")))
            if outcome == "error":
                error = deferral.error_from_event(event)
                if owned:
                    # No try follows one that fails because its execution was not found.
                    final = isinstance(error, PolytomicNotFoundError)
                    self._leave(context, sync_id, event["execution_id"], final=final)
                raise error
            execution = deferral.execution_from_event(self._kind, event)
            self._follow_console(sync_id, event["execution_id"], event.get("console_after"))
            return self._finish(context, sync_id, sync_name, deadline, execution, notes)

    def on_kill(self) -> None:
        """Cancel the execution that this task started, if it still waits for it. One request, 3 seconds at most."""
        self._killed = True
        if self._ours is None or not self.cancel_on_kill:
            return
        from airflow_provider_polytomic.api.transport.requests_transport import Transport

        settings, sync_id, execution_id = self._ours
        self._ours = None
        try:
            # A connection of its own: the other one is in the middle of something.
            # Half of the time for connecting, half for the answer.
            call = self._kind.cancel(sync_id, execution_id).with_timeout(KILL_TIMEOUT / 2)
            answer = Transport(settings).send(call.request)
            self.log.info(
                "The task is being ended: cancelling execution %s: %s",
                execution_id,
                getattr(answer, "status", None) or getattr(answer, "reason", ""),
            )
        except Exception as error:  # noqa: BLE001  a kill must not fail
            self.log.warning("Execution %s could not be cancelled: %s", execution_id, error)

    @contextmanager
    def _accounting(self, context: Any) -> Iterator[None]:
        """Translate errors for Airflow, and leave nothing running behind any of them that nobody knows of."""
        self._may_run = False
        try:
            with deferral.as_airflow_errors(lambda: self._may_run or self._is_retry(context)):
                yield
        except Exception as error:
            if self._ours is not None:
                _, sync_id, execution_id = self._ours
                self._ours = None
                self._leave(context, sync_id, execution_id, final=isinstance(error, AirflowFailException))
            raise

    # --- starting

    def _begin(self, context: Any) -> str:
        validation.require_rendered(self)
        self._check()
        deadline = deferral.deadline(self.timeout, self.execution_timeout)
        sync_id, sync_name = self._resolve_sync(context, deadline)
        sync_name = self._label(context, sync_id, sync_name)
        return self._run(context, sync_id, sync_name, deadline)

    def _resolve_sync(self, context: Any, deadline: float | None) -> tuple[str, str | None]:
        """The sync's id, and its name where that is known. A retry takes the sync in which an earlier try started."""
        sync_name, stored = validation.blank_to_none(self.sync_name), self._stored_start(context)
        if sync_name is not None and stored is not None and stored.sync_name == sync_name and self._is_retry(context):
            return stored.sync_id, sync_name
        return deferral.resolve_sync(self._carry_out, self._kind, self.sync_id, self.sync_name, deadline)

    def _run(self, context: Any, sync_id: str, sync_name: str | None, deadline: float | None, attempts: int = 0) -> str:
        from airflow_provider_polytomic.api.call import with_deadline
        from airflow_provider_polytomic.api.errors import PolytomicConflictError
        from airflow_provider_polytomic.api.executions.start import Acquired, Skip, start_or_resume
        from airflow_provider_polytomic.api.executions.wait import wait_for_execution
        from airflow_provider_polytomic.api.syncs.destination import with_resync_mode_hint

        self._starting = sync_id
        request = replace(self._start_request(context, sync_id), attempts=attempts)
        while True:
            start = with_resync_mode_hint(start_or_resume(request), sync_id, request.arguments.get("resync_mode"))
            try:
                decision = self._carry_out(with_deadline(deadline, start, "an execution could be started"))
            except PolytomicConflictError:
                self._ours = None  # whatever an earlier try has started has ended
                raise
            if not isinstance(decision, Acquired) or decision.adopted:
                self._ours = None  # what a replayed key returned is not what is waited for
            if isinstance(decision, Skip):
                running = f"execution {decision.execution.id}" if decision.execution else "another execution"
                raise AirflowSkipException(
                    f"{self._kind.label} {sync_id}: {running} is running, and if_running='skip': nothing was started"
                )
            if isinstance(decision, Acquired):
                return self._follow(context, request, decision, sync_name, deadline)
            self.log.info("%s %s: waiting, because %s", self._kind.label.capitalize(), sync_id, decision.reason)
            request = replace(request, attempts=decision.attempts)
            notes = {"blocking": True, "sync_name": sync_name, "deadline": deadline, "attempts": decision.attempts}
            if self.deferrable:
                self._defer(context, sync_id, decision.execution.id, notes, seen=decision.execution)
            self._wait_out(
                wait_for_execution(
                    self._kind,
                    sync_id,
                    decision.execution.id,
                    poke_interval=self.poke_interval,
                    deadline=deadline,
                )
            )
            self._begin_in_time(deadline, decision.execution.id)

    @staticmethod
    def _begin_in_time(deadline: float | None, ended: str) -> None:
        """Start nothing after the deadline, only to cancel it at once."""
        from airflow_provider_polytomic.api.errors import PolytomicTimeoutError

        if deadline is not None and time.time() >= deadline:
            raise PolytomicTimeoutError(
                f"the deadline passed before an execution could be started: execution {ended} had to end first"
            )

    def _wait_out(self, plan: Any) -> None:
        from airflow_provider_polytomic.api.errors import PolytomicNotFoundError, PolytomicTimeoutError, add_context

        try:
            self._carry_out(plan)
        except PolytomicNotFoundError:
            pass  # it is gone, so it is not in the way
        except PolytomicTimeoutError as error:
            raise add_context(error, _WAITED_HINT) from None

    def _start_request(self, context: Any, sync_id: str) -> StartRequest:
        from airflow_provider_polytomic.api.executions.outcome import failure_reason
        from airflow_provider_polytomic.api.executions.start_request import StartRequest

        criteria = self._criteria()
        request = StartRequest(
            kind=self.kind,
            sync_id=sync_id,
            task=deferral.task_identity(context),
            try_number=deferral.try_number(context),
            first_try=self._first_try(context),
            arguments=self._start_arguments(),
            if_running=validation.choice("if_running", self.if_running, IF_RUNNING) or "wait",
            succeeded=lambda execution: failure_reason(execution, **criteria) is None,
            wait_for_completion=self.wait_for_completion,
            cancel_on_kill=self.cancel_on_kill,
        )
        stored = self._stored_start(context)
        # The key identifies the same work: not that of a mapped task that was expanded in another order.
        return replace(request, stored=stored) if stored and stored.key == request.key(0, 0) else request

    def _first_try(self, context: Any) -> int:
        return deferral.first_try(context, self.retries, self._stored_start(context))

    def _is_retry(self, context: Any) -> bool:
        """Whether a try since the last clear may have started an execution."""
        return deferral.try_number(context) > self._first_try(context)

    def _stored_start(self, context: Any) -> StoredStart | None:
        if not self._stored_read and deferral.try_number(context) > 1:  # a first try finds nothing
            self._stored, self._stored_read = deferral.read_stored_start(context), True
        return self._stored

    def _store_start(self, context: Any, request: StartRequest, acquired: Acquired) -> None:
        from airflow_provider_polytomic.api.executions.start_request import StoredStart

        self._stored = StoredStart(
            try_number=acquired.try_number,
            execution_id=acquired.execution.id,
            sync_id=request.sync_id,
            key=request.key(0, 0),
            sync_name=validation.blank_to_none(self.sync_name),
            first_try=request.first_try,
            max_tries=deferral.max_tries(context),
        )
        deferral.store_start(context, self._stored)

    def _follow(
        self, context: Any, request: StartRequest, acquired: Acquired, sync_name: str | None, deadline: float | None
    ) -> str:
        from airflow_provider_polytomic.api.errors import PolytomicTimeoutError
        from airflow_provider_polytomic.api.executions.poll import poll_execution
        from airflow_provider_polytomic.api.executions.summary import summarize
        from airflow_provider_polytomic.api.executions.wait import wait_for_execution

        execution, sync_id = acquired.execution, request.sync_id
        self._may_run = True
        if not acquired.adopted:
            self._take_charge(sync_id, execution.id)
            self._store_start(context, request, acquired)
        self.log.info(
            "%s execution %s of %s %s%s",
            "Adopted" if acquired.adopted else "Resumed" if acquired.resumed else "Started",
            execution.id,
            self._kind.label,
            f"{sync_name!r} ({sync_id})" if sync_name else sync_id,
            "" if acquired.adopted else _format_arguments(request.arguments),
        )
        self._push(context, summarize(sync_id, execution, adopted=acquired.adopted))
        deferral.push_link(context, self._hook, self._kind, sync_id, execution.id, wanted=self.do_xcom_push)
        self._follow_console(sync_id, execution.id)
        if not self.wait_for_completion:
            self._ours = None
            return execution.id
        notes = {
            "sync_name": sync_name,
            "deadline": deadline,
            "adopted": acquired.adopted,
            "resumed": acquired.resumed,
        }
        if self.deferrable:
            seen = self._carry_out(poll_execution(self._kind, sync_id, execution.id)).value
            if seen is None or not seen.is_terminal:
                self._defer(context, sync_id, execution.id, notes, seen=seen)
            return self._finish(context, sync_id, sync_name, deadline, seen, notes)
        try:
            ended = self._carry_out(
                wait_for_execution(
                    self._kind,
                    sync_id,
                    execution.id,
                    poke_interval=self.poke_interval,
                    deadline=deadline,
                    cancel_at_deadline=self.cancel_on_kill and not acquired.adopted,
                    console=self._console,
                )
            )
        except PolytomicTimeoutError:
            self._ours = None  # the wait has cancelled it, or was not to
            raise
        return self._finish(context, sync_id, sync_name, deadline, ended, notes)

    def _defer(
        self,
        context: Any,
        sync_id: str,
        execution_id: str,
        notes: dict[str, Any],
        *,
        seen: Execution | None,
    ) -> None:
        ours = not (notes.get("blocking") or notes.get("adopted")) and self.cancel_on_kill
        self.log.info("Deferred: the triggerer waits for the end of execution %s", execution_id)
        self._ours = None  # from here on the trigger answers for it
        self.defer(
            trigger=deferral.create_trigger(
                context,
                self._kind,
                sync_id,
                execution_id,
                self._hook.polytomic_conn_id,
                self.poke_interval,
                seen=seen,
                deadline=notes["deadline"],
                cancel_at_deadline=ours,
                cancel_on_kill=ours,
                log_console=self.log_console and not notes.get("blocking"),
                notes=notes,
            ),
            method_name="execute_complete",
            timeout=None,
        )

    # --- ending

    def _finish(
        self,
        context: Any,
        sync_id: str,
        sync_name: str | None,
        deadline: float | None,
        execution: Execution,
        notes: dict[str, Any],
    ) -> str:
        from airflow_provider_polytomic.api.errors import PolytomicSyncError
        from airflow_provider_polytomic.api.executions.messages import format_progress
        from airflow_provider_polytomic.api.executions.outcome import failure_reason
        from airflow_provider_polytomic.api.executions.summary import summarize

        self._ours = None
        reporting = deferral.Reporting(self._send, self.execution_timeout)
        self._log_rest_of_console(reporting)
        if notes.get("resumed") and execution.status == "canceled":
            self._begin_in_time(deadline, execution.id)
            self.log.info("Execution %s, which an earlier try started, was cancelled: starting anew", execution.id)
            return self._run(context, sync_id, sync_name, deadline)
        why = failure_reason(execution, **self._criteria())
        adopted = bool(notes.get("adopted"))
        reporting.best_effort("summary", lambda: self._push(context, summarize(sync_id, execution, adopted=adopted)))
        whole = deferral.with_all_schemas(reporting, self._kind, sync_id, execution)
        if why is None:
            self.log.info("Execution %s: %s", execution.id, format_progress(execution))
            reporting.best_effort("lineage", lambda: self._tell(sync_id, whole))
            reporting.best_effort("asset events", lambda: self._emit(reporting, context, sync_id, whole))
            return execution.id
        message = deferral.describe_failure(reporting, self._kind, sync_id, sync_name, execution, why)
        reporting.best_effort("lineage", lambda: self._tell(sync_id, whole, failure=message))
        raise PolytomicSyncError(message, whole)

    def _criteria(self) -> dict[str, Any]:
        """What makes an execution a success.

        :raises ValueError: naming the argument.
        """
        return {
            "allow_errors": validation.error_limit("allow_errors", self.allow_errors),
            "min_records": validation.count("min_records", self.min_records),
        }

    def _log_rest_of_console(self, reporting: deferral.Reporting) -> None:
        console = self._console
        if console is not None:
            reporting.best_effort("rest of the console log", lambda: reporting.run(console.follow_to_end()))

    def _follow_console(self, sync_id: str, execution_id: str, after: str | None = None) -> None:
        from airflow_provider_polytomic.api.executions.console_log import ConsoleLogFollower

        self._console = ConsoleLogFollower(self._kind, sync_id, execution_id, after) if self.log_console else None

    @property
    def _alias(self) -> AssetAlias:
        return _assets.task_alias(self.dag_id if self.has_dag() else None, self.task_id)

    def _emit(self, reporting: deferral.Reporting, context: Any, sync_id: str, execution: Execution) -> None:
        """Add an asset event for each table that was written. Airflow keeps them until the task has ended."""
        from airflow_provider_polytomic.api.executions.tables import written_tables

        if self.assets is False or context.get("outlet_events") is None or self._start_arguments().get("test"):
            return
        tables = reporting.run(written_tables(sync_id, execution, self._hook.client.settings.base_url))
        self._tell(sync_id, execution, tables)
        alias = self._alias
        if alias not in self.outlets:
            # The task got its DAG or its final id after it was made, and Airflow takes events through outlets alone.
            self.outlets.append(alias)
        _assets.emit_events(context, alias, self.assets, tables, execution, reporting)

    # --- lineage

    def _tell(
        self,
        sync_id: str,
        execution: Execution,
        written: list[WrittenTable] | None = None,
        *,
        failure: str | None = None,
    ) -> None:
        """Keep what OpenLineage may ask for when the task has ended."""
        from airflow_provider_polytomic.api.executions.tables import tables_without_lookup
        from airflow_provider_polytomic.lineage import LineageRecord

        base_url = self._hook.client.settings.base_url
        if written is None:
            written = tables_without_lookup(sync_id, execution, base_url)
        self._story = LineageRecord(execution, base_url, written, failure)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002  OpenLineage calls it so
        """What OpenLineage is told: the tables that were read and written, the rows, and the execution's id."""
        from airflow_provider_polytomic.lineage import build_lineage

        return build_lineage(self._story)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """The same of a task that failed, with what went wrong."""
        return self.get_openlineage_facets_on_complete(task_instance)

    def _leave(self, context: Any, sync_id: str, execution_id: str, *, final: bool = False) -> None:
        """Leave an owned execution that cannot be waited for to the next try, or cancel it if none follows."""
        if not final and deferral.try_number(context) <= deferral.max_tries(context):
            self.log.warning("Execution %s may still run: the next try resumes it", execution_id)
        elif self.cancel_on_kill:
            self.log.warning("Execution %s may still run, and no try follows: cancelling it", execution_id)
            self._cancel(sync_id, execution_id, "no try follows that could wait for it")
        else:
            self.log.warning("Execution %s may still run; it is left alone (cancel_on_kill=False)", execution_id)

    def _cancel(self, sync_id: str, execution_id: str, reason: str) -> None:
        from airflow_provider_polytomic.api.executions.cancel import CANCEL_TIMEOUT, cancel_if_running

        try:
            self._carry_out(cancel_if_running(self._kind, sync_id, execution_id, CANCEL_TIMEOUT, reason))
        except Exception as error:  # noqa: BLE001  what went wrong before is what the task fails with
            self.log.warning("Execution %s could not be cancelled: %s", execution_id, error)

    def _push(self, context: Any, summary: dict[str, Any]) -> None:
        deferral.push_summary(context, summary, wanted=self.do_xcom_push)

    def _label(self, context: Any, sync_id: str, sync_name: str | None) -> str | None:
        return deferral.set_map_index_name(self._send, self._kind, self, context, sync_id, sync_name)

    # --- sending

    @cached_property
    def _hook(self) -> PolytomicHook:
        return deferral.create_hook(self.polytomic_conn_id)

    @property
    def _kind(self) -> SyncKind:
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        return get_sync_kind(self.kind)

    def _carry_out(self, plan: Any) -> Any:
        from airflow_provider_polytomic.api.client import drive

        return drive(plan, self._send, reload_credentials=self._hook.client.reload_credentials)

    def _send(self, request: Request) -> SendResult:
        """Send one request; but start nothing after a kill, and cancel what was started during one."""
        from airflow_provider_polytomic.api.call import Call, decode
        from airflow_provider_polytomic.api.errors import PolytomicError

        if self._killed:
            raise PolytomicError("the task was ended")
        answer = self._hook.client.send(request)
        if request.idempotency_key is not None:
            try:
                started = decode(Call(request, self._kind.start("-").parse), answer)
            except PolytomicError:
                return answer  # the plan judges it
            self._take_charge(self._starting, started.id)
            if self._killed:
                self.on_kill()
        return answer

    def _take_charge(self, sync_id: str, execution_id: str) -> None:
        self._ours = (self._hook.client.settings, sync_id, execution_id)
