"""Processes of a real Airflow that die at the worst moments, and what those after them make of it.

All plays run side by side on one Airflow, each on a sync of its own; a test waits for its play to end.
"""

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
IN_FLIGHT = 4.0  # seconds for which an answer is on its way after a kill: the next try asks meanwhile

# What happens to a try. It prepares itself, and yields before the try begins; waits for its moment, and yields
# before it strikes, because what happens to the next try has to be prepared first.
Act = Callable[[Run], Iterator[None]]


def killed_at_its_first_look(run: Run) -> Iterator[None]:
    """The try has just begun."""
    held = run.hold("GET")
    yield
    run.until(lambda: held.hits, "the first look")
    yield
    run.kill()


def killed_before_its_start(run: Run) -> Iterator[None]:
    """The try has replayed the keys of the tries before it, and its own request to start is about to leave."""
    # A first try lists the executions once before its start. A retry lists them before the replays, and once more.
    held = run.hold("GET", skip=1 if run.dag_id else 0)
    yield
    run.until(lambda: held.hits, "the look before the start")
    yield
    run.kill()


def killed_before_the_answer(run: Run) -> Iterator[None]:
    """The server has started an execution, and the task does not know yet."""
    before = len(run.started)
    # Where Airflow keeps no note of what an earlier try has started, Polytomic is asked for that first, with a POST.
    held = run.hold("POST", after=True, skip=before if AIRFLOW in OLDER else 0)
    yield
    run.until(lambda: held.hits and len(run.started) > before, "a start at the server")
    yield
    number = run.task["try_number"]  # of the one that dies: the next may be quick
    run.kill()
    assert run.started[-1].id not in run.log(number)
    run.release(held, IN_FLIGHT)


def killed_while_it_waits(run: Run) -> Iterator[None]:
    """The worker knows its execution, and asks again and again how it does."""
    yield
    run.until_polled(run.until_started(), times=2)
    yield
    run.kill()


def killed_with_its_worker(run: Run) -> Iterator[None]:
    """The same, and the executor's worker dies with it, so that nobody tells Airflow."""
    yield
    run.until_polled(run.until_started(), times=2)
    yield
    task, worker = run.process(), run.worker()
    os.kill(worker.pid, signal.SIGKILL)
    os.kill(task.pid, signal.SIGKILL)


def left_by_its_worker(run: Run) -> Iterator[None]:
    """Only the worker dies. The task's process lives on, beside the next try's."""
    yield
    run.until_polled(run.until_started(), times=2)
    yield
    os.kill(run.worker().pid, signal.SIGKILL)
    run.until(lambda: run.task["try_number"] > 1, "a retry")


def killed_at_the_end(run: Run, status: str = "completed") -> Iterator[None]:
    """The execution has ended, the trigger has fired, and a worker is about to finish the task."""
    yield
    run.until_state("deferred")
    held = run.hold("GET /[^/]+(/consolelog)?", skip=1)  # after the trigger's own look, which is its last
    run.finish(status)
    run.until(lambda: held.hits, "a worker that reads how it ended")
    yield
    run.kill()


def killed_after_a_failure(run: Run) -> Iterator[None]:
    """The same, of an execution that has failed."""
    return killed_at_the_end(run, "failed")


def failed(run: Run) -> Iterator[None]:
    """Nobody dies: the execution fails."""
    yield
    run.until_polled(run.until_started())
    yield
    run.finish("failed")


def orphaned(run: Run) -> Iterator[None]:
    """The task is deferred, and the triggerer dies, which is done once for all who wait for it."""
    yield
    run.until_state("deferred")
    run.stage.wait_at_barrier("triggerer")
    yield


def orphaned_after_a_line(run: Run) -> Iterator[None]:
    """The same, when the triggerer has logged the first line of the execution's console log."""
    yield
    run.until(lambda: any(line.in_triggerer and FIRST_LINE in str(line) for line in run.log_lines()), "a line")
    # The triggerer has logged it, and notes in Airflow that it has: before its next look.
    run.until_polled(run.until_started(), times=4)
    run.stage.wait_at_barrier("triggerer")
    yield


@dataclass(frozen=True)
class Play:
    """A task to whose tries one thing after the other happens.

    :param ends: how its executions end, one after the other; none: they run on.
    """

    way: str
    acts: tuple[Act, ...]
    ends: tuple[str, ...] = ("completed",)
    schemas: int = 2
    kind: str = "bulk"

    def __str__(self) -> str:
        return "-".join([self.way, *(act.__name__ for act in self.acts), self.kind])

    @property
    def gathers(self) -> str | None:
        return "triggerer" if {orphaned, orphaned_after_a_line} & set(self.acts) else None

    def __call__(self, run: Run) -> None:
        acts = [act(run) for act in self.acts]
        next(acts[0])
        run.trigger(self.way)
        for act, following in zip(acts, [*acts[1:], None], strict=True):
            next(act)
            if following is not None:
                next(following)
            next(act, None)
        for number, status in enumerate(self.statuses, 1):
            if run.stage.sandbox.status(run.until_started(number).id) == "created":
                if self.way.startswith("deferred"):
                    run.until_state("deferred")
                run.finish(status)
        run.until_state("success")
        assert run.task["try_number"] > sum(not act.__name__.startswith("orphaned") for act in self.acts)


