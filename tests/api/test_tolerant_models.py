"""Responses with fields of unexpected types: what is readable is read, and what a task depends on is not guessed."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_polytomic.api import models, parsers
from airflow_provider_polytomic.api.call import decode
from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import PolytomicResponseError
from airflow_provider_polytomic.api.models import (
    BulkSync,
    BulkSyncExecution,
    BulkSyncSchedule,
    BulkSyncStatus,
    Execution,
    ModelSyncExecution,
    invalid_values,
)
from airflow_provider_polytomic.api.models.tolerant import Model
from airflow_provider_polytomic.api.plan import Response

from .test_models import MODEL_CLASSES, sample, sdk_fields

FUZZ_EXAMPLES = int(os.environ.get("POLYTOMIC_FUZZ", "300"))
TIME = "2026-09-23T01:02:03Z"


@pytest.fixture(autouse=True)
def _reset_reported_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalid_values, "_reported", set())


def parse_one(kind: type[Any]) -> Any:
    return parsers.parse_one(lambda: kind)


def parse_list(kind: type[Any]) -> Any:
    return parsers.parse_list(lambda: kind)


def body(data: Any, **more: Any) -> bytes:
    return json.dumps({"data": data, **more}).encode()


def read(kind: type[Any], **fields: Any) -> Any:
    return parse_one(kind)(body({"id": "x", **fields}))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (7, 7),
        (3.0, 3),
        (1e3, 1000),
        ("7", 7),
        (-1, -1),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (10**400, None),
        (3.5, None),
        (math.nan, None),
        (math.inf, None),
        (True, None),
        (False, None),
        ("x", None),
        ("", None),
        ([], None),
        ({}, None),
    ],
)
def test_integer_field_reads_any_spelling_of_a_whole_number(value: Any, number: int | None) -> None:
    """A string of digits and 3.0 are numbers, so that no error count is missed; a boolean is not."""
    read_ = read(BulkSyncExecution, record_count=value).record_count
    assert (read_, type(read_)) == (number, type(number))


@pytest.mark.parametrize(
    ("value", "boolean"),
    [(True, True), ("true", True), ("false", False), (1, True), (0, False), (2, None), ("maybe", None), ([], None)],
)
def test_boolean_field_reads_unambiguous_values_only(value: Any, boolean: bool | None) -> None:
    """A string or a number that spells a boolean is one; all other values are None."""
    assert read(BulkSync, active=value).active is boolean


@pytest.mark.parametrize("value", [1, 1.5, True, [], ["retain"], {"is": "retain"}])
def test_text_field_is_none_when_the_value_is_not_text(value: Any) -> None:
    """A number or an object is not converted to text."""
    execution = read(BulkSyncExecution, output_disposition=value, fetch_mode="none")
    assert (execution.output_disposition, execution.fetch_mode) == (None, "none")


def test_list_field_omits_elements_of_unexpected_types() -> None:
    """The other elements stay, in their order."""
    assert read(BulkSync, policies=["a", None, 5, "b"]).policies == ["a", "b"]
    assert read(ModelSyncExecution, errors=[{"code": 1}, "it broke"]).errors == ["it broke"]
    assert read(BulkSync, policies="a").policies is None


def test_schema_rows_of_unexpected_types_are_kept_as_empty_rows() -> None:
    """Counts are then not taken for complete, and a failed row stays failed."""
    rows = [None, "x", 5, {"schema": 5, "status": "failed", "record_count": "x"}, {"schema": "a", "record_count": 3}]
    execution = read(BulkSyncExecution, status="completed", schemas=rows)
    assert [row.schema_id for row in execution.schemas] == [None, None, None, None, "a"]
    assert [row.status for row in execution.failed_schemas] == ["failed"]
    assert execution.records is None
    assert not execution.succeeded


def test_execution_outcome_ignores_schema_rows_without_a_readable_status() -> None:
    """Such a row counts like one whose status is missing."""
    execution = read(BulkSyncExecution, status="completed", schemas=["x", {"schema": "a", "status": 5}])
    assert execution.succeeded


@pytest.mark.parametrize("field", ["status", "completed_at"])
@pytest.mark.parametrize("value", [5, True, {}, ["completed"]])
def test_execution_is_rejected_when_status_or_completion_time_is_unreadable(field: str, value: Any) -> None:
    """Whether an execution has ended, and how, is not guessed: alone or in a list, the response is an error."""
    if field == "completed_at" and value == 5:
        value = "soon"  # a number would be a valid time
    row = {"id": "e", field: value}
    for parse, response in ((parse_one(BulkSyncExecution), row), (parse_list(BulkSyncExecution), [{"id": "f"}, row])):
        with pytest.raises(pydantic.ValidationError):
            parse(body(response))


@pytest.mark.parametrize("row", [{"id": 5}, {"id": ""}, {}, None, "x", []])
def test_execution_list_is_rejected_when_a_row_has_no_valid_id(row: Any) -> None:
    """The row may be the running execution, so the rest is not the whole list."""
    call = bulk_syncs.executions("s").page()
    with pytest.raises(PolytomicResponseError, match="not a response"):
        decode(call, Response(200, {}, body([{"id": "e", "status": "completed"}, row])))


@pytest.mark.parametrize("row", [{"id": 5}, {"id": ""}, {}, None, "x", []])
def test_sync_list_omits_rows_without_a_valid_id(row: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The other syncs are returned, and one warning says what was omitted."""
    page = parse_list(BulkSync)(body([{"id": "a"}, row, {"id": "b", "created_by": "John"}, row]))
    assert [sync.id for sync in page.items] == ["a", "b"]
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        record.getMessage() for record in caplog.records if "created_by" not in record.getMessage()
    ]
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "response",
    [{"data": "x"}, {"data": {}}, {"data": [], "pagination": 5}, {"data": [], "pagination": {"next_page_token": 5}}],
)
def test_list_is_rejected_when_its_data_or_page_token_is_unreadable(response: Any) -> None:
    """Otherwise, a partial list would be taken for the whole list."""
    with pytest.raises(pydantic.ValidationError):
        parse_list(BulkSync)(json.dumps(response).encode())


