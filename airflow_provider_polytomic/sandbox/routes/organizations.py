# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of the caller's identity, of organizations and of their users.

They are the only ones that a partner key reaches as a Bearer token.
"""

from __future__ import annotations

import re
from typing import Any

from ..seed import ACTOR, derive_id
from ..wire import Call, HttpError, Router
from ..world import World

route = Router()

PARTNER_PATHS = re.compile(r"/api/(me|organizations(/.*)?)")


@route("GET", "/api/me")
def get_identity(world: World, call: Call) -> Any:
    user, organization = call.caller == "user", call.caller == "organization"
    identity: dict[str, Any] = {
        "id": ACTOR["id"] if user else world.id if organization else derive_id("partner", ""),
        "is_user": user,
        "is_organization": organization,
        "is_partner": call.caller == "partner",
        "is_system": False,
    }
    if call.caller != "partner":
        identity |= {"organization_id": world.id, "organization_name": world.name}
    if user:
        identity |= {"email": "sandbox@example.com", "role": "admin"}
    return {"data": identity}


@route("GET", "/api/organizations")
def list_organizations(world: World, call: Call) -> Any:
    return {"data": [_row(item) for item in _accessible(world, call)]}


@route("GET", "/api/organizations/{organization_id}")
def get_organization(world: World, call: Call, organization_id: str) -> Any:
    return {"data": _row(_find(world, call, organization_id))}


@route("GET", "/api/organizations/{organization_id}/users")
def list_users(world: World, call: Call, organization_id: str) -> Any:
    found = _find(world, call, organization_id)
    user = {"id": ACTOR["id"], "email": "sandbox@example.com", "role": "admin", "organization_id": found.id}
    return {"data": [user]}


@route("GET", "/api/organization")
def get_own_organization(world: World, call: Call) -> Any:
    return {"data": _row(world)}


def _accessible(world: World, call: Call) -> list[World]:
    return world.organizations if call.caller == "partner" else [world]


def _find(world: World, call: Call, organization_id: str) -> World:
    for item in _accessible(world, call):
        if item.id == organization_id:
            return item
    raise HttpError(404, "not_found", f"there is no organization {organization_id}")


def _row(world: World) -> dict[str, Any]:
    return {"id": world.id, "name": world.name, "issuer": None, "sso_domain": None, "sso_org_id": None}
