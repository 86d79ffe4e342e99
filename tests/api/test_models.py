"""The models of the API's data, compared field by field with the vendor's SDK."""

from __future__ import annotations

import datetime as dt
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import polytomic
import pydantic
import pytest
from polytomic.bulk_sync.client import BulkSyncClient

from airflow_provider_polytomic.api import models
from airflow_provider_polytomic.api.call import Call
from airflow_provider_polytomic.api.endpoints import (
    bulk_syncs,
    connections,
    events,
    identity,
    jobs,
    model_syncs,
    schedules,
)
from airflow_provider_polytomic.api.models import (
    NON_TERMINAL_STATUSES,
    TERMINAL_STATUSES,
    BulkSync,
    BulkSyncExecution,
    BulkSyncStatusSummary,
    ConsoleLogEntry,
    LogFiles,
    ModelSyncExecution,
    SchemaExecution,
    field_types,
)
from airflow_provider_polytomic.api.models.tolerant import Model
from airflow_provider_polytomic.api.pagination import ListCall, Page

# Each call that reads a response, by its name, and the SDK's type of that response.
CALLS: dict[str, tuple[Call[Any] | ListCall[Any], type[pydantic.BaseModel]]] = {
    "bulk_syncs.list_": (bulk_syncs.list_(), polytomic.BulkSyncListEnvelope),
    "bulk_syncs.create": (bulk_syncs.create({}), polytomic.BulkSyncResponseEnvelope),
    "bulk_syncs.get": (bulk_syncs.get("s"), polytomic.BulkSyncResponseEnvelope),
    "bulk_syncs.replace": (bulk_syncs.replace("s", {}), polytomic.BulkSyncResponseEnvelope),
    "bulk_syncs.status": (bulk_syncs.status("s"), polytomic.BulkSyncStatusEnvelope),
    "bulk_syncs.status_of_many": (bulk_syncs.status_of_many(), polytomic.ListBulkSyncExecutionsStatusEnvelope),
    "bulk_syncs.start": (bulk_syncs.start("s"), polytomic.BulkSyncExecutionEnvelope),
    "bulk_syncs.executions": (bulk_syncs.executions("s"), polytomic.ListBulkSyncExecutionsEnvelope),
    "bulk_syncs.execution": (bulk_syncs.execution("s", "a id"), polytomic.BulkSyncExecutionEnvelope),
    "bulk_syncs.console_log": (bulk_syncs.console_log("s", "e"), polytomic.ExecutionConsoleLogsResponseEnvelope),
    "bulk_syncs.schema_console_log": (
        bulk_syncs.schema_console_log("s", "e", "a"),
        polytomic.ExecutionConsoleLogsResponseEnvelope,
    ),
    "bulk_syncs.log_files": (bulk_syncs.log_files("s", "e"), polytomic.BulkSyncExecutionLogsEnvelope),
    "bulk_syncs.schemas": (bulk_syncs.schemas("s"), polytomic.ListBulkSchemaEnvelope),
    "bulk_syncs.schema": (bulk_syncs.schema("s", "a"), polytomic.BulkSchemaEnvelope),
    "bulk_syncs.patch_schemas": (bulk_syncs.patch_schemas("s", []), polytomic.UpdateBulkSyncSchemasEnvelope),
    "bulk_syncs.replace_schema": (bulk_syncs.replace_schema("s", "a", {}), polytomic.BulkSchemaEnvelope),
    "bulk_syncs.export_logs": (bulk_syncs.export_logs("s", "e"), polytomic.ExportSyncLogsEnvelope),
    "bulk_syncs.source": (bulk_syncs.source("c"), polytomic.BulkSyncSourceEnvelope),
    "bulk_syncs.destination": (bulk_syncs.destination("c"), polytomic.BulkSyncDestEnvelope),
    "model_syncs.list_": (model_syncs.list_(), polytomic.ListSyncResponseEnvelope),
    "model_syncs.create": (model_syncs.create({}), polytomic.ModelSyncV5ResponseEnvelope),
    "model_syncs.get": (model_syncs.get("s"), polytomic.ModelSyncV5ResponseEnvelope),
    "model_syncs.replace": (model_syncs.replace("s", {}), polytomic.ModelSyncV5ResponseEnvelope),
    "model_syncs.status": (model_syncs.status("s"), polytomic.SyncStatusEnvelope),
    "model_syncs.schedule_options": (model_syncs.schedule_options(), polytomic.ScheduleOptionResponseEnvelope),
    "model_syncs.start": (model_syncs.start("s"), polytomic.StartSyncResponseEnvelope),
    "model_syncs.executions": (model_syncs.executions("s"), polytomic.ListExecutionResponseEnvelope),
    "model_syncs.execution": (model_syncs.execution("s", "a id"), polytomic.GetExecutionResponseEnvelope),
    "model_syncs.console_log": (model_syncs.console_log("s", "e"), polytomic.ExecutionConsoleLogsResponseEnvelope),
    "model_syncs.log_index": (model_syncs.log_index("s", "e"), polytomic.LogsIndexResponseEnvelope),
    "model_syncs.log_files": (model_syncs.log_files("s", "e", "errors"), polytomic.ExecutionLogsResponseEnvelope),
    "model_syncs.source": (model_syncs.source("c"), polytomic.GetSyncSourceMetaEnvelope),
    "model_syncs.source_fields": (model_syncs.source_fields("c"), polytomic.ModelFieldResponse),
    "model_syncs.targets": (model_syncs.targets("c"), polytomic.TargetObjectsResponseEnvelope),
    "model_syncs.target_fields": (model_syncs.target_fields("c", "t"), polytomic.TargetResponseEnvelope),
    "schedules.list_": (schedules.list_("s"), polytomic.SchedulesEnvelope),
    "schedules.create": (schedules.create("s", {}), polytomic.ScheduleEnvelope),
    "schedules.get": (schedules.get("s", "a"), polytomic.ScheduleEnvelope),
    "schedules.replace": (schedules.replace("s", "a", {}), polytomic.ScheduleEnvelope),
    "jobs.get": (jobs.get("exportlogs", "j"), polytomic.JobResponseEnvelope),
    "connections.list_": (connections.list_(), polytomic.ConnectionListResponseEnvelope),
    "connections.get": (connections.get("c"), polytomic.ConnectionResponseEnvelope),
    "connections.schema_cache": (connections.schema_cache("c"), polytomic.BulkSyncSourceStatusEnvelope),
    "events.list_": (events.list_(), polytomic.EventsEnvelope),
    "events.types": (events.types(), polytomic.EventTypesEnvelope),
    "identity.get": (identity.get(), polytomic.GetIdentityResponseEnvelope),
}


