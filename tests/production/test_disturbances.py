"""Disturbances of an Airflow in production while tasks wait: one after the other, each with its own tasks.

Every task has a sync of its own. The tasks are those of the storm, which have many retries, because each try that
begins while the API server is gone fails.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tools.production import API_SERVERS, TASKS_PER_WORKER
from tools.stage import Run

from .conftest import ProductionStage

pytestmark = pytest.mark.production

NUMBERS = itertools.count(1)  # of syncs
WORKERS = ("worker", "second-worker")
IN_WORKERS, DEFERRED = 6, 34  # tasks that wait while all components are restarted
GRACE = 10.0  # seconds until the rest of a component is killed
API_OUTAGE = 20.0  # seconds


def start_waiting(stage: ProductionStage, in_workers: int, deferred: int) -> list[Run]:
    """Start tasks, first those that wait in workers, and return them when all wait for their executions."""
    runs = [trigger(stage, "worker") for _ in range(in_workers)] + [trigger(stage, "deferred") for _ in range(deferred)]
    for run in runs[:in_workers]:
        run.until_polled(run.until_started())
    for run in runs[in_workers:]:
        run.until_state("deferred")
    return runs


def trigger(stage: ProductionStage, way: str) -> Run:
    sync_id = stage.add_sync(f"Disturbed {next(NUMBERS)}")
    return stage.run(sync_id).trigger(f"storm_{way}", part="table_0")


def finish(runs: list[Run]) -> None:
    """End the execution of each task, and wait until all tasks have succeeded."""
    for run in runs:
        run.finish()
    for run in runs:
        run.until_state("success")


def finish_until_success(run: Run) -> None:
    """End each execution of a task, because Airflow may end the task and start a retry."""

    def has_succeeded() -> bool:
        if execution := run.stage.sandbox.running(run.sync_id):
            with contextlib.suppress(ValueError):  # canceled meanwhile
                run.stage.sandbox.finish(run.sync_id, execution.id)
        return run.state == "success"

    run.until(has_succeeded, "a success")


def results(runs: list[Run]) -> set[tuple[str | None, tuple[str, ...], int]]:
    """Return the state of each task, the statuses of its executions, and the number of requests to cancel one."""
    return {(run.state, tuple(run.statuses), len(run.cancel_requests)) for run in runs}


SUCCEEDED_ONCE = {("success", ("completed",), 0)}


def has_lost_nothing(run: Run) -> bool:
    """Return whether a task succeeded with its last execution, and canceled each earlier one before it started it.

    A worker ends a task if three heartbeats in a row fail, which takes half a minute or less. The task then cancels its
    execution as if a user had ended it, and its retry starts another one.
    """
    *earlier, last = run.statuses
    return (
        (run.state, last) == ("success", "completed")
        and set(earlier) <= {"canceled"}
        and all(second.created_at >= first.end for first, second in itertools.pairwise(run.started))
    )


def tries(runs: list[Run]) -> set[int]:
    return {run.task["try_number"] for run in runs}


def until_resumed(run: Run) -> None:
    """Wait until a retry polls the execution."""
    run.until(lambda: run.task.get("try_number") == 2 and run.state == "running", "the retry")
    run.until_polled(run.started[0], run.poll_count(run.started[0]) + 1)


def test_worker_that_receives_sigterm_finishes_its_tasks_within_the_grace_period(stage: ProductionStage) -> None:
    """Its main process takes no new tasks, and the running ones continue; the retry of a killed one resumes."""
    stage.airflow.wait_healthy(*WORKERS)
    waiting = start_waiting(stage, 3, 1)
    on_worker = Counter(run.task["hostname"] for run in waiting if run.state == "running")
    ((worker, _),) = on_worker.most_common(1)
    (first, *others) = [run for run in waiting if run.state == "running" and run.task["hostname"] == worker]
    with stage.airflow.terminated(worker):
        stage.until(lambda: "Warm shutdown" in stage.airflow.log_since_start(worker), "a warm shutdown")
        finish([first])
        assert {run.state for run in others} == {"running"}
    for run in others:
        until_resumed(run)
    finish([run for run in waiting if run is not first])
    assert results(waiting) == SUCCEEDED_ONCE
    assert tries([first]) == {1}
    assert tries(others) == {2}


def test_sigterm_to_all_processes_of_a_celery_worker_cancels_its_executions(stage: ProductionStage) -> None:
    """Each task cancels its execution once, and its retry starts another one. Deferred tasks are not affected."""
    stage.airflow.wait_healthy(*WORKERS)
    in_workers, deferred = start_waiting(stage, 2, 0), start_waiting(stage, 0, 1)
    worker = in_workers[0].task["hostname"]
    ended = [run for run in in_workers if run.task["hostname"] == worker]
    with stage.airflow.terminated(worker, whole=True):
        for run in ended:
            run.until(lambda run=run: run.statuses[0] == "canceled", "a canceled execution")
        for run in ended:
            run.until_started(2)
    finish([*in_workers, *deferred])
    assert results(ended) == {("success", ("canceled", "completed"), 1)}
    assert results([run for run in (*in_workers, *deferred) if run not in ended]) == SUCCEEDED_ONCE


def test_trigger_that_runs_in_two_triggerers_resumes_its_task_once(stage: ProductionStage) -> None:
    """One triggerer is suspended until the other has taken over its triggers, and continues with them for a while."""
    stage.airflow.wait_healthy("triggerer", "second-triggerer")
    waiting = start_waiting(stage, 0, 4)
    frozen = waiting[0].until(lambda: (waiting[0].task.get("triggerer_job") or {}).get("hostname"), "a triggerer")
    moving = [run for run in waiting if (run.task.get("triggerer_job") or {}).get("hostname") == frozen]
    stage.airflow.freeze(frozen)
    for run in moving:
        run.until_polled(run.started[0], run.poll_count(run.started[0]) + 1)
    finish(moving[:1])
    stage.airflow.kill(frozen, signal.SIGCONT, whole=True)
    finish([run for run in waiting if run is not moving[0]])
    assert results(waiting) == SUCCEEDED_ONCE
    assert tries(waiting) == {1}


def test_tasks_continue_when_one_of_two_schedulers_is_killed(stage: ProductionStage) -> None:
    """No task is interrupted, and one that is triggered next is scheduled by the other scheduler."""
    stage.airflow.wait_healthy("scheduler", "second-scheduler")
    waiting = start_waiting(stage, 2, 2)
    with stage.airflow.down("scheduler"):
        waiting += start_waiting(stage, 1, 1)
        finish(waiting)
    assert results(waiting) == SUCCEEDED_ONCE
    assert tries(waiting) == {1}


@pytest.mark.long
def test_tasks_lose_no_execution_when_both_api_servers_are_gone_for_a_while(stage: ProductionStage) -> None:
    """Executions end during and after the outage. Deferred tasks cancel nothing."""
    stage.airflow.wait_healthy()
    in_workers, deferred = start_waiting(stage, 2, 0), start_waiting(stage, 0, 3)
    with stage.airflow.down(*API_SERVERS):
        in_workers[0].finish()
        deferred[0].finish()
        time.sleep(API_OUTAGE)
    stage.airflow.wait_healthy(*API_SERVERS)
    finish(deferred[1:])
    for run in [*in_workers, deferred[0]]:
        finish_until_success(run)
    assert results(deferred) == SUCCEEDED_ONCE
    assert in_workers[0].statuses == ["completed"]
    assert has_lost_nothing(in_workers[1])


@pytest.mark.long
def test_tasks_continue_when_the_broker_loses_all_messages(stage: ProductionStage) -> None:
    """Airflow queues a task again whose message is lost; the others are not interrupted."""
    stage.airflow.wait_healthy()
    deferred = start_waiting(stage, 0, 2)
    waiting = deferred + start_waiting(stage, len(WORKERS) * TASKS_PER_WORKER, 0)
    queued = trigger(stage, "worker")  # no worker takes it
    queued.until_state("queued")
    stage.airflow.restart_broker()
    finish(waiting)
    queued.until_started()
    finish([queued])
    assert results([*waiting, queued]) == SUCCEEDED_ONCE
    assert tries(waiting) == {1}


@pytest.mark.long
def test_tasks_lose_no_execution_when_the_database_crashes(stage: ProductionStage) -> None:
    """PostgreSQL drops all connections and recovers, and components that end are started again."""
    stage.airflow.wait_healthy()
    in_workers, deferred = start_waiting(stage, 2, 0), start_waiting(stage, 0, 2)
    stage.airflow.postgres.restart()
    stage.airflow.wait_healthy()
    _until_polled_again(deferred)
    finish(deferred)
    for run in in_workers:
        finish_until_success(run)
    assert results(deferred) == SUCCEEDED_ONCE
    assert all(map(has_lost_nothing, in_workers))


@pytest.mark.long
def test_rolling_restart_of_all_components_interrupts_no_task(stage: ProductionStage) -> None:
    """As Kubernetes does it: all components at once, of two peers one after the other, each with a SIGTERM.

    Deferred tasks continue and tasks of workers end meanwhile. Each of the 40 tasks succeeds in its first try.
    """
    stage.airflow.wait_healthy()
    deferred = [trigger(stage, "deferred") for _ in range(DEFERRED)]
    in_workers = [trigger(stage, "worker") for _ in range(IN_WORKERS)]
    for run in deferred:
        run.until_state("deferred")
    for run in in_workers:
        run.until_polled(run.until_started())
    runs = [*in_workers, *deferred]
    with ThreadPoolExecutor() as pool:
        list(pool.map(partial(_restart_in_turn, stage), ("api-server", "dag-processor", "scheduler", "triggerer")))
    _until_polled_again(runs)
    assert Counter(run.state for run in runs) == {"running": IN_WORKERS, "deferred": DEFERRED}
    waiting = iter(deferred)
    for name in WORKERS:
        with stage.airflow.terminated(name, grace=GRACE):
            stage.until(lambda name=name: "Warm shutdown" in stage.airflow.log_since_start(name), "a warm shutdown")
            for run in itertools.islice(waiting, TASKS_PER_WORKER):
                run.finish()
            finish([run for run in in_workers if run.task["hostname"] == name])
        stage.airflow.wait_healthy(name)
    finish(list(waiting))
    for run in deferred:
        run.until_state("success")
    assert results(runs) == SUCCEEDED_ONCE
    assert tries(runs) == {1}
    assert [run.returned for run in runs] == [run.started[0].id for run in runs]


def _restart_in_turn(stage: ProductionStage, kind: str) -> None:
    for name in stage.airflow.names:
        if name in (kind, f"second-{kind}"):
            stage.airflow.end(name, GRACE)
            stage.airflow.wait_healthy(name)


def _until_polled_again(runs: list[Run]) -> None:
    polls = [(run, run.poll_count(run.started[0])) for run in runs]
    for run, count in polls:
        run.until_polled(run.started[0], count + 1)
