"""How the sandbox speaks: who may ask, in which version, and how lists come."""

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

from .conftest import BULK, Asker, problem_of

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
def test_without_the_key_nothing_is_told(ask: Asker, authorization: str | None) -> None:
    """Any other credentials are a 401 in the API's form."""
    assert problem_of(ask("GET", "/api/me", authorization=authorization)) == (401, "unauthorized")


def test_bearer_is_a_user_and_basic_is_an_organization(ask: Asker) -> None:
    """The identity tells a user's key from an organization's."""
    user = ask.data("GET", "/api/me")
    organization = ask.data("GET", "/api/me", authorization=basic("org", "sandbox"))
    assert (user["is_user"], user["is_organization"]) == (True, False)
    assert (organization["is_user"], organization["is_organization"]) == (False, True)
    assert user["organization_name"] == organization["organization_name"] == "Sandbox"


def test_a_rotated_key_replaces_the_old_one(ask: Asker) -> None:
    """After a rotation only the new key is good."""
    ask.sandbox.rotate_key("fresh")
    assert ask("GET", "/api/me").status == 401
    assert ask("GET", "/api/me", authorization="Bearer fresh").status == 200


@pytest.mark.parametrize(
    ("asked", "served"), [(None, "2021-05-23"), ("2024-02-08", "2024-02-08"), ("2025-09-18", "2025-09-18")]
)
def test_the_answer_names_its_version(ask: Asker, asked: str | None, served: str) -> None:
    """Without a version the oldest one answers."""
    assert ask("GET", "/api/me", version=asked).headers["x-polytomic-version"] == served


def test_an_unknown_version_is_refused(ask: Asker) -> None:
    """A version that was never published is a 400."""
    assert problem_of(ask("GET", "/api/me", version="2020-01-01")) == (400, "bad_request")


def test_every_answer_has_an_id_of_its_own(ask: Asker) -> None:
    """No two answers carry the same X-Request-Id."""
    assert len({ask("GET", "/api/me").headers["x-request-id"] for _ in range(5)}) == 5


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
def test_what_is_not_there_is_a_404(ask: Asker, method: str, path: str) -> None:
    """Unknown paths and ids are errors in the API's form."""
    assert problem_of(ask(method, path)) == (404, "not_found")


def test_a_wrong_method_is_a_405(ask: Asker) -> None:
    """A path that exists says that the method is wrong."""
    assert problem_of(ask("DELETE", "/api/me")) == (405, "method_not_allowed")


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'"text"'])
def test_a_body_that_is_no_object_is_a_400(ask: Asker, body: bytes) -> None:
    """A start whose body cannot be read starts nothing."""
    answer = ask.sandbox.handle("POST", f"{BULK}/executions", {"authorization": "Bearer sandbox"}, body)
    assert problem_of(answer) == (400, "bad_request")  # type: ignore[arg-type]
    assert ask.sandbox.starts(SALESFORCE_TO_WAREHOUSE) == []


def test_syncs_come_fifty_at_a_time_newest_change_first(make: Any) -> None:
    """Walking the pages gives each sync once, by updated_at descending, then id."""
    ask = make({"bulk_syncs": [{"name": f"s{n}", "schemas": ["a"]} for n in range(60)]})
    late = ask.data("GET", "/api/bulk/syncs?limit=1")[0]["id"]
    for number in range(60):
        ask.clock.now += number % 2  # pairs are changed at the same instant
        ask.data("POST", "/api/bulk/syncs", {**SYNC, "name": f"n{number}", "source_connection_id": None} | _ids(ask))
    rows, sizes, token = [], [], ""
    while True:
        body = json.loads(ask("GET", f"/api/bulk/syncs?limit=1000{token}").body)
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


def _ids(ask: Asker) -> dict[str, str]:
    first, *_, last = ask.data("GET", "/api/connections")
    return {"source_connection_id": first["id"], "destination_connection_id": last["id"]}


