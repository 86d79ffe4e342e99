"""The two kinds of syncs, bulk and model, and the API calls that each of them has."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from . import models

if TYPE_CHECKING:
    from .call import Call
    from .models import ConsoleLog, Execution
    from .pagination import ListCall


class SyncKind:
    """One kind of sync. Its endpoints are imported with its first call, because a task has only one kind.

    :ivar name: the value of ``kind`` arguments: ``bulk`` or ``model``.
    :ivar label: the name in messages, in the singular.
    :ivar has_batch_status: whether one request returns the status of many syncs.
    """

    def __init__(self, name: str, *, has_batch_status: bool) -> None:
        self.name = name
        self.label = f"{name} sync"
        self.has_batch_status = has_batch_status

    def __repr__(self) -> str:
        return f"<SyncKind {self.name}>"

    @cached_property
    def _endpoints(self) -> Any:
        return importlib.import_module(f".endpoints.{self.name}_syncs", __package__)

    @property
    def execution_class(self) -> type[Execution]:
        """The class of its executions."""
        return models.BulkSyncExecution if self.name == "bulk" else models.ModelSyncExecution

    @property
    def syncs(self) -> Callable[[], ListCall[Any]]:
        return self._endpoints.list_  # type: ignore[no-any-return]

    @property
    def sync(self) -> Callable[[str], Call[Any]]:
        return self._endpoints.get  # type: ignore[no-any-return]

    @property
    def start(self) -> Callable[..., Call[Any]]:
        return self._endpoints.start  # type: ignore[no-any-return]

    @property
    def executions(self) -> Callable[..., ListCall[Any]]:
        return self._endpoints.executions  # type: ignore[no-any-return]

    @property
    def execution(self) -> Callable[[str, str], Call[Any]]:
        return self._endpoints.execution  # type: ignore[no-any-return]

    @property
    def cancel(self) -> Callable[[str, str], Call[None]]:
        return self._endpoints.cancel  # type: ignore[no-any-return]

    @property
    def console_log(self) -> Callable[..., Call[ConsoleLog]]:
        return self._endpoints.console_log  # type: ignore[no-any-return]

    def describe(self, sync_id: str, sync_name: str | None = None) -> str:
        """A sync as messages call it: ``bulk sync 'Orders' (456)``, or ``bulk sync 456``."""
        return f"{self.label} {sync_name!r} ({sync_id})" if sync_name else f"{self.label} {sync_id}"


SYNC_KINDS = {"bulk": SyncKind("bulk", has_batch_status=True), "model": SyncKind("model", has_batch_status=False)}


def get_sync_kind(name: str) -> SyncKind:
    """The kind with this name.

    :raises ValueError: there is no such kind.
    """
    try:
        return SYNC_KINDS[name]
    except KeyError:
        raise ValueError(f"kind must be one of {sorted(SYNC_KINDS)}, not {name!r}") from None
