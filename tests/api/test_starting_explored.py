"""The start protocol against every order of events within small budgets.

A scenario is one task: its tries, each driving the real plan against a small model of the server. Wherever
something else could happen (a request or its answer is lost, arrives late, ends in a recorded error; the
process dies; somebody else starts an execution; one ends well or badly; a person clears the task) the scenario
asks a chooser, and the explorer runs it again and again until every sequence of choices was had.

``POLYTOMIC_EXPLORE=2`` (and more) raises the budgets, for a run by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicConflictError, PolytomicError
from airflow_provider_polytomic.api.http import Answer, Now, Request, Response, Sleep, Unreachable
from airflow_provider_polytomic.api.starting import Blocked, Memo, Mine, Order, Skip, one_try

from .explorer import EXTRA, IN_FLIGHT_AT_MOST, Chooser, Died, explore

SYNC = "s"
FOOLED = "limit: took an equal execution that began beside a recorded server error"


@dataclass
class Execution:
    id: str
    key: str | None  # None: somebody else's
    at: float
    what: dict[str, bool]  # what it says it does; that of a model sync says nothing
    status: str = "running"

    @property
    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "created_at": f"2026-01-01T{int(self.at) // 3600:02}:{int(self.at) // 60 % 60:02}:{self.at % 60:09.6f}Z",
            **self.what,
        }


@dataclass
class Budget:
    faults: int = 0
    kills: int = 0
    failures: int = 0
    foreign: int = 0
    clears: int = 0
    retries: int = 2


@dataclass(frozen=True)
class Wishes:
    """What the task starts. Somebody else starts what such a task starts that has no wishes."""

    kind: str = "bulk"
    arguments: dict[str, Any] = field(default_factory=dict)

    def told(self, key: str | None) -> dict[str, bool]:
        return {"is_test": False, "is_resync": key is not None and bool(self.arguments)} if self.kind == "bulk" else {}


@dataclass
class World:
    """The server, the clock, and what may still go wrong."""

    choose: Chooser
    budget: Budget
    wishes: Wishes
    now: float = 1000.0
    executions: list[Execution] = field(default_factory=list)
    keys: dict[str, Response] = field(default_factory=dict)
    in_flight: dict[str, float] = field(default_factory=dict)  # key -> since when
    labels: set[str] = field(default_factory=set)
    begun_in_this_try: int = 0
    listed: int = 0  # executions that the last list showed
    recorded_at: list[int] = field(default_factory=list)  # and at each start that ended in a recorded error

    @property
    def running(self) -> Execution | None:
        return next((item for item in self.executions if item.status in ("running", "canceling")), None)

    @property
    def ours(self) -> list[Execution]:
        return [item for item in self.executions if item.key is not None]

    def begin(self, key: str | None) -> Execution:
        assert self.running is None
        self.now += 1
        execution = Execution(f"e{len(self.executions)}", key, self.now, self.wishes.told(key))
        self.executions.append(execution)
        return execution

    def end(self, execution: Execution, status: str) -> None:
        execution.status = "canceled" if execution.status == "canceling" else status

    # --- what happens by itself

    def meanwhile(self) -> None:
        """Between any two steps of ours: an execution ends, somebody else starts one, a late request arrives."""
        for key, since in list(self.in_flight.items()):
            if self.now - since >= IN_FLIGHT_AT_MOST or self.choose("wait on", "arrive") == "arrive":
                del self.in_flight[key]
                self.process(key)
        options = ["nothing"]
        if self.running is not None:
            options.append("end well")
            if self.budget.failures and self.running.key is not None:
                options.append("end badly")
        elif self.budget.foreign:
            options.append("foreign")
        match self.choose(*options):
            case "end well":
                self.end(self.running, "completed")  # type: ignore[arg-type]
            case "end badly":
                self.budget.failures -= 1
                self.end(self.running, "failed")  # type: ignore[arg-type]
            case "foreign":
                self.budget.foreign -= 1
                self.begin(None)

    # --- the API

    def process(self, key: str) -> Response:
        """Decide a start; the first decision stays."""
        if key not in self.keys:
            if self.running is not None:
                self.keys[key] = Response(409, {}, b'{"status": 409, "message": "another one runs", "key": "conflict"}')
            else:
                self.keys[key] = Response(200, {}, json.dumps({"data": self.begin(key).json}).encode())
        return self.keys[key]

    def send(self, request: Request) -> Answer:
        self.now += 0.01
        self.meanwhile()
        self.maybe_die()
        if request.method == "GET":
            return self.get(request)
        if request.path.endswith("/cancel"):
            execution = next(item for item in self.executions if f"/{item.id}/" in request.path)
            if execution.status == "running":
                execution.status = "canceling"
            return Response(200)
        assert request.idempotency_key is not None
        return self.start(request.idempotency_key)

    def get(self, request: Request) -> Response:
        if request.path.endswith("/executions"):
            self.listed = len(self.executions)
            data: Any = [item.json for item in reversed(self.executions)]
        else:
            data = next(item.json for item in self.executions if request.path.endswith("/" + item.id))
        return Response(200, {}, json.dumps({"data": data}).encode())

    def start(self, key: str) -> Answer:
        if key in self.in_flight:
            return Response(409, {}, b'{"status": 409, "message": "in flight", "key": "in_flight"}')
        options = ["answered"]
        if self.budget.faults:
            options += ["lost before", "lost after", "late"]
            if key not in self.keys:
                options += ["gateway", "recorded error"]
        if self.budget.kills:
            options += ["die after"]
        what = self.choose(*options)
        if what not in ("answered", "die after"):
            self.budget.faults -= 1
        match what:
            case "lost before":
                return Unreachable("lost")
            case "gateway":
                return Response(502, {"content-type": "text/html"}, b"<html>bad gateway</html>")
            case "late":
                self.in_flight[key] = self.now
                return Unreachable("lost")
            case "recorded error":
                self.recorded_at.append(self.listed)
                self.keys[key] = Response(500, {}, b'{"status": 500, "message": "oops", "key": "internal"}')
        before = len(self.executions)
        answer = self.process(key)
        self.begun_in_this_try += len(self.executions) - before
        # Not even in a try that fails is a second one started.
        assert self.begun_in_this_try <= 1, self.executions
        if what == "lost after":
            return Unreachable("lost")
        if what == "die after":
            self.budget.kills -= 1
            raise Died
        return answer

    def maybe_die(self) -> None:
        if self.budget.kills and self.choose("live", "die") == "die":
            self.budget.kills -= 1
            raise Died


def drive(world: World, order: Order) -> Any:
    plan = one_try(order)
    answer: Any = None
    try:
        while True:
            step = plan.send(answer)
            answer = None
            if isinstance(step, Request):
                answer = world.send(step)
            elif isinstance(step, Sleep):
                world.now += step.seconds
            elif isinstance(step, Now):
                answer = world.now
    except StopIteration as end:
        return end.value


def wait_for_end(world: World, execution_id: str) -> Execution:
    """A wait, deferred or not: the process may die in it; it ends well or badly, or is cancelled."""
    execution = next(item for item in world.executions if item.id == execution_id)
    world.maybe_die()
    if execution.status in ("running", "canceling"):
        options = ["completed"]
        if world.budget.failures and execution.key is not None and execution.status == "running":
            options.append("failed")
        how = world.choose(*options)
        world.budget.failures -= how == "failed"
        world.end(execution, how)
        world.now += 1
    world.maybe_die()
    return execution


def one_task(world: World, policy: str, store: bool) -> str:
    """All tries of one task.

    :returns: how it ended: green, red, skipped, or killed in its last try.
    """
    retries, wishes = world.budget.retries, world.wishes
    number, max_tries, memo = 1, retries, None
    cleared_at = 0  # executions there were at the last clear
    while True:
        first = number if number > max_tries + 1 else max(1, max_tries - retries + 1)
        order = Order(wishes.kind, SYNC, ("t",), number, first, wishes.arguments, if_running=policy, memo=memo)
        world.begun_in_this_try = 0
        try:
            while True:
                decision = drive(world, order)
                if isinstance(decision, Skip):
                    return finish(world, "skipped", None, cleared_at)
                if isinstance(decision, Blocked):
                    wait_for_end(world, decision.execution.id)
                    continue
                assert isinstance(decision, Mine)
                if store and not decision.adopted:
                    memo = Memo(decision.try_number, decision.execution.id)
                    order = replace(order, memo=memo)
                ended = wait_for_end(world, decision.execution.id)
                if ended.status == "canceled" and decision.resumed:
                    continue
                if ended.status == "completed":
                    return finish(world, "adopted" if decision.adopted else "green", ended, cleared_at)
                break
        except Died:
            if number > max_tries:
                return "killed in its last try"
            if world.budget.clears and not world.in_flight and world.choose("retry", "clear") == "clear":
                world.budget.clears -= 1
                max_tries, cleared_at = number + retries, len(world.executions)
        except PolytomicConflictError:
            if policy != "fail":
                world.labels.add("lost five races")
        except PolytomicError:
            pass
        if number > max_tries:
            return finish(world, "red", None, cleared_at)
        number += 1


def finish(world: World, how: str, ended: Execution | None, cleared_at: int) -> str:
    for key in list(world.in_flight):  # whatever was on the way arrives in the end
        del world.in_flight[key]
        world.process(key)
    fooled = any(item.key is None for at in world.recorded_at for item in world.executions[at:])
    if fooled and ended is not None and ended.key is None:
        return FOOLED
    left = [item for item in world.ours if item.status in ("running", "canceling")]
    failed = [item for item in world.ours[:] if item.status == "failed"]
    since = [item for item in world.executions[cleared_at:] if item.key is not None]

    # None of ours is left running behind a task that has ended.
    assert not left, (how, world.executions)
    if how == "green":
        # Green only for our own, begun after the task was last asked for.
        assert ended is not None
        assert ended.key is not None
        assert ended in world.executions[cleared_at:]
        # One success, and one execution more for each that failed: never one twice.
        assert len([item for item in since if item.status == "completed"]) == 1, world.executions
    assert len(since) <= 1 + len([item for item in failed if item in since]), (how, world.executions)
    return how


CONFIGURATIONS = {
    "two kills": Budget(kills=2 + EXTRA),
    "kills and faults": Budget(kills=1 + EXTRA, faults=1),
    "two faults": Budget(faults=2 + EXTRA),
    "a failed execution and a kill": Budget(kills=1, failures=1 + EXTRA),
    "somebody else": Budget(foreign=1 + EXTRA, kills=1, retries=1 + EXTRA),
    "somebody else and faults": Budget(foreign=1, faults=1 + EXTRA, retries=1 + EXTRA),
    "a clear": Budget(kills=1 + EXTRA, clears=1),
    "a clear, and somebody else": Budget(kills=1, clears=1, foreign=1, retries=1 + EXTRA),
}


POLICIES = ("wait", "attach", "fail", "skip", "cancel")
WISHES = {
    "bulk": Wishes(),
    "bulk, resync": Wishes("bulk", {"resync_mode": "rebuild"}),
    "model": Wishes("model"),
    "model, resync": Wishes("model", {"resync": True}),
}


def cases() -> Iterator[Any]:
    for name, budget in CONFIGURATIONS.items():
        # What is kept matters to a try after one that has started something.
        for store in (False, True) if budget.kills or budget.failures else (False,):
            for policy in POLICIES:
                yield name, policy, store, "bulk"
        # What is wanted matters where somebody else's execution may be taken.
        if budget.foreign:
            for policy in ("wait", "attach"):
                for wishes in list(WISHES)[1:]:
                    yield name, policy, False, wishes


@pytest.mark.parametrize(("name", "policy", "store", "wishes"), [*cases()])
def test_no_order_of_events_starts_one_twice_or_loses_one(
    name: str, policy: str, store: bool, wishes: str, record_property: Any
) -> None:
    """Within the budgets no sequence of events breaks an invariant, and every one comes to an end."""

    def scenario(choose: Chooser) -> str:
        return one_task(World(choose, replace(CONFIGURATIONS[name]), WISHES[wishes]), policy, store)

    ends = explore(scenario)

    record_property("sequences", sum(ends.values()))
    print(f"\nexplored {sum(ends.values())} sequences: {dict(ends)}")
    assert ends["green"] > 0
    # Somebody else's execution is taken where it does what is wanted, for all that can be told.
    assert bool(ends["adopted"]) == (policy == "attach" and CONFIGURATIONS[name].foreign > 0 and "," not in wishes)
    assert bool(ends[FOOLED]) == (name == "somebody else and faults" and wishes != "bulk, resync")
