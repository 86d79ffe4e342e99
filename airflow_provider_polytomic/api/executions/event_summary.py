"""The execution in a trigger event: its summary, and reading it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..models.executions import BulkSyncExecution
from .summary import summarize

if TYPE_CHECKING:
    from ..kinds import SyncKind
    from ..models import Execution


class _EventExecution(BulkSyncExecution):
    """An execution from an event payload, which may omit schemas but counts them."""

    schemas_omitted: int = 0
    schemas_failed: int = 0

    @property
    def schema_count(self) -> int:
        return super().schema_count + self.schemas_omitted

    @property
    def failed_schema_count(self) -> int:
        return max(super().failed_schema_count, self.schemas_failed)


def to_event_summary(sync_id: str, execution: Execution) -> dict[str, Any]:
    """The payload of a trigger event: the summary, and the number of failed schemas, which it may omit."""
    return summarize(sync_id, execution) | {"schemas_failed": execution.failed_schema_count}


def from_event_summary(kind: SyncKind, event: dict[str, Any]) -> Execution:
    """The execution of an event payload, without omitted schemas. Its outcome is that of the complete execution.

    :raises KeyError: there is no ``execution_id``.
    :raises ValueError: a field has an unexpected type. Unlike an API response, an event is read strictly.
    """
    execution_class = _EventExecution if kind.execution_class is BulkSyncExecution else kind.execution_class
    return execution_class(**event | {"id": event["execution_id"]})
