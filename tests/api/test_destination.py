"""Checks against the configuration schema and the resync modes of a destination."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import PolytomicConflictError, PolytomicValidationError
from airflow_provider_polytomic.api.idempotency import send_once
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure, send
from airflow_provider_polytomic.api.syncs.destination import MAX_REPORTED, check_configuration, with_argument_hints

from .plans import PlanDriver

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["schema"],
    "additionalProperties": False,
    "properties": {
        "schema": {"type": "string", "title": "Output schema", "minLength": 1},
        "format": {"enum": ["csv", "json"]},
        "files": {"type": "array", "items": {"type": "object", "properties": {"size": {"type": "integer"}}}},
        "compress": {"anyOf": [{"enum": ["gzip"]}, {"type": "boolean"}]},
        "header": {"type": ["boolean", "null"]},
    },
}
BROKEN = Response(500, {}, b'{"status": 500, "message": "oops", "key": "internal"}')


def published(**fields: Any) -> Response:
    return Response(200, {}, json.dumps({"data": fields}).encode())


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({}, "destination_configuration.schema: is required (string)"),
        ({"schema": 5}, "destination_configuration.schema: 5 is not of type 'string'"),
        ({"schema": ""}, "destination_configuration.schema: "),
        ({"schema": "a", "format": "xml"}, "destination_configuration.format: 'xml' is not one of ['csv', 'json']"),
        ({"schema": "a", "files": [{"size": 1}, {"size": "1"}]}, "destination_configuration.files[1].size: '1' is not"),
        ({"schema": "a", "compress": "zip"}, "'zip' is not one of ['gzip'], and 'zip' is not of type 'boolean'"),
        (
            {"schema": "a", "shcema": "b"},
            "destination_configuration.shcema: no such field; allowed are schema, format, files, compress, header",
        ),
    ],
)
def test_violation_names_the_field_and_the_allowed_values(configuration: dict[str, Any], message: str) -> None:
    """The message names the field, and what the destination allows there."""
    with pytest.raises(ValueError) as refused:
        PlanDriver([published(configuration=SCHEMA)]).drive(check_configuration("d", configuration))
    assert message in str(refused.value)


def test_all_violations_are_reported_together() -> None:
    """Several violations are one message, of bounded length."""
    with pytest.raises(ValueError) as refused:
        PlanDriver([published(configuration=SCHEMA)]).drive(check_configuration("d", {"format": "xml"}))
    assert [part.split(":")[0] for part in str(refused.value).split("; ")] == [
        "destination_configuration.schema",
        "destination_configuration.format",
    ]
    wrong = {"type": "object", "properties": {f"field_{number}": {"type": "string"} for number in range(50)}}
    with pytest.raises(ValueError) as refused:
        PlanDriver([published(configuration=wrong)]).drive(
            check_configuration("d", dict.fromkeys(wrong["properties"], 1))
        )
    assert str(refused.value).endswith(f"; and {50 - MAX_REPORTED} more")


def test_valid_configuration_passes() -> None:
    """A valid configuration passes with one request."""
    driver = PlanDriver([published(configuration=SCHEMA)])

    driver.drive(check_configuration("d", {"schema": "a", "files": [{"size": 1}], "compress": True, "header": None}))

    assert [(request.method, request.path) for request in driver.requests] == [
        ("GET", "/api/connections/d/bulksync/target")
    ]


@pytest.mark.parametrize(
    "result",
    [
        published(),
        published(configuration=None),
        published(configuration={}),
        published(configuration=[1]),
        published(configuration={"type": "strng"}),
        published(configuration={"required": True}),
        published(configuration={"$schema": 5}),
        published(configuration={"$schema": "https://example.com/our-schema", "title": "no more"}),
        published(configuration={"$ref": "http://127.0.0.1:1/elsewhere"}),
        published(configuration={"properties": {"schema": {"pattern": "("}}}),
        Response(404, {}, b'{"status": 404, "message": "none", "key": "not_found"}'),
        Response(200, {}, b"<html>"),
        BROKEN,
        TransportFailure("refused"),
    ],
)
def test_unusable_schema_does_not_prevent_the_creation(result: SendResult, caplog: pytest.LogCaptureFixture) -> None:
    """Without a usable schema only the server validates. No request follows a reference in the schema."""
    with caplog.at_level(logging.WARNING):
        PlanDriver([result, result]).drive(check_configuration("d", {"schema": 5}))


# --- resync_mode


START_IT = bulk_syncs.start("s", resync_mode="rebuild", idempotency_key="k" * 8)
REFUSED = Response(422, {}, b'{"status": 422, "message": "unsupported mode", "key": "validation"}')
SYNC = published(id="s", destination_connection_id="d")


def refusal(*results: SendResult, resync_mode: str | None = "rebuild") -> str:
    """The error message of a refused start."""
    with pytest.raises(PolytomicValidationError) as refused:
        PlanDriver([REFUSED, *results]).drive(
            with_argument_hints(send_once(START_IT, "start"), "s", {"resync_mode": resync_mode})
        )
    assert refused.value.status_code == 422
    assert "unsupported mode" in str(refused.value)
    return str(refused.value)


def test_refused_resync_mode_error_lists_the_supported_modes() -> None:
    """The message of the server stays, and the supported modes are added."""
    message = refusal(SYNC, published(supported_resync_modes=["refetch", "resync"]))

    assert message.endswith("; the destination of this sync supports as resync_mode: refetch, resync")


@pytest.mark.parametrize(
    "results",
    [
        (BROKEN, BROKEN),
        (published(id="s"),),
        (SYNC, BROKEN, BROKEN),
        (SYNC, published()),
        (SYNC, published(supported_resync_modes=None)),
        (SYNC, published(supported_resync_modes=[])),
        (SYNC, published(supported_resync_modes="all")),
        (SYNC, published(supported_resync_modes=["rebuild", "resync"])),
    ],
)
def test_refused_resync_mode_error_stays_when_modes_are_unknown(results: tuple[SendResult, ...]) -> None:
    """If the modes cannot be read, or contain the refused one, the server's message stays unchanged."""
    assert "supports as resync_mode" not in refusal(*results)


