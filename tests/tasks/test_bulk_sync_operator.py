"""The operator for bulk syncs, in the worker and deferred: outcomes, conflicts, deadlines, retries, kills."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException, AirflowSkipException
from airflow_provider_polytomic._airflow.deferral import DeferralState, ExecutionEvent
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
from airflow_provider_polytomic.operators import _blocking_execution
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sandbox.seed import POSTGRES_TO_WAREHOUSE as OTHER
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC

from .conftest import DagRun, Store, Task, TaskDeferred, finish_after_polls, fire, make_context

EXECUTIONS = f"/api/bulk/syncs/{SYNC}/executions"
SHORT: dict[str, Any] = {"poke_interval": 0.05}
UNREADABLE = r"verify must be .* no valid .*Airflow connection: 'polytomic_default'$"


def task(**arguments: Any) -> Task:
    arguments = {"task_id": "sync", "sync_id": SYNC, **SHORT, **arguments}
    if "sync_name" in arguments:
        del arguments["sync_id"]
    return Task(lambda: PolytomicBulkSyncOperator(**arguments))


def seed(**sync: Any) -> dict[str, Any]:
    return {"bulk_syncs": [{"name": "Orders", "id": SYNC, "schemas": ["orders", "customers"], "duration": 10, **sync}]}


# --- success


def test_operator_starts_one_execution_and_returns_its_id(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The task starts one execution, waits for its end and returns its id."""
    context = make_context()

    returned = task(deferrable=deferrable).run(context)

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    assert polytomic_sandbox.status(returned) == "completed"


def test_summary_has_the_same_fields_in_the_worker_and_deferred(polytomic_sandbox: Any) -> None:
    """XCom `execution` holds the same fields and counts whether the task waited in the worker or deferred."""
    summaries = []
    for deferrable in (False, True):
        context = make_context(run_id=f"run_{deferrable}")
        task(deferrable=deferrable).run(context)
        summaries.append(context["ti"].summary)

    worker, deferred = summaries
    different = {name for name in worker | deferred if worker.get(name) != deferred.get(name)}
    assert different <= {"execution_id", "executions", "created_at", "started_at", "completed_at", "updated_at"}
    assert worker["status"] == "completed"
    assert worker["record_count"] == sum(schema["record_count"] for schema in worker["schemas"])
    assert worker["adopted"] is False


def test_summary_is_pushed_at_the_start_and_at_the_end(polytomic_sandbox: Any, deferrable: bool) -> None:
    """XCom `execution` is available while the task waits."""
    context = make_context()

    task(deferrable=deferrable).run(context)

    keys = [key for key, _ in context["ti"].xcoms]
    assert [key for key in keys if key == "execution"] == ["execution", "execution"]
    assert context["ti"].xcoms[0][1]["status"] == "created"


