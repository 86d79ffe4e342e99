"""Starts in adverse conditions: server errors with an effect, lagging lists, deadlines, edited DAGs, wide syncs."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_polytomic import assets
from airflow_provider_polytomic._airflow import compat
from airflow_provider_polytomic._airflow.compat import AirflowFailException, AirflowSkipException
from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import PolytomicConflictError, PolytomicTimeoutError
from airflow_provider_polytomic.api.events.poll import list_ended_since
from airflow_provider_polytomic.api.executions.start_request import StoredStart, first_try_since_clear
from airflow_provider_polytomic.api.kinds import SYNC_KINDS
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor

from .conftest import DagRun, Store, Task, make_context
from .test_assets import context as make_assets_context
from .test_assets import emitted
from .test_bulk_sync_operator import Died, dying_operator, tries

SYNCS: dict[str, tuple[Any, str, str]] = {
    "bulk": (PolytomicBulkSyncOperator, SALESFORCE_TO_WAREHOUSE, "/api/bulk/syncs"),
    "model": (PolytomicModelSyncOperator, WAREHOUSE_TO_SALESFORCE, "/api/syncs"),
}
SYNC = SALESFORCE_TO_WAREHOUSE
EXECUTIONS = f"/api/bulk/syncs/{SYNC}/executions"


def make_task(kind: str = "bulk", **arguments: Any) -> Task:
    operator, sync_id, _ = SYNCS[kind]
    arguments = {"task_id": "sync", "sync_id": sync_id, "poke_interval": 0.05, **arguments}
    return Task(lambda: operator(**arguments))


@pytest.fixture(params=["bulk", "model"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def requests_of(sandbox: Any, method: str, path: str) -> list[Any]:
    return [request for request in sandbox.requests if request.method == method and request.path == path]


# --- recorded server errors


@pytest.mark.parametrize("dated", [True, False], ids=["Date", "no Date"])
def test_start_returns_the_execution_that_a_recorded_server_error_has_started(
    polytomic_sandbox: Any, kind: str, deferrable: bool, dated: bool
) -> None:
    """A start with a recorded 5xx that has started an execution is found, and is the task's own."""
    _, sync_id, syncs = SYNCS[kind]
    polytomic_sandbox.faults.status(500, f"POST {syncs}/{sync_id}/executions", recorded=True, processed=True)
    if not dated:
        polytomic_sandbox.faults.omit_date()

    returned = make_task(kind, deferrable=deferrable).run()

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(sync_id)]


def test_start_finds_the_effect_of_a_server_error_when_the_clocks_differ(polytomic_sandbox: Any) -> None:
    """The execution of a failed start is recognized by the server's clock, two hours behind this machine's."""
    polytomic_sandbox.faults.skew(-7200)
    polytomic_sandbox.faults.status(500, f"POST {EXECUTIONS}", recorded=True, processed=True)

    returned = make_task().run()

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


@pytest.mark.parametrize("polytomic_sandbox_speed", [1.0])
def test_start_ignores_an_equal_execution_that_began_after_its_server_error(polytomic_sandbox: Any) -> None:
    """A foreign execution that starts after a recorded 5xx is not the task's own."""
    fault = polytomic_sandbox.faults.status(500, f"POST {EXECUTIONS}", recorded=True)
    foreign: list[Any] = []
    handle = polytomic_sandbox.handle

    def start_foreign_after_the_error(method: str, *arguments: Any) -> Any:
        if method == "GET" and fault.hits and not foreign:
            time.sleep(0.2)  # more than the precision to which the server's clock can be known
            foreign.append(polytomic_sandbox.start_foreign(SYNC))
            polytomic_sandbox.finish(SYNC, foreign[0].id)
        return handle(method, *arguments)

    polytomic_sandbox.handle = start_foreign_after_the_error

    returned = make_task(wait_for_completion=False).run()

    assert foreign
    assert returned != foreign[0].id


# --- lagging lists


@pytest.fixture
def lagging_sandbox(polytomic_sandbox: Any) -> Any:
    """A sandbox whose lists show an execution one second after its start. A foreign execution is running."""
    polytomic_sandbox.faults.lag(1)
    polytomic_sandbox.start_foreign(SYNC)
    return polytomic_sandbox


slow = pytest.mark.parametrize("polytomic_sandbox_speed", [5.0])


@slow
@pytest.mark.parametrize("policy", ["wait", "cancel", "attach"])
def test_start_waits_until_the_list_shows_the_blocking_execution(
    lagging_sandbox: Any, deferrable: bool, policy: str
) -> None:
    """After a 409 that the list does not explain, `if_running` applies when the list shows the execution."""
    foreign = lagging_sandbox.starts(SYNC)[0]

    returned = make_task(if_running=policy, deferrable=deferrable).run()

    assert (returned == foreign.id) == (policy == "attach")
    assert len(requests_of(lagging_sandbox, "POST", EXECUTIONS)) == {"attach": 1}.get(policy, 2)


