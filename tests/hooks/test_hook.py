"""The hook: its requests, its results, and the protection of its secrets."""

from __future__ import annotations

import asyncio
import base64
import inspect
import itertools
import json
import logging
import re
import socket
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_polytomic.api.endpoints import bulk_syncs, connections, events
from airflow_provider_polytomic.api.errors import (
    PolytomicAuthError,
    PolytomicConflictError,
    PolytomicLookupError,
    PolytomicNotFoundError,
    PolytomicResponseError,
    PolytomicServerError,
    PolytomicTimeoutError,
    PolytomicUnreachableError,
    PolytomicValidationError,
)
from airflow_provider_polytomic.api.models import (
    BulkSync,
    BulkSyncExecution,
    Identity,
    ModelSync,
    ModelSyncExecution,
    SchemaCache,
)
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import (
    POSTGRES,
    POSTGRES_TO_WAREHOUSE,
    SALESFORCE,
    SALESFORCE_TO_WAREHOUSE,
    WAREHOUSE,
    WAREHOUSE_TO_SALESFORCE,
)
from tests.api.servers import Reply, Server, authority, http

from .conftest import KEY, Define, connection

ME = http(200, b'{"data": {"id": "me"}}')
START = f"POST /api/bulk/syncs/{SALESFORCE_TO_WAREHOUSE}/executions"
BOTH = {SALESFORCE_TO_WAREHOUSE, POSTGRES_TO_WAREHOUSE}
NEW_BULK: dict[str, Any] = {
    "name": "New",
    "source_connection_id": POSTGRES,
    "destination_connection_id": WAREHOUSE,
    "destination_configuration": {"schema": "new"},
    "default_schedule": {"frequency": "daily", "hour": "3"},
    "mode": "replicate",
}
NEW_MODEL: dict[str, Any] = {
    "name": "New",
    "mode": "create",
    "fields": [{"target": "Name", "source": {"model_id": WAREHOUSE, "field": "name"}}],
    "schedule": {"frequency": "manual"},
    "target": {"connection_id": SALESFORCE, "object": "Lead"},
}

EMAIL = {"source": {"model_id": WAREHOUSE, "field": "email"}, "value": "a@example.com"}


@pytest.fixture
def hook(polytomic_sandbox: Sandbox) -> PolytomicHook:
    """A hook that is connected to a sandbox, which runs a hundred times faster than real time."""
    return PolytomicHook()


def sent_requests(sandbox: Sandbox) -> list[tuple[str, str]]:
    return [(request.method, request.path) for request in sandbox.requests]


# --- creation


def test_creating_a_hook_reads_no_connection_and_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if there is no connection with this id."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    hook = PolytomicHook("there_is_no_such_connection", timeout=3, max_retries=0)
    assert repr(hook) == "<PolytomicHook there_is_no_such_connection>"


def test_connection_type_and_parameters_are_stable() -> None:
    """They are part of the public interface."""
    assert PolytomicHook.default_conn_name == PolytomicHook().polytomic_conn_id == "polytomic_default"
    assert (PolytomicHook.conn_type, PolytomicHook.conn_name_attr) == ("polytomic", "polytomic_conn_id")
    assert PolytomicHook.hook_name == "Polytomic"
    assert str(inspect.signature(PolytomicHook)) == (
        "(polytomic_conn_id: 'str' = 'polytomic_default', *, timeout: 'float | None' = None,"
        " max_retries: 'int | None' = None) -> 'None'"
    )


def test_connection_is_read_once_by_the_first_call(define: Define) -> None:
    """The client is kept."""
    with Server([ME]) as server:
        define(host=server.url)
        hook = PolytomicHook()
        assert hook.get_identity().id == "me"
        define(host="https://elsewhere.invalid")
        assert hook.get_identity().id == "me"
        assert hook.get_conn() is hook.client
        hook.client.close()
        assert server.connections == 1


# --- requests


@pytest.mark.parametrize(
    ("fields", "authorization"),
    [
        ({}, f"Bearer {KEY}"),
        ({"login": ""}, f"Bearer {KEY}"),
        ({"login": "organization"}, f"Basic {base64.b64encode(f'organization:{KEY}'.encode()).decode()}"),
        ({"login": "deployment"}, f"Basic {base64.b64encode(f'deployment:{KEY}'.encode()).decode()}"),
    ],
)
def test_key_is_sent_as_bearer_or_basic_credentials(define: Define, fields: dict[str, Any], authorization: str) -> None:
    """Basic with a login, which is the id of an organization; else Bearer."""
    with Server([ME]) as server:
        define(host=server.url, **fields)
        hook = PolytomicHook()
        hook.get_identity()
        hook.client.close()
        assert server.requests[0].headers["authorization"] == authorization


@pytest.mark.parametrize(("extra", "version"), [({}, "2025-09-18"), ({"api_version": "2024-02-08"}, "2024-02-08")])
def test_api_version_is_always_sent(define: Define, extra: dict[str, str], version: str) -> None:
    """Without it the server uses a very old version."""
    with Server([ME]) as server:
        define(host=server.url, extra=extra)
        hook = PolytomicHook()
        hook.get_identity()
        hook.client.close()
        assert server.requests[0].headers["x-polytomic-version"] == version


