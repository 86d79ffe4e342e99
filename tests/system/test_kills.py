"""People and machines that end a task on a real Airflow: what is cancelled then, and what is not.

All plays run side by side on one Airflow, each on a sync of its own; a test waits for its play to end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tools.stage import Run, Stage

pytestmark = pytest.mark.deaths

Play = Callable[[Run], None]


@dataclass(frozen=True)
class OfModelSync:
    """The same play, with a model sync."""

    play: Play
    kind: str = "model"

    @property
    def __name__(self) -> str:
        return f"{self.play.__name__}_of_a_model_sync"

    def __call__(self, run: Run) -> None:
        self.play(run)


SOON = 2.0  # seconds after which a request comes through whose task is being ended


def played(*plays: Play) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("run", plays, ids=lambda play: play.__name__, indirect=True)


def _wait(run: Run, number: int = 1) -> None:
    """Wait until the task waits for its execution, in the way of its DAG."""
    execution = run.until_started(number)
    if run.dag_id.startswith("worker"):
        run.until_polled(execution)
    else:
        run.until_state("deferred")


def _succeed(run: Run, number: int = 1) -> None:
    _wait(run, number)
    run.finish()
    run.until_state("success")


def _wait_watched(run: Run) -> None:
    """Wait until the triggerer has the task's trigger: what nobody runs yet nobody can tell of a kill."""
    _wait(run)
    run.until(lambda: any(line.in_triggerer for line in run.log_lines()), "the trigger's begin")


def _until_canceled(run: Run) -> None:
    run.until(lambda: run.statuses[-1] == "canceled", "a cancelled execution")


# --- cleared


def cleared_after_success(run: Run) -> None:
    _succeed(run.trigger("deferred"))
    run.clear()
    _succeed(run, 2)


def cleared_after_success_in_a_worker(run: Run) -> None:
    _succeed(run.trigger("worker"))
    run.clear()
    _succeed(run, 2)


def cleared_after_success_while_its_run_goes_on(run: Run) -> None:
    _succeed(run.trigger("pair", other=run.stage.syncs[-1]))
    run.clear()
    _succeed(run, 2)


@played(cleared_after_success, cleared_after_success_in_a_worker, cleared_after_success_while_its_run_goes_on)
def test_a_cleared_success_starts_anew(run: Run) -> None:
    """Clearing a task that has succeeded starts a second execution."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed", "completed"], [])


def cleared_while_deferred(run: Run) -> None:
    _wait(run.trigger("deferred"))
    run.clear()
    _succeed(run, 2)


def cleared_while_it_runs(run: Run) -> None:
    _wait(run.trigger("worker"))
    run.clear()
    _succeed(run, 2)


@played(
    cleared_while_deferred,
    cleared_while_it_runs,
    OfModelSync(cleared_while_deferred),
    OfModelSync(cleared_while_it_runs),
)
def test_a_cleared_task_cancels_and_starts_anew(run: Run) -> None:
    """Clearing a task that waits cancels its execution, and starts a fresh one when that has ended."""
    first, second = run.started
    assert (run.state, run.statuses) == ("success", ["canceled", "completed"])
    assert set(run.cancel_requests) == {first.id}
    assert second.created_at >= first.end


def cleared_twice(run: Run) -> None:
    _wait(run.trigger("deferred"))
    run.clear()
    _wait(run, 2)
    run.clear()
    _succeed(run, 3)


@played(cleared_twice)
def test_a_task_can_be_cleared_twice(run: Run) -> None:
    """Clearing a deferred task, and the fresh one again, leaves one execution that has not been cancelled."""
    assert (run.state, run.statuses) == ("success", ["canceled", "canceled", "completed"])


# --- edited between two tries


def edited_between_two_tries(run: Run) -> None:
    run.trigger("edited")
    run.until_polled(run.until_started(), times=2)
    (run.stage.airflow.home / "retries").write_text("1")
    run.kill()
    run.until(lambda: run.task["try_number"] == 2 and run.state == "running", "the second try")
    run.until_polled(run.started[0], times=4)
    run.finish()
    run.until_state("success")


@played(edited_between_two_tries)
def test_retry_resumes_its_execution_when_retries_were_lowered_between_two_tries(run: Run) -> None:
    """A DAG that is deployed with fewer retries while a task runs cancels nothing and starts nothing twice."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed"], [])


# --- marked, failed, deleted


def marked_as_failed(run: Run) -> None:
    _wait_watched(run.trigger("deferred"))
    run.mark("failed")
    _until_canceled(run)


def marked_as_success(run: Run) -> None:
    _wait_watched(run.trigger("deferred"))
    run.mark("success")
    _until_canceled(run)


def marked_as_failed_in_a_worker(run: Run) -> None:
    _wait(run.trigger("worker"))
    run.mark("failed")
    _until_canceled(run)


