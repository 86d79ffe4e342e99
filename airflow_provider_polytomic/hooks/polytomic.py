"""From an Airflow connection to a client of Polytomic's API."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import BaseHook, aget_connection, amask_secrets, mask_secrets
from airflow_provider_polytomic.get_provider_info import EXTRA_FIELDS, UI_FIELDS

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.call import Call, ListCall
    from airflow_provider_polytomic.api.client import AsyncClient, Client
    from airflow_provider_polytomic.api.executions.log_files import LogFile
    from airflow_provider_polytomic.api.models import (
        BulkSync,
        BulkSyncExecution,
        Execution,
        Identity,
        ModelSync,
        ModelSyncExecution,
        SchemaCache,
    )
    from airflow_provider_polytomic.api.plan import Plan
    from airflow_provider_polytomic.api.settings import Settings

T = TypeVar("T")

DEFAULT_MAX_LOG_BYTES = 1024**3  # of an execution's log files, unless somebody says otherwise
MAX_SYNCS_PER_PAGE, MAX_EXECUTIONS_PER_PAGE = 50, 100  # at most, by the API
TEST_TIMEOUT = 9.0  # seconds for a connection test
# What the API answers about a sync, but does not accept back.
_READ_ONLY = frozenset(
    {"id", "organization_id", "created_at", "created_by", "updated_at", "updated_by", "problems", "model_ids"}
)
_SCHEDULES = frozenset({"default_schedule", "additional_schedules", "schedule"})  # with more of that inside
# What the API answers in two shapes, an old and a new one. It refuses a request whose shapes say different
# things, or takes the new one, so a change in one shape must leave out what was read of the other.
_SHAPES = (({"identity"}, {"identities"}), ({"filters", "filter_logic"}, {"model_filters", "target_filters"}))


class PolytomicHook(BaseHook):
    """Talks to Polytomic with the credentials of an Airflow connection.

    Nothing is read or opened before the first call. The methods raise the errors of
    ``airflow_provider_polytomic.api.errors``, all of them ``PolytomicError``.

    :param polytomic_conn_id: the Airflow connection.
    :param timeout: seconds to wait for an answer; default: what the connection says, else 60.
    :param max_retries: how often a single call is asked again after a passing failure; default: what the
        connection says, else 5.
    """

    conn_name_attr = "polytomic_conn_id"
    default_conn_name = validation.DEFAULT_CONN_ID
    conn_type = "polytomic"
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
        # The client, which holds the key, stays in this process: another one reads the connection for itself.
        return {name: value for name, value in self.__dict__.items() if name != "client"}

    # --- the connection form

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Our fields of the form, for Airflow before 3.2; later ones read the provider's metadata."""
        try:
            from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
            from flask_babel import lazy_gettext
            from wtforms import PasswordField, StringField
        except ImportError:  # the form's libraries are not installed with Airflow 3: `extra` is shown instead
            return {}

        def widget(field: dict[str, Any]) -> Any:
            secret = field["schema"].get("format") == "password"
            kind, look = (PasswordField, BS3PasswordFieldWidget) if secret else (StringField, BS3TextFieldWidget)
            return kind(lazy_gettext(field["label"]), widget=look(), description=field["description"])

        return {name: widget(field) for name, field in EXTRA_FIELDS.items()}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which standard fields the form hides and renames, for Airflow before 3.2."""
        behaviour: dict[str, Any] = json.loads(json.dumps(UI_FIELDS))
        if cls.get_connection_form_widgets():
            behaviour["placeholders"] |= {name: field["placeholder"] for name, field in EXTRA_FIELDS.items()}
        else:
            behaviour["hidden-fields"].remove("extra")
        # This method spells its keys with underscores, the metadata with hyphens.
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    # --- clients

    def settings(self) -> Settings:
        """Read the connection: where Polytomic is, and how to reach it.

        :raises ValueError: a field of the connection is wrong; the message names it.
        """
        settings = settings_from_connection(self.get_connection(self.polytomic_conn_id), self.timeout, self.max_retries)
        mask_secrets(*settings.secrets)
        return settings

    @cached_property
    def client(self) -> Client:
        """The client, made when it is first needed. It reads the connection again when its key is refused."""
        from airflow_provider_polytomic.api.client import Client

        return Client(self.settings(), self.settings)

    def get_conn(self) -> Client:
        """The same, by the name that Airflow's hooks have for it."""
        return self.client

    async def async_client(self) -> AsyncClient:
        """A client for triggers; close it before the event is yielded. Many share one HTTP session."""
        from airflow_provider_polytomic.api.client import AsyncClient

        read = partial(read_settings_in_triggerer, self)
        return AsyncClient(await read(), read)

    def call(self, call: Call[T]) -> T:
        """Make one call of any endpoint: ``hook.call(bulk_syncs.get(sync_id))``.

        :raises PolytomicError: it failed, also after ``max_retries`` repetitions where these may help.
        """
        return self.client.call(call)

    def iterate(self, call: ListCall[T]) -> Iterator[T]:
        """Walk any list, lazily, page after page: ``hook.iterate(connections.list_())``.

        An item that appears on two pages because the list changed between them is returned once. One that moves to an
        earlier page meanwhile, because it was changed, is missed; the next walk returns it.
        """
        return self.client.iterate(call)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the connection works, and whose key it is, or what is wrong (``GET /api/me``). Takes 10 s at most."""
        from airflow_provider_polytomic.api.client import Client
        from airflow_provider_polytomic.api.endpoints import identity
        from airflow_provider_polytomic.api.errors import PolytomicError

        try:
            settings = replace(self.settings(), max_retries=0)
        except Exception as error:  # noqa: BLE001  whatever is wrong with the connection is what the user asks
            return False, str(error)
        result = (False, f"{settings.host} did not answer within {TEST_TIMEOUT:g} s")

        def ask() -> None:
            nonlocal result
            try:
                with Client(settings) as client:
                    who = client.call(identity.get().with_timeout(TEST_TIMEOUT - 1))
                result = _describe_identity(who, settings)
            except PolytomicError as error:
                result = (False, _describe_error(error, settings))
            except Exception as error:  # noqa: BLE001  nobody would see it in this thread
                result = (False, settings.redact(f"{type(error).__name__}: {error}"))

        # In a thread, because a name server that does not answer heeds no timeout.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(TEST_TIMEOUT)
        return result

    # --- everyday calls

    def get_identity(self) -> Identity:
        """Whose key it is (``GET /api/me``)."""
        from airflow_provider_polytomic.api.endpoints import identity

        return self.call(identity.get())

    def refresh_schemas(self, connection_id: str, *, poke_interval: float = 5, timeout: float = 600) -> SchemaCache:
        """Have Polytomic look anew which schemas and fields a connection has, and wait until it has done so
        (``POST /api/connections/{id}/schemas/refresh``, then ``GET …/schemas/status``).

        :param poke_interval: seconds between looks.
        :param timeout: seconds.
        :raises PolytomicTimeoutError: it had not done so in time.
        """
        import time

        from airflow_provider_polytomic.api.syncs.schema_refresh import refresh_schemas

        connection_id = _id("connection_id", connection_id)
        poke_interval = validation.seconds("poke_interval", poke_interval) or 5
        deadline = time.time() + (validation.seconds("timeout", timeout) or 600)
        return self.client.run(refresh_schemas(connection_id, poke_interval=poke_interval, deadline=deadline))

    def list_bulk_syncs(
        self,
        active: bool | None = None,
        *,
        name: str | None = None,
        source_connection_id: str | None = None,
        destination_connection_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[BulkSync]:
        """All bulk syncs, last changed first (``GET /api/bulk/syncs``), or those of them that fit.

        Each is returned once. The list is read page after page (50 syncs a page), and a sync that is changed after the
        first page was read and before its own is missed: it is at the front then. To be sure of one sync, use
        :meth:`get_bulk_sync` or :meth:`find_bulk_sync`; to be sure of all, list until two lists in a row have the same
        ids.

        :param active: only active (True) or only paused ones (False).
        :param name: only syncs whose name is this, or fits it as a pattern: ``*``, ``?`` and ``[…]`` are those of
            :mod:`fnmatch`; case counts.
        :param source_connection_id: only syncs that read from this connection.
        :param destination_connection_id: only syncs that write to this connection.
        :param limit: return at most so many. Without the three conditions above, which the API does not know, no more
            than these are requested.
        :raises ValueError: ``limit`` is less than 1.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        _flag("active", active)
        source_connection_id = validation.identifier("source_connection_id", source_connection_id)
        destination_connection_id = validation.identifier("destination_connection_id", destination_connection_id)
        size = _page_size(limit, MAX_SYNCS_PER_PAGE)
        if (name, source_connection_id, destination_connection_id) != (None, None, None):
            size = None
        fitting = (
            sync
            for sync in self.iterate(bulk_syncs.list_(active=active, limit=size))
            if _matches_pattern(sync.name, name)
            and source_connection_id in (None, sync.source_connection_id)
            and destination_connection_id in (None, sync.destination_connection_id)
        )
        return islice(fitting, limit)

    def get_bulk_sync(self, sync_id: str) -> BulkSync:
        """One bulk sync (``GET /api/bulk/syncs/{id}``)."""
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        return self.call(bulk_syncs.get(_id("sync_id", sync_id)))

    def find_bulk_sync(self, name: str) -> BulkSync:
        """The bulk sync of that name.

        A sync is not missed when it is changed during the look-up: before the answer is "none", the list is read until
        two reads in a row have the same ids, at most five times.

        :raises PolytomicLookupError: none has it (the message lists the nearest names), or several (their ids, also in
            the error's ``ids``).
        """
        return self._find("bulk", name)

    def create_bulk_sync(self, **body: Any) -> BulkSync:
        """Create a bulk sync (``POST /api/bulk/syncs``), with the fields of the API's request.

        When no answer comes, the outcome is asked for with the same key for a minute: nothing is created twice.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs
        from airflow_provider_polytomic.api.idempotency import CREATION

        _check_fields(body)
        return self.client.run(self._once(bulk_syncs.create(body, idempotency_key=str(uuid.uuid4())), CREATION))

    def update_bulk_sync(self, sync_id: str, **changes: Any) -> BulkSync:
        """Change some fields of a bulk sync: it is read, merged and written back (``GET``, then ``PUT``)."""
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        _check_fields(changes)
        sync_id = _id("sync_id", sync_id)
        return self.call(bulk_syncs.replace(sync_id, _merge_changes(self._document(bulk_syncs.get(sync_id)), changes)))

    def activate_bulk_sync(self, sync_id: str, active: bool = True) -> None:
        """Activate a bulk sync, or pause it, which also cancels what runs (``POST …/activate``)."""
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        self.call(bulk_syncs.activate(_id("sync_id", sync_id), validation.flag("active", active)))

    def delete_bulk_sync(self, sync_id: str) -> None:
        """Delete a bulk sync with its history; cancels what runs (``DELETE /api/bulk/syncs/{id}``)."""
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        self.call(bulk_syncs.delete(_id("sync_id", sync_id)))

    def start_bulk_sync(
        self,
        sync_id: str,
        *,
        test: bool | None = None,
        resync_mode: str | None = None,
        fetch_mode: str | None = None,
        schemas: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> BulkSyncExecution:
        """Start an execution (``POST /api/bulk/syncs/{id}/executions``).

        When no answer comes, the outcome is asked for with the same key for a minute: nothing is started twice.

        :param test: validate the sync; excludes ``resync_mode``.
        :param resync_mode: ``refetch``, ``resync`` or ``rebuild``. Where the server refuses one that the destination
            does not support, the error names those that it does.
        :param fetch_mode: ``none``, ``incremental`` or ``full``.
        :param schemas: ids of the schemas to sync, any iterable; default: all that are enabled.
        :param idempotency_key: 8 to 255 letters, digits, ``-``, ``_``; default: a random one.
        :raises PolytomicConflictError: another execution runs; at once.
        :raises ValueError: an argument is wrong, or two exclude each other; an empty list is wrong, because the API
            would sync all schemas. Nothing was sent.
        """
        return self._start(
            "bulk",
            sync_id,
            idempotency_key,
            {"test": test, "resync_mode": resync_mode, "fetch_mode": fetch_mode, "schemas": schemas},
        )

    def get_bulk_sync_execution(self, sync_id: str, execution_id: str) -> BulkSyncExecution:
        """One execution, with a row per schema (``GET …/executions/{exec_id}``)."""
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        return self.call(bulk_syncs.execution(*_ids(sync_id, execution_id)))

    def list_bulk_sync_executions(
        self,
        sync_id: str,
        only_terminal: bool | None = None,
        ascending: bool | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[BulkSyncExecution]:
        """A sync's executions, newest first (``GET …/executions``), each once.

        Executions that begin while the list is read may or may not be returned.

        :param only_terminal: only those that have ended.
        :param ascending: oldest first.
        :param limit: return at most so many, and request no more: ``limit=1`` is one small request for the newest.
        :raises ValueError: ``limit`` is less than 1.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        _flag("only_terminal", only_terminal)
        _flag("ascending", ascending)
        sync_id = _id("sync_id", sync_id)
        size = _page_size(limit, MAX_EXECUTIONS_PER_PAGE)
        call = bulk_syncs.executions(sync_id, only_terminal=only_terminal, ascending=ascending, limit=size)
        return islice(self.iterate(call), limit)

    def cancel_bulk_sync_execution(self, sync_id: str, execution_id: str) -> None:
        """Cancel an execution (``POST …/executions/{exec_id}/cancel``): it ends some time later."""
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        self.call(bulk_syncs.cancel(*_ids(sync_id, execution_id)))

    def wait_for_bulk_sync_execution(
        self, sync_id: str, execution_id: str, *, poke_interval: float = 30, timeout: float | None = None
    ) -> BulkSyncExecution:
        """Wait until an execution has ended, and return it, whatever its status.

        :param poke_interval: seconds between looks.
        :param timeout: seconds; default: no limit.
        :raises PolytomicTimeoutError: it had not ended in time. It is left running.
        """
        return self._wait("bulk", sync_id, execution_id, poke_interval, timeout)

    def select_schemas(self, sync_id: str, *names: str) -> list[str]:
        """The ids of a sync's enabled schemas that have these names, for the start's ``schemas``.

        Behind it: ``GET /api/bulk/syncs/{id}/schemas``.

        :param names: each the id or the output name of a schema, or a pattern for them: ``*``, ``?`` and ``[…]`` are
            those of :mod:`fnmatch`; case counts.
        :returns: the ids in the order of the API, each once.
        :raises ValueError: without a name.
        :raises PolytomicLookupError: for a name that fits no enabled schema. A start with no schemas would sync all.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs
        from airflow_provider_polytomic.api.errors import PolytomicLookupError

        sync_id = _id("sync_id", sync_id)
        for name in names:
            if not isinstance(name, str):
                raise ValueError(f"names must each be text, not {validation.format_value(name)}")
        if not names:
            raise ValueError("names must hold one at least: a start with no schemas would sync all of them")
        schemas = [schema for schema in self.iterate(bulk_syncs.schemas(sync_id)) if schema.enabled is not False]
        for name in names:
            if not any(
                _matches_pattern(schema.id, name) or _matches_pattern(schema.output_name, name) for schema in schemas
            ):
                known = ", ".join(repr(schema.id) for schema in schemas[:20]) or "none"
                raise PolytomicLookupError(
                    f"bulk sync {sync_id} has no enabled schema {name!r}; enabled are {known}"
                    + (f" and {len(schemas) - 20} more" if len(schemas) > 20 else "")
                )
        fitting = [
            s.id
            for s in schemas
            if any(_matches_pattern(s.id, name) or _matches_pattern(s.output_name, name) for name in names)
        ]
        return list(dict.fromkeys(fitting))

    def iter_bulk_sync_logs(
        self, sync_id: str, execution_id: str, *, max_bytes: int = DEFAULT_MAX_LOG_BYTES
    ) -> Iterator[LogFile]:
        """An execution's log files, read in chunks (``GET …/executions/{exec_id}/logs``).

        Each has a ``name`` and ``chunks`` of bytes, to be read before the next file. They come from signed URLs, which
        are asked for without the API key, and are in no log and no error. What breaks off is not repeated: let the
        task retry.

        :param max_bytes: how much to read in all, at most.
        :raises PolytomicResponseError: there is more, or where a file is stored it is not given out.
        :raises PolytomicUnreachableError: a file, or the rest of it, does not come.
        """
        from airflow_provider_polytomic.api.endpoints import bulk_syncs

        return self._log_files(bulk_syncs.log_files(*_ids(sync_id, execution_id)), max_bytes)

    # --- the same for model syncs

    def list_model_syncs(
        self,
        active: bool | None = None,
        mode: str | None = None,
        target_connection_id: str | None = None,
        *,
        name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[ModelSync]:
        """All model syncs, last changed first (``GET /api/syncs``); the same holds as for :meth:`list_bulk_syncs`.

        :param active: only active (True) or only paused ones (False).
        :param mode: only syncs of this mode, for instance ``updateOrCreate``.
        :param target_connection_id: only syncs that write to this connection.
        :param name: only syncs whose name is this, or fits it as a pattern, as in :meth:`list_bulk_syncs`.
        :param limit: return at most so many. Without ``name``, which the API does not know, no more are requested.
        :raises ValueError: ``limit`` is less than 1.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        _flag("active", active)
        target_connection_id = validation.identifier("target_connection_id", target_connection_id)
        size = _page_size(limit, MAX_SYNCS_PER_PAGE)
        if name is not None:
            size = None
        call = model_syncs.list_(active=active, mode=mode, target_connection_id=target_connection_id, limit=size)
        return islice((sync for sync in self.iterate(call) if _matches_pattern(sync.name, name)), limit)

    def get_model_sync(self, sync_id: str) -> ModelSync:
        """One model sync (``GET /api/syncs/{id}``)."""
        from airflow_provider_polytomic.api.endpoints import model_syncs

        return self.call(model_syncs.get(_id("sync_id", sync_id)))

    def find_model_sync(self, name: str) -> ModelSync:
        """The model sync of that name; raises as :meth:`find_bulk_sync`."""
        return self._find("model", name)

    def create_model_sync(self, **body: Any) -> ModelSync:
        """Create a model sync (``POST /api/syncs``), as :meth:`create_bulk_sync`."""
        from airflow_provider_polytomic.api.endpoints import model_syncs
        from airflow_provider_polytomic.api.idempotency import CREATION

        _check_fields(body)
        return self.client.run(self._once(model_syncs.create(body, idempotency_key=str(uuid.uuid4())), CREATION))

    def update_model_sync(self, sync_id: str, **changes: Any) -> ModelSync:
        """Change some fields of a model sync: it is read, merged and written back (``GET``, then ``PUT``)."""
        from airflow_provider_polytomic.api.endpoints import model_syncs

        _check_fields(changes)
        sync_id = _id("sync_id", sync_id)
        return self.call(
            model_syncs.replace(sync_id, _merge_changes(self._document(model_syncs.get(sync_id)), changes))
        )

    def activate_model_sync(self, sync_id: str, active: bool = True) -> None:
        """Activate a model sync, or pause it (``POST …/activate``)."""
        from airflow_provider_polytomic.api.endpoints import model_syncs

        self.call(model_syncs.activate(_id("sync_id", sync_id), validation.flag("active", active)))

    def delete_model_sync(self, sync_id: str) -> None:
        """Delete a model sync (``DELETE /api/syncs/{id}``)."""
        from airflow_provider_polytomic.api.endpoints import model_syncs

        self.call(model_syncs.delete(_id("sync_id", sync_id)))

    def start_model_sync(
        self,
        sync_id: str,
        *,
        test: bool | None = None,
        resync: bool | None = None,
        identities: Sequence[str] | None = None,
        source_identities: Sequence[Sequence[dict[str, Any]]] | None = None,
        idempotency_key: str | None = None,
    ) -> ModelSyncExecution:
        """Start an execution (``POST /api/syncs/{id}/executions``); as :meth:`start_bulk_sync`.

        :param test: validate the sync without writing.
        :param resync: sync all records anew.
        :param identities: only the records with these identities; at most 1000; excludes ``source_identities``.
        :param source_identities: only these records, each a list of source fields and their values:
            ``[{"source": {"model_id": …, "field": "email"}, "value": "a@example.com"}]``; at most 1000.
        """
        return self._start(
            "model",
            sync_id,
            idempotency_key,
            {"test": test, "resync": resync, "identities": identities, "source_identities": source_identities},
        )

    def get_model_sync_execution(self, sync_id: str, execution_id: str) -> ModelSyncExecution:
        """One execution, with counts and errors (``GET …/executions/{exec_id}``)."""
        from airflow_provider_polytomic.api.endpoints import model_syncs

        return self.call(model_syncs.execution(*_ids(sync_id, execution_id)))

    def list_model_sync_executions(
        self,
        sync_id: str,
        only_terminal: bool | None = None,
        ascending: bool | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[ModelSyncExecution]:
        """A sync's executions, newest first (``GET …/executions``), as :meth:`list_bulk_sync_executions`."""
        from airflow_provider_polytomic.api.endpoints import model_syncs

        _flag("only_terminal", only_terminal)
        _flag("ascending", ascending)
        sync_id = _id("sync_id", sync_id)
        size = _page_size(limit, MAX_EXECUTIONS_PER_PAGE)
        call = model_syncs.executions(sync_id, only_terminal=only_terminal, ascending=ascending, limit=size)
        return islice(self.iterate(call), limit)

    def cancel_model_sync_execution(self, sync_id: str, execution_id: str) -> None:
        """Cancel an execution (``POST …/executions/{exec_id}/cancel``): it ends some time later."""
        from airflow_provider_polytomic.api.endpoints import model_syncs

        self.call(model_syncs.cancel(*_ids(sync_id, execution_id)))

    def wait_for_model_sync_execution(
        self, sync_id: str, execution_id: str, *, poke_interval: float = 30, timeout: float | None = None
    ) -> ModelSyncExecution:
        """Wait until an execution has ended; as :meth:`wait_for_bulk_sync_execution`."""
        return self._wait("model", sync_id, execution_id, poke_interval, timeout)

    def iter_model_sync_logs(
        self, sync_id: str, execution_id: str, log_type: str, *, max_bytes: int = DEFAULT_MAX_LOG_BYTES
    ) -> Iterator[LogFile]:
        """An execution's log files of one type (``GET …/executions/{exec_id}/{type}``); as :meth:`iter_bulk_sync_logs`.

        :param log_type: ``records``, ``errors``, ``warnings``, ``inserts``, ``updates`` or ``deletes``.
        """
        from airflow_provider_polytomic.api.endpoints import model_syncs

        return self._log_files(model_syncs.log_files(*_ids(sync_id, execution_id), log_type), max_bytes)

    # --- what both kinds share

    def _document(self, call: Call[Any]) -> dict[str, Any]:
        """What a call returns, exactly as it came: a model has None for a value that it cannot read."""
        from airflow_provider_polytomic.api.models import parse_document

        return self.call(replace(call, parse=parse_document))

    def _log_files(self, call: Call[Any], max_bytes: int) -> Iterator[LogFile]:
        from airflow_provider_polytomic.api.executions.log_files import iter_log_files

        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int | float) or not max_bytes > 0:
            raise ValueError(f"max_bytes must be more than 0, not {validation.format_value(max_bytes)}")
        return iter_log_files(self.client, call, max_bytes)

    def _find(self, kind: str, name: str) -> Any:
        from airflow_provider_polytomic.api.kinds import get_sync_kind
        from airflow_provider_polytomic.api.syncs.lookup import find_sync

        return self.client.run(find_sync(get_sync_kind(kind), name, self.client.settings.max_retries))

    def _start(self, kind: str, sync_id: str, idempotency_key: str | None, arguments: dict[str, Any]) -> Any:
        from airflow_provider_polytomic.api.idempotency import START
        from airflow_provider_polytomic.api.kinds import get_sync_kind
        from airflow_provider_polytomic.api.syncs.destination import with_resync_mode_hint

        sync_id = _id("sync_id", sync_id)
        arguments = {name: _START[name](name, value) for name, value in arguments.items()}
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        call = get_sync_kind(kind).start(sync_id, **arguments, idempotency_key=key)
        return self.client.run(with_resync_mode_hint(self._once(call, START), sync_id, arguments.get("resync_mode")))

    def _once(self, call: Call[T], what: str) -> Plan[T]:
        from airflow_provider_polytomic.api.idempotency import send_once

        return send_once(call, what, patience=None if self.client.settings.max_retries else 0)

    def _wait(self, kind: str, sync_id: str, execution_id: str, poke_interval: float, timeout: float | None) -> Any:
        import time

        from airflow_provider_polytomic.api.executions.wait import wait_for_execution
        from airflow_provider_polytomic.api.kinds import get_sync_kind

        sync_id, execution_id = _ids(sync_id, execution_id)
        poke_interval = validation.seconds("poke_interval", poke_interval) or 30
        timeout = validation.seconds("timeout", timeout)
        deadline = None if timeout is None else time.time() + timeout
        execution: Execution = self.client.run(
            wait_for_execution(
                get_sync_kind(kind), sync_id, execution_id, poke_interval=poke_interval, deadline=deadline
            )
        )
        return execution


