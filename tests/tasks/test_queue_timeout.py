"""`queue_timeout`: how long an execution may be queued, in the worker, deferred, and with batch polling."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic.api.errors import PolytomicTimeoutError
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator

from .conftest import Task, finish_after_polls, fire, make_context
from .test_bulk_sync_operator import Died, dying_operator, tries
from .virtual_time import Triggerer, make_triggerer

SYNCS = {"bulk": "b0000000-0000-4000-8000-000000000001", "model": "a0000000-0000-4000-8000-000000000001"}
OPERATORS: dict[str, Any] = {"bulk": PolytomicBulkSyncOperator, "model": PolytomicModelSyncOperator}
LATE = 15.0  # seconds of the virtual clock: a poll, a cancel request, and the resolution of a Date header


@pytest.fixture(params=["bulk", "model"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stages() -> list[str]:
    return ["scheduled"]


@pytest.fixture
def polytomic_sandbox_seed(stages: list[str]) -> dict[str, Any]:
    """Syncs whose executions stay in one status until a test ends them."""
    more = {"duration": 1e7, "stages": stages}
    return {
        "bulk_syncs": [{"name": "Orders", "id": SYNCS["bulk"], "schemas": ["orders"], **more}],
        "model_syncs": [{"name": "Health", "id": SYNCS["model"], **more}],
    }


def make_task(kind: str, **arguments: Any) -> Task:
    arguments = {"task_id": "sync", "sync_id": SYNCS[kind], "poke_interval": 0.05, "queue_timeout": 0.3, **arguments}
    return Task(lambda: OPERATORS[kind](**arguments))


def cancels(sandbox: Any) -> list[str]:
    return [request.path for request in list(sandbox.requests) if request.path.endswith("/cancel")]


def run_too_long(task: Task, context: Any = None) -> PolytomicTimeoutError:
    with pytest.raises(PolytomicTimeoutError) as caught:
        task.run(context)
    return caught.value


def test_queued_execution_is_canceled_at_queue_timeout(polytomic_sandbox: Any, kind: str, deferrable: bool) -> None:
    """The error says which limit passed, how long the execution was queued, its status, and what happens to it."""
    error = run_too_long(make_task(kind, deferrable=deferrable, timeout=3600))

    (execution,) = polytomic_sandbox.starts(SYNCS[kind])
    assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")
    assert len(cancels(polytomic_sandbox)) == 1
    assert (error.limit, error.status, error.still_running) == ("queue_timeout", "scheduled", False)
    assert f"Execution {execution.id} of {kind} sync {SYNCS[kind]} has been queued for" in str(error)
    assert str(error).endswith("(status 'scheduled'), and queue_timeout is 0.3 s; the cancel request was accepted")


@pytest.mark.parametrize("queue_timeout", [timedelta(seconds=0.3), "0.3"])
def test_queue_timeout_is_a_timedelta_or_rendered_text(
    polytomic_sandbox: Any, deferrable: bool, queue_timeout: Any
) -> None:
    """Both mean seconds."""
    assert run_too_long(make_task("bulk", deferrable=deferrable, queue_timeout=queue_timeout)).limit


@pytest.mark.parametrize("queue_timeout", [None, "", "None"])
def test_queue_timeout_that_renders_to_nothing_is_no_limit(
    polytomic_sandbox: Any, deferrable: bool, queue_timeout: Any
) -> None:
    """Only the `timeout` ends the wait."""
    assert run_too_long(make_task("bulk", deferrable=deferrable, queue_timeout=queue_timeout, timeout=1)).limit is None


@pytest.mark.parametrize("value", [0, -1, True, "soon", "0", "true", float("nan"), timedelta(0), [60]])
@pytest.mark.parametrize("name", ["queue_timeout", "fresh_within"])
@pytest.mark.parametrize("operator", OPERATORS.values())
def test_duration_rejects_an_invalid_literal_when_the_dag_is_parsed(operator: Any, name: str, value: Any) -> None:
    """The constructor raises a ValueError that names the argument."""
    with pytest.raises(ValueError, match=f"^{name} must be more than 0 seconds"):
        operator(task_id="sync", sync_id="s", **{name: value})


@pytest.mark.parametrize("name", ["queue_timeout", "fresh_within"])
def test_duration_that_renders_an_invalid_value_fails_the_task_without_a_request(
    polytomic_sandbox: Any, kind: str, deferrable: bool, name: str
) -> None:
    """No retry can succeed."""
    operator = make_task(kind, deferrable=deferrable, **{name: "{{ params.x }}"}).make()
    setattr(operator, name, "half an hour")

    with pytest.raises(AirflowFailException, match=f"^{name} must be more than 0 seconds"):
        operator.execute(make_context())
    assert polytomic_sandbox.requests == []


@pytest.mark.parametrize("stages", [["running"]])
def test_running_execution_outlives_queue_timeout(polytomic_sandbox: Any, kind: str, deferrable: bool) -> None:
    """The limit is for the queue only."""

    def finish_later() -> None:
        while not polytomic_sandbox.starts(SYNCS[kind]):
            time.sleep(0.01)
        time.sleep(1.5)  # more than the limit and the resolution of a Date header
        polytomic_sandbox.finish(SYNCS[kind], polytomic_sandbox.starts(SYNCS[kind])[0].id)

    thread = threading.Thread(target=finish_later, daemon=True)
    thread.start()

    returned = make_task(kind, deferrable=deferrable).run()

    assert [returned] == [execution.id for execution in polytomic_sandbox.starts(SYNCS[kind])]
    assert cancels(polytomic_sandbox) == []


def test_execution_stays_in_the_queue_when_cancel_on_kill_is_false(
    polytomic_sandbox: Any, kind: str, deferrable: bool
) -> None:
    """The task fails, and says so. A retry resumes the execution once it has left the queue."""
    task = make_task(kind, deferrable=deferrable, cancel_on_kill=False, retries=2)

    error = run_too_long(task, tries(1, None))

    (execution,) = polytomic_sandbox.starts(SYNCS[kind])
    assert str(error).endswith("it is left in the queue")
    assert "has been queued for" in str(run_too_long(task, tries(2, None)))
    assert cancels(polytomic_sandbox) == []
    polytomic_sandbox.finish(SYNCS[kind], execution.id)
    assert task.run(tries(3, None)) == execution.id


def test_queue_timeout_of_a_retry_counts_from_the_creation(polytomic_sandbox: Any, kind: str, deferrable: bool) -> None:
    """Neither the death of a try nor the start of the next one gives the execution more time."""
    task = make_task(kind, deferrable=deferrable, queue_timeout=1800, retries=2)
    with pytest.raises(Died):
        dying_operator(task.make, "after its response").execute(tries(1, None))
    (execution,) = polytomic_sandbox.starts(SYNCS[kind])
    execution.created_at -= 3602

    error = run_too_long(task, tries(2, None))

    assert "has been queued for 36" in str(error)
    assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")


def test_retry_starts_a_new_execution_after_queue_timeout(polytomic_sandbox: Any, kind: str, deferrable: bool) -> None:
    """The canceled execution is not resumed, and the new one has the whole limit again."""
    task = make_task(kind, deferrable=deferrable, retries=2)
    run_too_long(task, tries(1, None))

    run_too_long(task, tries(2, None))

    first, second = polytomic_sandbox.starts(SYNCS[kind])
    assert polytomic_sandbox.status(first.id) == "canceled"
    assert polytomic_sandbox.status(second.id) in ("canceling", "canceled")


@pytest.mark.parametrize("policy", ["wait", "attach"])
def test_queue_timeout_does_not_apply_to_a_foreign_execution(
    polytomic_sandbox: Any, kind: str, deferrable: bool, policy: str
) -> None:
    """A blocking execution is waited for, and an attached one is neither given up nor canceled."""
    foreign = polytomic_sandbox.start_foreign(SYNCS[kind])
    foreign.created_at -= 3600
    task = make_task(kind, deferrable=deferrable, if_running=policy)

    with finish_after_polls(polytomic_sandbox, foreign, 8):
        if policy == "attach":
            assert task.run() == foreign.id
        else:
            run_too_long(task)

    assert polytomic_sandbox.status(foreign.id) == "completed"
    assert len(cancels(polytomic_sandbox)) == (policy == "wait")  # the task's own


def test_worker_repeats_a_cancel_that_the_triggerer_could_not_send(polytomic_sandbox: Any, kind: str) -> None:
    """The event says that the execution is still queued."""
    task = make_task(kind, deferrable=True)
    polytomic_sandbox.faults.status(403, "POST .*/cancel", times=1)

    error = run_too_long(task)

    assert (error.limit, error.status, error.still_running) == ("queue_timeout", "scheduled", True)
    assert "canceling it failed" in str(error)
    (execution,) = polytomic_sandbox.starts(SYNCS[kind])
    assert polytomic_sandbox.status(execution.id) in ("canceling", "canceled")


def test_trigger_without_queue_timeout_of_an_older_release_has_no_limit(polytomic_sandbox: Any) -> None:
    """The row lacks the argument."""
    from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

    foreign = polytomic_sandbox.start_foreign(SYNCS["bulk"])
    trigger = PolytomicExecutionTrigger("bulk", SYNCS["bulk"], foreign.id, poke_interval=0.05)
    _, arguments = trigger.serialize()
    del arguments["queue_timeout"]

    with finish_after_polls(polytomic_sandbox, foreign, 3):
        assert fire(PolytomicExecutionTrigger(**arguments))["outcome"] == "ended"


# --- many triggers, batch polling, wrong clocks

STUCK, LEAVING = 15, 15
BATCH = "/api/bulk/syncs/status"


def virtual_seed(kind: str) -> dict[str, Any]:
    """Half of the executions stay in the queue, and half leave it after 100 seconds and end after 1000."""
    more: dict[str, Any] = {"schemas": ["one", "two"]} if kind == "bulk" else {}
    durations = [1e7] * STUCK + [1000.0] * LEAVING
    return {
        f"{kind}_syncs": [
            {"name": f"Sync {n}", "id": f"s-{n}", "duration": duration, **more} for n, duration in enumerate(durations)
        ]
    }


@pytest.fixture
def triggerer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str) -> Triggerer:
    triggerer = make_triggerer(monkeypatch, virtual_seed(kind), request.addfinalizer)
    triggerer.over_http = False
    return triggerer


def run_triggers(triggerer: Triggerer, kind: str, interval: float, age: float = 0.0) -> dict[str, str]:
    """Run one trigger for each sync.

    :param age: how long ago the executions were created, in seconds.
    :returns: the execution of each sync.
    """
    executions = {f"s-{n}": triggerer.sandbox.start_foreign(f"s-{n}").id for n in range(STUCK + LEAVING)}
    triggerer.clock.suspend(age)

    async def main() -> None:
        limits = {"queue_timeout": 600.0, "cancel_at_deadline": True}
        await asyncio.gather(*(triggerer.run_trigger(kind, *item, interval, **limits) for item in executions.items()))

    triggerer.run(main())
    return executions


@pytest.mark.parametrize("offset", [0.0, -7200.0, 7200.0])
@pytest.mark.parametrize("interval", [30.0, 3600.0])
def test_triggers_cancel_queued_executions_in_time_while_batch_responses_list_them(
    triggerer: Triggerer, kind: str, interval: float, offset: float
) -> None:
    """A batch response lists a queued execution as not ended. It does not hide that the limit has passed."""
    triggerer.clock.offset = offset

    executions = run_triggers(triggerer, kind, interval)

    for n, (sync_id, execution_id) in enumerate(executions.items()):
        at, event = triggerer.events[execution_id]
        if n < STUCK:
            assert (event["outcome"], event["limit"], event["status"]) == ("timeout", "queue_timeout", "created")
            assert 600 <= at <= 600 + LATE, sync_id
            assert triggerer.sandbox.status(execution_id) == "canceled"
        else:
            assert (event["outcome"], event["execution"]["status"]) == ("ended", "completed")
    if kind == "bulk" and interval == 30:
        batch_polls = sum(poll.path == BATCH for poll in triggerer.polls)
        direct_polls = sum(poll.path.endswith(executions["s-0"]) for poll in triggerer.polls)
        assert batch_polls > 10
        assert direct_polls <= 4  # the first one, one or two at the limit, and one at a regular interval


def test_triggers_of_a_new_triggerer_count_from_the_creation(triggerer: Triggerer, kind: str) -> None:
    """A triggerer that takes over 500 seconds later cancels at the same time."""
    executions = run_triggers(triggerer, kind, 30.0, age=500.0)

    times = [triggerer.events[execution_id][0] for execution_id in list(executions.values())[:STUCK]]
    assert min(times) >= 600
    assert max(times) <= 600 + LATE


def test_triggers_cancel_queued_executions_in_time_when_batch_responses_are_wrong(
    triggerer: Triggerer, kind: str
) -> None:
    """A response that lists every schema as running proves nothing about the execution's own status."""

    def run_all(body: Any) -> None:
        for row in body["data"] or []:
            for schema in row["schemas"] or []:
                schema["status"] = "running"

    triggerer.sandbox.faults.edit(run_all, f"GET {BATCH}")

    executions = run_triggers(triggerer, kind, 30.0)

    times = [triggerer.events[execution_id][0] for execution_id in list(executions.values())[:STUCK]]
    assert min(times) >= 600
    assert max(times) <= 600 + LATE
