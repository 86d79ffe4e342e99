"""Authentication: which organization a request acts for, and who sends it."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence

from .wire import HttpError
from .world import World


def authenticate(authorization: str, worlds: Sequence[World], partner_key: str) -> tuple[World, str]:
    """Return the organization that a request acts for, and its caller: "user", "organization" or "partner".

    HTTP Basic is ``<organization id>:<key>``. A sandbox with one organization accepts any login, because it also
    stands for a deployment with a key of its own. A partner that names no organization gets the first.

    :param authorization: the request's ``Authorization`` header, which may be empty.
    :raises ApiProblem: with status 401 when the key or the organization id is missing or invalid.
    """
    scheme, _, secret = authorization.partition(" ")
    login = None
    if scheme.lower() == "basic":
        try:
            login, _, secret = base64.b64decode(secret, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            secret = ""
    if scheme.lower() in ("basic", "bearer") and secret:
        for world in worlds:
            matches = login in (None, world.id) or len(worlds) == 1
            if matches and _is_same_key(secret, world.key):
                return world, "user" if login is None else "organization"
        if _is_same_key(secret, partner_key):
            for world in worlds:
                if login in (None, world.id):
                    return world, "partner" if login is None else "organization"
    raise HttpError(401, "unauthorized", "the API key, or the organization's id before it, is missing or not valid")


def _is_same_key(given: str, key: str) -> bool:
    return bool(key) and hmac.compare_digest(given.encode(), key.encode())