def test_call_table_contains_each_endpoint_function_that_reads_a_response() -> None:
    """No function is missing in the comparison with the SDK."""
    functions = {
        f"{module.__name__.rsplit('.', 1)[-1]}.{name}"
        for module in (bulk_syncs, connections, events, identity, jobs, model_syncs, schedules)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and function.__annotations__["return"] != "Call[None]"
    }
    assert set(CALLS) == functions


def sample(kind: Any, name: str = "", depth: int = 0) -> Any:
    """Return a value of a type of the SDK, with every field set."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        return sample(next(item for item in arguments if item is not type(None)), name, depth)
    if origin is typing.Literal:
        return arguments[-1]
    if origin is list or origin is typing.Sequence:
        return [sample(arguments[0], name, depth)]
    if origin is dict:
        return {"some": sample(arguments[1], name, depth)}
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        if depth > 6:
            return {}
        return {
            field.alias or given: sample(field.annotation, given, depth + 1)
            for given, field in kind.model_fields.items()
        }
    plain: dict[Any, Any] = {
        str: f"a {name}",
        int: len(name) + 1,
        float: 2.5,
        bool: True,
        dt.datetime: "2026-09-23T01:02:03.5Z",
        Any: {"any": ["thing"]},
    }
    return plain[kind]


def plain(value: Any) -> Any:
    """Return the value of either library as plain data under the names of the API, with times as datetimes."""
    if isinstance(value, Page):
        return plain(value.items)
    if isinstance(value, pydantic.BaseModel):
        fields = {
            type(value).model_fields[name].alias or name: getattr(value, name) for name in type(value).model_fields
        }
        return plain({**fields, **(value.model_extra or {})})
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT.*Z", value):
        return dt.datetime.fromisoformat(value.replace(".5Z", ".500+00:00").replace("Z", "+00:00"))
    return value


@pytest.mark.parametrize("name", CALLS)
def test_endpoint_function_reads_every_field_as_the_sdk_does(name: str) -> None:
    """The same JSON, with every field that the SDK has, gives the same names and values."""
    call, envelope = CALLS[name]
    response = sample(envelope)
    actual = plain(call.parse(json.dumps(response).encode()))
    parsed: Any = envelope.model_validate(response)
    assert actual == plain(getattr(parsed, "job", None) or parsed.data)
    assert actual


MODEL_CLASSES = [
    kind
    for kind in (getattr(models, name) for name in models.__all__)
    if isinstance(kind, type) and issubclass(kind, Model)
]
SDK_NAMES = {
    "Connection": "ConnectionResponseSchema",
    "ConsoleLog": "ExecutionConsoleLogsResponse",
    "ConsoleLogEntry": "ExecutionConsoleLogEntry",
    "BulkSync": "BulkSyncResponse",
    "BulkSyncDestination": "BulkSyncDest",
    "BulkSyncSchedule": "BulkBulkSyncSchedule",
    "BulkSyncSchema": "BulkSchema",
    "BulkSyncStatus": "BulkSyncStatusResponse",
    "BulkSyncStatusSummary": "BulkSyncExecutionStatus",
    "EventDetails": "EventingBulkSyncCompletedEvent",
    "Execution": "BulkSyncExecution",
    "Identity": "GetIdentityResponseSchema",
    "Job": "JobResponse",
    "LogFiles": "BulkSyncExecutionLogs",
    "ModelLogFiles": "ExecutionLogResponse",
    "ModelLogIndex": "LogsIndexResponse",
    "ModelLogIndexEntry": "LogsIndexEntry",
    "ModelSync": "ModelSyncV5Response",
    "ModelSyncCounts": "ExecutionCounts",
    "ModelSyncExecution": "GetExecutionResponseSchema",
    "ModelSyncSource": "SyncSourceMetaResponse",
    "ModelSyncStatus": "SyncStatusResponse",
    "ModelSyncTarget": "TargetResponse",
    "SchemaCache": "BulkSyncSourceStatus",
    "SchemaExecution": "BulkSyncSchemaExecution",
    "SchemaStatus": "BulkSyncSchemaExecutionStatus",
}
# Fields of the API that the SDK has in another type: that of list rows, or of other executions, events or paths.
FIELDS_OF_OTHER_SDK_TYPES = {
    "BulkSyncSchedule": {"id", "resync_mode"},
    "ModelSync": {"target_connection_id", "target_object"},
    "ModelSyncExecution": {"updated_at"},
    "SchemaStatus": {"output_name", "created_at", "updated_at", "version"},
}
# Models for which the SDK has several types, one per kind of event; the model has the fields of all of them.
MULTIPLE_SDK_TYPES: dict[str, tuple[Any, ...]] = {
    "EventDetails": tuple(
        kind for kind in typing.get_args(polytomic.Event.model_fields["event"].annotation) if kind is not type(None)
    ),
}
# Fields whose type differs from the SDK's: times as text, and actors that are an object elsewhere in the API.
DIFFERENT_TYPES = {
    "BulkSyncSchedule": {"createdBy", "updatedBy", "deletedBy"},
    "LogFiles": {"Expires"},
    "ModelLogFiles": {"expires"},
}


def api_names(kind: type[pydantic.BaseModel]) -> set[str]:
    return {field.alias or name for name, field in kind.model_fields.items()}


def sdk_fields(model: type[Model]) -> dict[str, Any]:
    """Return the fields that the SDK has for a model, with their types."""
    kinds = MULTIPLE_SDK_TYPES.get(model.__name__) or (
        getattr(polytomic, SDK_NAMES.get(model.__name__, model.__name__)),
    )
    return {field.alias or name: field.annotation for kind in kinds for name, field in kind.model_fields.items()}


def json_type(annotation: Any) -> Any:
    """Return the JSON type of an annotation: its name, or for a list a pair with the type of its elements."""
    kind = annotation
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        items = {json_type(item) for item in typing.get_args(kind) if item is not type(None)}
        items = items - {"Any"} or items  # an open enumeration is text
        return items.pop() if len(items) == 1 else items
    if origin is typing.Literal:
        return "str"
    if origin is list:
        return ("list", json_type(typing.get_args(kind)[0]))
    if kind is dict or origin is dict or (isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)):
        return "dict"
    return getattr(kind, "__name__", str(kind))


each_model = pytest.mark.parametrize(
    "model", [kind for kind in MODEL_CLASSES if kind not in (Model, models.Execution)], ids=lambda kind: kind.__name__
)


@each_model
def test_model_has_exactly_the_fields_of_the_sdk(model: type[Model]) -> None:
    """A misspelled field would always be None."""
    assert api_names(model) - set(sdk_fields(model)) == FIELDS_OF_OTHER_SDK_TYPES.get(model.__name__, set())
    assert set(sdk_fields(model)) <= api_names(model)


@each_model
def test_model_fields_have_the_types_of_the_sdk(model: type[Model]) -> None:
    """Text, number, boolean, time, object, or a list of these: a wrong type would make every value None."""
    expected = sdk_fields(model)
    actual = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    differing = {name for name in expected if json_type(actual[name]) != json_type(expected[name])}
    assert differing == DIFFERENT_TYPES.get(model.__name__, set())


def test_model_sync_has_the_fields_that_only_lists_contain() -> None:
    """The target is spelled differently in a list and in the sync itself; both spellings are read."""
    (kind,) = (item for item in _kinds_in(polytomic.ListSyncResponseEnvelope) if "target_object" in api_names(item))
    assert FIELDS_OF_OTHER_SDK_TYPES["ModelSync"] <= api_names(kind)


def _kinds_in(kind: Any) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        yield kind
        for field in kind.model_fields.values():
            yield from _kinds_in(field.annotation)
    for argument in typing.get_args(kind):
        yield from _kinds_in(argument)


def test_status_sets_contain_every_status_of_the_sdk() -> None:
    """Each status is either terminal or non-terminal, and none is both."""
    expected: set[str] = set()
    for kind in (polytomic.BulkSyncExecution, polytomic.GetExecutionResponseSchema, polytomic.BulkSyncSchemaExecution):
        expected |= set(_literals(kind.model_fields["status"].annotation))
    assert expected <= NON_TERMINAL_STATUSES | TERMINAL_STATUSES
    assert not NON_TERMINAL_STATUSES & TERMINAL_STATUSES


@pytest.mark.parametrize(("mode", "values"), [("fetch_mode", models.FETCH_MODES), ("resync_mode", models.RESYNC_MODES)])
def test_modes_are_those_of_the_sdk(mode: str, values: tuple[str, ...]) -> None:
    """Both fetch modes and resync modes are compared."""
    start = typing.get_type_hints(BulkSyncClient.start)
    assert set(_literals(start[mode])) == set(values)


def _literals(kind: Any) -> Iterator[str]:
    if typing.get_origin(kind) is typing.Literal:
        yield from typing.get_args(kind)
    else:
        for argument in typing.get_args(kind):
            yield from _literals(argument)


def test_log_export_that_exists_is_read_as_a_finished_job() -> None:
    """The signed URL of its result is not in the repr."""
    parse = bulk_syncs.export_logs("s", "e").parse
    job = parse(b'{"data": {"url": "https://storage/archive?signature=s3cr3t"}, "job": null}')
    assert (job.status, job.result) == ("done", {"url": "https://storage/archive?signature=s3cr3t"})
    assert "s3cr3t" not in repr(job)
    with pytest.raises(ValueError, match="neither a job nor its result"):
        parse(b"{}")


# unknown and missing fields


def test_model_keeps_unknown_fields() -> None:
    """They are attributes at every level, and are sent back unchanged."""
    fields = {"id": "e", "news": [1], "schemas": [{"schema": "a", "color": "red"}]}
    execution = BulkSyncExecution.model_validate(fields)
    assert execution.news == [1]  # type: ignore[attr-defined]
    assert execution.schemas is not None
    assert execution.schemas[0].color == "red"  # type: ignore[attr-defined]
    assert execution.model_dump(exclude_unset=True, by_alias=True) == fields


def test_model_keeps_unknown_values_of_enumerations() -> None:
    """An unknown status is neither running nor terminal."""
    execution = BulkSyncExecution(id="e", status="pondering", fetch_mode="sideways")
    assert (execution.status, execution.fetch_mode) == ("pondering", "sideways")
    assert not execution.has_known_status
    assert not execution.is_terminal


@pytest.mark.parametrize("kind", [kind for kind in MODEL_CLASSES if kind is not Model], ids=lambda kind: kind.__name__)
def test_model_fields_may_be_null_except_ids(kind: type[Model]) -> None:
    """A field that is null or missing is None, whatever its type."""
    required = {name for name, field in kind.model_fields.items() if field.is_required()}
    assert required <= {"id", "sync_id"}
    given = dict.fromkeys(required, "x")
    nulls = {field.alias or name: None for name, field in kind.model_fields.items()} | given
    for value in (kind.model_validate(nulls), kind.model_validate(given)):
        assert {name: getattr(value, name) for name in kind.model_fields} == dict.fromkeys(kind.model_fields) | given


@pytest.mark.parametrize(
    "name", ["BulkSync", "BulkSyncExecution", "ModelSync", "ModelSyncExecution", "Connection", "Event"]
)
def test_model_rejects_an_empty_id(name: str) -> None:
    """An empty id cannot be part of a path."""
    with pytest.raises(pydantic.ValidationError):
        getattr(models, name).model_validate({"id": ""})


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-09-23T01:02:03Z", dt.datetime(2026, 9, 23, 1, 2, 3, tzinfo=dt.timezone.utc)),
        ("2026-09-23T01:02:03.123456789Z", dt.datetime(2026, 9, 23, 1, 2, 3, 123456, tzinfo=dt.timezone.utc)),
        ("2026-09-23T03:02:03+02:00", dt.datetime(2026, 9, 23, 1, 2, 3, tzinfo=dt.timezone.utc)),
        ("2026-09-23T01:02:03", dt.datetime(2026, 9, 23, 1, 2, 3, tzinfo=dt.timezone.utc)),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_read_as_aware_datetimes(text: str | None, time: dt.datetime | None) -> None:
    """Go's zero time and an empty text are read as None."""
    execution = BulkSyncExecution.model_validate({"id": "e", "status": "running", "completed_at": text})
    assert execution.completed_at == time
    assert execution.is_terminal is (time is not None)
    if execution.completed_at:
        assert execution.completed_at.tzinfo is not None