def _kill_the_triggerer(airflow: LocalAirflow) -> None:
    airflow.kill("triggerer", whole=True)
    airflow.restart("triggerer")


GATHERINGS = {"triggerer": _kill_the_triggerer}


def played(*plays: Play) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("run", plays, ids=str, indirect=True)


MANY = 101  # schemas: more than an event has room for, so that the worker asks for the execution once more


@played(
    Play("deferred", (killed_before_its_start,)),
    Play("worker", (killed_before_its_start,)),
    Play("deferred", (killed_before_the_answer,)),
    Play("worker", (killed_before_the_answer,)),
    Play("worker", (killed_while_it_waits,)),
    Play("worker", (killed_with_its_worker,)),
    Play("worker", (left_by_its_worker,)),
    Play("deferred", (killed_at_the_end,), schemas=MANY),
    # ... and the try after that
    Play("deferred", (killed_before_its_start, killed_at_its_first_look)),
    Play("worker", (killed_before_its_start, killed_before_the_answer)),
    Play("deferred", (killed_before_the_answer, killed_at_its_first_look)),
    Play("worker", (killed_before_the_answer, killed_at_its_first_look, killed_at_its_first_look)),
    Play("worker", (killed_while_it_waits, killed_at_its_first_look)),
    Play("deferred", (killed_at_the_end, killed_at_its_first_look), schemas=MANY),
    # ... and the triggerer
    Play("deferred", (orphaned,)),
    Play("deferred", (orphaned, killed_at_the_end), schemas=MANY),
    Play("deferred", (killed_before_the_answer, orphaned)),
    # ... and of a model sync
    Play("deferred", (killed_before_the_answer,), kind="model"),
    Play("worker", (killed_before_its_start, killed_before_the_answer), kind="model"),
    Play("worker", (killed_while_it_waits,), kind="model"),
    Play("deferred", (orphaned,), kind="model"),
)
def test_whatever_dies_one_execution_is_started(run: Run) -> None:
    """However often the task's process or the triggerer is killed, the task ends green with its one execution."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed"], [])


@played(
    Play("deferred", (failed, killed_before_its_start), ("failed", "completed")),
    Play("worker", (failed, killed_before_its_start), ("failed", "completed")),
    Play("worker", (failed, killed_before_the_answer, killed_at_its_first_look), ("failed", "completed")),
    Play("deferred", (killed_after_a_failure,), ("failed", "completed")),
    Play("deferred", (killed_after_a_failure, killed_before_its_start), ("failed", "completed")),
    Play("deferred", (killed_after_a_failure,), ("failed", "completed"), kind="model"),
    Play("worker", (failed, killed_before_the_answer), ("failed", "completed"), kind="model"),
)
def test_after_a_failed_execution_one_more_is_started(run: Run) -> None:
    """When the first execution failed, exactly one more is started, however often the tries after it are killed."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["failed", "completed"], [])


@played(
    Play("unwaited", (killed_before_its_start,), ()),
    Play("unwaited", (killed_before_the_answer,), ()),
    Play("unwaited", (killed_before_the_answer, killed_at_its_first_look), ()),
)
def test_without_waiting_one_execution_is_started(run: Run) -> None:
    """With `wait_for_completion=False` the task ends green, and its one execution runs on."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["created"], [])


@played(Play("deferred_with_log", (orphaned_after_a_line,)))
def test_another_triggerer_repeats_no_line_of_the_console_log(run: Run) -> None:
    """After the triggerer was killed the next one goes on with the console log where that one had stopped."""
    (execution,) = run.started
    told = [line.event.split(" ", 2)[-1] for line in run.log_lines() if line.event.startswith("Polytomic: ")]
    assert told == [line.message for line in execution.log(execution.end)]


@dataclass(frozen=True)
class Restart:
    deferred: Run
    worker: Run


@pytest.fixture(scope="module")
def restart(stage: Stage) -> Restart:
    """Two tasks, of which one was deferred and one in a worker when the scheduler was killed and started again."""
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


def test_a_restarted_scheduler_changes_nothing_for_a_deferred_task(restart: Restart) -> None:
    """A task that is deferred while the scheduler is killed and started again ends green with its one execution."""
    assert (restart.deferred.statuses, restart.deferred.cancel_requests) == (["completed"], [])


def test_a_restarted_scheduler_ends_what_ran_in_a_worker(restart: Restart) -> None:
    """A new scheduler has the tasks in old workers end, which cancel their execution, and starts them once more."""
    first, _ = restart.worker.started
    assert (restart.worker.statuses, restart.worker.cancel_requests) == (["canceled", "completed"], [first.id])