def test_timeout_of_the_hook_overrides_the_connection(define: Define) -> None:
    """The error contains it."""
    with Server([Reply(then="hold")]) as server:
        define(host=server.url)
        hook = PolytomicHook(timeout=0.2, max_retries=0)
        with pytest.raises(PolytomicUnreachableError, match=r"did not respond within 0\.2 s"):
            hook.get_identity()


def test_reload_credentials_reads_the_connection_again(polytomic_sandbox: Sandbox, define: Define) -> None:
    """The next call uses the rotated key."""
    define(host=polytomic_sandbox.url, password="sandbox")
    hook = PolytomicHook()
    hook.get_identity()
    polytomic_sandbox.rotate_key("another-key")
    with pytest.raises(PolytomicAuthError):
        hook.get_identity()
    define(host=polytomic_sandbox.url, password="another-key")
    hook.client.reload_credentials()
    assert isinstance(hook.get_identity(), Identity)


# --- everyday calls


def test_everyday_calls_of_bulk_syncs_work_against_the_sandbox(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """Create, get, find, list, update, activate, delete; start, wait, get, list, cancel."""
    created = hook.create_bulk_sync(**NEW_BULK)
    assert isinstance(created, BulkSync)
    assert hook.get_bulk_sync(created.id) == created
    assert hook.find_bulk_sync("New") == created
    assert created in list(hook.list_bulk_syncs())
    hook.activate_bulk_sync(created.id, False)
    assert [sync.id for sync in hook.list_bulk_syncs(active=False)] == [created.id]
    hook.activate_bulk_sync(created.id)
    assert list(hook.list_bulk_syncs(active=False)) == []
    assert hook.update_bulk_sync(created.id, name="Renamed").name == "Renamed"

    started = hook.start_bulk_sync(created.id, resync_mode="rebuild", fetch_mode="full", schemas=["public.orders"])
    assert isinstance(started, BulkSyncExecution)
    ended = hook.wait_for_bulk_sync_execution(created.id, started.id, poke_interval=0.01)
    assert (ended.id, ended.status, ended.is_resync, ended.is_partial) == (started.id, "completed", True, True)
    assert hook.get_bulk_sync_execution(created.id, started.id) == ended
    second = hook.start_bulk_sync(created.id, test=True)
    hook.cancel_bulk_sync_execution(created.id, second.id)
    assert hook.wait_for_bulk_sync_execution(created.id, second.id, poke_interval=0.01).status == "canceled"
    assert [item.id for item in hook.list_bulk_sync_executions(created.id)] == [second.id, started.id]
    ascending = hook.list_bulk_sync_executions(created.id, only_terminal=True, ascending=True)
    assert [item.id for item in ascending] == [started.id, second.id]

    hook.delete_bulk_sync(created.id)
    with pytest.raises(PolytomicNotFoundError):
        hook.get_bulk_sync(created.id)


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ({}, BOTH),
        ({"name": "Postgres*"}, {POSTGRES_TO_WAREHOUSE}),
        ({"name": "postgres*"}, set()),
        ({"source_connection_id": SALESFORCE}, {SALESFORCE_TO_WAREHOUSE}),
        ({"destination_connection_id": WAREHOUSE, "name": "* to warehouse"}, BOTH),
        ({"destination_connection_id": SALESFORCE}, set()),
        ({"active": False, "name": "*"}, set()),
    ],
)
def test_list_bulk_syncs_returns_only_matching_syncs(
    hook: PolytomicHook, polytomic_sandbox: Sandbox, conditions: dict[str, Any], found: set[str]
) -> None:
    """By name pattern, source, destination, and whether they are active. All conditions must match."""
    assert {sync.id for sync in hook.list_bulk_syncs(**conditions)} == found


