"""Operators for bulk syncs (ELT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import BaseOperator, default_deferrable
from airflow_provider_polytomic.operators._base import ExecutionOperator

RESYNC_MODES = ("refetch", "resync", "rebuild")
FETCH_MODES = ("none", "incremental", "full")
_START: dict[str, validation.Check] = {
    "test": validation.boolean,
    "resync_mode": validation.one_of(RESYNC_MODES),
    "fetch_mode": validation.one_of(FETCH_MODES),
    "schemas": validation.non_empty(validation.ids),
}
IF_EXISTS = ("fail", "skip")
MODES = ("snapshot", "replicate", "append")
DISCOVERIES = ("all", "onlyIncremental", "onlyNonIncremental", "none")
NORMALIZATIONS = ("enabled", "disabled", "legacy")


class PolytomicBulkSyncOperator(ExecutionOperator):
    """Start an execution of a bulk sync exactly once, and wait until it has ended.

    Returns the execution's id. XCom ``execution`` holds a summary (status, counts, schemas), pushed at the start
    and at the end, also on failure. A retry resumes what an earlier try started; a clear starts anew.

    :param sync_id: the sync. (templated)
    :param sync_name: the sync's name, instead of ``sync_id``; looked up when the task runs. (templated)
    :param test: validate the sync; excludes ``resync_mode``. The API reference says that nothing is written, the
        vendor's SDK that up to 5 records per schema are synced. (templated)
    :param resync_mode: ``refetch``, ``resync`` or ``rebuild``; default: sync what is new. (templated)
    :param fetch_mode: ``none``, ``incremental`` or ``full``; for Salesforce. (templated)
    :param schemas: ids of the schemas to sync; default: all that are enabled; an empty list is refused. (templated)
    :param polytomic_conn_id: the Airflow connection. (templated)
    :param wait_for_completion: False ends the task as soon as the execution is started.
    :param deferrable: wait in the triggerer, holding no worker slot; default: ``[operators] default_deferrable``.
    :param poke_interval: seconds (or timedelta) between looks; default 30. In the triggerer the first look comes
        after 5 seconds or more.
    :param timeout: seconds (or timedelta) for all of it, waiting for others included; default: none. Then the
        execution is cancelled (unless ``cancel_on_kill=False``) and PolytomicTimeoutError raised. An
        ``execution_timeout`` has the same effect, a tenth of it earlier: 30 seconds at least, 5 minutes at most.
    :param if_running: what to do while somebody else's execution of the sync runs: ``wait`` for its end and start
        then, ``attach`` to it if it does at least what is asked, ``fail``, ``skip`` the task, or ``cancel`` it and
        start. (templated)
    :param allow_errors: how many errors a success may have: True for any number of them, also in schemas that failed
        as a whole; an int for so many records; a float below 1 for such a share of the records. (templated)
    :param min_records: how many records make a success; not judged for test runs. (templated)
    :param cancel_on_kill: whether the execution that this task started is cancelled when the task is ended without
        it: killed, marked, cleared, timed out.
    :param log_console: whether the execution's console log is logged while it is waited for, with one request more
        for each look.
    :param assets: whether Airflow is told of each table that the execution wrote, as an asset event with its counts;
        or a dict that says which asset (a URI, an ``Asset``, or None to leave it out) a table is, by output name or
        schema id, where it is not the address that the destination's connection gives it. At most 100 tables get one.
    :raises PolytomicSyncError: the execution did not succeed.
    :raises PolytomicTimeoutError: it had not ended in time.
    :raises PolytomicConflictError: somebody else's runs, and ``if_running="fail"``.
    :raises AirflowFailException: what a retry cannot mend: bad arguments, a refused key, no such sync.

    Behind it: ``GET`` and ``POST /api/bulk/syncs/{id}/executions``, ``GET …/executions/{exec_id}``.
    """

    kind = "bulk"
    template_fields: Sequence[str] = (
        "sync_id",
        "sync_name",
        "test",
        "resync_mode",
        "fetch_mode",
        "schemas",
        "if_running",
        "allow_errors",
        "min_records",
        "polytomic_conn_id",
    )

    def __init__(
        self,
        *,
        sync_id: str | None = None,
        sync_name: str | None = None,
        test: bool = False,
        resync_mode: str | None = None,
        fetch_mode: str | None = None,
        schemas: Sequence[str] | None = None,
        polytomic_conn_id: str = validation.DEFAULT_CONN_ID,
        wait_for_completion: bool = True,
        deferrable: bool = default_deferrable(),
        poke_interval: float | timedelta = 30,
        timeout: float | timedelta | None = None,
        if_running: str = "wait",
        allow_errors: bool | int | float = False,
        min_records: int | None = None,
        cancel_on_kill: bool = True,
        log_console: bool = False,
        assets: bool | Mapping[str, Any] = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._set_arguments(
            sync_id=sync_id,
            sync_name=sync_name,
            test=test,
            resync_mode=resync_mode,
            fetch_mode=fetch_mode,
            schemas=schemas,
            polytomic_conn_id=polytomic_conn_id,
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            poke_interval=poke_interval,
            timeout=timeout,
            if_running=if_running,
            allow_errors=allow_errors,
            min_records=min_records,
            cancel_on_kill=cancel_on_kill,
            log_console=log_console,
            assets=assets,
        )

    def _start_arguments(self) -> dict[str, Any]:
        values = validation.validate_known(self, _START)
        if values.get("test") and values.get("resync_mode"):
            raise ValueError("test and resync_mode exclude each other")
        return values


def _switch(name: str, value: Any) -> bool | None:
    """True, False, or not set."""
    return None if validation.blank_to_none(value) is None else validation.boolean(name, value)


def _time(name: str, value: Any) -> str | None:
    return None if validation.blank_to_none(value) is None else validation.timestamp(name, value).isoformat()


def _schedule(name: str, value: Any) -> dict[str, Any] | None:
    schedule = validation.mapping(name, value)
    if schedule is not None and not schedule.get("frequency"):
        raise ValueError(f"{name} must hold a frequency, for instance {{'frequency': 'manual'}}")
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
    A retry finds what an earlier try created; a clear is a new wish, to which ``if_exists`` applies. What is not given
    is not sent: Polytomic's own default holds. Nothing is activated, paused, scheduled or changed besides.

    The parameters are the fields of the API's request, and five more.

    :param name: the sync's name. (templated, as all that follow)
    :param mode: ``snapshot``, ``replicate`` or ``append``.
    :param default_schedule: ``{"frequency": "manual"}`` leaves all runs to Airflow; times are in UTC.
    :param destination_configuration: what the destination needs to know, for instance ``{"schema": "salesforce"}``.
        Checked against the JSON schema that the destination publishes, before anything is created.
    :param source_connection: the connection to read from, by its id or its name in Polytomic.
    :param source_connection_id: the same by its id only, which needs no look-up.
    :param destination_connection: the connection to write to, by its id or its name.
    :param destination_connection_id: the same by its id only.
    :param source_configuration: how the source is read, for instance ``{"replication_slot_name": …}``.
    :param schemas: ids of the schemas to sync, or dicts with an ``id`` and their configuration; default: all; an empty
        list is refused.
    :param active: whether the sync runs on its schedule.
    :param additional_schedules: schedules for some of the schemas.
    :param automatically_add_new_fields: ``all``, ``onlyIncremental``, ``onlyNonIncremental`` or ``none``.
    :param automatically_add_new_objects: likewise.
    :param normalize_names: ``enabled``, ``disabled`` or ``legacy``.
    :param data_cutoff_timestamp: older source records are left out: a datetime, or text in ISO 8601; without a time
        zone it is UTC.
    :param disable_record_timestamps: whether Polytomic adds no timestamp columns of its own.
    :param concurrency_limit: instead of the default limit.
    :param resync_concurrency_limit: the same for resyncs.
    :param policies: ids of permission policies.
    :param organization_id: the organization, for partner keys.
    :param if_exists: what to do when a sync has this name already: ``fail``, or ``skip`` creating and return its id.
    :param polytomic_conn_id: the Airflow connection.
    :raises AirflowFailException: what a retry cannot mend: the name is taken, and ``if_exists="fail"``, or several
        syncs have it; several connections of that name; bad arguments; a refused key; a refused request.
    :raises PolytomicLookupError: no connection has that name; or the list of syncs changes too often for the name to be
        known to be free. Nothing was created.
    :raises PolytomicError: the server failed, or the outcome is unknown: the next try tells.

    Behind it: ``GET`` and ``POST /api/bulk/syncs``, ``GET /api/connections/{id}/bulksync/target``; ``GET
    /api/connections`` for connections by name.
    """

    ui_color = "#e8e4ff"
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
        "mode": validation.required(validation.one_of(MODES)),
        "default_schedule": validation.required(_schedule),
        "destination_configuration": validation.required(validation.mapping),
        "source_connection_id": validation.identifier,
        "destination_connection_id": validation.identifier,
        "source_configuration": validation.mapping,
        "schemas": _schemas,
        "active": _switch,
        "additional_schedules": _schedules,
        "automatically_add_new_fields": validation.one_of(DISCOVERIES),
        "automatically_add_new_objects": validation.one_of(DISCOVERIES),
        "normalize_names": validation.one_of(NORMALIZATIONS),
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
        name: str,
        mode: str,
        default_schedule: dict[str, Any],
        destination_configuration: dict[str, Any],
        source_connection: str | None = None,
        source_connection_id: str | None = None,
        destination_connection: str | None = None,
        destination_connection_id: str | None = None,
        source_configuration: dict[str, Any] | None = None,
        schemas: Sequence[str | dict[str, Any]] | None = None,
        active: bool | None = None,
        additional_schedules: Sequence[dict[str, Any]] | None = None,
        automatically_add_new_fields: str | None = None,
        automatically_add_new_objects: str | None = None,
        normalize_names: str | None = None,
        data_cutoff_timestamp: datetime | str | None = None,
        disable_record_timestamps: bool | None = None,
        concurrency_limit: int | None = None,
        resync_concurrency_limit: int | None = None,
        policies: Sequence[str] | None = None,
        organization_id: str | None = None,
        if_exists: str = "fail",
        polytomic_conn_id: str = validation.DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.mode = mode
        self.default_schedule = default_schedule
        self.destination_configuration = destination_configuration
        self.source_connection = source_connection
        self.source_connection_id = source_connection_id
        self.destination_connection = destination_connection
        self.destination_connection_id = destination_connection_id
        self.source_configuration = source_configuration
        self.schemas = schemas
        self.active = active
        self.additional_schedules = additional_schedules
        self.automatically_add_new_fields = automatically_add_new_fields
        self.automatically_add_new_objects = automatically_add_new_objects
        self.normalize_names = normalize_names
        self.data_cutoff_timestamp = data_cutoff_timestamp
        self.disable_record_timestamps = disable_record_timestamps
        self.concurrency_limit = concurrency_limit
        self.resync_concurrency_limit = resync_concurrency_limit
        self.policies = policies
        self.organization_id = organization_id
        self.if_exists = if_exists
        self.polytomic_conn_id = polytomic_conn_id
        self._body()

    def _body(self) -> dict[str, Any]:
        """The fields of the request, as far as they are given and known already.

        :raises ValueError: naming the argument.
        """
        for end in ("source", "destination"):
            by_id, either = f"{end}_connection_id", f"{end}_connection"
            validation.exactly_one(by_id, getattr(self, by_id), either, getattr(self, either))
        if not validation.is_templated(self.if_exists):
            validation.choice("if_exists", self.if_exists, IF_EXISTS)
        known = validation.validate_known(self, self._FIELDS)
        return {name: value for name, value in known.items() if value is not None}

    def execute(self, context: Any) -> str:
        """Create it, unless it is there.

        :returns: the sync's id.
        """
        from airflow_provider_polytomic._airflow import task_context
        from airflow_provider_polytomic._airflow.errors import as_airflow_errors
        from airflow_provider_polytomic.api.syncs.create import CreateRequest, create_once, resolve_connection_ids

        number, first = task_context.try_number(context), task_context.first_try(context, self.retries)
        with as_airflow_errors(lambda: number > first):
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
                task=task_context.task_identity(context),
                try_number=number,
                first_try=first,
                if_exists=validation.choice("if_exists", self.if_exists, IF_EXISTS) or "fail",
            )
            return client.run(create_once(request)).id