@slow
def test_start_fails_on_a_conflict_without_a_list_when_if_running_is_fail(lagging_sandbox: Any) -> None:
    """The 409 says that an execution is running."""
    with pytest.raises(PolytomicConflictError, match="Nothing was started"):
        make_task(if_running="fail").run()


@slow
def test_start_skips_on_a_conflict_without_a_list_when_if_running_is_skip(lagging_sandbox: Any) -> None:
    """The 409 says that an execution is running."""
    with pytest.raises(AirflowSkipException, match=r"another execution of bulk sync .* is running"):
        make_task(if_running="skip").run()


# --- attaching


@pytest.mark.parametrize(
    ("foreign_options", "options", "adopted"),
    [
        ({"resync_mode": "refetch"}, {"resync_mode": "rebuild"}, False),
        ({"resync_mode": "resync"}, {"resync_mode": "refetch"}, False),
        ({"resync_mode": "rebuild"}, {}, False),
        ({"resync_mode": "rebuild"}, {"resync_mode": "rebuild"}, True),
        ({"resync_mode": "refetch"}, {"resync_mode": "refetch"}, True),
        ({}, {"schemas": ["account"]}, True),
    ],
)
def test_attach_adopts_an_execution_only_when_its_options_match(
    polytomic_sandbox: Any, foreign_options: Any, options: Any, adopted: bool
) -> None:
    """The resync modes have to be equal, and the execution has to include all schemas that the task names."""
    foreign = polytomic_sandbox.start_foreign(SYNC, **foreign_options)

    returned = make_task(if_running="attach", **options).run()

    assert (returned == foreign.id) == adopted


class TestDisabledSchema:
    """One schema of the sync is disabled."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas = [{"id": "orders"}, {"id": "archive", "enabled": False}]
        return {"bulk_syncs": [{"name": "Orders", "id": SYNC, "schemas": schemas, "duration": 10}]}

    def test_attach_does_not_adopt_a_full_execution_when_the_task_names_a_disabled_schema(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """A full execution leaves out disabled schemas, so the task starts its own."""
        foreign = polytomic_sandbox.start_foreign(SYNC)

        returned = make_task(if_running="attach", schemas=["archive"], deferrable=deferrable).run()

        assert returned != foreign.id


# --- deadlines


def test_start_is_not_sent_after_the_deadline_when_responses_are_slow(
    polytomic_sandbox: Any, kind: str, deferrable: bool
) -> None:
    """An execution that would have to be canceled immediately is not started."""
    _, sync_id, syncs = SYNCS[kind]
    polytomic_sandbox.faults.delay(0.3, f"GET {syncs}/{sync_id}/executions", times=None)

    with pytest.raises(PolytomicTimeoutError, match=r"before an execution of .* could be started"):
        make_task(kind, timeout=0.2, deferrable=deferrable).run()

    assert polytomic_sandbox.starts(sync_id) == []


# --- new syncs


def test_start_succeeds_when_the_first_list_of_a_new_sync_is_not_found(
    polytomic_sandbox: Any, kind: str, deferrable: bool
) -> None:
    """One 404 of the first list, from a replica that lags behind, does not fail the task."""
    _, sync_id, syncs = SYNCS[kind]
    polytomic_sandbox.faults.status(404, f"GET {syncs}/{sync_id}/executions")

    assert make_task(kind, deferrable=deferrable).run() == polytomic_sandbox.starts(sync_id)[0].id


# --- clears and edited retries


@dataclass
class CountedRun(DagRun):
    """A DAG run of Airflow 3.2 or newer, which counts clears."""

    clear_number: int = 0


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
@pytest.mark.parametrize("ends", ["running", "completed"])
@pytest.mark.parametrize("known_by", ["store", "clear number"])
def test_retry_resumes_when_retries_were_edited_between_two_tries(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, deferrable: bool, retries: int, ends: str, known_by: str
) -> None:
    """A DAG that is deployed during the run with another `retries` cancels nothing and starts nothing twice."""
    monkeypatch.setattr("airflow.__version__", "3.3.0" if known_by == "clear number" else "3.1.0")
    store = Store() if known_by == "store" else None
    context = {"max_tries": 3, "run": CountedRun()}
    with pytest.raises(Died):
        dying_operator(make_task(retries=3, deferrable=deferrable).make, "after its response").execute(
            tries(1, store, **context)
        )
    (execution,) = polytomic_sandbox.starts(SYNC)
    if known_by == "store":
        assert store
    if ends == "completed":
        polytomic_sandbox.finish(SYNC, execution.id)

    returned = make_task(retries=retries, deferrable=deferrable).run(tries(2, store, **context))

    assert returned == execution.id
    assert [execution] == polytomic_sandbox.starts(SYNC)
    assert polytomic_sandbox.status(execution.id) == "completed"


@pytest.mark.parametrize(
    ("try_number", "max_tries", "retries", "known", "first"),
    [
        (1, 3, 3, {}, 1),
        (2, 3, 3, {}, 1),
        (2, 3, 1, {}, 1),  # not a clear: the first try after it would be the third
        (2, 3, 2, {}, 2),  # the same as a clear after the first try
        (2, 3, 2, {"uncleared": True}, 1),
        (4, 5, 2, {}, 4),
        (6, 5, 2, {}, 4),
        (3, 1, 1, {}, 3),  # more tries than max_tries allows
        (2, 3, 9, {}, 1),
    ],
)
def test_first_try_since_clear_is_inferred_when_nothing_is_stored(
    try_number: int, max_tries: int, retries: int, known: Any, first: int
) -> None:
    """In doubt it is the earlier try, from which the task resumes."""
    assert first_try_since_clear(try_number, max_tries, retries, **known) == first


@pytest.mark.parametrize(
    ("try_number", "max_tries", "retries", "first"),
    [(3, 3, 1, 1), (3, 3, 3, 1), (3, 5, 3, 3), (4, 5, 3, 3), (4, 5, 5, 3), (3, 5, 0, 3)],
)
def test_first_try_since_clear_uses_the_stored_start_when_retries_were_edited(
    try_number: int, max_tries: int, retries: int, first: int
) -> None:
    """With a stored start of try 2 of 3, only another number of tries means a clear."""
    stored = StoredStart(2, "e", SYNC, "k", first_try=1, max_tries=3)

    assert first_try_since_clear(try_number, max_tries, retries, stored=stored) == first


def test_clear_number_is_used_only_when_airflow_counts_every_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Airflow 3.2 a clear in a running DAG run is not counted."""
    context = {"dag_run": CountedRun()}
    results = []
    for version in ("2.11.2", "3.1.8", "3.2.0", "3.10.1"):
        monkeypatch.setattr("airflow.__version__", version)
        results.append(compat.is_known_uncleared(context))

    assert results == [False, False, True, True]
    assert compat.is_known_uncleared({"dag_run": CountedRun(clear_number=1)}) is False