@pytest.mark.parametrize(("limit", "size"), [("2", 2), ("0", 50), ("-3", 50), ("51", 50), ("", 50)])
def test_the_page_size_is_bounded(make: Any, limit: str, size: int) -> None:
    """Too much is reduced to the most there is, and nothing falls back to the default."""
    ask = make({"bulk_syncs": [{"name": f"s{n}", "schemas": ["a"]} for n in range(55)]})
    assert len(ask.data("GET", f"/api/bulk/syncs?limit={limit}")) == size


def test_a_token_holds_what_must_be_encoded(make: Any) -> None:
    """Sent back without URL encoding, a token is refused: a client that forgets it is found out."""
    ask = make({"bulk_syncs": [{"name": f"s{n}", "schemas": ["a"]} for n in range(3)]})
    token = json.loads(ask("GET", "/api/bulk/syncs?limit=1").body)["pagination"]["next_page_token"]
    assert {"+", "/", "="} <= set(token)
    assert ask("GET", f"/api/bulk/syncs?page_token={quote(token, safe='')}").status == 200
    assert problem_of(ask("GET", f"/api/bulk/syncs?page_token={token}")) == (400, "bad_request")


@pytest.mark.parametrize("token", ["x", "e30=", quote(base64.b64encode(b"\xfb\xef\xbf[[1], 2]").decode(), safe="")])
def test_a_made_up_token_is_refused(ask: Asker, token: str) -> None:
    """What is not a token of the list is a 400."""
    assert problem_of(ask("GET", f"/api/bulk/syncs?page_token={token}")) == (400, "bad_request")


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
def test_sandbox_list_moves_between_two_pages(
    make: Any, kind: str, by_position: bool, moved: str, pages: list[list[str]]
) -> None:
    """A sync that is saved moves to the front; what the next page shows depends on what a token stands for."""
    schemas = {"schemas": ["a"]} if kind == "bulk" else {}
    ask = make({f"{kind}_syncs": [{"name": name, "id": name, **schemas} for name in "abcd"]})
    ask.sandbox.pages_by_position = by_position
    path = "/api/bulk/syncs" if kind == "bulk" else "/api/syncs"
    for sync_id in "dcba":
        ask.sandbox.touch(sync_id)
    first = json.loads(ask("GET", f"{path}?limit=2").body)
    ask.sandbox.touch(moved)
    token = quote(first["pagination"]["next_page_token"], safe="")
    second = json.loads(ask("GET", f"{path}?limit=2&page_token={token}").body)
    assert [[row["id"] for row in body["data"]] for body in (first, second)] == pages


@pytest.mark.parametrize("token", ["x", quote(base64.b64encode(b"\xfb\xef\xbf[-1]").decode(), safe="")])
def test_sandbox_refuses_a_made_up_position(ask: Asker, token: str) -> None:
    """What is not a position is a 400."""
    ask.sandbox.pages_by_position = True
    assert problem_of(ask("GET", f"/api/bulk/syncs?page_token={token}")) == (400, "bad_request")


def test_a_page_is_not_shifted_by_what_comes_meanwhile(ask: Asker) -> None:
    """An execution that begins during a walk makes no other appear twice."""
    for _ in range(3):
        ask.start()
        ask.clock.now += 60
    first = json.loads(ask("GET", f"{BULK}/executions?limit=2").body)
    ask.start()
    token = quote(first["pagination"]["next_page_token"], safe="")
    second = json.loads(ask("GET", f"{BULK}/executions?limit=2&page_token={token}").body)
    assert len({row["id"] for row in first["data"] + second["data"]}) == 3


def test_executions_come_a_hundred_at_a_time(ask: Asker) -> None:
    """A page of executions holds 100 at most."""
    for _ in range(101):
        ask.start()
        ask.clock.now += 60
    assert len(ask.data("GET", f"{BULK}/executions?limit=500")) == 100


@pytest.mark.parametrize("path", [f"{BULK}/executions", f"{MODEL}/executions", "/api/events"])
def test_an_empty_list_is_null(ask: Asker, path: str) -> None:
    """Where there is nothing, ``data`` is null."""
    assert ask.data("GET", path) is None


