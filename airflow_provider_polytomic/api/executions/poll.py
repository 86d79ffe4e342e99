"""What executions of bulk and of model syncs share: looking, waiting, cancelling, judging, telling."""

from __future__ import annotations

import functools
import json
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, TypeVar

from ..call import DEFAULT_MAX_RETRIES, Call, ListCall, Page, decode, record_page_token
from ..endpoints import bulk_syncs, model_syncs
from ..errors import PolytomicError, PolytomicResponseError, PolytomicTimeoutError, parse_api_error, printable
from ..models import BulkSyncExecution, ConsoleLog, Execution, ModelSyncExecution
from ..plan import BatchableSleep, Plan, Response, current_time, send, sleep, sleep_batchable
from ..retry import is_transient, retry_after_delay
from ..syncs.lookup import find_by_name
from .console_log import ConsoleLogFollower
from .outage import OutageTracker, PollResult, backoff

log = logging.getLogger(__name__)

T = TypeVar("T")

MIN_POLL_INTERVAL = 5.0  # seconds between polls, where poke_interval is not less
CANCEL_TIMEOUT = 10.0  # seconds for a cancel at the deadline
PAGE_SIZE = 10  # executions of a page: each may tell of thousands of schemas
MAX_LISTED_ERRORS = 10  # of a model sync's execution, in a failure's message
MAX_SCHEMAS = 100
MAX_MESSAGE_LENGTH = 300
MAX_STATUS_MESSAGE_LENGTH = 1000
MAX_SUMMARY_SIZE = 64 * 1024


@dataclass(frozen=True)
class SyncKind:
    """One kind of sync: its name, and its calls."""

    name: str
    label: str
    syncs: Callable[[], ListCall[Any]]
    sync: Callable[[str], Call[Any]]
    start: Callable[..., Call[Any]]
    executions: Callable[..., ListCall[Any]]
    execution: Callable[[str, str], Call[Any]]
    model: type[Execution]
    cancel: Callable[[str, str], Call[None]]
    console_log: Callable[..., Call[ConsoleLog]]
    has_batch_status: bool  # whether the API has a summary of what many syncs do


SYNC_KINDS = {
    "bulk": SyncKind(
        "bulk",
        "bulk sync",
        bulk_syncs.list_,
        bulk_syncs.get,
        bulk_syncs.start,
        bulk_syncs.executions,
        bulk_syncs.execution,
        BulkSyncExecution,
        bulk_syncs.cancel,
        bulk_syncs.console_log,
        has_batch_status=True,
    ),
    "model": SyncKind(
        "model",
        "model sync",
        model_syncs.list_,
        model_syncs.get,
        model_syncs.start,
        model_syncs.executions,
        model_syncs.execution,
        ModelSyncExecution,
        model_syncs.cancel,
        model_syncs.console_log,
        has_batch_status=False,
    ),
}


def get_sync_kind(name: str) -> SyncKind:
    try:
        return SYNC_KINDS[name]
    except KeyError:
        raise ValueError(f"kind must be one of {sorted(SYNC_KINDS)}, not {name!r}") from None


# --- judging


class _EventExecution(BulkSyncExecution):
    """An execution as a trigger's event holds it: some schemas may be left out, but they are counted."""

    schemas_omitted: int = 0
    schemas_failed: int = 0


def failure_reason(
    execution: Execution, *, allow_errors: bool | int | float = False, min_records: int | None = None
) -> str | None:
    """Why an execution that has ended is no success, or None when it is one. Reads on from "Execution 123 …".

    :param allow_errors: what an execution that finished with errors may have of them and be a success: True allows
        any, an int so many records, a float such a share of the records. Schemas that failed as a whole, and a status
        that no count explains, are allowed by True alone.
    :param min_records: how many records make a success. Not judged for test runs, nor when the API gave no count.
    """
    if execution.status not in ("completed", "errors"):
        return f"ended with status {execution.status!r}"
    if execution.partially_failed and allow_errors is not True:
        failed, _ = _schema_counts(execution)
        if failed or not _is_allowed(execution, allow_errors):
            return f"finished with status {execution.status!r}: {_describe_errors(execution, allow_errors)}"
    if min_records is not None and not (isinstance(execution, BulkSyncExecution) and execution.is_test):
        if execution.records is None:
            log.warning("Execution %s: the API gave no record count, so min_records is not judged", execution.id)
        elif execution.records < min_records:
            return f"moved {execution.records} records, but min_records is {min_records}"
    return None


