"""The sandbox's wire format and routes: authentication, versions, pagination, and changes to syncs and schemas."""

from __future__ import annotations

import base64
import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_polytomic.sandbox.seed import (
    POSTGRES_TO_WAREHOUSE,
    SALESFORCE,
    SALESFORCE_TO_WAREHOUSE,
    WAREHOUSE,
    WAREHOUSE_TO_SALESFORCE,
)

from .conftest import BULK, Client, error_of

MODEL = f"/api/syncs/{WAREHOUSE_TO_SALESFORCE}"
SYNC = {
    "name": "New",
    "source_connection_id": SALESFORCE,
    "destination_connection_id": WAREHOUSE,
    "destination_configuration": {"schema": "new"},
    "default_schedule": {"frequency": "manual"},
    "mode": "replicate",
}
MODEL_SYNC = {
    "name": "New",
    "mode": "create",
    "fields": [{"target": "Name", "source": {"model_id": "m", "field": "name"}}],
    "schedule": {"frequency": "manual"},
    "target": {"connection_id": SALESFORCE, "object": "Lead"},
}


def basic(login: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "sandbox", "Basic !!!", basic("org", "wrong"), "Token sandbox"],
)
def test_request_without_a_valid_key_gets_401(client: Client, authorization: str | None) -> None:
    """Missing and wrong credentials get an error in the API's format."""
    assert error_of(client("GET", "/api/me", authorization=authorization)) == (401, "unauthorized")


def test_bearer_key_is_a_user_and_basic_is_an_organization(client: Client) -> None:
    """The identity differs between a Bearer key and HTTP Basic."""
    user = client.data("GET", "/api/me")
    organization = client.data("GET", "/api/me", authorization=basic("org", "sandbox"))
    assert (user["is_user"], user["is_organization"]) == (True, False)
    assert (organization["is_user"], organization["is_organization"]) == (False, True)
    assert user["organization_name"] == organization["organization_name"] == "Sandbox"


def test_rotated_key_replaces_the_old_key(client: Client) -> None:
    """After a rotation only the new key is valid."""
    client.sandbox.rotate_key("fresh")
    assert client("GET", "/api/me").status == 401
    assert client("GET", "/api/me", authorization="Bearer fresh").status == 200


@pytest.mark.parametrize(
    ("asked", "served"), [(None, "2021-05-23"), ("2024-02-08", "2024-02-08"), ("2025-09-18", "2025-09-18")]
)
def test_response_names_its_api_version(client: Client, asked: str | None, served: str) -> None:
    """A request without a version gets the oldest version."""
    assert client("GET", "/api/me", version=asked).headers["x-polytomic-version"] == served


def test_unknown_api_version_gets_400(client: Client) -> None:
    """A version that was never published is rejected."""
    assert error_of(client("GET", "/api/me", version="2020-01-01")) == (400, "bad_request")


def test_every_response_has_its_own_request_id(client: Client) -> None:
    """No two responses have the same X-Request-Id."""
    assert len({client("GET", "/api/me").headers["x-request-id"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/nothing"),
        ("GET", "/"),
        ("GET", "/api/bulk/syncs/nothing"),
        ("GET", f"/api/syncs/{SALESFORCE_TO_WAREHOUSE}"),
        ("GET", f"/api/bulk/syncs/{WAREHOUSE_TO_SALESFORCE}"),
        ("GET", f"{BULK}/executions/nothing"),
        ("POST", f"{BULK}/executions/nothing/cancel"),
        ("GET", f"{BULK}/schemas/nothing"),
        ("GET", f"{MODEL}/executions/nothing"),
        ("GET", "/api/connections/nothing"),
        ("GET", "/api/connections/nothing/bulksync/source"),
    ],
)
def test_unknown_path_or_id_gets_404(client: Client, method: str, path: str) -> None:
    """Unknown paths and ids are errors in the API's format."""
    assert error_of(client(method, path)) == (404, "not_found")


def test_wrong_method_gets_405(client: Client) -> None:
    """The path exists, but not with this method."""
    assert error_of(client("DELETE", "/api/me")) == (405, "method_not_allowed")


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'"text"'])
def test_body_that_is_not_an_object_gets_400(client: Client, body: bytes) -> None:
    """A start whose body cannot be read starts nothing."""
    response = client.sandbox.handle("POST", f"{BULK}/executions", {"authorization": "Bearer sandbox"}, body)
    assert error_of(response) == (400, "bad_request")  # type: ignore[arg-type]
    assert client.sandbox.starts(SALESFORCE_TO_WAREHOUSE) == []