# --- arguments

_id = validation.required(validation.identifier)


def _ids(sync_id: str, execution_id: str) -> tuple[str, str]:
    return _id("sync_id", sync_id), _id("execution_id", execution_id)


def _flag(name: str, value: Any) -> bool | None:
    return None if value is None else validation.flag(name, value)


def _text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {validation.format_value(value)}")
    return value


def _chosen(check: validation.Check, name: str, value: Any) -> Any:
    """A list that narrows a start, where an empty one must not become all."""
    return validation.non_empty(check)(name, validation.iterable(name, value))


_START: dict[str, validation.Check] = {
    "test": _flag,
    "resync": _flag,
    "resync_mode": _text,
    "fetch_mode": _text,
    "schemas": partial(_chosen, validation.ids),
    "identities": partial(_chosen, validation.texts),
    "source_identities": partial(_chosen, validation.lists),
}
_BOOLEAN_FIELDS = frozenset(
    {"active", "disable_record_timestamps", "only_enrich_updates", "skip_initial_backfill", "sync_all_records"}
)


def _check_fields(fields: dict[str, Any]) -> None:
    """Refuse fields of a sync that JSON cannot hold, and text for a boolean.

    :raises ValueError: naming the field and the place in it.
    """
    for name, value in fields.items():
        validation.require_json(name, value)
        if name in _BOOLEAN_FIELDS:
            _flag(name, value)


