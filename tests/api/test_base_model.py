"""Answers in which fields have unexpected types: what can be read is read, what a task depends on is not guessed."""

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

from airflow_provider_polytomic.api import models
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
    tolerant,
)
from airflow_provider_polytomic.api.models.tolerant import Model
from airflow_provider_polytomic.api.parsers import parse_list, parse_one
from airflow_provider_polytomic.api.plan import Response

from .test_models import OURS, sample, sdk_fields

MANY = int(os.environ.get("POLYTOMIC_FUZZ", "300"))
TIME = "2026-09-23T01:02:03Z"


@pytest.fixture(autouse=True)
def _nothing_is_reported_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tolerant, "_reported", set())


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
def test_an_integer_is_a_whole_number_however_it_is_spelled(value: Any, number: int | None) -> None:
    """A string of digits and 3.0 are numbers, so that no error is overlooked; a boolean is not."""
    read_ = read(BulkSyncExecution, record_count=value).record_count
    assert (read_, type(read_)) == (number, type(number))


@pytest.mark.parametrize(
    ("value", "boolean"),
    [(True, True), ("true", True), ("false", False), (1, True), (0, False), (2, None), ("maybe", None), ([], None)],
)
def test_a_boolean_is_read_where_it_is_unambiguous(value: Any, boolean: bool | None) -> None:
    """A string or a number that spells a boolean is one; nothing else is."""
    assert read(BulkSync, active=value).active is boolean


@pytest.mark.parametrize("value", [1, 1.5, True, [], ["retain"], {"is": "retain"}])
def test_text_is_text_alone(value: Any) -> None:
    """A number or an object is not turned into text that looks like a name."""
    execution = read(BulkSyncExecution, output_disposition=value, fetch_mode="none")
    assert (execution.output_disposition, execution.fetch_mode) == (None, "none")


def test_unexpected_elements_of_a_list_are_left_out() -> None:
    """The other elements stay, in their order."""
    assert read(BulkSync, policies=["a", None, 5, "b"]).policies == ["a", "b"]
    assert read(ModelSyncExecution, errors=[{"code": 1}, "it broke"]).errors == ["it broke"]
    assert read(BulkSync, policies="a").policies is None


def test_schema_rows_are_kept_whatever_they_are() -> None:
    """A row that is no object is an empty row, so that counts are not taken for complete; a failed row stays failed."""
    rows = [None, "x", 5, {"schema": 5, "status": "failed", "record_count": "x"}, {"schema": "a", "record_count": 3}]
    execution = read(BulkSyncExecution, status="completed", schemas=rows)
    assert [row.schema_id for row in execution.schemas] == [None, None, None, None, "a"]
    assert [row.status for row in execution.failed_schemas] == ["failed"]
    assert execution.records is None
    assert not execution.succeeded


def test_a_schema_row_without_a_readable_status_leaves_the_verdict_to_the_execution() -> None:
    """It counts like a row whose status is missing."""
    execution = read(BulkSyncExecution, status="completed", schemas=["x", {"schema": "a", "status": 5}])
    assert execution.succeeded


@pytest.mark.parametrize("field", ["status", "completed_at"])
@pytest.mark.parametrize("value", [5, True, {}, ["completed"]])
def test_an_execution_is_unreadable_without_what_a_task_depends_on(field: str, value: Any) -> None:
    """Whether it has ended, and how, is not guessed: the answer is an error, alone and in a list."""
    if field == "completed_at" and value == 5:
        value = "soon"  # a number is a time
    row = {"id": "e", field: value}
    for parse, answer in ((parse_one(BulkSyncExecution), row), (parse_list(BulkSyncExecution), [{"id": "f"}, row])):
        with pytest.raises(pydantic.ValidationError):
            parse(body(answer))


@pytest.mark.parametrize("row", [{"id": 5}, {"id": ""}, {}, None, "x", []])
def test_a_list_of_executions_is_unreadable_when_one_cannot_be_identified(row: Any) -> None:
    """It might be the one that runs: nobody may take the rest for the whole list."""
    call = bulk_syncs.executions("s").page()
    with pytest.raises(PolytomicResponseError, match="not an answer"):
        decode(call, Response(200, {}, body([{"id": "e", "status": "completed"}, row])))


