"""`fresh_within` in the start protocol, with every order of the steps of two equal tasks.

Each task drives the real plan against a model of the server (``start_world``). A chooser decides which task takes its
next step, and when other events within small budgets happen:

end        The running execution completes, or fails.
kill       A task's process dies before its next request, or after the server has processed it. Its next try begins.
clear      A user clears a task that has succeeded.
age        Time passes, so that no execution that has ended until then is fresh.

A request and its response are one step. The server's clock differs from that of the tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicError
from airflow_provider_polytomic.api.executions.start import start_or_resume
from airflow_provider_polytomic.api.executions.start_decision import Blocked, ResolvedExecution
from airflow_provider_polytomic.api.executions.start_request import MAX_ATTEMPTS, StartRequest, first_try_since_clear
from airflow_provider_polytomic.api.plan import Request, SendResult

from .explorer import EXTRA, Chooser, explore
from .plans import advance
from .start_world import SYNC, Budget, Execution, Start, World

FRESH_WITHIN = 1000.0  # seconds; more than all requests and waits of a sequence take
MARGIN = 2.0  # seconds: the resolution of a Date header, by which a task may take an execution for older


@dataclass
class Server(World):
    """A world without events of its own. It checks every start.

    :ivar shown: for each task, the executions that its last list showed as completed.
    :ivar current: the task whose request is processed.
    """

    shown: dict[str, list[Execution]] = field(default_factory=dict)
    current: str = ""

    def meanwhile(self) -> None:
        """Do nothing: the scenario decides when executions end."""

    def maybe_die(self) -> None:
        """Do nothing: the scenario decides when tasks die."""

    def is_fresh(self, execution: Execution, margin: float = 0.0) -> bool:
        ended_at = execution.ended_at
        if execution.status != "completed" or ended_at is None:
            return False
        return self.now + self.skew - ended_at <= FRESH_WITHIN - margin

    def get(self, request: Request) -> Any:
        if request.path.endswith("/executions"):
            listed = [item for item in self.executions if item.unlisted_until <= self.now]
            self.shown[self.current] = [item for item in listed if item.status == "completed"]
        return super().get(request)

    def post(self, key: str) -> SendResult:
        before = len(self.executions)
        result = self.process(key)
        if len(self.executions) > before and key in self.keys_of_try:
            # A try starts nothing with a key of its own while its list shows an execution that is fresh.
            assert not any(self.is_fresh(item, MARGIN) for item in self.shown[self.current]), self.executions
        return result


@dataclass
class Task:
    """A task with its tries, driven step by step.

    :ivar acquired: the execution that the task waits for, or that is its result.
    :ivar result: ``own``, ``adopted``, ``failed`` or ``dead``.
    """

    name: str
    start: Start
    policy: str
    retries: int
    number: int = 1
    max_tries: int = 0
    plan: Any = None
    next: Request | None = None
    wakes_at: float = 0.0
    waits_for: str | None = None
    acquired: ResolvedExecution | None = None
    result: str | None = None

    def __post_init__(self) -> None:
        self.max_tries = self.retries
        self.prepare()

    def prepare(self) -> None:
        """Prepare the request of a try."""
        first = first_try_since_clear(self.number, self.max_tries, self.retries)
        self.request = StartRequest(
            self.start.kind, SYNC, (self.name,), self.number, first, if_running=self.policy, fresh_within=FRESH_WITHIN
        )
        self.keys = {self.request.key(self.number, attempt) for attempt in range(MAX_ATTEMPTS)}

    def is_ready(self, world: Server) -> bool:
        if self.result is not None or self.wakes_at > world.now:
            return False
        return self.waits_for is None or world.find(self.waits_for).status not in ("running", "canceling")

    def step(self, world: Server, *, dies: bool = False) -> None:
        """Send the next request, and continue to the following one, to a sleep, or to the decision.

        :param dies: whether the process dies before it reads the response.
        """
        if self.waits_for is not None and not self.end_wait(world):
            return
        if self.plan is None:
            self.plan = start_or_resume(self.request)
        world.current, world.keys_of_try = self.name, self.keys
        outcome: Any = world.send(self.next) if self.next is not None else None
        if dies:
            self.die()
            return
        self.next = None
        try:
            step = advance(self.plan, outcome, world.now)
            if isinstance(step, Request):
                self.next = step
            else:
                self.wakes_at = world.now + step.seconds
        except StopIteration as end:
            self.forget()
            self.decide(world, end.value)
        except PolytomicError:
            self.fail()

    def decide(self, world: Server, decision: Any) -> None:
        if isinstance(decision, Blocked):
            self.waits_for = decision.execution.id
            self.request = replace(self.request, attempts=decision.attempts)
            return
        assert isinstance(decision, ResolvedExecution)
        execution = world.find(decision.execution.id)
        if decision.origin == "fresh":
            # It is as fresh as was asked, and a success.
            assert world.is_fresh(execution), world.executions
            self.result = "adopted"
        else:
            assert decision.is_owned
            self.acquired, self.waits_for = decision, execution.id

    def end_wait(self, world: Server) -> bool:
        """Handle the end of the execution that the task has waited for.

        :returns: whether the task goes on.
        """
        execution, acquired = world.find(str(self.waits_for)), self.acquired
        self.forget()
        if acquired is None:  # it was a blocking one
            return True
        if execution.status == "completed":
            self.result = "own"
        elif execution.status != "canceled" or acquired.origin != "resumed":
            self.fail()
        return self.result is None

    def forget(self) -> None:
        self.plan = self.next = self.waits_for = self.acquired = None

    def fail(self, result: str = "failed") -> None:
        if self.number > self.max_tries:
            self.result = result
        else:
            self.begin_try()

    def die(self) -> None:
        self.fail("dead")

    def begin_try(self) -> None:
        self.forget()
        self.number, self.wakes_at = self.number + 1, 0.0
        self.prepare()

    def clear(self) -> None:
        self.max_tries, self.result = self.number + self.retries, None
        self.begin_try()


@dataclass
class Scenario:
    """Two tasks, and what may happen to them.

    :ivar ages: how often time may still pass until nothing is fresh.
    :ivar separations: how often a task was killed or cleared.
    """

    choose: Chooser
    world: Server
    tasks: list[Task]
    ages: int
    separations: int = 0

    def run(self) -> str:
        while True:
            events = self.events()
            if all(task.result is not None for task in self.tasks) and self.choose("stop", *events) == "stop":
                return self.judge()
            if events:
                name = self.choose(*events)
                event, *arguments = events[name]
                event(*arguments)
            else:
                self.world.now = min(task.wakes_at for task in self.tasks if task.result is None)

    def events(self) -> dict[str, tuple[Any, ...]]:
        """What may happen next: a function and its arguments by name."""
        world, budget = self.world, self.world.budget
        events: dict[str, tuple[Any, ...]] = {}
        for task in self.tasks:
            if task.is_ready(world):
                events[f"{task.name} goes on"] = task.step, world
            if task is not self.tasks[0]:  # the tasks are equal: it does not matter which one is killed or cleared
                continue
            if budget.kills and task.result is None:
                events[f"{task.name} dies"] = self.kill, task
                if task.next is not None and task.is_ready(world):
                    events[f"{task.name} sends and dies"] = self.kill, task, True
            if budget.clears and task.result in ("own", "adopted"):
                events[f"{task.name} is cleared"] = self.clear, task
        if world.running is not None:
            events["end"] = self.end, "completed"
            if budget.failures and world.running.key is not None:
                events["end badly"] = self.end, "failed"
        if self.ages and any(world.is_fresh(item) for item in world.executions):
            events["age"] = (self.age,)
        return events

    def kill(self, task: Task, sends: bool = False) -> None:
        self.world.budget.kills -= 1
        self.separations += 1
        if sends:
            task.step(self.world, dies=True)
        else:
            task.die()

    def clear(self, task: Task) -> None:
        self.world.budget.clears -= 1
        self.separations += 1
        task.clear()

    def end(self, status: str) -> None:
        assert self.world.running is not None
        self.world.budget.failures -= status == "failed"
        self.world.end(self.world.running, status)
        self.world.now += 0.3

    def age(self) -> None:
        self.ages -= 1
        self.world.now += FRESH_WITHIN

    def judge(self) -> str:
        """Check the invariants at the end, and describe it."""
        results = sorted(str(task.result) for task in self.tasks)
        executions = self.world.executions
        # A task that has ended leaves none of its executions running, unless it died in its last try.
        assert self.world.running is None or "dead" in results, (results, executions)
        # Each execution is the result of a task, or it failed, or a kill or a clear has separated it from its task.
        failed = sum(item.status == "failed" for item in executions)
        assert len(executions) <= results.count("own") + failed + self.separations, (results, executions)
        return f"{', '.join(results)}; {len(executions)} started"


CONFIGURATIONS: dict[str, tuple[Budget, int]] = {
    "nothing else": (Budget(retries=0), 0),
    "time": (Budget(retries=0), 1 + EXTRA),
    "a failed execution": (Budget(failures=1, retries=EXTRA), 0),
    "a kill in the last try": (Budget(kills=1, retries=0), 0),
    "a clear": (Budget(clears=1 + EXTRA, retries=0), 0),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize(("kind", "policy"), [("bulk", "wait"), ("bulk", "fail"), ("model", "wait")])
def test_tasks_start_nothing_while_a_fresh_execution_is_listed_in_any_order_of_events(
    name: str, kind: str, policy: str, record_property: Any
) -> None:
    """Every result is the task's own or fresh, none of its executions is left running, and none starts needlessly."""
    budget, ages = CONFIGURATIONS[name]

    def scenario(choose: Chooser) -> str:
        start = Start(kind)
        tasks = [Task(f"task {n}", start, policy, budget.retries) for n in range(2)]
        return Scenario(choose, Server(choose, replace(budget), start), tasks, ages).run()

    ends = explore(scenario)

    record_property("sequences", sum(ends.values()))
    print(f"\nexplored {sum(ends.values())} sequences: {dict(ends)}")
    # Of two tasks that ask at once, one starts an execution, and the other one waits for it, or finds it ended.
    assert ends["adopted, own; 1 started"] > 0
    if name == "nothing else" and policy == "wait":
        # Two start if one execution begins and ends between the list and the start of the other task.
        assert set(ends) == {"adopted, own; 1 started", "own, own; 2 started"}
