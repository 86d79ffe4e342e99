"""The official SDK against the sandbox: it checks independently that requests and responses are those of the API.

Every response is parsed into the SDK's types, and none may have a field that they lack."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import httpx
import polytomic
import pytest
from polytomic import Polytomic
from polytomic.core.api_error import ApiError
from polytomic.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    InternalServerError,
    NotFoundError,
    UnprocessableEntityError,
)

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import (
    POSTGRES,
    POSTGRES_TO_WAREHOUSE,
    SALESFORCE,
    SALESFORCE_TO_WAREHOUSE,
    WAREHOUSE,
    WAREHOUSE_TO_SALESFORCE,
)
from airflow_provider_polytomic.sandbox.server import Server

from .conftest import Clock

# Documented, or needed for a path, but missing from the SDK's types.
PROSE_ONLY = {
    ("BulkSyncListEnvelope", "pagination"),
    ("EventsEnvelope", "pagination"),
    ("BulkBulkSyncSchedule", "id"),
}
SCHEDULE = polytomic.BulkSyncDefaultScheduleRequest(frequency="manual")
NEW_BULK: dict[str, Any] = {
    "name": "New",
    "source_connection_id": POSTGRES,
    "destination_connection_id": WAREHOUSE,
    "destination_configuration": {"schema": "new"},
    "default_schedule": SCHEDULE,
    "mode": "replicate",
}
NEW_MODEL: dict[str, Any] = {
    "name": "New",
    "mode": "create",
    "fields": [polytomic.SyncField(target="Name", source=polytomic.Source(model_id=WAREHOUSE, field="name"))],
    "schedule": polytomic.Schedule(frequency="manual"),
    "target": polytomic.ModelSyncV5Target(connection_id=SALESFORCE, object="Lead"),
}


def checked(response: Any) -> Any:
    """Return ``response`` after a check for fields that the SDK does not have."""
    assert list(_unknown(response)) == []
    return response


def _unknown(value: Any) -> Iterator[str]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _unknown(item)
    elif hasattr(value, "model_extra"):
        name = type(value).__name__
        yield from (f"{name}.{key}" for key in value.model_extra or {} if (name, key) not in PROSE_ONLY)
        for field in type(value).model_fields:
            yield from _unknown(getattr(value, field))


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    sandbox = Sandbox(now=clock, sleep=clock.sleep)
    server = Server(sandbox)
    yield sandbox
    server.close()


@pytest.fixture
def sdk(sandbox: Sandbox) -> Iterator[Polytomic]:
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        yield Polytomic(base_url=sandbox.url, token=sandbox.key, httpx_client=client, max_retries=0)


def test_sdk_manages_bulk_syncs(sdk: Polytomic) -> None:
    """List, create, get, update, activate and delete."""
    assert {row.id for row in checked(sdk.bulk_sync.list()).data} == {SALESFORCE_TO_WAREHOUSE, POSTGRES_TO_WAREHOUSE}
    created = checked(sdk.bulk_sync.create(**NEW_BULK, schemas=["public.orders"], policies=[WAREHOUSE])).data
    assert (created.name, created.active, created.policies) == ("New", True, [WAREHOUSE])
    assert checked(sdk.bulk_sync.get(created.id)).data == created
    updated = checked(sdk.bulk_sync.update(created.id, **{**NEW_BULK, "name": "Renamed"}, active=False)).data
    assert (updated.name, updated.active, updated.policies) == ("Renamed", False, None)
    assert [row.id for row in sdk.bulk_sync.list(active=False).data] == [created.id]
    assert checked(sdk.bulk_sync.activate(created.id, active=True)).data.active is True
    sdk.bulk_sync.delete(created.id)
    with pytest.raises(NotFoundError):
        sdk.bulk_sync.get(created.id)


def test_sdk_reads_bulk_sync_sources_and_destinations(sdk: Polytomic) -> None:
    """What a connection offers as a source and as a destination."""
    source = checked(sdk.bulk_sync.get_source(POSTGRES, include_fields=True)).data
    assert [row.id for row in source.schemas] == ["public.customers", "public.orders", "public.products"]
    assert source.schemas[0].fields[0].is_primary_key is True
    assert "rebuild" in checked(sdk.bulk_sync.get_destination(WAREHOUSE)).data.supported_resync_modes


def test_sdk_manages_bulk_sync_schemas(sdk: Polytomic) -> None:
    """List, get, patch, update, and cancel one."""
    schemas = sdk.bulk_sync.schemas
    sync_id = SALESFORCE_TO_WAREHOUSE
    assert [row.id for row in checked(schemas.list(sync_id)).data] == ["account", "contact", "opportunity"]
    patched = checked(schemas.patch(sync_id, schemas=[polytomic.BulkSchema(id="account", enabled=False)])).data
    assert [(row.id, row.enabled) for row in patched] == [("account", False)]
    assert [row.id for row in schemas.list(sync_id, filters={"enabled": "false"}).data] == ["account"]
    field = polytomic.UpdateBulkField(id="amount", enabled=False)
    updated = checked(
        schemas.update(sync_id, "account", enabled=True, user_output_name="accounts", fields=[field])
    ).data
    assert (updated.output_name, updated.tracking_field) == ("accounts", None)
    assert checked(schemas.get(sync_id, "account")).data == updated
    sdk.bulk_sync.start(sync_id)
    assert checked(schemas.cancel(sync_id, "account")).data.message == "cancellation requested"


def test_sdk_manages_bulk_schedules(sdk: Polytomic, clock: Clock) -> None:
    """List, create, get, update, delete; the sync's own schedule is the default one and has a next time."""
    sync_id, schedules = SALESFORCE_TO_WAREHOUSE, sdk.bulk_sync.schedules
    (default,) = checked(schedules.list(sync_id)).data
    assert (default.frequency, default.is_default) == ("manual", True)
    weekly = polytomic.BulkSyncScheduleApi(
        frequency="weekly", day_of_week="sunday", hour="4", minute="30", selective_mode="incrementalFields"
    )
    created = checked(schedules.create(sync_id, schedule=weekly)).data
    assert checked(schedules.get(sync_id, created.id)).data == created
    assert (created.day_of_week, created.selective_mode, created.sync_id) == ("sunday", "incrementalFields", sync_id)
    due = checked(sdk.bulk_sync.get_status(sync_id)).data.next_execution_time
    assert (due.strftime("%A %H:%M"), due.timestamp() > clock.now) == ("Sunday 04:30", True)

    daily = polytomic.BulkSyncScheduleApi(frequency="daily", hour=f"{due.hour - 1}")
    checked(schedules.update(sync_id, default.id, schedule=daily))
    sync = checked(sdk.bulk_sync.get(sync_id)).data
    assert (sync.default_schedule.id, sync.default_schedule.frequency) == (default.id, "daily")
    assert [schedule.day_of_week for schedule in sync.additional_schedules] == ["sunday"]
    assert checked(sdk.bulk_sync.get_status(sync_id)).data.next_execution_time.hour == due.hour - 1
    (row,) = checked(sdk.bulk_sync.executions.list_status(sync_id=[sync_id])).data
    assert row.next_execution_time.hour == due.hour - 1
    schedules.delete(sync_id, created.id)
    assert [schedule.id for schedule in schedules.list(sync_id).data] == [default.id]
    with pytest.raises(NotFoundError):
        schedules.get(sync_id, created.id)