@pytest.mark.parametrize(
    "value",
    [
        "2026-09-23T01:02:03.12345Z",
        "2026-09-23t01:02:03z",
        "2026-09-23 01:02:03.5-07:30",
        "2026-09-23",
        "2026-09-23T01:02",
        "0001-01-01T00:00:00",
        "0001-01-01T00:00:00+02:00",
        "0002-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "1700000000",
        1700000000,
        1700000000.5,
        None,
    ],
)
def test_fast_time_parser_agrees_with_pydantic(value: Any) -> None:
    """Times in the usual format are parsed without pydantic."""
    read = SchemaExecution.model_validate_json(json.dumps({"created_at": value})).created_at
    assert read == field_types._any_time().validate_python(value)
    assert read is None or read.utcoffset() is not None


@pytest.mark.parametrize("value", ["soon", "2026-02-30T00:00:00Z", "2026-09-23T01:02:03+25:00", True, [], {}, 1e300])
def test_unreadable_time_is_none_except_for_the_completion_time(value: Any) -> None:
    """Whether an execution has ended is not guessed."""
    execution = {"id": "e", "status": "running", "started_at": value}
    assert BulkSyncExecution.model_validate_json(json.dumps(execution)).started_at is None
    with pytest.raises(pydantic.ValidationError) as caught:
        BulkSyncExecution.model_validate_json(json.dumps(execution | {"completed_at": value}))
    error = caught.value.errors(include_url=False, include_input=False)[-1]
    assert error["loc"] == ("completed_at",)
    assert error["msg"].startswith("Input should be a valid datetime")  # which does not quote it


