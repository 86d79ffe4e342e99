"""Background jobs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .tolerant import Model


class Job(Model):
    """Something that Polytomic does meanwhile: ``created``, ``running``, and at the end ``done`` or ``failed``.

    The ``result`` may hold a signed URL, which is a secret.
    """

    job_id: str | None = None
    type: str | None = None
    status: str | None = None
    result: Any = Field(None, repr=False)
    error: str | None = None
