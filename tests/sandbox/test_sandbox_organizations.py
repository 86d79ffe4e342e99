"""Several organizations in one sandbox: which key acts for which one, and what each of them sees."""

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

from .conftest import Asker, problem_of

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
def ask(make: Any) -> Asker:
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
def test_each_key_sees_only_its_organization(ask: Asker, authorization: str, acts_for: str) -> None:
    """Identity, syncs, connections and events are those of one organization; what the other has is a 404."""
    (other,) = {ACME, GLOBEX} - {acts_for}
    for sync_id in (*SYNCS.values(), *MODELS.values()):
        ask.sandbox.start_foreign(sync_id)
    ask.clock.now += 60
    how = {"authorization": authorization}
    assert ask.data("GET", "/api/me", **how)["organization_id"] == acts_for
    assert ask.data("GET", "/api/organization", **how)["id"] == acts_for
    assert [row["id"] for row in ask.data("GET", "/api/organizations", **how)] == [acts_for]
    for path, ids in (("bulk/syncs", SYNCS), ("syncs", MODELS), ("connections", CONNECTIONS)):
        (row,) = ask.data("GET", f"/api/{path}", **how)
        assert (row["id"], row["organization_id"]) == (ids[acts_for], acts_for)
        assert problem_of(ask("GET", f"/api/{path}/{ids[other]}", **how)) == (404, "not_found")
    events = ask.data("GET", "/api/events", **how)
    assert {row["event"]["sync_id"] for row in events} == {SYNCS[acts_for], MODELS[acts_for]}
    assert {row["organization_id"] for row in events} == {acts_for}
    (execution,) = ask.sandbox.starts(SYNCS[other])
    for path in (f"{SYNCS[other]}/executions", f"{SYNCS[acts_for]}/executions/{execution.id}"):
        assert problem_of(ask("GET", f"/api/bulk/syncs/{path}", **how)) == (404, "not_found")
    assert problem_of(ask("GET", f"/api/organizations/{other}", **how)) == (404, "not_found")
    assert [row["sync_id"] for row in ask.data("GET", "/api/bulk/syncs/status?all=true", **how)] == [SYNCS[acts_for]]


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
def test_wrong_login_is_a_401(ask: Asker, authorization: str) -> None:
    """A key does not act for an organization that is not its own, and an unknown organization looks the same."""
    assert problem_of(ask("GET", "/api/bulk/syncs", authorization=authorization)) == (401, "unauthorized")


def test_partner_key_as_bearer_reaches_only_organizations_and_users(ask: Asker) -> None:
    """Everything else is a 403, also where there is nothing."""
    how = {"authorization": "Bearer partner"}
    identity = ask.data("GET", "/api/me", **how)
    assert (identity["is_partner"], identity["is_organization"], "organization_id" in identity) == (True, False, False)
    assert [row["id"] for row in ask.data("GET", "/api/organizations", **how)] == [ACME, GLOBEX]
    assert ask.data("GET", f"/api/organizations/{GLOBEX}", **how)["name"] == "Globex"
    assert ask.data("GET", f"/api/organizations/{GLOBEX}/users", **how)[0]["organization_id"] == GLOBEX
    for path in ("bulk/syncs", f"bulk/syncs/{SYNCS[ACME]}", "syncs", "connections", "events", "nothing"):
        assert problem_of(ask("GET", f"/api/{path}", **how)) == (403, "forbidden")
    start = ask("POST", f"/api/bulk/syncs/{SYNCS[ACME]}/executions", {}, key="partner-key", **how)
    assert problem_of(start) == (403, "forbidden")
    assert ask.sandbox.starts(SYNCS[ACME]) == []


def test_idempotency_keys_belong_to_an_organization(ask: Asker) -> None:
    """The same key starts one execution in each organization."""
    for acts_for in (ACME, GLOBEX, ACME):
        path = f"/api/bulk/syncs/{SYNCS[acts_for]}/executions"
        assert ask("POST", path, {}, key="the-same-key", authorization=basic(acts_for, "partner")).status == 200
    assert [len(ask.sandbox.starts(sync_id)) for sync_id in SYNCS.values()] == [1, 1]


def test_log_file_of_the_second_organization_is_behind_its_url(ask: Asker) -> None:
    """A signed URL needs no key, whichever organization it belongs to."""
    execution = ask.sandbox.start_foreign(SYNCS[GLOBEX])
    path = f"/api/bulk/syncs/{SYNCS[GLOBEX]}/executions/{execution.id}/logs"
    (url,) = ask.data("GET", path, authorization="Bearer globex")["URLs"]
    assert ask("GET", url.removeprefix("http://sandbox.invalid"), authorization=None).status == 200


def test_tests_reach_the_executions_of_each_organization(ask: Asker) -> None:
    """Helpers take the ids of either; the description names the organization."""
    for sync_id in SYNCS.values():
        execution = ask.sandbox.start_foreign(sync_id)
        assert ask.sandbox.running(sync_id) is execution
        ask.sandbox.finish(sync_id, execution.id)
        assert ask.sandbox.status(execution.id) == "completed"
    assert f"bulk sync {SYNCS[GLOBEX]}  Globex to warehouse (Globex, {GLOBEX})" in ask.sandbox.describe()
    ask.sandbox.rotate_key("fresh")
    assert ask("GET", "/api/me", authorization="Bearer fresh").status == 200
    assert ask("GET", "/api/me", authorization="Bearer globex").status == 200


@pytest.fixture
def url(clock: Any) -> Iterator[str]:
    server = Server(Sandbox(SEED, now=clock))
    yield server.url
    server.close()


def test_sdk_acts_as_partner_and_as_organization(url: str) -> None:
    """The vendor's SDK with a partner key, and with HTTP Basic in front of it."""
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
    """With one organization a login is not compared: a deployment key may be sent with any."""
    ask = make()
    identity = ask.data("GET", "/api/me", authorization=basic("anything", "sandbox"))
    assert (identity["organization_id"], identity["is_organization"]) == (ORGANIZATION_ID, True)
    assert json.loads(ask("GET", "/api/organizations").body)["data"][0]["name"] == "Sandbox"