def test_lists_are_filtered(ask: Asker) -> None:
    """``active``, ``mode`` and ``target_connection_id`` narrow the lists of syncs."""
    ask.data("POST", f"/api/bulk/syncs/{POSTGRES_TO_WAREHOUSE}/activate", {"active": False})
    assert [row["id"] for row in ask.data("GET", "/api/bulk/syncs?active=false")] == [POSTGRES_TO_WAREHOUSE]
    assert [row["id"] for row in ask.data("GET", "/api/bulk/syncs?active=true")] == [SALESFORCE_TO_WAREHOUSE]
    assert ask.data("GET", "/api/syncs?active=false") is None
    assert ask.data("GET", "/api/syncs?mode=create") is None
    assert ask.data("GET", f"/api/syncs?target_connection_id={WAREHOUSE}") is None
    match = f"/api/syncs?mode=updateOrCreate&active=1&target_connection_id={SALESFORCE}"
    assert [row["id"] for row in ask.data("GET", match)] == [WAREHOUSE_TO_SALESFORCE]
    assert problem_of(ask("GET", "/api/bulk/syncs?active=maybe")) == (400, "bad_request")


def test_times_are_rfc_3339_with_microseconds(ask: Asker) -> None:
    """All timestamps are in UTC and end in Z."""
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", ask.data("GET", BULK)["updated_at"])


# bulk syncs, changed


@pytest.mark.parametrize("missing", sorted(SYNC))
def test_a_bulk_sync_needs_what_the_docs_require(ask: Asker, missing: str) -> None:
    """Each required field, left out, is a 422 that names it."""
    answer = ask("POST", "/api/bulk/syncs", {name: value for name, value in SYNC.items() if name != missing})
    assert problem_of(answer) == (422, "validation")
    assert missing in json.loads(answer.body)["message"]


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
def test_a_bulk_sync_with_a_wrong_value_is_not_created(ask: Asker, change: dict[str, Any]) -> None:
    """Enums are closed in requests, and what is referred to must be there."""
    assert problem_of(ask("POST", "/api/bulk/syncs", {**SYNC, **change})) == (422, "validation")
    assert len(ask.data("GET", "/api/bulk/syncs")) == 2


def test_a_created_bulk_sync_takes_all_that_its_source_has(ask: Asker) -> None:
    """Without ``schemas`` all of the source are selected, and it can be started."""
    sync = ask.data("POST", "/api/bulk/syncs", SYNC)
    assert (sync["active"], sync["automatically_add_new_objects"], sync["normalize_names"]) == (True, "none", "enabled")
    schemas = ask.data("GET", f"/api/bulk/syncs/{sync['id']}/schemas")
    assert [row["id"] for row in schemas] == ["account", "contact", "opportunity"]
    assert ask.start(f"/api/bulk/syncs/{sync['id']}")


def test_every_optional_field_of_a_bulk_sync_is_kept(ask: Asker) -> None:
    """What the reference lists is accepted with its type and shown as it was sent."""
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
    assert ask.data("POST", "/api/bulk/syncs", {**SYNC, **optional}).items() >= optional.items()
    nothing = dict.fromkeys(optional)
    assert ask.data("POST", "/api/bulk/syncs", {**SYNC, **nothing})["policies"] is None


def test_model_syncs_of_any_mode_are_created_and_listed(ask: Asker) -> None:
    """The list of modes is open: the reference filters by ``enrich``, which is not in the SDK."""
    created = ask.data("POST", "/api/syncs", {**MODEL_SYNC, "mode": "enrich"})
    assert [row["id"] for row in ask.data("GET", "/api/syncs?mode=enrich")] == [created["id"]]
    assert ask.data("GET", "/api/syncs?mode=anything") is None


def test_a_put_of_a_bulk_sync_refuses_with_400(ask: Asker) -> None:
    """The reference lists 422 for the creation and not for the update."""
    assert problem_of(ask("POST", "/api/bulk/syncs", {**SYNC, "mode": "sideways"})) == (422, "validation")
    assert problem_of(ask("PUT", BULK, {**SYNC, "mode": "sideways"})) == (400, "bad_request")
    assert problem_of(ask("PUT", MODEL, {**MODEL_SYNC, "schedule": {"frequency": "x"}})) == (422, "validation")