def _merge_changes(sync: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A changed sync, as the API accepts it: all it told, unknown fields included, but what it decides itself."""
    body = {name: value for name, value in sync.items() if name not in _READ_ONLY}
    for one, other in (pair for old, new in _SHAPES for pair in ((old, new), (new, old))):
        if one & changes.keys():
            body = {name: value for name, value in body.items() if name not in other}
    # Schedules among the changes may have been read from a sync, too.
    return {
        name: _without_timestamps(value) if name in _SCHEDULES else value for name, value in (body | changes).items()
    }


def _without_timestamps(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_timestamps(item)
            for name, item in value.items()
            if not name.startswith(("created_", "updated_"))
        }
    return [_without_timestamps(item) for item in value] if isinstance(value, list) else value


# --- reading a connection


def _matches_pattern(value: str | None, pattern: str | None) -> bool:
    """Whether a name is this one, or fits it as a pattern. Names may hold brackets, so equality comes first."""
    return pattern is None or (value is not None and (value == pattern or fnmatchcase(value, pattern)))


def _page_size(limit: int | None, most: int) -> int | None:
    """How many items to request at a time for ``limit`` of them.

    :raises ValueError: it is no limit.
    """
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"limit must be a whole number, 1 or more, not {limit!r}")
    return min(limit, most)


async def read_settings_in_triggerer(hook: PolytomicHook) -> Settings:
    """Read the connection of a hook, inside the triggerer.

    :raises ValueError: as :meth:`PolytomicHook.settings`.
    """
    settings = settings_from_connection(await aget_connection(hook.polytomic_conn_id), hook.timeout, hook.max_retries)
    await amask_secrets(*settings.secrets)
    return settings


def settings_from_connection(connection: Any, timeout: float | None = None, max_retries: int | None = None) -> Settings:
    """What an Airflow connection says.

    :raises ValueError: a field is wrong; the message names the connection and the field, and shows no secret.
    """
    from airflow_provider_polytomic.api import settings as defaults

    fields = _Fields(connection)
    fields.check_type()
    base_url = fields.base_url(defaults.DEFAULT_HOST)
    verify, ca_bundle = fields.verify()
    if verify and ca_bundle is None and base_url.startswith("https:"):
        ca_bundle = defaults.ca_bundle_from_environment()
    proxy = fields.proxy()
    if proxy is None:
        proxy = defaults.proxy_from_environment(base_url)
    return defaults.Settings(
        base_url=base_url,
        key=fields.key(),
        login=fields.login(),
        api_version=fields.api_version(defaults.DEFAULT_API_VERSION),
        timeout=fields.number("timeout", defaults.DEFAULT_TIMEOUT, timeout),
        verify=verify,
        ca_bundle=ca_bundle,
        proxy=proxy or None,
        no_proxy=proxy == "",
        max_retries=fields.whole("max_retries", defaults.DEFAULT_MAX_RETRIES, max_retries),
        ui_url=fields.ui_url(),
    )


class _Fields:
    """The fields of a connection, each checked. Text stands for numbers and booleans, too: URIs hold nothing else."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        try:
            extra = json.loads(connection.extra or "{}")
        except (ValueError, RecursionError):
            raise self._wrong("extra", "is not JSON") from None
        if not isinstance(extra, dict):
            raise self._wrong("extra", "must be a JSON object")
        self._extra: dict[str, Any] = extra

    def _wrong(self, field: str, what: str) -> ValueError:
        return ValueError(f"connection {self._connection.conn_id!r}: {field} {what}")

    def _shown(self, value: object) -> str:
        """A wrong value, for a message; not if the key was put into the wrong field."""
        from airflow_provider_polytomic.api.errors import printable, redact

        return printable(redact(repr(value), [self._connection.password or ""]), 100)

    def _value(self, name: str, instead: Any = None) -> Any:
        value = self._extra.get(name) if instead is None else instead
        value = value.strip() if isinstance(value, str) else value
        return None if value == "" else value

    def text_of(self, name: str, value: str | None) -> str:
        text = (value or "").strip()
        if not text.isprintable():
            raise self._wrong(name, "holds control characters")
        return text

    def check_type(self) -> None:
        # The password of a database, say, is not to be sent to Polytomic, whoever chose the id of its connection.
        if self._connection.conn_type not in (PolytomicHook.conn_type, "", None):
            raise self._wrong(
                "type", f"must be {PolytomicHook.conn_type}, not {self._shown(self._connection.conn_type)}"
            )

    def key(self) -> str:
        key = self.text_of("password (the API key)", self._connection.password)
        if not key:
            raise self._wrong("password (the API key)", "is empty")
        if not key.isascii():  # the HTTP libraries do not agree how to send others
            raise self._wrong("password (the API key)", "holds characters that no key has")
        return key

    def login(self) -> str:
        login = self.text_of("login", self._connection.login)
        if ":" in login:
            raise self._wrong("login", "must hold no colon")
        return login

    def base_url(self, default: str) -> str:
        from airflow_provider_polytomic.api.settings import parse_http_url

        host = self.text_of("host", self._connection.host).rstrip("/") or default
        try:
            parts = parse_http_url(host if "://" in host else f"https://{host}")
        except ValueError:
            must = "must be the base URL of Polytomic, for instance https://app.polytomic.com"
            raise self._wrong("host", must) from None
        if "@" in parts.netloc:
            raise self._wrong("host", "must hold no credentials: the API key belongs into password")
        port = self._port()
        if port and not parts.port:
            parts = parts._replace(netloc=f"{parts.netloc}:{port}")
        schema = self.text_of("schema", self._connection.schema).strip("/")
        try:
            return parse_http_url(f"{parts.geturl()}/{schema}").geturl()
        except ValueError:
            raise self._wrong("schema", "must be the path of the base URL, or empty") from None

    def _port(self) -> int | None:
        port = self._connection.port
        if port is None or port == "":
            return None
        if not re.fullmatch("[0-9]{1,5}", str(port)) or not 0 < int(port) < 65536:
            raise self._wrong("port", f"must be a number from 1 to 65535, not {self._shown(port)}")
        return int(port)

    def verify(self) -> tuple[bool, str | None]:
        import os

        value = self._value("verify")
        if value is None:
            return True, None
        known = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
        if known is not None:
            return known, None
        if not isinstance(value, str) or not os.path.exists(value):
            raise self._wrong(
                "verify", f"must be true, false, or the path of a CA bundle that exists, not {self._shown(value)}"
            )
        return True, value

    def number(self, name: str, default: float, instead: float | None = None) -> float:
        value = self._value(name, instead)
        if value is None:
            return default
        try:
            number = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if not 0 < number <= 86400:
            must = "must be a number of seconds, more than 0 and at most 86400"
            raise self._wrong(name, f"{must}, not {self._shown(value)}")
        return number

    def whole(self, name: str, default: int, instead: int | None = None) -> int:
        value = self._value(name, instead)
        if value is None:
            return default
        if not isinstance(value, str | int) or not re.fullmatch("[0-9]{1,3}", str(value)):
            raise self._wrong(name, f"must be a whole number from 0 to 999, not {self._shown(value)}")
        return int(value)

    def proxy(self) -> str | None:
        """The URL of the proxy; ``""`` for none, whatever the environment says; None where the environment decides."""
        from airflow_provider_polytomic.api.settings import parse_http_url

        value = self._value("proxy")
        if value is None:
            return None
        if str(value).lower() in ("none", "false"):
            return ""
        try:
            return parse_http_url(value if isinstance(value, str) else "").geturl()
        except ValueError:
            must = "must be the URL of an HTTP proxy, for instance http://proxy.example.com:3128, or none"
            raise self._wrong("proxy", must) from None

    def ui_url(self) -> str:
        from airflow_provider_polytomic.api.settings import LINK_PLACEHOLDERS, parse_link_template

        value = self._value("ui_url")
        if value is None:
            return ""
        try:
            return parse_link_template(value if isinstance(value, str) else "")
        except ValueError:
            names = ", ".join(f"{{{name}}}" for name in LINK_PLACEHOLDERS)
            must = f"must be an http(s) URL, in which {names} may stand, not {self._shown(value)}"
            raise self._wrong("ui_url", must) from None

    def api_version(self, default: str) -> str:
        value = self._value("api_version")
        if value is None:
            return default
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise self._wrong("api_version", f"must be a date such as {default}, not {self._shown(value)}")
        return value


# --- telling of a connection test


def _describe_identity(who: Identity, settings: Settings) -> tuple[bool, str]:
    if not (who.id or who.organization_id or who.email):
        return False, f"{settings.host} answers, but not as the Polytomic API does: check host"
    if who.is_user:
        kind = f"a user key, of {who.email or who.id}"
    elif who.is_organization:
        kind = "an organization key"
    elif who.is_partner:
        kind = "a partner key"
    elif who.is_system:
        kind = "a deployment key"
    else:
        kind = "a key"
    of = f" in organization {who.organization_name or who.organization_id}" if who.organization_id else ""
    if settings.login:
        known = f"{who.organization_name} ({who.organization_id})" if who.organization_name else who.organization_id
        of = f", acting for {f'organization {known}' if known else 'the organization whose id is the login'}"
    elif who.is_partner:
        of = (
            ", which without a login reaches only organizations and users, no syncs. "
            "To act for an organization, set the login to that organization's id"
        )
    return True, f"Connected to {settings.host}. It is {kind}{of}."


def _describe_error(error: Exception, settings: Settings) -> str:
    from airflow_provider_polytomic.api.errors import (
        PolytomicAuthError,
        PolytomicNotFoundError,
        PolytomicResponseError,
        PolytomicUnreachableError,
    )

    if isinstance(error, PolytomicAuthError):
        refusal = f"{settings.host} refuses the key (HTTP {error.status_code}): {error.message}."
        if settings.login:
            return (
                f"{refusal} It was sent with a login: the login must be an organization's id, and the password a "
                "partner or deployment key that may act for this organization"
            )
        return (
            f"{refusal} It was sent without a login, as a user's key: a partner or deployment key needs the "
            "organization's id as the login"
        )
    if isinstance(error, PolytomicUnreachableError):
        return f"{settings.host} cannot be reached: {error.reason}"
    if isinstance(error, PolytomicResponseError | PolytomicNotFoundError):
        refused = isinstance(error, PolytomicResponseError) and error.status_code in (401, 403)
        what = "check host and proxy. A proxy or firewall refuses access before the key is checked:"
        what = what if refused else "check host."
        return f"{settings.host} answers, but not as the Polytomic API does: {what} {error}"
    return str(error)