def test_operator_pushes_no_xcom_when_do_xcom_push_is_false(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`do_xcom_push=False` pushes nothing."""
    context = make_context()

    task(deferrable=deferrable, do_xcom_push=False).run(context)

    assert context["ti"].xcoms == []


def test_operator_sends_its_arguments(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The request body of the start has exactly the arguments that were given."""
    task(resync_mode="rebuild", fetch_mode="full", schemas=["account"], deferrable=deferrable).run()

    (start,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert start.body == {"resync_mode": "rebuild", "fetch_mode": "full", "schemas": ["account"]}


def test_operator_sends_an_empty_body_without_options(polytomic_sandbox: Any) -> None:
    """Options that are False, empty or None are not sent."""
    task(test=False, resync_mode="", schemas=None).run()

    (start,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert start.body == {}


def test_operator_makes_a_test_run_when_test_is_true(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`test=True` makes a test run, and the summary says so."""
    context = make_context()

    task(test=True, deferrable=deferrable, min_records=1_000_000).run(context)

    assert context["ti"].summary["is_test"] is True


def test_operator_returns_immediately_when_wait_for_completion_is_false(
    polytomic_sandbox: Any, deferrable: bool
) -> None:
    """`wait_for_completion=False` returns the id of an execution that is still running, and never defers."""
    starting = task(wait_for_completion=False, deferrable=deferrable)

    returned = starting.run()

    assert starting.deferrals == []
    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    gets = [request for request in polytomic_sandbox.requests if request.path == f"{EXECUTIONS}/{returned}"]
    assert gets == []


class TestBlockingExecution:
    """An execution of another client that does not end by itself."""

    @pytest.fixture
    def polytomic_sandbox_speed(self) -> float:
        return 0.0001

    def test_operator_without_waiting_waits_for_it(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """`wait_for_completion=False` waits until its own start is possible; a deferrable task defers for it."""
        blocking = polytomic_sandbox.start_foreign(SYNC)
        starting = task(wait_for_completion=False, deferrable=deferrable)

        with finish_after_polls(polytomic_sandbox, blocking):
            returned = starting.run()

        assert [each.id for each in polytomic_sandbox.starts(SYNC)] == [blocking.id, returned]
        assert len(starting.deferrals) == int(deferrable)

    @pytest.mark.parametrize("sync_name", ["Salesforce to warehouse", None])
    def test_conflict_error_contains_the_sync_name(self, polytomic_sandbox: Any, sync_name: str | None) -> None:
        """As far as the task has it."""
        running = polytomic_sandbox.start_foreign(SYNC)
        named = {"sync_name": sync_name} if sync_name else {}
        sync = f"bulk sync {sync_name!r} ({SYNC})" if sync_name else f"bulk sync {SYNC}"

        with pytest.raises(PolytomicConflictError) as raised:
            task(if_running="fail", **named).run()

        assert f"execution {running.id} of {sync} has status" in str(raised.value)


def test_criteria_have_no_effect_when_wait_for_completion_is_false(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`queue_timeout`, `min_records` and `allow_errors` concern the end, for which the task does not wait."""
    returned = task(
        wait_for_completion=False, deferrable=deferrable, queue_timeout=0.001, min_records=10**9, allow_errors=0
    ).run()

    assert [each.id for each in polytomic_sandbox.starts(SYNC)] == [returned]
    assert not any(request.path.endswith("/cancel") for request in polytomic_sandbox.requests)


def test_operator_finds_its_sync_by_name_once_per_task(polytomic_sandbox: Any, deferrable: bool) -> None:
    """`sync_name` is looked up once, also when the task defers."""
    task(sync_name="Salesforce to warehouse", deferrable=deferrable).run()

    assert len(polytomic_sandbox.starts(SYNC)) == 1
    assert len([request for request in polytomic_sandbox.requests if request.path == "/api/bulk/syncs"]) == 1


def test_operator_fails_with_retries_when_the_sync_name_is_unknown(polytomic_sandbox: Any) -> None:
    """The error is retried, because the sync may be listed later."""
    with pytest.raises(PolytomicLookupError, match="'Salesforce to warehouse'"):
        task(sync_name="Salesforce to warehose").run()

    assert polytomic_sandbox.starts(SYNC) == []


def test_operator_fails_without_retries_when_the_sync_name_is_ambiguous(polytomic_sandbox: Any) -> None:
    """The message lists the ids of all syncs of that name."""
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


# --- outcomes


# Executions that end only when the test finishes them, however slow the machine is.
endless = pytest.mark.parametrize("polytomic_sandbox_speed", [0.0001], ids=["endless"])
# Executions that run long enough for a poll to see them running.
slower = pytest.mark.parametrize("polytomic_sandbox_speed", [8], ids=["slower"])


@endless
@pytest.mark.parametrize("status", ["failed", "canceled", "interrupted", "errors", "frobnicated"])
@pytest.mark.parametrize("when", ["before deferring", "while waiting"])
def test_operator_fails_unless_the_execution_completed(
    polytomic_sandbox: Any, deferrable: bool, status: str, when: str
) -> None:
    """Every final status but `completed` fails the task, with the same message whenever and wherever it is noticed."""
    context = make_context()

    with (
        FinishInBackground(polytomic_sandbox, status, at_once=when == "before deferring"),
        pytest.raises(PolytomicSyncError) as raised,
    ):
        task(deferrable=deferrable).run(context)

    (execution,) = polytomic_sandbox.starts(SYNC)
    assert execution.id in str(raised.value)
    assert "Salesforce to warehouse" in str(raised.value)
    assert repr(status) in str(raised.value)
    assert raised.value.execution.status == status
    assert context["ti"].summary["status"] == status


class FinishInBackground:
    """Finishes the execution that the task starts with this status, immediately or after a delay."""

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

    def test_operator_fails_when_a_schema_failed(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """The message has the schema and the server's reason."""
        context = make_context()

        with pytest.raises(PolytomicSyncError) as raised:
            task(deferrable=deferrable).run(context)

        assert 'customers: failed: column "email" is too long' in str(raised.value)
        assert "console log" in str(raised.value)
        assert context["ti"].summary["schemas"][0]["schema"] == "customers"

    def test_operator_succeeds_when_a_schema_failed_and_errors_are_allowed(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """`allow_errors=True` accepts a failed schema."""
        assert task(allow_errors=True, deferrable=deferrable).run() == polytomic_sandbox.starts(SYNC)[0].id

    def test_operator_reports_the_failure_when_the_console_log_cannot_be_read(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """The failure is reported without the end of the log."""
        polytomic_sandbox.faults.status(404, "GET .*/consolelog", times=None)

        with pytest.raises(PolytomicSyncError, match="customers"):
            task(deferrable=deferrable).run()


class TestFewRecords:
    """An execution moves three records."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(schemas=[{"id": "orders", "rows": 3}])

    @pytest.mark.parametrize(("min_records", "good"), [(None, True), (3, True), ("3", True), (4, False)])
    def test_operator_fails_when_fewer_records_than_min_records_moved(
        self, polytomic_sandbox: Any, deferrable: bool, min_records: Any, good: bool
    ) -> None:
        """An execution with fewer records than `min_records` fails the task."""
        limited = task(min_records=min_records, deferrable=deferrable)

        if good:
            limited.run()
        else:
            with pytest.raises(PolytomicSyncError, match="moved 3 records, but min_records is 4"):
                limited.run()


class TestUnknownStatus:
    """The server returns an undocumented status while the execution runs."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(stages=["created", "scheduled", "warming_up"], duration=150)

    def test_operator_warns_once_of_an_unknown_status_and_keeps_waiting(
        self, polytomic_sandbox: Any, deferrable: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An unknown status is neither success nor failure."""
        task(deferrable=deferrable, poke_interval=0.01).run()

        warnings = [record for record in caplog.records if "warming_up" in record.getMessage()]
        assert len([record for record in warnings if record.levelname == "WARNING"]) == 1


class TestManySchemas:
    """More schemas than an XCom should hold, one of them failed."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        good = [{"id": f"table_{number:03}"} for number in range(140)]
        return seed(schemas=[*good, {"id": "zebra", "outcome": "failed", "status_message": "x" * 2000}])

    def test_summary_holds_100_schemas_with_failed_ones_first(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """The summary also has the number of schemas that were left out."""
        context = make_context()

        with pytest.raises(PolytomicSyncError, match="zebra"):
            task(deferrable=deferrable).run(context)

        summary = context["ti"].summary
        assert [summary["schemas"][0]["schema"], len(summary["schemas"])] == ["zebra", 100]
        assert summary["schemas_omitted"] == 41
        assert len(summary["schemas"][0]["status_message"]) <= 301


# --- errors


@pytest.mark.parametrize("fault", ["503", "html", "truncated", "cut", "empty", "dropped", "429"])
def test_operator_keeps_waiting_through_failed_polls(polytomic_sandbox: Any, deferrable: bool, fault: str) -> None:
    """Server errors, lost connections and foreign pages do not end the wait, and nothing is started twice."""
    polls = f"GET {EXECUTIONS}/.*"
    if fault == "503":
        polytomic_sandbox.faults.status(503, polls, times=2)
    elif fault == "429":
        polytomic_sandbox.faults.status(429, polls, headers={"Retry-After": "0.1"}, times=2)
    elif fault == "dropped":
        polytomic_sandbox.faults.drop_before(polls, times=2)
    else:
        polytomic_sandbox.faults.garbage(fault, polls, times=2)

    task(deferrable=deferrable).run()

    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_log_has_a_line_for_each_kind_of_failure_in_an_outage(
    polytomic_sandbox: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Repeated failures of one kind are logged once."""
    polls = f"GET {EXECUTIONS}/.*"
    polytomic_sandbox.faults.status(503, polls, times=2)
    polytomic_sandbox.faults.drop_before(polls, times=2)

    task().run()

    failures = [line for line in caplog.messages if "could not be polled" in line]
    assert len(failures) == 2
    assert all(re.search(r"Polling again, for up to (600|59\d) s\.$", line) for line in failures)


@pytest.mark.parametrize("fault", ["after", "before", "html", "truncated", "gateway"])
def test_start_with_a_lost_response_starts_one_execution(polytomic_sandbox: Any, deferrable: bool, fault: str) -> None:
    """The start is repeated with the same idempotency key, and the task waits for the execution that exists."""
    start = f"POST {EXECUTIONS}"
    if fault == "gateway":
        polytomic_sandbox.faults.status(502, start, body="<html>bad gateway</html>", processed=True)
    elif fault in ("html", "truncated"):
        polytomic_sandbox.faults.garbage(fault, start)
    else:
        getattr(polytomic_sandbox.faults, f"drop_{fault}")(start)

    returned = task(deferrable=deferrable).run()

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    keys = {request.headers["idempotency-key"] for request in polytomic_sandbox.requests if request.method == "POST"}
    assert len(keys) == 1


def test_operator_fails_without_retries_when_the_key_is_rejected_before_the_start(
    polytomic_sandbox: Any, deferrable: bool
) -> None:
    """An API key that is rejected before anything was started fails the task for good."""
    polytomic_sandbox.rotate_key("another-key")

    with pytest.raises(AirflowFailException, match=r"^PolytomicAuthError: .*401"):
        task(deferrable=deferrable).run()


def test_operator_fails_without_retries_when_the_sync_does_not_exist(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The message has the path that was requested."""
    with pytest.raises(AirflowFailException, match="/api/bulk/syncs/nowhere/executions"):
        task(sync_id="nowhere", deferrable=deferrable).run()


def test_operator_fails_without_retries_when_the_server_rejects_the_start(polytomic_sandbox: Any) -> None:
    """The message has the server's reason."""
    with pytest.raises(AirflowFailException, match="no_such_schema"):
        task(schemas=["no_such_schema"]).run()


@slower
def test_operator_fails_without_retries_when_its_execution_vanishes(polytomic_sandbox: Any, deferrable: bool) -> None:
    """An execution that was seen and then returns 404 fails the task."""
    with VanishInBackground(polytomic_sandbox), pytest.raises(AirflowFailException, match="404"):
        task(deferrable=deferrable).run()


class VanishInBackground(FinishInBackground):
    def __init__(self, sandbox: Any) -> None:
        super().__init__(sandbox, "", at_once=False)

    def _work(self) -> None:
        while not self._over.wait(0.002):
            polls = [r for r in self._sandbox.requests if r.method == "GET" and r.path.startswith(EXECUTIONS + "/")]
            if polls:
                self._sandbox.faults.vanish(self._sandbox.starts(SYNC)[0].id)
                return


# --- foreign executions


@endless
def test_log_distinguishes_deferrals_for_blocking_and_owned_executions(
    polytomic_sandbox: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker's log says for which execution the task is deferred, and what follows."""
    caplog.set_level("INFO")
    work, context = task(deferrable=True), make_context()
    blocking = polytomic_sandbox.start_foreign(SYNC)
    with pytest.raises(TaskDeferred) as blocked:
        work.make().execute(context)
    with finish_after_polls(polytomic_sandbox, blocking):
        event = fire(blocked.value.trigger)
    with pytest.raises(TaskDeferred) as owned:
        work.make().execute_complete(context, event)

    log = caplog.text + capsys.readouterr().out  # Airflow 2 logs to the former, Airflow 3 to the latter
    assert re.findall(r"Deferred: the triggerer waits for the end of (.*?\.)", log) == [
        f"blocking execution {blocking.id}.",
        f"execution {owned.value.trigger.execution_id}.",
    ]
    assert log.count("Then this task starts its own.") == 1


@endless
def test_log_calls_a_blocking_execution_so_until_it_has_ended(
    polytomic_sandbox: Any, caplog: pytest.LogCaptureFixture, deferrable: bool
) -> None:
    """Its progress cannot be taken for that of the task's own execution."""
    caplog.set_level("INFO")
    blocking = polytomic_sandbox.start_foreign(SYNC)

    with finish_after_polls(polytomic_sandbox, blocking):
        work = task(deferrable=deferrable, sync_name="Salesforce to warehouse", wait_for_completion=False)
        returned = work.run()

    sync = f"of bulk sync 'Salesforce to warehouse' ({SYNC})"
    lines = [record.getMessage() for record in caplog.records]
    ends = [line for line in lines if line.startswith(f"Blocking execution {blocking.id} {sync}")]
    assert ends[-1] == f"Blocking execution {blocking.id} {sync} has ended: completed."
    assert not [line for line in lines if line.startswith(f"Execution {blocking.id}")]
    assert not [line for line in lines if line.startswith(f"Blocking execution {returned}")]


@endless
@pytest.mark.parametrize("is_blocking", [False, True])
def test_timeout_names_the_sync_and_the_execution(polytomic_sandbox: Any, deferrable: bool, is_blocking: bool) -> None:
    """The name is known because the sync was looked up by it."""
    foreign = polytomic_sandbox.start_foreign(SYNC) if is_blocking else None

    with pytest.raises(PolytomicTimeoutError) as caught:
        task(deferrable=deferrable, sync_name="Salesforce to warehouse", timeout=0.3).run()

    noun = "Blocking execution" if is_blocking else "Execution"
    execution = foreign or polytomic_sandbox.starts(SYNC)[0]
    subject = f"{noun} {execution.id} of bulk sync 'Salesforce to warehouse' ({SYNC}) had not ended at the deadline; "
    assert str(caught.value).startswith(subject)
    assert str(caught.value).endswith("The deadline is set by timeout=0.3 s")


@slower
@pytest.mark.parametrize("policy", ["wait", "cancel"])
def test_operator_waits_for_or_cancels_a_blocking_execution(
    polytomic_sandbox: Any, deferrable: bool, policy: str
) -> None:
    """`wait` and `cancel` start the task's execution when the blocking one has ended; only `cancel` cancels it."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    returned = task(if_running=policy, deferrable=deferrable).run()

    assert [foreign.id, returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    assert polytomic_sandbox.status(foreign.id) == {"wait": "completed", "cancel": "canceled"}[policy]


@slower
def test_attach_adopts_the_running_execution(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The summary says that the execution was adopted, and nothing is started."""
    foreign = polytomic_sandbox.start_foreign(SYNC)
    context = make_context()

    assert task(if_running="attach", deferrable=deferrable).run(context) == foreign.id
    assert context["ti"].summary["adopted"] is True
    assert len(polytomic_sandbox.starts(SYNC)) == 1


@pytest.mark.parametrize(
    ("foreign_options", "options"),
    [
        ({"test": True}, {}),
        ({}, {"test": True}),
        ({}, {"resync_mode": "rebuild"}),
        ({"schemas": ["account"]}, {}),
        ({"schemas": ["account"]}, {"schemas": ["account", "contact"]}),
        ({}, {"fetch_mode": "full"}),
    ],
)
def test_attach_does_not_adopt_an_execution_that_does_less(
    polytomic_sandbox: Any, foreign_options: Any, options: Any
) -> None:
    """The task waits for the end of such an execution and starts its own."""
    foreign = polytomic_sandbox.start_foreign(SYNC, **foreign_options)

    assert task(if_running="attach", **options).run() != foreign.id
    assert polytomic_sandbox.status(foreign.id) == "completed"


def test_attach_adopts_a_full_execution_for_a_partial_start(polytomic_sandbox: Any) -> None:
    """A full execution includes the schemas that the task names."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    assert task(if_running="attach", schemas=["account"]).run() == foreign.id


def test_if_running_fail_raises_a_conflict(polytomic_sandbox: Any, deferrable: bool) -> None:
    """PolytomicConflictError is retried, and names the running execution."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    with pytest.raises(PolytomicConflictError, match=foreign.id):
        task(if_running="fail", deferrable=deferrable).run()
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_if_running_skip_skips_the_task(polytomic_sandbox: Any, deferrable: bool) -> None:
    """The task is skipped and starts nothing."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    with pytest.raises(AirflowSkipException, match=foreign.id):
        task(if_running="skip", deferrable=deferrable).run()
    assert len(polytomic_sandbox.starts(SYNC)) == 1


@pytest.mark.parametrize("differ_by", [{"run_id": ["one", "two"]}, {"map_index": [0, 1]}], ids=["runs", "mapped"])
def test_concurrent_tasks_of_one_sync_run_one_after_the_other(
    polytomic_sandbox: Any, deferrable: bool, differ_by: dict[str, list[Any]]
) -> None:
    """Two runs or mapped tasks that start the same sync at once each get an execution of their own."""
    results: dict[str, Any] = {}
    ((argument, values),) = differ_by.items()

    def work(value: Any) -> None:
        results[value] = task(deferrable=deferrable).run(make_context(**{argument: value}))

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
    """The sync takes far longer than the timeout."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=100_000)

    def test_timeout_cancels_the_execution_and_fails_the_task(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """At the deadline the execution is canceled, once, and the task fails with PolytomicTimeoutError."""
        with pytest.raises(PolytomicTimeoutError, match=r"the cancel request was accepted\. .* timeout=0\.3 s$"):
            task(timeout=0.3, deferrable=deferrable).run()

        cancels = [request for request in polytomic_sandbox.requests if request.path.endswith("/cancel")]
        assert [f"{EXECUTIONS}/{polytomic_sandbox.starts(SYNC)[0].id}/cancel"] == [cancel.path for cancel in cancels]

    def test_execution_timeout_cancels_the_execution_and_fails_the_task(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """The deadline comes before Airflow's own `execution_timeout`, so that the execution is canceled."""
        with pytest.raises(PolytomicTimeoutError, match="the cancel request was accepted") as caught:
            task(execution_timeout=timedelta(seconds=1), timeout=60, deferrable=deferrable).run()

        assert "The deadline is set by execution_timeout=1 s, of which 0.5 s are reserved" in str(caught.value)

    def test_deadline_leaves_an_adopted_execution_running(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """An execution that the task did not start is left running."""
        foreign = polytomic_sandbox.start_foreign(SYNC)

        with pytest.raises(PolytomicTimeoutError, match="left running"):
            task(timeout=0.3, if_running="attach", deferrable=deferrable).run()
        assert polytomic_sandbox.running(SYNC).id == foreign.id

    def test_deadline_leaves_a_blocking_execution_running(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """The deadline includes the time spent waiting for a blocking execution."""
        foreign = polytomic_sandbox.start_foreign(SYNC)

        with pytest.raises(PolytomicTimeoutError, match=r"^Blocking .*; it had to end before"):
            task(timeout=0.3, deferrable=deferrable).run()
        assert polytomic_sandbox.running(SYNC).id == foreign.id
        assert len(polytomic_sandbox.starts(SYNC)) == 1

    def test_deadline_leaves_the_execution_running_when_cancel_on_kill_is_false(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """`cancel_on_kill=False` applies to the deadline as well."""
        with pytest.raises(PolytomicTimeoutError, match="left running"):
            task(timeout=0.3, cancel_on_kill=False, deferrable=deferrable).run()
        assert polytomic_sandbox.running(SYNC) is not None

    def test_deadline_before_the_start_fails_the_task_without_a_start(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """The message has the failure that delayed the start."""
        polytomic_sandbox.faults.status(503, f"GET {EXECUTIONS}", times=None)

        with pytest.raises(
            PolytomicTimeoutError, match=rf"before an execution of bulk sync {SYNC} could be started: .*503"
        ):
            task(timeout=0.3, deferrable=deferrable).run()
        assert polytomic_sandbox.starts(SYNC) == []

    def test_worker_starts_nothing_when_the_blocking_execution_ends_after_the_deadline(
        self, polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The blocking execution ends, but the deadline has passed by then."""
        foreign = polytomic_sandbox.start_foreign(SYNC)

        def finish_late(*_: Any) -> None:
            polytomic_sandbox.finish(SYNC, foreign.id)
            time.sleep(0.4)

        monkeypatch.setattr(_blocking_execution, "wait_for_blocking_execution", finish_late)
        with pytest.raises(
            PolytomicTimeoutError, match=f"before an execution of bulk sync {SYNC} could be started: .*{foreign.id}"
        ):
            task(timeout=0.3).run()
        assert [execution.id for execution in polytomic_sandbox.starts(SYNC)] == [foreign.id]

    @pytest.mark.parametrize(
        ("state", "status"), [({"is_blocking": True}, "completed"), ({"origin": "resumed"}, "canceled")]
    )
    def test_resumed_task_starts_nothing_after_the_deadline(
        self, polytomic_sandbox: Any, state: dict[str, Any], status: str
    ) -> None:
        """The event says after the deadline that a blocking execution ended, or that a resumed one was canceled."""
        ended = polytomic_sandbox.start_foreign(SYNC)
        polytomic_sandbox.finish(SYNC, ended.id, status)
        event = ExecutionEvent(
            "ended",
            SYNC,
            ended.id,
            DeferralState(**state),
            deadline=time.time() - 1,
            execution={"execution_id": ended.id, "status": status},
        )

        with pytest.raises(
            PolytomicTimeoutError, match=f"before an execution of bulk sync {SYNC} could be started: .*{ended.id}"
        ):
            task().make().execute_complete(make_context(), event.to_payload())
        assert [execution.id for execution in polytomic_sandbox.starts(SYNC)] == [ended.id]

    def test_deadline_during_a_start_without_response_cancels_the_execution(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """The outcome of a start is resolved even after the deadline: the execution is found, and canceled."""
        polytomic_sandbox.faults.drop_after(f"POST {EXECUTIONS}", times=2)  # about 1.5 seconds of retries

        with pytest.raises(PolytomicTimeoutError, match="the cancel request was accepted"):
            task(timeout=0.3, deferrable=deferrable).run()
        (execution,) = polytomic_sandbox.starts(SYNC)
        assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")

    @pytest.mark.parametrize("last", [False, True])
    def test_deadline_of_a_retry_releases_or_cancels_the_execution_of_an_earlier_try(
        self, polytomic_sandbox: Any, last: bool
    ) -> None:
        """An execution of unknown state is left to the next try, or canceled in the last."""
        work = task(retries=2)
        with pytest.raises(Died):
            dying_operator(work.make, "before its response").execute(tries(1, None))
        (execution,) = polytomic_sandbox.starts(SYNC)
        polytomic_sandbox.faults.status(503, f"GET {EXECUTIONS}/.*", times=None)

        with pytest.raises(PolytomicTimeoutError, match="503"):
            task(timeout=0.3, retries=2).make().execute(tries(2, None, max_tries=1 if last else 2))
        assert (polytomic_sandbox.status(execution.id) in ("canceling", "canceled")) == last

    @pytest.mark.parametrize("error", [RuntimeError, ValueError])
    @pytest.mark.parametrize("last", [False, True])
    def test_error_after_a_start_releases_or_cancels_the_execution(
        self,
        polytomic_sandbox: Any,
        monkeypatch: pytest.MonkeyPatch,
        deferrable: bool,
        error: type[Exception],
        last: bool,
    ) -> None:
        """Any error leaves the execution running for the next try; in the last try the execution is canceled."""

        def fail(*_: Any, **__: Any) -> None:
            raise error("a bug")

        monkeypatch.setattr(PolytomicBulkSyncOperator, "_open_console_log", fail)

        with pytest.raises(error, match="a bug"):
            task(deferrable=deferrable, retries=0 if last else 1).run(tries(1, None, max_tries=0 if last else 1))
        assert (polytomic_sandbox.status(polytomic_sandbox.starts(SYNC)[0].id) in ("canceling", "canceled")) == last

    def test_trigger_fires_immediately_when_its_deadline_has_passed(self, polytomic_sandbox: Any) -> None:
        """A trigger that begins to run after the deadline gets no further time."""
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
    """With and without Airflow's task state store (≥ 3.3): without it the idempotency keys have to suffice."""
    return Store() if request.param == "store" else None


class Died(BaseException):
    """The task's process died."""


def dying_operator(make: Any, when: str) -> Any:
    """An operator whose process dies before the start is sent, before its response is read, or after it was read."""
    operator = make()
    send = operator._send_and_own

    def fatal(request: Any) -> Any:
        if request.idempotency_key is not None and when == "before the start":
            raise Died
        response = send(request)
        if request.idempotency_key is not None and when == "before its response":
            raise Died
        if request.idempotency_key is None and operator._ownership.owned is not None and when == "after its response":
            raise Died
        return response

    operator._send_and_own = fatal
    return operator


@pytest.mark.parametrize("when", ["before the start", "before its response", "after its response"])
def test_retry_resumes_the_execution_of_a_dead_try(
    polytomic_sandbox: Any, deferrable: bool, when: str, store: Store | None
) -> None:
    """Wherever the first try's process died, the retry ends with exactly one execution."""
    work = task(retries=2, deferrable=deferrable)
    with pytest.raises(Died):
        dying_operator(work.make, when).execute(tries(1, store))

    returned = work.run(tries(2, store))

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


@pytest.mark.parametrize("when", ["before the start", "before its response"])
def test_retry_resumes_the_execution_after_two_dead_tries(
    polytomic_sandbox: Any, deferrable: bool, when: str, store: Store | None
) -> None:
    """The third try ends with exactly one execution."""
    work = task(retries=2, deferrable=deferrable)
    for number in (1, 2):
        with pytest.raises(Died):
            dying_operator(work.make, when if number == 1 else "before its response").execute(tries(number, store))

    returned = work.run(tries(3, store))

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


def test_error_names_the_execution_of_an_earlier_try_that_may_still_be_running(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """A retry whose key is rejected resumes nothing. Its log is the one that people read first."""
    work = task(retries=1, deferrable=deferrable)
    with pytest.raises(Died):
        dying_operator(work.make, "after its response").execute(tries(1, store, max_tries=1))
    (started,) = polytomic_sandbox.starts(SYNC)
    polytomic_sandbox.rotate_key("another key")

    with pytest.raises(PolytomicAuthError) as caught:
        work.run(tries(2, store, max_tries=1))

    known = f"Try 1 of this task started execution {started.id} of bulk sync {SYNC}, which may still be running"
    unknown = "An execution that an earlier try of this task started may still be running"
    assert (unknown if store is None else known) in str(caught.value)


@endless
def test_retry_after_a_clear_searches_the_name_again(polytomic_sandbox: Any) -> None:
    """The sync of a try before the clear may be another one than has the name now."""
    store = Store()
    polytomic_sandbox.touch(SYNC, name="Target")
    work = task(sync_name="Target", retries=1, wait_for_completion=False)
    work.run(tries(1, store, max_tries=1))
    polytomic_sandbox.touch(SYNC, name="Renamed")
    with pytest.raises(PolytomicLookupError):
        work.run(tries(2, store, max_tries=2))  # the first try after a clear
    polytomic_sandbox.touch(OTHER, name="Target")

    returned = work.run(tries(3, store, max_tries=2))

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(OTHER)]


def test_log_says_that_a_start_is_repeated(polytomic_sandbox: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A start can be repeated for a minute, which would be silent otherwise."""
    caplog.set_level("INFO", "airflow_provider_polytomic")
    polytomic_sandbox.faults.status(503, f"POST {EXECUTIONS}", times=2)

    task().run()

    repeated = [line for line in caplog.messages if "Repeating the start with the same idempotency key" in line]
    assert len(repeated) == 1
    assert f"POST /api/bulk/syncs/{SYNC}/executions: HTTP 503" in repeated[0]


@slower
def test_retry_starts_a_new_execution_when_the_last_one_failed(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """The retry starts exactly one new execution, and its outcome is the task's."""
    work = task(retries=2, deferrable=deferrable)
    with FinishInBackground(polytomic_sandbox, "failed", at_once=False), pytest.raises(PolytomicSyncError):
        work.run(tries(1, store))

    returned = work.run(tries(2, store))

    failed, good = polytomic_sandbox.starts(SYNC)
    assert returned == good.id
    assert polytomic_sandbox.status(failed.id) == "failed"


def test_retry_accepts_an_execution_that_completed_between_tries(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """An execution that completed while no process waited counts, and nothing is started again."""
    work = task(retries=2, resync_mode="rebuild", deferrable=deferrable)
    with pytest.raises(Died):
        dying_operator(work.make, "after its response").execute(tries(1, store))
    (execution,) = polytomic_sandbox.starts(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id)

    assert work.run(tries(2, store)) == execution.id
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_retry_starts_nothing_again_when_wait_for_completion_is_false(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """With `wait_for_completion=False` an execution that was started counts, even if it failed."""
    work = task(retries=2, wait_for_completion=False, deferrable=deferrable)
    with pytest.raises(Died):
        dying_operator(work.make, "before its response").execute(tries(1, store))
    (execution,) = polytomic_sandbox.starts(SYNC)
    polytomic_sandbox.finish(SYNC, execution.id, "failed")

    assert work.run(tries(2, store)) == execution.id
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_clear_of_a_successful_task_starts_a_new_execution(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """Clearing a task that has succeeded starts a new execution."""
    work = task(retries=2, deferrable=deferrable)
    first = work.run(tries(1, store))

    second = work.run(tries(2, store, max_tries=3))  # as Airflow sets them after a clear

    assert [first, second] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


@slower
def test_clear_of_a_running_task_cancels_its_execution_and_starts_a_new_one(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """The old execution is canceled because the task owns it. The new one starts when it has ended."""
    work = task(retries=2, deferrable=deferrable)
    with pytest.raises(Died):
        dying_operator(work.make, "after its response").execute(tries(1, store))

    returned = work.run(tries(2, store, max_tries=3))

    old, new = polytomic_sandbox.starts(SYNC)
    assert returned == new.id
    assert polytomic_sandbox.status(old.id) == "canceled"


@endless
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_cleared_task_ignores_the_event_of_its_earlier_trigger(
    polytomic_sandbox: Any, status: str, store: Store | None
) -> None:
    """Where a database reuses a trigger's id, the earlier trigger can fire for the cleared task: it starts over."""
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
    with finish_after_polls(polytomic_sandbox, new):
        event = fire(after.value.trigger)
    assert work.make().execute_complete(cleared, event) == new.id


def test_operator_ignores_the_event_of_another_task(polytomic_sandbox: Any) -> None:
    """Where the trigger of another task fires for this one, the task resumes its own execution."""
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


def test_operator_accepts_an_event_without_task_and_try(polytomic_sandbox: Any) -> None:
    """Another release of this provider may have deferred the task."""
    work = task(deferrable=True)
    with pytest.raises(TaskDeferred) as deferral:
        work.make().execute(tries(1, None))
    (execution,) = polytomic_sandbox.starts(SYNC)
    event = fire(deferral.value.trigger)
    del event["deferral_state"]["try_number"], event["deferral_state"]["task_instance_name"]

    assert work.make().execute_complete(tries(2, None), event) == execution.id
    assert len(polytomic_sandbox.starts(SYNC)) == 1


def test_clear_waits_for_the_old_execution_when_cancel_on_kill_is_false(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """A cleared task's old execution is not canceled. The new one starts when it has ended."""
    work = task(retries=2, deferrable=deferrable, cancel_on_kill=False)
    with pytest.raises(Died):
        dying_operator(work.make, "after its response").execute(tries(1, store))

    returned = work.run(tries(2, store, max_tries=3))

    old, new = polytomic_sandbox.starts(SYNC)
    assert returned == new.id
    assert polytomic_sandbox.status(old.id) == "completed"


def test_dag_run_recreated_with_the_same_id_starts_its_own_execution(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """A DAG run that was deleted and triggered again is not given the execution of the deleted one."""
    work = task(deferrable=deferrable)
    first = work.run(tries(1, store))

    second = work.run(tries(1, store, run=DagRun(datetime(2026, 2, 2, tzinfo=timezone.utc))))

    assert first != second


def test_mapped_task_resumes_no_execution_of_another_sync(polytomic_sandbox: Any) -> None:
    """Mapped tasks that are expanded in another order in the next try do not exchange their executions."""
    other = "b0000000-0000-4000-8000-000000000002"
    stores = [Store(), Store()]
    for index, sync_id in enumerate([SYNC, other]):
        context = make_context(store=stores[index], map_index=index, max_tries=2)
        with pytest.raises(Died):
            dying_operator(task(sync_id=sync_id, retries=2).make, "after its response").execute(context)

    swapped = [
        task(sync_id=sync_id, retries=2).run(
            make_context(store=stores[index], map_index=index, try_number=2, max_tries=3)
        )
        for index, sync_id in enumerate([other, SYNC])
    ]

    assert swapped[0] in {execution.id for execution in polytomic_sandbox.starts(other)}
    assert swapped[1] in {execution.id for execution in polytomic_sandbox.starts(SYNC)}


# --- kills


def test_kill_before_a_start_sends_no_request(polytomic_sandbox: Any) -> None:
    """A task that is killed before it started anything sends nothing."""
    task().make().on_kill()

    assert polytomic_sandbox.requests == []


def _kill_after(operator: Any, sandbox: Any, condition: Any) -> threading.Thread:
    def work() -> None:
        while not any(condition(request) for request in sandbox.requests):
            time.sleep(0.005)
        operator.on_kill()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


class TestKill:
    """A task is killed while its execution runs."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=100_000)

    def test_kill_cancels_the_execution_once(self, polytomic_sandbox: Any) -> None:
        """A killed worker cancels its execution with one request, and stops polling."""
        operator = task().make()
        killer = _kill_after(operator, polytomic_sandbox, lambda r: r.path.startswith(EXECUTIONS + "/"))
        with pytest.raises(Exception, match="The task was killed"):
            operator.execute(make_context())
        killer.join()
        operator.on_kill()

        cancels = [request for request in polytomic_sandbox.requests if request.path.endswith("/cancel")]
        assert len(cancels) == 1

    def test_kill_leaves_the_execution_running_when_cancel_on_kill_is_false(self, polytomic_sandbox: Any) -> None:
        """`cancel_on_kill=False` sends no cancel request."""
        operator = task(cancel_on_kill=False).make()
        killer = _kill_after(operator, polytomic_sandbox, lambda r: r.path.startswith(EXECUTIONS + "/"))
        with pytest.raises(Exception, match="The task was killed"):
            operator.execute(make_context())
        killer.join()

        assert polytomic_sandbox.running(SYNC) is not None

    def test_kill_during_a_start_cancels_the_execution(self, polytomic_sandbox: Any) -> None:
        """An execution whose start was in flight is canceled when the response arrives."""
        polytomic_sandbox.faults.delay(0.5, f"POST {EXECUTIONS}", after=True)
        operator = task().make()
        timer = threading.Timer(0.2, operator.on_kill)
        timer.start()
        with pytest.raises(Exception, match="The task was killed"):
            operator.execute(make_context())
        timer.join()

        cancels = [request for request in polytomic_sandbox.requests if request.path.endswith("/cancel")]
        assert len(cancels) == 1
        assert len(polytomic_sandbox.starts(SYNC)) == 1

    def test_kill_of_a_resuming_retry_cancels_the_execution(self, polytomic_sandbox: Any) -> None:
        """A retry that is killed while it reads the execution of an earlier try cancels that execution."""
        work = task(retries=1)
        with pytest.raises(Died):
            dying_operator(work.make, "after its response").execute(tries(1, None, max_tries=1))
        (execution,) = polytomic_sandbox.starts(SYNC)
        polytomic_sandbox.faults.delay(0.5, f"GET {EXECUTIONS}/{execution.id}")
        operator = work.make()
        killer = threading.Timer(0.3, operator.on_kill)
        killer.start()
        with pytest.raises(Exception, match="The task was killed"):
            operator.execute(tries(2, None, max_tries=1))
        killer.join()

        assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")

    def test_kill_before_the_start_prevents_the_start(self, polytomic_sandbox: Any) -> None:
        """A task that is killed while it lists executions starts nothing."""
        polytomic_sandbox.faults.delay(0.4, f"GET {EXECUTIONS}")
        operator = task().make()
        timer = threading.Timer(0.1, operator.on_kill)
        timer.start()
        with pytest.raises(Exception, match="The task was killed"):
            operator.execute(make_context())
        timer.join()

        assert polytomic_sandbox.starts(SYNC) == []

    def test_kill_raises_nothing_when_the_cancel_fails(self, polytomic_sandbox: Any) -> None:
        """A cancel request that the server rejects raises no error in `on_kill`."""
        polytomic_sandbox.faults.status(500, "POST .*/cancel", times=None)
        operator = task().make()
        killer = _kill_after(operator, polytomic_sandbox, lambda r: r.path.startswith(EXECUTIONS + "/"))
        with pytest.raises(Exception, match="The task was killed"):
            operator.execute(make_context())
        killer.join()

    def test_kill_leaves_an_adopted_execution_running(self, polytomic_sandbox: Any) -> None:
        """An execution that the task did not start is not canceled."""
        foreign = polytomic_sandbox.start_foreign(SYNC)
        operator = task(if_running="attach").make()
        killer = _kill_after(operator, polytomic_sandbox, lambda r: r.path == f"{EXECUTIONS}/{foreign.id}")
        with pytest.raises(Exception, match="The task was killed"):
            operator.execute(make_context())
        killer.join()

        assert polytomic_sandbox.running(SYNC).id == foreign.id


def test_retry_fails_when_the_outcome_of_an_earlier_start_is_unknown(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry that cannot resolve an earlier attempt fails, and does not start in the next attempt."""
    work = task(retries=3)
    with pytest.raises(Died):
        dying_operator(work.make, "before its response").execute(tries(1, None))
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
def test_operator_fails_when_the_trigger_event_is_malformed(polytomic_sandbox: Any, event: Any) -> None:
    """An event without the status `completed` fails the task with a documented error."""
    from airflow_provider_polytomic.api.errors import PolytomicError

    with pytest.raises((PolytomicError, AirflowFailException)):
        task().make().execute_complete(make_context(), event=event)


def test_outage_leaves_the_execution_running_for_the_next_try(polytomic_sandbox: Any) -> None:
    """When the trigger gave up, the retry resumes the execution. The error keeps its type."""
    execution = polytomic_sandbox.start_foreign(SYNC)
    event = outage_event(execution.id)

    with pytest.raises(PolytomicServerError, match="no valid response"):
        task(retries=1).make().execute_complete(tries(1, None, max_tries=1), event=event)
    assert polytomic_sandbox.status(execution.id) != "canceling"


def test_outage_in_the_last_try_cancels_the_execution(polytomic_sandbox: Any) -> None:
    """When no try follows, the execution is canceled, so that none is left running unattended."""
    execution = polytomic_sandbox.start_foreign(SYNC)

    with pytest.raises(PolytomicServerError):
        task().make().execute_complete(tries(1, None, max_tries=0), event=outage_event(execution.id))
    assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")


@pytest.mark.parametrize("outcome", ["error", "timeout"])
def test_operator_keeps_the_error_when_the_cancel_fails(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """A connection that cannot be read when the execution should be canceled does not replace the error."""
    monkeypatch.delenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT")

    with pytest.raises((PolytomicServerError, PolytomicTimeoutError), match="no valid response"):
        task().make().execute_complete(tries(1, None, max_tries=0), event=outage_event("e1") | {"outcome": outcome})


def outage_event(execution_id: str) -> dict[str, Any]:
    return ExecutionEvent(
        "error",
        SYNC,
        execution_id,
        DeferralState(origin="started"),
        message="GET …: HTTP 503: no valid response for 600 s",
        error_type="PolytomicServerError",
        still_running=True,
    ).to_payload()


class TestRotatedKey:
    """The sync takes longer than it takes to see that a key is rejected, however slow the machine is."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=100_000)

    def test_operator_reloads_the_connection_when_the_key_is_rotated(
        self, polytomic_sandbox: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When a poll is rejected, the connection is read again, and the wait continues with the new key."""
        connection = json.loads(os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"])

        def rotate() -> None:
            # One poll is the worker's, before it defers.
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

    def test_error_names_the_connection_when_the_key_is_rejected_while_waiting(
        self, polytomic_sandbox: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also if the request was sent by the triggerer."""
        monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_EU", os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"])

        def rotate() -> None:
            while sum(request.path.startswith(EXECUTIONS + "/") for request in polytomic_sandbox.requests) < 2:
                time.sleep(0.001)
            polytomic_sandbox.rotate_key("another-key")

        thread = threading.Thread(target=rotate, daemon=True)
        thread.start()
        with pytest.raises(PolytomicAuthError, match=r"HTTP 401.*Airflow connection: 'polytomic_eu'$"):
            task(deferrable=deferrable, poke_interval=0.02, timeout=60, polytomic_conn_id="polytomic_eu").run()
        thread.join()

    @pytest.mark.parametrize("passes", [True, False])
    def test_operator_treats_an_unreadable_connection_as_an_outage(
        self, polytomic_sandbox: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch, passes: bool
    ) -> None:
        """With a rotated key and an invalid connection, the task polls until the outage budget is used up."""
        name = "AIRFLOW_CONN_POLYTOMIC_DEFAULT"
        right = json.loads(os.environ[name]) | {"password": "a-new-key"}
        original, seen = client_module.connection_unreadable, threading.Event()
        monkeypatch.setattr(client_module, "connection_unreadable", lambda error: (seen.set(), original(error))[1])
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
        with nullcontext() if passes else pytest.raises(PolytomicUnreachableError, match=UNREADABLE):
            task(deferrable=deferrable, poke_interval=0.02, retries=1).run(tries(1, None, max_tries=1))
        thread.join()
        assert seen.is_set()


def test_operator_fails_with_retries_when_the_rotated_key_stays_rejected(
    polytomic_sandbox: Any, deferrable: bool
) -> None:
    """A key that is rejected during the wait, also after the connection was read again, fails the try."""

    def rotate() -> None:
        while not any(request.path.startswith(EXECUTIONS + "/") for request in polytomic_sandbox.requests):
            time.sleep(0.001)
        polytomic_sandbox.rotate_key("another-key")

    thread = threading.Thread(target=rotate)
    thread.start()
    with pytest.raises(PolytomicAuthError):
        task(deferrable=deferrable, poke_interval=0.02, retries=1).run(tries(1, None, max_tries=1))
    thread.join()