def test_sync_list_has_pages_of_fifty_by_last_update(make: Any) -> None:
    """All pages together contain each sync once, by updated_at descending, then by id."""
    client = make({"bulk_syncs": [{"name": f"s{n}", "schemas": ["a"]} for n in range(60)]})
    late = client.data("GET", "/api/bulk/syncs?limit=1")[0]["id"]
    for number in range(60):
        client.clock.now += number % 2  # pairs are changed at the same instant
        client.data(
            "POST", "/api/bulk/syncs", {**SYNC, "name": f"n{number}", "source_connection_id": None} | _ids(client)
        )
    rows, sizes, token = [], [], ""
    while True:
        body = json.loads(client("GET", f"/api/bulk/syncs?limit=1000{token}").body)
        rows += body["data"]
        sizes.append(len(body["data"]))
        if "next_page_token" not in body["pagination"]:
            break
        token = "&page_token=" + quote(body["pagination"]["next_page_token"], safe="")
    assert sizes == [50, 50, 20]
    assert len({row["id"] for row in rows}) == 120
    assert late in {row["id"] for row in rows}
    order = [(row["updated_at"], row["id"]) for row in rows]
    assert order == sorted(sorted(order, key=lambda item: item[1]), key=lambda item: item[0], reverse=True)


def _ids(client: Client) -> dict[str, str]:
    first, *_, last = client.data("GET", "/api/connections")
    return {"source_connection_id": first["id"], "destination_connection_id": last["id"]}


@pytest.mark.parametrize(("limit", "size"), [("2", 2), ("0", 50), ("-3", 50), ("51", 50), ("", 50)])
def test_page_size_is_limited(make: Any, limit: str, size: int) -> None:
    """A larger limit is reduced to the maximum, and 0 or less becomes the default."""
    client = make({"bulk_syncs": [{"name": f"s{n}", "schemas": ["a"]} for n in range(55)]})
    assert len(client.data("GET", f"/api/bulk/syncs?limit={limit}")) == size


def test_page_token_is_rejected_without_url_encoding(make: Any) -> None:
    """A token contains characters that must be encoded, so a client that does not encode it gets an error."""
    client = make({"bulk_syncs": [{"name": f"s{n}", "schemas": ["a"]} for n in range(3)]})
    token = json.loads(client("GET", "/api/bulk/syncs?limit=1").body)["pagination"]["next_page_token"]
    assert {"+", "/", "="} <= set(token)
    assert client("GET", f"/api/bulk/syncs?page_token={quote(token, safe='')}").status == 200
    assert error_of(client("GET", f"/api/bulk/syncs?page_token={token}")) == (400, "bad_request")


@pytest.mark.parametrize("token", ["x", "e30=", quote(base64.b64encode(b"\xfb\xef\xbf[[1], 2]").decode(), safe="")])
def test_invalid_page_token_gets_400(client: Client, token: str) -> None:
    """Text that is not a token of the list is rejected."""
    assert error_of(client("GET", f"/api/bulk/syncs?page_token={token}")) == (400, "bad_request")


@pytest.mark.parametrize(
    ("by_position", "moved", "pages"),
    [
        (False, "d", [["a", "b"], ["c"]]),
        (True, "d", [["a", "b"], ["b", "c"]]),
        (False, "a", [["a", "b"], ["c", "d"]]),
        (True, "a", [["a", "b"], ["c", "d"]]),
    ],
)
@pytest.mark.parametrize("kind", ["bulk", "model"])
def test_sync_that_changes_between_two_pages_moves_to_the_front(
    make: Any, kind: str, by_position: bool, moved: str, pages: list[list[str]]
) -> None:
    """The next page depends on whether tokens are keys or positions."""
    schemas = {"schemas": ["a"]} if kind == "bulk" else {}
    client = make({f"{kind}_syncs": [{"name": name, "id": name, **schemas} for name in "abcd"]})
    client.sandbox.pages_by_position = by_position
    path = "/api/bulk/syncs" if kind == "bulk" else "/api/syncs"
    for sync_id in "dcba":
        client.sandbox.touch(sync_id)
    first = json.loads(client("GET", f"{path}?limit=2").body)
    client.sandbox.touch(moved)
    token = quote(first["pagination"]["next_page_token"], safe="")
    second = json.loads(client("GET", f"{path}?limit=2&page_token={token}").body)
    assert [[row["id"] for row in body["data"]] for body in (first, second)] == pages