def test_a_put_resets_what_it_leaves_out(ask: Asker) -> None:
    """Only what is sent is kept; schemas that are not sent stay."""
    body = {**SYNC, "policies": ["p"], "concurrency_limit": 5, "normalize_names": "disabled", "schemas": ["account"]}
    path = f"/api/bulk/syncs/{ask.data('POST', '/api/bulk/syncs', body)['id']}"
    ask.clock.now += 5
    after = ask.data("PUT", path, {**SYNC, "name": "Renamed"})
    assert after == ask.data("GET", path)
    assert (after["name"], after["policies"], after["concurrency_limit"]) == ("Renamed", None, None)
    assert after["normalize_names"] == "enabled"
    assert after["updated_at"] > after["created_at"]
    assert [row["id"] for row in ask.data("GET", f"{path}/schemas")] == ["account"]


def test_a_put_with_schemas_switches_the_others_off(ask: Asker) -> None:
    """``schemas`` in a PUT replaces the selection."""
    ask.data("PUT", BULK, {**SYNC, "schemas": ["contact", {"id": "account", "user_output_name": "accounts"}]})
    rows = {row["id"]: row for row in ask.data("GET", f"{BULK}/schemas")}
    assert {name: row["enabled"] for name, row in rows.items()} == {
        "account": True,
        "contact": True,
        "opportunity": False,
    }
    assert rows["account"]["output_name"] == "accounts"
    assert [row["id"] for row in ask.data("GET", f"{BULK}/schemas?filters[enabled]=false")] == ["opportunity"]


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
def test_a_value_of_another_type_is_a_400(ask: Asker, method: str, path: str, body: dict[str, Any]) -> None:
    """What cannot be read is refused, and nothing is changed."""
    before = [ask("GET", shown).body for shown in (BULK, f"{BULK}/schemas", "/api/syncs")]
    assert problem_of(ask(method, path, body)) == (400, "bad_request")
    assert [ask("GET", shown).body for shown in (BULK, f"{BULK}/schemas", "/api/syncs")] == before


def test_schemas_are_patched_or_replaced(ask: Asker) -> None:
    """PATCH changes what it names; PUT resets what it leaves out."""
    changed = ask.data("PATCH", f"{BULK}/schemas", {"schemas": [{"id": "account", "partition_key": "id"}]})
    assert [(row["id"], row["partition_key"], row["tracking_field"]) for row in changed] == [
        ("account", "id", "SystemModstamp")
    ]
    one = ask.data("PATCH", f"{BULK}/schemas/account", {"enabled": False})
    assert (one["enabled"], one["partition_key"]) == (False, "id")
    fields = [{"id": "amount", "enabled": False}]
    put = ask.data("PUT", f"{BULK}/schemas/account", {"user_output_name": "a", "fields": fields})
    assert (put["enabled"], put["partition_key"], put["tracking_field"], put["output_name"]) == (True, None, None, "a")
    assert {field["id"]: field["enabled"] for field in put["fields"]}["amount"] is False
    assert ask.data("GET", f"{BULK}/schemas/account") == put


def test_a_deleted_bulk_sync_is_gone_with_its_history(ask: Asker) -> None:
    """Neither the sync nor its executions can be found, and what ran was cancelled."""
    execution_id = ask.start()
    assert ask("DELETE", BULK).status == 204
    assert ask("GET", BULK).status == ask("GET", f"{BULK}/executions/{execution_id}").status == 404
    ask.clock.now += 2
    assert ask.sandbox.status(execution_id) == "canceled"


def test_deactivating_cancels_what_runs_in_a_bulk_sync_only(ask: Asker) -> None:
    """A bulk sync's execution is cancelled with it, a model sync's goes on."""
    bulk, model = ask.start(), ask.start(MODEL)
    for path in (BULK, MODEL):
        sync_id = path.rsplit("/", 1)[1]
        assert ask.data("POST", f"{path}/activate", {"active": False}) == {"id": sync_id, "active": False}
        assert ask.data("GET", path)["active"] is False
    assert ask.execution(bulk)["status"] == "canceling"
    assert ask.execution(model, MODEL)["status"] == "created"
    assert problem_of(ask("POST", f"{BULK}/activate", {})) == (400, "bad_request")
    assert problem_of(ask("POST", f"{MODEL}/activate", {})) == (422, "validation")


