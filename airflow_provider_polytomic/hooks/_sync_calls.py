"""What the everyday calls of bulk syncs and of model syncs have in common, and the validation of their arguments."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_polytomic._airflow import validation

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.call import Call
    from airflow_provider_polytomic.api.client import Client
    from airflow_provider_polytomic.api.executions.log_files import LogFile
    from airflow_provider_polytomic.api.idempotency import Operation
    from airflow_provider_polytomic.api.plan import Plan

T = TypeVar("T")

DEFAULT_MAX_LOG_BYTES = 1024**3  # bytes of an execution's log files
MAX_SYNCS_PER_PAGE, MAX_EXECUTIONS_PER_PAGE = 50, 100  # limits of the API
_BOOLEAN_FIELDS = frozenset(
    {"active", "disable_record_timestamps", "only_enrich_updates", "skip_initial_backfill", "sync_all_records"}
)


class SyncCalls:
    """Base class of the everyday calls. They need a client, which the hook provides."""

    @property
    def client(self) -> Client:
        raise NotImplementedError

    def _find_sync(self, kind_name: str, name: str) -> Any:
        from airflow_provider_polytomic.api.kinds import get_sync_kind
        from airflow_provider_polytomic.api.syncs.lookup import find_sync

        return self.client.run(find_sync(get_sync_kind(kind_name), name, self.client.settings.max_retries))

    def _create_sync(self, endpoints: Any, body: dict[str, Any]) -> Any:
        validate_fields(body)
        return self.client.run(self._send_once(endpoints.create(body, idempotency_key=str(uuid.uuid4())), "creation"))

    def _update_sync(self, endpoints: Any, sync_id: str, changes: dict[str, Any]) -> Any:
        from airflow_provider_polytomic.api.parsers import parse_document
        from airflow_provider_polytomic.api.syncs.merge import merge_changes

        validate_fields(changes)
        sync_id = required_id("sync_id", sync_id)
        # The document as the API returned it: the model has None for a value that it cannot parse.
        document = self.client.call(replace(endpoints.get(sync_id), parse=parse_document))
        return self.client.call(endpoints.replace(sync_id, merge_changes(document, changes)))

    def _start_execution(
        self, kind_name: str, sync_id: str, idempotency_key: str | None, arguments: dict[str, Any]
    ) -> Any:
        from airflow_provider_polytomic.api.kinds import get_sync_kind
        from airflow_provider_polytomic.api.syncs.destination import with_argument_hints

        sync_id = required_id("sync_id", sync_id)
        arguments = {name: _START_CHECKS[name](name, value) for name, value in arguments.items()}
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        call = get_sync_kind(kind_name).start(sync_id, **arguments, idempotency_key=key)
        return self.client.run(with_argument_hints(self._send_once(call, "start"), sync_id, arguments))

    def _send_once(self, call: Call[T], operation: Operation) -> Plan[T]:
        from airflow_provider_polytomic.api.idempotency import send_once

        return send_once(call, operation, timeout=None if self.client.settings.max_retries else 0)

    def _list_executions(
        self, kind_name: str, sync_id: str, only_terminal: bool | None, ascending: bool | None, limit: int | None
    ) -> Iterator[Any]:
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        optional_flag("only_terminal", only_terminal)
        optional_flag("ascending", ascending)
        sync_id = required_id("sync_id", sync_id)
        size = page_size(limit, MAX_EXECUTIONS_PER_PAGE)
        call = get_sync_kind(kind_name).executions(
            sync_id, only_terminal=only_terminal, ascending=ascending, limit=size
        )
        return islice(self.client.iterate(call), limit)

    def _wait_for_execution(
        self, kind_name: str, sync_id: str, execution_id: str, poke_interval: float, timeout: float | None
    ) -> Any:
        from airflow_provider_polytomic.api.executions.wait import wait_for_execution
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        sync_id, execution_id = required_ids(sync_id, execution_id)
        poke_interval = validation.seconds("poke_interval", poke_interval) or 30
        timeout = validation.seconds("timeout", timeout)
        deadline = None if timeout is None else time.time() + timeout
        return self.client.run(
            wait_for_execution(
                get_sync_kind(kind_name), sync_id, execution_id, poke_interval=poke_interval, deadline=deadline
            )
        )

    def _iter_log_files(self, call: Call[Any], max_bytes: int) -> Iterator[LogFile]:
        from airflow_provider_polytomic.api.executions.log_files import iter_log_files

        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int | float) or not max_bytes > 0:
            raise ValueError(f"max_bytes must be more than 0, not {validation.format_value(max_bytes)}")
        return iter_log_files(self.client, call, max_bytes)


# --- arguments

required_id = validation.required(validation.identifier)


def required_ids(sync_id: str, execution_id: str) -> tuple[str, str]:
    """Validate the ids of an execution and of its sync."""
    return required_id("sync_id", sync_id), required_id("execution_id", execution_id)


def optional_flag(name: str, value: Any) -> bool | None:
    """Validate a boolean that may be None."""
    return None if value is None else validation.flag(name, value)


def page_size(limit: int | None, max_size: int) -> int | None:
    """Return how many items to request per page for ``limit`` items in total; None for the API's default.

    :raises ValueError: ``limit`` is not a positive integer.
    """
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit must be a whole number, 1 or more, not {limit!r}")
    return min(limit, max_size)


def matches_pattern(value: str | None, pattern: str | None) -> bool:
    """Whether a name equals a pattern or matches it; None matches all.

    Equality is checked first, because names may contain brackets.
    """
    return pattern is None or (value is not None and (value == pattern or fnmatchcase(value, pattern)))


def _optional_text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {validation.format_value(value)}")
    return value


def _selection(check: validation.Check, name: str, value: Any) -> Any:
    """Validate a list that restricts a start. It must not be empty, because the API would then sync everything."""
    return validation.non_empty(check)(name, validation.iterable(name, value))


_START_CHECKS: dict[str, validation.Check] = {
    "test": optional_flag,
    "resync": optional_flag,
    "resync_mode": _optional_text,
    "fetch_mode": _optional_text,
    "schemas": partial(_selection, validation.ids),
    "identities": partial(_selection, validation.texts),
    "source_identities": partial(_selection, validation.lists),
}


# --- bodies of requests


def validate_fields(fields: dict[str, Any]) -> None:
    """Reject fields of a sync that cannot be encoded as JSON, and text in place of a boolean.

    :raises ValueError: A field is invalid. The message names the field and the place in it.
    """
    for name, value in fields.items():
        validation.require_json(name, value)
        if name in _BOOLEAN_FIELDS:
            optional_flag(name, value)
