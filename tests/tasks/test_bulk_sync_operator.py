"""The operator for bulk syncs, in the worker and deferred."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException, AirflowSkipException
from airflow_provider_polytomic.api import client as client_module
from airflow_provider_polytomic.api.errors import (
    PolytomicAuthError,
    PolytomicConflictError,
    PolytomicLookupError,
    PolytomicServerError,
    PolytomicSyncError,
    PolytomicTimeoutError,
    PolytomicUnreachableError,
)
from airflow_provider_polytomic.api.executions import outage
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sandbox.seed import POSTGRES_TO_WAREHOUSE as OTHER
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC

from .conftest import DagRun, Store, Task, TaskDeferred, fire, make_context

EXECUTIONS = f"/api/bulk/syncs/{SYNC}/executions"
SHORT: dict[str, Any] = {"poke_interval": 0.05}


def task(**arguments: Any) -> Task:
    arguments = {"task_id": "sync", "sync_id": SYNC, **SHORT, **arguments}
    if "sync_name" in arguments:
        del arguments["sync_id"]
    return Task(lambda: PolytomicBulkSyncOperator(**arguments))


def seed(**sync: Any) -> dict[str, Any]:
    return {"bulk_syncs": [{"name": "Orders", "id": SYNC, "schemas": ["orders", "customers"], "duration": 10, **sync}]}


# --- the way it should go


def test_it_starts_one_execution_and_returns_its_id(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The task starts one execution, waits for its end and returns its id."""
    context = make_context()

    returned = task(deferrable=deferrable).run(context)

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    assert polytomic_sandbox.status(returned) == "completed"


def test_the_summary_is_the_same_in_every_mode(polytomic_sandbox: Any) -> None:
    """XCom `execution` holds the same fields and counts whether the task waited in the worker or deferred."""
    summaries = []
    for deferrable in (False, True):
        context = make_context(run_id=f"run_{deferrable}")
        task(deferrable=deferrable).run(context)
        summaries.append(context["ti"].summary)

    worker, deferred = summaries
    different = {name for name in worker | deferred if worker.get(name) != deferred.get(name)}
    assert different <= {"execution_id", "created_at", "started_at", "completed_at", "updated_at"}
    assert worker["status"] == "completed"
    assert worker["record_count"] == sum(schema["record_count"] for schema in worker["schemas"])
    assert worker["adopted"] is False


def test_the_summary_is_there_before_the_end(polytomic_sandbox: Any, deferrable: bool) -> None:
    """XCom `execution` is pushed at the start already, so that it is there while the task waits."""
    context = make_context()

    task(deferrable=deferrable).run(context)

    keys = [key for key, _ in context["ti"].xcoms]
    assert [key for key in keys if key == "execution"] == ["execution", "execution"]
    assert context["ti"].xcoms[0][1]["status"] == "created"


