"""Tasks on a real Airflow that are cleared, marked, deleted or terminated, and whether their executions are canceled.

A play is a function that brings one task into a situation. All plays run concurrently on one Airflow, each on its own
sync; a test waits for the end of its play."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.system.pods import end_pod, read_pod_logs
from tools.stage import Run, Stage

pytestmark = pytest.mark.deaths

Play = Callable[[Run], None]


@dataclass(frozen=True)
class OfModelSync:
    """The same play for a model sync."""

    play: Play
    kind: str = "model"

    @property
    def __name__(self) -> str:
        return f"{self.play.__name__}_of_a_model_sync"

    def __call__(self, run: Run) -> None:
        self.play(run)


RELEASE_DELAY = 2.0  # seconds for which a request is held after its task got a signal


def with_plays(*plays: Play) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("run", plays, ids=lambda play: play.__name__, indirect=True)


def _until_waiting(run: Run, number: int = 1) -> None:
    """Wait until the task waits for its execution, deferred or in a worker."""
    execution = run.until_started(number)
    if run.dag_id.startswith("worker"):
        run.until_polled(execution)
    else:
        run.until_state("deferred")


def _succeed(run: Run, number: int = 1) -> None:
    _until_waiting(run, number)
    run.finish()
    run.until_state("success")


def _until_trigger_runs(run: Run) -> None:
    """Wait until the triggerer runs the task's trigger, because only a running trigger can handle a kill."""
    _until_waiting(run)
    run.until(lambda: any(line.in_triggerer for line in run.log_lines()), "the trigger to run")


def _until_canceled(run: Run) -> None:
    run.until(lambda: run.statuses[-1] == "canceled", "a canceled execution")


# --- cleared


def _clear_after_the_run(run: Run) -> None:
    # Airflow may not schedule a task that is cleared at the moment in which its run ends.
    run.stage.airflow.wait_run(run.dag_id, run.run_id)
    run.clear()


def cleared_after_success(run: Run) -> None:
    _succeed(run.trigger("deferred"))
    _clear_after_the_run(run)
    _succeed(run, 2)


def cleared_after_success_in_a_worker(run: Run) -> None:
    _succeed(run.trigger("worker"))
    _clear_after_the_run(run)
    _succeed(run, 2)


def cleared_after_success_while_its_run_goes_on(run: Run) -> None:
    _succeed(run.trigger("pair", other=run.stage.syncs[-1]))
    run.clear()
    _succeed(run, 2)


@with_plays(cleared_after_success, cleared_after_success_in_a_worker, cleared_after_success_while_its_run_goes_on)
def test_clear_after_success_starts_a_second_execution(run: Run) -> None:
    """The first one has completed and stays as it is."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed", "completed"], [])


def cleared_while_deferred(run: Run) -> None:
    _until_waiting(run.trigger("deferred"))
    run.clear()
    _succeed(run, 2)


def cleared_while_it_runs(run: Run) -> None:
    _until_waiting(run.trigger("worker"))
    run.clear()
    _succeed(run, 2)


@with_plays(
    cleared_while_deferred,
    cleared_while_it_runs,
    OfModelSync(cleared_while_deferred),
    OfModelSync(cleared_while_it_runs),
)
def test_clear_of_a_waiting_task_cancels_its_execution_and_starts_another(run: Run) -> None:
    """The second execution starts after the first has ended."""
    first, second = run.started
    assert (run.state, run.statuses) == ("success", ["canceled", "completed"])
    assert set(run.cancel_requests) == {first.id}
    assert second.created_at >= first.end


def cleared_twice(run: Run) -> None:
    _until_waiting(run.trigger("deferred"))
    run.clear()
    _until_waiting(run, 2)
    run.clear()
    _succeed(run, 3)


@with_plays(cleared_twice)
def test_second_clear_cancels_the_second_execution(run: Run) -> None:
    """Only the third execution is not canceled."""
    assert (run.state, run.statuses) == ("success", ["canceled", "canceled", "completed"])


# --- edited between two tries


def edited_between_two_tries(run: Run) -> None:
    run.trigger("edited")
    run.until_polled(run.until_started(), times=2)
    (run.stage.airflow.home / "retries").write_text("1")
    run.kill()
    run.until(lambda: run.task.get("try_number") == 2 and run.state == "running", "the second try")
    run.until_polled(run.started[0], times=4)
    run.finish()
    run.until_state("success")


@with_plays(edited_between_two_tries)
def test_retry_resumes_its_execution_when_retries_were_lowered_between_two_tries(run: Run) -> None:
    """Deploying the DAG with fewer retries cancels nothing and starts nothing twice."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed"], [])


# --- repaired


