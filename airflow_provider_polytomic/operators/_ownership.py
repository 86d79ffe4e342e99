"""Ownership: the execution that a task started, and has to cancel if it is killed or fails for good."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.api.models import Execution
    from airflow_provider_polytomic.api.plan import Request, SendResult
    from airflow_provider_polytomic.api.settings import Settings

log = logging.getLogger(__name__)

WORKER_KILL_TIMEOUT = 3.0  # seconds for the cancel of a kill; Airflow 3 ends the process 5 seconds after its signal


class OwnedExecution(NamedTuple):
    """An execution that the task started, with what a cancel needs."""

    settings: Settings
    sync_id: str
    execution_id: str


class Ownership:
    """The execution that a task started and still waits for, if any.

    A kill runs in a signal handler, where nothing can be looked up. So everything that the cancel needs is in memory.
    """

    def __init__(self, kind_name: str) -> None:
        self.owned: OwnedExecution | None = None
        self._kind_name = kind_name

    def acquire(self, settings: Settings, sync_id: str, execution_id: str) -> None:
        """Own an execution from now on."""
        self.owned = OwnedExecution(settings, sync_id, execution_id)

    def release(self) -> OwnedExecution | None:
        """Own nothing from now on: the execution has ended, or its trigger cancels it if necessary.

        :returns: the execution that was owned.
        """
        owned, self.owned = self.owned, None
        return owned

    def cancel(self) -> None:
        """Cancel the owned execution with one request of at most :data:`WORKER_KILL_TIMEOUT` seconds. Never raises."""
        owned = self.release()
        if owned is None:
            return
        from airflow_provider_polytomic.api.kinds import get_sync_kind
        from airflow_provider_polytomic.api.plan import Response
        from airflow_provider_polytomic.api.transport.requests_transport import Transport

        try:
            kind = get_sync_kind(self._kind_name)
            # The timeout applies to connecting and to the response, one after the other.
            call = kind.cancel(owned.sync_id, owned.execution_id).with_timeout(WORKER_KILL_TIMEOUT / 2)
            # A transport of its own, because the signal may have interrupted a request of the other one.
            response = Transport(owned.settings).send(call.request)
            subject = f"Execution {owned.execution_id} of {kind.describe(owned.sync_id)}"
            if isinstance(response, Response) and response.status < 300:
                log.info("The task is being killed. %s is being canceled (HTTP %d).", subject, response.status)
            else:
                log.warning(
                    "The task is being killed. %s may still be running, because the cancel request failed: %s.",
                    subject,
                    f"HTTP {response.status}" if isinstance(response, Response) else response.reason,
                )
        except Exception as error:  # noqa: BLE001  a kill must not fail
            log.warning("Execution %s of sync %s could not be canceled: %s", owned.execution_id, owned.sync_id, error)


def read_started_id(kind: SyncKind, request: Request, response: SendResult) -> str | None:
    """The id of the execution that a request has started; None for any other request, and for one that failed."""
    from airflow_provider_polytomic.api.call import Call, decode
    from airflow_provider_polytomic.api.errors import PolytomicError

    if request.idempotency_key is None:
        return None
    try:
        started: Execution = decode(Call(request, kind.start("-").parse), response)
        return started.id
    except PolytomicError:
        return None  # the plan judges the response


def cancel_unless_next_try(
    run: Callable[[Any], Any],
    kind: SyncKind,
    sync_id: str,
    execution_id: str,
    has_next_try: bool,
    cancel_on_kill: bool,
) -> None:
    """Leave an owned execution that cannot be waited for to the next try, or cancel it if there is none.

    :param run: runs a plan.
    """
    subject = f"Execution {execution_id} of {kind.describe(sync_id)} may still be running"
    if has_next_try:
        log.warning("%s. The next try of this task resumes it.", subject)
    elif cancel_on_kill:
        log.warning("%s, and no try follows. Canceling it.", subject)
        cancel_if_possible(run, kind, sync_id, execution_id, "no try follows that could wait for it")
    else:
        log.warning("%s, and no try follows. It is left running (cancel_on_kill=False).", subject)


def cancel_if_possible(run: Callable[[Any], Any], kind: SyncKind, sync_id: str, execution_id: str, reason: str) -> None:
    """Cancel an execution that may still be running. An error is logged only: the task fails with an earlier one."""
    from airflow_provider_polytomic.api.executions.cancel import CANCEL_TIMEOUT, cancel_unless_ended

    try:
        run(cancel_unless_ended(kind, sync_id, execution_id, CANCEL_TIMEOUT, reason))
    except Exception as error:  # noqa: BLE001  the error that came before matters more
        log.warning("Execution %s of %s could not be canceled: %s", execution_id, kind.describe(sync_id), error)
