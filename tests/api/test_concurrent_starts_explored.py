"""The start protocol with every interleaving of equal tasks that start the same sync at the same time.

Each task is in its first try and drives the real plan. A chooser decides which task takes its next step, when the
running execution ends, and whether the server records an error for a start, with or without having begun an execution.
The server's clock differs from that of the tasks, and its ``Date`` has a resolution of one second. A request and its
response are one step: an execution that another task starts during a request cannot be distinguished from its effect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicError
from airflow_provider_polytomic.api.executions.server_clock import ServerClock
from airflow_provider_polytomic.api.executions.start import _start_or_resume
from airflow_provider_polytomic.api.executions.start_decision import Blocked, ResolvedExecution
from airflow_provider_polytomic.api.executions.start_request import MAX_ATTEMPTS, StartRequest
from airflow_provider_polytomic.api.plan import Request, SendResult

from .explorer import EXTRA, Chooser, explore
from .plans import advance
from .start_world import RECORDED_ERROR, SYNC, Budget, Start, World


@dataclass
class Task:
    """One task in its first try, driven step by step."""

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
        is_blocked = self.waits_for is not None and world.find(self.waits_for).status == "running"
        return not self.is_done and not is_blocked and self.wakes_at <= world.now

    def step(self, world: World) -> None:
        """Send the next request, and continue to the following one, to a sleep or to the decision."""
        if self.waits_for is not None:
            self.waits_for, self.next = None, None
            self.begin()
        outcome: Any = None
        if self.next is not None:
            sent, outcome = world.now, world.send(self.next)
            self.server_clock.record_exchange(sent, world.now, outcome)
        self.next = None
        try:
            step = advance(self.plan, outcome, world.now)
            if isinstance(step, Request):
                self.next = step
            else:
                self.wakes_at = world.now + step.seconds
        except StopIteration as end:
            match end.value:
                case ResolvedExecution(execution=execution):
                    self.execution_id = execution.id
                case Blocked(execution=execution, attempts=attempts):
                    self.waits_for, self.request = execution.id, replace(self.request, attempts=attempts)
        except PolytomicError as error:
            self.failure = error


class Server(World):
    """A world without events of its own, in which a start fails only with a recorded error."""

    def meanwhile(self) -> None:
        """Do nothing: the scenario decides when executions end."""

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

    # Each task reports its own execution, and every execution is reported by a task.
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
    """In every interleaving each task reports its own execution, also one that a recorded 5xx began."""
    ends = explore(lambda choose: run_tasks(choose, policy, 2, Start(kind), Budget(effects=EXTRA + 1)))

    record_property("sequences", sum(ends.values()))
    print(f"\nexplored {sum(ends.values())} sequences: {dict(ends)}")
    assert ends["2 executions"] > 0