def test_list_model_syncs_returns_only_matching_syncs(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """By a pattern for the name, in addition to the conditions of the API."""
    assert [sync.id for sync in hook.list_model_syncs(name="Customer*")] == [WAREHOUSE_TO_SALESFORCE]
    assert list(hook.list_model_syncs(name="customer")) == []


class TestNamesWithBrackets:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed_of("Orders [eu]", "Orders e")

    def test_name_with_brackets_matches_itself(self, hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
        """Although brackets are wildcards."""
        assert [sync.name for sync in hook.list_bulk_syncs(name="Orders [eu]")] == ["Orders e", "Orders [eu]"]


class TestSelectSchemas:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas = ["public.orders", "public.order_items", {"id": "public.old", "enabled": False}, "crm.orders"]
        return {"bulk_syncs": [{"name": "Shop", "id": POSTGRES_TO_WAREHOUSE, "schemas": schemas}]}

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            (["public.orders"], ["public.orders"]),
            (["orders"], ["public.orders", "crm.orders"]),
            (["public.*"], ["public.orders", "public.order_items"]),
            (["crm.orders", "*orders", "orders"], ["public.orders", "crm.orders"]),
        ],
    )
    def test_select_schemas_returns_ids_of_matching_enabled_schemas(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, names: list[str], found: list[str]
    ) -> None:
        """By id, by output name, or by a pattern for either. Each id is returned once."""
        assert sorted(hook.select_schemas(POSTGRES_TO_WAREHOUSE, *names)) == sorted(found)

    @pytest.mark.parametrize("names", [["public.old"], ["public.orders", "typo*"], ["PUBLIC.*"]])
    def test_select_schemas_raises_when_a_name_matches_no_enabled_schema(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, names: list[str]
    ) -> None:
        """A start with too few schemas, or with none, would have another effect."""
        with pytest.raises(PolytomicLookupError, match=r"no enabled schema .*enabled: .*'public.orders'"):
            hook.select_schemas(POSTGRES_TO_WAREHOUSE, *names)

    def test_select_schemas_requires_a_name(self, hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
        """It raises before it sends a request."""
        with pytest.raises(ValueError, match="names"):
            hook.select_schemas(POSTGRES_TO_WAREHOUSE)
        assert polytomic_sandbox.requests == []


def test_everyday_calls_of_model_syncs_work_against_the_sandbox(
    hook: PolytomicHook, polytomic_sandbox: Sandbox
) -> None:
    """The same calls as for bulk syncs."""
    created = hook.create_model_sync(**NEW_MODEL)
    assert isinstance(created, ModelSync)
    assert hook.get_model_sync(created.id) == created
    assert hook.find_model_sync("New").id == created.id
    hook.activate_model_sync(created.id, False)
    found = hook.list_model_syncs(active=False, mode="create", target_connection_id=SALESFORCE)
    assert [sync.id for sync in found] == [created.id]
    hook.activate_model_sync(created.id)
    assert hook.update_model_sync(created.id, name="Renamed").name == "Renamed"

    started = hook.start_model_sync(created.id, resync=True, identities=["a"])
    assert isinstance(started, ModelSyncExecution)
    ended = hook.wait_for_model_sync_execution(created.id, started.id, poke_interval=0.01)
    assert (ended.id, ended.status) == (started.id, "completed")
    assert hook.get_model_sync_execution(created.id, started.id) == ended
    second = hook.start_model_sync(created.id, test=True, source_identities=[[EMAIL]])
    hook.cancel_model_sync_execution(created.id, second.id)
    assert hook.wait_for_model_sync_execution(created.id, second.id, poke_interval=0.01).is_terminal
    assert [item.id for item in hook.list_model_sync_executions(created.id)] == [second.id, started.id]
    ascending = hook.list_model_sync_executions(created.id, only_terminal=True, ascending=True)
    assert [item.id for item in ascending] == [started.id, second.id]

    hook.delete_model_sync(created.id)
    with pytest.raises(PolytomicNotFoundError):
        hook.get_model_sync(created.id)


@pytest.mark.parametrize("kind", ["bulk", "model"])
def test_log_files_are_read_up_to_max_bytes(hook: PolytomicHook, polytomic_sandbox: Sandbox, kind: str) -> None:
    """From signed URLs, which are not shown."""
    if kind == "bulk":
        sync_id = SALESFORCE_TO_WAREHOUSE
        ended = hook.wait_for_bulk_sync_execution(sync_id, hook.start_bulk_sync(sync_id).id, poke_interval=0.01)
        (file,) = hook.iter_bulk_sync_logs(sync_id, ended.id)
        bounded = hook.iter_bulk_sync_logs(sync_id, ended.id, max_bytes=10)
    else:
        sync_id = WAREHOUSE_TO_SALESFORCE
        ended = hook.wait_for_model_sync_execution(sync_id, hook.start_model_sync(sync_id).id, poke_interval=0.01)
        (file,) = hook.iter_model_sync_logs(sync_id, ended.id, "errors")
        bounded = hook.iter_model_sync_logs(sync_id, ended.id, "errors", max_bytes=10)
    lines = [json.loads(line)["message"] for line in b"".join(file.chunks).splitlines()]
    assert (file.name, lines[-1]) == ("1-log.json" if kind == "bulk" else "1-errors.json", "Execution completed")
    with pytest.raises(PolytomicResponseError, match="than the 10 bytes of max_bytes"):
        b"".join(next(bounded).chunks)


@pytest.mark.parametrize("most", [0, -1])
def test_log_files_reject_an_invalid_max_bytes(hook: PolytomicHook, polytomic_sandbox: Sandbox, most: int) -> None:
    """At the call, before a file is read."""
    with pytest.raises(ValueError, match=f"max_bytes must be more than 0, not {most}"):
        hook.iter_bulk_sync_logs("s", "e", max_bytes=most)
    with pytest.raises(ValueError, match="max_bytes must be"):
        hook.iter_model_sync_logs("s", "e", "errors", max_bytes=most)
    assert polytomic_sandbox.requests == []


def test_refresh_schemas_waits_until_the_refresh_is_complete(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """Only a refresh that started after the request counts."""
    before = hook.call(connections.schema_cache(POSTGRES))
    after = hook.refresh_schemas(POSTGRES, poke_interval=0.01)
    assert isinstance(after, SchemaCache)
    assert after.cache_status == "fresh"
    assert before.last_refresh_finished < after.last_refresh_started < after.last_refresh_finished  # type: ignore[operator]
    with pytest.raises(PolytomicTimeoutError, match=f"connection {POSTGRES} had not been refreshed at the deadline"):
        hook.refresh_schemas(POSTGRES, timeout=0.01)


@pytest.mark.parametrize("argument", [{"poke_interval": 0}, {"timeout": -1}])
def test_refresh_schemas_rejects_invalid_times(hook: PolytomicHook, argument: dict[str, float]) -> None:
    """They must be more than 0 seconds."""
    (name,) = argument
    with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds"):
        hook.refresh_schemas(POSTGRES, **argument)


def test_call_and_iterate_accept_calls_of_any_endpoint(hook: PolytomicHook) -> None:
    """They are created by the functions of the endpoint modules."""
    assert hook.call(connections.get(POSTGRES)).name == "App database"
    assert [item.id for item in hook.iterate(connections.list_())] == [SALESFORCE, POSTGRES, WAREHOUSE]
    assert "bulk_sync.completed" in hook.call(events.types())


def test_every_public_method_is_called_in_these_tests() -> None:
    """Both kinds of syncs have the same methods."""
    classes = [cls for cls in PolytomicHook.__mro__ if cls.__module__.startswith("airflow_provider_polytomic.")]
    inherited = {name for cls in PolytomicHook.__mro__ if cls not in classes for name in vars(cls)}
    methods = {name for cls in classes for name in vars(cls) if not name.startswith("_") and name not in inherited}
    bulk = {name for name in methods if "bulk_sync" in name}
    assert {name.replace("bulk", "model") for name in bulk} == {name for name in methods if "model_sync" in name}
    source = inspect.getsource(inspect.getmodule(test_every_public_method_is_called_in_these_tests))  # type: ignore[arg-type]
    called = set(re.findall(r"hook\.(\w+)|PolytomicHook\(.*?\)\.(\w+)", source))
    functions = {name for name in methods if inspect.isroutine(inspect.getattr_static(PolytomicHook, name))}
    in_other_tests = {"get_connection_form_widgets", "get_ui_field_behaviour", "test_connection"}
    assert functions - in_other_tests - {name for pair in called for name in pair} == set()


def test_lists_request_pages_lazily(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """The first item triggers the first request, and a page is requested when it is needed."""
    executions = hook.list_bulk_sync_executions(SALESFORCE_TO_WAREHOUSE)
    syncs = hook.iterate(bulk_syncs.list_(limit=1))
    assert sent_requests(polytomic_sandbox) == []
    next(syncs)
    assert sent_requests(polytomic_sandbox) == [("GET", "/api/bulk/syncs")]
    assert len([*syncs]) == 1
    assert len(sent_requests(polytomic_sandbox)) == 2
    assert list(executions) == []


LISTS = ["list_bulk_syncs", "list_model_syncs", "list_bulk_sync_executions", "list_model_sync_executions"]


class TestLimits:
    """Syncs and executions of two pages."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed_of(*(f"Sync-{number}" for number in range(60)))

    @pytest.fixture
    def polytomic_sandbox_speed(self) -> float:
        return 0.0001

    def listed(self, hook: PolytomicHook, name: str, sandbox: Sandbox, limit: int) -> list[str]:
        """Return the ids from a list method. There are three executions."""
        if not name.endswith("executions"):
            return [item.id for item in getattr(hook, name)(limit=limit)]
        sync_id = "id-0" if "bulk" in name else "model-Sync-0"
        for _ in range(3):
            sandbox.finish(sync_id, sandbox.start_foreign(sync_id).id)
        return [item.id for item in getattr(hook, name)(sync_id, limit=limit)]

    @pytest.mark.parametrize("name", LISTS)
    def test_limit_of_one_is_one_small_request(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, name: str
    ) -> None:
        """`limit=1` returns the newest item, and requests no more."""
        (newest,) = self.listed(hook, name, polytomic_sandbox, 1)

        (request,) = polytomic_sandbox.requests
        assert request.query == {"limit": ["1"]}
        if name.endswith("executions"):
            assert newest == polytomic_sandbox.starts("id-0" if "bulk" in name else "model-Sync-0")[-1].id

    @pytest.mark.parametrize("name", ["list_bulk_syncs", "list_model_syncs"])
    @pytest.mark.parametrize("limit", [49, 50, 51, 60, 1000])
    def test_limit_is_a_number_of_items(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, name: str, limit: int
    ) -> None:
        """They are requested in pages of at most 50."""
        items = list(getattr(hook, name)(limit=limit))

        assert len(items) == min(limit, 60)
        assert [request.query["limit"] for request in polytomic_sandbox.requests] == [[str(min(limit, 50))]] * (
            1 if limit <= 50 else 2
        )

    @pytest.mark.parametrize("name", LISTS[2:])
    def test_limit_of_executions_is_capped_at_the_size_of_a_page(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, name: str
    ) -> None:
        """More are requested page by page."""
        assert len(self.listed(hook, name, polytomic_sandbox, 1000)) == 3
        assert [request.query for request in polytomic_sandbox.requests] == [{"limit": ["100"]}]

    @pytest.mark.parametrize("name", ["list_bulk_syncs", "list_model_syncs"])
    def test_limit_counts_only_matching_items(self, hook: PolytomicHook, polytomic_sandbox: Sandbox, name: str) -> None:
        """For a condition that the API does not have, whole pages are requested until there are enough items."""
        names = {sync.name for sync in getattr(hook, name)(name="Sync-5*", limit=2)}

        assert len(names) == 2
        assert all(found.startswith("Sync-5") for found in names)
        assert all("limit" not in request.query for request in polytomic_sandbox.requests)

    @pytest.mark.parametrize("name", LISTS)
    @pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1"])
    def test_invalid_limit_is_rejected(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, name: str, limit: Any
    ) -> None:
        """It must be an integer of 1 or more. The call raises before it sends a request."""
        arguments = ("id-0",) if name.endswith("executions") else ()
        with pytest.raises(ValueError, match=f"limit must be a whole number, 1 or more, not {limit!r}"):
            getattr(hook, name)(*arguments, limit=limit)
        assert polytomic_sandbox.requests == []


# finding


def seed_of(*names: str) -> dict[str, Any]:
    syncs = [{"name": name, "id": f"id-{number}", "schemas": ["a"]} for number, name in enumerate(names)]
    return {"bulk_syncs": syncs, "model_syncs": [{"name": name, "id": f"model-{name}"} for name in set(names)]}


class TestFind:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        names = [f"Filler {number}" for number in range(60)]
        return seed_of("Orders nightly", "Orders hourly", "Twice", "Twice", *names)

    def test_find_returns_the_sync_with_the_exact_name(self, hook: PolytomicHook) -> None:
        """On any page."""
        assert hook.find_bulk_sync("Orders nightly").id == "id-0"
        assert hook.find_model_sync("Twice").id == "model-Twice"

    @pytest.mark.parametrize("name", ["orders nightly", "Orders", "Orders nightl"])
    def test_find_raises_when_no_sync_has_the_name(self, hook: PolytomicHook, name: str) -> None:
        """The error contains the name, and the most similar ones."""
        with pytest.raises(PolytomicLookupError) as error:
            hook.find_bulk_sync(name)
        assert f"no bulk sync is named {name!r}; the nearest names are" in str(error.value)
        assert "'Orders nightly'" in str(error.value)

    def test_find_raises_when_several_syncs_have_the_name(self, hook: PolytomicHook) -> None:
        """The error contains their ids."""
        with pytest.raises(PolytomicLookupError, match=r"2 bulk syncs are named 'Twice'.*id-\d, id-\d"):
            hook.find_bulk_sync("Twice")


# --- updates


def test_update_keeps_unchanged_fields(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """They are read and written back, because a replacement would reset them."""
    body = {
        **NEW_BULK,
        "active": False,
        "policies": [WAREHOUSE],
        "normalize_names": "legacy",
        "automatically_add_new_fields": "none",
        "concurrency_limit": 3,
        "data_cutoff_timestamp": "2024-01-02T03:04:05Z",
    }
    before = hook.create_bulk_sync(**body)
    after = hook.update_bulk_sync(before.id, name="Renamed")
    changed = {"name", "updated_at"}
    assert after.name == "Renamed"
    assert after.model_dump(exclude=changed) == before.model_dump(exclude=changed)


def update(define: Define, sync: dict[str, Any], kind: str, **changes: Any) -> dict[str, Any]:
    """Update a sync that the server returns, and return the body of the request."""
    with Server([http(200, json.dumps({"data": sync}).encode())]) as server:
        define(host=server.url)
        hook = PolytomicHook()
        getattr(hook, f"update_{kind}_sync")("s", **changes)
        hook.client.close()
        read, written = server.requests
    path = "/api/bulk/syncs/s" if kind == "bulk" else "/api/syncs/s"
    assert [(read.method, read.target), (written.method, written.target)] == [("GET", path), ("PUT", path)]
    return json.loads(written.body)  # type: ignore[no-any-return]


def test_update_keeps_unknown_fields(define: Define) -> None:
    """At any depth. Read-only fields are not written back."""
    actor = {"id": "u", "type": "user"}
    stamps = {"created_at": "2026-01-01T00:00:00Z", "created_by": actor, "updated_at": None, "updated_by": actor}
    kept = {
        "name": "n",
        "active": False,
        "policies": None,
        "news": {"deep": [1], "created_at": "kept"},
        "destination_configuration": {"created_by": "kept", "x": None},
    }
    sync = {
        "id": "s",
        "organization_id": "o",
        **stamps,
        **kept,
        "default_schedule": {"frequency": "daily", "news": 1, **stamps},
        "additional_schedules": [{"id": "a", "frequency": "hourly", **stamps}],
    }
    assert update(define, sync, "bulk", active=True) == {
        **kept,
        "active": True,
        "default_schedule": {"frequency": "daily", "news": 1},
        "additional_schedules": [{"id": "a", "frequency": "hourly"}],
    }


@pytest.mark.parametrize("kind", ["bulk", "model"])
def test_update_keeps_values_of_unexpected_types(define: Define, kind: str) -> None:
    """The model has None for such a value, which would reset the field."""
    odd = {"mode": 5, "policies": ["p", None, {"id": "q"}], "active": 2, "name": {"en": "n"}, "schedule": [1]}
    assert update(define, {"id": "s", **odd}, kind, name="n") == {**odd, "name": "n"}


def test_update_accepts_schedules_that_were_read(define: Define) -> None:
    """Their read-only fields are omitted."""
    stamps = {"created_at": "2026-01-01T00:00:00Z", "created_by": {"id": "u"}, "updated_at": None}
    were = {
        "default_schedule": {"id": "a", "frequency": "daily", **stamps},
        "additional_schedules": [{"frequency": "hourly", **stamps}],
    }
    sync = {"id": "s", "default_schedule": {"frequency": "manual"}, "additional_schedules": None}
    assert update(define, sync, "bulk", **were) == {
        "default_schedule": {"id": "a", "frequency": "daily"},
        "additional_schedules": [{"frequency": "hourly"}],
    }


FILTERS = {"filters": [1], "filter_logic": "1", "model_filters": {"logic": "1"}, "target_filters": {"logic": "1"}}


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({"active": True}, {"identity": 1, "identities": [1], **FILTERS, "active": True}),
        ({"identity": 2}, {"identity": 2, **FILTERS}),
        ({"identities": [2]}, {"identities": [2], **FILTERS}),
        ({"filters": [2]}, {"identity": 1, "identities": [1], "filters": [2], "filter_logic": "1"}),
        (
            {"model_filters": {}},
            {"identity": 1, "identities": [1], "model_filters": {}, "target_filters": {"logic": "1"}},
        ),
    ],
)
def test_update_of_one_form_of_a_field_omits_the_other(
    define: Define, changes: dict[str, Any], written: dict[str, Any]
) -> None:
    """The API returns some fields in an old and a new form. It prefers the new one, or rejects a difference."""
    sync = {"id": "s", "model_ids": ["m"], "problems": [], "identity": 1, "identities": [1], **FILTERS}
    assert update(define, sync, "model", **changes) == written


# --- starts and creations


def test_start_raises_at_once_when_another_execution_is_running(
    hook: PolytomicHook, polytomic_sandbox: Sandbox
) -> None:
    """After one request."""
    hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    with pytest.raises(PolytomicConflictError):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    assert len(polytomic_sandbox.requests) == 2


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
def test_start_without_a_response_starts_one_execution(
    hook: PolytomicHook, polytomic_sandbox: Sandbox, fault: str
) -> None:
    """The request is repeated with the same key, and returns the execution that was started."""
    getattr(polytomic_sandbox.faults, fault)(START)
    started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    assert [execution.id for execution in polytomic_sandbox.starts(SALESFORCE_TO_WAREHOUSE)] == [started.id]
    first, second = polytomic_sandbox.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_start_with_a_response_of_a_gateway_starts_one_execution(
    hook: PolytomicHook, polytomic_sandbox: Sandbox
) -> None:
    """A 502 page does not show whether the start succeeded."""
    polytomic_sandbox.faults.status(502, START, body="<html>bad gateway</html>", processed=True)
    started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    assert [execution.id for execution in polytomic_sandbox.starts(SALESFORCE_TO_WAREHOUSE)] == [started.id]


def test_each_start_has_a_unique_key_by_default(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """With the same idempotency_key, a second start returns the execution of the first."""
    for sync_id in (SALESFORCE_TO_WAREHOUSE, POSTGRES_TO_WAREHOUSE):
        hook.start_bulk_sync(sync_id)
    first, second = (request.headers["idempotency-key"] for request in polytomic_sandbox.requests)
    assert first != second
    one = hook.start_model_sync(WAREHOUSE_TO_SALESFORCE, idempotency_key="the-same-key")
    two = hook.start_model_sync(WAREHOUSE_TO_SALESFORCE, idempotency_key="the-same-key")
    assert one == two
    assert len(polytomic_sandbox.starts(WAREHOUSE_TO_SALESFORCE)) == 1


@pytest.mark.parametrize("key", ["short", "with spaces in it", "a" * 256, "new\r\nline: 1", [10**5000]])
def test_start_rejects_an_invalid_idempotency_key(hook: PolytomicHook, polytomic_sandbox: Sandbox, key: Any) -> None:
    """It raises before it sends a request."""
    with pytest.raises(ValueError, match="idempotency_key must be 8 to 255"):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE, idempotency_key=key)
    assert polytomic_sandbox.requests == []


def test_start_without_retries_raises_when_its_outcome_is_unknown(polytomic_sandbox: Sandbox) -> None:
    """The error says so."""
    polytomic_sandbox.faults.drop_after(START)
    hook = PolytomicHook(max_retries=0)
    with pytest.raises(PolytomicUnreachableError, match="Could not confirm whether the start succeeded"):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)


def test_start_raises_when_the_api_rejects_it(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """It is not repeated."""
    with pytest.raises(PolytomicValidationError, match="the sync has no nonsense"):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE, schemas=["nonsense"])
    with pytest.raises(ValueError, match="exclude each other"):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE, test=True, resync_mode="rebuild")
    assert [request.method for request in polytomic_sandbox.requests] == ["POST", "GET"]  # the valid schemas


@pytest.mark.parametrize("kind", ["bulk", "model"])
def test_create_without_a_response_creates_one_sync(hook: PolytomicHook, polytomic_sandbox: Sandbox, kind: str) -> None:
    """The request is repeated with the same key."""
    polytomic_sandbox.faults.drop_after("POST .*/syncs")
    if kind == "bulk":
        created = hook.create_bulk_sync(**NEW_BULK).id
        assert [sync.id for sync in hook.list_bulk_syncs() if sync.name == "New"] == [created]
    else:
        created = hook.create_model_sync(**NEW_MODEL).id
        assert [sync.id for sync in hook.list_model_syncs() if sync.name == "New"] == [created]


@pytest.mark.parametrize("kind", ["bulk", "model"])
def test_create_waits_while_its_first_request_is_processed(polytomic_sandbox: Sandbox, kind: str) -> None:
    """The server rejects the repeated request meanwhile. One sync is created."""
    polytomic_sandbox.faults.delay(1.5, "POST .*/syncs")
    hook = PolytomicHook(timeout=0.3)
    created = getattr(hook, f"create_{kind}_sync")(**(NEW_BULK if kind == "bulk" else NEW_MODEL))
    assert 409 in [request.status for request in polytomic_sandbox.requests]
    assert [sync.id for sync in getattr(hook, f"list_{kind}_syncs")() if sync.name == "New"] == [created.id]


def test_create_without_retries_raises_when_its_outcome_is_unknown(polytomic_sandbox: Sandbox) -> None:
    """The error says so."""
    polytomic_sandbox.faults.drop_after("POST .*/syncs")
    with pytest.raises(PolytomicUnreachableError, match="Could not confirm whether the creation succeeded"):
        PolytomicHook(max_retries=0).create_bulk_sync(**NEW_BULK)


# --- retries


def test_call_is_retried_after_transient_failures(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """It then succeeds."""
    polytomic_sandbox.faults.status(503, headers={"Retry-After": "0.01"}, times=3)
    assert isinstance(hook.get_identity(), Identity)
    assert len(polytomic_sandbox.requests) == 4


@pytest.mark.parametrize(
    "call",
    [PolytomicHook.get_identity, lambda hook: hook.find_bulk_sync("New"), lambda hook: [*hook.list_bulk_syncs()]],
)
def test_call_is_retried_max_retries_times(polytomic_sandbox: Sandbox, call: Any) -> None:
    """It then raises."""
    polytomic_sandbox.faults.status(500, headers={"Retry-After": "0.01"}, times=None)
    with pytest.raises(PolytomicServerError, match="injected 500"):
        call(PolytomicHook(max_retries=2))
    assert len(polytomic_sandbox.requests) == 3


# --- waiting


def test_wait_returns_a_failed_execution(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """It does not check the outcome."""
    started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    polytomic_sandbox.finish(SALESFORCE_TO_WAREHOUSE, started.id, "failed", "no such table")
    ended = hook.wait_for_bulk_sync_execution(SALESFORCE_TO_WAREHOUSE, started.id)
    assert (ended.status, ended.status_message, ended.succeeded) == ("failed", "no such table", False)


class TestWait:
    @pytest.fixture
    def polytomic_sandbox_speed(self) -> float:
        return 0.01

    def test_wait_raises_after_its_timeout(self, hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
        """The execution keeps running."""
        started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
        with pytest.raises(PolytomicTimeoutError, match="it is left running"):
            hook.wait_for_bulk_sync_execution(SALESFORCE_TO_WAREHOUSE, started.id, poke_interval=0.05, timeout=0.2)
        assert not any("cancel" in path for _, path in sent_requests(polytomic_sandbox))

    @pytest.mark.parametrize("kind", ["bulk", "model"])
    @pytest.mark.parametrize("argument", [{"poke_interval": 0}, {"poke_interval": -1}, {"timeout": 0}])
    def test_wait_rejects_invalid_times(self, hook: PolytomicHook, kind: str, argument: dict[str, float]) -> None:
        """They must be more than 0 seconds."""
        (name,) = argument
        with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds"):
            getattr(hook, f"wait_for_{kind}_sync_execution")("s", "e", **argument)

    def test_wait_tolerates_failed_polls(self, hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
        """For instance lost connections and HTML pages of gateways."""
        started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
        polytomic_sandbox.faults.drop_before("GET .*")
        polytomic_sandbox.faults.garbage("html", "GET .*")
        polytomic_sandbox.finish(SALESFORCE_TO_WAREHOUSE, started.id)
        ended = hook.wait_for_bulk_sync_execution(SALESFORCE_TO_WAREHOUSE, started.id, poke_interval=0.01)
        assert ended.status == "completed"


# --- secrets


def redacted(text: str) -> str:
    """Redact a text as Airflow does in logs."""
    try:
        from airflow.sdk._shared.secrets_masker import redact
    except ImportError:
        try:
            from airflow.sdk.execution_time.secrets_masker import redact  # type: ignore[no-redef]
        except ImportError:
            from airflow.utils.log.secrets_masker import redact  # type: ignore[no-redef]
    return str(redact(text))


numbers = itertools.count()


@pytest.mark.parametrize("way", ["worker", "triggerer"])
def test_airflow_masks_the_secrets_of_the_connection(define: Define, way: str) -> None:
    """The key, its encoding in HTTP Basic, and the password of the proxy."""
    number = next(numbers)
    key, password = f"key-{number}-of-a-mask", f"password/{number}-of-a-mask"
    basic = base64.b64encode(f"organization:{key}".encode()).decode()
    quoted = password.replace("/", "%2F")
    define(host="http://h", login="organization", password=key, extra={"proxy": f"http://me:{quoted}@p"})
    for secret in (basic, password, quoted):
        assert redacted(f"<{secret}>") == f"<{secret}>"
    if way == "worker":
        PolytomicHook().settings()
    else:

        async def make() -> None:
            await (await PolytomicHook().async_client()).close()

        asyncio.run(make())
    for secret in (key, basic, password, quoted):
        assert redacted(f"<{secret}>") == "<***>"


def test_secrets_are_in_no_repr_error_or_log(define: Define, caplog: pytest.LogCaptureFixture) -> None:
    """Of the hook, its client, and its settings."""
    define(host="http://127.0.0.1:1", login="organization", extra={"proxy": "http://me:pass-word@127.0.0.1:1"})
    hook = PolytomicHook(max_retries=0)
    with caplog.at_level(logging.DEBUG), pytest.raises(PolytomicUnreachableError) as error:
        hook.get_identity()
    shown = [repr(hook), str(hook), repr(hook.client), repr(hook.settings()), str(error.value), caplog.text]
    for secret in (KEY, "pass-word", base64.b64encode(f"organization:{KEY}".encode()).decode()):
        assert not any(secret in text for text in shown)


def test_disabled_verification_is_logged_once_per_session(
    define: Define, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    """It is not logged for each call."""
    with Server([ME], tls=authority(tmp_path).context) as server:
        define(host=server.url, extra={"verify": "false"})
        hook = PolytomicHook()
        for _ in range(3):
            assert hook.get_identity().id == "me"
        hook.client.close()
    assert sum("is not verified" in record.getMessage() for record in caplog.records) == 1


# --- clients of triggers


def test_async_client_uses_the_same_connection(polytomic_sandbox: Sandbox, define: Define) -> None:
    """It can read the connection again."""

    async def run() -> None:
        async with await PolytomicHook().async_client() as client:
            assert (await client.call(bulk_syncs.get(POSTGRES_TO_WAREHOUSE))).id == POSTGRES_TO_WAREHOUSE
            polytomic_sandbox.rotate_key("another-key")
            define(host=polytomic_sandbox.url, password="another-key")
            await client.reload_credentials()
            assert (await client.call(bulk_syncs.get(POSTGRES_TO_WAREHOUSE))).id == POSTGRES_TO_WAREHOUSE

    asyncio.run(run())


def test_async_clients_with_equal_settings_share_a_session(define: Define) -> None:
    """Each reads its own connection."""
    with Server([ME, replace(ME, ready=lambda server: server.connections > 1)]) as server:
        define(host=server.url)

        async def run() -> None:
            async with await PolytomicHook().async_client() as client:
                await client.call(connections.get("c"))

        async def many() -> None:
            async with await PolytomicHook().async_client() as first:  # keeps the session open
                await first.call(connections.get("c"))
                await asyncio.gather(*(run() for _ in range(30)))

        asyncio.run(many())
        assert 1 < server.connections <= 10
        assert len(server.requests) == 31


def test_invalid_connection_raises_before_a_request(define: Define) -> None:
    """The error names connection and field."""
    define(host="ftp://h")
    with pytest.raises(ValueError, match="connection 'polytomic_default': host must be"):
        PolytomicHook().get_identity()
    assert connection().conn_type == "polytomic"
