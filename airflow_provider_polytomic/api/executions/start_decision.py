"""What one pass of the start protocol decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from .repair import Repair

if TYPE_CHECKING:
    from ..models import Execution

Origin = Literal["started", "resumed", "attached", "fresh"]


class ResolvedExecution(NamedTuple):
    """The execution to wait for. Its status may be outdated: poll it before judging it.

    :param try_number: the try whose key started it; the current try for one that is not owned.
    :param origin: ``started`` by this try, ``resumed`` from an earlier try, ``attached``: started by another client, or
        ``fresh``: ended shortly before.
    :param repair: the executions of earlier tries that count together with it.
    """

    execution: Execution
    try_number: int
    origin: Origin = "started"
    repair: Repair = Repair()

    @property
    def is_owned(self) -> bool:
        """Whether the task has started the execution, in this try or an earlier one."""
        return self.origin in ("started", "resumed")


class Blocked(NamedTuple):
    """Another execution has to end first: wait for it, then call :func:`.start_or_resume` again.

    :param reason: the cause, for a log line.
    :param attempts: how many keys of this try are used up.
    """

    execution: Execution
    reason: str
    attempts: int = 0


class Skipped(NamedTuple):
    """Another execution is running, and ``if_running`` is ``skip``.

    :param execution: that execution; None if no list shows it.
    """

    execution: Execution | None


Decision = ResolvedExecution | Blocked | Skipped
