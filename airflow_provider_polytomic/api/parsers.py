"""Parsers of response bodies: from bytes to models.

A parser gets its model from a function, because the module of a model is imported with its first response.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from .pagination import Page
from .text import printable

if TYPE_CHECKING:
    from .models import Execution, Job

M = TypeVar("M")
E = TypeVar("E", bound="Execution")
_envelopes: dict[tuple[str, Any], Any] = {}
_building = threading.Lock()


def _envelope(kind: str, model: Any = None) -> Any:
    """The model of a response body, which is built once, also if several threads need it at the same time."""
    found = _envelopes.get((kind, model))
    if found is None:
        from .models import envelopes

        with _building:
            found = _envelopes.get((kind, model))
            if found is None:
                found = _envelopes[kind, model] = envelopes.build(kind, model)
    return found


def parse_one(model: Callable[[], type[M]]) -> Callable[[bytes], M]:
    """Return a parser of ``{"data": {...}}``."""

    def parse(body: bytes) -> M:
        return _envelope("one", model()).model_validate_json(body).data  # type: ignore[no-any-return]

    return parse


def parse_document(body: bytes) -> dict[str, Any]:
    """Parse ``{"data": {...}}`` without replacing values, for a body that is sent back."""
    return _envelope("one", dict[str, Any]).model_validate_json(body).data  # type: ignore[no-any-return]


def parse_execution(model: Callable[[], type[E]], sync_id: str, execution_id: str) -> Callable[[bytes], E]:
    """Return a parser of one execution. It rejects any other execution, which a stale cache may return."""
    parse_any = parse_one(model)

    def parse(body: bytes) -> E:
        execution = parse_any(body)
        other_sync = getattr(execution, "sync_id", None)
        if execution.id.casefold() != execution_id.casefold():
            raise ValueError(f"it is about execution {printable(execution.id, 100)}, not {execution_id}")
        if isinstance(other_sync, str) and other_sync.casefold() != sync_id.casefold():
            raise ValueError(f"it is about an execution of sync {printable(other_sync, 100)}, not {sync_id}")
        return execution

    return parse


def parse_list(model: Callable[[], type[M]]) -> Callable[[bytes], Page[M]]:
    """Return a parser of ``{"data": [...] | null, "pagination": {...}}``."""

    def parse(body: bytes) -> Page[M]:
        response = _envelope("list", model()).model_validate_json(body)
        token = response.pagination.next_page_token if response.pagination else None
        return Page(response.data or [], token or None, len(body))

    return parse


def parse_export(body: bytes) -> Job:
    """Parse ``{"job": {...}}``, or ``{"data": {...}}`` if the result of the job exists already."""
    from .models import Job

    response = _envelope("export").model_validate_json(body)
    if response.job is not None:
        return response.job  # type: ignore[no-any-return]
    if response.data is None:
        raise ValueError("neither a job nor its result")
    return Job(status="done", result=response.data)


def parse_nothing(_body: bytes) -> None:
    """Accept any body: only the status matters."""