@pytest.mark.parametrize("kind", MODEL_CLASSES, ids=lambda kind: kind.__name__)
def test_zero_times_of_go_are_none_in_every_model(kind: type[Model]) -> None:
    """Each field that is a time is tested."""
    times = [name for name, field in kind.model_fields.items() if dt.datetime in typing.get_args(field.annotation)]
    value = kind.model_validate(
        {"id": "x", "sync_id": "x", **{kind.model_fields[name].alias or name: "0001-01-01T00:00:00Z" for name in times}}
    )
    assert [getattr(value, name) for name in times] == [None] * len(times)


def test_renamed_fields_are_read_by_both_names_and_written_by_the_name_of_the_api() -> None:
    """Some names of the API are not usable in Python."""
    summary = BulkSyncStatusSummary.model_validate({"sync_id": "s", "nextExecutionTime": "2026-09-23T01:02:03Z"})
    assert summary.next_execution_time is not None
    schema = models.SchemaExecution(schema_id="a")
    assert schema.model_dump(by_alias=True, exclude_unset=True) == {"schema": "a"}


# outcome


@pytest.mark.parametrize(
    ("execution", "terminal", "succeeded", "partially_failed"),
    [
        (BulkSyncExecution(id="e", status="completed"), True, True, False),
        (BulkSyncExecution(id="e", status="running"), False, False, False),
        (BulkSyncExecution(id="e", status=None), False, False, False),
        (BulkSyncExecution(id="e", status="failed"), True, False, False),
        (BulkSyncExecution(id="e", status="errors"), True, False, True),
        (BulkSyncExecution(id="e", status="completed", schemas=[{"status": "completed"}, {}]), True, True, False),
        (BulkSyncExecution(id="e", status="completed", schemas=[{"status": "failed"}]), True, False, True),
        (BulkSyncExecution(id="e", status="completed", schemas=[{"status": "running"}]), True, False, True),
        (BulkSyncExecution(id="e", status="running", schemas=[{"status": "failed"}]), False, False, False),
        (
            BulkSyncExecution(id="e", status="odd", completed_at=dt.datetime.now(dt.timezone.utc)),
            True,
            False,
            False,
        ),
        (ModelSyncExecution(id="e", status="completed"), True, True, False),
        (ModelSyncExecution(id="e", status="completed", counts={"error": 0}), True, True, False),
        (ModelSyncExecution(id="e", status="completed", counts={"error": 1}), True, False, True),
        (ModelSyncExecution(id="e", status="queued"), False, False, False),
    ],
)
def test_execution_outcome_depends_on_status_schemas_and_counts(
    execution: Any, terminal: bool, succeeded: bool, partially_failed: bool
) -> None:
    """Only `completed` without failed schemas or records is a success; a completion time makes any status terminal."""
    assert (execution.is_terminal, execution.succeeded, execution.partially_failed) == (
        terminal,
        succeeded,
        partially_failed,
    )


