"""Judges executions that have ended: success or failure by a task's criteria."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..models import Execution

log = logging.getLogger(__name__)


def failure_reason(
    execution: Execution, *, allow_errors: bool | int | float = False, min_records: int | None = None
) -> str | None:
    """Why a finished execution is a failure, or None for a success. The text continues "Execution 123 …".

    :param allow_errors: how many errors an execution that finished with errors may have and still succeed: True for
        any number, an int for a number of records, a float for a share of the records. Schemas that failed as a whole,
        and errors without a count, are allowed by True only.
    :param min_records: the number of records that a success needs. Not judged for test runs and without a count.
    """
    if execution.status not in ("completed", "errors"):
        return f"finished with status {execution.status!r}"
    if (
        execution.partially_failed
        and allow_errors is not True
        and (execution.failed_schema_count or not _is_allowed(execution, allow_errors))
    ):
        return f"finished with status {execution.status!r}: {_describe_errors(execution, allow_errors)}"
    if min_records is not None and not execution.is_test_run:
        if execution.records is None:
            log.warning(
                "Execution %s: min_records=%d was not checked, because the API returned no record count.",
                execution.id,
                min_records,
            )
        elif execution.records < min_records:
            return f"moved {execution.records} records, but min_records is {min_records}"
    return None


def _is_allowed(execution: Execution, limit: int | float) -> bool:
    """Whether the number of records with errors is known and within the limit. A share needs a known total."""
    errors, records = execution.error_records, execution.records
    if not errors or limit is False:
        return False
    if isinstance(limit, float):
        return records is not None and errors <= Decimal(str(limit)) * records
    return errors <= limit


def _describe_errors(execution: Execution, limit: int | float) -> str:
    """What had errors, in the unit of the limit, and the limit."""
    failed, errors, records = execution.failed_schema_count, execution.error_records, execution.records
    parts = [f"{failed:,} of {execution.schema_count:,} schemas failed"] if failed else []
    if errors:
        of_all = f" of {records:,}" if records is not None and records >= errors else ""
        share = f" ({_format_percent(errors / records)})" if of_all and records and isinstance(limit, float) else ""
        parts.append(f"{errors:,}{of_all} records had errors{share}")
    text = ", ".join(parts) or "the API does not say what had errors"
    if limit is False:
        return text
    allowed = _format_percent(limit) if isinstance(limit, float) else f"{limit:,}"
    return f"{text}; allowed: {allowed}" + (" of the records, and no schema" if failed else "")


def _format_percent(share: float) -> str:
    return f"{100 * share:.3g} %"
