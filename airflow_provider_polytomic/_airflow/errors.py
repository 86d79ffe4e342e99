"""Errors for Airflow: they name the connection, and one that no retry can resolve becomes AirflowFailException."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import AirflowFailException


@contextmanager
def as_airflow_errors(conn_id: Any, retry_rejections: Callable[[], bool]) -> Iterator[None]:
    """Raise AirflowFailException for an error that no retry can resolve; other errors keep their type.

    The message of a failed request names the Airflow connection, also if the request failed in the triggerer.

    :param conn_id: the argument ``polytomic_conn_id``.
    :param retry_rejections: whether invalid arguments and rejected requests are retried, too. They are once this
        task may have started an execution, which a retry has to resume, and once a sensor has read its execution.
    """
    from airflow_provider_polytomic.api import errors

    try:
        yield
    except (ValueError, errors.PolytomicError) as error:
        if isinstance(
            error,
            errors.PolytomicApiError
            | errors.PolytomicLookupError
            | errors.PolytomicResponseError
            | errors.PolytomicUnreachableError,
        ):
            name = validation.blank_to_none(conn_id) or validation.DEFAULT_CONN_ID
            errors.add_context(error, f"Airflow connection: {name!r}")
        if _is_final(error, retry_rejections):
            raise final_error(error) from error
        raise


def _is_final(error: Exception, retry_rejections: Callable[[], bool]) -> bool:
    from airflow_provider_polytomic.api import errors

    if isinstance(error, errors.PolytomicLookupError):
        return bool(error.ids)  # without a match, the next try may find one: lists lag, and change while they are read
    if isinstance(error, errors.PolytomicNotFoundError):
        return True
    rejections = (ValueError, errors.PolytomicAuthError, errors.PolytomicValidationError)
    return isinstance(error, rejections) and not retry_rejections()


def final_error(error: Exception) -> AirflowFailException:
    """The error that fails a task without further tries. Its message names the type of the provider's error."""
    is_own_type = not isinstance(error, ValueError)
    return AirflowFailException(f"{type(error).__name__}: {error}" if is_own_type else str(error))
