"""Several organizations in one sandbox: authentication, and what each key has access to."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from polytomic import Polytomic
from polytomic.errors import ForbiddenError, NotFoundError

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import ORGANIZATION_ID, derive_id
from airflow_provider_polytomic.sandbox.server import Server

from .conftest import Client, error_of

ACME, GLOBEX = ORGANIZATION_ID, "0b000000-0000-4000-8000-000000000002"
SYNCS = {ACME: derive_id("bulk_sync", "Acme to warehouse"), GLOBEX: derive_id("bulk_sync", "Globex to warehouse")}
MODELS = {ACME: derive_id("model_sync", "Acme to CRM"), GLOBEX: derive_id("model_sync", "Globex to CRM")}
CONNECTIONS = {ACME: derive_id("connection", "Acme CRM"), GLOBEX: derive_id("connection", "Globex CRM")}


def organization(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": name,
        "key": name.lower(),
        "connections": [{"name": f"{name} CRM", "type": "salesforce"}],
        "bulk_syncs": [{"name": f"{name} to warehouse", "schemas": ["account"]}],
        "model_syncs": [{"name": f"{name} to CRM"}],
        **fields,
    }


SEED = organization("Acme", partner_key="partner", organizations=[organization("Globex", id=GLOBEX)])


def basic(login: str, key: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:{key}".encode()).decode()


@pytest.fixture
def client(make: Any) -> Client:
    return make(SEED)


@pytest.mark.parametrize(
    ("authorization", "acts_for"),
    [
        ("Bearer acme", ACME),
        ("Bearer globex", GLOBEX),
        (basic(ACME, "acme"), ACME),
        (basic(GLOBEX, "globex"), GLOBEX),
        (basic(ACME, "partner"), ACME),
        (basic(GLOBEX, "partner"), GLOBEX),
    ],
)
def test_key_has_access_to_its_organization_only(client: Client, authorization: str, acts_for: str) -> None:
    """Identity, syncs, connections and events are those of one organization; other ids get a 404."""
    (other,) = {ACME, GLOBEX} - {acts_for}
    for sync_id in (*SYNCS.values(), *MODELS.values()):
        client.sandbox.start_foreign(sync_id)
    client.clock.now += 60
    how = {"authorization": authorization}
    assert client.data("GET", "/api/me", **how)["organization_id"] == acts_for
    assert client.data("GET", "/api/organization", **how)["id"] == acts_for
    assert [row["id"] for row in client.data("GET", "/api/organizations", **how)] == [acts_for]
    for path, ids in (("bulk/syncs", SYNCS), ("syncs", MODELS), ("connections", CONNECTIONS)):
        (row,) = client.data("GET", f"/api/{path}", **how)
        assert (row["id"], row["organization_id"]) == (ids[acts_for], acts_for)
        assert error_of(client("GET", f"/api/{path}/{ids[other]}", **how)) == (404, "not_found")
    events = client.data("GET", "/api/events", **how)
    assert {row["event"]["sync_id"] for row in events} == {SYNCS[acts_for], MODELS[acts_for]}
    assert {row["organization_id"] for row in events} == {acts_for}
    (execution,) = client.sandbox.starts(SYNCS[other])
    for path in (f"{SYNCS[other]}/executions", f"{SYNCS[acts_for]}/executions/{execution.id}"):
        assert error_of(client("GET", f"/api/bulk/syncs/{path}", **how)) == (404, "not_found")
    assert error_of(client("GET", f"/api/organizations/{other}", **how)) == (404, "not_found")
    assert [row["sync_id"] for row in client.data("GET", "/api/bulk/syncs/status?all=true", **how)] == [SYNCS[acts_for]]


@pytest.mark.parametrize(
    "authorization",
    [
        basic(GLOBEX, "acme"),
        basic(ACME, "globex"),
        basic("acme", "partner"),
        basic("", "partner"),
        basic("0c000000-0000-4000-8000-000000000003", "partner"),
        basic(ACME, ""),
        "Bearer ",
    ],
)
def test_login_of_another_organization_gets_401(client: Client, authorization: str) -> None:
    """An unknown organization gets the same response."""
    assert error_of(client("GET", "/api/bulk/syncs", authorization=authorization)) == (401, "unauthorized")


def test_partner_key_as_bearer_reaches_only_organizations_and_users(client: Client) -> None:
    """All other paths get a 403, also unknown ones."""
    how = {"authorization": "Bearer partner"}
    identity = client.data("GET", "/api/me", **how)
    assert (identity["is_partner"], identity["is_organization"], "organization_id" in identity) == (True, False, False)
    assert [row["id"] for row in client.data("GET", "/api/organizations", **how)] == [ACME, GLOBEX]
    assert client.data("GET", f"/api/organizations/{GLOBEX}", **how)["name"] == "Globex"
    assert client.data("GET", f"/api/organizations/{GLOBEX}/users", **how)[0]["organization_id"] == GLOBEX
    for path in ("bulk/syncs", f"bulk/syncs/{SYNCS[ACME]}", "syncs", "connections", "events", "nothing"):
        assert error_of(client("GET", f"/api/{path}", **how)) == (403, "forbidden")
    start = client("POST", f"/api/bulk/syncs/{SYNCS[ACME]}/executions", {}, key="partner-key", **how)
    assert error_of(start) == (403, "forbidden")
    assert client.sandbox.starts(SYNCS[ACME]) == []


def test_idempotency_keys_belong_to_an_organization(client: Client) -> None:
    """The same key starts one execution in each organization."""
    for acts_for in (ACME, GLOBEX, ACME):
        path = f"/api/bulk/syncs/{SYNCS[acts_for]}/executions"
        assert client("POST", path, {}, key="the-same-key", authorization=basic(acts_for, "partner")).status == 200
    assert [len(client.sandbox.starts(sync_id)) for sync_id in SYNCS.values()] == [1, 1]


def test_log_file_url_works_for_every_organization(client: Client) -> None:
    """A signed URL needs no key."""
    execution = client.sandbox.start_foreign(SYNCS[GLOBEX])
    path = f"/api/bulk/syncs/{SYNCS[GLOBEX]}/executions/{execution.id}/logs"
    (url,) = client.data("GET", path, authorization="Bearer globex")["URLs"]
    assert client("GET", url.removeprefix("http://sandbox.invalid"), authorization=None).status == 200


def test_controls_work_in_every_organization(client: Client) -> None:
    """They accept ids of any organization; the description names the organization."""
    for sync_id in SYNCS.values():
        execution = client.sandbox.start_foreign(sync_id)
        assert client.sandbox.running(sync_id) is execution
        client.sandbox.finish(sync_id, execution.id)
        assert client.sandbox.status(execution.id) == "completed"
    assert f"bulk sync {SYNCS[GLOBEX]}  Globex to warehouse (Globex, {GLOBEX})" in client.sandbox.describe()
    client.sandbox.rotate_key("fresh")
    assert client("GET", "/api/me", authorization="Bearer fresh").status == 200
    assert client("GET", "/api/me", authorization="Bearer globex").status == 200


@pytest.fixture
def url(clock: Any) -> Iterator[str]:
    server = Server(Sandbox(SEED, now=clock))
    yield server.url
    server.close()


def test_sdk_acts_as_partner_and_as_organization(url: str) -> None:
    """The official SDK with a partner key, and with HTTP Basic."""
    with httpx.Client(trust_env=False) as plain:
        partner = Polytomic(base_url=url, token="partner", httpx_client=plain, max_retries=0)
        assert [row.name for row in partner.organization.list().data] == ["Acme", "Globex"]
        assert partner.organization.get(GLOBEX).data.name == "Globex"
        assert [row.organization_id for row in partner.users.list(GLOBEX).data] == [GLOBEX]
        assert partner.identity.get().data.is_partner is True
        # The SDK has no 403 among the errors of a list, so its body is read here.
        with pytest.raises(ForbiddenError):
            partner.bulk_sync.cancel(SYNCS[GLOBEX])
    headers = {"Authorization": basic(GLOBEX, "partner")}
    with httpx.Client(trust_env=False, event_hooks={"request": [lambda it: it.headers.update(headers)]}) as acting:
        globex = Polytomic(base_url=url, token="unused", httpx_client=acting, max_retries=0)
        assert [row.name for row in globex.bulk_sync.list().data] == ["Globex to warehouse"]
        with pytest.raises(NotFoundError):
            globex.bulk_sync.get(SYNCS[ACME])


def test_default_seed_accepts_any_login(make: Any) -> None:
    """With one organization the login is not compared, because a deployment key may have any."""
    client = make()
    identity = client.data("GET", "/api/me", authorization=basic("anything", "sandbox"))
    assert (identity["organization_id"], identity["is_organization"]) == (ORGANIZATION_ID, True)
    assert json.loads(client("GET", "/api/organizations").body)["data"][0]["name"] == "Sandbox"
