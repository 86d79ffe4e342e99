"""Processes of a real Airflow that are killed at critical moments, and the tries after that.

A death is a SIGKILL to a task's process, its worker, its triggerer, or the scheduler, at a moment that a play chooses.
A play is a task together with what happens to each of its tries, its acts. All plays run concurrently on one Airflow,
each on its own sync; a test waits for the end of its play."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.system.machinery import AIRFLOW, OLDER
from tools.local_airflow import LocalAirflow
from tools.stage import Run, Stage

pytestmark = pytest.mark.deaths

FIRST_LINE = "Execution created"  # of a console log
IN_FLIGHT = 4.0  # seconds after a kill until the response is sent, so that the next try replays the key before

# What happens to one try. An act prepares itself and yields before the try begins; it waits for its time and yields
# again before it acts, because the act of the next try has to be prepared first.
Act = Callable[[Run], Iterator[None]]


def killed_at_its_first_request(run: Run) -> Iterator[None]:
    """The try has just begun."""
    held = run.hold("GET")
    yield
    run.until(lambda: held.hits, "the first request")
    yield
    run.kill()


def killed_before_its_start(run: Run) -> Iterator[None]:
    """The try has replayed the keys of earlier tries, and its own start request is about to be sent."""
    # A first try lists the executions once before its start. A retry lists them before the replays, and once more.
    held = run.hold("GET", skip=1 if run.dag_id else 0)
    yield
    run.until(lambda: held.hits, "the request before the start")
    yield
    run.kill()


def killed_before_the_response(run: Run) -> Iterator[None]:
    """The server has started an execution, and the task has no response yet."""
    before = len(run.started)
    # Without stored starts in Airflow, a retry replays the keys of the earlier tries first, each with a POST.
    held = run.hold("POST", after=True, skip=before if AIRFLOW in OLDER else 0)
    yield
    run.until(lambda: held.hits and len(run.started) > before, "a start at the server")
    yield
    number = run.try_number  # read before the kill, because the next try may begin at once
    run.kill()
    assert run.started[-1].id not in run.log(number)
    run.release(held, IN_FLIGHT)


def killed_while_it_waits(run: Run) -> Iterator[None]:
    """The worker knows its execution and polls it."""
    yield
    run.until_polled(run.until_started(), times=2)
    yield
    run.kill()


def killed_with_its_worker(run: Run) -> Iterator[None]:
    """The executor's worker is killed together with the task's process, so that nothing reports to Airflow."""
    yield
    run.until_polled(run.until_started(), times=2)
    yield
    task, worker = run.process(), run.worker()
    os.kill(worker.pid, signal.SIGKILL)
    os.kill(task.pid, signal.SIGKILL)


def left_by_its_worker(run: Run) -> Iterator[None]:
    """Only the worker is killed. The task's process keeps running, concurrently with the next try."""
    yield
    run.until_polled(run.until_started(), times=2)
    yield
    os.kill(run.worker().pid, signal.SIGKILL)
    run.until(lambda: run.task.get("try_number", 0) > 1, "a retry")


def killed_at_the_end(run: Run, status: str = "completed") -> Iterator[None]:
    """The execution has ended, the trigger has fired, and a worker is about to finish the task."""
    yield
    run.until_state("deferred")
    held = run.hold("GET /[^/]+(/consolelog)?", skip=1)  # after the trigger's last poll
    run.finish(status)
    run.until(lambda: held.hits, "a worker that reads the ended execution")
    yield
    run.kill()


def killed_after_a_failure(run: Run) -> Iterator[None]:
    """As `killed_at_the_end`, with an execution that has failed."""
    return killed_at_the_end(run, "failed")


def failed(run: Run) -> Iterator[None]:
    """Nothing is killed: the execution fails."""
    yield
    run.until_polled(run.until_started())
    yield
    run.finish("failed")


def orphaned(run: Run) -> Iterator[None]:
    """The task is deferred when the triggerer is killed, once for all plays that wait for it."""
    yield
    run.until_state("deferred")
    run.stage.wait_at_barrier("triggerer")
    yield


def orphaned_after_a_line(run: Run) -> Iterator[None]:
    """As `orphaned`, after the triggerer has logged the first line of the execution's console log."""
    yield
    run.until(lambda: any(line.in_triggerer and FIRST_LINE in str(line) for line in run.log_lines()), "a line")
    # The triggerer stores the cursor in Airflow after it has logged the line, before its next polls.
    run.until_polled(run.until_started(), times=4)
    run.stage.wait_at_barrier("triggerer")
    yield


@dataclass(frozen=True)
class Play:
    """A task, and what happens to each of its tries.

    :param dag: the DAG of the task, without the kind of the sync.
    :param acts: what happens to each try, in order.
    :param statuses: the statuses with which its executions end, in order; empty if they keep running.
    """

    dag: str
    acts: tuple[Act, ...]
    statuses: tuple[str, ...] = ("completed",)
    schemas: int = 2
    kind: str = "bulk"

    def __str__(self) -> str:
        return "-".join([self.dag, *(act.__name__ for act in self.acts), self.kind])

    @property
    def barrier(self) -> str | None:
        return "triggerer" if {orphaned, orphaned_after_a_line} & set(self.acts) else None

    def __call__(self, run: Run) -> None:
        acts = [act(run) for act in self.acts]
        next(acts[0])
        run.trigger(self.dag)
        for act, following in zip(acts, [*acts[1:], None], strict=True):
            next(act)
            if following is not None:
                next(following)
            next(act, None)
        for number, status in enumerate(self.statuses, 1):
            if run.stage.sandbox.status(run.until_started(number).id) == "created":
                if self.dag.startswith("deferred"):
                    run.until_state("deferred")
                run.finish(status)
        run.until_state("success")
        assert run.try_number > sum(not act.__name__.startswith("orphaned") for act in self.acts)


