"""The hook: what it sends, what it gives back, and what it keeps to itself."""

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
    """A hook on a sandbox of its own, a hundred times faster than life."""
    return PolytomicHook()


def asked(sandbox: Sandbox) -> list[tuple[str, str]]:
    return [(request.method, request.path) for request in sandbox.requests]


# making one


def test_making_a_hook_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is opened, and no connection is read: there is none of that name."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    hook = PolytomicHook("there_is_no_such_connection", timeout=3, max_retries=0)
    assert repr(hook) == "<PolytomicHook there_is_no_such_connection>"


def test_names_that_stay() -> None:
    """Connection id, connection type and parameters are a contract."""
    assert PolytomicHook.default_conn_name == PolytomicHook().polytomic_conn_id == "polytomic_default"
    assert (PolytomicHook.conn_type, PolytomicHook.conn_name_attr) == ("polytomic", "polytomic_conn_id")
    assert PolytomicHook.hook_name == "Polytomic"
    assert str(inspect.signature(PolytomicHook)) == (
        "(polytomic_conn_id: 'str' = 'polytomic_default', *, timeout: 'float | None' = None,"
        " max_retries: 'int | None' = None) -> 'None'"
    )


def test_the_connection_is_read_once(define: Define) -> None:
    """The client is made at the first call, and kept."""
    with Server([ME]) as server:
        define(host=server.url)
        hook = PolytomicHook()
        assert hook.get_identity().id == "me"
        define(host="https://elsewhere.invalid")
        assert hook.get_identity().id == "me"
        assert hook.get_conn() is hook.client
        hook.client.close()
        assert server.connections == 1


# what is sent


@pytest.mark.parametrize(
    ("fields", "authorization"),
    [
        ({}, f"Bearer {KEY}"),
        ({"login": ""}, f"Bearer {KEY}"),
        ({"login": "organization"}, f"Basic {base64.b64encode(f'organization:{KEY}'.encode()).decode()}"),
        ({"login": "deployment"}, f"Basic {base64.b64encode(f'deployment:{KEY}'.encode()).decode()}"),
    ],
)
def test_credentials(define: Define, fields: dict[str, Any], authorization: str) -> None:
    """A key alone is a bearer's; with a login it is that of an organization or a deployment."""
    with Server([ME]) as server:
        define(host=server.url, **fields)
        hook = PolytomicHook()
        hook.get_identity()
        hook.client.close()
        assert server.requests[0].headers["authorization"] == authorization


@pytest.mark.parametrize(("extra", "version"), [({}, "2025-09-18"), ({"api_version": "2024-02-08"}, "2024-02-08")])
def test_the_version_is_always_sent(define: Define, extra: dict[str, str], version: str) -> None:
    """Without it the server would take a very old one."""
    with Server([ME]) as server:
        define(host=server.url, extra=extra)
        hook = PolytomicHook()
        hook.get_identity()
        hook.client.close()
        assert server.requests[0].headers["x-polytomic-version"] == version


def test_a_timeout_of_the_hook(define: Define) -> None:
    """It wins over the connection's, and the error tells of it."""
    with Server([Reply(then="hold")]) as server:
        define(host=server.url)
        hook = PolytomicHook(timeout=0.2, max_retries=0)
        with pytest.raises(PolytomicUnreachableError, match=r"did not answer within 0\.2 s"):
            hook.get_identity()


def test_a_key_that_was_rotated_meanwhile(polytomic_sandbox: Sandbox, define: Define) -> None:
    """Asked to reload_credentials, the client reads the connection again."""
    define(host=polytomic_sandbox.url, password="sandbox")
    hook = PolytomicHook()
    hook.get_identity()
    polytomic_sandbox.rotate_key("another-key")
    with pytest.raises(PolytomicAuthError):
        hook.get_identity()
    define(host=polytomic_sandbox.url, password="another-key")
    hook.client.reload_credentials()
    assert isinstance(hook.get_identity(), Identity)


# every method