def marked_as_success_in_a_worker(run: Run) -> None:
    _wait(run.trigger("worker"))
    run.mark("success")
    _until_canceled(run)


def marked_with_its_run(run: Run) -> None:
    _wait_watched(run.trigger("deferred"))
    run.stage.airflow.patch_run_state(run.dag_id, run.run_id, "failed")
    _until_canceled(run)


@played(
    marked_as_failed,
    marked_as_success,
    marked_as_failed_in_a_worker,
    marked_as_success_in_a_worker,
    marked_with_its_run,
    OfModelSync(marked_as_failed),
    OfModelSync(marked_as_failed_in_a_worker),
)
def test_a_marked_task_cancels_its_execution(run: Run) -> None:
    """Marking a waiting task, or its run, as success or failed cancels its execution, once."""
    assert run.statuses == ["canceled"]
    assert run.cancel_requests == [run.started[0].id]


def marked_beside_another(run: Run) -> None:
    other = run.stage.syncs[-2]
    _wait_watched(run.trigger("pair", other=other))
    run.until(lambda: run.stage.sandbox.starts(other), "the other task's execution")
    run.mark("failed")
    _until_canceled(run)


def marked_while_the_api_is_out(run: Run) -> None:
    run.stage.sandbox.faults.status(503, f"POST {run.path}/[^/]+/cancel", times=3)
    _wait_watched(run.trigger("deferred"))
    run.mark("failed")
    _until_canceled(run)


@played(marked_while_the_api_is_out)
def test_a_cancel_is_repeated(run: Run) -> None:
    """When the API refuses to cancel for some seconds, the trigger of a task that was marked as failed asks again."""
    assert run.statuses == ["canceled"]
    assert run.cancel_requests == [run.started[0].id] * 4


@played(marked_beside_another)
def test_the_other_task_of_the_run_is_left_alone(run: Run, stage: Stage) -> None:
    """Marking one of two deferred tasks of a run cancels the execution of that one only."""
    assert run.cancel_requests == [run.started[0].id]
    assert stage.sandbox.running(stage.syncs[-2]) is not None


def left_alone_when_deferred(run: Run) -> None:
    _wait_watched(run.trigger("deferred_left_alone"))
    run.mark("failed")
    run.until(lambda: "invoking on_kill" in run.log(), "the trigger to be told")
    run.until(lambda: "trigger completed" in run.log(), "the end of the trigger")


def left_alone_in_a_worker(run: Run) -> None:
    _wait(run.trigger("worker_left_alone"))
    task = run.process()
    run.mark("failed")
    run.until(lambda: task not in run.stage.airflow.processes(), "the end of the process")


@played(left_alone_when_deferred, left_alone_in_a_worker)
def test_without_cancel_on_kill_a_marked_task_cancels_nothing(run: Run) -> None:
    """With `cancel_on_kill=False` the execution of a task that is marked as failed runs on."""
    assert (run.statuses, run.cancel_requests) == (["created"], [])


def cleared_but_left_alone(run: Run) -> None:
    _wait(run.trigger("deferred_left_alone"))
    run.clear()
    run.until(lambda: run.task["try_number"] == 2, "the try after the clear")
    run.until_state("deferred")
    run.finish()
    _succeed(run, 2)


