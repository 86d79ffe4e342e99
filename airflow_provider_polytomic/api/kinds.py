"""The two kinds of syncs, bulk and model, and the API calls that each of them has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .call import Call
from .endpoints import bulk_syncs, model_syncs
from .models import BulkSyncExecution, ConsoleLog, Execution, ModelSyncExecution
from .pagination import ListCall


@dataclass(frozen=True)
class SyncKind:
    """One kind of sync.

    :ivar name: the value of ``kind`` arguments: ``bulk`` or ``model``.
    :ivar label: the name in messages, in the singular.
    :ivar execution_class: the class of its executions.
    :ivar has_batch_status: whether one request returns the status of many syncs.
    """

    name: str
    label: str
    syncs: Callable[[], ListCall[Any]]
    sync: Callable[[str], Call[Any]]
    start: Callable[..., Call[Any]]
    executions: Callable[..., ListCall[Any]]
    execution: Callable[[str, str], Call[Any]]
    execution_class: type[Execution]
    cancel: Callable[[str, str], Call[None]]
    console_log: Callable[..., Call[ConsoleLog]]
    has_batch_status: bool

    def describe(self, sync_id: str, sync_name: str | None = None) -> str:
        """A sync as messages call it: ``bulk sync 'Orders' (456)``, or ``bulk sync 456``."""
        return f"{self.label} {sync_name!r} ({sync_id})" if sync_name else f"{self.label} {sync_id}"


SYNC_KINDS = {
    "bulk": SyncKind(
        name="bulk",
        label="bulk sync",
        syncs=bulk_syncs.list_,
        sync=bulk_syncs.get,
        start=bulk_syncs.start,
        executions=bulk_syncs.executions,
        execution=bulk_syncs.execution,
        execution_class=BulkSyncExecution,
        cancel=bulk_syncs.cancel,
        console_log=bulk_syncs.console_log,
        has_batch_status=True,
    ),
    "model": SyncKind(
        name="model",
        label="model sync",
        syncs=model_syncs.list_,
        sync=model_syncs.get,
        start=model_syncs.start,
        executions=model_syncs.executions,
        execution=model_syncs.execution,
        execution_class=ModelSyncExecution,
        cancel=model_syncs.cancel,
        console_log=model_syncs.console_log,
        has_batch_status=False,
    ),
}


def get_sync_kind(name: str) -> SyncKind:
    """The kind with this name.

    :raises ValueError: there is no such kind.
    """
    try:
        return SYNC_KINDS[name]
    except KeyError:
        raise ValueError(f"kind must be one of {sorted(SYNC_KINDS)}, not {name!r}") from None
