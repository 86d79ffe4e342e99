"""`fresh_within`: an execution that ended shortly before is the result, and nothing is started."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.links import LINK_KEY
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE

from .conftest import DagRun, Store, Task, finish_after_polls, make_context
from .test_assets import context as make_assets_context
from .test_assets import emitted
from .test_bulk_sync_operator import Died, dying_operator, tries

SYNCS: dict[str, tuple[Any, str, str]] = {
    "bulk": (PolytomicBulkSyncOperator, SALESFORCE_TO_WAREHOUSE, "/api/bulk/syncs"),
    "model": (PolytomicModelSyncOperator, WAREHOUSE_TO_SALESFORCE, "/api/syncs"),
}
SYNC = SALESFORCE_TO_WAREHOUSE
HALF_AN_HOUR = 1800


@pytest.fixture(params=["bulk", "model"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["no store", "store"])
def store(request: pytest.FixtureRequest) -> Store | None:
    """With and without Airflow's task state store (Airflow 3.3 or newer)."""
    return Store() if request.param == "store" else None


@pytest.fixture
def polytomic_sandbox_seed() -> dict[str, Any]:
    """Syncs whose executions end only when a test ends them, with errors in the bulk sync."""
    schemas = [{"id": "account", "rows": 100}, {"id": "contact", "rows": 100, "errors": 2}, {"id": "lead", "rows": 0}]
    return {
        "bulk_syncs": [{"name": "Orders", "id": SYNC, "schemas": schemas, "duration": 1e7}],
        "model_syncs": [{"name": "Health", "id": WAREHOUSE_TO_SALESFORCE, "duration": 1e7}],
    }


def make_task(kind: str = "bulk", **arguments: Any) -> Task:
    operator, sync_id, _ = SYNCS[kind]
    more = {"allow_errors": True} if kind == "bulk" else {}
    arguments = {
        "task_id": "sync",
        "sync_id": sync_id,
        "poke_interval": 0.05,
        "fresh_within": HALF_AN_HOUR,
        **more,
        **arguments,
    }
    return Task(lambda: operator(**arguments))


def run_earlier(sandbox: Any, kind: str = "bulk", age: float = 0.0, status: str = "completed", **options: Any) -> str:
    """An execution of another client, which ended ``age`` seconds ago.

    :returns: its id.
    """
    execution = sandbox.start_foreign(SYNCS[kind][1], **options)
    sandbox.finish(execution.sync_id, execution.id, status)
    execution.ended_early_at -= age
    return str(execution.id)


def starts(sandbox: Any, kind: str = "bulk") -> list[Any]:
    """The requests that start an execution."""
    _, sync_id, syncs = SYNCS[kind]
    path = f"{syncs}/{sync_id}/executions"
    return [request for request in list(sandbox.requests) if (request.method, request.path) == ("POST", path)]


def run_to_its_own_end(sandbox: Any, task: Task, context: Any = None, status: str = "completed") -> Any:
    """Run a task that starts an execution, and end that execution."""
    before = len(sandbox.starts(SYNC))

    def finish() -> None:
        while len(sandbox.starts(SYNC)) == before:
            time.sleep(0.01)
        sandbox.finish(SYNC, sandbox.starts(SYNC)[-1].id, status)

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()
    try:
        return task.run(context)
    finally:
        thread.join(60)


# --- what counts


@pytest.mark.parametrize("fresh_within", [HALF_AN_HOUR, timedelta(minutes=30), "1800"], ids=str)
def test_fresh_execution_is_the_result_and_nothing_is_started(
    polytomic_sandbox: Any, kind: str, deferrable: bool, fresh_within: Any
) -> None:
    """The summary says that it is adopted, and the link leads to it."""
    earlier = run_earlier(polytomic_sandbox, kind, age=1700)
    context = make_context()

    task = make_task(kind, deferrable=deferrable, fresh_within=fresh_within)

    assert task.run(context) == earlier
    assert starts(polytomic_sandbox, kind) == []
    assert task.deferrals == []
    summary = context["ti"].summary
    assert (summary["execution_id"], summary["status"], summary["adopted"]) == (earlier, "completed", True)
    assert LINK_KEY in dict(context["ti"].xcoms)


@pytest.mark.parametrize("fresh_within", [None, "", "None"])
def test_ended_execution_is_never_the_result_by_default(
    polytomic_sandbox: Any, deferrable: bool, fresh_within: Any
) -> None:
    """Without a value, also a rendered one, the task starts its own."""
    earlier = run_earlier(polytomic_sandbox)

    returned = run_to_its_own_end(polytomic_sandbox, make_task(deferrable=deferrable, fresh_within=fresh_within))

    assert returned != earlier