@pytest.mark.parametrize("token", ["x", quote(base64.b64encode(b"\xfb\xef\xbf[-1]").decode(), safe="")])
def test_invalid_position_token_gets_400(client: Client, token: str) -> None:
    """A token that is not a position is rejected."""
    client.sandbox.pages_by_position = True
    assert error_of(client("GET", f"/api/bulk/syncs?page_token={token}")) == (400, "bad_request")


def test_new_execution_between_two_pages_repeats_no_row(client: Client) -> None:
    """An execution that starts between two pages makes no other one appear twice."""
    for _ in range(3):
        client.start()
        client.clock.now += 60
    first = json.loads(client("GET", f"{BULK}/executions?limit=2").body)
    client.start()
    token = quote(first["pagination"]["next_page_token"], safe="")
    second = json.loads(client("GET", f"{BULK}/executions?limit=2&page_token={token}").body)
    assert len({row["id"] for row in first["data"] + second["data"]}) == 3


def test_execution_list_has_at_most_a_hundred_rows_per_page(client: Client) -> None:
    """A page of executions has at most 100 rows."""
    for _ in range(101):
        client.start()
        client.clock.now += 60
    assert len(client.data("GET", f"{BULK}/executions?limit=500")) == 100


@pytest.mark.parametrize("path", [f"{BULK}/executions", f"{MODEL}/executions", "/api/events"])
def test_empty_list_is_null(client: Client, path: str) -> None:
    """``data`` is null when there are no rows."""
    assert client.data("GET", path) is None


def test_sync_lists_are_filtered(client: Client) -> None:
    """``active``, ``mode`` and ``target_connection_id`` filter the lists of syncs."""
    client.data("POST", f"/api/bulk/syncs/{POSTGRES_TO_WAREHOUSE}/activate", {"active": False})
    assert [row["id"] for row in client.data("GET", "/api/bulk/syncs?active=false")] == [POSTGRES_TO_WAREHOUSE]
    assert [row["id"] for row in client.data("GET", "/api/bulk/syncs?active=true")] == [SALESFORCE_TO_WAREHOUSE]
    assert client.data("GET", "/api/syncs?active=false") is None
    assert client.data("GET", "/api/syncs?mode=create") is None
    assert client.data("GET", f"/api/syncs?target_connection_id={WAREHOUSE}") is None
    match = f"/api/syncs?mode=updateOrCreate&active=1&target_connection_id={SALESFORCE}"
    assert [row["id"] for row in client.data("GET", match)] == [WAREHOUSE_TO_SALESFORCE]
    assert error_of(client("GET", "/api/bulk/syncs?active=maybe")) == (400, "bad_request")


def test_timestamps_are_rfc_3339_with_microseconds(client: Client) -> None:
    """All timestamps are in UTC and end in Z."""
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", client.data("GET", BULK)["updated_at"])


# bulk syncs, changed


@pytest.mark.parametrize("missing", sorted(SYNC))
def test_bulk_sync_without_a_required_field_gets_422(client: Client, missing: str) -> None:
    """Without any one of its required fields, the creation is rejected, and the error names the field."""
    response = client("POST", "/api/bulk/syncs", {name: value for name, value in SYNC.items() if name != missing})
    assert error_of(response) == (422, "validation")
    assert missing in json.loads(response.body)["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "sideways"},
        {"normalize_names": "maybe"},
        {"source_connection_id": "nothing"},
        {"schemas": ["nothing"]},
        {"default_schedule": {"hour": "1"}},
    ],
)
def test_bulk_sync_with_an_invalid_value_gets_422(client: Client, change: dict[str, Any]) -> None:
    """Unknown enum values and unknown connections are rejected."""
    assert error_of(client("POST", "/api/bulk/syncs", {**SYNC, **change})) == (422, "validation")
    assert len(client.data("GET", "/api/bulk/syncs")) == 2