def _schema_counts(execution: Execution) -> tuple[int, int]:
    """How many schemas failed, and how many there are."""
    if not isinstance(execution, BulkSyncExecution):
        return 0, 0
    failed, listed = len(execution.failed_schemas), len(execution.schemas or [])
    if isinstance(execution, _EventExecution):
        return max(failed, execution.schemas_failed), listed + execution.schemas_omitted
    return failed, listed


def _is_allowed(execution: Execution, limit: int | float) -> bool:
    """Whether the records in error are known, and no more than allowed. A share of an unknown total is not known."""
    errors, records = execution.error_records, execution.records
    if not errors or limit is False:
        return False
    if isinstance(limit, float):
        return records is not None and errors <= Decimal(str(limit)) * records
    return errors <= limit


def _describe_errors(execution: Execution, limit: int | float) -> str:
    """What had errors, measured as the limit is, and the limit."""
    (failed, schemas), errors, records = _schema_counts(execution), execution.error_records, execution.records
    parts = [f"{failed:,} of {schemas:,} schemas failed"] if failed else []
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


# --- polling and waiting


def _poll(call: Call[T], timeout: float | None) -> Plan[PollResult[T]]:
    if timeout is not None:
        call = call.with_timeout(timeout)
    began = yield from current_time()
    answer = yield from send(call.request)
    try:
        return PollResult(decode(call, answer))
    except PolytomicError as error:
        # Only the API's own words are final, a redirect, and an answer that is too large: a page of a proxy or half an
        # answer is not.
        stays = isinstance(answer, Response) and 300 <= answer.status < 400
        foreign = isinstance(answer, Response) and parse_api_error(answer) is None
        if isinstance(error, PolytomicResponseError):
            stays, foreign = stays or error.too_large, True
        now = yield from current_time()
        return PollResult(
            error=error,
            transient=not stays and (foreign or is_transient(answer)),
            retry_after=retry_after_delay(answer, now),
            duration=now - began,
        )


def poll_execution(
    kind: SyncKind, sync_id: str, execution_id: str, *, timeout: float | None = None
) -> Plan[PollResult[Execution]]:
    """Poll an execution once."""
    return _poll(kind.execution(sync_id, execution_id), timeout)


def poll_next_execution(
    kind: SyncKind, sync_id: str, after: datetime, *, timeout: float | None = None
) -> Plan[PollResult[Execution]]:
    """Poll once for the oldest execution that is no test run and had not ended at ``after``; there may be none yet.

    :param timeout: seconds for each page. After so many no further page is asked for, and there is none yet.
    """
    began = yield from current_time()
    oldest: Execution | None = None
    pages = kind.executions(sync_id, limit=PAGE_SIZE)
    token: str | None = None
    seen: set[str] = set()
    while True:
        page: PollResult[Page[Execution]] = yield from _poll(pages.page(token), timeout)
        if page.value is None:
            too_large = isinstance(page.error, PolytomicResponseError) and page.error.too_large
            smaller = pages.with_half_page_size() if too_large else None
            if smaller is not None:
                pages = smaller
                continue
            return PollResult(None, page.error, page.transient, page.retry_after, page.duration)
        token = page.value.next_page_token
        for execution in page.value.items:  # newest first
            if getattr(execution, "is_test", False):
                continue
            ended = execution.completed_at or execution.updated_at or execution.created_at
            if execution.is_terminal and (ended is None or ended <= after):
                token = None
                break
            oldest = execution
        if token is None:
            break
        try:
            record_page_token(pages, page.value, seen)
        except PolytomicResponseError as error:
            return PollResult(error=error, transient=True)
        if timeout is not None and (yield from current_time()) - began >= timeout:
            return PollResult()
    # A list may leave out what the execution itself contains.
    return PollResult() if oldest is None else (yield from poll_execution(kind, sync_id, oldest.id, timeout=timeout))


