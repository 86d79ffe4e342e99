"""What differs for model syncs. The shared behavior is tested with bulk syncs."""

from __future__ import annotations

import logging
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic.api.errors import PolytomicSyncError, PolytomicTimeoutError
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import WAREHOUSE
from airflow_provider_polytomic.sandbox.seed import WAREHOUSE_TO_SALESFORCE as SYNC
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor

from .conftest import Store, Task, finish_after_polls, make_context
from .test_bulk_sync_operator import Died, dying_operator, tries

EXECUTIONS = f"/api/syncs/{SYNC}/executions"
EMAIL = {"source": {"model_id": WAREHOUSE, "field": "email"}, "value": "a@example.com"}


def task(**arguments: Any) -> Task:
    arguments = {"task_id": "sync", "sync_id": SYNC, "poke_interval": 0.05, **arguments}
    if "sync_name" in arguments:
        del arguments["sync_id"]
    return Task(lambda: PolytomicModelSyncOperator(**arguments))


def seed(**sync: Any) -> dict[str, Any]:
    return {"model_syncs": [{"name": "Health", "id": SYNC, "duration": 10, **sync}]}


@pytest.mark.parametrize("named", [{}, {"sync_name": "Customer health to Salesforce"}])
def test_model_sync_operator_starts_one_execution_and_waits(
    polytomic_sandbox: Any, deferrable: bool, named: Any
) -> None:
    """The task starts one execution, waits for its end, and reports its counts."""
    context = make_context()

    returned = task(deferrable=deferrable, **named).run(context)

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    summary = context["ti"].summary
    assert summary["status"] == "completed"
    assert summary["record_count"] == summary["counts"]["total"]
    assert summary["errors"] == []


def test_model_sync_operator_sends_its_arguments(polytomic_sandbox: Any) -> None:
    """The request body of the start has exactly the arguments that were given."""
    task(resync=True, identities="a@example.com, b@example.com").run()

    (start,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert start.body == {"resync": True, "identities": ["a@example.com", "b@example.com"]}


@pytest.mark.parametrize(
    "arguments", [{"identities": "a@example.com, b@example.com"}, {"source_identities": [["a@example.com"], ["b"]]}]
)
def test_model_sync_operator_logs_no_identity(
    polytomic_sandbox: Any,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    arguments: Any,
    deferrable: bool,
) -> None:
    """Identities may be email addresses, so the log has only their number."""
    caplog.set_level(logging.DEBUG)
    task(resync=True, deferrable=deferrable, **arguments).run()

    logged = caplog.text + capfd.readouterr().out  # where Airflow 2 and 3 have a task's log in a test
    assert f" with {{'resync': True, '{next(iter(arguments))}': 2}}" in logged
    assert "a@example.com" not in logged


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"identities": ["a"], "source_identities": [[{"value": "b"}]]}, "identities and source_identities"),
        ({"identities": ["a"] * 1001}, "identities takes 1000"),
        ({"source_identities": [["a"]] * 1001}, "source_identities takes 1000"),
        ({"identities": [1]}, "identities"),
        ({"identities": iter("a")}, "identities"),
        ({"identities": [], "resync": True}, "identities must not be empty"),
        ({"source_identities": (item for item in [["a"]])}, "source_identities"),
        ({"source_identities": [], "resync": True}, "source_identities must not be empty"),
        ({"source_identities": "[]"}, "source_identities must not be empty"),
        ({"resync": "perhaps"}, "resync"),
        ({"identities": "['a@x.io', 'b@x.io'"}, "identities"),
        ({"identities": "('a@x.io', 5)"}, r"identities\[1\]"),
        ({"source_identities": "a, b"}, r"source_identities\[0\] must be a list"),
        ({"source_identities": [EMAIL]}, r"source_identities\[0\] must be a list"),
        *(
            ({"source_identities": [[EMAIL], [EMAIL | {"value": value}]]}, r"source_identities\[1\]\[0\]\['value'\]")
            for value in (datetime(2026, 1, 1), Decimal("1.5"), float("nan"), b"a", {"a"})
        ),
        ({"cancel_on_kill": "false"}, "cancel_on_kill"),
    ],
)
def test_model_sync_operator_rejects_invalid_arguments_when_the_dag_is_parsed(arguments: Any, named: str) -> None:
    """The constructor raises a ValueError that names the argument."""
    with pytest.raises(ValueError, match=named):
        PolytomicModelSyncOperator(task_id="sync", sync_id=SYNC, **arguments)