def test_sdk_refreshes_schemas(sdk: Polytomic, clock: Clock) -> None:
    """A refresh takes a while, and only then becomes the last finished one."""
    before = checked(sdk.schemas.get_status(POSTGRES)).data
    assert (before.cache_status, before.last_refresh_finished >= before.last_refresh_started) == ("fresh", True)
    clock.now += 3600
    sdk.schemas.refresh(POSTGRES)
    during = checked(sdk.schemas.get_status(POSTGRES)).data
    assert (during.cache_status, during.last_refresh_finished) == ("refreshing", before.last_refresh_finished)
    clock.now += 2
    sdk.schemas.refresh(POSTGRES)  # one runs: no other is begun
    clock.now += 3
    after = checked(sdk.schemas.get_status(POSTGRES)).data
    assert (after.cache_status, after.last_refresh_started) == ("fresh", during.last_refresh_started)
    assert after.last_refresh_finished == dt.datetime.fromtimestamp(clock.now, dt.timezone.utc)
    assert sdk.schemas.get_status(WAREHOUSE).data == before


def test_sdk_manages_bulk_executions(sdk: Polytomic, clock: Clock) -> None:
    """Start, get, list, status, batch status, logs, and both forms of cancel."""
    sync_id, executions = SALESFORCE_TO_WAREHOUSE, sdk.bulk_sync.executions
    started = checked(sdk.bulk_sync.start(sync_id, resync_mode="rebuild", schemas=["account"], fetch_mode="full")).data
    assert (started.status, started.is_partial, started.output_disposition) == ("created", True, "rebuild")
    with pytest.raises(ConflictError) as conflict:
        sdk.bulk_sync.start(sync_id)
    assert conflict.value.body.status == 409
    clock.now += 5
    (row,) = checked(executions.list_status(sync_id=[sync_id, "nothing"])).data
    assert (row.status, row.next_execution_time, row.schemas[0].execution_id) == ("exporting", None, started.id)
    assert len(checked(executions.list_status(all_=True)).data) == len(executions.list_status(active=True).data) == 2
    assert checked(sdk.bulk_sync.get_status(sync_id)).data.current_execution.id == started.id
    clock.now += 5
    ended = checked(executions.get(sync_id, started.id)).data
    assert (ended.status, ended.record_count, ended.schemas[0].schema_) == ("completed", 120, "account")
    assert ended.completed_at == dt.datetime.fromtimestamp(clock.now, dt.timezone.utc)
    assert checked(sdk.bulk_sync.get_status(sync_id)).data.last_execution.id == started.id

    log = checked(executions.get_console_logs(sync_id, started.id, limit=1)).data
    assert log.entries[0].message == "Execution completed"
    assert executions.get_console_logs(sync_id, started.id, after=log.next_cursor).data.entries is None
    assert checked(executions.get_schema_console_logs(sync_id, started.id, "account")).data.entries
    assert len(checked(executions.get_logs(sync_id, started.id)).data.ur_ls) == 1
    assert executions.get_ingest_console_logs(SALESFORCE, sync_id=sync_id).data.entries is None

    job = checked(executions.export_logs(sync_id, started.id)).job
    assert job.status == "created"
    clock.now += 1
    assert checked(sdk.jobs.get("exportlogs", job.job_id)).data.status == "running"
    clock.now += 1
    done = checked(sdk.jobs.get("exportlogs", job.job_id)).data
    assert (done.status, "signature=" in done.result["url"]) == ("done", True)
    with pytest.raises(BadRequestError):
        sdk.jobs.get("nonsense", job.job_id)

    second = sdk.bulk_sync.start(sync_id, test=True, idempotency_key="the-second-one").data
    assert sdk.bulk_sync.start(sync_id, test=True, idempotency_key="the-second-one").data == second
    page = checked(executions.list(sync_id, limit=1))
    assert [row.id for row in page.data] == [second.id]
    rest = executions.list(sync_id, limit=1, page_token=page.pagination.next_page_token)
    assert [row.id for row in rest.data] == [started.id]
    assert [row.id for row in executions.list(sync_id, only_terminal=True, ascending=True).data] == [started.id]
    assert checked(executions.cancel(sync_id, second.id)).data.message == "cancellation requested"
    clock.now += 60
    assert executions.get(sync_id, second.id).data.status == "canceled"
    assert checked(sdk.bulk_sync.cancel(sync_id)).data.message == "nothing is running"