def wait_for_execution(
    kind: SyncKind,
    sync_id: str,
    execution_id: str | None,
    *,
    after: datetime | None = None,
    poke_interval: float,
    deadline: float | None = None,
    cancel_at_deadline: bool = False,
    first_sleep: float = 0,
    since: float | None = None,
    schemas: int = 0,
    console: ConsoleLogFollower | None = None,
) -> Plan[Execution]:
    """Wait until an execution has ended, whatever its status.

    :param execution_id: the execution; without it, the oldest that is no test run and had not ended at ``after``.
    :param poke_interval: maximum seconds between polls. Polling starts at :data:`MIN_POLL_INTERVAL` and backs off to a
        quarter of the elapsed time, so that neither short syncs are found late nor long ones are polled too often.
    :param deadline: seconds since the epoch.
    :param cancel_at_deadline: whether to cancel the execution when the deadline passes.
    :param first_sleep: seconds before the first poll; if not 0, it sleeps for up to one interval more.
    :param since: when the waiting began, in seconds since the epoch, if that was before now. For a minute from then on
        an execution that is not found counts as new.
    :param schemas: how many schemas the execution has, as far as is known.
    :param console: its console log, to be followed with one request after each poll, but for the last.
    :raises PolytomicTimeoutError: the deadline has passed.
    :raises PolytomicNotFoundError: the execution is gone.
    :raises PolytomicAuthError: the key is refused, also after the connection was read again.
    :raises PolytomicError: what the server answered for ten minutes instead of a good answer.
    """
    subject = f"Execution {execution_id}" if execution_id else f"The next execution of {kind.label} {sync_id}"
    began = yield from current_time()
    after = after or datetime.fromtimestamp(began, timezone.utc)
    since = began if since is None else min(since, began)
    outage = OutageTracker(subject, poke_interval, since)
    logged = ""
    unknown_statuses: set[str | None] = set()
    # Many triggers begin at once when a triggerer does: they shall not poll at once.
    delay = first_sleep and first_sleep + _next_interval(since, poke_interval, began) * random.random()
    exact = False  # whether the server asked for this delay
    while True:
        if delay > 0:
            batchable = kind.has_batch_status and execution_id is not None and console is None and not exact
            pace = functools.partial(_next_interval, since, poke_interval)
            if (yield from _sleep(sync_id, execution_id if batchable else None, delay, pace, deadline, schemas)):
                outage.record_success()
        timeout = None if deadline is None else max(deadline - (yield from current_time()), 1.0)
        if execution_id is None:
            poll = yield from poll_next_execution(kind, sync_id, after, timeout=timeout)
        else:
            poll = yield from poll_execution(kind, sync_id, execution_id, timeout=timeout)
        now, exact = (yield from current_time()), poll.retry_after is not None
        if poll.error is None:
            outage.record_success()
            delay = _next_interval(since, poke_interval, now)
        else:
            delay = yield from outage.record_failure(poll, now)
        execution = poll.value
        if execution is not None:
            execution_id, subject = execution.id, f"Execution {execution.id}"
            schemas = len(getattr(execution, "schemas", None) or ())
            if execution.is_terminal:
                return execution
            _warn_of_unknown_status(execution, unknown_statuses)
            if format_progress(execution) != logged:
                logged = format_progress(execution)
                log.info("%s: %s", subject, logged)
            if console is not None:
                yield from console.follow(None if deadline is None else max(deadline - now, 1.0))
        if deadline is not None and now >= deadline:
            owned_id = execution_id if cancel_at_deadline else None
            raise (yield from _end_at_deadline(kind, sync_id, owned_id, subject, poll.error))
        del poll, execution  # thousands may wait here at once: none keeps what it has seen


def _sleep(
    sync_id: str,
    batchable_id: str | None,
    delay: float,
    pace: Callable[[float], float],
    deadline: float | None,
    schemas: int,
) -> Plan[bool]:
    """Sleep until the next poll, never past the deadline; longer while batch polls show that the execution runs.

    :returns: whether one has shown it.
    """
    if deadline is not None:
        delay = max(min(delay, deadline - (yield from current_time())), 0)
    if batchable_id is None:
        yield from sleep(delay)
        return False
    return (yield from sleep_batchable(BatchableSleep(sync_id, batchable_id, delay, pace, deadline, schemas)))


def _warn_of_unknown_status(execution: Execution, warned: set[str | None]) -> None:
    if not execution.has_known_status and execution.status not in warned:
        warned.add(execution.status)
        log.warning(
            "Execution %s: the status %r is unknown to this provider. Still waiting.", execution.id, execution.status
        )


