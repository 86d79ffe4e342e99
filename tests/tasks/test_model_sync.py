"""What is different for model syncs; all else is the same code, and proved with bulk syncs."""

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

from .conftest import Store, Task, ends_once_looked_at, make_context
from .test_bulk_sync_operator import Died, dies_when, tries

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
def test_it_starts_one_and_waits(polytomic_sandbox: Any, deferrable: bool, named: Any) -> None:
    """The task starts one execution, waits for its end, and tells its counts."""
    context = make_context()

    returned = task(deferrable=deferrable, **named).run(context)

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]
    summary = context["ti"].summary
    assert summary["status"] == "completed"
    assert summary["record_count"] == summary["counts"]["total"]
    assert summary["errors"] == []


def test_arguments_reach_the_wire(polytomic_sandbox: Any) -> None:
    """The start's body holds exactly what was asked for."""
    task(resync=True, identities="a@example.com, b@example.com").run()

    (start,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert start.body == {"resync": True, "identities": ["a@example.com", "b@example.com"]}


@pytest.mark.parametrize(
    "arguments", [{"identities": "a@example.com, b@example.com"}, {"source_identities": [["a@example.com"], ["b"]]}]
)
def test_no_identity_is_logged(
    polytomic_sandbox: Any,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    arguments: Any,
    deferrable: bool,
) -> None:
    """They may be people's addresses: the log says how many there are."""
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
def test_bad_arguments_are_refused_early(arguments: Any, named: str) -> None:
    """A bad literal argument is a ValueError of the constructor that names it."""
    with pytest.raises(ValueError, match=named):
        PolytomicModelSyncOperator(task_id="sync", sync_id=SYNC, **arguments)


class TestErrors:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(rows=50, errors=["user 7 has no email"], outcome=["completed"])

    def test_records_in_error_are_a_partial_failure(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """An execution that completed with records in error fails the task, and says which."""
        with pytest.raises(PolytomicSyncError, match="user 7 has no email"):
            task(deferrable=deferrable).run()

    def test_allow_errors_makes_it_a_success(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """`allow_errors=True` accepts it."""
        task(allow_errors=True, deferrable=deferrable).run()

    def test_a_sensor_judges_alike(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """A sensor fails for good on it, unless errors are allowed."""
        execution = polytomic_sandbox.start_foreign(SYNC)

        def sensor(**more: Any) -> Task:
            arguments = {"task_id": "wait", "sync_id": SYNC, "execution_id": execution.id, "poke_interval": 0.05}
            return Task(lambda: PolytomicModelSyncSensor(**arguments, deferrable=deferrable, **more))

        with pytest.raises(AirflowFailException, match="user 7 has no email"):
            sensor().run()
        assert sensor(allow_errors=True).run() == execution.id


class TestWaiting:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=1_000_000)

    def test_a_sensor_waits_for_what_runs(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """Without an execution's id the one that runs is waited for."""
        execution = polytomic_sandbox.start_foreign(SYNC)
        arguments = {"task_id": "wait", "sync_id": SYNC, "poke_interval": 0.05, "deferrable": deferrable}

        with ends_once_looked_at(polytomic_sandbox, execution):
            assert Task(lambda: PolytomicModelSyncSensor(**arguments)).run() == execution.id


@pytest.mark.parametrize("policy", ["wait", "cancel"])
def test_somebody_elses_execution(polytomic_sandbox: Any, deferrable: bool, policy: str) -> None:
    """`wait` and `cancel` start ours when somebody else's execution has ended."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    returned = task(if_running=policy, deferrable=deferrable).run()

    assert [foreign.id, returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


def test_attach_adopts_only_where_nothing_special_is_asked(polytomic_sandbox: Any) -> None:
    """What another execution does is not told, so a task with wishes of its own waits for its end."""
    foreign = polytomic_sandbox.start_foreign(SYNC)

    assert task(if_running="attach").run() == foreign.id
    second = polytomic_sandbox.start_foreign(SYNC)
    assert task(if_running="attach", resync=True).run(make_context(run_id="other")) != second.id


@pytest.mark.parametrize("trouble", ["before", "after"])
def test_a_lost_answer_starts_nothing_twice(polytomic_sandbox: Any, deferrable: bool, trouble: str) -> None:
    """When the answer to the start is lost, the same key is asked again."""
    getattr(polytomic_sandbox.faults, f"drop_{trouble}")(f"POST {EXECUTIONS}")

    returned = task(deferrable=deferrable).run()

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


@pytest.mark.parametrize("when", ["before the start", "before its answer", "after its answer"])
@pytest.mark.parametrize("store", [False, True])
def test_a_retry_resumes_what_a_dead_try_started(
    polytomic_sandbox: Any, deferrable: bool, when: str, store: bool
) -> None:
    """However the first try's process died, the retry ends with exactly one execution."""
    kept = Store() if store else None
    work = task(retries=2, deferrable=deferrable)
    with pytest.raises(Died):
        dies_when(work.make, when).execute(tries(1, kept))

    returned = work.run(tries(2, kept))

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNC)]


class TestEndless:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return seed(duration=100_000)

    def test_timeout_cancels_and_fails(self, polytomic_sandbox: Any, deferrable: bool) -> None:
        """At the deadline the execution is cancelled, once."""
        with pytest.raises(PolytomicTimeoutError, match="it is being canceled"):
            task(timeout=0.3, deferrable=deferrable).run()

        cancels = [request for request in polytomic_sandbox.requests if request.path.endswith("/cancel")]
        assert [f"{EXECUTIONS}/{polytomic_sandbox.starts(SYNC)[0].id}/cancel"] == [cancel.path for cancel in cancels]