def test_execution_that_ended_earlier_is_not_fresh(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The age counts from its end."""
    earlier = run_earlier(polytomic_sandbox, age=HALF_AN_HOUR + 1)

    assert run_to_its_own_end(polytomic_sandbox, make_task(deferrable=deferrable)) != earlier


@pytest.mark.parametrize("skew", [-7200, 7200])
def test_age_of_an_execution_is_measured_by_the_clock_of_the_server(polytomic_sandbox: Any, skew: float) -> None:
    """A wrong clock of this machine makes no old result fresh, and no fresh one old."""
    polytomic_sandbox.faults.skew(skew)
    earlier = run_earlier(polytomic_sandbox, age=1700)

    assert make_task().run() == earlier

    polytomic_sandbox.starts(SYNC)[0].ended_early_at -= 200
    assert run_to_its_own_end(polytomic_sandbox, make_task(), make_context(run_id="another_run")) != earlier


def test_no_execution_is_fresh_when_the_server_does_not_say_the_time(polytomic_sandbox: Any) -> None:
    """Without `Date` headers, an age could only be guessed."""
    earlier = run_earlier(polytomic_sandbox)
    polytomic_sandbox.faults.omit_date()

    assert run_to_its_own_end(polytomic_sandbox, make_task()) != earlier


@pytest.mark.parametrize(
    ("earlier_options", "options", "adopted"),
    [
        ({}, {}, True),
        ({}, {"schemas": ["account"]}, True),
        ({"schemas": ["account"]}, {"schemas": ["account"]}, True),
        ({"schemas": ["account"]}, {}, False),
        ({"schemas": ["account"]}, {"schemas": ["account", "contact"]}, False),
        ({"test": True}, {}, False),
        ({"test": True}, {"test": True}, True),
        ({"resync_mode": "rebuild"}, {}, False),
        ({"resync_mode": "rebuild"}, {"resync_mode": "rebuild"}, True),
        ({"resync_mode": "resync"}, {"resync_mode": "rebuild"}, False),
        ({"fetch_mode": "full"}, {}, False),
    ],
)
def test_fresh_execution_counts_only_when_it_does_at_least_what_is_requested(
    polytomic_sandbox: Any, earlier_options: Any, options: Any, adopted: bool
) -> None:
    """The rule is that of `if_running="attach"`."""
    earlier = run_earlier(polytomic_sandbox, **earlier_options)
    task = make_task(**options)

    returned = task.run() if adopted else run_to_its_own_end(polytomic_sandbox, task)

    assert (returned == earlier) == adopted


@pytest.mark.parametrize("options", [{"resync": True}, {"identities": ["a@example.com"]}], ids=str)
def test_model_sync_task_with_arguments_starts_its_own_execution(polytomic_sandbox: Any, options: Any) -> None:
    """The API does not return the arguments of an execution of a model sync."""
    run_earlier(polytomic_sandbox, "model")

    make_task("model", wait_for_completion=False, **options).run()

    assert len(starts(polytomic_sandbox, "model")) == 1


@pytest.mark.parametrize(
    ("status", "criteria", "adopted"),
    [
        ("completed", {"allow_errors": False}, False),
        ("completed", {"allow_errors": 2}, True),
        ("completed", {"allow_errors": 1}, False),
        ("completed", {"allow_errors": 0.01}, True),
        ("completed", {"min_records": 200}, True),
        ("completed", {"min_records": 201}, False),
        ("errors", {}, True),
        ("failed", {}, False),
        ("canceled", {}, False),
        ("interrupted", {}, False),
    ],
)
def test_fresh_execution_counts_only_when_it_is_a_success_by_the_criteria_of_the_task(
    polytomic_sandbox: Any, status: str, criteria: dict[str, Any], adopted: bool
) -> None:
    """`allow_errors` and `min_records` decide, as for an execution of the task's own."""
    earlier = run_earlier(polytomic_sandbox, status=status)
    task = make_task(**criteria)

    if adopted:
        assert task.run() == earlier
    else:
        with pytest.raises(PolytomicSyncError):
            run_to_its_own_end(polytomic_sandbox, task, status="failed")


def test_fresh_execution_is_found_behind_newer_ones_that_do_not_count(polytomic_sandbox: Any) -> None:
    """A test run, a partial one, and a failed one came after it."""
    earlier = run_earlier(polytomic_sandbox)
    for number in range(3):
        run_earlier(polytomic_sandbox, test=True)
        run_earlier(polytomic_sandbox, schemas=["lead"])
        if number:
            run_earlier(polytomic_sandbox, status="failed")

    assert make_task().run() == earlier
    assert starts(polytomic_sandbox) == []


@pytest.mark.parametrize("policy", ["wait", "attach", "fail", "skip", "cancel"])
def test_fresh_execution_is_the_result_while_another_one_is_running(polytomic_sandbox: Any, policy: str) -> None:
    """The task neither waits for the running one nor cancels it."""
    earlier = run_earlier(polytomic_sandbox)
    running = polytomic_sandbox.start_foreign(SYNC)

    assert make_task(if_running=policy).run() == earlier
    assert polytomic_sandbox.status(running.id) == "created"


def test_task_that_does_not_wait_returns_the_fresh_execution(polytomic_sandbox: Any, kind: str) -> None:
    """Nothing is started."""
    earlier = run_earlier(polytomic_sandbox, kind)

    assert make_task(kind, wait_for_completion=False).run() == earlier
    assert starts(polytomic_sandbox, kind) == []


# --- several tasks


def test_forty_tasks_that_need_fresh_data_cause_one_execution(polytomic_sandbox: Any) -> None:
    """One starts it, some wait for its end and find it fresh, and the rest find it fresh at once."""
    results: list[str] = []

    def work(number: int) -> None:
        results.append(make_task().run(make_context(dag_id=f"dag_{number}")))

    def requests(method: str) -> int:
        path = f"/api/bulk/syncs/{SYNC}/executions"
        return sum((request.method, request.path) == (method, path) for request in polytomic_sandbox.requests)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(40)]
    threads[0].start()
    while not polytomic_sandbox.starts(SYNC):
        time.sleep(0.01)
    for thread in threads[1:20]:
        thread.start()
    while requests("GET") < 20:  # each of them has seen the execution, and waits for it
        time.sleep(0.01)
    (execution,) = polytomic_sandbox.starts(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id)
    for thread in threads[20:]:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert results == [execution.id] * 40
    assert requests("POST") == 1