@pytest.mark.parametrize(
    ("execution", "records"),
    [
        (BulkSyncExecution(id="e", record_count=7), 7),
        (BulkSyncExecution(id="e", record_count=0, schemas=[{"record_count": 3}]), 0),
        (BulkSyncExecution(id="e", schemas=[{"record_count": 3}, {"record_count": 4}]), 7),
        (BulkSyncExecution(id="e", schemas=[{"record_count": 3}, {}]), None),
        (BulkSyncExecution(id="e", schemas=[]), None),
        (BulkSyncExecution(id="e"), None),
        (ModelSyncExecution(id="e", counts={"total": 9}), 9),
        (ModelSyncExecution(id="e"), None),
    ],
)
def test_execution_records_are_the_count_of_the_api_or_the_sum_of_its_schemas(
    execution: Any, records: int | None
) -> None:
    """The sum is None unless the count of every schema is known."""
    assert execution.records == records


def test_log_files_repr_omits_signed_urls() -> None:
    """A signed URL grants access to the log."""
    url = "https://s3.example/log?X-Amz-Signature=abc"
    for files in (LogFiles.model_validate({"URLs": [url]}), models.ModelLogFiles(urls=[url])):
        assert files.urls == [url]
        assert "Signature" not in repr(files)
        assert "Signature" not in str(files)


def test_console_log_entry_keeps_its_payload() -> None:
    """The payload is not converted."""
    assert ConsoleLogEntry(payload={"rows": {"a": [1]}}).payload == {"rows": {"a": [1]}}


def test_bulk_sync_needs_only_its_id() -> None:
    """The other fields are optional in the API reference."""
    assert BulkSync.model_validate_json('{"id": "248df4b7-aa70-47b8-a036-33ac447e668d"}').name is None