def test_a_source_and_a_destination_say_what_they_offer(ask: Asker) -> None:
    """The schemas of the source, with fields if asked; the modes of the destination."""
    path = f"/api/connections/{SALESFORCE}/bulksync/source"
    assert [row["id"] for row in ask.data("GET", path)["schemas"]] == ["account", "contact", "opportunity"]
    assert "fields" not in ask.data("GET", path)["schemas"][0]
    assert ask.data("GET", f"{path}?include_fields=true")["schemas"][0]["fields"][0]["id"] == "id"
    target = ask.data("GET", f"/api/connections/{WAREHOUSE}/bulksync/target")
    assert target["supported_resync_modes"] == ["refetch", "resync", "rebuild"]


def test_a_destination_is_as_its_seed_says(make: Any) -> None:
    """What a destination publishes is what it then asks of a new sync, and of a start."""
    target = {"type": "object", "required": ["schema"], "properties": {"schema": {"type": "string"}}}
    warehouse = {"id": WAREHOUSE, "name": "W", "type": "snowflake", "target": target, "resync_modes": ["refetch"]}
    source = {"id": SALESFORCE, "name": "S", "type": "salesforce", "schemas": ["account"]}
    ask = make({"connections": [source, warehouse]})

    told = ask.data("GET", f"/api/connections/{WAREHOUSE}/bulksync/target")
    assert (told["configuration"], told["supported_resync_modes"]) == (target, ["refetch"])
    for configuration, where in (({"schema": 5}, ".schema: 5 is not"), ({"shcema": "a"}, ": 'schema' is a required")):
        refused = ask("POST", "/api/bulk/syncs", {**SYNC, "destination_configuration": configuration})
        assert problem_of(refused) == (422, "validation")
        assert json.loads(refused.body)["message"].startswith(f"destination_configuration{where}")
    assert ask.data("GET", "/api/bulk/syncs") is None
    sync = f"/api/bulk/syncs/{ask.data('POST', '/api/bulk/syncs', SYNC)['id']}"
    assert problem_of(ask("POST", f"{sync}/executions", {"resync_mode": "rebuild"})) == (400, "bad_request")
    assert ask.start(sync, resync_mode="refetch")


# model syncs, changed


@pytest.mark.parametrize("missing", sorted(MODEL_SYNC))
def test_a_model_sync_needs_what_the_docs_require(ask: Asker, missing: str) -> None:
    """Each required field, left out, is a 422 that names it."""
    answer = ask("POST", "/api/syncs", {name: value for name, value in MODEL_SYNC.items() if name != missing})
    assert problem_of(answer) == (422, "validation")
    assert missing in json.loads(answer.body)["message"]


def test_a_model_sync_is_created_replaced_and_deleted(ask: Asker) -> None:
    """A PUT resets what it leaves out here too."""
    path = f"/api/syncs/{ask.data('POST', '/api/syncs', {**MODEL_SYNC, 'sync_all_records': True})['id']}"
    assert ask.data("GET", path)["model_ids"] == ["m"]
    assert ask.data("PUT", path, {**MODEL_SYNC, "name": "Other"})["sync_all_records"] is False
    assert ask.data("GET", path)["name"] == "Other"
    assert ask("DELETE", path).status == 204
    assert ask("GET", path).status == 404


def test_requests_are_logged_without_secrets(ask: Asker) -> None:
    """The log holds what was asked and what was answered, and no key."""
    ask("POST", f"{BULK}/executions?a=b", {"test": True}, key="abcdefgh")
    logged = ask.sandbox.requests[-1]
    assert (logged.method, logged.path, logged.query) == ("POST", f"{BULK}/executions", {"a": ["b"]})
    assert (logged.body, logged.status, logged.headers["idempotency-key"]) == ({"test": True}, 200, "abcdefgh")
    assert "Bearer" not in str(logged)