def test_bulk_sync_without_schemas_selects_all_of_its_source(client: Client) -> None:
    """All schemas of the source are selected, and the sync can be started."""
    sync = client.data("POST", "/api/bulk/syncs", SYNC)
    assert (sync["active"], sync["automatically_add_new_objects"], sync["normalize_names"]) == (True, "none", "enabled")
    schemas = client.data("GET", f"/api/bulk/syncs/{sync['id']}/schemas")
    assert [row["id"] for row in schemas] == ["account", "contact", "opportunity"]
    assert client.start(f"/api/bulk/syncs/{sync['id']}")


def test_optional_fields_of_a_bulk_sync_are_kept(client: Client) -> None:
    """Every documented field is accepted with its type and returned unchanged."""
    optional = {
        "concurrency_limit": 5,
        "resync_concurrency_limit": 1,
        "data_cutoff_timestamp": "2026-01-01T00:00:00Z",
        "policies": [WAREHOUSE],
        "disable_record_timestamps": True,
        "source_configuration": {"replication_slot": "slot"},
        "automatically_add_new_fields": "none",
        "automatically_add_new_objects": "onlyIncremental",
        "normalize_names": "legacy",
    }
    assert client.data("POST", "/api/bulk/syncs", {**SYNC, **optional}).items() >= optional.items()
    nothing = dict.fromkeys(optional)
    assert client.data("POST", "/api/bulk/syncs", {**SYNC, **nothing})["policies"] is None


def test_model_sync_accepts_any_mode(client: Client) -> None:
    """The reference filters by ``enrich``, which the SDK lacks, so modes are not limited."""
    created = client.data("POST", "/api/syncs", {**MODEL_SYNC, "mode": "enrich"})
    assert [row["id"] for row in client.data("GET", "/api/syncs?mode=enrich")] == [created["id"]]
    assert client.data("GET", "/api/syncs?mode=anything") is None


def test_invalid_put_of_a_bulk_sync_gets_400(client: Client) -> None:
    """The reference lists 422 for the creation, but not for the update."""
    assert error_of(client("POST", "/api/bulk/syncs", {**SYNC, "mode": "sideways"})) == (422, "validation")
    assert error_of(client("PUT", BULK, {**SYNC, "mode": "sideways"})) == (400, "bad_request")
    assert error_of(client("PUT", MODEL, {**MODEL_SYNC, "schedule": {"frequency": "x"}})) == (422, "validation")


def test_put_of_a_bulk_sync_resets_absent_fields(client: Client) -> None:
    """Only the fields of the request are kept; schemas that it does not list stay."""
    body = {**SYNC, "policies": ["p"], "concurrency_limit": 5, "normalize_names": "disabled", "schemas": ["account"]}
    path = f"/api/bulk/syncs/{client.data('POST', '/api/bulk/syncs', body)['id']}"
    client.clock.now += 5
    after = client.data("PUT", path, {**SYNC, "name": "Renamed"})
    assert after == client.data("GET", path)
    assert (after["name"], after["policies"], after["concurrency_limit"]) == ("Renamed", None, None)
    assert after["normalize_names"] == "enabled"
    assert after["updated_at"] > after["created_at"]
    assert [row["id"] for row in client.data("GET", f"{path}/schemas")] == ["account"]


