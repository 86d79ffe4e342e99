"""Every endpoint function over every transport, against the sandbox, and the requests that the functions build."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Generator
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from airflow_provider_polytomic.api.call import Call, fetch
from airflow_provider_polytomic.api.client import AsyncClient, Client, drive
from airflow_provider_polytomic.api.endpoints import (
    bulk_syncs,
    connections,
    events,
    identity,
    jobs,
    model_syncs,
    schedules,
)
from airflow_provider_polytomic.api.pagination import ListCall, fetch_page
from airflow_provider_polytomic.api.plan import Plan
from airflow_provider_polytomic.api.settings import Settings
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import (
    POSTGRES,
    POSTGRES_TO_WAREHOUSE,
    SALESFORCE,
    SALESFORCE_TO_WAREHOUSE,
    WAREHOUSE,
    WAREHOUSE_TO_SALESFORCE,
)
from airflow_provider_polytomic.sandbox.server import Server

MODULES: list[ModuleType] = [bulk_syncs, connections, events, identity, jobs, model_syncs, schedules]
NEW_BULK: dict[str, Any] = {
    "name": "New, and über-new",
    "source_connection_id": POSTGRES,
    "destination_connection_id": WAREHOUSE,
    "destination_configuration": {"schema": "new"},
    "default_schedule": {"frequency": "manual"},
    "mode": "replicate",
}
NEW_MODEL: dict[str, Any] = {
    "name": "New",
    "mode": "create",
    "fields": [{"target": "Name", "source": {"model_id": WAREHOUSE, "field": "name"}}],
    "schedule": {"frequency": "manual"},
    "target": {"connection_id": SALESFORCE, "object": "Lead"},
}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

CallScript = Generator[Any, Any, None]


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.25

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def all_calls() -> CallScript:
    """Yield the calls to make one after the other; a number lets time pass."""
    yield identity.get()
    yield connections.list_()
    yield connections.get(POSTGRES)
    before = yield connections.schema_cache(POSTGRES)
    yield connections.refresh_schemas(POSTGRES)
    during = yield connections.schema_cache(POSTGRES)
    assert (during.cache_status, during.last_refresh_finished) == ("refreshing", before.last_refresh_finished)
    yield 5.0
    after = yield connections.schema_cache(POSTGRES)
    assert (after.cache_status, after.last_refresh_finished > after.last_refresh_started) == ("fresh", True)
    yield from bulk_sync_calls()
    yield from schema_calls(POSTGRES_TO_WAREHOUSE)
    yield from schedule_calls(POSTGRES_TO_WAREHOUSE)
    yield from model_sync_calls()
    yield events.types()
    newest = yield events.list_(limit=3)
    yield events.list_(type="bulk_sync.completed")
    yield events.list_(starting_after=newest[-1].created_at.isoformat(), limit=100)
    yield events.list_(ending_before=newest[-1].created_at.isoformat())


def bulk_sync_calls() -> CallScript:
    yield bulk_syncs.list_(limit=1)
    yield bulk_syncs.list_(active=False)
    created = yield bulk_syncs.create(NEW_BULK, idempotency_key="created-only-once")
    again = yield bulk_syncs.create(NEW_BULK, idempotency_key="created-only-once")
    assert again.id == created.id
    yield bulk_syncs.replace(created.id, {**NEW_BULK, "name": "Renamed", "policies": [WAREHOUSE]})
    yield bulk_syncs.activate(created.id, False)
    yield bulk_syncs.list_(active=False)
    yield bulk_syncs.activate(created.id, True)
    yield bulk_syncs.get(created.id)
    yield bulk_syncs.delete(created.id)
    yield bulk_syncs.source(POSTGRES, include_fields=True)
    yield bulk_syncs.source(POSTGRES)
    yield bulk_syncs.destination(WAREHOUSE)
    sync_id = POSTGRES_TO_WAREHOUSE
    first = yield bulk_syncs.start(sync_id, schemas=["public.orders"], resync_mode="rebuild", fetch_mode="full")
    assert (first.is_partial, first.is_resync, first.output_disposition) == (True, True, "rebuild")
    yield 5.0
    yield bulk_syncs.status(sync_id)
    ended = yield bulk_syncs.executions(sync_id, only_terminal=True)
    assert ended == []
    yield bulk_syncs.status_of_many([sync_id, SALESFORCE_TO_WAREHOUSE])
    yield bulk_syncs.status_of_many(all=True)
    yield bulk_syncs.status_of_many(active=True)
    yield bulk_syncs.cancel(sync_id, first.id)
    yield 60.0
    ended = yield bulk_syncs.execution(sync_id, first.id)
    assert ended.status == "canceled"
    second = yield bulk_syncs.start(sync_id, test=True, idempotency_key="second-start")
    yield bulk_syncs.cancel_running(sync_id)
    yield 60.0
    third = yield bulk_syncs.start(sync_id)
    yield 60.0
    yield bulk_syncs.executions(sync_id, limit=1)
    listed = yield bulk_syncs.executions(sync_id, only_terminal=True, ascending=True)
    assert [item.id for item in listed] == [first.id, second.id, third.id]
    log = yield bulk_syncs.console_log(sync_id, third.id, limit=2)
    yield bulk_syncs.console_log(sync_id, third.id, after=log.entries[0].id)
    yield bulk_syncs.schema_console_log(sync_id, third.id, "public.orders", limit=1)
    yield bulk_syncs.log_files(sync_id, third.id)
    job = yield bulk_syncs.export_logs(sync_id, third.id, notify=True, idempotency_key="export-once")
    yield 1.0
    running = yield jobs.get("exportlogs", job.job_id)
    yield 1.0
    done = yield jobs.get("exportlogs", job.job_id)
    assert (job.status, running.status, done.status) == ("created", "running", "done")
    assert "signature=" in done.result["url"]


def schema_calls(sync_id: str) -> CallScript:
    listed = yield bulk_syncs.schemas(sync_id)
    assert [schema.enabled for schema in listed] == [True, True, True]
    changes: list[dict[str, Any]] = [
        {"id": "public.orders", "enabled": False},
        {"id": "public.products", "partition_key": "id"},
    ]
    patched = yield bulk_syncs.patch_schemas(sync_id, changes)
    assert [(schema.id, schema.enabled) for schema in patched] == [("public.orders", False), ("public.products", True)]
    replaced = yield bulk_syncs.replace_schema(sync_id, "public.products", {"enabled": True})
    assert replaced.partition_key is None
    schema = yield bulk_syncs.schema(sync_id, "public.orders")
    assert (schema.enabled, len(schema.fields)) == (False, 4)
    running = yield bulk_syncs.start(sync_id)
    yield bulk_syncs.cancel_schema(sync_id, "public.customers")
    yield 60.0
    ended = yield bulk_syncs.execution(sync_id, running.id)
    assert [(row.schema_id, row.status) for row in ended.schemas] == [
        ("public.customers", "canceled"),
        ("public.products", "completed"),
    ]


def schedule_calls(sync_id: str) -> CallScript:
    (default,) = yield schedules.list_(sync_id)
    assert (default.frequency, default.is_default) == ("manual", True)
    weekly = {"frequency": "weekly", "dayOfWeek": "sunday", "hour": "4", "minute": "30"}
    created = yield schedules.create(sync_id, weekly, idempotency_key="added-only-once")
    again = yield schedules.create(sync_id, weekly, idempotency_key="added-only-once")
    assert again == created
    yield schedules.replace(sync_id, default.id, {"frequency": "daily", "hour": "5"})
    got = yield schedules.get(sync_id, created.id)
    assert (got.day_of_week, got.hour, got.sync_id) == ("sunday", "4", sync_id)
    yield schedules.delete(sync_id, created.id)
    (left,) = yield schedules.list_(sync_id)
    assert (left.id, left.frequency, left.hour) == (default.id, "daily", "5")


def model_sync_calls() -> CallScript:
    yield model_syncs.list_(limit=1)
    created = yield model_syncs.create(NEW_MODEL)
    yield model_syncs.replace(created.id, {**NEW_MODEL, "sync_all_records": True})
    yield model_syncs.activate(created.id, False)
    yield model_syncs.list_(active=False, mode="create", target_connection_id=SALESFORCE)
    yield model_syncs.get(created.id)
    yield model_syncs.delete(created.id)
    yield model_syncs.schedule_options()
    sync_id = WAREHOUSE_TO_SALESFORCE
    first = yield model_syncs.start(sync_id, identities=["a@example.com"])
    yield 1.0
    yield model_syncs.status(sync_id)
    ended = yield model_syncs.executions(sync_id, only_terminal=True)
    assert ended == []
    yield model_syncs.cancel(sync_id, first.id)
    yield 60.0
    second = yield model_syncs.start(sync_id, resync=True)
    yield model_syncs.cancel_running(sync_id)
    yield 60.0
    third = yield model_syncs.start(sync_id, test=True, idempotency_key="third-start")
    yield 60.0
    yield model_syncs.execution(sync_id, third.id)
    listed = yield model_syncs.executions(sync_id, only_terminal=True, ascending=True, limit=2)
    assert [item.id for item in listed] == [first.id, second.id, third.id]
    log = yield model_syncs.console_log(sync_id, third.id, limit=2)
    yield model_syncs.console_log(sync_id, third.id, after=log.entries[0].id)
    yield model_syncs.log_index(sync_id, third.id)
    yield model_syncs.log_files(sync_id, third.id, "errors")
    yield model_syncs.source(WAREHOUSE, {"query": "SELECT 1"})
    yield model_syncs.source_fields(WAREHOUSE, {"query": "SELECT 1"})
    objects = yield model_syncs.targets(SALESFORCE)
    target = yield model_syncs.target_fields(SALESFORCE, objects[1].id, refresh=True)
    assert target.id == objects[1].id


def fetch_all_pages(call: ListCall[Any]) -> Plan[list[Any]]:
    items: list[Any] = []
    token, seen = None, set[str]()
    while True:
        page = yield from fetch_page(call, token, seen)
        items += page.items
        token = page.next_page_token
        if token is None:
            return items


def run_in_memory(sandbox: Sandbox, script: CallScript, clock: Clock) -> list[Any]:
    """Run the calls with the sandbox itself as transport."""
    results: list[Any] = []
    call = next(script)
    while True:
        if isinstance(call, float):
            clock.sleep(call)
        else:
            plan = fetch_all_pages(call) if isinstance(call, ListCall) else fetch(call)
            results.append(drive(plan, sandbox.send, sleep=clock.sleep, now=clock))
        try:
            call = script.send(results[-1])
        except StopIteration:
            return results


def run_over_requests(sandbox: Sandbox, script: CallScript, clock: Clock) -> list[Any]:
    results: list[Any] = []
    server = Server(sandbox)
    with Client(Settings(base_url=server.url, key=sandbox.key)) as client:
        call = next(script)
        while True:
            if isinstance(call, float):
                clock.sleep(call)
            else:
                results.append(list(client.iterate(call)) if isinstance(call, ListCall) else client.call(call))
            try:
                call = script.send(results[-1])
            except StopIteration:
                break
    server.close()
    return results


def run_over_aiohttp(sandbox: Sandbox, script: CallScript, clock: Clock) -> list[Any]:
    async def run(url: str) -> list[Any]:
        results: list[Any] = []
        async with AsyncClient(Settings(base_url=url, key=sandbox.key)) as client:
            call = next(script)
            while True:
                if isinstance(call, float):
                    clock.sleep(call)
                else:
                    results.append(
                        await client.run(fetch_all_pages(call) if isinstance(call, ListCall) else fetch(call))
                    )
                try:
                    call = script.send(results[-1])
                except StopIteration:
                    return results

    server = Server(sandbox)
    results = asyncio.run(run(server.url))
    server.close()
    return results


Runner = Callable[[Sandbox, CallScript, Clock], list[Any]]


def run_and_normalize(runner: Runner) -> list[Any]:
    """Return the results as plain data, with random values replaced by stable ones."""
    clock = Clock()
    results = runner(Sandbox(now=clock, sleep=clock.sleep), all_calls(), clock)
    text = json.dumps(results, default=lambda value: value.model_dump(mode="json"), ensure_ascii=False)
    seen: dict[str, str] = {}
    text = UUID.sub(lambda match: seen.setdefault(match[0], f"id {len(seen)}"), text)
    text = re.sub(r"http://(127\.0\.0\.1:\d+|sandbox\.invalid)", "http://sandbox", text)
    return json.loads(re.sub(r"signature=\w+", "signature", text))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    return run_and_normalize(run_in_memory)


@pytest.mark.parametrize("runner", [run_over_requests, run_over_aiohttp])
def test_endpoint_functions_return_the_same_over_every_transport(runner: Runner, expected: list[Any]) -> None:
    """The results of all calls, made one after the other, equal those without a network."""
    assert run_and_normalize(runner) == expected


def test_call_script_covers_every_endpoint_function() -> None:
    """Each response is read into the type that its function declares."""
    results_by_endpoint: dict[str, list[Any]] = {}

    clock = Clock()
    sandbox = Sandbox(now=clock, sleep=clock.sleep)

    def record_results(script: CallScript) -> CallScript:
        call = next(script)
        while True:
            result = yield call
            if not isinstance(call, float):
                results_by_endpoint.setdefault(f"{call.request.method} {_replace_ids(call.request.path)}", []).append(
                    result
                )
            try:
                call = script.send(result)
            except StopIteration:
                return

    run_in_memory(sandbox, record_results(all_calls()), clock)
    functions = [
        function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
    ]
    declared = {_endpoint_of(function): function.__annotations__["return"] for function in functions}
    assert len(declared) == len(functions)
    assert declared.keys() == results_by_endpoint.keys()
    for where, kind in declared.items():
        for result in results_by_endpoint[where]:
            assert _has_type(result, kind), (where, kind, result)


def _replace_ids(path: str) -> str:
    path = UUID.sub("*", path)
    return re.sub(r"(/schemas/)[^/]+|(/executions/\*/)(?!logs|consolelog|cancel|schemas)\w+", r"\1\2*", path)


def _endpoint_of(function: Callable[..., Call[Any]]) -> str:
    parameters = inspect.signature(function).parameters.values()
    required = {item.name: item for item in parameters if item.default is inspect.Parameter.empty}
    values: dict[str, Any] = {"active": True, "body": {}, "schemas": [], "schedule": {}, "job_type": "exportlogs"}
    request = function(**{name: values.get(name, POSTGRES) for name in required}).request
    return f"{request.method} {_replace_ids(request.path)}"


def _has_type(result: Any, kind: str) -> bool:
    outer, inner = re.fullmatch(r"(\w+)\[(.*)\]", kind).groups()  # type: ignore[union-attr]
    if outer == "ListCall":
        return isinstance(result, list) and all(type(item).__name__ == inner for item in result)
    if inner == "None":
        return result is None
    if inner.startswith("list["):
        return bool(result) and all(f"list[{type(item).__name__}]" == inner for item in result)
    return isinstance(result, BaseModel) and type(result).__name__ == inner


# requests


@pytest.mark.parametrize("empty", [None, False, "", [], ()])
def test_start_omits_unset_and_false_and_empty_arguments(empty: Any) -> None:
    """The body contains no defaults."""
    bulk = bulk_syncs.start("s", test=empty, resync_mode=empty, fetch_mode=empty, schemas=empty)
    model = model_syncs.start("s", test=empty, resync=empty, identities=empty, source_identities=empty)
    assert (bulk.request.json, model.request.json) == ({}, {})


def test_start_sends_the_arguments_that_are_set() -> None:
    """Names are those of the API, and sequences are sent as lists."""
    call = bulk_syncs.start(
        "s", resync_mode="rebuild", fetch_mode="full", schemas=("a", "b"), idempotency_key="12345678"
    )
    assert call.request.json == {"resync_mode": "rebuild", "fetch_mode": "full", "schemas": ["a", "b"]}
    assert call.request.idempotency_key == "12345678"
    assert bulk_syncs.start("s", test=True).request.json == {"test": True}
    assert model_syncs.start("s", test=True, resync=True, source_identities=[[{"a": 1}]]).request.json == {
        "test": True,
        "resync": True,
        "source_identities": [[{"a": 1}]],
    }


def test_start_rejects_arguments_that_exclude_each_other() -> None:
    """The error is raised before anything is sent."""
    with pytest.raises(ValueError, match="test and resync_mode exclude each other"):
        bulk_syncs.start("s", test=True, resync_mode="rebuild")
    with pytest.raises(ValueError, match="identities and source_identities exclude each other"):
        model_syncs.start("s", identities=["a"], source_identities=["b"])  # type: ignore[list-item]


@pytest.mark.parametrize("start", [bulk_syncs.start, model_syncs.start])
def test_list_arguments_reject_plain_text(start: Any) -> None:
    """The error names the argument; the text is not sent letter by letter."""
    names = {"schemas", "identities", "source_identities"} & inspect.signature(start).parameters.keys()
    assert names
    for name in names:
        with pytest.raises(ValueError, match=f"^{name} must be a list, not text: 'account'"):
            start("s", **{name: "account"})
    with pytest.raises(ValueError, match="schemas must be a list"):
        bulk_syncs.patch_schemas("s", "account")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sync_ids must be a list"):
        bulk_syncs.status_of_many("s")


@pytest.mark.parametrize("name", ["identities", "source_identities"])
def test_start_rejects_more_identities_than_the_api_accepts(name: str) -> None:
    """The limit is 1000 entries."""
    assert len(model_syncs.start("s", **{name: ["x"] * 1000}).request.json[name]) == 1000  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name} takes 1000 entries at most, not 1001"):
        model_syncs.start("s", **{name: ["x"] * 1001})  # type: ignore[arg-type]


def test_call_that_creates_or_starts_is_repeatable_only_with_an_idempotency_key() -> None:
    """Other calls have the same effect when sent twice."""
    assert bulk_syncs.cancel("s", "e").repeatable
    assert bulk_syncs.activate("s", True).repeatable
    assert not bulk_syncs.cancel_running("s").repeatable
    assert not bulk_syncs.start("s").repeatable
    assert bulk_syncs.start("s", idempotency_key="12345678").repeatable
    assert not bulk_syncs.create({}).repeatable


def test_create_and_replace_send_the_body_unchanged() -> None:
    """Null, False and empty lists have a meaning there."""
    body = {"name": "x", "active": False, "schemas": [], "policies": None}
    assert bulk_syncs.create(body).request.json == bulk_syncs.replace("s", body).request.json == body
    assert bulk_syncs.activate("s", False).request.json == {"active": False}