def test_sdk_manages_model_syncs(sdk: Polytomic) -> None:
    """List, create, get, update, activate, delete, and the available schedules."""
    assert [row.id for row in checked(sdk.model_sync.list()).data] == [WAREHOUSE_TO_SALESFORCE]
    created = checked(sdk.model_sync.create(**NEW_MODEL, sync_all_records=True)).data
    assert (created.mode, created.sync_all_records) == ("create", True)
    assert [row.id for row in sdk.model_sync.list(mode="create", target_connection_id=SALESFORCE).data] == [created.id]
    page = sdk.model_sync.list(limit=1)
    rest = sdk.model_sync.list(limit=1, page_token=page.pagination.next_page_token)
    assert {row.id for row in page.data + rest.data} == {created.id, WAREHOUSE_TO_SALESFORCE}
    assert checked(sdk.model_sync.get(created.id)).data == created
    assert checked(sdk.model_sync.get(WAREHOUSE_TO_SALESFORCE)).data.identity.target == "Email"
    assert checked(sdk.model_sync.update(created.id, **NEW_MODEL)).data.sync_all_records is False
    assert checked(sdk.model_sync.activate(created.id, active=False)).data.active is False
    assert checked(sdk.model_sync.get_schedule_options()).data.schedule_options[0].frequency == "manual"
    sdk.model_sync.delete(created.id)
    with pytest.raises(NotFoundError):
        sdk.model_sync.get(created.id)