class TestRecordErrors:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(rows=50, errors=["user 7 has no email"], outcome=["completed"])

    def test_model_sync_operator_fails_when_records_have_errors(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """A completed execution in which records had errors fails the task. The message has the errors."""
        with pytest.raises(PolytomicSyncError, match="user 7 has no email"):
            task(deferrable=deferrable).run()

    def test_model_sync_operator_succeeds_when_errors_are_allowed(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """`allow_errors=True` accepts records with errors."""
        task(allow_errors=True, deferrable=deferrable).run()

    def test_model_sync_sensor_fails_when_records_have_errors(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """The sensor fails without retries, unless errors are allowed."""
        execution = polytomic_sandbox.start_foreign(SYNC)

        def sensor(**more: Any) -> Task:
            arguments = {"task_id": "wait", "sync_id": SYNC, "execution_id": execution.id, "poke_interval": 0.05}
            return Task(lambda: PolytomicModelSyncSensor(**arguments, deferrable=deferrable, **more))

        with pytest.raises(AirflowFailException, match="user 7 has no email"):
            sensor().run()
        assert sensor(allow_errors=True).run() == execution.id


class TestRunning:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=1_000_000)

    def test_model_sync_sensor_waits_for_the_running_execution(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """Without an execution id the sensor waits for the execution that is running."""
        execution = polytomic_sandbox.start_foreign(SYNC)
        arguments = {"task_id": "wait", "sync_id": SYNC, "poke_interval": 0.05, "deferrable": deferrable}

        with finish_after_polls(polytomic_sandbox, execution):
            assert Task(lambda: PolytomicModelSyncSensor(**arguments)).run() == execution.id


@pytest.mark.parametrize("policy", ["wait", "cancel"])
def test_model_sync_operator_starts_after_a_blocking_execution(
    polytomic_sandbox: Any, deferrable: bool, policy: str
) -> None:
    """`wait` and `cancel` start the task's execution when the blocking execution has ended."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    returned = task(if_running=policy, deferrable=deferrable).run()

    assert [foreign.id, returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


def test_model_sync_operator_attaches_only_without_options(polytomic_sandbox: Any) -> None:
    """The API does not report the options of an execution, so a task with options waits for its end instead."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    assert task(if_running="attach").run() == foreign.id
    second = polytomic_sandbox.start_foreign(SYNC)
    assert task(if_running="attach", resync=True).run(make_context(run_id="other")) != second.id


@pytest.mark.parametrize("dropped", ["before", "after"])
def test_model_sync_start_with_a_lost_response_starts_one_execution(
    polytomic_sandbox: Any, deferrable: bool, dropped: str
) -> None:
    """The start is repeated with the same idempotency key."""
    getattr(polytomic_sandbox.faults, f"drop_{dropped}")(f"POST {EXECUTIONS}")

    returned = task(deferrable=deferrable).run()

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


@pytest.mark.parametrize("when", ["before the start", "before its response", "after its response"])
@pytest.mark.parametrize("store", [False, True])
def test_model_sync_retry_resumes_the_execution_of_a_dead_try(
    polytomic_sandbox: Any, deferrable: bool, when: str, store: bool
) -> None:
    """Wherever the first try's process died, the retry ends with exactly one execution."""
    task_state = Store() if store else None
    work = task(retries=2, deferrable=deferrable)
    with pytest.raises(Died):
        dying_operator(work.make, when).execute(tries(1, task_state))

    returned = work.run(tries(2, task_state))

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


class TestEndless:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=100_000)

    def test_model_sync_operator_cancels_its_execution_at_the_timeout(
        self, polytomic_sandbox: Any, deferrable: bool
    ) -> None:
        """At the deadline the execution is canceled, once, and the task fails."""
        with pytest.raises(PolytomicTimeoutError, match="the cancel request was accepted"):
            task(timeout=0.3, deferrable=deferrable).run()

        cancels = [request for request in polytomic_sandbox.requests if request.path.endswith("/cancel")]
        assert [f"{EXECUTIONS}/{polytomic_sandbox.starts(SYNC)[0].id}/cancel"] == [cancel.path for cancel in cancels]