def _kill_the_triggerer(airflow: LocalAirflow) -> None:
    airflow.kill("triggerer", whole=True)
    airflow.restart("triggerer")


BARRIERS = {"triggerer": _kill_the_triggerer}


def with_plays(*plays: Play) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("run", plays, ids=str, indirect=True)


MANY = 101  # schemas; more than fit into a trigger event, so the worker requests the execution again


@with_plays(
    Play("deferred", (killed_before_its_start,)),
    Play("worker", (killed_before_its_start,)),
    Play("deferred", (killed_before_the_response,)),
    Play("worker", (killed_before_the_response,)),
    Play("worker", (killed_while_it_waits,)),
    Play("worker", (killed_with_its_worker,)),
    Play("worker", (left_by_its_worker,)),
    Play("deferred", (killed_at_the_end,), schemas=MANY),
    # ... and the next try
    Play("deferred", (killed_before_its_start, killed_at_its_first_request)),
    Play("worker", (killed_before_its_start, killed_before_the_response)),
    Play("deferred", (killed_before_the_response, killed_at_its_first_request)),
    Play("worker", (killed_before_the_response, killed_at_its_first_request, killed_at_its_first_request)),
    Play("worker", (killed_while_it_waits, killed_at_its_first_request)),
    Play("deferred", (killed_at_the_end, killed_at_its_first_request), schemas=MANY),
    # ... and the triggerer
    Play("deferred", (orphaned,)),
    Play("deferred", (orphaned, killed_at_the_end), schemas=MANY),
    Play("deferred", (killed_before_the_response, orphaned)),
    # ... and of a model sync
    Play("deferred", (killed_before_the_response,), kind="model"),
    Play("worker", (killed_before_its_start, killed_before_the_response), kind="model"),
    Play("worker", (killed_while_it_waits,), kind="model"),
    Play("deferred", (orphaned,), kind="model"),
)
def test_killed_task_starts_one_execution(run: Run) -> None:
    """However often its process or the triggerer is killed, the task succeeds with one execution."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed"], [])


@with_plays(
    Play("deferred", (failed, killed_before_its_start), ("failed", "completed")),
    Play("worker", (failed, killed_before_its_start), ("failed", "completed")),
    Play("worker", (failed, killed_before_the_response, killed_at_its_first_request), ("failed", "completed")),
    Play("deferred", (killed_after_a_failure,), ("failed", "completed")),
    Play("deferred", (killed_after_a_failure, killed_before_its_start), ("failed", "completed")),
    Play("deferred", (killed_after_a_failure,), ("failed", "completed"), kind="model"),
    Play("worker", (failed, killed_before_the_response), ("failed", "completed"), kind="model"),
)
def test_killed_task_starts_one_more_execution_after_a_failed_one(run: Run) -> None:
    """However often the tries after the failure are killed."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["failed", "completed"], [])


@with_plays(
    Play("unwaited", (killed_before_its_start,), ()),
    Play("unwaited", (killed_before_the_response,), ()),
    Play("unwaited", (killed_before_the_response, killed_at_its_first_request), ()),
)
def test_killed_task_that_does_not_wait_starts_one_execution(run: Run) -> None:
    """With `wait_for_completion=False` the task succeeds, and its execution keeps running."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["created"], [])


@with_plays(Play("deferred_with_log", (orphaned_after_a_line,)))
def test_next_triggerer_continues_the_console_log_where_the_killed_one_stopped(run: Run) -> None:
    """No line is repeated and none is missing."""
    (execution,) = run.started
    logged = [line.event.split(" ", 2)[-1] for line in run.log_lines() if line.event.startswith("Polytomic: ")]
    assert logged == [line.message for line in execution.log(execution.end)]


@dataclass(frozen=True)
class Restart:
    deferred: Run
    worker: Run


@pytest.fixture(scope="module")
def restart(stage: Stage) -> Restart:
    """Two tasks, one deferred and one in a worker, for which the scheduler was killed and restarted."""
    deferred = stage.run(stage.syncs[-1]).trigger("deferred")
    worker = stage.run(stage.syncs[-2]).trigger("worker")
    deferred.until_state("deferred")
    worker.until_polled(worker.until_started())
    stage.airflow.kill("scheduler")
    stage.airflow.restart("scheduler")
    worker.until_polled(worker.until_started(2))
    for run in (deferred, worker):
        run.finish()
        run.until_state("success")
    return Restart(deferred, worker)


def test_deferred_task_keeps_its_execution_when_the_scheduler_restarts(restart: Restart) -> None:
    """It succeeds with one execution."""
    assert (restart.deferred.statuses, restart.deferred.cancel_requests) == (["completed"], [])


def test_task_in_a_worker_is_ended_and_retried_when_the_scheduler_restarts(restart: Restart) -> None:
    """It cancels its execution, and the retry starts another one."""
    first, _ = restart.worker.started
    assert (restart.worker.statuses, restart.worker.cancel_requests) == (["canceled", "completed"], [first.id])
