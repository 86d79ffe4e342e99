"""The requests of an operator, and the execution that one of them has started: owned, and canceled by a kill."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_polytomic.operators._arguments import ExecutionArguments

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.api.plan import Request, SendResult
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
    from airflow_provider_polytomic.operators._ownership import Ownership
    from airflow_provider_polytomic.operators._start_request import Target


class ExecutionRequests(ExecutionArguments):
    """Sends the requests of an operator. It owns what a start has started, until the operator releases it.

    :cvar kind_name: the kind of the sync: ``bulk`` or ``model``.
    """

    kind_name: ClassVar[str]
    _starting_sync_id = ""  # the sync of the start request that is being sent
    _killed = False

    def on_kill(self) -> None:
        """Cancel the owned execution, if any. One request, 3 seconds at most."""
        self._killed = True
        if self.cancel_on_kill and "_ownership" in vars(self):  # else nothing was started
            self._ownership.cancel()

    @cached_property
    def _ownership(self) -> Ownership:
        from airflow_provider_polytomic.operators._ownership import Ownership

        return Ownership(self.kind_name)

    @cached_property
    def _hook(self) -> PolytomicHook:
        from airflow_provider_polytomic._airflow.task_context import create_hook

        return create_hook(self.polytomic_conn_id)

    @property
    def _kind(self) -> SyncKind:
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        return get_sync_kind(self.kind_name)

    def _describe(self, target: Target) -> str:
        return self._kind.describe(target.sync_id, target.sync_name)

    def _run(self, plan: Any) -> Any:
        from airflow_provider_polytomic.api.client import drive

        return drive(plan, self._send_and_own, reload_credentials=self._hook.client.reload_credentials)

    def _send_and_own(self, request: Request) -> SendResult:
        """Send one request, and own what it starts. After a kill, send none, and cancel what was started during it."""
        from airflow_provider_polytomic.api.errors import PolytomicError
        from airflow_provider_polytomic.operators._ownership import read_started_id

        if self._killed:
            raise PolytomicError("The task was killed. No further request is sent.")
        response = self._hook.client.send(request)
        started_id = read_started_id(self._kind, request, response)
        if started_id is not None:
            self._ownership.acquire(self._hook.client.settings, self._starting_sync_id, started_id)
            if self._killed:
                self.on_kill()
        return response
