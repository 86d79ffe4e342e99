"""Operators for bulk syncs (ELT)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, get_args

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import BaseOperator, default_deferrable
from airflow_provider_polytomic.operators._arguments import NOT_OWN
from airflow_provider_polytomic.operators._base import ExecutionOperator
from airflow_provider_polytomic.types import (
    AdditionalSchedule,
    BulkSyncMode,
    Discovery,
    FetchMode,
    IfExists,
    IfRunning,
    NameNormalization,
    Resolvable,
    ResyncMode,
    Schedule,
    SchemaConfiguration,
    Template,
)

_START: dict[str, validation.Check] = {
    "test": validation.boolean,
    "resync_mode": validation.one_of(get_args(ResyncMode)),
    "fetch_mode": validation.one_of(get_args(FetchMode)),
    "schemas": validation.non_empty(validation.ids),
}


class PolytomicBulkSyncOperator(ExecutionOperator):
    """Start an execution of a bulk sync exactly once, and wait until it has ended.

    Returns the execution's id. XCom ``execution`` holds a summary (status, counts, schemas), pushed at the start
    and at the end, also on failure. A retry resumes the execution of an earlier try; a clear starts a new one.

    :param sync_id: the sync. (templated)
    :param sync_name: the sync's name, instead of ``sync_id``; looked up when the task runs. (templated)
    :param test: validate the sync; excludes ``resync_mode``. The API reference says that nothing is written, the
        vendor's SDK that up to 5 records per schema are synced. (templated)
    :param resync_mode: ``refetch``, ``resync`` or ``rebuild``; default: sync new and changed records. (templated)
    :param fetch_mode: ``none``, ``incremental`` or ``full``; for Salesforce. (templated)
    :param schemas: ids of the schemas to sync; default: all enabled ones. An empty list is invalid. (templated)
    :param polytomic_conn_id: the Airflow connection. (templated)
    :param wait_for_completion: False ends the task as soon as the execution is started. It still waits for an
        execution that has to end first.
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``.
    :param poke_interval: maximum poll interval in seconds (or timedelta); default 30. Polling starts at 5 s and backs
        off to a quarter of the elapsed time.
    :param timeout: seconds (or timedelta) for the whole task, including the wait for blocking executions; default:
        none. When it is over, the execution is canceled (unless ``cancel_on_kill=False``) and PolytomicTimeoutError is
        raised. An ``execution_timeout`` has the same effect, a tenth of it earlier: at least 30 seconds, at most 5
        minutes.
    :param queue_timeout: seconds (or timedelta) from the creation of the task's execution until it has to be running;
        default: none. When it is over, the execution is canceled (unless ``cancel_on_kill=False``) and
        PolytomicTimeoutError is raised. Executions that this task did not start have no such limit. (templated)
    :param if_running: what to do while an execution that this task did not start is running: ``wait`` for its end,
        then start; ``attach`` to it, if it covers the requested arguments; ``fail``; ``skip`` the task; or ``cancel``
        it, then start. (templated)
    :param fresh_within: seconds (or timedelta); default: none. If an execution that covers the requested arguments
        completed within this time and is a success by this task's criteria, it is the result, and nothing is started.
        (templated)
    :param allow_errors: how many errors a success may have: True for any number, also in schemas that failed as a
        whole; an int for a number of records; a float below 1 for a share of the records. (templated)
    :param min_records: the number of records that a success needs; not checked for test runs. (templated)
    :param cancel_on_kill: whether the execution that this task started is canceled when the task ends before it:
        killed, marked, cleared or timed out.
    :param log_console: whether to log the execution's console log during the wait, with one more request per poll.
    :param retry_failed_schemas_only: whether a retry syncs only the schemas that did not complete, or had errors, in
        the executions of earlier tries since the last clear. The result is judged over all of them. Excludes ``test``.
    :param assets: whether to emit an asset event with counts for each table that the execution wrote; or a dict of
        assets (a URI, an ``Asset``, or None to leave the table out) by output name or schema id, for tables whose asset
        is not the address in the destination's connection. At most 100 tables get an event.
    :raises PolytomicSyncError: the execution did not succeed.
    :raises PolytomicTimeoutError: it had not ended in time.
    :raises PolytomicConflictError: another execution is running, and ``if_running`` is ``fail``.
    :raises AirflowFailException: no retry can succeed: invalid arguments, a rejected API key, no such sync.

    API: ``GET`` and ``POST /api/bulk/syncs/{id}/executions``, ``GET …/executions/{exec_id}``.
    """

    kind_name = "bulk"
    template_fields: Sequence[str] = (
        "sync_id",
        "sync_name",
        "test",
        "resync_mode",
        "fetch_mode",
        "schemas",
        "queue_timeout",
        "if_running",
        "fresh_within",
        "allow_errors",
        "min_records",
        "polytomic_conn_id",
    )

    def __init__(
        self,
        *,
        sync_id: str | Resolvable | None = None,
        sync_name: str | Resolvable | None = None,
        test: bool | str | Resolvable = False,
        resync_mode: ResyncMode | Template | Resolvable | None = None,
        fetch_mode: FetchMode | Template | Resolvable | None = None,
        schemas: str | Collection[str] | Resolvable | None = None,
        polytomic_conn_id: str | Resolvable = validation.DEFAULT_CONN_ID,
        wait_for_completion: bool = True,
        deferrable: bool = default_deferrable(),
        poke_interval: float | timedelta = 30,
        timeout: float | timedelta | None = None,
        queue_timeout: float | timedelta | str | Resolvable | None = None,
        if_running: IfRunning | Template | Resolvable = "wait",
        fresh_within: float | timedelta | str | Resolvable | None = None,
        allow_errors: bool | int | float | str | Resolvable = False,
        min_records: int | str | Resolvable | None = None,
        cancel_on_kill: bool = True,
        log_console: bool = False,
        retry_failed_schemas_only: bool = False,
        assets: bool | Mapping[str, Any] = True,
        **kwargs: Any,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in NOT_OWN}
        super().__init__(**kwargs)
        self._set_arguments(**arguments)

    def _get_start_arguments(self) -> dict[str, Any]:
        values = validation.validate_known(self, _START)
        if values.get("test") and values.get("resync_mode"):
            raise ValueError("test and resync_mode exclude each other")
        if validation.flag("retry_failed_schemas_only", self.retry_failed_schemas_only):
            if values.get("test"):
                raise ValueError("retry_failed_schemas_only and test exclude each other")
            if not self.wait_for_completion:
                raise ValueError("retry_failed_schemas_only needs wait_for_completion=True, to know what has failed")
        return values


def _switch(name: str, value: Any) -> bool | None:
    """True, False, or not set."""
    return None if validation.blank_to_none(value) is None else validation.boolean(name, value)


def _time(name: str, value: Any) -> str | None:
    return None if validation.blank_to_none(value) is None else validation.timestamp(name, value).isoformat()


def _schedule(name: str, value: Any) -> dict[str, Any] | None:
    schedule = validation.mapping(name, value)
    if schedule is not None and not schedule.get("frequency"):
        raise ValueError(f"{name} must have a frequency, for instance {{'frequency': 'manual'}}")
    return schedule


def _schedules(name: str, value: Any) -> list[dict[str, Any]] | None:
    check = validation.required(_schedule)
    return [check(f"{name}[{number}]", item) for number, item in enumerate(validation.items(name, value) or [])] or None


def _policies(name: str, value: Any) -> list[str] | None:
    policies = enumerate(validation.ids(name, value) or [])
    return [validation.canonical_id(f"{name}[{number}]", policy) for number, policy in policies] or None


def _schemas(name: str, value: Any) -> list[Any] | None:
    schemas: list[Any] | None = validation.non_empty(validation.items)(name, value)
    for number, schema in enumerate(schemas or []):
        if isinstance(schema, dict) and not schema.get("id"):
            raise ValueError(
                f"{name}[{number}] must be an id, or a dict with an id, not {validation.format_value(schema)}"
            )
    validation.ids(name, schemas and [schema["id"] if isinstance(schema, dict) else schema for schema in schemas])
    validation.require_json(name, schemas)
    return schemas


class PolytomicCreateBulkSyncOperator(BaseOperator):
    """Create a bulk sync exactly once.

    Returns the sync's id, so that the next task can run it: ``PolytomicBulkSyncOperator(sync_id=create.output)``.
    A retry finds the sync that an earlier try created. Clearing the task starts over and applies ``if_exists``.
    Arguments that are not given are not sent, so Polytomic's defaults apply.

    The parameters are the fields of the API's request, and ``source_connection``, ``destination_connection``,
    ``if_exists`` and ``polytomic_conn_id``.

    :param name: the sync's name. (templated, as are all others)
    :param mode: ``snapshot``, ``replicate`` or ``append``.
    :param default_schedule: ``{"frequency": "manual"}`` leaves all runs to Airflow; times are in UTC.
    :param destination_configuration: settings of the destination, for instance ``{"schema": "salesforce"}``. Validated
        against the JSON schema that the destination publishes, before the sync is created.
    :param source_connection: the connection to read from, by its id or its name in Polytomic. A name is looked up.
    :param source_connection_id: the same, by its id only.
    :param destination_connection: the connection to write to, by its id or its name.
    :param destination_connection_id: the same, by its id only.
    :param source_configuration: how the source is read, for instance ``{"replication_slot_name": …}``.
    :param schemas: ids of the schemas to sync, or dicts with an ``id`` and their configuration; default: all. An
        empty list is invalid.
    :param active: whether the sync runs on its schedule.
    :param additional_schedules: schedules for some of the schemas.
    :param automatically_add_new_fields: ``all``, ``onlyIncremental``, ``onlyNonIncremental`` or ``none``.
    :param automatically_add_new_objects: likewise.
    :param normalize_names: ``enabled``, ``disabled`` or ``legacy``.
    :param data_cutoff_timestamp: older source records are left out: a datetime, or text in ISO 8601; UTC if it has no
        time zone.
    :param disable_record_timestamps: whether Polytomic adds no timestamp columns.
    :param concurrency_limit: instead of the default limit.
    :param resync_concurrency_limit: the same for resyncs.
    :param policies: ids of permission policies.
    :param organization_id: the organization, for partner keys.
    :param if_exists: what to do if a sync has this name already: ``fail``; ``skip`` the creation and return its id; or
        ``update`` it, so that it has the given arguments. What is not given stays as it is.
    :param polytomic_conn_id: the Airflow connection.
    :raises AirflowFailException: no retry can succeed: the name is taken, and ``if_exists`` is ``fail``, or several
        syncs have it; several connections have the name; invalid arguments; a rejected API key or request.
    :raises PolytomicLookupError: no connection has the name; or the list of syncs changes too often to know that the
        sync's name is free. Nothing was created.
    :raises PolytomicError: the server failed, or the outcome is unknown. A retry resolves it.

    API: ``GET`` and ``POST /api/bulk/syncs``, ``GET /api/connections/{id}/bulksync/target``; ``GET
    /api/connections`` for connections by name; ``GET`` and ``PUT /api/bulk/syncs/{id}``, ``GET …/schemas`` for updates.
    """

    ui_color = "#e8e4ff"
    if_exists: str
    polytomic_conn_id: str
    template_fields: Sequence[str] = (
        "name",
        "mode",
        "default_schedule",
        "destination_configuration",
        "source_connection",
        "source_connection_id",
        "destination_connection",
        "destination_connection_id",
        "source_configuration",
        "schemas",
        "active",
        "additional_schedules",
        "automatically_add_new_fields",
        "automatically_add_new_objects",
        "normalize_names",
        "data_cutoff_timestamp",
        "disable_record_timestamps",
        "concurrency_limit",
        "resync_concurrency_limit",
        "policies",
        "organization_id",
        "if_exists",
        "polytomic_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("default_schedule", "destination_configuration", "source_configuration", "additional_schedules", "schemas"),
        "json",
    )
    _FIELDS: ClassVar[dict[str, validation.Check]] = {
        "name": validation.required(validation.text),
        "mode": validation.required(validation.one_of(get_args(BulkSyncMode))),
        "default_schedule": validation.required(_schedule),
        "destination_configuration": validation.required(validation.mapping),
        "source_connection_id": validation.identifier,
        "destination_connection_id": validation.identifier,
        "source_configuration": validation.mapping,
        "schemas": _schemas,
        "active": _switch,
        "additional_schedules": _schedules,
        "automatically_add_new_fields": validation.one_of(get_args(Discovery)),
        "automatically_add_new_objects": validation.one_of(get_args(Discovery)),
        "normalize_names": validation.one_of(get_args(NameNormalization)),
        "data_cutoff_timestamp": _time,
        "disable_record_timestamps": _switch,
        "concurrency_limit": validation.count,
        "resync_concurrency_limit": validation.count,
        "policies": _policies,
        "organization_id": validation.identifier,
    }

    def __init__(
        self,
        *,
        name: str | Resolvable,
        mode: BulkSyncMode | Template | Resolvable,
        default_schedule: Schedule | str | Resolvable,
        destination_configuration: dict[str, Any] | str | Resolvable,
        source_connection: str | Resolvable | None = None,
        source_connection_id: str | Resolvable | None = None,
        destination_connection: str | Resolvable | None = None,
        destination_connection_id: str | Resolvable | None = None,
        source_configuration: dict[str, Any] | str | Resolvable | None = None,
        schemas: str | Collection[str | SchemaConfiguration] | Resolvable | None = None,
        active: bool | str | Resolvable | None = None,
        additional_schedules: str | Collection[AdditionalSchedule] | Resolvable | None = None,
        automatically_add_new_fields: Discovery | Template | Resolvable | None = None,
        automatically_add_new_objects: Discovery | Template | Resolvable | None = None,
        normalize_names: NameNormalization | Template | Resolvable | None = None,
        data_cutoff_timestamp: datetime | str | Resolvable | None = None,
        disable_record_timestamps: bool | str | Resolvable | None = None,
        concurrency_limit: int | str | Resolvable | None = None,
        resync_concurrency_limit: int | str | Resolvable | None = None,
        policies: str | Collection[str] | Resolvable | None = None,
        organization_id: str | Resolvable | None = None,
        if_exists: IfExists | Template | Resolvable = "fail",
        polytomic_conn_id: str | Resolvable = validation.DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        arguments = locals()
        super().__init__(**kwargs)
        validation.set_attributes(self, **{field: arguments[field] for field in self.template_fields})
        self._body()

    def _body(self) -> dict[str, Any]:
        """The fields of the request that are given and known.

        :raises ValueError: an argument is invalid; the message begins with its name.
        """
        for end in ("source", "destination"):
            by_id, either = f"{end}_connection_id", f"{end}_connection"
            validation.exactly_one(by_id, getattr(self, by_id), either, getattr(self, either))
        if not validation.is_templated(self.if_exists):
            validation.choice("if_exists", self.if_exists, get_args(IfExists))
        known = validation.validate_known(self, self._FIELDS)
        return {name: value for name, value in known.items() if value is not None}

    def execute(self, context: Any) -> str:
        """Create the sync, unless it exists, or update it.

        :returns: the sync's id.
        """
        from airflow_provider_polytomic._airflow import task_context
        from airflow_provider_polytomic._airflow.errors import as_airflow_errors
        from airflow_provider_polytomic.api.syncs.create import CreateRequest, create_once, resolve_connection_ids
        from airflow_provider_polytomic.api.syncs.update import ensure_sync

        number, first = task_context.try_number(context), task_context.first_try(context, self.retries)
        with as_airflow_errors(self.polytomic_conn_id, lambda: number > first):
            validation.require_rendered(self)
            body = self._body()
            client = task_context.create_hook(self.polytomic_conn_id).client
            connections = {
                name: value
                for name in ("source_connection", "destination_connection")
                if (value := validation.blank_to_none(getattr(self, name))) is not None
            }
            request = CreateRequest(
                body=body | client.run(resolve_connection_ids(connections)),
                task=task_context.idempotency_scope(context),
                try_number=number,
                first_try=first,
                if_exists=validation.choice("if_exists", self.if_exists, get_args(IfExists)) or "fail",
            )
            if request.if_exists == "update":
                return client.run(ensure_sync(request))
            return client.run(create_once(request)).id
