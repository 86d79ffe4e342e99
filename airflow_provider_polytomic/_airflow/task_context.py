"""What a task knows about itself: identity, tries, deadline, sync, and the start that an earlier try has stored."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import is_known_uncleared, task_state_store

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.executions.start_request import StoredStart
    from airflow_provider_polytomic.api.kinds import SyncKind
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

log = logging.getLogger(__name__)

STORE_KEY = "polytomic_start"  # in Airflow's task state store
MIN_RESERVE, MAX_RESERVE = 30.0, 300.0  # seconds before execution_timeout


# --- identity and tries


def idempotency_scope(context: Any) -> tuple[str, ...]:
    """Identify a task instance across its tries. Without an Airflow context every call is a task of its own."""
    ti, dag_run = context.get("ti"), context.get("dag_run")
    if ti is None:
        return (str(uuid.uuid4()),)
    start_date = getattr(dag_run, "start_date", None)
    # A DAG run that was deleted and created again has the same id, but another start date.
    start = start_date.astimezone(timezone.utc).isoformat() if isinstance(start_date, datetime) else ""
    return (str(ti.dag_id), str(ti.run_id), start, str(ti.task_id), str(getattr(ti, "map_index", -1)))


def task_instance_name(context: Any) -> str | None:
    """Identify a task instance in a trigger event; None without an Airflow context."""
    ti = context.get("ti")
    names = [getattr(ti, name, None) for name in ("dag_id", "task_id", "run_id", "map_index")]
    return " ".join(map(str, names)) if all(isinstance(name, str | int) for name in names) else None


def try_number(context: Any) -> int:
    return _read_int(getattr(context.get("ti"), "try_number", None), 1)


def max_tries(context: Any, default: int = 0) -> int:
    return _read_int(getattr(context.get("ti"), "max_tries", None), default)


def first_try(context: Any, retries: int | None, stored: StoredStart | None = None) -> int:
    """The first try since the task was last cleared.

    :param stored: the start that an earlier try has stored.
    """
    from airflow_provider_polytomic.api.executions.start_request import first_try_since_clear

    return first_try_since_clear(
        try_number(context),
        max_tries(context, retries or 0),
        retries or 0,
        stored=stored,
        uncleared=is_known_uncleared(context),
    )


def _read_int(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


# --- the stored start


def read_stored_start(context: Any) -> StoredStart | None:
    """The start that an earlier try has stored. Without it a retry replays idempotency keys, which last for a day."""
    from airflow_provider_polytomic.api.executions.start_request import StoredStart

    store = task_state_store(context)
    if store is None:
        return None
    try:
        value = store.get(STORE_KEY)
        return None if value is None else StoredStart.from_store(value)
    except Exception as error:  # noqa: BLE001  any error of Airflow's API
        log.warning(
            "The stored start of an earlier try could not be read: %s. Replaying its idempotency keys instead.", error
        )
        return None


def store_start(context: Any, start: StoredStart) -> None:
    """Store a start for later tries, where Airflow has a task state store (3.3 and newer)."""
    store = task_state_store(context)
    if store is None:
        return
    try:
        store.set(STORE_KEY, start.to_store())
    except Exception as error:  # noqa: BLE001  any error of Airflow's API
        log.warning("The start of execution %s could not be stored in Airflow: %s", start.execution_id, error)


class Tries:
    """The tries of a task instance, as the current one sees them. Airflow is called once, when it is needed.

    :param retries: of the task, as the DAG file says now.
    """

    def __init__(self, context: Any, retries: int | None) -> None:
        self.number = try_number(context)
        self._context = context
        self._retries = retries

    @cached_property
    def _stored_start(self) -> StoredStart | None:
        return read_stored_start(self._context) if self.number > 1 else None

    def read_stored_start(self) -> StoredStart | None:
        """The start that an earlier try has stored, or this one."""
        return self._stored_start

    def read_start_since_clear(self) -> StoredStart | None:
        """The start that a try since the last clear has stored."""
        stored = self.read_stored_start()
        return stored if stored is not None and stored.try_number >= self.infer_first_try() else None

    def store(self, start: StoredStart) -> None:
        """Store a start for later tries."""
        self._stored_start = start
        store_start(self._context, start)

    def infer_first_try(self) -> int:
        """The first try since the task was last cleared."""
        return first_try(self._context, self._retries, self.read_stored_start())

    def infer_is_retry(self) -> bool:
        """Whether a try since the last clear may have started an execution."""
        return self.number > self.infer_first_try()

    @property
    def has_next(self) -> bool:
        """Whether a try follows if this one fails and the error is not final."""
        return self.number <= max_tries(self._context)


# --- time


def compute_deadline(timeout: float | None, execution_timeout: timedelta | None) -> float | None:
    """The deadline in seconds since the epoch, early enough that Airflow's own timeout never strikes first.

    :param timeout: seconds from now.
    """
    limits = _list_limits(timeout, execution_timeout)
    return time.time() + min(limits)[0] if limits else None


def find_deadline_limit(timeout: float | None, execution_timeout: timedelta | None) -> str | None:
    """The argument that sets the deadline, with its value, for messages: ``timeout=300 s``."""
    limits = _list_limits(timeout, execution_timeout)
    return min(limits)[1] if limits else None


def _list_limits(timeout: float | None, execution_timeout: timedelta | None) -> list[tuple[float, str]]:
    """Seconds until the deadline by each argument, and the argument with its value."""
    limits = [] if timeout is None else [(timeout, f"timeout={timeout:.10g} s")]
    if execution_timeout is not None:
        seconds, reserve = execution_timeout.total_seconds(), execution_timeout_reserve(execution_timeout)
        text = f"execution_timeout={seconds:.10g} s, of which {reserve:.10g} s are reserved for canceling and reporting"
        limits.append((seconds - reserve, text))
    return limits


def execution_timeout_reserve(execution_timeout: timedelta) -> float:
    """Seconds before Airflow's own timeout that are reserved for canceling and reporting."""
    limit = execution_timeout.total_seconds()
    return min(max(MIN_RESERVE, limit / 10), MAX_RESERVE, limit / 2)


# --- the sync and its connection


def create_hook(conn_id: Any) -> PolytomicHook:
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

    return PolytomicHook(validation.text("polytomic_conn_id", conn_id) or validation.DEFAULT_CONN_ID)


def resolve_sync(
    run: Callable[[Any], Any], kind: SyncKind, sync_id: Any, sync_name: Any, deadline: float | None = None
) -> tuple[str, str | None]:
    """Resolve the arguments ``sync_id`` and ``sync_name``. A name is looked up.

    :param run: runs a plan.
    :param deadline: seconds since the epoch.
    :returns: the sync's id, and its name if that was given.
    :raises ValueError: not exactly one of the two is given.
    :raises PolytomicLookupError: no sync, or more than one, has the name.
    """
    validation.exactly_one("sync_id", sync_id, "sync_name", sync_name)
    sync_id, sync_name = validation.identifier("sync_id", sync_id), validation.blank_to_none(sync_name)
    if sync_id is not None:
        return sync_id, None
    from airflow_provider_polytomic.api.call import with_deadline
    from airflow_provider_polytomic.api.syncs.lookup import find_sync

    milestone = f"the {kind.label} named {sync_name!r} was found"
    return run(with_deadline(deadline, find_sync(kind, sync_name), milestone, only_reads=True)).id, sync_name