def test_sdk_reads_model_sync_sources_and_targets(sdk: Polytomic) -> None:
    """What a connection offers as a source and as a target."""
    assert checked(sdk.model_sync.get_source(WAREHOUSE)).data.requires_one_of == ["query"]
    assert checked(sdk.model_sync.get_source_fields(WAREHOUSE)).data[0].id == "id"
    assert "Contact" in {row.id for row in checked(sdk.model_sync.targets.list(SALESFORCE)).data}
    assert checked(sdk.model_sync.targets.get_target_fields(SALESFORCE, target="Lead")).data.name == "Lead"
    with pytest.raises(NotFoundError):  # no target can be created here
        sdk.model_sync.targets.get_create_property(SALESFORCE, "name")


def test_sdk_manages_model_executions(sdk: Polytomic, clock: Clock) -> None:
    """Start, get, list, status, all forms of logs, and both forms of cancel."""
    sync_id, executions = WAREHOUSE_TO_SALESFORCE, sdk.model_sync.executions
    started = checked(sdk.model_sync.start(sync_id, resync=True)).data
    assert started.status == "created"
    with pytest.raises(ConflictError):
        sdk.model_sync.start(sync_id)
    assert checked(sdk.model_sync.get_status(sync_id)).data.current_execution.id == started.id
    clock.now += 60
    ended = checked(executions.get(sync_id, started.id)).data
    assert (ended.status, ended.counts.total) == ("completed", 150)
    assert checked(executions.get_console_logs(sync_id, started.id)).data.entries[-1].message == "Execution completed"
    assert checked(executions.get_logs_index(sync_id, started.id)).data.records.count == 150
    assert len(checked(executions.get_log_urls(sync_id, started.id, "errors")).data.urls) == 1
    executions.get_logs(sync_id, started.id, "errors", "errors.json")  # follows the redirect to the file
    second = sdk.model_sync.start(sync_id, identities=["a@example.com"]).data
    assert [row.id for row in checked(executions.list(sync_id)).data] == [second.id, started.id]
    assert [row.id for row in executions.list(sync_id, only_completed=True, ascending=True).data] == [started.id]
    assert checked(executions.cancel(sync_id, second.id)).data.message == "cancellation requested"
    assert checked(sdk.model_sync.cancel(sync_id)).data.message == "nothing is running"
    clock.now += 60
    assert executions.get(sync_id, second.id).data.status == "canceled"


def test_sdk_reads_identity_and_connections(sdk: Polytomic) -> None:
    """Whose key it is, and which connections there are."""
    assert checked(sdk.identity.get()).data.is_user is True
    assert [row.type.id for row in checked(sdk.connections.list()).data] == ["salesforce", "postgresql", "snowflake"]
    assert checked(sdk.connections.get(POSTGRES)).data.configuration["port"] == 5432


def test_sdk_reads_events(sdk: Polytomic, sandbox: Sandbox, clock: Clock) -> None:
    """Each event has exactly the fields that the SDK has for its type."""
    for sync_id in (SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE):
        for status in ("completed", "canceled", "failed", "errors"):
            execution = sandbox.start_foreign(sync_id)
            clock.now += 5
            sandbox.finish(sync_id, execution.id, status)
    types = set(checked(sdk.events.get_types()).data)
    events = sdk.events.list(limit=100).data
    seen = set()
    for row in events:
        sync, name = row.type.split(".")
        words = f"{sync}_{name}".split("_")
        model = getattr(polytomic, f"Eventing{''.join(word.capitalize() for word in words)}Event")
        checked(model(**row.event.dict()))
        assert row.event.sync_id in (SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE)
        seen.add(row.type)
    assert seen == types
    after = events[-2].created_at
    assert all(row.created_at > after for row in sdk.events.list(starting_after=after, limit=100).data)
    assert {row.type for row in sdk.events.list(type="sync.failed").data} == {"sync.failed"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (403, ForbiddenError),
        (422, UnprocessableEntityError),
        (500, InternalServerError),
    ],
)
def test_sdk_raises_its_errors(sdk: Polytomic, sandbox: Sandbox, status: int, error: type[ApiError]) -> None:
    """Errors of the sandbox become the SDK's exceptions, with their messages."""
    sandbox.faults.status(status, "POST /api/bulk/syncs")
    with pytest.raises(error) as caught:
        sdk.bulk_sync.create(**NEW_BULK)
    assert (caught.value.body.status, caught.value.body.message) == (status, f"injected {status}")
