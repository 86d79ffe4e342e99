"""Waiting in the triggerer for the end of an execution, of a bulk or of a model sync."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import (
    BaseTrigger,
    TriggerEvent,
    aget_xcom,
    aset_xcom,
    task_instance_state,
)
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook, read_settings_in_triggerer

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.models import Execution

log = logging.getLogger(__name__)

# A trigger that fires within some 5 seconds of its task's deferral can fail the task: the executor may
# not have noticed yet that the deferring process has ended. The worker looks before it defers anyway.
MIN_FIRST_SLEEP = 5.0
# What a kill may take of the 30 seconds that Airflow grants it. The first question that a triggerer ever asks
# its Airflow takes up to 10 seconds.
STATE_TIMEOUT = 20.0
KILL_TIMEOUT = 5.0
_loaded = False
_kills: set[asyncio.Future[None]] = set()  # what runs in a loop lives only as long as somebody knows it
CONSOLE_KEY = "console_log"  # of the XCom that says how far the console log was logged
ENDED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


class PolytomicExecutionTrigger(BaseTrigger):
    """Fires once: when an execution has ended, when the deadline has passed, or when it cannot be told any more.

    :param kind: ``bulk`` or ``model``.
    :param sync_id: the sync.
    :param execution_id: the execution; without it, the oldest one of the sync that is no test run and had not
        ended at ``after``.
    :param polytomic_conn_id: the Airflow connection.
    :param poke_interval: seconds between looks, at most: they come more often at first.
    :param since: when the task began to wait, in seconds since the epoch; None: with this trigger.
    :param deadline: seconds since the epoch, or None. It survives restarts.
    :param after: a time in ISO 8601, for a trigger without ``execution_id``.
    :param schemas: how many schemas it has, as far as is known.
    :param cancel_at_deadline: whether the execution is cancelled when the deadline passes.
    :param cancel_on_kill: whether it is cancelled when a person ends the task (Airflow ≥ 3.3). Of a task that
        is cleared the next try cancels it.
    :param log_console: whether the execution's console log is logged on the way.
    :param console_after: how far that log has been logged already: a cursor of the API.
    :param notes: what the task wants to find in the event again: JSON scalars.
    """

    def __init__(
        self,
        kind: str,
        sync_id: str,
        execution_id: str | None = None,
        polytomic_conn_id: str = PolytomicHook.default_conn_name,
        poke_interval: float = 30,
        deadline: float | None = None,
        after: str | None = None,
        cancel_at_deadline: bool = False,
        cancel_on_kill: bool = False,
        log_console: bool = False,
        console_after: str | None = None,
        notes: dict[str, Any] | None = None,
        since: float | None = None,
        schemas: int | None = None,
        **_of_another_version: Any,  # a row that another release wrote may hold more
    ) -> None:
        super().__init__()
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
        self.after = after
        self.cancel_at_deadline = cancel_at_deadline
        self.cancel_on_kill = cancel_on_kill
        self.log_console = log_console
        self.console_after = console_after
        self.notes = notes or {}
        self.since = since
        self.schemas = schemas
        self._ended = False  # set before the event is yielded: from then on there is nothing to cancel

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
                "after": self.after,
                "cancel_at_deadline": self.cancel_at_deadline,
                "cancel_on_kill": self.cancel_on_kill,
                "log_console": self.log_console,
                "console_after": self.console_after,
                "notes": self.notes,
                "since": self.since,
                "schemas": self.schemas,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        event = await self._event()
        # Nothing may be awaited from here on: a trigger that does is taken for one that was killed.
        self._ended = True
        yield TriggerEvent(event)

    async def _event(self) -> dict[str, Any]:
        if not _loaded:
            # The first trigger of a process loads what all need: some 0.2 s, which must not stall the others.
            await asyncio.to_thread(_import_api)
        from airflow_provider_polytomic.api.errors import PolytomicError, PolytomicTimeoutError
        from airflow_provider_polytomic.api.executions.summary import to_event_payload

        base = {"sync_id": self.sync_id, "execution_id": self.execution_id, "notes": self.notes}
        try:
            execution = await self._end()
            base["console_after"] = self.console_after
        except asyncio.CancelledError:
            raise  # a triggerer that stops, or a kill: on_kill decides
        except PolytomicTimeoutError as error:
            return base | {"outcome": "timeout", "message": str(error), "still_running": error.still_running}
        except Exception as error:
            if not isinstance(error, PolytomicError):
                log.exception("Waiting for execution %s failed", self.execution_id)
            return base | {
                "outcome": "error",
                "error": type(error).__name__,
                "message": str(error) or repr(error),
                "still_running": True,  # as far as is known: also one that was not found may run
            }
        adopted = {"adopted": bool(self.notes.get("adopted"))}
        return base | {"outcome": "ended"} | to_event_payload(self.sync_id, execution) | adopted

    async def _end(self) -> Execution:
        from airflow_provider_polytomic.api.client import AsyncClient, adrive
        from airflow_provider_polytomic.api.executions.console_log import ConsoleLogFollower
        from airflow_provider_polytomic.api.executions.wait import wait_for_execution
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        kind, console_log = get_sync_kind(self.kind), None
        if self.log_console and self.execution_id is not None:
            await self._recall()
            console_log = ConsoleLogFollower(kind, self.sync_id, self.execution_id, self.console_after)

        async def sleep(seconds: float) -> None:
            if console_log is not None and console_log.after != self.console_after:
                self.console_after = console_log.after
                await self._remember()
            await asyncio.sleep(seconds)

        # Read when it is first needed: a secrets backend that is down for a moment is waited for like the API.
        client = AsyncClient(None, functools.partial(read_settings_in_triggerer, PolytomicHook(self.polytomic_conn_id)))
        try:
            return await adrive(
                wait_for_execution(
                    kind,
                    self.sync_id,
                    self.execution_id,
                    after=datetime.fromisoformat(self.after) if self.after else None,
                    poke_interval=self.poke_interval,
                    deadline=self.deadline,
                    cancel_at_deadline=self.cancel_at_deadline,
                    first_sleep=MIN_FIRST_SLEEP,
                    since=self.since,
                    schemas=self.schemas or 0,
                    console=console_log,
                ),
                client.send,
                sleep=sleep,
                sleep_batchable=client.sleep_batchable,
                reload_credentials=client.reload_credentials,
            )
        finally:
            await client.close()

    # A triggerer that begins again has forgotten how far the console log was logged. An XCom of the task has not.

    async def _recall(self) -> None:
        if self.task_instance is None:  # in dag.test() it has none, and no second triggerer
            return
        try:
            kept = await aget_xcom(self.task_instance, CONSOLE_KEY)
        except Exception as error:  # noqa: BLE001  at worst some lines are logged twice
            log.info("How far the console log was logged could not be read: %s", error)
            return
        if isinstance(kept, dict) and kept.get("execution_id") == self.execution_id:
            self.console_after = kept.get("after") or self.console_after

    async def _remember(self) -> None:
        if self.task_instance is None:
            return
        try:
            kept = {"execution_id": self.execution_id, "after": self.console_after}
            await aset_xcom(self.task_instance, CONSOLE_KEY, kept)
        except Exception as error:  # noqa: BLE001  at worst some lines are logged twice
            log.info("How far the console log was logged could not be noted: %s", error)

    async def on_kill(self) -> None:
        """Cancel our execution when a person has ended the task (Airflow ≥ 3.3).

        Airflow also calls this when a triggerer lost its triggers to another one, so the task's own state
        decides: unless it has ended, or is known to be gone, the execution is left alone.
        """
        if self._ended or not self.cancel_on_kill or self.execution_id is None:
            return
        # Airflow 3.3 cancels a trigger again every second until it has ended, so also while it is in here.
        killing = asyncio.ensure_future(self._kill())
        _kills.add(killing)
        killing.add_done_callback(_kills.discard)
        while not killing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(killing)

    async def _kill(self) -> None:
        try:
            state = await asyncio.wait_for(task_instance_state(self.task_instance), STATE_TIMEOUT)
        except Exception:  # noqa: BLE001  no answer is no proof
            state = None
        if state not in (*ENDED_STATES, ""):
            log.info("The task is %s: execution %s is left alone", state or "in an unknown state", self.execution_id)
            return
        await self._cancel()

    async def _cancel(self) -> None:
        from airflow_provider_polytomic.api.executions.cancel import cancel_if_running
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        # A triggerer that was frozen may be the last to learn that another one has completed the task.
        plan = cancel_if_running(
            get_sync_kind(self.kind), self.sync_id, str(self.execution_id), KILL_TIMEOUT, "its task was ended"
        )
        try:
            async with await PolytomicHook(self.polytomic_conn_id).async_client() as client:
                await client.run(plan)
        except Exception as error:  # noqa: BLE001  a kill must not fail
            log.warning("Execution %s could not be cancelled: %s", self.execution_id, error)


def _import_api() -> None:
    global _loaded
    from airflow_provider_polytomic.api import client  # noqa: F401
    from airflow_provider_polytomic.api.executions import console_log, summary, wait  # noqa: F401
    from airflow_provider_polytomic.api.transport import aiohttp_transport  # noqa: F401

    _loaded = True