@pytest.mark.parametrize("row", [{"id": 5}, {"id": ""}, {}, None, "x", []])
def test_a_list_of_syncs_leaves_out_what_cannot_be_identified(row: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The other syncs are found, and one warning says what was left out."""
    page = parse_list(BulkSync)(body([{"id": "a"}, row, {"id": "b", "created_by": "John"}, row]))
    assert [sync.id for sync in page.items] == ["a", "b"]
    assert [record.getMessage() for record in caplog.records if "left out" in record.getMessage()] == [
        record.getMessage() for record in caplog.records if "created_by" not in record.getMessage()
    ]
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "answer",
    [{"data": "x"}, {"data": {}}, {"data": [], "pagination": 5}, {"data": [], "pagination": {"next_page_token": 5}}],
)
def test_a_list_that_may_go_on_is_not_taken_for_complete(answer: Any) -> None:
    """Without a readable list and token of the next page, the answer is an error."""
    with pytest.raises(pydantic.ValidationError):
        parse_list(BulkSync)(json.dumps(answer).encode())


def test_an_unreadable_object_in_a_field_is_none() -> None:
    """So the rest of a status is readable."""
    status = parse_one(BulkSyncStatus)(
        body({"current_execution": {"id": 5}, "last_execution": {"id": "e"}, "next_execution_time": TIME})
    )
    assert status.current_execution is None
    assert status.last_execution is not None
    assert status.next_execution_time is not None


def test_a_warning_is_logged_once_and_never_has_the_value(caplog: pytest.LogCaptureFixture) -> None:
    """It names the model, the field and the type; a second execution, and a second row, add nothing."""
    for _ in range(2):
        read(BulkSyncExecution, warning_count="s3cr3t", schemas=[{"status_message": ["s3cr3t"]}, {"status_message": 5}])
    assert [record.getMessage() for record in caplog.records] == [
        "Polytomic returned an unexpected value of BulkSyncExecution.warning_count (string, int_type): "
        "BulkSyncExecution.warning_count is read as None. This is logged once.",
        "Polytomic returned an unexpected value of SchemaExecution.status_message (array, string_type): "
        "SchemaExecution.status_message is read as None. This is logged once.",
    ]


def test_well_formed_answers_are_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the repair is run for them."""
    monkeypatch.setattr(tolerant, "_repair", None)
    assert read(BulkSyncExecution, schemas=[{"schema": "a", "record_count": 1}], surprise={"a": 1}).schemas


def test_what_is_validated_from_python_is_not_changed() -> None:
    """The caller's own dict is left alone."""
    given_ = {"id": "s", "policies": [None], "active": 2}
    before = copy.deepcopy(given_)
    assert BulkSync.model_validate(given_).policies == []
    assert given_ == before


def test_half_a_character_does_not_make_an_answer_unreadable() -> None:
    """A name that was cut inside of an emoji is JSON, although it is no text."""
    page = parse_list(BulkSync)(
        b'{"data": [{"id": "a", "name": "cut \\ud83d"}, {"id": "b", "name": "whole \\ud83d\\ude00"}]}'
    )
    assert [sync.name for sync in page.items] == ["cut ?", "whole 😀"]


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b'{"data": ', b'{"data": {"id": "\xff"}}', b"[" * 5000, b"[]", b"5"]
)
def test_what_is_no_answer_is_refused(answer: bytes) -> None:
    """Only fields are repaired, never an answer as a whole."""
    with pytest.raises(pydantic.ValidationError):
        parse_one(BulkSync)(answer)


def test_a_schedule_is_read_in_both_spellings() -> None:
    """In camel case with names of persons, as schedules are listed; in snake case with actors, as a sync holds them."""
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
STRICT = {"id", "sync_id", "status", "completed_at"}
KINDS = [kind for kind in OURS if kind not in (Model, Execution)]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be replaced: every field but the strict ones, and every element of a list."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if key not in STRICT:
            yield (*path, key)
        yield from paths(item, (*path, key))


def healthy(value: Any, name: str = "") -> Any:
    """An answer in which everything is completed and nothing had errors."""
    if isinstance(value, dict):
        return {key: healthy(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [healthy(item) for item in value]
    return {"status": "completed", "error_count": 0, "error": 0}.get(name, value) if value is not None else None


def well_formed(kind: type[Model]) -> dict[str, Any]:
    answer = {name: sample(annotation, name) for name, annotation in sdk_fields(kind).items()}
    return healthy(answer) if issubclass(kind, Execution) else answer  # type: ignore[no-any-return]


WELL_FORMED = {kind: well_formed(kind) for kind in KINDS}
PLACES = {kind: list(paths(answer)) for kind, answer in WELL_FORMED.items()}


@st.composite
def damaged(draw: st.DrawFn) -> tuple[type[Model], dict[str, Any], set[str], set[Any]]:
    """A model, an answer with up to four values replaced, the fields in which they are, and the keys of the values."""
    kind = draw(st.sampled_from(KINDS))
    answer = copy.deepcopy(WELL_FORMED[kind])
    touched, keys = set(), set()
    for path in draw(st.lists(st.sampled_from(PLACES[kind]), min_size=1, max_size=4)):
        container: Any = answer
        try:
            for key in path[:-1]:
                container = container[key]
            container[path[-1]] = draw(json_values)
        except (IndexError, KeyError, TypeError):
            continue  # an earlier value has replaced what this one was in
        touched.add(path[0])
        keys.add(path[-1])
    return kind, answer, touched, keys


@settings(max_examples=MANY, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged())
def test_any_json_in_any_field_leaves_the_rest_readable(case: Any) -> None:
    """Alone and in a list: no error, the other fields keep their values, and so does the verdict."""
    kind, answer, touched, keys = case
    logging.disable()
    try:
        alone = parse_one(kind)(body(answer))
        listed = parse_list(kind)(body([WELL_FORMED[kind], answer, WELL_FORMED[kind]])).items
    finally:
        logging.disable(logging.NOTSET)

    whole = parse_one(kind)(body(WELL_FORMED[kind]))
    assert [listed[0], listed[-1]] == [whole, whole]
    assert len(listed) == 3
    for value in (alone, listed[1]):
        value.model_dump_json(warnings="error")  # each field has a value of its type
        for name, field in kind.model_fields.items():
            if (field.alias or name) not in touched and name not in touched:
                assert getattr(value, name) == getattr(whole, name)
        if isinstance(value, Execution):
            assert value.is_terminal
            assert value.succeeded or keys & {"error_count", "error"}  # which may have become a number of errors


def test_every_model_takes_part_in_the_fuzz() -> None:
    """A model is known to the fuzz with all of its fields, and can be read undamaged without a repair."""
    assert {kind.__name__ for kind in KINDS} == {
        kind.__name__
        for kind in vars(models).values()
        if isinstance(kind, type) and issubclass(kind, Model) and kind not in (Model, Execution)
    }
    for kind, answer in WELL_FORMED.items():
        value = parse_one(kind)(body(answer))
        assert not isinstance(value, Execution) or value.succeeded
    assert not tolerant._reported