def test_task_whose_start_meets_a_concurrent_one_adopts_its_execution(
    polytomic_sandbox: Any, kind: str, deferrable: bool
) -> None:
    """Both have seen an empty list. The second start conflicts, waits for the first one's end, and finds it fresh."""
    _, sync_id, syncs = SYNCS[kind]
    path = f"{syncs}/{sync_id}/executions"
    polytomic_sandbox.faults.meanwhile(lambda: polytomic_sandbox.start_foreign(sync_id), f"GET {path}")
    task = make_task(kind, deferrable=deferrable)
    ended: list[Any] = []

    def finish() -> None:
        while not polytomic_sandbox.starts(sync_id):
            time.sleep(0.01)
        ended.append(polytomic_sandbox.starts(sync_id)[0])
        with finish_after_polls(polytomic_sandbox, ended[0], 2):
            pass

    thread = threading.Thread(target=finish, daemon=True)
    thread.start()

    returned = task.run()

    assert returned == ended[0].id
    assert len(starts(polytomic_sandbox, kind)) == 1
    assert len(polytomic_sandbox.starts(sync_id)) == 1


# --- retries and clears


def test_retry_resumes_its_own_execution_before_a_fresh_one(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """Its own is not adopted, and its asset events are emitted."""
    task = make_task(deferrable=deferrable, retries=2)
    with pytest.raises(Died):
        dying_operator(task.make, "after its response").execute(tries(1, store))
    own = polytomic_sandbox.starts(SYNC)[0].id
    polytomic_sandbox.finish(SYNC, own)
    run_earlier(polytomic_sandbox)
    context = tries(2, store)

    assert task.run(context) == own
    assert context["ti"].summary["adopted"] is False


def test_retry_adopts_a_fresh_execution_after_its_own_failed(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """Nothing more is started."""
    task = make_task(deferrable=deferrable, retries=2)
    with pytest.raises(PolytomicSyncError):
        run_to_its_own_end(polytomic_sandbox, task, tries(1, store), status="failed")
    fresh = run_earlier(polytomic_sandbox)

    assert task.run(tries(2, store)) == fresh
    assert len({request.headers["idempotency-key"] for request in starts(polytomic_sandbox)}) == 1


def test_clear_of_a_successful_task_adopts_its_own_fresh_execution(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """The cleared task still asks for data of that age."""
    task = make_task(deferrable=deferrable)
    own = run_to_its_own_end(polytomic_sandbox, task, tries(1, store, max_tries=0))
    context = tries(2, store, max_tries=1)

    assert task.run(context) == own
    assert context["ti"].summary["adopted"] is True
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_clear_cancels_the_running_execution_before_it_adopts_a_fresh_one(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """No execution of the task is left behind."""
    fresh = run_earlier(polytomic_sandbox)
    task = make_task(deferrable=deferrable)
    with pytest.raises(Died):
        dying_operator(make_task(fresh_within=None).make, "after its response").execute(tries(1, store, max_tries=0))
    own = polytomic_sandbox.starts(SYNC)[1]

    assert task.run(tries(2, store, max_tries=1)) == fresh
    assert polytomic_sandbox.status(own.id) == "canceled"
    assert len(polytomic_sandbox.starts(SYNC)) == 2


def test_recreated_dag_run_adopts_the_fresh_execution_of_the_deleted_one(polytomic_sandbox: Any) -> None:
    """It is an execution of another run."""
    own = run_to_its_own_end(polytomic_sandbox, make_task())

    assert make_task().run(make_context(run=DagRun(DagRun().start_date + timedelta(hours=1)))) == own


# --- reports


def test_fresh_execution_emits_no_asset_events_and_no_lineage(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The task wrote no table. The one that started the execution has reported it."""
    operators: list[Any] = []

    def make() -> Any:
        operators.append(make_task(deferrable=deferrable).make())
        return operators[-1]

    own_context, context = make_assets_context(), make_assets_context()
    context["ti"].dag_id = "another_dag"
    run_to_its_own_end(polytomic_sandbox, make_task(deferrable=deferrable), own_context)
    assert len(emitted(own_context)) == 3

    Task(make).run(context)

    assert emitted(context) == {}
    assert operators[-1].get_openlineage_facets_on_complete(None) is None
