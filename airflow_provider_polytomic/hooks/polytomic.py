"""The hook: Polytomic's API with the credentials of an Airflow connection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import BaseHook, aget_connection, amask_secrets, mask_secrets
from airflow_provider_polytomic._airflow.metrics import BatchPollObserver

from ._bulk_syncs import BulkSyncCalls
from ._connection import CONN_TYPE, form_behavior, form_widgets, settings_from_connection
from ._connection_test import check_connection
from ._model_syncs import ModelSyncCalls
from ._shared_reads import SharedReader
from ._sync_calls import required_id

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.call import Call
    from airflow_provider_polytomic.api.client import AsyncClient, Client
    from airflow_provider_polytomic.api.models import Identity, SchemaCache
    from airflow_provider_polytomic.api.pagination import ListCall
    from airflow_provider_polytomic.api.settings import Settings

T = TypeVar("T")


class PolytomicHook(BulkSyncCalls, ModelSyncCalls, BaseHook):
    """Calls Polytomic's API with the credentials of an Airflow connection.

    The connection is read by the first call. The methods raise the errors of ``airflow_provider_polytomic.api.errors``,
    all of them subclasses of ``PolytomicError``.

    :param polytomic_conn_id: id of the Airflow connection.
    :param timeout: seconds to wait for a response; default: the connection's ``timeout``, or 60.
    :param max_retries: how often a call is retried after a transient failure; default: the connection's
        ``max_retries``, or 5.
    """

    conn_name_attr = "polytomic_conn_id"
    default_conn_name = validation.DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = "Polytomic"

    def __init__(
        self,
        polytomic_conn_id: str = default_conn_name,
        *,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> None:
        super().__init__()
        self.polytomic_conn_id = polytomic_conn_id
        self.timeout = timeout
        self.max_retries = max_retries

    def __repr__(self) -> str:
        return f"<PolytomicHook {self.polytomic_conn_id}>"

    def __getstate__(self) -> dict[str, Any]:
        # The client contains the API key and must not be pickled. Another process reads the connection itself.
        return {name: value for name, value in self.__dict__.items() if name != "client"}

    # --- the connection form

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form for ``extra``. Used by Airflow before 3.2.

        Later versions read them from the provider's metadata.
        """
        return form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return which standard fields the connection form hides and renames. Used by Airflow before 3.2."""
        return form_behavior(has_widgets=bool(cls.get_connection_form_widgets()))

    # --- clients

    def settings(self) -> Settings:
        """Read the connection and convert it to settings.

        :raises ValueError: a field of the connection is invalid. The message names the field.
        """
        settings = settings_from_connection(self.get_connection(self.polytomic_conn_id), self.timeout, self.max_retries)
        mask_secrets(*settings.secrets)
        return settings

    @cached_property
    def client(self) -> Client:
        """The client, created on first use. It reads the connection again when the API rejects the key."""
        from airflow_provider_polytomic.api.client import Client

        return Client(self.settings(), self.settings)

    def get_conn(self) -> Client:
        """Return the client, by the method name that all Airflow hooks have."""
        return self.client

    async def async_client(self) -> AsyncClient:
        """Create a client for a trigger. All clients of a triggerer share one HTTP session.

        Close it before the trigger yields its event.

        :raises ValueError: a field of the connection is invalid. The message names the field.
        """
        from airflow_provider_polytomic.api.client import AsyncClient

        read_settings = share_settings(self, time.time())
        return AsyncClient(await read_settings(), read_settings, BatchPollObserver())

    def call(self, call: Call[T]) -> T:
        """Make one call of an endpoint: ``hook.call(bulk_syncs.get(sync_id))``.

        :param call: from a function of ``airflow_provider_polytomic.api.endpoints``.
        :raises PolytomicError: the call failed. A transient failure was retried ``max_retries`` times.
        """
        return self.client.call(call)

    def iterate(self, call: ListCall[T]) -> Iterator[T]:
        """Iterate over a list lazily, page by page: ``hook.iterate(connections.list_())``.

        An item that appears on two pages, because the list changed between the requests, is returned once. An item
        that moves to an earlier page meanwhile is missed; the next call returns it.

        :param call: from a function of ``airflow_provider_polytomic.api.endpoints`` that lists items.
        """
        return self.client.iterate(call)

    def test_connection(self) -> tuple[bool, str]:
        """Test the connection within 10 seconds (``GET /api/me``), without retries.

        :returns: whether the connection works, and a message: which key it contains, or what is wrong.
        """
        try:
            settings = replace(self.settings(), max_retries=0)
        except Exception as error:  # noqa: BLE001  the message is what the user needs
            return False, str(error)
        return check_connection(settings)

    # --- everyday calls of the organization

    def get_identity(self) -> Identity:
        """Get the owner of the API key (``GET /api/me``)."""
        from airflow_provider_polytomic.api.endpoints import identity

        return self.call(identity.get())

    def refresh_schemas(self, connection_id: str, *, poke_interval: float = 5, timeout: float = 600) -> SchemaCache:
        """Refresh Polytomic's cache of a connection's schemas and fields, and wait until it is complete.

        The API calls are ``POST /api/connections/{id}/schemas/refresh``, then ``GET …/schemas/status``.

        :param connection_id: id of a connection at Polytomic.
        :param poke_interval: the maximum poll interval in seconds. Polling starts at 5 s and backs off.
        :param timeout: seconds.
        :raises PolytomicTimeoutError: the refresh was not complete within ``timeout``.
        """
        from airflow_provider_polytomic.api.syncs.schema_refresh import refresh_schemas

        connection_id = required_id("connection_id", connection_id)
        poke_interval = validation.seconds("poke_interval", poke_interval) or 5
        deadline = time.time() + (validation.seconds("timeout", timeout) or 600)
        return self.client.run(refresh_schemas(connection_id, poke_interval=poke_interval, deadline=deadline))


def share_settings(hook: PolytomicHook, not_before: float) -> SharedReader:
    """Create the function with which a client in the triggerer reads the connection of a hook.

    :param not_before: when a read that other clients share may have begun, in seconds since the epoch.
    """
    key = (hook.polytomic_conn_id, hook.timeout, hook.max_retries)
    return SharedReader(key, partial(_read_settings, hook), not_before)


async def _read_settings(hook: PolytomicHook) -> Settings:
    """Read the connection of a hook inside the triggerer.

    :raises ValueError: as :meth:`PolytomicHook.settings`.
    """
    settings = settings_from_connection(await aget_connection(hook.polytomic_conn_id), hook.timeout, hook.max_retries)
    await amask_secrets(*settings.secrets)
    return settings
