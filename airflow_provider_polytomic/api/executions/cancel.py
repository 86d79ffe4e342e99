"""Cancels executions, within a bounded time."""

from __future__ import annotations

import logging
import random

from ..call import decode
from ..errors import PolytomicError
from ..kinds import SyncKind
from ..plan import Plan, current_time, send, sleep
from ..retry import backoff, is_transient
from .poll import poll_execution

log = logging.getLogger(__name__)

CANCEL_TIMEOUT = 10.0  # seconds for a cancel
MIN_CANCEL_REQUEST_TIMEOUT = 0.5  # seconds, also when no time is left


def cancel_execution(kind: SyncKind, sync_id: str, execution_id: str, timeout: float) -> Plan[str | None]:
    """Cancel an execution, repeating the request after transient failures.

    :param timeout: seconds for all requests together.
    :returns: None when the API accepted, else why it did not.
    """
    began = yield from current_time()
    failure_count = 0
    while True:
        left = timeout - ((yield from current_time()) - began)
        call = kind.cancel(sync_id, execution_id).with_timeout(max(left, MIN_CANCEL_REQUEST_TIMEOUT))
        response = yield from send(call.request)
        try:
            decode(call, response)
            return None
        except PolytomicError as error:
            failure_count += 1
            delay = backoff(failure_count, jitter=random.random())
            left = timeout - ((yield from current_time()) - began)
            if not is_transient(response) or delay >= left:
                return str(error)
        yield from sleep(delay)


def cancel_unless_ended(kind: SyncKind, sync_id: str, execution_id: str, timeout: float, reason: str) -> Plan[None]:
    """Cancel an owned execution unless a poll shows that it has ended, and log the result.

    When the poll fails, the cancel is sent anyway, so that no execution runs without a task that waits for it.

    :param timeout: seconds for all requests together.
    :param reason: why it is canceled, for the log.
    """
    subject = f"Execution {execution_id} of {kind.describe(sync_id)}"
    began = yield from current_time()
    poll = yield from poll_execution(kind, sync_id, execution_id, timeout=timeout / 2)
    if poll.value is not None and poll.value.is_terminal:
        log.info("%s has ended with status %r. There is nothing to cancel.", subject, poll.value.status)
        return
    if poll.error is not None:
        log.warning("%s could not be polled. A cancel request is sent anyway: %s", subject, poll.error)
    left = timeout - ((yield from current_time()) - began)
    refusal = yield from cancel_execution(kind, sync_id, execution_id, max(left, timeout / 2))
    if refusal:
        log.warning("%s could not be canceled: %s", subject, refusal)
    else:
        log.info("%s is being canceled: %s.", subject, reason)
