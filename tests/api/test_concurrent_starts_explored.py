"""Equal tasks of several DAG runs start one sync at once: the start protocol against every interleaving of them.

Each task drives the real plan in its first try. A chooser decides which of them takes its next step, when the running
execution ends, and whether a start is answered with an error that is recorded for its key, whether or not it has
started an execution. The server sends its ``Date``, to the second, and its clock is not that of the tasks. A
request and its answer are one step: what another task starts meanwhile looks like the request's own effect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicError
from airflow_provider_polytomic.api.executions.server_clock import ServerClock
from airflow_provider_polytomic.api.executions.start import Acquired, Blocked, _start_or_resume
from airflow_provider_polytomic.api.executions.start_request import MAX_ATTEMPTS, StartRequest
from airflow_provider_polytomic.api.plan import Now, Request, SendResult, Sleep

from .explorer import EXTRA, Chooser, explore
from .start_world import RECORDED_ERROR, SYNC, Budget, Start, World


@dataclass
class Task:
    """One task in its first try: a plan that is driven step by step."""

    request: StartRequest
    plan: Any = None
    next: Request | None = None
    wakes_at: float = 0.0
    waits_for: str | None = None
    execution_id: str | None = None
    failure: PolytomicError | None = None

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.server_clock = ServerClock()
        self.plan = _start_or_resume(self.request, self.server_clock)

    @property
    def is_done(self) -> bool:
        return self.execution_id is not None or self.failure is not None

    def is_ready(self, world: World) -> bool:
        waits = self.waits_for is not None and world.find(self.waits_for).status == "running"
        return not self.is_done and not waits and self.wakes_at <= world.now

    def step(self, world: World) -> None:
        """Send the next request, and go on to the one after it, to a sleep or to the decision."""
        if self.waits_for is not None:
            self.waits_for, self.next = None, None
            self.begin()
        answer: Any = None
        if self.next is not None:
            sent, answer = world.now, world.send(self.next)
            self.server_clock.record_exchange(sent, world.now, answer)
        try:
            while True:
                step = self.plan.send(answer)
                answer = world.now if isinstance(step, Now) else None
                self.next = step if isinstance(step, Request) else None
                if isinstance(step, Sleep):
                    self.wakes_at = world.now + step.seconds
                if isinstance(step, Sleep | Request):
                    return
        except StopIteration as end:
            match end.value:
                case Acquired(execution=execution):
                    self.execution_id = execution.id
                case Blocked(execution=execution, attempts=attempts):
                    self.waits_for, self.request = execution.id, replace(self.request, attempts=attempts)
        except PolytomicError as error:
            self.failure = error


class Server(World):
    """A world in which nothing happens by itself, and a start goes wrong only by an error recorded for its key."""

    def meanwhile(self) -> None:
        """The scenario decides when executions end."""

    def post(self, key: str) -> SendResult:
        if key not in self.keys and self.running is None and self.budget.effects:
            match self.choose("answered", "recorded error", "recorded error, started"):
                case "recorded error":
                    self.budget.effects -= 1
                    self.keys[key] = RECORDED_ERROR
                case "recorded error, started":
                    self.budget.effects -= 1
                    self.keys[key] = RECORDED_ERROR
                    self.begin(key)
        return self.process(key)


def run_tasks(choose: Chooser, policy: str, number: int, start: Start, budget: Budget) -> str:
    world = Server(choose, budget, start)
    tasks = [
        Task(StartRequest(start.kind, SYNC, (f"task {n}",), arguments=start.arguments, if_running=policy))
        for n in range(number)
    ]
    while not all(task.is_done for task in tasks):
        ready = [task for task in tasks if task.is_ready(world)]
        options = [f"task {tasks.index(task)}" for task in ready]
        if world.running is not None:
            options.append("end")
        if not options:
            world.now = min(task.wakes_at for task in tasks if not task.is_done)
            continue
        taken = choose(*options)
        if taken == "end":
            assert world.running is not None
            world.end(world.running, "completed")
            world.now += 0.3
        else:
            ready[options.index(taken)].step(world)
    acquired = [task.execution_id for task in tasks if task.execution_id is not None]

    # No two tasks report one execution, none reports another one's, and none is left that no task reports.
    assert len(set(acquired)) == len(acquired), (acquired, world.executions)
    for task in tasks:
        if task.execution_id is not None:
            key = world.find(task.execution_id).key
            assert key in {task.request.key(1, attempt) for attempt in range(MAX_ATTEMPTS)}, (
                acquired,
                world.executions,
            )
    assert len(world.executions) == len(acquired), (acquired, world.executions)
    return f"{len(acquired)} executions"


@pytest.mark.parametrize(("kind", "policy"), [("bulk", "wait"), ("model", "wait"), ("bulk", "fail")])
def test_concurrent_equal_starts_never_share_an_execution_when_a_start_fails_with_a_recorded_error(
    kind: str, policy: str, record_property: Any
) -> None:
    """In every interleaving each task reports an execution of its own, also one that a recorded 5xx has started."""
    ends = explore(lambda choose: run_tasks(choose, policy, 2, Start(kind), Budget(effects=EXTRA + 1)))

    record_property("sequences", sum(ends.values()))
    print(f"\nexplored {sum(ends.values())} sequences: {dict(ends)}")
    assert ends["2 executions"] > 0
