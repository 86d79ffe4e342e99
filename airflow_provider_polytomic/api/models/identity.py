"""The owner of an API key."""

from __future__ import annotations

from typing import Any

from .tolerant import Model


class Identity(Model):
    """The user or organization that owns the API key."""

    id: str | None = None
    email: str | None = None
    organization_id: str | None = None
    organization_name: str | None = None
    role: str | None = None
    is_user: bool | None = None
    is_organization: bool | None = None
    is_partner: bool | None = None
    is_system: bool | None = None
    credential: dict[str, Any] | None = None
