"""The wait for a blocking execution, which has to end before a task can start its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.deferral import ExecutionEvent

_HINT = "it is a blocking execution, which had to end before this task could start its own"


def wait_for_blocking_execution(run: Callable[[Any], Any], plan: Any) -> None:
    """Wait in the worker for the end of a blocking execution.

    :param run: runs a plan.
    :param plan: waits for its end.
    :raises PolytomicTimeoutError: the deadline has passed.
    """
    from airflow_provider_polytomic.api.errors import PolytomicNotFoundError, PolytomicTimeoutError, add_context

    try:
        run(plan)
    except PolytomicNotFoundError:
        pass  # an execution that no longer exists does not block
    except PolytomicTimeoutError as error:
        raise add_context(error, _HINT) from None


def require_end_of_blocking_execution(event: ExecutionEvent) -> None:
    """Check that a trigger event reports the end of a blocking execution.

    :raises PolytomicError: it reports a timeout, or an error.
    """
    from airflow_provider_polytomic.api.errors import PolytomicNotFoundError, PolytomicTimeoutError

    if event.outcome == "timeout":
        raise PolytomicTimeoutError(f"{event.message}; {_HINT}")
    if event.outcome == "error" and event.error_type != PolytomicNotFoundError.__name__:
        raise event.read_error()