def test_put_with_schemas_disables_the_others(client: Client) -> None:
    """``schemas`` in a PUT replaces the selection."""
    client.data("PUT", BULK, {**SYNC, "schemas": ["contact", {"id": "account", "user_output_name": "accounts"}]})
    rows = {row["id"]: row for row in client.data("GET", f"{BULK}/schemas")}
    assert {name: row["enabled"] for name, row in rows.items()} == {
        "account": True,
        "contact": True,
        "opportunity": False,
    }
    assert rows["account"]["output_name"] == "accounts"
    assert [row["id"] for row in client.data("GET", f"{BULK}/schemas?filters[enabled]=false")] == ["opportunity"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", BULK, {**SYNC, "schemas": "account"}),
        ("PUT", BULK, {**SYNC, "schemas": [{"id": "account", "enabled": "x"}]}),
        ("PUT", BULK, {**SYNC, "active": 1}),
        *(
            ("POST", "/api/bulk/syncs", {**SYNC, name: value})
            for name, value in (
                ("concurrency_limit", "5"),
                ("concurrency_limit", True),
                ("resync_concurrency_limit", 1.5),
                ("data_cutoff_timestamp", 1_700_000_000),
                ("data_cutoff_timestamp", "yesterday"),
                ("data_cutoff_timestamp", "2026-01-01T00:00:00"),
                ("policies", "p"),
                ("policies", [None]),
                ("disable_record_timestamps", "no"),
                ("source_configuration", []),
                ("destination_configuration", "schema"),
                ("organization_id", 1),
                ("source_connection_id", 1),
            )
        ),
        ("PUT", f"{BULK}/schemas/account", {"data_cutoff_timestamp": "yesterday"}),
        ("PATCH", f"{BULK}/schemas", {"schemas": ["account"]}),
        ("PATCH", f"{BULK}/schemas", {"schemas": [{"id": "account", "fields": 5}]}),
        ("PUT", f"{BULK}/schemas/account", {"user_output_name": 5}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "fields": [{"source": "x"}]}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "fields": [{"source": {"model_id": []}}]}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "name": 5}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "target": []}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "mode": 1}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "sync_all_records": 1}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "policies": [1]}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "identity": []}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "overrides": [1]}),
        ("POST", "/api/syncs", {**MODEL_SYNC, "schedule": {"frequency": "dbtcloud", "job_id": "1"}}),
        ("POST", f"{MODEL}/executions", {"identities": [1]}),
    ],
)
def test_value_of_the_wrong_type_gets_400(client: Client, method: str, path: str, body: dict[str, Any]) -> None:
    """The request is rejected and nothing changes."""
    before = [client("GET", shown).body for shown in (BULK, f"{BULK}/schemas", "/api/syncs")]
    assert error_of(client(method, path, body)) == (400, "bad_request")
    assert [client("GET", shown).body for shown in (BULK, f"{BULK}/schemas", "/api/syncs")] == before


def test_schema_patch_keeps_and_put_resets_absent_fields(client: Client) -> None:
    """PATCH changes only the fields of the request; PUT resets the others."""
    changed = client.data("PATCH", f"{BULK}/schemas", {"schemas": [{"id": "account", "partition_key": "id"}]})
    assert [(row["id"], row["partition_key"], row["tracking_field"]) for row in changed] == [
        ("account", "id", "SystemModstamp")
    ]
    one = client.data("PATCH", f"{BULK}/schemas/account", {"enabled": False})
    assert (one["enabled"], one["partition_key"]) == (False, "id")
    fields = [{"id": "amount", "enabled": False}]
    put = client.data("PUT", f"{BULK}/schemas/account", {"user_output_name": "a", "fields": fields})
    assert (put["enabled"], put["partition_key"], put["tracking_field"], put["output_name"]) == (True, None, None, "a")
    assert {field["id"]: field["enabled"] for field in put["fields"]}["amount"] is False
    assert client.data("GET", f"{BULK}/schemas/account") == put


def test_deleted_bulk_sync_and_its_executions_get_404(client: Client) -> None:
    """Neither the sync nor its executions are found, and a running execution is canceled."""
    execution_id = client.start()
    assert client("DELETE", BULK).status == 204
    assert client("GET", BULK).status == client("GET", f"{BULK}/executions/{execution_id}").status == 404
    client.clock.now += 2
    assert client.sandbox.status(execution_id) == "canceled"