def repaired(run: Run) -> None:
    run.trigger("repairing")
    _until_waiting(run)
    run.until_started().parts[0].outcome = "failed"
    run.finish("errors")
    _succeed(run, 2)


@with_plays(repaired)
def test_retry_repairs_the_failed_schema(run: Run) -> None:
    """The logs of both tries say what failed, what the second try syncs, and how the task ends."""
    first, second = run.started
    failed, other = (part.schema for part in first.parts)
    assert (run.state, run.statuses) == ("success", ["errors", "completed"])
    assert (first.start_body, second.start_body) == ({}, {"schemas": [failed]})
    assert "1 of 2 schemas failed" in run.log(1)
    assert other not in "".join(line for line in run.log(1).splitlines() if "  schema " in line)
    log = run.log(2)
    assert f"Execution {first.id} of bulk sync {run.sync_id}, which try 1 started, ended with status 'errors'." in log
    assert "Starting a new one with 1 of 2 schemas." in log
    assert f"Started execution {second.id} of bulk sync {run.sync_id} with {{'schemas': ['{failed}']}}." in log
    assert f"Execution {second.id} of bulk sync {run.sync_id} succeeded: completed, 2 of 2 schemas" in log


# --- marked, failed, deleted


def marked_as_failed(run: Run) -> None:
    _until_trigger_runs(run.trigger("deferred"))
    run.mark("failed")
    _until_canceled(run)


def marked_as_success(run: Run) -> None:
    _until_trigger_runs(run.trigger("deferred"))
    run.mark("success")
    _until_canceled(run)


def marked_as_failed_in_a_worker(run: Run) -> None:
    _until_waiting(run.trigger("worker"))
    run.mark("failed")
    _until_canceled(run)


def marked_as_success_in_a_worker(run: Run) -> None:
    _until_waiting(run.trigger("worker"))
    run.mark("success")
    _until_canceled(run)


def marked_with_its_run(run: Run) -> None:
    _until_trigger_runs(run.trigger("deferred"))
    run.stage.airflow.patch_run_state(run.dag_id, run.run_id, "failed")
    _until_canceled(run)


@with_plays(
    marked_as_failed,
    marked_as_success,
    marked_as_failed_in_a_worker,
    marked_as_success_in_a_worker,
    marked_with_its_run,
    OfModelSync(marked_as_failed),
    OfModelSync(marked_as_failed_in_a_worker),
)
def test_marking_a_waiting_task_cancels_its_execution_once(run: Run) -> None:
    """As success or as failed; the same applies to marking its DAG run."""
    assert run.statuses == ["canceled"]
    assert run.cancel_requests == [run.started[0].id]


def marked_beside_another(run: Run) -> None:
    other = run.stage.syncs[-2]
    _until_trigger_runs(run.trigger("pair", other=other))
    run.until(lambda: run.stage.sandbox.starts(other), "the other task's execution")
    run.mark("failed")
    _until_canceled(run)


def marked_while_the_api_is_out(run: Run) -> None:
    run.stage.sandbox.faults.status(503, f"POST {run.path}/[^/]+/cancel", times=3)
    _until_trigger_runs(run.trigger("deferred"))
    run.mark("failed")
    _until_canceled(run)


@with_plays(marked_while_the_api_is_out)
def test_trigger_repeats_a_failed_cancel_request(run: Run) -> None:
    """While the API responds with errors, the trigger of a marked task sends the request again."""
    assert run.statuses == ["canceled"]
    assert run.cancel_requests == [run.started[0].id] * 4


@with_plays(marked_beside_another)
def test_marking_a_task_cancels_no_execution_of_another_task(run: Run, stage: Stage) -> None:
    """Of two deferred tasks of a run, only the marked one cancels its execution."""
    assert run.cancel_requests == [run.started[0].id]
    assert stage.sandbox.running(stage.syncs[-2]) is not None


def left_alone_when_deferred(run: Run) -> None:
    _until_trigger_runs(run.trigger("deferred_left_alone"))
    run.mark("failed")
    run.until(lambda: "invoking on_kill" in run.log(), "the trigger's on_kill")
    run.until(lambda: "trigger completed" in run.log(), "the end of the trigger")


def left_alone_in_a_worker(run: Run) -> None:
    _until_waiting(run.trigger("worker_left_alone"))
    task = run.process()
    run.mark("failed")
    run.until(lambda: task not in run.stage.airflow.processes(), "the end of the process")


@with_plays(left_alone_when_deferred, left_alone_in_a_worker)
def test_marked_task_cancels_nothing_with_cancel_on_kill_false(run: Run) -> None:
    """Its execution keeps running."""
    assert (run.statuses, run.cancel_requests) == (["created"], [])