# --- stored starts


def test_retry_finds_its_sync_without_a_lookup_when_the_start_is_stored(
    polytomic_sandbox: Any, kind: str, deferrable: bool
) -> None:
    """A list of syncs that fails does not prevent a retry from resuming the execution of an earlier try."""
    _, sync_id, syncs = SYNCS[kind]
    name = {"bulk": "Salesforce to warehouse", "model": "Customer health to Salesforce"}[kind]
    work, store = make_task(kind, sync_id=None, sync_name=name, retries=3, deferrable=deferrable), Store()
    with pytest.raises(Died):
        dying_operator(work.make, "after its response").execute(tries(1, store, max_tries=3))
    polytomic_sandbox.faults.status(500, f"GET {syncs}", times=None)

    returned = work.run(tries(2, store, max_tries=3))

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(sync_id)]


MALFORMED_IDS = StoredStart(1, "e", "s", "k").to_store() | {"earlier_ids": ["d", ".."]}


@pytest.mark.parametrize(
    "value",
    [
        7,
        {},
        {"version": 0},
        {"version": 1, "try_number": "1", "execution_id": "e", "sync_id": "s", "key": "k"},
        {"version": 1, "try_number": 1, "execution_id": "..", "sync_id": "s", "key": "k"},
        {"version": 1, "try_number": 1, "execution_id": "e", "sync_id": "s", "key": "k", "sync_name": 7},
        MALFORMED_IDS,
    ],
)
def test_stored_start_rejects_a_malformed_record(value: Any) -> None:
    """A record that another program wrote under the same key is not resumed."""
    with pytest.raises(ValueError, match="stored start"):
        StoredStart.from_store(value)


def test_stored_start_survives_serialization() -> None:
    """Writing and reading a record loses nothing."""
    start = StoredStart(2, "e", "s", "k", sync_name="Orders", first_try=1, max_tries=3, earlier_ids=["d"])

    assert StoredStart.from_store(start.to_store()) == start