def test_everyday_calls_of_bulk_syncs(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
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
    ("wanted", "found"),
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
def test_bulk_syncs_can_be_chosen(
    hook: PolytomicHook, polytomic_sandbox: Sandbox, wanted: dict[str, Any], found: set[str]
) -> None:
    """By a pattern for the name, by source, by destination, and by whether they are active: all must fit."""
    assert {sync.id for sync in hook.list_bulk_syncs(**wanted)} == found


def test_model_syncs_can_be_chosen(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """By a pattern for the name, besides what the API itself can do."""
    assert [sync.id for sync in hook.list_model_syncs(name="Customer*")] == [WAREHOUSE_TO_SALESFORCE]
    assert list(hook.list_model_syncs(name="customer")) == []


class TestNamesWithBrackets:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed_of("Orders [eu]", "Orders e")

    def test_a_name_fits_itself(self, hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
        """Brackets are wildcards, but a name is always found by itself."""
        assert [sync.name for sync in hook.list_bulk_syncs(name="Orders [eu]")] == ["Orders e", "Orders [eu]"]


class TestChoosingSchemas:
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
    def test_by_name_or_pattern(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, names: list[str], found: list[str]
    ) -> None:
        """By id, by output name, or by a pattern for either; enabled ones only, each once."""
        assert sorted(hook.select_schemas(POSTGRES_TO_WAREHOUSE, *names)) == sorted(found)

    @pytest.mark.parametrize("names", [["public.old"], ["public.orders", "typo*"], ["PUBLIC.*"]])
    def test_a_name_that_fits_nothing_is_an_error(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, names: list[str]
    ) -> None:
        """Each name must fit: a start with too few schemas, or with none, would do something else."""
        with pytest.raises(PolytomicLookupError, match=r"no enabled schema .*enabled: .*'public.orders'"):
            hook.select_schemas(POSTGRES_TO_WAREHOUSE, *names)

    def test_no_name_is_refused(self, hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
        """Before anything is sent."""
        with pytest.raises(ValueError, match="names"):
            hook.select_schemas(POSTGRES_TO_WAREHOUSE)
        assert polytomic_sandbox.requests == []


def test_everyday_calls_of_model_syncs(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """The same set."""
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
def test_the_log_files_of_an_execution(hook: PolytomicHook, polytomic_sandbox: Sandbox, kind: str) -> None:
    """Each is read from its signed URL, which is not shown; there is a bound to how much."""
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
def test_log_files_need_some_room(hook: PolytomicHook, polytomic_sandbox: Sandbox, most: int) -> None:
    """A bound that lets nothing through is refused at once."""
    with pytest.raises(ValueError, match=f"max_bytes must be more than 0, not {most}"):
        hook.iter_bulk_sync_logs("s", "e", max_bytes=most)
    with pytest.raises(ValueError, match="max_bytes must be"):
        hook.iter_model_sync_logs("s", "e", "errors", max_bytes=most)
    assert polytomic_sandbox.requests == []


def test_refreshing_schemas(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """It waits until a refresh has finished that began after it had asked."""
    before = hook.call(connections.schema_cache(POSTGRES))
    after = hook.refresh_schemas(POSTGRES, poke_interval=0.01)
    assert isinstance(after, SchemaCache)
    assert after.cache_status == "fresh"
    assert before.last_refresh_finished < after.last_refresh_started < after.last_refresh_finished  # type: ignore[operator]
    with pytest.raises(PolytomicTimeoutError, match=f"connection {POSTGRES} had not been refreshed at the deadline"):
        hook.refresh_schemas(POSTGRES, timeout=0.01)


@pytest.mark.parametrize("argument", [{"poke_interval": 0}, {"timeout": -1}])
def test_refreshing_schemas_needs_some_time(hook: PolytomicHook, argument: dict[str, float]) -> None:
    """Zero seconds, or less, are a mistake."""
    (name,) = argument
    with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds"):
        hook.refresh_schemas(POSTGRES, **argument)


def test_calls_of_any_endpoint(hook: PolytomicHook) -> None:
    """`call` and `iterate` take what the endpoint functions make."""
    assert hook.call(connections.get(POSTGRES)).name == "App database"
    assert [item.id for item in hook.iterate(connections.list_())] == [SALESFORCE, POSTGRES, WAREHOUSE]
    assert "bulk_sync.completed" in hook.call(events.types())


def test_no_public_method_is_left_out() -> None:
    """Both kinds of syncs have the same methods, and the tests of this file call each of them."""
    classes = [cls for cls in PolytomicHook.__mro__ if cls.__module__.startswith("airflow_provider_polytomic.")]
    inherited = {name for cls in PolytomicHook.__mro__ if cls not in classes for name in vars(cls)}
    methods = {name for cls in classes for name in vars(cls) if not name.startswith("_") and name not in inherited}
    bulk = {name for name in methods if "bulk_sync" in name}
    assert {name.replace("bulk", "model") for name in bulk} == {name for name in methods if "model_sync" in name}
    source = inspect.getsource(inspect.getmodule(test_no_public_method_is_left_out))  # type: ignore[arg-type]
    called = set(re.findall(r"hook\.(\w+)|PolytomicHook\(.*?\)\.(\w+)", source))
    functions = {name for name in methods if inspect.isroutine(inspect.getattr_static(PolytomicHook, name))}
    elsewhere = {"get_connection_form_widgets", "get_ui_field_behaviour", "test_connection"}
    assert functions - elsewhere - {name for pair in called for name in pair} == set()


def test_lists_are_lazy(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """Nothing is asked before the first item is wanted, and no page before it is needed."""
    executions = hook.list_bulk_sync_executions(SALESFORCE_TO_WAREHOUSE)
    syncs = hook.iterate(bulk_syncs.list_(limit=1))
    assert asked(polytomic_sandbox) == []
    next(syncs)
    assert asked(polytomic_sandbox) == [("GET", "/api/bulk/syncs")]
    assert len([*syncs]) == 1
    assert len(asked(polytomic_sandbox)) == 2
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
        """The ids that a list method returns; of executions there are three."""
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
        """`limit=1` returns the newest, and requests no more than that."""
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
        """As many items are returned, from as many pages as that takes, of at most 50 each."""
        items = list(getattr(hook, name)(limit=limit))

        assert len(items) == min(limit, 60)
        assert [request.query["limit"] for request in polytomic_sandbox.requests] == [[str(min(limit, 50))]] * (
            1 if limit <= 50 else 2
        )

    @pytest.mark.parametrize("name", LISTS[2:])
    def test_limit_of_executions_is_capped_at_the_size_of_a_page(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, name: str
    ) -> None:
        """More than a page holds is requested page by page."""
        assert len(self.listed(hook, name, polytomic_sandbox, 1000)) == 3
        assert [request.query for request in polytomic_sandbox.requests] == [{"limit": ["100"]}]

    @pytest.mark.parametrize("name", ["list_bulk_syncs", "list_model_syncs"])
    def test_limit_counts_what_fits_a_condition(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, name: str
    ) -> None:
        """With a condition that the API does not know, whole pages are requested, and no more once there are enough."""
        names = {sync.name for sync in getattr(hook, name)(name="Sync-5*", limit=2)}

        assert len(names) == 2
        assert all(found.startswith("Sync-5") for found in names)
        assert all("limit" not in request.query for request in polytomic_sandbox.requests)

    @pytest.mark.parametrize("name", LISTS)
    @pytest.mark.parametrize("limit", [0, -1, True, 1.5, "1"])
    def test_limit_that_is_none_is_refused(
        self, hook: PolytomicHook, polytomic_sandbox: Sandbox, name: str, limit: Any
    ) -> None:
        """A limit that is no whole number of 1 or more is refused at the call, before anything is sent."""
        arguments = ("id-0",) if name.endswith("executions") else ()
        with pytest.raises(ValueError, match=f"limit must be a whole number, 1 or more, not {limit!r}"):
            getattr(hook, name)(*arguments, limit=limit)
        assert polytomic_sandbox.requests == []


# finding


def seed_of(*names: str) -> dict[str, Any]:
    syncs = [{"name": name, "id": f"id-{number}", "schemas": ["a"]} for number, name in enumerate(names)]
    return {"bulk_syncs": syncs, "model_syncs": [{"name": name, "id": f"model-{name}"} for name in set(names)]}


class TestFinding:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        names = [f"Filler {number}" for number in range(60)]
        return seed_of("Orders nightly", "Orders hourly", "Twice", "Twice", *names)

    def test_by_name(self, hook: PolytomicHook) -> None:
        """The whole of it, on whatever page it is."""
        assert hook.find_bulk_sync("Orders nightly").id == "id-0"
        assert hook.find_model_sync("Twice").id == "model-Twice"

    @pytest.mark.parametrize("name", ["orders nightly", "Orders", "Orders nightl", ""])
    def test_a_name_that_none_has(self, hook: PolytomicHook, name: str) -> None:
        """The error says what it looked for, and the nearest names."""
        with pytest.raises(PolytomicLookupError) as error:
            hook.find_bulk_sync(name)
        assert f"no bulk sync is named {name!r}; the nearest names are" in str(error.value)
        assert not name or "'Orders nightly'" in str(error.value)

    def test_a_name_that_several_have(self, hook: PolytomicHook) -> None:
        """The error names their ids, one of which must be used instead."""
        with pytest.raises(PolytomicLookupError, match=r"2 bulk syncs are named 'Twice'.*id-\d, id-\d"):
            hook.find_bulk_sync("Twice")


# changing


def test_an_update_keeps_what_was_not_changed(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """What a replacement would reset is read and written back."""
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
    """The body that an update writes, when this sync was read."""
    with Server([http(200, json.dumps({"data": sync}).encode())]) as server:
        define(host=server.url)
        hook = PolytomicHook()
        getattr(hook, f"update_{kind}_sync")("s", **changes)
        hook.client.close()
        read, written = server.requests
    path = "/api/bulk/syncs/s" if kind == "bulk" else "/api/syncs/s"
    assert [(read.method, read.target), (written.method, written.target)] == [("GET", path), ("PUT", path)]
    return json.loads(written.body)  # type: ignore[no-any-return]


def test_an_update_keeps_what_nobody_knows(define: Define) -> None:
    """Fields that are newer than this package are written back, at any depth; those that the API decides are not."""
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
def test_an_update_writes_back_values_of_unexpected_types(define: Define, kind: str) -> None:
    """A model has None for such a value; written back, that would reset the field."""
    odd = {"mode": 5, "policies": ["p", None, {"id": "q"}], "active": 2, "name": {"en": "n"}, "schedule": [1]}
    assert update(define, {"id": "s", **odd}, kind, name="n") == {**odd, "name": "n"}


def test_schedules_that_were_read_can_be_written_back(define: Define) -> None:
    """Who and when, which only the API decides, is left out of them."""
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
def test_an_update_in_one_shape_leaves_the_other_out(
    define: Define, changes: dict[str, Any], written: dict[str, Any]
) -> None:
    """The API answers some things in an old and a new shape, and takes the new one, or refuses two that differ."""
    sync = {"id": "s", "model_ids": ["m"], "problems": [], "identity": 1, "identities": [1], **FILTERS}
    assert update(define, sync, "model", **changes) == written


# starting


def test_a_start_is_refused_at_once_when_another_runs(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """One request, and the error."""
    hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    with pytest.raises(PolytomicConflictError):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    assert len(polytomic_sandbox.requests) == 2


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
def test_a_start_without_an_answer_starts_once(hook: PolytomicHook, polytomic_sandbox: Sandbox, fault: str) -> None:
    """It is asked for again with the same key, and what comes back is what was started."""
    getattr(polytomic_sandbox.faults, fault)(START)
    started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    assert [execution.id for execution in polytomic_sandbox.starts(SALESFORCE_TO_WAREHOUSE)] == [started.id]
    first, second = polytomic_sandbox.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_a_start_with_an_answer_of_a_gateway_starts_once(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """A 502 page says nothing about whether it was started."""
    polytomic_sandbox.faults.status(502, START, body="<html>bad gateway</html>", processed=True)
    started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    assert [execution.id for execution in polytomic_sandbox.starts(SALESFORCE_TO_WAREHOUSE)] == [started.id]


def test_each_start_has_a_key_of_its_own(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """Unless one is given: then a second start gives back what the first has started."""
    for sync_id in (SALESFORCE_TO_WAREHOUSE, POSTGRES_TO_WAREHOUSE):
        hook.start_bulk_sync(sync_id)
    first, second = (request.headers["idempotency-key"] for request in polytomic_sandbox.requests)
    assert first != second
    one = hook.start_model_sync(WAREHOUSE_TO_SALESFORCE, idempotency_key="the-same-key")
    two = hook.start_model_sync(WAREHOUSE_TO_SALESFORCE, idempotency_key="the-same-key")
    assert one == two
    assert len(polytomic_sandbox.starts(WAREHOUSE_TO_SALESFORCE)) == 1


@pytest.mark.parametrize("key", ["short", "with spaces in it", "a" * 256, "new\r\nline: 1"])
def test_a_key_that_the_api_would_refuse(hook: PolytomicHook, polytomic_sandbox: Sandbox, key: str) -> None:
    """Nothing is sent."""
    with pytest.raises(ValueError, match="idempotency_key must be 8 to 255"):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE, idempotency_key=key)
    assert polytomic_sandbox.requests == []


def test_a_start_without_retries_gives_up_at_once(polytomic_sandbox: Sandbox) -> None:
    """Its outcome is unknown, and the error says so."""
    polytomic_sandbox.faults.drop_after(START)
    hook = PolytomicHook(max_retries=0)
    with pytest.raises(PolytomicUnreachableError, match="Could not confirm whether the start succeeded"):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)


def test_a_start_that_is_refused(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """The API's own word is final."""
    with pytest.raises(PolytomicValidationError, match="the sync has no nonsense"):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE, schemas=["nonsense"])
    with pytest.raises(ValueError, match="exclude each other"):
        hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE, test=True, resync_mode="rebuild")
    assert len(polytomic_sandbox.requests) == 1


@pytest.mark.parametrize("kind", ["bulk", "model"])
def test_a_creation_without_an_answer_creates_once(hook: PolytomicHook, polytomic_sandbox: Sandbox, kind: str) -> None:
    """It has a key, too."""
    polytomic_sandbox.faults.drop_after("POST .*/syncs")
    if kind == "bulk":
        created = hook.create_bulk_sync(**NEW_BULK).id
        assert [sync.id for sync in hook.list_bulk_syncs() if sync.name == "New"] == [created]
    else:
        created = hook.create_model_sync(**NEW_MODEL).id
        assert [sync.id for sync in hook.list_model_syncs() if sync.name == "New"] == [created]


@pytest.mark.parametrize("kind", ["bulk", "model"])
def test_a_creation_that_is_still_on_its_way_is_no_conflict(polytomic_sandbox: Sandbox, kind: str) -> None:
    """While the server works on the first request, it refuses the second; the hook asks on, and one is created."""
    polytomic_sandbox.faults.delay(1.5, "POST .*/syncs")
    hook = PolytomicHook(timeout=0.3)
    created = getattr(hook, f"create_{kind}_sync")(**(NEW_BULK if kind == "bulk" else NEW_MODEL))
    assert 409 in [request.status for request in polytomic_sandbox.requests]
    assert [sync.id for sync in getattr(hook, f"list_{kind}_syncs")() if sync.name == "New"] == [created.id]


def test_a_creation_without_retries_gives_up_at_once(polytomic_sandbox: Sandbox) -> None:
    """Its outcome is unknown, and the error says so."""
    polytomic_sandbox.faults.drop_after("POST .*/syncs")
    with pytest.raises(PolytomicUnreachableError, match="Could not confirm whether the creation succeeded"):
        PolytomicHook(max_retries=0).create_bulk_sync(**NEW_BULK)


# repeating


def test_a_call_is_repeated(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """After trouble that passes."""
    polytomic_sandbox.faults.status(503, headers={"Retry-After": "0.01"}, times=3)
    assert isinstance(hook.get_identity(), Identity)
    assert len(polytomic_sandbox.requests) == 4


@pytest.mark.parametrize(
    "call",
    [PolytomicHook.get_identity, lambda hook: hook.find_bulk_sync("New"), lambda hook: [*hook.list_bulk_syncs()]],
)
def test_a_call_is_repeated_as_often_as_the_hook_says(polytomic_sandbox: Sandbox, call: Any) -> None:
    """And no more."""
    polytomic_sandbox.faults.status(500, headers={"Retry-After": "0.01"}, times=None)
    with pytest.raises(PolytomicServerError, match="injected 500"):
        call(PolytomicHook(max_retries=2))
    assert len(polytomic_sandbox.requests) == 3


# waiting


def test_waiting_does_not_judge(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """A failed execution is returned like any other that has ended."""
    started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    polytomic_sandbox.finish(SALESFORCE_TO_WAREHOUSE, started.id, "failed", "no such table")
    ended = hook.wait_for_bulk_sync_execution(SALESFORCE_TO_WAREHOUSE, started.id)
    assert (ended.status, ended.status_message, ended.succeeded) == ("failed", "no such table", False)


class TestWaiting:
    @pytest.fixture
    def polytomic_sandbox_speed(self) -> float:
        return 0.01

    def test_has_an_end(self, hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
        """After `timeout` seconds; the execution is left running."""
        started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
        with pytest.raises(PolytomicTimeoutError, match="it is left running"):
            hook.wait_for_bulk_sync_execution(SALESFORCE_TO_WAREHOUSE, started.id, poke_interval=0.05, timeout=0.2)
        assert not any("cancel" in path for _, path in asked(polytomic_sandbox))

    @pytest.mark.parametrize("kind", ["bulk", "model"])
    @pytest.mark.parametrize("argument", [{"poke_interval": 0}, {"poke_interval": -1}, {"timeout": 0}])
    def test_needs_some_time(self, hook: PolytomicHook, kind: str, argument: dict[str, float]) -> None:
        """Zero seconds, or less, are a mistake."""
        (name,) = argument
        with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds"):
            getattr(hook, f"wait_for_{kind}_sync_execution")("s", "e", **argument)

    def test_bears_trouble(self, hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
        """Lost connections and pages of gateways do not end it."""
        started = hook.start_bulk_sync(SALESFORCE_TO_WAREHOUSE)
        polytomic_sandbox.faults.drop_before("GET .*")
        polytomic_sandbox.faults.garbage("html", "GET .*")
        polytomic_sandbox.finish(SALESFORCE_TO_WAREHOUSE, started.id)
        ended = hook.wait_for_bulk_sync_execution(SALESFORCE_TO_WAREHOUSE, started.id, poke_interval=0.01)
        assert ended.status == "completed"


# secrets


def redacted(text: str) -> str:
    """What Airflow makes of a text that goes into a log."""
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
def test_airflow_masks_the_secrets_in_all_logs(define: Define, way: str) -> None:
    """The key, the form in which HTTP Basic sends it, and the password of the proxy, wherever they come from."""
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


def test_no_secret_is_shown(define: Define, caplog: pytest.LogCaptureFixture) -> None:
    """Not by the hook, nor by its client or its settings, nor in the logs of a call."""
    define(host="http://127.0.0.1:1", login="organization", extra={"proxy": "http://me:pass-word@127.0.0.1:1"})
    hook = PolytomicHook(max_retries=0)
    with caplog.at_level(logging.DEBUG), pytest.raises(PolytomicUnreachableError) as error:
        hook.get_identity()
    shown = [repr(hook), str(hook), repr(hook.client), repr(hook.settings()), str(error.value), caplog.text]
    for secret in (KEY, "pass-word", base64.b64encode(f"organization:{KEY}".encode()).decode()):
        assert not any(secret in text for text in shown)


def test_a_certificate_that_is_not_verified_is_said_once(
    define: Define, caplog: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    """For each session, not for each call."""
    with Server([ME], tls=authority(tmp_path).context) as server:
        define(host=server.url, extra={"verify": "false"})
        hook = PolytomicHook()
        for _ in range(3):
            assert hook.get_identity().id == "me"
        hook.client.close()
    assert sum("is not verified" in record.getMessage() for record in caplog.records) == 1


# the client of triggers


def test_the_client_of_triggers(polytomic_sandbox: Sandbox, define: Define) -> None:
    """The same connection, awaited; it reads the connection again when it is told to."""

    async def ask() -> None:
        async with await PolytomicHook().async_client() as client:
            assert (await client.call(bulk_syncs.get(POSTGRES_TO_WAREHOUSE))).id == POSTGRES_TO_WAREHOUSE
            polytomic_sandbox.rotate_key("another-key")
            define(host=polytomic_sandbox.url, password="another-key")
            await client.reload_credentials()
            assert (await client.call(bulk_syncs.get(POSTGRES_TO_WAREHOUSE))).id == POSTGRES_TO_WAREHOUSE

    asyncio.run(ask())


def test_hooks_of_triggers_share_a_session(define: Define) -> None:
    """Each reads its connection; with equal settings they use one set of HTTP connections."""
    with Server([ME, replace(ME, ready=lambda server: server.connections > 1)]) as server:
        define(host=server.url)

        async def ask() -> None:
            async with await PolytomicHook().async_client() as client:
                await client.call(connections.get("c"))

        async def many() -> None:
            async with await PolytomicHook().async_client() as first:  # keeps the session while the others come and go
                await first.call(connections.get("c"))
                await asyncio.gather(*(ask() for _ in range(30)))

        asyncio.run(many())
        assert 1 < server.connections <= 10
        assert len(server.requests) == 31


def test_a_wrong_connection_is_told_before_anything_is_sent(define: Define) -> None:
    """The error names connection and field."""
    define(host="ftp://h")
    with pytest.raises(ValueError, match="connection 'polytomic_default': host must be"):
        PolytomicHook().get_identity()
    assert connection().conn_type == "polytomic"