@played(cleared_but_left_alone)
def test_without_cancel_on_kill_a_cleared_task_waits(run: Run) -> None:
    """With `cancel_on_kill=False` a cleared task waits for the end of its old execution, and starts a fresh one."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed", "completed"], [])


def deleted(run: Run) -> None:
    _wait_watched(run.trigger("deferred_to_delete"))
    _delete(run)
    _until_canceled(run)
    run.stage.airflow.pause(run.dag_id, False)
    _succeed(run.trigger("deferred_to_delete"), 2)


def deleted_in_a_worker(run: Run) -> None:
    _wait(run.trigger("worker_to_delete"))
    _delete(run)
    _until_canceled(run)
    # What the executor tells of the old worker would be taken for the new one's, which would be ended.
    run.until(lambda: _executor_told_of(run), "the end of the worker")
    run.stage.airflow.pause(run.dag_id, False)
    _succeed(run.trigger("worker_to_delete"), 2)


def _executor_told_of(run: Run) -> bool:
    said = run.stage.airflow.component_log("scheduler")
    return any("Received executor event" in line and run.run_id in line for line in said)


def _delete(run: Run) -> None:
    # A scheduler dies when a run is deleted that it is about to look at.
    run.stage.airflow.pause(run.dag_id)
    # Airflow deletes no run that is running.
    run.stage.airflow.patch_run_state(run.dag_id, run.run_id, "failed")
    run.stage.airflow.delete_run(run.dag_id, run.run_id)


@played(deleted, deleted_in_a_worker)
def test_a_deleted_run_cancels_and_its_namesake_starts_anew(run: Run) -> None:
    """Deleting a run cancels its execution; a run that is triggered under the same id starts one of its own."""
    assert (run.state, run.statuses) == ("success", ["canceled", "completed"])
    assert run.cancel_requests == [run.started[0].id]


# --- terminated


def terminated_before_the_answer(run: Run) -> None:
    held = run.hold("POST", after=True)
    run.trigger("deferred")
    run.until(lambda: held.hits and run.started, "a start at the server")
    os.kill(run.worker().pid, signal.SIGTERM)
    run.release(held, SOON)
    _succeed(run, 2)


def terminated_while_it_waits(run: Run) -> None:
    _wait(run.trigger("worker"))
    os.kill(run.worker().pid, signal.SIGTERM)
    _succeed(run, 2)


@played(terminated_before_the_answer, terminated_while_it_waits, OfModelSync(terminated_before_the_answer))
def test_a_terminated_worker_cancels_what_it_started(run: Run) -> None:
    """A worker that gets a SIGTERM cancels its execution, also before it is told of it; the retry starts a new one."""
    assert (run.state, run.statuses) == ("success", ["canceled", "completed"])
    assert run.cancel_requests == [run.started[0].id]


def terminated_before_its_start(run: Run) -> None:
    held = run.hold("GET")
    run.trigger("deferred")
    run.until(lambda: held.hits, "the list before the start")
    os.kill(run.worker().pid, signal.SIGTERM)
    run.release(held, SOON)
    _succeed(run)


@played(terminated_before_its_start)
def test_a_terminated_worker_starts_nothing(run: Run) -> None:
    """A worker that gets a SIGTERM before its start leaves starting to the retry, which is green."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed"], [])
    assert ["Started execution" in run.log(number) for number in (1, 2)] == [False, True]


# --- two at once


def two_that_defer(run: Run) -> None:
    rival = run.stage.run(run.sync_id).trigger("deferred")
    run.trigger("deferred")
    run.until(lambda: run.state == rival.state == "deferred", "both tasks to hold no worker")
    run.finish()
    run.until_started(2)
    run.finish()
    run.until_state("success")
    rival.until_state("success")


def two_in_workers(run: Run) -> None:
    rival = run.stage.run(run.sync_id).trigger("worker")
    run.trigger("worker")
    run.until(lambda: run.state == rival.state == "running", "both tasks to run")
    run.finish()
    run.until_started(2)
    run.finish()
    run.until_state("success")
    rival.until_state("success")


@played(two_that_defer, two_in_workers, OfModelSync(two_that_defer))
def test_two_runs_that_want_one_sync_take_turns(run: Run) -> None:
    """Two runs that want the same sync at once both end green, with one execution each, one after the other."""
    first, second = run.started
    assert (run.statuses, run.cancel_requests) == (["completed", "completed"], [])
    assert second.created_at >= first.end


# --- triggers that end, and triggers that move


def ended_by_itself(run: Run) -> None:
    _succeed(run.trigger("deferred"))
    run.until(lambda: "trigger completed" in run.log(), "the end of the trigger")


@played(ended_by_itself)
def test_a_trigger_that_has_fired_is_not_killed(run: Run) -> None:
    """A trigger that has fired ends by itself: Airflow kills it not, and nothing is cancelled."""
    assert "invoking on_kill" not in run.log()
    assert run.cancel_requests == []


def test_a_trigger_that_moves_cancels_nothing(stage: Stage) -> None:
    """A triggerer that froze, and lost its triggers to another one meanwhile, cancels nothing when it wakes."""
    run = stage.run(stage.syncs[-3]).trigger("deferred")
    execution = run.until_started()
    run.until_state("deferred")
    run.until_polled(execution, times=2)
    stage.airflow.start_second("triggerer")
    stage.airflow.freeze("triggerer")
    run.until_polled(execution, times=run.poll_count(execution) + 1)
    stage.airflow.kill("triggerer", signal.SIGCONT, whole=True)
    run.until(lambda: "is left alone" in run.log(), "the first triggerer to give the trigger up")
    run.finish()
    run.until_state("success")
    assert (run.statuses, run.cancel_requests) == (["completed"], [])


# --- linked


def _linked(run: Run) -> None:
    _wait(run)
    path = f"{run.sync_id}/{run.started[0].id}"
    assert str(run.link).endswith(path)
    run.mark("failed")
    run.until_state("failed")
    assert str(run.link).endswith(path)


def linked_in_a_worker(run: Run) -> None:
    _linked(run.trigger("worker"))


def linked_while_deferred(run: Run) -> None:
    _linked(run.trigger("deferred"))


@played(linked_in_a_worker, linked_while_deferred)
def test_the_link_is_there_from_the_start_to_the_end(run: Run) -> None:
    """The link leads to the execution while the task waits for it, and after the task has failed."""
    assert run.state == "failed"