def test_deactivation_cancels_executions_of_bulk_syncs_only(client: Client) -> None:
    """The execution of a bulk sync is canceled, that of a model sync continues."""
    bulk, model = client.start(), client.start(MODEL)
    for path in (BULK, MODEL):
        sync_id = path.rsplit("/", 1)[1]
        assert client.data("POST", f"{path}/activate", {"active": False}) == {"id": sync_id, "active": False}
        assert client.data("GET", path)["active"] is False
    assert client.execution(bulk)["status"] == "canceling"
    assert client.execution(model, MODEL)["status"] == "created"
    assert error_of(client("POST", f"{BULK}/activate", {})) == (400, "bad_request")
    assert error_of(client("POST", f"{MODEL}/activate", {})) == (422, "validation")


def test_connection_describes_itself_as_source_and_destination(client: Client) -> None:
    """Schemas of the source, with fields on request, and modes of the destination."""
    path = f"/api/connections/{SALESFORCE}/bulksync/source"
    assert [row["id"] for row in client.data("GET", path)["schemas"]] == ["account", "contact", "opportunity"]
    assert "fields" not in client.data("GET", path)["schemas"][0]
    assert client.data("GET", f"{path}?include_fields=true")["schemas"][0]["fields"][0]["id"] == "id"
    target = client.data("GET", f"/api/connections/{WAREHOUSE}/bulksync/target")
    assert target["supported_resync_modes"] == ["refetch", "resync", "rebuild"]


def test_destination_enforces_the_schema_of_its_seed(make: Any) -> None:
    """The published configuration schema and resync modes apply to new syncs and to starts."""
    target = {"type": "object", "required": ["schema"], "properties": {"schema": {"type": "string"}}}
    warehouse = {"id": WAREHOUSE, "name": "W", "type": "snowflake", "target": target, "resync_modes": ["refetch"]}
    source = {"id": SALESFORCE, "name": "S", "type": "salesforce", "schemas": ["account"]}
    client = make({"connections": [source, warehouse]})

    described = client.data("GET", f"/api/connections/{WAREHOUSE}/bulksync/target")
    assert (described["configuration"], described["supported_resync_modes"]) == (target, ["refetch"])
    for configuration, where in (({"schema": 5}, ".schema: 5 is not"), ({"shcema": "a"}, ": 'schema' is a required")):
        refused = client("POST", "/api/bulk/syncs", {**SYNC, "destination_configuration": configuration})
        assert error_of(refused) == (422, "validation")
        assert json.loads(refused.body)["message"].startswith(f"destination_configuration{where}")
    assert client.data("GET", "/api/bulk/syncs") is None
    sync = f"/api/bulk/syncs/{client.data('POST', '/api/bulk/syncs', SYNC)['id']}"
    assert error_of(client("POST", f"{sync}/executions", {"resync_mode": "rebuild"})) == (400, "bad_request")
    assert client.start(sync, resync_mode="refetch")


# model syncs, changed


@pytest.mark.parametrize("missing", sorted(MODEL_SYNC))
def test_model_sync_without_a_required_field_gets_422(client: Client, missing: str) -> None:
    """Without any one of its required fields, the creation is rejected, and the error names the field."""
    response = client("POST", "/api/syncs", {name: value for name, value in MODEL_SYNC.items() if name != missing})
    assert error_of(response) == (422, "validation")
    assert missing in json.loads(response.body)["message"]


def test_model_sync_is_created_replaced_and_deleted(client: Client) -> None:
    """A PUT resets absent fields, as for bulk syncs."""
    path = f"/api/syncs/{client.data('POST', '/api/syncs', {**MODEL_SYNC, 'sync_all_records': True})['id']}"
    assert client.data("GET", path)["model_ids"] == ["m"]
    assert client.data("PUT", path, {**MODEL_SYNC, "name": "Other"})["sync_all_records"] is False
    assert client.data("GET", path)["name"] == "Other"
    assert client("DELETE", path).status == 204
    assert client("GET", path).status == 404


def test_request_log_has_no_credentials(client: Client) -> None:
    """The log has requests and statuses, but no key."""
    client("POST", f"{BULK}/executions?a=b", {"test": True}, key="abcdefgh")
    logged = client.sandbox.requests[-1]
    assert (logged.method, logged.path, logged.query) == ("POST", f"{BULK}/executions", {"a": ["b"]})
    assert (logged.body, logged.status, logged.headers["idempotency-key"]) == ({"test": True}, 200, "abcdefgh")
    assert "Bearer" not in str(logged)
