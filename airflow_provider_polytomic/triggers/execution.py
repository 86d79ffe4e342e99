"""The trigger that waits in the triggerer until an execution of a bulk or model sync has ended."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic._airflow import deferral, validation
from airflow_provider_polytomic._airflow.compat import (
    BaseTrigger,
    TriggerEvent,
    aget_xcom,
    aset_xcom,
    task_instance_state,
)
from airflow_provider_polytomic._airflow.metrics import BatchPollObserver
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook, share_settings
from airflow_provider_polytomic.triggers._worker_clock import WorkerClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from airflow_provider_polytomic.api.client import AsyncClient
    from airflow_provider_polytomic.api.executions.console_log import ConsoleLogFollower
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.api.models import Execution
    from airflow_provider_polytomic.api.settings import Settings

log = logging.getLogger(__name__)

# Seconds before the first poll. A trigger that fires within about 5 seconds of the deferral can fail the task, because
# the executor may not have noticed yet that the deferring process has ended. The worker polls before it defers anyway.
MIN_FIRST_SLEEP = 5.0
# Seconds of the 30 that Airflow grants a kill. A triggerer's first request to Airflow takes up to 10 seconds.
STATE_TIMEOUT = 20.0  # for reading the task's state
TRIGGER_KILL_TIMEOUT = 5.0  # for the cancel
_loaded = False
_kills: set[asyncio.Future[None]] = set()  # an event loop keeps only weak references
CONSOLE_KEY = "console_log"  # the XCom with the position in the console log
ENDED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class PolytomicExecutionTrigger(BaseTrigger):
    """Fires once: when an execution has ended, when the deadline has passed, or when waiting has failed.

    Its event is an :class:`~airflow_provider_polytomic._airflow.deferral.ExecutionEvent`.

    :param kind: ``bulk`` or ``model``.
    :param sync_id: the sync.
    :param execution_id: the execution; None for the oldest one of the sync that had not ended at ``after``, test runs
        excluded.
    :param polytomic_conn_id: the Airflow connection.
    :param poke_interval: maximum poll interval in seconds. Polling starts at 5 s and backs off to a quarter of the
        elapsed time.
    :param deadline: when to give up, in seconds since the epoch; None is no deadline. It survives restarts.
    :param queue_timeout: seconds from the execution's creation until it has to be running; None for no limit.
    :param after: a time in ISO 8601, for a trigger without ``execution_id``.
    :param cancel_at_deadline: whether to cancel the execution when the deadline or ``queue_timeout`` passes.
    :param cancel_on_kill: whether to cancel it when a person ends the task (Airflow 3.3 and newer). The execution of a
        task that is cleared is canceled by its next try.
    :param log_console: whether to log the execution's console log while waiting.
    :param console_cursor: the position up to which the console log was logged: a cursor of the API.
    :param deferral_state: what the task needs after the deferral, as JSON: see
        :class:`~airflow_provider_polytomic._airflow.deferral.DeferralState`. None is an empty state.
    :param waiting_since: when the task began to wait, in seconds since the epoch; None for the start of this trigger.
    :param schema_count: how many schemas the execution has, as far as is known.
    :param clock_difference: the server's time minus the worker's in seconds, as the worker measured it; None if
        unknown. ``deadline`` and ``waiting_since`` are times of the worker's clock.
    """

    def __init__(
        self,
        kind: str,
        sync_id: str,
        execution_id: str | None = None,
        polytomic_conn_id: str = PolytomicHook.default_conn_name,
        poke_interval: float = 30,
        deadline: float | None = None,
        queue_timeout: float | None = None,
        after: str | None = None,
        cancel_at_deadline: bool = False,
        cancel_on_kill: bool = False,
        log_console: bool = False,
        console_cursor: str | None = None,
        deferral_state: dict[str, Any] | None = None,
        waiting_since: float | None = None,
        schema_count: int | None = None,
        clock_difference: float | None = None,
        **_unknown_arguments: Any,  # of a row that another release wrote
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        for name, value in (
            ("cancel_at_deadline", cancel_at_deadline),
            ("cancel_on_kill", cancel_on_kill),
            ("log_console", log_console),
        ):
            validation.flag(name, value)
        self.kind = kind
        self.sync_id = sync_id
        self.execution_id = execution_id
        self.polytomic_conn_id = polytomic_conn_id
        self.poke_interval = poke_interval
        self.deadline = deadline
        self.queue_timeout = queue_timeout
        self.after = after
        self.cancel_at_deadline = cancel_at_deadline
        self.cancel_on_kill = cancel_on_kill
        self.log_console = log_console
        self.console_cursor = console_cursor
        # Not parsed here: the task refuses a malformed one, while an error in here would stop the triggerer.
        self.deferral_state = deferral.DeferralState().to_json() if deferral_state is None else deferral_state
        self.waiting_since = waiting_since
        self.schema_count = schema_count
        self.clock_difference = clock_difference
        self._ended = False  # set before the event is yielded; a kill cancels nothing after that

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow_provider_polytomic.triggers.execution.PolytomicExecutionTrigger",
            {
                "kind": self.kind,
                "sync_id": self.sync_id,
                "execution_id": self.execution_id,
                "polytomic_conn_id": self.polytomic_conn_id,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
                "queue_timeout": self.queue_timeout,
                "after": self.after,
                "cancel_at_deadline": self.cancel_at_deadline,
                "cancel_on_kill": self.cancel_on_kill,
                "log_console": self.log_console,
                "console_cursor": self.console_cursor,
                "deferral_state": self.deferral_state,
                "waiting_since": self.waiting_since,
                "schema_count": self.schema_count,
                "clock_difference": self.clock_difference,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        event = await self._wait_for_event()
        # No await from here on: Airflow takes a trigger that is suspended now for one that was killed.
        self._ended = True
        yield TriggerEvent(event.to_payload() | {"deferral_state": self.deferral_state})

    async def _wait_for_event(self) -> deferral.ExecutionEvent:
        if not _loaded:
            # The first trigger of a process imports the API client in a thread: 0.2 s that would stall other triggers.
            await asyncio.to_thread(_import_api)
        from airflow_provider_polytomic.api.errors import PolytomicError, PolytomicTimeoutError
        from airflow_provider_polytomic.api.executions.event_summary import to_event_summary

        event = functools.partial(
            deferral.ExecutionEvent,
            sync_id=self.sync_id,
            deadline=self.deadline,
            clock_difference=self.clock_difference,
        )
        try:
            execution = await self._wait_for_execution()
        except asyncio.CancelledError:
            raise  # the triggerer stops, or the task was killed: on_kill decides
        except PolytomicTimeoutError as error:
            return event(
                "timeout",
                execution_id=self.execution_id,
                message=str(error),
                still_running=error.still_running,
                limit=error.limit,
                status=error.status,
            )
        except Exception as error:
            if not isinstance(error, PolytomicError):
                log.exception("Waiting for execution %s of sync %s failed.", self.execution_id, self.sync_id)
            return event(
                "error",
                execution_id=self.execution_id,
                error_type=type(error).__name__,
                message=str(error) or repr(error),
                still_running=True,  # as far as is known, also if it was not found
            )
        return event(
            "ended",
            execution_id=execution.id,
            console_cursor=self.console_cursor,
            execution=to_event_summary(self.sync_id, execution),
        )

    async def _wait_for_execution(self) -> Execution:
        from airflow_provider_polytomic.api.client import adrive
        from airflow_provider_polytomic.api.executions.wait import wait_for_execution
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        kind, state = get_sync_kind(self.kind), self._read_deferral_state()
        console_log = await self._open_console_log(kind)

        async def sleep(seconds: float) -> None:
            if console_log is not None and console_log.cursor != self.console_cursor:
                self.console_cursor = console_log.cursor
                await self._store_console_cursor()
            await asyncio.sleep(seconds)

        client = await self._open_client()
        clock = WorkerClock(self.clock_difference, self.waiting_since, client)
        try:
            return await adrive(
                wait_for_execution(
                    kind,
                    self.sync_id,
                    self.execution_id,
                    sync_name=state.sync_name,
                    is_blocking=state.is_blocking,
                    after=datetime.fromisoformat(self.after) if self.after else None,
                    poke_interval=self.poke_interval,
                    deadline=self.deadline,
                    cancel_at_deadline=self.cancel_at_deadline,
                    queue_timeout=self.queue_timeout,
                    first_sleep=MIN_FIRST_SLEEP,
                    waiting_since=self.waiting_since,
                    schema_count=self.schema_count or 0,
                    console=console_log,
                ),
                client.send,
                sleep=sleep,
                sleep_batchable=clock.sleep_batchable,
                now=clock.now,
                reload_credentials=client.reload_credentials,
            )
        finally:
            await client.close()

    async def _open_client(self) -> AsyncClient:
        """Open a client, with the session that all triggers of the connection share.

        Otherwise, triggers that start together and end with their first poll would open and close a session one after
        the other.
        """
        from airflow_provider_polytomic.api.client import AsyncClient

        client = AsyncClient(None, self._share_settings(), BatchPollObserver())
        # The first poll reads the connection again, so that an outage of a secrets backend is tolerated like the API's.
        with contextlib.suppress(Exception):
            await client.connect()
        return client

    def _read_deferral_state(self) -> deferral.DeferralState:
        """The state for messages. A malformed one counts as empty here: it is the task that refuses it."""
        try:
            return deferral.DeferralState.from_json(self.deferral_state)
        except ValueError:
            return deferral.DeferralState()

    def _share_settings(self) -> Callable[[], Awaitable[Settings]]:
        # A connection that was changed before the task deferred must not be read as it was before.
        not_before = time.time() if self.waiting_since is None else self.waiting_since
        return share_settings(PolytomicHook(self.polytomic_conn_id), not_before)

    # The position in the console log is stored in an XCom of the task, for a triggerer that takes over.

    async def _open_console_log(self, kind: SyncKind) -> ConsoleLogFollower | None:
        from airflow_provider_polytomic.api.executions.console_log import ConsoleLogFollower

        if not self.log_console or self.execution_id is None:
            return None
        await self._read_console_cursor()
        return ConsoleLogFollower(kind, self.sync_id, self.execution_id, self.console_cursor)

    async def _read_console_cursor(self) -> None:
        if self.task_instance is None:  # in dag.test(), where no triggerer takes over
            return
        try:
            stored = await aget_xcom(self.task_instance, CONSOLE_KEY)
        except Exception as error:  # noqa: BLE001  at worst some lines are logged twice
            log.info("The position in the console log could not be read: %s. Some lines may be logged twice.", error)
            return
        if isinstance(stored, dict) and stored.get("execution_id") == self.execution_id:
            self.console_cursor = stored.get("cursor") or self.console_cursor

    async def _store_console_cursor(self) -> None:
        if self.task_instance is None:
            return
        try:
            value = {"execution_id": self.execution_id, "cursor": self.console_cursor}
            await aset_xcom(self.task_instance, CONSOLE_KEY, value)
        except Exception as error:  # noqa: BLE001  at worst some lines are logged twice
            log.info("The position in the console log could not be stored: %s. Some lines may be logged twice.", error)

    async def on_kill(self) -> None:
        """Cancel the owned execution when a person has ended the task (Airflow 3.3 and newer).

        Airflow also calls this when a triggerer lost its triggers to another one. So the task's state decides: the
        execution is canceled only if the task has ended, or no longer exists.
        """
        if self._ended or not self.cancel_on_kill or self.execution_id is None:
            return
        # Airflow 3.3 cancels a trigger every second until it has ended, also while it is in this method.
        kill = asyncio.ensure_future(self._kill())
        _kills.add(kill)
        kill.add_done_callback(_kills.discard)
        while not kill.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(kill)

    async def _kill(self) -> None:
        try:
            state = await asyncio.wait_for(task_instance_state(self.task_instance), STATE_TIMEOUT)
        except Exception:  # noqa: BLE001  without a state the execution is left running
            state = None
        if state not in (*ENDED_STATES, ""):
            log.info(
                "Execution %s of sync %s is left to its task, which has not ended (state: %s).",
                self.execution_id,
                self.sync_id,
                state or "unknown",
            )
            return
        await self._cancel()

    async def _cancel(self) -> None:
        from airflow_provider_polytomic.api.executions.cancel import cancel_unless_ended
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        # It polls first: a triggerer that was suspended may not know that another one has completed the task.
        plan = cancel_unless_ended(
            get_sync_kind(self.kind), self.sync_id, str(self.execution_id), TRIGGER_KILL_TIMEOUT, "its task was ended"
        )
        try:
            async with await PolytomicHook(self.polytomic_conn_id).async_client() as client:
                await client.run(plan)
        except Exception as error:  # noqa: BLE001  a kill must not fail
            log.warning("Execution %s of sync %s could not be canceled: %s", self.execution_id, self.sync_id, error)


def _import_api() -> None:
    global _loaded
    from airflow_provider_polytomic.api import client  # noqa: F401
    from airflow_provider_polytomic.api.endpoints import bulk_syncs, model_syncs  # noqa: F401
    from airflow_provider_polytomic.api.executions import console_log, event_summary, wait  # noqa: F401
    from airflow_provider_polytomic.api.transport import aiohttp_transport  # noqa: F401

    _loaded = True
