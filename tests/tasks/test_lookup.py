"""Lookups of syncs and connections by name, while the lists change."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic.api.errors import PolytomicLookupError, PolytomicUnreachableError
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE, WAREHOUSE
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor

from .conftest import Task, make_context

LISTS = {"bulk": "/api/bulk/syncs", "model": "/api/syncs"}
OPERATORS: dict[str, Any] = {"bulk": PolytomicBulkSyncOperator, "model": PolytomicModelSyncOperator}
SENSORS: dict[str, Any] = {"bulk": PolytomicBulkSyncSensor, "model": PolytomicModelSyncSensor}
OTHERS = [f"{number:03}" for number in range(70)]  # with the target, two pages
CREATE = "POST /api/bulk/syncs"
NEW: dict[str, Any] = {
    "mode": "replicate",
    "default_schedule": {"frequency": "manual"},
    "destination_configuration": {"schema": "new"},
    "source_connection_id": SALESFORCE,
    "destination_connection_id": WAREHOUSE,
}


@pytest.fixture
def polytomic_sandbox_seed() -> dict[str, Any]:
    """Two pages of each kind of sync. "Target" is on the second page, because it was saved least recently."""
    names = {"target": "Target"} | {number: f"Other {number}" for number in OTHERS}
    bulk = [{"name": name, "id": f"bulk-{sync_id}", "schemas": ["a"]} for sync_id, name in names.items()]
    model = [{"name": name, "id": f"model-{sync_id}"} for sync_id, name in names.items()]
    return {"bulk_syncs": bulk, "model_syncs": model}


@pytest.fixture(params=["bulk", "model"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["cursor", "position"])
def sandbox(request: pytest.FixtureRequest, polytomic_sandbox: Sandbox) -> Sandbox:
    """A sandbox with each kind of page token."""
    polytomic_sandbox.pages_by_position = request.param == "position"
    for kind, number in itertools.product(LISTS, OTHERS):
        polytomic_sandbox.touch(f"{kind}-{number}")
    return polytomic_sandbox


def list_requests(sandbox: Sandbox, kind: str) -> int:
    """How many pages of the list were requested."""
    return sum((request.method, request.path) == ("GET", LISTS[kind]) for request in sandbox.requests)


def after_each_first_page(sandbox: Sandbox, kind: str, change: Callable[[], object], times: int | None) -> None:
    """Run ``change`` after each request of the first page of the list, up to ``times`` times."""
    pages = itertools.count()
    sandbox.faults.meanwhile(
        lambda: None if next(pages) % 2 else change(), f"GET {LISTS[kind]}", times=times and 2 * times
    )


def keep_changing(sandbox: Sandbox, kind: str = "bulk") -> None:
    """Make each walk of the list miss another sync."""
    numbers = iter(OTHERS)
    after_each_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-{next(numbers)}"), None)


def operator(kind: str, **arguments: Any) -> Task:
    return Task(lambda: OPERATORS[kind](task_id="sync", sync_name="Target", poke_interval=0.05, **arguments))


def creation(**arguments: Any) -> Task:
    return Task(lambda: PolytomicCreateBulkSyncOperator(task_id="create", retries=3, **{**NEW, **arguments}))


# --- operators and sensors


def test_operator_finds_a_sync_that_is_saved_during_the_lookup(sandbox: Sandbox, kind: str, deferrable: bool) -> None:
    """A sync that moves to the first page after that page was read is found by the next walk of the list."""
    after_each_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-target"), 1)

    returned = operator(kind, deferrable=deferrable).run()

    assert [execution.id for execution in sandbox.starts(f"{kind}-target")] == [returned]
    assert list_requests(sandbox, kind) == 4


def test_operator_counts_a_sync_listed_on_two_pages_once(sandbox: Sandbox, kind: str, deferrable: bool) -> None:
    """When another sync moves to the front, the last sync of a page can appear on the next page as well."""
    sandbox.touch(f"{kind}-target")
    for number in OTHERS[21:]:  # 49 others, so that the target is the last sync of the first page
        sandbox.touch(f"{kind}-{number}")
    after_each_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-{OTHERS[0]}"), 1)

    returned = operator(kind, deferrable=deferrable).run()

    assert [execution.id for execution in sandbox.starts(f"{kind}-target")] == [returned]
    assert list_requests(sandbox, kind) == 2


def test_sensor_finds_a_sync_that_is_saved_during_the_lookup(sandbox: Sandbox, kind: str, deferrable: bool) -> None:
    """A sensor finds a sync that moves while the list is read, and waits for its execution."""
    execution = sandbox.start_foreign(f"{kind}-target")
    after_each_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-target"), 1)
    arguments: dict[str, Any] = {"sync_name": "Target", "execution_id": execution.id, "deferrable": deferrable}

    sensor = Task(lambda: SENSORS[kind](task_id="wait", poke_interval=0.05, timeout=60, **arguments))

    assert sensor.run() == execution.id
    assert list_requests(sandbox, kind) == 4


@pytest.mark.parametrize("task", ["operator", "sensor"])
def test_lookup_of_an_unknown_name_is_retried(sandbox: Sandbox, kind: str, task: str, deferrable: bool) -> None:
    """The try fails with an error that Airflow retries, and the next try finds a sync that was created since."""
    sandbox.touch(f"{kind}-target", name="Not yet")
    arguments: dict[str, Any] = {"sync_name": "Target", "deferrable": deferrable, "retries": 1}
    make = (OPERATORS if task == "operator" else SENSORS)[kind]

    with pytest.raises(PolytomicLookupError, match=f"no {kind} sync is named 'Target'"):
        Task(lambda: make(task_id="sync", poke_interval=0.05, **arguments)).run(make_context(max_tries=1))
    assert sandbox.starts(f"{kind}-target") == []

    sandbox.touch(f"{kind}-target", name="Target")
    if task == "sensor":
        arguments["execution_id"] = sandbox.start_foreign(f"{kind}-target").id
    returned = Task(lambda: make(task_id="sync", poke_interval=0.05, **arguments)).run(
        make_context(try_number=2, max_tries=1)
    )
    assert [execution.id for execution in sandbox.starts(f"{kind}-target")] == [returned]


def test_lookup_error_says_that_the_list_kept_changing(sandbox: Sandbox, kind: str, deferrable: bool) -> None:
    """When no two walks of the list agree, the try fails after five and says that the sync may have been missed."""
    sandbox.touch(f"{kind}-target", name="Not yet")
    keep_changing(sandbox, kind)

    with pytest.raises(PolytomicLookupError, match=r"may have been missed: the list changed during each of 5 walks"):
        operator(kind, deferrable=deferrable).run()
    assert list_requests(sandbox, kind) == 10


def test_lookup_of_an_ambiguous_name_fails_without_retries(sandbox: Sandbox, kind: str, deferrable: bool) -> None:
    """Two syncs of the same name fail the task. The message lists both ids."""
    sandbox.touch(f"{kind}-{OTHERS[0]}", name="Target")

    with pytest.raises(AirflowFailException, match=f"{kind}-target") as caught:
        operator(kind, deferrable=deferrable).run()
    assert f"{kind}-{OTHERS[0]}" in str(caught.value)


# --- creation


@pytest.mark.parametrize("if_exists", ["fail", "skip"])
def test_creation_finds_an_existing_sync_that_is_saved_during_the_lookup(sandbox: Sandbox, if_exists: str) -> None:
    """A sync that moves while the list is read keeps its name: no second sync is created."""
    after_each_first_page(sandbox, "bulk", lambda: sandbox.touch("bulk-target"), 1)
    task = creation(name="Target", if_exists=if_exists)

    if if_exists == "skip":
        assert task.run() == "bulk-target"
    else:
        with pytest.raises(AirflowFailException, match="bulk-target"):
            task.run()
    assert "POST" not in {request.method for request in sandbox.requests}


def test_creation_counts_a_sync_listed_on_two_pages_once(polytomic_sandbox: Sandbox) -> None:
    """With `if_exists="skip"` a sync that two pages list is the existing one."""
    polytomic_sandbox.pages_by_position = True
    polytomic_sandbox.touch("bulk-target")
    for number in OTHERS[:49]:
        polytomic_sandbox.touch(f"bulk-{number}")
    after_each_first_page(polytomic_sandbox, "bulk", lambda: polytomic_sandbox.touch(f"bulk-{OTHERS[-1]}"), 1)

    assert creation(name="Target", if_exists="skip").run() == "bulk-target"
    assert list_requests(polytomic_sandbox, "bulk") == 2


@pytest.mark.parametrize("if_exists", ["fail", "skip"])
def test_creation_fails_while_the_list_keeps_changing(sandbox: Sandbox, if_exists: str) -> None:
    """While no two walks agree, nothing is created and the try fails. A retry creates the sync."""
    keep_changing(sandbox)
    task = creation(name="New", if_exists=if_exists)

    with pytest.raises(PolytomicLookupError, match="Could not confirm that no bulk sync is named 'New'"):
        task.run(make_context(task_id="create", max_tries=3))
    assert "POST" not in {request.method for request in sandbox.requests}

    sandbox.faults.clear()
    returned = task.run(make_context(task_id="create", try_number=2, max_tries=3))
    assert [sync.id for sync in PolytomicHook().list_bulk_syncs(name="New")] == [returned]


def test_creation_with_a_free_name_walks_a_long_list_twice(sandbox: Sandbox) -> None:
    """Two walks that agree show that the name is free."""
    creation(name="New").run()

    assert list_requests(sandbox, "bulk") == 4


def test_retry_of_a_creation_finds_its_own_sync_while_the_list_changes(sandbox: Sandbox) -> None:
    """The sync of an earlier try is found by its idempotency key, also when no two walks of the list agree."""
    lost = sandbox.faults.drop_after(CREATE, times=None)
    with pytest.raises(PolytomicUnreachableError):
        creation(name="New").run(make_context(task_id="create", max_tries=3))
    lost.left = 0
    (sync_id,) = [sync.id for sync in PolytomicHook().list_bulk_syncs(name="New")]
    for walk in range(5):  # none of them lists the sync
        first = {"data": [{"id": f"a{walk}", "name": "A"}], "pagination": {"next_page_token": "2"}}
        sandbox.faults.status(200, f"GET {LISTS['bulk']}", body=first)
        sandbox.faults.status(200, f"GET {LISTS['bulk']}", body={"data": [{"id": "b", "name": "B"}]})

    assert creation(name="New").run(make_context(task_id="create", try_number=2, max_tries=3)) == sync_id
    assert [sync.id for sync in PolytomicHook().list_bulk_syncs(name="New")] == [sync_id]
    assert {} in [request.body for request in sandbox.requests if request.method == "POST"]


def test_retry_of_a_creation_creates_nothing_while_the_list_changes(sandbox: Sandbox) -> None:
    """An unused key of an earlier try is used up by a request that creates nothing."""
    keep_changing(sandbox)

    with pytest.raises(PolytomicLookupError, match="Could not confirm"):
        creation(name="New").run(make_context(task_id="create", try_number=2, max_tries=3))
    assert [request.body for request in sandbox.requests if request.method == "POST"] == [{}]


def return_connection_pages(sandbox: Sandbox, *walks: tuple[list[tuple[str, str]], list[tuple[str, str]]]) -> None:
    """Answer requests for connections with these pages of ids and names."""
    for first, second in walks:
        for page, token in ((first, "2"), (second, None)):
            rows = [{"id": connection_id, "name": name} for connection_id, name in page]
            body = {"data": rows, "pagination": {"next_page_token": token}}
            sandbox.faults.status(200, "GET /api/connections", body=body)


def test_creation_finds_a_connection_that_moves_during_the_lookup(polytomic_sandbox: Sandbox) -> None:
    """A connection that one walk of the list misses is found by the next."""
    other, wanted = (SALESFORCE, "Salesforce"), (WAREHOUSE, "Warehouse")
    return_connection_pages(polytomic_sandbox, ([other], []), ([wanted], [other]))

    sync_id = creation(name="New", destination_connection_id=None, destination_connection="Warehouse").run()

    assert PolytomicHook().get_bulk_sync(sync_id).destination_connection_id == WAREHOUSE


def test_creation_counts_a_connection_listed_on_two_pages_once(polytomic_sandbox: Sandbox) -> None:
    """A connection that two pages list is one connection."""
    wanted = (WAREHOUSE, "Warehouse")
    return_connection_pages(polytomic_sandbox, ([wanted], [wanted]))

    sync_id = creation(name="New", destination_connection_id=None, destination_connection="Warehouse").run()

    assert PolytomicHook().get_bulk_sync(sync_id).destination_connection_id == WAREHOUSE


def test_creation_fails_without_retries_when_a_connection_name_is_ambiguous(polytomic_sandbox: Sandbox) -> None:
    """Two connections of the same name fail the task. The message lists both ids."""
    pages = ([(WAREHOUSE, "Warehouse")], [("another", "Warehouse")])
    return_connection_pages(polytomic_sandbox, pages, pages)

    with pytest.raises(AirflowFailException, match=re.escape(f"{WAREHOUSE}, another")):
        creation(name="New", destination_connection_id=None, destination_connection="Warehouse").run()
    assert "POST" not in {request.method for request in polytomic_sandbox.requests}


# --- the hook


def test_hook_lists_each_sync_once_while_the_list_changes(sandbox: Sandbox, kind: str) -> None:
    """A list that changes while it is read repeats no sync, and has every sync that did not move."""
    after_each_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-target"), 1)

    ids = [sync.id for sync in getattr(PolytomicHook(), f"list_{kind}_syncs")()]

    assert sorted(ids) == [f"{kind}-{number}" for number in OTHERS]


def test_hook_finds_a_sync_that_is_saved_during_the_lookup(sandbox: Sandbox, kind: str) -> None:
    """`find_…_sync` walks the list once more before it reports that no sync has the name."""
    after_each_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-target"), 1)

    assert getattr(PolytomicHook(), f"find_{kind}_sync")("Target").id == f"{kind}-target"
