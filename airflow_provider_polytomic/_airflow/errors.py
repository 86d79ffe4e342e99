"""Errors for Airflow: an error that no retry can resolve becomes AirflowFailException."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow_provider_polytomic._airflow.compat import AirflowFailException


@contextmanager
def as_airflow_errors(retry_rejections: Callable[[], bool]) -> Iterator[None]:
    """Raise AirflowFailException for an error that no retry can resolve; other errors pass unchanged.

    :param retry_rejections: whether invalid arguments and rejected requests are retried, too. They are once this
        task may have started an execution, which a retry has to resume, and once a sensor has read its execution.
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
        raise final_error(error) from error
    except PolytomicNotFoundError as error:
        raise final_error(error) from error
    except (ValueError, PolytomicAuthError, PolytomicValidationError) as error:
        if retry_rejections():
            raise
        raise final_error(error) from error


def final_error(error: Exception) -> AirflowFailException:
    """The error that fails a task without further tries. Its message names the type of the provider's error."""
    is_own_type = not isinstance(error, ValueError)
    return AirflowFailException(f"{type(error).__name__}: {error}" if is_own_type else str(error))
