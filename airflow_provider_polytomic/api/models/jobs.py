"""Background jobs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .tolerant import Model


class Job(Model):
    """A background job. Its status is ``created``, ``running``, ``done`` or ``failed``.

    The ``result`` may contain a signed URL, which is a secret.
    """

    job_id: str | None = None
    type: str | None = None
    status: str | None = None
    result: Any = Field(None, repr=False)
    error: str | None = None
