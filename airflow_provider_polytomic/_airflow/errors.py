"""Errors for Airflow: an error that no retry can resolve becomes AirflowFailException."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_provider_polytomic._airflow.compat import AirflowFailException


@contextmanager
def as_airflow_errors(may_have_started: Callable[[], bool]) -> Iterator[None]:
    """Raise AirflowFailException for an error that no retry can resolve; other errors pass unchanged.

    :param may_have_started: whether this task may have started an execution. If so, invalid arguments and rejected
        requests are retried, because a retry has to resume that execution.
    """
    from airflow_provider_polytomic.api.errors import (
        PolytomicAuthError,
        PolytomicLookupError,
        PolytomicNotFoundError,
        PolytomicValidationError,
    )

    try:
        yield
    except PolytomicLookupError as error:
        if not error.ids:
            raise  # no match yet: the next try may find one, because lists lag and change while they are read
        raise AirflowFailException(str(error)) from error
    except PolytomicNotFoundError as error:
        raise AirflowFailException(str(error)) from error
    except (ValueError, PolytomicAuthError, PolytomicValidationError) as error:
        if may_have_started():
            raise
        raise AirflowFailException(str(error)) from error
