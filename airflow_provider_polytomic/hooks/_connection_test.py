"""The connection test: whether Polytomic accepts the connection, and which key it contains."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.models import Identity
    from airflow_provider_polytomic.api.settings import Settings

TEST_TIMEOUT = 9.0  # seconds for the whole test


def check_connection(settings: Settings) -> tuple[bool, str]:
    """Request the identity of the API key (``GET /api/me``) and describe the result.

    :param settings: of the connection, with ``max_retries`` 0.
    :returns: whether the test passed, and a message for the user.
    """
    from airflow_provider_polytomic.api.client import Client
    from airflow_provider_polytomic.api.endpoints import identity
    from airflow_provider_polytomic.api.errors import PolytomicError

    result = (False, f"{settings.host} did not respond within {TEST_TIMEOUT:g} s")

    def request_identity() -> None:
        nonlocal result
        try:
            with Client(settings) as client:
                owner = client.call(identity.get().with_timeout(TEST_TIMEOUT - 1))
            result = _describe_identity(owner, settings)
        except PolytomicError as error:
            result = (False, _describe_error(error, settings))
        except Exception as error:  # noqa: BLE001  an error in a thread would be lost
            result = (False, settings.redact(f"{type(error).__name__}: {error}"))

    # In a thread, because no request timeout bounds a DNS lookup.
    thread = threading.Thread(target=request_identity, daemon=True)
    thread.start()
    thread.join(TEST_TIMEOUT)
    return result


def _describe_identity(owner: Identity, settings: Settings) -> tuple[bool, str]:
    if not (owner.id or owner.organization_id or owner.email):
        return False, f"{settings.host} responds, but not as the Polytomic API does. Check host."
    if owner.is_user:
        key = f"a user key, of {owner.email or owner.id}"
    elif owner.is_organization:
        key = "an organization key"
    elif owner.is_partner:
        key = "a partner key"
    elif owner.is_system:
        key = "a deployment key"
    else:
        key = "a key"
    scope = f" in organization {owner.organization_name or owner.organization_id}" if owner.organization_id else ""
    if settings.login:
        name = (
            f"{owner.organization_name} ({owner.organization_id})" if owner.organization_name else owner.organization_id
        )
        scope = f", acting for {f'organization {name}' if name else 'the organization whose id is the login'}"
    elif owner.is_partner:
        scope = (
            ", which without a login can access only organizations and users, not syncs. "
            "To act for an organization, set the login to that organization's id"
        )
    return True, f"Connected to {settings.host} with {key}{scope}."


def _describe_error(error: Exception, settings: Settings) -> str:
    from airflow_provider_polytomic.api.errors import (
        PolytomicAuthError,
        PolytomicNotFoundError,
        PolytomicResponseError,
        PolytomicUnreachableError,
    )

    if isinstance(error, PolytomicAuthError):
        refusal = f"{settings.host} rejected the key (HTTP {error.status_code}): {error.message}."
        if settings.login:
            return (
                f"{refusal} It was sent with a login, so the login must be an organization's id, and the password a "
                "partner or deployment key that may act for this organization"
            )
        return (
            f"{refusal} It was sent without a login, as a user's key. A partner or deployment key needs the "
            "organization's id as the login"
        )
    if isinstance(error, PolytomicUnreachableError):
        return f"{settings.host} cannot be reached: {error.reason}"
    if isinstance(error, PolytomicResponseError | PolytomicNotFoundError):
        was_denied = isinstance(error, PolytomicResponseError) and error.status_code in (401, 403)
        advice = (
            "Check host and proxy. A proxy or firewall denied access before the key was checked:"
            if was_denied
            else "Check host."
        )
        return f"{settings.host} responds, but not as the Polytomic API does. {advice} {error}"
    return str(error)