def _end_at_deadline(
    kind: SyncKind, sync_id: str, owned_id: str | None, subject: str, poll_error: PolytomicError | None
) -> Plan[PolytomicTimeoutError]:
    """Cancel an owned execution, which the last poll has just shown to be running.

    One whose last poll failed is cancelled, too: an execution that nobody waits for is worse.
    """
    left, still_running = "it is left running", True
    if owned_id is not None:
        refused = yield from cancel_execution(kind, sync_id, owned_id, CANCEL_TIMEOUT)
        left = f"cancelling it failed: {refused}" if refused else "it is being cancelled"
        still_running = refused is not None
    if poll_error is not None:
        left += f"; its last poll failed: {poll_error}"
    return PolytomicTimeoutError(f"{subject} had not ended at the deadline; {left}", still_running)


def _next_interval(since: float, longest: float, now: float) -> float:
    return min(longest, max(MIN_POLL_INTERVAL, (now - since) / 4))


def cancel_execution(kind: SyncKind, sync_id: str, execution_id: str, patience: float) -> Plan[str | None]:
    """Ask the API to cancel an execution, for at most ``patience`` seconds.

    :returns: None when it accepted, else what it said instead.
    """
    began = yield from current_time()
    attempt = 0
    while True:
        left = patience - ((yield from current_time()) - began)
        call = kind.cancel(sync_id, execution_id).with_timeout(max(left, 0.5))
        answer = yield from send(call.request)
        try:
            decode(call, answer)
            return None
        except PolytomicError as error:
            attempt += 1
            delay = backoff(attempt, 0)
            left = patience - ((yield from current_time()) - began)
            if not is_transient(answer) or delay >= left:
                return str(error)
        yield from sleep(delay)


def cancel_if_running(kind: SyncKind, sync_id: str, execution_id: str, timeout: float, reason: str) -> Plan[None]:
    """Cancel an owned execution unless a poll shows that it has ended, and log which.

    When the poll fails, the cancel is sent all the same: an execution that nobody waits for is worse.

    :param timeout: seconds for both requests.
    :param reason: why it is cancelled, for the log.
    """
    began = yield from current_time()
    poll = yield from poll_execution(kind, sync_id, execution_id, timeout=timeout / 2)
    if poll.value is not None and poll.value.is_terminal:
        log.info("Execution %s has ended with status %r: there is nothing to cancel", execution_id, poll.value.status)
        return
    if poll.error is not None:
        log.warning("Execution %s is cancelled although polling it failed: %s", execution_id, poll.error)
    left = timeout - ((yield from current_time()) - began)
    refused = yield from cancel_execution(kind, sync_id, execution_id, max(left, timeout / 2))
    if refused:
        log.warning("Execution %s could not be cancelled: %s", execution_id, refused)
    else:
        log.info("Execution %s is being cancelled: %s", execution_id, reason)


# --- finding


def find_sync(kind: SyncKind, name: str, max_retries: int = DEFAULT_MAX_RETRIES) -> Plan[Any]:
    """The one sync that has this name.

    :raises PolytomicLookupError: none has it (the message lists the nearest names), or several (with their ids).
    """
    return (yield from find_by_name(kind.syncs(), name, kind.label, "sync_id", max_retries))


# --- telling


def format_progress(execution: Execution) -> str:
    """How far an execution is, in one line."""
    parts = [str(execution.status)]
    if isinstance(execution, BulkSyncExecution):
        if execution.schemas:
            done = sum(schema.status == "completed" for schema in execution.schemas)
            parts.append(f"{done} of {len(execution.schemas)} schemas")
        if execution.records is not None:
            parts.append(f"{execution.records} records")
        for count, word in ((execution.error_count, "errors"), (execution.warning_count, "warnings")):
            if count:
                parts.append(f"{count} {word}")
    elif isinstance(execution, ModelSyncExecution) and execution.counts:
        counts = execution.counts.model_dump(exclude_none=True)
        parts += [f"{value} {name}" for name, value in counts.items() if value]
    return printable(", ".join(parts), 500)