def test_retry_ignores_a_malformed_stored_start_with_a_warning(
    polytomic_sandbox: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The idempotency keys lead to the execution without the record."""
    work, store = make_task(retries=3), Store()
    with pytest.raises(Died):
        dying_operator(work.make, "after its response").execute(tries(1, store, max_tries=3))
    for name in store:
        store[name] = {"version": 99}

    with caplog.at_level(logging.WARNING):
        returned = work.run(tries(2, store, max_tries=3))

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    assert "could not be read" in caplog.text


# --- number of requests, wide syncs


def test_first_try_sends_one_list_request_and_one_post(polytomic_sandbox: Any, kind: str) -> None:
    """Only a short list is read before the start of a first try."""
    _, sync_id, syncs = SYNCS[kind]

    make_task(kind, wait_for_completion=False, assets=False).run()

    assert [(request.method, request.path) for request in polytomic_sandbox.requests] == [
        ("GET", f"{syncs}/{sync_id}/executions"),
        ("POST", f"{syncs}/{sync_id}/executions"),
    ]
    assert polytomic_sandbox.requests[0].query == {"limit": ["3"]}


class TestWideSync:
    """A sync of 10,000 schemas with a history of 30 executions of 3.5 MB each."""

    @pytest.fixture
    def wide_sync(self, polytomic_sandbox: Any) -> str:
        sync_id = polytomic_sandbox.add_bulk_sync("Wide", schemas=10_000, duration=300)
        polytomic_sandbox.add_history(sync_id, 30)
        return str(sync_id)

    def test_operator_runs_a_wide_sync_with_a_bounded_summary(
        self, polytomic_sandbox: Any, deferrable: bool, wide_sync: str
    ) -> None:
        """The start reads a short list, and the summary leaves out most schemas."""
        context = make_context()

        returned = make_task(sync_id=wide_sync, deferrable=deferrable, assets=False).run(context)

        assert returned == polytomic_sandbox.starts(wide_sync)[-1].id
        assert context["ti"].summary["schemas_omitted"] == 9_900

    def test_operator_reports_the_assets_and_lineage_of_a_wide_sync(
        self, polytomic_sandbox: Any, deferrable: bool, wide_sync: str
    ) -> None:
        """Airflow gets a bounded number of asset events, and OpenLineage gets every table."""
        context = make_assets_context()
        operators: list[Any] = []

        def make() -> Any:
            operators.append(
                PolytomicBulkSyncOperator(task_id="sync", sync_id=wide_sync, poke_interval=0.05, deferrable=deferrable)
            )
            return operators[-1]

        Task(make).run(context)

        assert len(emitted(context)) == assets.MAX_EVENTS
        assert len(operators[-1].get_openlineage_facets_on_complete(None).outputs) == 10_000

    def test_event_trigger_reads_the_executions_of_a_wide_sync_in_smaller_pages(
        self, polytomic_sandbox: Any, wide_sync: str
    ) -> None:
        """After a long gap it reads executions in pages that fit the triggerer's limit."""
        after = time.time() - 5.5 * 3600

        async def read() -> list[Any]:
            async with await PolytomicHook().async_client() as client:
                sync = await client.call(bulk_syncs.get(wide_sync))
                return await client.run(list_ended_since(SYNC_KINDS["bulk"], sync, after))

        assert len(asyncio.run(read())) == 6
        lists = requests_of(polytomic_sandbox, "GET", f"/api/bulk/syncs/{wide_sync}/executions")
        assert [request.query["limit"] for request in lists][:3] == [["10"], ["5"], ["2"]]

    def test_sensor_finds_the_next_execution_of_a_wide_sync(
        self, polytomic_sandbox: Any, deferrable: bool, wide_sync: str
    ) -> None:
        """A sensor without an execution id reads pages of the list that fit the triggerer's limit."""
        foreign = polytomic_sandbox.start_foreign(wide_sync)
        after = datetime.fromtimestamp(foreign.created_at, timezone.utc)
        sensor = Task(
            lambda: PolytomicBulkSyncSensor(
                task_id="wait", sync_id=wide_sync, completed_after=after, poke_interval=0.05, deferrable=deferrable
            )
        )

        assert sensor.run() == foreign.id


def test_start_halves_the_list_limit_when_the_list_is_too_large(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that exceeds the size limit does not fail the start."""
    sync_id = polytomic_sandbox.add_bulk_sync("Wide", schemas=2_000)
    polytomic_sandbox.add_history(sync_id, 5)
    monkeypatch.setattr("airflow_provider_polytomic.api.transport.requests_transport.MAX_BODY_SIZE", 1_500_000)

    make_task(sync_id=sync_id, wait_for_completion=False).run()

    lists = requests_of(polytomic_sandbox, "GET", f"/api/bulk/syncs/{sync_id}/executions")
    assert [request.query["limit"] for request in lists] == [["3"], ["1"]]


def test_start_fails_without_retries_when_the_sync_stays_unknown(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that returns 404 for seconds belongs to a sync that does not exist."""
    monkeypatch.setattr("airflow_provider_polytomic.api.executions.start.NEW_SYNC_DELAYS", (0.0, 0.0))

    with pytest.raises(AirflowFailException, match="404"):
        make_task(sync_id="b0000000-0000-4000-8000-00000000dead").run()