def cleared_but_left_alone(run: Run) -> None:
    _until_waiting(run.trigger("deferred_left_alone"))
    run.clear()
    run.until(lambda: run.task.get("try_number") == 2, "the try after the clear")
    run.until_state("deferred")
    run.finish()
    _succeed(run, 2)


@with_plays(cleared_but_left_alone)
def test_cleared_task_waits_for_its_old_execution_with_cancel_on_kill_false(run: Run) -> None:
    """It starts another one afterwards."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed", "completed"], [])


def deleted(run: Run) -> None:
    _until_trigger_runs(run.trigger("deferred_to_delete"))
    _delete(run)
    _until_canceled(run)
    run.stage.airflow.pause(run.dag_id, False)
    _succeed(run.trigger("deferred_to_delete"), 2)


def deleted_in_a_worker(run: Run) -> None:
    _until_waiting(run.trigger("worker_to_delete"))
    _delete(run)
    _until_canceled(run)
    # The scheduler would take the executor's report of the old worker for one of the new worker, and end that.
    run.until(lambda: _executor_has_reported(run), "the end of the worker")
    run.stage.airflow.pause(run.dag_id, False)
    _succeed(run.trigger("worker_to_delete"), 2)


def _executor_has_reported(run: Run) -> bool:
    lines = run.stage.airflow.component_log("scheduler")
    return any("Received executor event" in line and run.run_id in line for line in lines)


def _delete(run: Run) -> None:
    # A scheduler crashes when a run is deleted that it is about to process.
    run.stage.airflow.pause(run.dag_id)
    # Airflow does not delete a running DAG run.
    run.stage.airflow.patch_run_state(run.dag_id, run.run_id, "failed")
    run.stage.airflow.delete_run(run.dag_id, run.run_id)


@with_plays(deleted, deleted_in_a_worker)
def test_deleted_run_cancels_its_execution_and_the_next_run_with_its_id_starts_another(run: Run) -> None:
    """The two runs share no execution."""
    assert (run.state, run.statuses) == ("success", ["canceled", "completed"])
    assert run.cancel_requests == [run.started[0].id]


# --- terminated


def terminated_before_the_response(run: Run) -> None:
    held = run.hold("POST", after=True)
    run.trigger("deferred")
    run.until(lambda: held.hits and run.started, "a start at the server")
    os.kill(run.worker().pid, signal.SIGTERM)
    run.release(held, RELEASE_DELAY)
    _succeed(run, 2)


def terminated_while_it_waits(run: Run) -> None:
    _until_waiting(run.trigger("worker"))
    os.kill(run.worker().pid, signal.SIGTERM)
    _succeed(run, 2)


@with_plays(terminated_before_the_response, terminated_while_it_waits, OfModelSync(terminated_before_the_response))
def test_terminated_worker_cancels_its_execution(run: Run) -> None:
    """Also before it has received the response to the start; the retry starts another one."""
    assert (run.state, run.statuses) == ("success", ["canceled", "completed"])
    assert run.cancel_requests == [run.started[0].id]


def terminated_before_its_start(run: Run) -> None:
    held = run.hold("GET")
    run.trigger("deferred")
    run.until(lambda: held.hits, "the list before the start")
    os.kill(run.worker().pid, signal.SIGTERM)
    run.release(held, RELEASE_DELAY)
    _succeed(run)


@with_plays(terminated_before_its_start)
def test_worker_terminated_before_its_start_starts_nothing(run: Run) -> None:
    """The retry starts the execution and succeeds."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed"], [])
    assert ["Started execution" in run.log(number) for number in (1, 2)] == [False, True]


# --- in a pod, without a worker

GRACE = 4.0  # seconds; Kubernetes' default is 30. The task sleeps longer than that between two polls.


def terminated_in_a_pod(run: Run) -> None:
    _until_waiting_in_a_pod(run.trigger("pod"))
    end_pod(run, GRACE)
    _succeed_in_a_pod(run, 2)


def terminated_in_a_pod_but_left_alone(run: Run) -> None:
    _until_waiting_in_a_pod(run.trigger("pod_left_alone"))
    end_pod(run, GRACE)
    run.until(lambda: run.task.get("try_number") == 2 and run.state == "running", "the retry")
    run.until_polled(run.started[0], times=run.poll_count(run.started[0]) + 1)
    _succeed_in_a_pod(run)


def killed_in_a_pod(run: Run) -> None:
    _until_waiting_in_a_pod(run.trigger("pod"))
    end_pod(run, grace=0)
    run.until(lambda: run.task.get("try_number") == 2 and run.state == "running", "the retry")
    run.until_polled(run.started[0], times=run.poll_count(run.started[0]) + 1)
    _succeed_in_a_pod(run)


def ended_in_a_pod_after_the_deferral(run: Run) -> None:
    _until_trigger_runs(run.trigger("pod_deferred"))
    _succeed(run)