def summarize(sync_id: str, execution: Execution, *, adopted: bool = False) -> dict[str, Any]:
    """An execution as a small JSON-safe dict: for XCom, and for the trigger's event."""

    def time(value: Any) -> str | None:
        return value.isoformat() if value is not None else None

    def text(name: str, longest: int = MAX_MESSAGE_LENGTH) -> str | None:
        return printable(getattr(execution, name, None), longest) or None

    told: dict[str, Any] = {
        "sync_id": sync_id,
        "execution_id": execution.id,
        "status": execution.status,
        "status_message": text("status_message", MAX_STATUS_MESSAGE_LENGTH),
        "type": text("type"),
        "is_test": getattr(execution, "is_test", None),
        "is_resync": getattr(execution, "is_resync", None),
        "is_partial": getattr(execution, "is_partial", None),
        "fetch_mode": text("fetch_mode"),
        "output_disposition": text("output_disposition"),
        "record_count": execution.records,
        "error_count": execution.error_records,
        "warning_count": getattr(execution, "warning_count", None),
        "created_at": time(execution.created_at),
        "started_at": time(execution.started_at),
        "completed_at": time(execution.completed_at),
        "updated_at": time(execution.updated_at),
        "adopted": adopted,
    }
    if isinstance(execution, BulkSyncExecution):
        failed = {id(schema) for schema in execution.failed_schemas}
        rows = sorted(
            execution.schemas or [],
            key=lambda row: (id(row) not in failed, row.output_name or "", row.schema_id or ""),
        )
        told["schemas"] = _take_fitting(
            told,
            (
                {
                    "schema": row.schema_id,
                    "output_name": row.output_name,
                    "status": row.status,
                    "record_count": row.record_count,
                    "error_count": row.error_count,
                    "warning_count": row.warning_count,
                    "status_message": printable(row.status_message, MAX_MESSAGE_LENGTH) or None,
                }
                for row in rows[:MAX_SCHEMAS]
            ),
        )
        told["schemas_omitted"] = _schema_counts(execution)[1] - len(told["schemas"])
    elif isinstance(execution, ModelSyncExecution):
        counts = execution.counts
        told["warning_count"] = counts.warnings if counts else None
        told["counts"] = counts.model_dump(mode="json", exclude=set(counts.model_extra or ())) if counts else None
        errors = (printable(text, MAX_MESSAGE_LENGTH) for text in (execution.errors or [])[:MAX_SCHEMAS])
        told["errors"] = _take_fitting(told, errors)
    return told


def _take_fitting(told: dict[str, Any], rows: Iterable[T]) -> list[T]:
    """The first rows: as many as a summary has room for that tells so much already."""
    room = MAX_SUMMARY_SIZE - len(json.dumps(told)) - 100  # for the names of what is added
    fitting = []
    for row in rows:
        room -= len(json.dumps(row)) + 2
        if room < 0:
            break
        fitting.append(row)
    return fitting


def to_event_payload(sync_id: str, execution: Execution) -> dict[str, Any]:
    """An execution as a trigger's event holds it: the summary, and what it takes to judge without the rest."""
    return summarize(sync_id, execution) | {"schemas_failed": _schema_counts(execution)[0]}


def from_event_payload(kind: SyncKind, event: dict[str, Any]) -> Execution:
    """The execution of an event payload, without the schemas that it omits. It is judged alike."""
    model = _EventExecution if kind.model is BulkSyncExecution else kind.model
    # The constructor is strict: a field of an unexpected type is no answer of the API here, but a malformed event.
    return model(**event | {"id": event["execution_id"]})


def format_failure(
    kind: SyncKind, sync_id: str, sync_name: str | None, execution: Execution, why: str, tail: list[str]
) -> str:
    """What a person needs to know about an execution that did not succeed."""
    called = f"{sync_name!r} ({sync_id})" if sync_name else sync_id
    lines = [f"Execution {execution.id} of {kind.label} {called} {why}."]
    if isinstance(execution, BulkSyncExecution):
        if execution.status_message:
            lines.append(f"Polytomic says: {printable(execution.status_message, MAX_STATUS_MESSAGE_LENGTH)}")
        failed = execution.failed_schemas
        for row in failed[:MAX_SCHEMAS]:
            said = printable(row.status_message, MAX_MESSAGE_LENGTH) or "no message"
            which = printable(f"{row.output_name or row.schema_id}: {row.status}", MAX_MESSAGE_LENGTH)
            lines.append(f"  schema {which}: {said}")
        unlisted = _schema_counts(execution)[0] - len(failed[:MAX_SCHEMAS])
        if unlisted > 0:
            lines.append(f"  and {unlisted} schemas more")
    elif isinstance(execution, ModelSyncExecution):
        lines += [f"  {printable(text, MAX_MESSAGE_LENGTH)}" for text in (execution.errors or [])[:MAX_LISTED_ERRORS]]
    if tail:
        lines += ["The last lines of Polytomic's console log:", *(f"  {line}" for line in tail)]
    return "\n".join(lines)