@pytest.mark.parametrize(
    ("known", "requested", "hint"),
    [
        (["account", "contact"], ["accounts"], "no schema 'accounts'; its schemas are: account, contact"),
        (["a", "account", "contact"], ["account", "contacts"], "no schema 'contacts'; its schemas are: contact, a"),
        ([f"table_{number:05}" for number in range(5000)], ["table_x"], "no schema 'table_x'; its schemas are: table_"),
    ],
)
def test_refused_schemas_error_lists_the_schemas_of_the_sync(known: list[str], requested: list[str], hint: str) -> None:
    """The nearest ids come first, and the list is bounded."""
    listed = Response(200, {}, json.dumps({"data": [{"id": each} for each in known]}).encode())
    plan = with_argument_hints(send_once(START_IT, "start"), "s", {"schemas": requested})

    with pytest.raises(PolytomicValidationError) as refused:
        PlanDriver([REFUSED, listed]).drive(plan)

    assert f"this sync has {hint}" in str(refused.value)
    assert len(str(refused.value)) < 700


@pytest.mark.parametrize(
    "results", [(BROKEN, BROKEN), (published(),), (Response(200, {}, b'{"data": [{"id": "account"}]}'),)]
)
def test_refused_schemas_error_stays_when_the_ids_are_unknown_or_right(results: tuple[SendResult, ...]) -> None:
    """If the schemas cannot be read, or contain the requested ones, the server's message stays unchanged."""
    plan = with_argument_hints(send_once(START_IT, "start"), "s", {"schemas": ["account"]})

    with pytest.raises(PolytomicValidationError) as refused:
        PlanDriver([REFUSED, *results]).drive(plan)

    assert "this sync has no schema" not in str(refused.value)


def test_other_errors_are_not_changed() -> None:
    """A refused start without `resync_mode`, and a conflict, cause no further request."""
    assert "supports" not in refusal(resync_mode=None)
    conflict = Response(409, {}, b'{"status": 409, "message": "it runs", "key": "conflict"}')
    with pytest.raises(PolytomicConflictError):
        PlanDriver([conflict]).drive(with_argument_hints(send_once(START_IT, "start"), "s", {"resync_mode": "rebuild"}))
    result = PlanDriver([REFUSED]).drive(
        with_argument_hints(send(Request("GET", "/")), "s", {"resync_mode": "rebuild"})
    )
    assert result == REFUSED