def _until_waiting_in_a_pod(run: Run) -> None:
    run.until_polled(run.until_started(), times=2)


def _succeed_in_a_pod(run: Run, number: int = 1) -> None:
    execution = run.until_started(number)
    run.until_polled(execution)
    run.finish()
    run.until_state("success")


@with_plays(terminated_in_a_pod, OfModelSync(terminated_in_a_pod))
def test_terminated_pod_cancels_its_execution_within_the_grace_period(run: Run) -> None:
    """One request, before the SIGKILL; the retry starts another execution in another pod."""
    first, _ = run.started
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["canceled", "completed"], [first.id])
    message = rf"The task is being killed\. Execution {first.id} of .* is being canceled \(HTTP 2\d\d\)"
    assert re.search(message, read_pod_logs(run.stage.airflow.home))


@with_plays(terminated_in_a_pod_but_left_alone, killed_in_a_pod)
def test_pod_that_ends_without_a_cancel_leaves_its_execution_to_the_retry(run: Run) -> None:
    """With `cancel_on_kill=False`, or without a SIGTERM, the retry resumes the execution in another pod."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed"], [])
    assert f"Resumed execution {run.started[0].id}" in read_pod_logs(run.stage.airflow.home)


@with_plays(ended_in_a_pod_after_the_deferral)
def test_deferred_task_of_a_pod_succeeds_in_another_pod(run: Run) -> None:
    """Nothing that the first pod stored is needed."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed"], [])


# --- two concurrent runs


def finish_one_after_the_other(run: Run, rival: Run) -> None:
    run.finish()
    run.until_started(2)
    # Airflow fails a task that reports a new asset at the same moment as another task.
    run.until(lambda: "success" in (run.state, rival.state), "the first task to succeed")
    run.finish()
    run.until_state("success")
    rival.until_state("success")


def two_that_defer(run: Run) -> None:
    rival = run.stage.run(run.sync_id).trigger("deferred")
    run.trigger("deferred")
    run.until(lambda: run.state == rival.state == "deferred", "both tasks to be deferred")
    finish_one_after_the_other(run, rival)


def two_in_workers(run: Run) -> None:
    rival = run.stage.run(run.sync_id).trigger("worker")
    run.trigger("worker")
    run.until(lambda: run.state == rival.state == "running", "both tasks to run")
    finish_one_after_the_other(run, rival)


@with_plays(two_that_defer, two_in_workers, OfModelSync(two_that_defer))
def test_two_runs_of_one_sync_execute_one_after_the_other(run: Run) -> None:
    """Both succeed, with one execution each."""
    first, second = run.started
    assert (run.statuses, run.cancel_requests) == (["completed", "completed"], [])
    assert second.created_at >= first.end


# --- triggers that fire, and triggers that move to another triggerer


def ended_by_itself(run: Run) -> None:
    _succeed(run.trigger("deferred"))
    run.until(lambda: "trigger completed" in run.log(), "the end of the trigger")


@with_plays(ended_by_itself)
def test_trigger_that_has_fired_cancels_nothing(run: Run) -> None:
    """Airflow does not call its on_kill."""
    assert "invoking on_kill" not in run.log()
    assert run.cancel_requests == []


def test_trigger_that_moves_to_another_triggerer_cancels_nothing(stage: Stage) -> None:
    """A frozen triggerer that has lost its triggers cancels nothing when it resumes."""
    run = stage.run(stage.syncs[-3]).trigger("deferred")
    execution = run.until_started()
    run.until_state("deferred")
    run.until_polled(execution, times=2)
    stage.airflow.start_second("triggerer")
    stage.airflow.freeze("triggerer")
    run.until_polled(execution, times=run.poll_count(execution) + 1)
    stage.airflow.kill("triggerer", signal.SIGCONT, whole=True)
    run.until(lambda: "is left to its task" in run.log(), "the first triggerer to give up the trigger")
    run.finish()
    run.until_state("success")
    assert (run.statuses, run.cancel_requests) == (["completed"], [])


# --- linked


def _linked(run: Run) -> None:
    _until_waiting(run)
    path = f"{run.sync_id}/{run.started[0].id}"
    assert str(run.link).endswith(path)
    run.mark("failed")
    run.until_state("failed")
    assert str(run.link).endswith(path)


def linked_in_a_worker(run: Run) -> None:
    _linked(run.trigger("worker"))


def linked_while_deferred(run: Run) -> None:
    _linked(run.trigger("deferred"))


@with_plays(linked_in_a_worker, linked_while_deferred)
def test_link_exists_while_the_task_waits_and_after_it_failed(run: Run) -> None:
    """It leads to the execution."""
    assert run.state == "failed"
