"""The executions of several tries as one. Import this module on use, because it builds a model."""

from __future__ import annotations

from ..models import BulkSyncExecution


class MergedExecution(BulkSyncExecution):
    """Several executions as one: the id and status of the last, and each schema as it was synced last.

    :ivar execution_ids: the executions, oldest first.
    :ivar last: the last execution alone.
    """

    execution_ids: list[str]
    last: BulkSyncExecution

    @property
    def unmerged(self) -> BulkSyncExecution:
        return self.last