def test_xcoms_can_be_switched_off(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`do_xcom_push=False` pushes nothing."""
    context = make_context()

    task(deferrable=deferrable, do_xcom_push=False).run(context)

    assert context["ti"].xcoms == []


def test_arguments_reach_the_wire(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The start's body holds exactly what was asked for."""
    task(resync_mode="rebuild", fetch_mode="full", schemas=["account"], deferrable=deferrable).run()

    (start,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert start.body == {"resync_mode": "rebuild", "fetch_mode": "full", "schemas": ["account"]}


def test_what_is_unset_is_not_sent(polytomic_sandbox: Any) -> None:
    """An operator without options sends an empty body."""
    task(test=False, resync_mode="", schemas=None).run()

    (start,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert start.body == {}


def test_a_test_run_is_one(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`test=True` makes a test run, and the summary says so."""
    context = make_context()

    task(test=True, deferrable=deferrable, min_records=1_000_000).run(context)

    assert context["ti"].summary["is_test"] is True


def test_without_waiting_it_ends_at_once(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`wait_for_completion=False` returns the id of an execution that still runs, and never defers."""
    starting = task(wait_for_completion=False, deferrable=deferrable)

    returned = starting.run()

    assert starting.deferrals == []
    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    gets = [request for request in polytomic_sandbox.requests if request.path == f"{EXECUTIONS}/{returned}"]
    assert gets == []


def test_a_name_will_do(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`sync_name` finds the sync, once per task."""
    task(sync_name="Salesforce to warehouse", deferrable=deferrable).run()

    assert len(polytomic_sandbox.starts(SYNC)) == 1
    assert len([request for request in polytomic_sandbox.requests if request.path == "/api/bulk/syncs"]) == 1


def test_a_name_that_no_sync_has_is_retried(polytomic_sandbox: Any) -> None:
    """An unknown name is an error that Airflow retries, because the sync may be listed later."""
    with pytest.raises(PolytomicLookupError, match="'Salesforce to warehouse'"):
        task(sync_name="Salesforce to warehose").run()

    assert polytomic_sandbox.starts(SYNC) == []


def test_a_name_that_two_have_fails_with_their_ids(polytomic_sandbox: Any) -> None:
    """A name that several syncs have is an error that lists their ids."""
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

    hook = PolytomicHook()
    first = hook.get_bulk_sync(SYNC)
    body = {
        "name": first.name,
        "source_connection_id": first.source_connection_id,
        "destination_connection_id": first.destination_connection_id,
        "destination_configuration": {"schema": "x"},
        "default_schedule": {"frequency": "manual"},
        "mode": "replicate",
    }
    second = hook.create_bulk_sync(**body)

    with pytest.raises(AirflowFailException) as raised:
        task(sync_name=first.name).run()
    assert SYNC in str(raised.value)
    assert second.id in str(raised.value)


# --- ends


# Executions that end when somebody ends them, and not before, however slow the machine is.
endless = pytest.mark.parametrize("polytomic_sandbox_speed", [0.0001], ids=["endless"])
# Executions that run long enough to be met on the way.
slower = pytest.mark.parametrize("polytomic_sandbox_speed", [8], ids=["slower"])


@endless
@pytest.mark.parametrize("status", ["failed", "canceled", "interrupted", "errors", "frobnicated"])
@pytest.mark.parametrize("when", ["before deferring", "while waiting"])
def test_only_completed_is_green(polytomic_sandbox: Any, deferrable: bool, status: str, when: str) -> None:
    """Every end but `completed` fails the task, with the same message whenever and wherever it is noticed."""
    context = make_context()

    with (
        EndingWith(polytomic_sandbox, status, at_once=when == "before deferring"),
        pytest.raises(PolytomicSyncError) as raised,
    ):
        task(deferrable=deferrable).run(context)

    (execution,) = polytomic_sandbox.starts(SYNC)
    assert execution.id in str(raised.value)
    assert "Salesforce to warehouse" in str(raised.value)
    assert repr(status) in str(raised.value)
    assert raised.value.execution.status == status
    assert context["ti"].summary["status"] == status


class EndingWith:
    """Ends what is started with a status of choice: at once, or after a while."""

    def __init__(self, sandbox: Any, status: str, *, at_once: bool) -> None:
        self._sandbox, self._status, self._delay = sandbox, status, 0.0 if at_once else 0.06
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        while not self._over.wait(0.0005):
            for execution in self._sandbox.starts(SYNC):
                if self._sandbox.running(SYNC) is execution:
                    self._over.wait(self._delay)
                    self._sandbox.finish(SYNC, execution.id, self._status)
                    return

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()


class TestPartialFailure:
    """One of two schemas fails."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        bad = {"id": "customers", "outcome": "failed", "status_message": 'column "email" is too long'}
        return seed(schemas=["orders", bad])

    def test_it_fails_and_says_which_and_why(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """A partly failed execution fails the task; the message names the schema and what the server said."""
        context = make_context()

        with pytest.raises(PolytomicSyncError) as raised:
            task(deferrable=deferrable).run(context)

        assert 'customers: failed: column "email" is too long' in str(raised.value)
        assert "console log" in str(raised.value)
        assert context["ti"].summary["schemas"][0]["schema"] == "customers"

    def test_allow_errors_makes_it_a_success(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """`allow_errors=True` accepts it."""
        assert task(allow_errors=True, deferrable=deferrable).run() == polytomic_sandbox.starts(SYNC)[0].id

    def test_a_broken_log_does_not_hide_the_failure(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """When the console log cannot be read, the failure is told without it."""
        polytomic_sandbox.faults.status(404, "GET .*/consolelog", times=None)

        with pytest.raises(PolytomicSyncError, match="customers"):
            task(deferrable=deferrable).run()


class TestEmptySuccess:
    """An execution moves nothing."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(schemas=[{"id": "orders", "rows": 3}])

    @pytest.mark.parametrize(("min_records", "good"), [(None, True), (3, True), ("3", True), (4, False)])
    def test_min_records_decides(self, polytomic_sandbox: Any, deferrable: bool, min_records: Any, good: bool) -> None:
        """Fewer records than `min_records` fail the task."""
        wanted = task(min_records=min_records, deferrable=deferrable)

        if good:
            wanted.run()
        else:
            with pytest.raises(PolytomicSyncError, match="moved 3 records, but min_records is 4"):
                wanted.run()


class TestUnknownStatus:
    """The server says something on the way that nobody has heard of."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(stages=["created", "scheduled", "warming_up"], duration=150)

    def test_it_waits_on_and_warns_once(
        self, polytomic_sandbox: Any, deferrable: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An unknown status is waited out with one warning; it is neither success nor failure."""
        task(deferrable=deferrable, poke_interval=0.01).run()

        warnings = [record for record in caplog.records if "warming_up" in record.getMessage()]
        assert len([record for record in warnings if record.levelname == "WARNING"]) == 1


class TestManySchemas:
    """More schemas than an XCom should hold, one of them failed."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        good = [{"id": f"table_{number:03}"} for number in range(140)]
        return seed(schemas=[*good, {"id": "zebra", "outcome": "failed", "status_message": "x" * 2000}])

    def test_the_summary_is_bounded_and_failed_ones_come_first(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """The summary holds 100 schemas, failed ones first, and says how many are left out."""
        context = make_context()

        with pytest.raises(PolytomicSyncError, match="zebra"):
            task(deferrable=deferrable).run(context)

        summary = context["ti"].summary
        assert [summary["schemas"][0]["schema"], len(summary["schemas"])] == ["zebra", 100]
        assert summary["schemas_omitted"] == 41
        assert len(summary["schemas"][0]["status_message"]) <= 301


# --- trouble


@pytest.mark.parametrize("trouble", ["503", "html", "truncated", "cut", "empty", "dropped", "429"])
def test_passing_trouble_does_not_end_a_wait(polytomic_sandbox: Any, deferrable: bool, trouble: str) -> None:
    """Server errors, lost connections and foreign pages while waiting are waited out; nothing is started twice."""
    looks = f"GET {EXECUTIONS}/.*"
    if trouble == "503":
        polytomic_sandbox.faults.status(503, looks, times=2)
    elif trouble == "429":
        polytomic_sandbox.faults.status(429, looks, headers={"Retry-After": "0.1"}, times=2)
    elif trouble == "dropped":
        polytomic_sandbox.faults.drop_before(looks, times=2)
    else:
        polytomic_sandbox.faults.garbage(trouble, looks, times=2)

    task(deferrable=deferrable).run()

    assert len(polytomic_sandbox.starts(SYNC)) == 1


@pytest.mark.parametrize("trouble", ["after", "before", "html", "truncated", "gateway"])
def test_a_lost_answer_starts_nothing_twice(polytomic_sandbox: Any, deferrable: bool, trouble: str) -> None:
    """When the answer to the start is lost, the same key is asked again: one execution, which the task waits for."""
    start = f"POST {EXECUTIONS}"
    if trouble == "gateway":
        polytomic_sandbox.faults.status(502, start, body="<html>bad gateway</html>", processed=True)
    elif trouble in ("html", "truncated"):
        polytomic_sandbox.faults.garbage(trouble, start)
    else:
        getattr(polytomic_sandbox.faults, f"drop_{trouble}")(start)

    returned = task(deferrable=deferrable).run()

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    keys = {request.headers["idempotency-key"] for request in polytomic_sandbox.requests if request.method == "POST"}
    assert len(keys) == 1


def test_a_wrong_key_fails_without_retries(polytomic_sandbox: Any, deferrable: bool) -> None:
    """A key that is refused before anything was started fails the task for good."""
    polytomic_sandbox.rotate_key("another-key")

    with pytest.raises(AirflowFailException, match="401"):
        task(deferrable=deferrable).run()


def test_an_unknown_sync_fails_without_retries(polytomic_sandbox: Any, deferrable: bool) -> None:
    """A sync that does not exist fails the task for good, with the path that was asked."""
    with pytest.raises(AirflowFailException, match="/api/bulk/syncs/nowhere/executions"):
        task(sync_id="nowhere", deferrable=deferrable).run()


def test_what_the_server_refuses_fails_without_retries(polytomic_sandbox: Any) -> None:
    """A start that the server finds invalid fails the task for good, and says what the server said."""
    with pytest.raises(AirflowFailException, match="no_such_schema"):
        task(schemas=["no_such_schema"]).run()


@slower
def test_a_vanished_execution_fails_for_good(polytomic_sandbox: Any, deferrable: bool) -> None:
    """An execution that was seen and is gone then fails the task without retries."""
    with Vanishing(polytomic_sandbox), pytest.raises(AirflowFailException, match="404"):
        task(deferrable=deferrable).run()


class Vanishing(EndingWith):
    def __init__(self, sandbox: Any) -> None:
        super().__init__(sandbox, "", at_once=False)

    def _work(self) -> None:
        while not self._over.wait(0.002):
            looks = [r for r in self._sandbox.requests if r.method == "GET" and r.path.startswith(EXECUTIONS + "/")]
            if looks:
                self._sandbox.faults.vanish(self._sandbox.starts(SYNC)[0].id)
                return


# --- somebody else's execution


@slower
@pytest.mark.parametrize("policy", ["wait", "cancel"])
def test_somebody_elses_execution_is_waited_for_or_cancelled(
    polytomic_sandbox: Any, deferrable: bool, policy: str
) -> None:
    """`wait` and `cancel` start ours when somebody else's execution has ended; only `cancel` cancels it."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    returned = task(if_running=policy, deferrable=deferrable).run()

    assert [foreign.id, returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    assert polytomic_sandbox.status(foreign.id) == {"wait": "completed", "cancel": "canceled"}[policy]


@slower
def test_attach_adopts_it(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`attach` takes somebody else's execution for its own, says so, and starts nothing."""
    foreign = polytomic_sandbox.start_foreign(SYNC)
    context = make_context()

    assert task(if_running="attach", deferrable=deferrable).run(context) == foreign.id
    assert context["ti"].summary["adopted"] is True
    assert len(polytomic_sandbox.starts(SYNC)) == 1


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"test": True}, {}),
        ({}, {"test": True}),
        ({}, {"resync_mode": "rebuild"}),
        ({"schemas": ["account"]}, {}),
        ({"schemas": ["account"]}, {"schemas": ["account", "contact"]}),
        ({}, {"fetch_mode": "full"}),
    ],
)
def test_attach_waits_for_what_does_less(polytomic_sandbox: Any, theirs: Any, ours: Any) -> None:
    """`attach` adopts no execution that does less than was asked, but waits and starts its own."""
    foreign = polytomic_sandbox.start_foreign(SYNC, **theirs)

    assert task(if_running="attach", **ours).run() != foreign.id
    assert polytomic_sandbox.status(foreign.id) == "completed"


def test_attach_adopts_what_does_more(polytomic_sandbox: Any) -> None:
    """`attach` adopts a full execution where only some schemas are wanted."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    assert task(if_running="attach", schemas=["account"]).run() == foreign.id


def test_fail_raises_a_conflict(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`fail` raises PolytomicConflictError, which is retried, and names the execution that runs."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    with pytest.raises(PolytomicConflictError, match=foreign.id):
        task(if_running="fail", deferrable=deferrable).run()
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_skip_skips(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`skip` skips the task."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    with pytest.raises(AirflowSkipException, match=foreign.id):
        task(if_running="skip", deferrable=deferrable).run()
    assert len(polytomic_sandbox.starts(SYNC)) == 1


@pytest.mark.parametrize("differ_by", [{"run_id": ["one", "two"]}, {"map_index": [0, 1]}], ids=["runs", "mapped"])
def test_two_tasks_at_once_queue_up(polytomic_sandbox: Any, deferrable: bool, differ_by: dict[str, list[Any]]) -> None:
    """Two runs or mapped tasks that want the same sync at once both get an execution of their own, one by one."""
    results: dict[str, Any] = {}
    ((what, values),) = differ_by.items()

    def work(value: Any) -> None:
        results[value] = task(deferrable=deferrable).run(make_context(**{what: value}))

    threads = [threading.Thread(target=work, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    started = [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    assert sorted(results.values()) == sorted(started)
    assert len(started) == 2


# --- deadlines


class TestDeadline:
    """The sync takes far longer than anybody has patience."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=100_000)

    def test_timeout_cancels_and_fails(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """At the deadline the execution is cancelled, once, and the task fails with PolytomicTimeoutError."""
        with pytest.raises(PolytomicTimeoutError, match="it is being canceled"):
            task(timeout=0.3, deferrable=deferrable).run()

        cancels = [request for request in polytomic_sandbox.requests if request.path.endswith("/cancel")]
        assert [f"{EXECUTIONS}/{polytomic_sandbox.starts(SYNC)[0].id}/cancel"] == [cancel.path for cancel in cancels]

    def test_execution_timeout_does_the_same(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """`execution_timeout` is met before Airflow's own strikes, so that the execution is cancelled."""
        with pytest.raises(PolytomicTimeoutError, match="it is being canceled"):
            task(execution_timeout=timedelta(seconds=1), deferrable=deferrable).run()

    def test_an_adopted_execution_is_not_cancelled(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """What somebody else started is left running at our deadline."""
        foreign = polytomic_sandbox.start_foreign(SYNC)

        with pytest.raises(PolytomicTimeoutError, match="left running"):
            task(timeout=0.3, if_running="attach", deferrable=deferrable).run()
        assert polytomic_sandbox.running(SYNC).id == foreign.id

    def test_nor_one_that_is_in_the_way(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """The deadline includes waiting for others, who are left alone."""
        foreign = polytomic_sandbox.start_foreign(SYNC)

        with pytest.raises(PolytomicTimeoutError, match="waited"):
            task(timeout=0.3, deferrable=deferrable).run()
        assert polytomic_sandbox.running(SYNC).id == foreign.id
        assert len(polytomic_sandbox.starts(SYNC)) == 1

    def test_nor_ours_when_it_is_to_be_left_alone(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """`cancel_on_kill=False` leaves our execution running at the deadline, too."""
        with pytest.raises(PolytomicTimeoutError, match="left running"):
            task(timeout=0.3, cancel_on_kill=False, deferrable=deferrable).run()
        assert polytomic_sandbox.running(SYNC) is not None

    def test_nothing_is_started_after_it(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """A task that could not start anything before the deadline fails with it, and says why."""
        polytomic_sandbox.faults.status(503, f"GET {EXECUTIONS}", times=None)

        with pytest.raises(PolytomicTimeoutError, match=r"before an execution could be started: .*503"):
            task(timeout=0.3, deferrable=deferrable).run()
        assert polytomic_sandbox.starts(SYNC) == []

    def test_nothing_is_started_when_the_way_is_free_after_it(
        self, polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was in the way of a task that waits in the worker ends, but the deadline has passed by then."""
        foreign = polytomic_sandbox.start_foreign(SYNC)

        def late(_self: Any, _plan: Any) -> None:
            polytomic_sandbox.finish(SYNC, foreign.id)
            time.sleep(0.4)

        monkeypatch.setattr(PolytomicBulkSyncOperator, "_wait_out", late)
        with pytest.raises(PolytomicTimeoutError, match=f"before an execution could be started: .*{foreign.id}"):
            task(timeout=0.3).run()
        assert [execution.id for execution in polytomic_sandbox.starts(SYNC)] == [foreign.id]

    @pytest.mark.parametrize(("notes", "status"), [({"blocking": True}, "completed"), ({"resumed": True}, "canceled")])
    def test_nothing_is_started_when_the_triggerer_tells_of_it_after_it(
        self, polytomic_sandbox: Any, notes: dict[str, Any], status: str
    ) -> None:
        """The same when the trigger's event says that the way is free, or that what was resumed is cancelled."""
        ended = polytomic_sandbox.start_foreign(SYNC)
        polytomic_sandbox.finish(SYNC, ended.id, status)
        event = {"outcome": "ended", "sync_id": SYNC, "execution_id": ended.id, "status": status}

        with pytest.raises(PolytomicTimeoutError, match=f"before an execution could be started: .*{ended.id}"):
            task().make().execute_complete(make_context(), event | {"notes": {**notes, "deadline": time.time() - 1}})
        assert [execution.id for execution in polytomic_sandbox.starts(SYNC)] == [ended.id]

    def test_a_start_that_is_not_answered_before_it_is_found_and_cancelled(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """What came of a start is asked for beyond the deadline: the execution is found, and cancelled."""
        polytomic_sandbox.faults.drop_after(f"POST {EXECUTIONS}", times=2)  # some 1.5 seconds

        with pytest.raises(PolytomicTimeoutError, match="it is being canceled"):
            task(timeout=0.3, deferrable=deferrable).run()
        (execution,) = polytomic_sandbox.starts(SYNC)
        assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")

    @pytest.mark.parametrize("last", [False, True])
    def test_what_a_retry_found_but_could_not_follow(self, polytomic_sandbox: Any, last: bool) -> None:
        """An earlier try's execution whose state cannot be told is left to the next try, or cancelled in the last."""
        work = task(retries=2)
        with pytest.raises(Died):
            dies_when(work.make, "before its answer").execute(tries(1, None))
        (execution,) = polytomic_sandbox.starts(SYNC)
        polytomic_sandbox.faults.status(503, f"GET {EXECUTIONS}/.*", times=None)

        with pytest.raises(PolytomicTimeoutError, match="503"):
            task(timeout=0.3, retries=2).make().execute(tries(2, None, max_tries=1 if last else 2))
        assert (polytomic_sandbox.status(execution.id) in ("canceling", "canceled")) == last

    @pytest.mark.parametrize("error", [RuntimeError, ValueError])
    @pytest.mark.parametrize("last", [False, True])
    def test_any_error_after_a_start_leaves_our_execution_so(
        self,
        polytomic_sandbox: Any,
        monkeypatch: pytest.MonkeyPatch,
        deferrable: bool,
        error: type[Exception],
        last: bool,
    ) -> None:
        """Whatever goes wrong after a start is retried and leaves it running; in the last try it is cancelled."""

        def refuse(*_: Any, **__: Any) -> None:
            raise error("a bug")

        monkeypatch.setattr(PolytomicBulkSyncOperator, "_follow_console", refuse)

        with pytest.raises(error, match="a bug"):
            task(deferrable=deferrable, retries=0 if last else 1).run(tries(1, None, max_tries=0 if last else 1))
        assert (polytomic_sandbox.status(polytomic_sandbox.starts(SYNC)[0].id) in ("canceling", "canceled")) == last

    def test_a_deadline_that_passed_while_the_triggerer_was_down(self, polytomic_sandbox: Any) -> None:
        """A trigger that begins after the deadline fires at once, without a fresh window."""
        waiting = task(timeout=1000, deferrable=True)
        operator = waiting.make()
        with pytest.raises(BaseException) as deferred:
            operator.execute(make_context())
        trigger = deferred.value.trigger
        trigger.deadline = time.time() - 100

        event = fire(trigger)

        assert event["outcome"] == "timeout"


# --- tries


def tries(number: int, store: Store | None, **more: Any) -> dict[str, Any]:
    return make_context(store=store, try_number=number, max_tries=more.pop("max_tries", 2), **more)


@pytest.fixture(params=["no store", "store"])
def store(request: pytest.FixtureRequest) -> Store | None:
    """With and without Airflow's own store (≥ 3.3): the server's memory of keys must do without."""
    return Store() if request.param == "store" else None


class Died(BaseException):
    """A process that is gone."""


def dies_when(make: Any, when: str) -> Any:
    """An operator whose process dies: before the start leaves, before its answer is read, after it was read."""
    operator = make()
    send = operator._send

    def fatal(request: Any) -> Any:
        if request.idempotency_key is not None and when == "before the start":
            raise Died
        answer = send(request)
        if request.idempotency_key is not None and when == "before its answer":
            raise Died
        if request.idempotency_key is None and operator._ours is not None and when == "after its answer":
            raise Died
        return answer

    operator._send = fatal
    return operator


@pytest.mark.parametrize("when", ["before the start", "before its answer", "after its answer"])
def test_a_retry_resumes_what_a_dead_try_started(
    polytomic_sandbox: Any, deferrable: bool, when: str, store: Store | None
) -> None:
    """However the first try's process died, the retry ends with exactly one execution."""
    work = task(retries=2, deferrable=deferrable)
    with pytest.raises(Died):
        dies_when(work.make, when).execute(tries(1, store))

    returned = work.run(tries(2, store))

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


@pytest.mark.parametrize("when", ["before the start", "before its answer"])
def test_so_does_the_try_after_two_dead_ones(
    polytomic_sandbox: Any, deferrable: bool, when: str, store: Store | None
) -> None:
    """Two deaths in a row change nothing: the third try ends with exactly one execution."""
    work = task(retries=2, deferrable=deferrable)
    for number in (1, 2):
        with pytest.raises(Died):
            dies_when(work.make, when if number == 1 else "before its answer").execute(tries(number, store))

    returned = work.run(tries(3, store))

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


@slower
def test_a_retry_after_a_failed_execution_starts_one_more(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """When the first try's execution failed, the retry starts exactly one new one and judges that."""
    work = task(retries=2, deferrable=deferrable)
    with EndingWith(polytomic_sandbox, "failed", at_once=False), pytest.raises(PolytomicSyncError):
        work.run(tries(1, store))

    returned = work.run(tries(2, store))

    failed, good = polytomic_sandbox.starts(SYNC)
    assert returned == good.id
    assert polytomic_sandbox.status(failed.id) == "failed"


def test_a_retry_takes_a_success_that_nobody_saw(polytomic_sandbox: Any, deferrable: bool, store: Store | None) -> None:
    """An execution that succeeded while no process was there counts, and nothing is started again."""
    work = task(retries=2, resync_mode="rebuild", deferrable=deferrable)
    with pytest.raises(Died):
        dies_when(work.make, "after its answer").execute(tries(1, store))
    (execution,) = polytomic_sandbox.starts(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id)

    assert work.run(tries(2, store)) == execution.id
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_without_waiting_a_retry_starts_nothing_again(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """With `wait_for_completion=False` whatever was started counts, even if it failed."""
    work = task(retries=2, wait_for_completion=False, deferrable=deferrable)
    with pytest.raises(Died):
        dies_when(work.make, "before its answer").execute(tries(1, store))
    (execution,) = polytomic_sandbox.starts(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id, "failed")

    assert work.run(tries(2, store)) == execution.id
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_a_clear_starts_anew(polytomic_sandbox: Any, deferrable: bool, store: Store | None) -> None:
    """Clearing a task that has succeeded starts a new execution."""
    work = task(retries=2, deferrable=deferrable)
    first = work.run(tries(1, store))

    second = work.run(tries(2, store, max_tries=3))  # what a clear makes of it

    assert [first, second] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


def test_a_clear_while_it_runs_cancels_and_starts_anew(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """Clearing a task whose execution runs on cancels that one as our own, and starts a fresh one after it."""
    work = task(retries=2, deferrable=deferrable)
    with pytest.raises(Died):
        dies_when(work.make, "after its answer").execute(tries(1, store))

    returned = work.run(tries(2, store, max_tries=3))

    old, new = polytomic_sandbox.starts(SYNC)
    assert returned == new.id
    assert polytomic_sandbox.status(old.id) == "canceled"


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_cleared_try_does_not_take_the_event_of_the_one_before_for_its_own(
    polytomic_sandbox: Any, status: str, store: Store | None
) -> None:
    """Where a database gives a trigger the number of the one before, that one fires for it: the try begins again."""
    work = task(retries=2, deferrable=True, cancel_on_kill=False)
    with pytest.raises(TaskDeferred) as before:
        work.make().execute(tries(1, store))
    (old,) = polytomic_sandbox.starts(SYNC)
    cleared = tries(2, store, max_tries=3)
    with pytest.raises(TaskDeferred):
        work.make().execute(cleared)
    polytomic_sandbox.finish(SYNC, old.id, status)
    event = fire(before.value.trigger)

    with pytest.raises(TaskDeferred) as after:
        work.make().execute_complete(cleared, event)

    _, new = polytomic_sandbox.starts(SYNC)
    assert after.value.trigger.execution_id == new.id
    assert work.make().execute_complete(cleared, fire(after.value.trigger)) == new.id


def test_a_task_does_not_take_the_event_of_another_for_its_own(polytomic_sandbox: Any) -> None:
    """Where the trigger of a task that is no more fires for another one, this one begins again: it resumes its own."""
    other, work = task(task_id="other", sync_id=OTHER, deferrable=True), task(deferrable=True)
    with pytest.raises(TaskDeferred) as others:
        other.make().execute(make_context(task_id="other"))
    event = fire(others.value.trigger)
    with pytest.raises(TaskDeferred):
        work.make().execute(make_context(task_id="sync"))
    (execution,) = polytomic_sandbox.starts(SYNC)

    with pytest.raises(TaskDeferred) as again:
        work.make().execute_complete(make_context(task_id="sync"), event)

    assert again.value.trigger.execution_id == execution.id
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_an_event_that_names_no_try_is_of_this_one(polytomic_sandbox: Any) -> None:
    """Another release of this provider may have deferred it."""
    work = task(deferrable=True)
    with pytest.raises(TaskDeferred) as deferral:
        work.make().execute(tries(1, None))
    (execution,) = polytomic_sandbox.starts(SYNC)
    event = fire(deferral.value.trigger)
    del event["notes"]["try_number"], event["notes"]["task"]

    assert work.make().execute_complete(tries(2, None), event) == execution.id
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_a_clear_cancels_nothing_that_is_to_be_left_alone(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """With `cancel_on_kill=False` a cleared task's old execution is waited for, and then a fresh one started."""
    work = task(retries=2, deferrable=deferrable, cancel_on_kill=False)
    with pytest.raises(Died):
        dies_when(work.make, "after its answer").execute(tries(1, store))

    returned = work.run(tries(2, store, max_tries=3))

    old, new = polytomic_sandbox.starts(SYNC)
    assert returned == new.id
    assert polytomic_sandbox.status(old.id) == "completed"


def test_a_run_created_again_under_its_old_id_starts_its_own(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """A DAG run that was deleted and triggered again under the same id is not given the old one's execution."""
    work = task(deferrable=deferrable)
    first = work.run(tries(1, store))

    second = work.run(tries(1, store, run=DagRun(datetime(2026, 2, 2, tzinfo=timezone.utc))))

    assert first != second


def test_mapped_tasks_in_another_order_keep_apart(polytomic_sandbox: Any) -> None:
    """A mapped task that was expanded over other syncs takes over nobody else's execution."""
    other = "b0000000-0000-4000-8000-000000000002"
    stores = [Store(), Store()]
    for index, sync_id in enumerate([SYNC, other]):
        context = make_context(store=stores[index], map_index=index, max_tries=2)
        with pytest.raises(Died):
            dies_when(task(sync_id=sync_id, retries=2).make, "after its answer").execute(context)

    swapped = [
        task(sync_id=sync_id, retries=2).run(
            make_context(store=stores[index], map_index=index, try_number=2, max_tries=3)
        )
        for index, sync_id in enumerate([other, SYNC])
    ]

    assert swapped[0] in {execution.id for execution in polytomic_sandbox.starts(other)}
    assert swapped[1] in {execution.id for execution in polytomic_sandbox.starts(SYNC)}


# --- kills


def test_on_kill_before_a_start_does_nothing(polytomic_sandbox: Any) -> None:
    """A task that is ended before it started anything sends nothing."""
    task().make().on_kill()

    assert polytomic_sandbox.requests == []


def _kill_after(operator: Any, sandbox: Any, what: Any) -> threading.Thread:
    def work() -> None:
        while not any(what(request) for request in sandbox.requests):
            time.sleep(0.005)
        operator.on_kill()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


class TestKill:
    """A task is ended while its execution runs."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=100_000)

    def test_on_kill_cancels_once(self, polytomic_sandbox: Any) -> None:
        """A worker that is ended cancels its execution with one request, and asks no further."""
        operator = task().make()
        killer = _kill_after(operator, polytomic_sandbox, lambda r: r.path.startswith(EXECUTIONS + "/"))
        with pytest.raises(Exception, match="the task was ended"):
            operator.execute(make_context())
        killer.join()
        operator.on_kill()

        cancels = [request for request in polytomic_sandbox.requests if request.path.endswith("/cancel")]
        assert len(cancels) == 1

    def test_cancel_on_kill_false_leaves_it_alone(self, polytomic_sandbox: Any) -> None:
        """`cancel_on_kill=False` sends no cancel."""
        operator = task(cancel_on_kill=False).make()
        killer = _kill_after(operator, polytomic_sandbox, lambda r: r.path.startswith(EXECUTIONS + "/"))
        with pytest.raises(Exception, match="the task was ended"):
            operator.execute(make_context())
        killer.join()

        assert polytomic_sandbox.running(SYNC) is not None

    def test_a_start_that_is_answered_during_a_kill_is_cancelled(self, polytomic_sandbox: Any) -> None:
        """An execution whose start was on the way when the task was ended is cancelled when its answer comes."""
        polytomic_sandbox.faults.delay(0.5, f"POST {EXECUTIONS}", after=True)
        operator = task().make()
        timer = threading.Timer(0.2, operator.on_kill)
        timer.start()
        with pytest.raises(Exception, match="the task was ended"):
            operator.execute(make_context())
        timer.join()

        cancels = [request for request in polytomic_sandbox.requests if request.path.endswith("/cancel")]
        assert len(cancels) == 1
        assert len(polytomic_sandbox.starts(SYNC)) == 1

    def test_a_kill_while_a_retry_resumes_cancels_what_it_resumes(self, polytomic_sandbox: Any) -> None:
        """A retry that is ended while it looks at what an earlier try started cancels that."""
        work = task(retries=1)
        with pytest.raises(Died):
            dies_when(work.make, "after its answer").execute(tries(1, None, max_tries=1))
        (execution,) = polytomic_sandbox.starts(SYNC)
        polytomic_sandbox.faults.delay(0.5, f"GET {EXECUTIONS}/{execution.id}")
        operator = work.make()
        killer = threading.Timer(0.3, operator.on_kill)
        killer.start()
        with pytest.raises(Exception, match="the task was ended"):
            operator.execute(tries(2, None, max_tries=1))
        killer.join()

        assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")

    def test_nothing_is_started_after_a_kill(self, polytomic_sandbox: Any) -> None:
        """A task that was ended while it looked around starts nothing."""
        polytomic_sandbox.faults.delay(0.4, f"GET {EXECUTIONS}")
        operator = task().make()
        timer = threading.Timer(0.1, operator.on_kill)
        timer.start()
        with pytest.raises(Exception, match="the task was ended"):
            operator.execute(make_context())
        timer.join()

        assert polytomic_sandbox.starts(SYNC) == []

    def test_a_cancel_that_fails_is_borne(self, polytomic_sandbox: Any) -> None:
        """on_kill raises nothing when the server refuses the cancel."""
        polytomic_sandbox.faults.status(500, "POST .*/cancel", times=None)
        operator = task().make()
        killer = _kill_after(operator, polytomic_sandbox, lambda r: r.path.startswith(EXECUTIONS + "/"))
        with pytest.raises(Exception, match="the task was ended"):
            operator.execute(make_context())
        killer.join()

    def test_an_adopted_execution_is_not_cancelled(self, polytomic_sandbox: Any) -> None:
        """What somebody else started is not ours to cancel."""
        foreign = polytomic_sandbox.start_foreign(SYNC)
        operator = task(if_running="attach").make()
        killer = _kill_after(operator, polytomic_sandbox, lambda r: r.path == f"{EXECUTIONS}/{foreign.id}")
        with pytest.raises(Exception, match="the task was ended"):
            operator.execute(make_context())
        killer.join()

        assert polytomic_sandbox.running(SYNC).id == foreign.id


def test_a_start_of_unknown_outcome_is_not_passed_over(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry that cannot learn what an earlier slot holds fails, instead of starting in another slot."""
    work = task(retries=3)
    with pytest.raises(Died):
        dies_when(work.make, "before its answer").execute(tries(1, None))
    (execution,) = polytomic_sandbox.starts(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id)
    polytomic_sandbox.faults.drop_before(f"POST {EXECUTIONS}")
    polytomic_sandbox.faults.status(500, f"POST {EXECUTIONS}", times=None)

    with pytest.raises(PolytomicServerError, match="Could not confirm whether the start succeeded"):
        work.run(tries(2, None))
    polytomic_sandbox.faults.clear()

    assert work.run(tries(3, None)) == execution.id
    assert len(polytomic_sandbox.starts(SYNC)) == 1


# --- events


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        [],
        "completed",
        {"status": "completed"},
        {"outcome": "???", "sync_id": SYNC},
        {"outcome": "ended", "sync_id": SYNC},
        {"outcome": "ended", "sync_id": SYNC, "execution_id": "x"},
        {"outcome": "ended", "sync_id": SYNC, "execution_id": "x", "status": None},
        {"outcome": "ended", "sync_id": SYNC, "execution_id": "x", "status": "running"},
        {"outcome": "ended", "sync_id": SYNC, "execution_id": "x", "status": "???"},
        {"outcome": "ended", "sync_id": SYNC, "execution_id": "x", "status": "completed", "schemas": 7},
    ],
)
def test_no_odd_event_is_a_success(polytomic_sandbox: Any, event: Any) -> None:
    """An event that does not say `completed` in so many words fails the task with an error of ours."""
    from airflow_provider_polytomic.api.errors import PolytomicError

    with pytest.raises((PolytomicError, AirflowFailException)):
        task().make().execute_complete(make_context(), event=event)


def test_an_outage_leaves_our_execution_to_the_next_try(polytomic_sandbox: Any) -> None:
    """When the trigger gave up, our execution is left to the retry that follows; the error keeps its type."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    event = _outage(execution.id)

    with pytest.raises(PolytomicServerError, match="no good answer"):
        task(retries=1).make().execute_complete(tries(1, None, max_tries=1), event=event)
    assert polytomic_sandbox.status(execution.id) != "canceling"


def test_an_outage_in_the_last_try_cancels_our_execution(polytomic_sandbox: Any) -> None:
    """When no try follows, our execution is cancelled, so that nothing is left running that nobody watches."""
    execution = polytomic_sandbox.start_foreign(SYNC)

    with pytest.raises(PolytomicServerError):
        task().make().execute_complete(tries(1, None, max_tries=0), event=_outage(execution.id))
    assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")


@pytest.mark.parametrize("outcome", ["error", "timeout"])
def test_what_cannot_be_cancelled_hides_no_error(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """A connection that cannot be read when the execution should be cancelled leaves the error what it is."""
    monkeypatch.delenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT")

    with pytest.raises((PolytomicServerError, PolytomicTimeoutError), match="no good answer"):
        task().make().execute_complete(tries(1, None, max_tries=0), event=_outage("e1") | {"outcome": outcome})


def _outage(execution_id: str) -> dict[str, Any]:
    return {
        "outcome": "error",
        "error": "PolytomicServerError",
        "message": "GET …: HTTP 503: no good answer for 600 s",
        "still_running": True,
        "sync_id": SYNC,
        "execution_id": execution_id,
        "notes": {"adopted": False},
    }


class TestRotated:
    """The sync takes longer than it takes to see that a key is refused, however slow the machine is."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=100_000)

    def test_a_key_rotated_in_mid_wait_is_read_again(
        self, polytomic_sandbox: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When the key is refused while waiting, the connection is read again, and the wait goes on with the new."""
        connection = json.loads(os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"])

        def rotate() -> None:
            # One look is the worker's, before it defers.
            while sum(request.path.startswith(EXECUTIONS + "/") for request in polytomic_sandbox.requests) < 2:
                time.sleep(0.001)
            monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection | {"password": "a-new-key"}))
            polytomic_sandbox.rotate_key("a-new-key")
            while not any(request.status == 401 for request in polytomic_sandbox.requests):
                time.sleep(0.001)
            polytomic_sandbox.finish(SYNC, polytomic_sandbox.starts(SYNC)[0].id)

        thread = threading.Thread(target=rotate, daemon=True)
        thread.start()
        returned = task(deferrable=deferrable, poke_interval=0.02, timeout=60).run()
        thread.join()

        assert returned == polytomic_sandbox.starts(SYNC)[0].id

    @pytest.mark.parametrize("passes", [True, False])
    def test_a_connection_that_cannot_be_read_again_is_an_outage(
        self, polytomic_sandbox: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch, passes: bool
    ) -> None:
        """A key rotated in mid-wait and a connection that is wrong then: waited for, and left to the next try."""
        name = "AIRFLOW_CONN_POLYTOMIC_DEFAULT"
        right = json.loads(os.environ[name]) | {"password": "a-new-key"}
        unread, seen = client_module.connection_unreadable, threading.Event()
        monkeypatch.setattr(client_module, "connection_unreadable", lambda error: (seen.set(), unread(error))[1])
        monkeypatch.setattr(outage, "OUTAGE_BUDGET", 600.0 if passes else 0.3)

        def rotate() -> None:
            while sum(request.path.startswith(EXECUTIONS + "/") for request in polytomic_sandbox.requests) < 2:
                time.sleep(0.001)
            monkeypatch.setenv(name, json.dumps(right | {"extra": {"verify": "/not/there.pem"}}))
            polytomic_sandbox.rotate_key("a-new-key")
            seen.wait(60)
            if passes:
                monkeypatch.setenv(name, json.dumps(right))
                polytomic_sandbox.finish(SYNC, polytomic_sandbox.starts(SYNC)[0].id)

        thread = threading.Thread(target=rotate, daemon=True)
        thread.start()
        with nullcontext() if passes else pytest.raises(PolytomicUnreachableError, match=r"verify must be .* no good"):
            task(deferrable=deferrable, poke_interval=0.02, retries=1).run(tries(1, None, max_tries=1))
        thread.join()
        assert seen.is_set()


def test_a_key_that_stays_refused_fails_with_retries(polytomic_sandbox: Any, deferrable: bool) -> None:
    """A key that is refused in mid-wait, also after reading the connection again, fails the try; a retry resumes."""

    def rotate() -> None:
        while not any(request.path.startswith(EXECUTIONS + "/") for request in polytomic_sandbox.requests):
            time.sleep(0.001)
        polytomic_sandbox.rotate_key("nobody-knows")

    thread = threading.Thread(target=rotate)
    thread.start()
    with pytest.raises(PolytomicAuthError):
        task(deferrable=deferrable, poke_interval=0.02, retries=1).run(tries(1, None, max_tries=1))
    thread.join()