def test_object_field_is_none_when_the_object_is_unreadable() -> None:
    """The rest of the response is readable."""
    status = parse_one(BulkSyncStatus)(
        body({"current_execution": {"id": 5}, "last_execution": {"id": "e"}, "next_execution_time": TIME})
    )
    assert status.current_execution is None
    assert status.last_execution is not None
    assert status.next_execution_time is not None


def test_unexpected_type_is_logged_once_without_the_value(caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the model, the field and the type; further executions and rows add nothing."""
    for _ in range(2):
        read(BulkSyncExecution, warning_count="s3cr3t", schemas=[{"status_message": ["s3cr3t"]}, {"status_message": 5}])
    assert [record.getMessage() for record in caplog.records] == [
        "Polytomic returned an unexpected value of BulkSyncExecution.warning_count (string, int_type): "
        "BulkSyncExecution.warning_count is read as None. This is logged once.",
        "Polytomic returned an unexpected value of SchemaExecution.status_message (array, string_type): "
        "SchemaExecution.status_message is read as None. This is logged once.",
    ]


def test_well_formed_response_is_not_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is validated once."""
    monkeypatch.setattr(invalid_values, "replace_invalid_values", None)
    assert read(BulkSyncExecution, schemas=[{"schema": "a", "record_count": 1}], surprise={"a": 1}).schemas


def test_model_validate_does_not_change_its_argument() -> None:
    """The dict of the caller keeps its values."""
    data = {"id": "s", "policies": [None], "active": 2}
    original = copy.deepcopy(data)
    assert BulkSync.model_validate(data).policies == []
    assert data == original


def test_response_with_a_lone_surrogate_is_readable() -> None:
    """A name that was cut inside an emoji is JSON, although it is not valid text."""
    page = parse_list(BulkSync)(
        b'{"data": [{"id": "a", "name": "cut \\ud83d"}, {"id": "b", "name": "whole \\ud83d\\ude00"}]}'
    )
    assert [sync.name for sync in page.items] == ["cut ?", "whole 😀"]


@pytest.mark.parametrize(
    "response", [b"", b"<html>", b'{"data": ', b'{"data": {"id": "\xff"}}', b"[" * 5000, b"[]", b"5"]
)
def test_response_that_is_not_a_json_object_is_rejected(response: bytes) -> None:
    """Only fields are repaired, not a response as a whole."""
    with pytest.raises(pydantic.ValidationError):
        parse_one(BulkSync)(response)


def test_schedule_is_read_in_camel_case_and_snake_case() -> None:
    """Schedule lists use camel case with names of persons; a sync contains snake case with actors."""
    actor = {"id": "12345678-1234-1234-1234-123456789012", "name": "Jane Doe", "type": "user"}
    within = BulkSyncSchedule.model_validate(
        {"frequency": "weekly", "day_of_week": "monday", "hour": "12", "created_at": TIME, "created_by": actor}
    )
    listed = BulkSyncSchedule.model_validate(
        {"frequency": "weekly", "dayOfWeek": "monday", "hour": "12", "createdAt": TIME, "createdBy": "Jane Doe"}
    )
    assert within.created_by == actor
    assert listed == within.model_copy(update={"created_by": "Jane Doe"})


# any JSON in any field

whole_and_huge = st.integers() | st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**60, 10**400])
texts = st.text(max_size=20) | st.sampled_from(["7", "true", "0001-01-01T00:00:00Z", TIME, "x" * 2000, "\ud83d"])
json_values = st.recursive(
    st.none() | st.booleans() | whole_and_huge | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
STRICT_FIELDS = {"id", "sync_id", "status", "completed_at"}
FUZZED_MODELS = [kind for kind in MODEL_CLASSES if kind not in (Model, Execution)]


def list_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each replaceable value: every field but the strict ones, and every element of a list."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key not in STRICT_FIELDS:
            yield (*path, key)
        yield from list_paths(item, (*path, key))


def completed_without_errors(value: Any, name: str = "") -> Any:
    """Return a response in which everything is completed and nothing has errors."""
    if isinstance(value, dict):
        return {key: completed_without_errors(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [completed_without_errors(item) for item in value]
    return {"status": "completed", "error_count": 0, "error": 0}.get(name, value) if value is not None else None


def well_formed(kind: type[Model]) -> dict[str, Any]:
    response = {name: sample(annotation, name) for name, annotation in sdk_fields(kind).items()}
    return completed_without_errors(response) if issubclass(kind, Execution) else response  # type: ignore[no-any-return]


WELL_FORMED = {kind: well_formed(kind) for kind in FUZZED_MODELS}
PATHS = {kind: list(list_paths(response)) for kind, response in WELL_FORMED.items()}


@st.composite
def damaged_responses(draw: st.DrawFn) -> tuple[type[Model], dict[str, Any], set[str], set[Any]]:
    """Draw a model, a response with up to four values replaced, the fields that contain them, and their keys."""
    kind = draw(st.sampled_from(FUZZED_MODELS))
    response = copy.deepcopy(WELL_FORMED[kind])
    replaced, keys = set(), set()
    for path in draw(st.lists(st.sampled_from(PATHS[kind]), min_size=1, max_size=4)):
        container: Any = response
        try:
            for key in path[:-1]:
                container = container[key]
            container[path[-1]] = draw(json_values)
        except (IndexError, KeyError, TypeError):
            continue  # an earlier replacement removed the container
        replaced.add(path[0])
        keys.add(path[-1])
    return kind, response, replaced, keys


@settings(max_examples=FUZZ_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged_responses())
def test_any_json_in_any_field_leaves_the_rest_readable(case: Any) -> None:
    """Alone and in a list: no error, and the other fields and the outcome keep their values."""
    kind, response, replaced, keys = case
    logging.disable()
    try:
        single = parse_one(kind)(body(response))
        listed = parse_list(kind)(body([WELL_FORMED[kind], response, WELL_FORMED[kind]])).items
    finally:
        logging.disable(logging.NOTSET)

    whole = parse_one(kind)(body(WELL_FORMED[kind]))
    assert [listed[0], listed[-1]] == [whole, whole]
    assert len(listed) == 3
    for value in (single, listed[1]):
        value.model_dump_json(warnings="error")  # each field has a value of its type
        for name, field in kind.model_fields.items():
            if (field.alias or name) not in replaced and name not in replaced:
                assert getattr(value, name) == getattr(whole, name)
        if isinstance(value, Execution):
            assert value.is_terminal
            assert value.succeeded or keys & {"error_count", "error"}  # unless an error count was replaced


def test_fuzz_covers_every_model() -> None:
    """Each model has all of its fields, and its undamaged response needs no repair."""
    assert {kind.__name__ for kind in FUZZED_MODELS} == {
        kind.__name__
        for kind in (getattr(models, name) for name in models.__all__)
        if isinstance(kind, type) and issubclass(kind, Model) and kind not in (Model, Execution)
    }
    for kind, response in WELL_FORMED.items():
        value = parse_one(kind)(body(response))
        assert not isinstance(value, Execution) or value.succeeded
    assert not invalid_values._reported
