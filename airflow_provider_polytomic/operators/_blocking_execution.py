"""The wait for a blocking execution, which has to end before a task can start its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.deferral import ExecutionEvent

log = logging.getLogger(__name__)

_HINT = "it had to end before this task could start its own"


def wait_for_blocking_execution(run: Callable[[Any], Any], plan: Any, execution_id: str, sync: str) -> None:
    """Wait in the worker for the end of a blocking execution.

    :param run: runs a plan.
    :param plan: waits for its end.
    :param sync: the sync, as messages name it.
    :raises PolytomicTimeoutError: the deadline has passed.
    """
    from airflow_provider_polytomic.api.errors import PolytomicNotFoundError, PolytomicTimeoutError, add_context

    try:
        status = run(plan).status
    except PolytomicNotFoundError:
        status = None
    except PolytomicTimeoutError as error:
        raise add_context(error, _HINT) from None
    _log_end(execution_id, sync, status)


def require_end_of_blocking_execution(event: ExecutionEvent, sync: str) -> None:
    """Check that a trigger event reports the end of a blocking execution.

    :param sync: the sync, as messages name it.
    :raises PolytomicError: it reports a timeout, or an error.
    """
    from airflow_provider_polytomic.api.errors import PolytomicNotFoundError, PolytomicTimeoutError

    if event.outcome == "timeout":
        raise PolytomicTimeoutError(f"{event.message}; {_HINT}")
    if event.outcome == "error" and event.error_type != PolytomicNotFoundError.__name__:
        raise event.read_error()
    _log_end(str(event.execution_id), sync, (event.execution or {}).get("status"))


def _log_end(execution_id: str, sync: str, status: object) -> None:
    """Log the end of a blocking execution. One that no longer exists, without a status, does not block either."""
    from airflow_provider_polytomic.api.text import printable

    end = f"has ended: {printable(status, 100)}" if status else "no longer exists"
    log.info("Blocking execution %s of %s %s.", execution_id, sync, end)
