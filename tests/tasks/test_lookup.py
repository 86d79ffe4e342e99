"""Tasks that look up a sync or a connection by name, while the lists change."""

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
    """Two pages of each kind of sync. "Target" is on the second, saved least recently."""
    names = {"target": "Target"} | {number: f"Other {number}" for number in OTHERS}
    bulk = [{"name": name, "id": f"bulk-{sync_id}", "schemas": ["a"]} for sync_id, name in names.items()]
    model = [{"name": name, "id": f"model-{sync_id}"} for sync_id, name in names.items()]
    return {"bulk_syncs": bulk, "model_syncs": model}


@pytest.fixture(params=["bulk", "model"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["cursor", "position"])
def sandbox(request: pytest.FixtureRequest, polytomic_sandbox: Sandbox) -> Sandbox:
    """A sandbox whose page tokens are of one of the two sorts."""
    polytomic_sandbox.pages_by_position = request.param == "position"
    for kind, number in itertools.product(LISTS, OTHERS):
        polytomic_sandbox.touch(f"{kind}-{number}")
    return polytomic_sandbox


def listed(sandbox: Sandbox, kind: str) -> int:
    """How many pages of the list were requested."""
    return sum((request.method, request.path) == ("GET", LISTS[kind]) for request in sandbox.requests)


def on_first_page(sandbox: Sandbox, kind: str, change: Callable[[], object], times: int | None) -> None:
    """Have something happen after each first page of the list, so many times."""
    pages = itertools.count()
    sandbox.faults.meanwhile(
        lambda: None if next(pages) % 2 else change(), f"GET {LISTS[kind]}", times=times and 2 * times
    )


def keep_changing(sandbox: Sandbox, kind: str = "bulk") -> None:
    """Have each walk of the list miss another sync."""
    numbers = iter(OTHERS)
    on_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-{next(numbers)}"), None)


def operator(kind: str, **arguments: Any) -> Task:
    return Task(lambda: OPERATORS[kind](task_id="sync", sync_name="Target", poke_interval=0.05, **arguments))


def creation(**arguments: Any) -> Task:
    return Task(lambda: PolytomicCreateBulkSyncOperator(task_id="create", retries=3, **{**NEW, **arguments}))


# --- operators and sensors


def test_operator_finds_a_sync_that_is_saved_during_the_lookup(sandbox: Sandbox, kind: str, deferrable: bool) -> None:
    """A sync that moves to the first page after this was read is found by another walk of the list."""
    on_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-target"), 1)

    returned = operator(kind, deferrable=deferrable).run()

    assert [execution.id for execution in sandbox.starts(f"{kind}-target")] == [returned]
    assert listed(sandbox, kind) == 4


def test_operator_takes_a_sync_on_two_pages_for_one(sandbox: Sandbox, kind: str, deferrable: bool) -> None:
    """When another sync moves to the front, the last one of a page can be on the next page, too."""
    sandbox.touch(f"{kind}-target")
    for number in OTHERS[21:]:  # 49 others: the target is the last of the first page then
        sandbox.touch(f"{kind}-{number}")
    on_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-{OTHERS[0]}"), 1)

    returned = operator(kind, deferrable=deferrable).run()

    assert [execution.id for execution in sandbox.starts(f"{kind}-target")] == [returned]
    assert listed(sandbox, kind) == 2


def test_sensor_finds_a_sync_that_is_saved_during_the_lookup(sandbox: Sandbox, kind: str, deferrable: bool) -> None:
    """A sensor finds a sync that moves while the list is read, and waits for its execution."""
    execution = sandbox.start_foreign(f"{kind}-target")
    on_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-target"), 1)
    arguments: dict[str, Any] = {"sync_name": "Target", "execution_id": execution.id, "deferrable": deferrable}

    sensor = Task(lambda: SENSORS[kind](task_id="wait", poke_interval=0.05, timeout=60, **arguments))

    assert sensor.run() == execution.id
    assert listed(sandbox, kind) == 4


@pytest.mark.parametrize("task", ["operator", "sensor"])
def test_name_that_no_sync_has_is_retried(sandbox: Sandbox, kind: str, task: str, deferrable: bool) -> None:
    """The try fails with an error that Airflow retries, and the next try finds a sync that is listed by then."""
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
    assert listed(sandbox, kind) == 10


def test_name_that_several_syncs_have_is_final(sandbox: Sandbox, kind: str, deferrable: bool) -> None:
    """Two syncs of one name fail the task without a retry; the message has both ids."""
    sandbox.touch(f"{kind}-{OTHERS[0]}", name="Target")

    with pytest.raises(AirflowFailException, match=f"{kind}-target") as caught:
        operator(kind, deferrable=deferrable).run()
    assert f"{kind}-{OTHERS[0]}" in str(caught.value)


# --- creation


@pytest.mark.parametrize("if_exists", ["fail", "skip"])
def test_creation_finds_the_name_taken_by_a_sync_that_is_saved_meanwhile(sandbox: Sandbox, if_exists: str) -> None:
    """A sync that moves while the list is read keeps its name: no second one is created."""
    on_first_page(sandbox, "bulk", lambda: sandbox.touch("bulk-target"), 1)
    task = creation(name="Target", if_exists=if_exists)

    if if_exists == "skip":
        assert task.run() == "bulk-target"
    else:
        with pytest.raises(AirflowFailException, match="bulk-target"):
            task.run()
    assert "POST" not in {request.method for request in sandbox.requests}


def test_creation_takes_a_sync_on_two_pages_for_one(polytomic_sandbox: Sandbox) -> None:
    """With `if_exists="skip"` a sync that two pages list is the one that is there."""
    polytomic_sandbox.pages_by_position = True
    polytomic_sandbox.touch("bulk-target")
    for number in OTHERS[:49]:
        polytomic_sandbox.touch(f"bulk-{number}")
    on_first_page(polytomic_sandbox, "bulk", lambda: polytomic_sandbox.touch(f"bulk-{OTHERS[-1]}"), 1)

    assert creation(name="Target", if_exists="skip").run() == "bulk-target"
    assert listed(polytomic_sandbox, "bulk") == 2


@pytest.mark.parametrize("if_exists", ["fail", "skip"])
def test_creation_waits_for_a_list_that_stands_still(sandbox: Sandbox, if_exists: str) -> None:
    """While no two walks agree, nothing is created and the try fails; a retry creates the sync."""
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

    assert listed(sandbox, "bulk") == 4


def test_retry_of_a_creation_finds_its_own_sync_while_the_list_changes(sandbox: Sandbox) -> None:
    """What an earlier try created is returned by its key, also when the list does not show whether the name is free."""
    lost = sandbox.faults.drop_after(CREATE, times=None)
    with pytest.raises(PolytomicUnreachableError):
        creation(name="New").run(make_context(task_id="create", max_tries=3))
    lost.left = 0
    (sync_id,) = [sync.id for sync in PolytomicHook().list_bulk_syncs(name="New")]
    for walk in range(5):  # the sync is in none of them
        first = {"data": [{"id": f"a{walk}", "name": "A"}], "pagination": {"next_page_token": "2"}}
        sandbox.faults.status(200, f"GET {LISTS['bulk']}", body=first)
        sandbox.faults.status(200, f"GET {LISTS['bulk']}", body={"data": [{"id": "b", "name": "B"}]})

    assert creation(name="New").run(make_context(task_id="create", try_number=2, max_tries=3)) == sync_id
    assert [sync.id for sync in PolytomicHook().list_bulk_syncs(name="New")] == [sync_id]
    assert {} in [request.body for request in sandbox.requests if request.method == "POST"]


def test_retry_sends_nothing_that_could_create_while_the_list_changes(sandbox: Sandbox) -> None:
    """A key of an earlier try that was never used is used up by a request that creates nothing."""
    keep_changing(sandbox)

    with pytest.raises(PolytomicLookupError, match="Could not confirm"):
        creation(name="New").run(make_context(task_id="create", try_number=2, max_tries=3))
    assert [request.body for request in sandbox.requests if request.method == "POST"] == [{}]


def connection_pages(sandbox: Sandbox, *walks: tuple[list[tuple[str, str]], list[tuple[str, str]]]) -> None:
    """SendResult requests for connections with these pages: ids and names."""
    for first, second in walks:
        for page, token in ((first, "2"), (second, None)):
            rows = [{"id": connection_id, "name": name} for connection_id, name in page]
            body = {"data": rows, "pagination": {"next_page_token": token}}
            sandbox.faults.status(200, "GET /api/connections", body=body)


def test_creation_finds_a_connection_that_moves(polytomic_sandbox: Sandbox) -> None:
    """A connection that one walk of the list misses is found by the next."""
    other, wanted = (SALESFORCE, "Salesforce"), (WAREHOUSE, "Warehouse")
    connection_pages(polytomic_sandbox, ([other], []), ([wanted], [other]))

    sync_id = creation(name="New", destination_connection_id=None, destination_connection="Warehouse").run()

    assert PolytomicHook().get_bulk_sync(sync_id).destination_connection_id == WAREHOUSE


def test_creation_takes_a_connection_on_two_pages_for_one(polytomic_sandbox: Sandbox) -> None:
    """A connection that two pages list is one."""
    wanted = (WAREHOUSE, "Warehouse")
    connection_pages(polytomic_sandbox, ([wanted], [wanted]))

    sync_id = creation(name="New", destination_connection_id=None, destination_connection="Warehouse").run()

    assert PolytomicHook().get_bulk_sync(sync_id).destination_connection_id == WAREHOUSE


def test_connection_name_that_several_have_is_final(polytomic_sandbox: Sandbox) -> None:
    """Two connections of one name fail the task without a retry; the message has both ids."""
    pages = ([(WAREHOUSE, "Warehouse")], [("another", "Warehouse")])
    connection_pages(polytomic_sandbox, pages, pages)

    with pytest.raises(AirflowFailException, match=re.escape(f"{WAREHOUSE}, another")):
        creation(name="New", destination_connection_id=None, destination_connection="Warehouse").run()
    assert "POST" not in {request.method for request in polytomic_sandbox.requests}


# --- the hook


def test_hook_lists_each_sync_once(sandbox: Sandbox, kind: str) -> None:
    """A list that moves while it is read has no sync twice, and every sync that stays."""
    on_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-target"), 1)

    ids = [sync.id for sync in getattr(PolytomicHook(), f"list_{kind}_syncs")()]

    assert sorted(ids) == [f"{kind}-{number}" for number in OTHERS]


def test_hook_finds_a_sync_that_is_saved_during_the_lookup(sandbox: Sandbox, kind: str) -> None:
    """`find_…_sync` walks the list once more before it says that no sync has the name."""
    on_first_page(sandbox, kind, lambda: sandbox.touch(f"{kind}-target"), 1)

    assert getattr(PolytomicHook(), f"find_{kind}_sync")("Target").id == f"{kind}-target"
