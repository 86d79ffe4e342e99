"""Parsers of response bodies: from bytes to models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pydantic import Field

from .models import Execution, Job
from .models.tolerant import TolerantModel
from .pagination import Page
from .text import printable

M = TypeVar("M")
E = TypeVar("E", bound=Execution)


class _Envelope(TolerantModel, Generic[M]):
    data: M


class _Pagination(TolerantModel):
    __strict_fields__ = frozenset({"next_page_token"})

    next_page_token: str | None = Field(None, max_length=4000)


class _ListEnvelope(TolerantModel, Generic[M]):
    # Without a readable token, a list would seem to be complete.
    __strict_fields__ = frozenset({"data", "pagination"})

    data: list[M] | None = None
    pagination: _Pagination | None = None


def parse_one(model: type[M]) -> Callable[[bytes], M]:
    """Return a parser of ``{"data": {...}}``."""
    envelope = _Envelope[model]  # type: ignore[valid-type]

    def parse(body: bytes) -> M:
        return envelope.model_validate_json(body).data

    return parse


class _Document(TolerantModel):
    data: dict[str, Any]


def parse_document(body: bytes) -> dict[str, Any]:
    """Parse ``{"data": {...}}`` without replacing values, for a body that is sent back."""
    return _Document.model_validate_json(body).data


def parse_execution(model: type[E], sync_id: str, execution_id: str) -> Callable[[bytes], E]:
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


def parse_list(model: type[M]) -> Callable[[bytes], Page[M]]:
    """Return a parser of ``{"data": [...] | null, "pagination": {...}}``."""
    envelope = _ListEnvelope[model]  # type: ignore[valid-type]

    def parse(body: bytes) -> Page[M]:
        response = envelope.model_validate_json(body)
        token = response.pagination.next_page_token if response.pagination else None
        return Page(response.data or [], token or None, len(body))

    return parse


class _ExportEnvelope(TolerantModel):
    data: dict[str, Any] | None = None
    job: Job | None = None


def parse_export(body: bytes) -> Job:
    """Parse ``{"job": {...}}``, or ``{"data": {...}}`` if the result of the job exists already."""
    response = _ExportEnvelope.model_validate_json(body)
    if response.job is not None:
        return response.job
    if response.data is None:
        raise ValueError("neither a job nor its result")
    return Job(status="done", result=response.data)


def parse_nothing(_body: bytes) -> None:
    """Accept any body: only the status matters."""
