"""The start protocol with every sequence of events within small budgets.

A scenario is all tries of one task. Each try drives the real plan against a model of the server (``start_world``),
which defines the events: faults, effects, kills, failures, foreign executions, lags, clears and edits. The explorer
runs the scenario with every sequence of choices, and the test checks the invariants of each.

A scenario ends *green* (the task succeeded with its own execution), *adopted* (with one it attached to), *red* (it
failed), *skipped*, killed in its last try, or at a limit of the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicConflictError, PolytomicError
from airflow_provider_polytomic.api.executions.repair import Repair
from airflow_provider_polytomic.api.executions.start import start_or_resume
from airflow_provider_polytomic.api.executions.start_decision import Blocked, ResolvedExecution, Skipped
from airflow_provider_polytomic.api.executions.start_request import (
    MAX_ATTEMPTS,
    StartRequest,
    StoredStart,
    first_try_since_clear,
)
from airflow_provider_polytomic.api.plan import Now, Request, Sleep

from .explorer import EXTRA, Chooser, Died, explore_steps
from .start_world import SCHEMAS, SYNC, Budget, Execution, Start, World

# Limits of the protocol (docs/promises.md).
DIED_BEHIND_ERROR = "limit: the process died after a recorded error that began an execution"
BESIDE_ERROR = "limit: took an equal execution that began during a failed request"
FAILED = "the try failed"


def drive(world: World, request: StartRequest) -> Any:
    plan = start_or_resume(request)
    outcome: Any = None
    try:
        while True:
            step = plan.send(outcome)
            outcome = None
            if isinstance(step, Request):
                outcome = world.send(step)
            elif isinstance(step, Sleep):
                world.now += step.seconds
            elif isinstance(step, Now):
                outcome = world.now
    except StopIteration as end:
        return end.value


def wait_for_end(world: World, execution_id: str) -> Execution:
    """Wait, deferred or not: the process may die, and the execution completes, fails or is canceled."""
    execution = next(item for item in world.executions if item.id == execution_id)
    world.maybe_die()
    if execution.status in ("running", "canceling"):
        how = world.choose("completed", *world.bad_ends(execution))
        if how == "completed":
            world.end(execution, how)
        else:
            world.end_badly(execution, how)
        world.now += 1
    world.maybe_die()
    return execution


@dataclass
class Task:
    """All tries of one task.

    :ivar store: whether Airflow has a task state store.
    :ivar retries: as in the DAG file, which a user may edit.
    :ivar request: the start request of the current try; None before it begins.
    """

    world: World
    policy: str
    store: bool
    retries: int
    max_tries: int
    counts_clears: bool
    number: int = 1
    stored: StoredStart | None = None
    ever_cleared: bool = False
    request: StartRequest | None = None

    @classmethod
    def of(cls, world: World, policy: str, store: bool) -> Task:
        retries = world.budget.retries
        return cls(world, policy, store, retries, retries, counts_clears=world.budget.edits > 0)  # as Airflow 3.2 does

    def copy(self) -> Task:
        return replace(self, world=self.world.copy())

    def advance(self, choose: Chooser) -> str | None:
        """Run one pass of the protocol, and wait for the execution that it decided for.

        :returns: how the scenario ended, if it has.
        """
        self.world.choose = choose
        if self.request is None:
            self.request = self.begin_try()
        try:
            end = self.run_pass(self.request)
            if end != FAILED:
                return end
        except Died:
            known = {self.stored.execution_id} if self.stored else set()
            if self.world.behind_errors - known:
                return DIED_BEHIND_ERROR
            if self.number > self.max_tries:
                return "killed in its last try"
            if self.world.budget.clears and not self.world.in_flight and choose("retry", "clear") == "clear":
                self.clear()
        except PolytomicConflictError:
            assert self.policy == "fail", "each attempt met a conflict"
        except PolytomicError:
            pass
        if self.number > self.max_tries:
            return finish(self.world, "red", None)
        if self.world.budget.edits and (edited := choose("unchanged", "0", "1", "5")) != "unchanged":
            self.world.budget.edits -= 1
            self.retries = int(edited)
        self.number += 1
        self.request = None
        return None

    def begin_try(self) -> StartRequest:
        world, start = self.world, self.world.start
        uncleared = self.counts_clears and not self.ever_cleared
        first = first_try_since_clear(
            self.number, self.max_tries, self.retries, stored=self.stored, uncleared=uncleared
        )
        repair = Repair() if world.schemas else None
        request = StartRequest(
            start.kind,
            SYNC,
            ("t",),
            self.number,
            first,
            start.arguments,
            self.policy,
            stored=self.stored,
            repair=repair,
        )
        world.started_in_this_try = 0
        world.keys_of_try = {request.key(self.number, attempt) for attempt in range(MAX_ATTEMPTS)}
        return request

    def run_pass(self, request: StartRequest) -> str | None:
        """Run one pass.

        :returns: how the scenario ended, :data:`FAILED` if the try failed, or None if it needs another pass.
        """
        world = self.world
        decision = drive(world, request)
        if isinstance(decision, Skipped):
            return finish(world, "skipped", None)
        if isinstance(decision, Blocked):
            wait_for_end(world, decision.execution.id)
            self.request = replace(request, attempts=decision.attempts)
            return None
        assert isinstance(decision, ResolvedExecution)
        if self.store and decision.origin != "attached":
            self.stored = stored_start(request, decision, self.max_tries)
            self.request = replace(request, stored=self.stored)
        ended = wait_for_end(world, decision.execution.id)
        if ended.status == "canceled" and decision.origin == "resumed":
            return None
        merged = decision.repair.merge(request.kind.execution_class(**ended.json))
        if merged.succeeded:
            return finish(world, "adopted" if decision.origin == "attached" else "green", ended)
        return FAILED

    def clear(self) -> None:
        self.world.budget.clears -= 1
        self.ever_cleared = True
        self.max_tries, self.world.cleared_at = self.number + self.retries, len(self.world.executions)
        self.world.bodies.clear()


def stored_start(request: StartRequest, acquired: ResolvedExecution, max_tries: int) -> StoredStart:
    return StoredStart(
        acquired.try_number,
        acquired.execution.id,
        SYNC,
        request.key(0, 0),
        first_try=request.first_try,
        max_tries=max_tries,
        earlier_ids=acquired.repair.execution_ids,
    )


def finish(world: World, how: str, ended: Execution | None) -> str:
    for key in list(world.in_flight):  # delayed starts arrive in the end
        del world.in_flight[key]
        world.process(key)
    if how == "green" and ended is not None and ended.id in world.beside_errors:
        return BESIDE_ERROR
    left = [item for item in world.own_executions if item.status in ("running", "canceling")]
    failed = [item for item in world.own_executions if item.status in ("failed", "errors", "canceled")]
    since = [item for item in world.executions[world.cleared_at :] if item.key is not None]

    # A task that has ended leaves none of its executions running.
    assert not left, (how, world.executions)
    if how == "green":
        # A task succeeds only with its own execution, started after the last clear.
        assert ended is not None
        assert ended.key is not None
        assert ended in world.executions[world.cleared_at :]
        # Together with the executions before it, it completed each schema.
        assert set(world.schemas) <= world.completed_schemas()
        # There is one success, and one further execution for each failed one.
        assert len([item for item in since if item.status == "completed"]) == 1, world.executions
    assert len(since) <= 1 + len([item for item in failed if item in since]), (how, world.executions)
    return how


CONFIGURATIONS = {
    "two kills": Budget(kills=2 + EXTRA),
    "kills and faults": Budget(kills=1 + EXTRA, faults=1),
    "two faults": Budget(faults=2 + EXTRA),
    "a failed execution and a kill": Budget(kills=1, failures=1 + EXTRA),
    "foreign executions": Budget(foreign=1 + EXTRA, kills=1, retries=1 + EXTRA),
    "foreign executions and faults": Budget(foreign=1, faults=1 + EXTRA, retries=1 + EXTRA),
    "a clear": Budget(kills=1 + EXTRA, clears=1),
    "a clear and foreign executions": Budget(kills=1, clears=1, foreign=1, retries=1 + EXTRA),
    "an effect": Budget(effects=1, foreign=1, failures=EXTRA, retries=EXTRA),
    "an effect and lags": Budget(effects=1, lags=1 + EXTRA, foreign=EXTRA, retries=1),
    "an effect and a kill": Budget(effects=1, kills=1 + EXTRA, retries=1),
    "lags and foreign executions": Budget(lags=2 + EXTRA, foreign=1 + EXTRA, retries=1),
    "lags and a kill": Budget(lags=1 + EXTRA, kills=1, foreign=EXTRA, retries=1),
    "edited retries": Budget(kills=2, edits=1 + EXTRA),
    "edited retries and a failed execution": Budget(kills=1, edits=1 + EXTRA, failures=1),
}


POLICIES = ("wait", "attach", "fail", "skip", "cancel")
STARTS = {
    "bulk": Start(),
    "bulk, resync": Start("bulk", {"resync_mode": "rebuild"}),
    "model": Start("model"),
    "model, resync": Start("model", {"resync": True}),
}


def cases() -> Iterator[Any]:
    for name, budget in CONFIGURATIONS.items():
        # The stored start matters to a try after one that started an execution.
        for store in (False, True) if budget.kills or budget.failures else (False,):
            for policy in POLICIES:
                yield name, policy, store, "bulk"
        # The arguments matter where a foreign execution may be taken.
        if budget.foreign:
            for policy in ("wait", "attach"):
                for start in list(STARTS)[1:]:
                    yield name, policy, False, start


@pytest.mark.parametrize(("name", "policy", "store", "start"), [*cases()])
def test_start_protocol_starts_one_execution_and_loses_none_in_any_order_of_events(
    name: str, policy: str, store: bool, start: str, record_property: Any
) -> None:
    """Within the budgets, no sequence of events violates an invariant, and every sequence ends."""

    world = World(Chooser([]), replace(CONFIGURATIONS[name]), STARTS[start])

    ends = explore_steps(Task.of(world, policy, store))

    record_property("sequences", sum(ends.values()))
    print(f"\nexplored {sum(ends.values())} sequences: {dict(ends)}")
    assert ends["green"] > 0
    # A foreign execution is taken only by `attach`, and only if it covers the request.
    assert bool(ends["adopted"]) == (policy == "attach" and CONFIGURATIONS[name].foreign > 0 and "," not in start)
    assert bool(ends[DIED_BEHIND_ERROR]) == (CONFIGURATIONS[name].effects > 0 and CONFIGURATIONS[name].kills > 0)
    assert bool(ends[BESIDE_ERROR]) == (name == "foreign executions and faults" and start != "bulk, resync")


REPAIRS = {
    "three partial failures": Budget(partials=3 + EXTRA, retries=3),
    "partial failures and a kill": Budget(partials=2, kills=1 + EXTRA),
    "partial failures and a fault": Budget(partials=1 + EXTRA, faults=1, retries=1 + EXTRA),
    "partial and whole failures": Budget(partials=2 + EXTRA, failures=1, retries=3),
    "partial failures and a canceled execution": Budget(partials=2 + EXTRA, cancels=1, retries=3),
    "a partial failure, a kill and a clear": Budget(partials=1, kills=1 + EXTRA, clears=1, retries=1 + EXTRA),
    "a partial failure and a foreign execution": Budget(partials=1 + EXTRA, foreign=1, retries=1 + EXTRA),
    "a partial failure and an effect": Budget(partials=1, effects=1, retries=1 + EXTRA),
    "a schema that vanishes": Budget(partials=2, vanishes=1, retries=3),
    "a schema that vanishes, and a kill": Budget(partials=1, vanishes=1, kills=1, retries=1 + EXTRA),
}


@pytest.mark.parametrize("policy", ["wait", "attach", "cancel"])
@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("name", REPAIRS)
def test_repairing_retry_syncs_only_what_is_left_in_any_order_of_events(
    name: str, policy: str, store: bool, record_property: Any
) -> None:
    """The invariants hold too when a retry syncs only what is left, and no key is sent with two bodies.

    No schema that completed since the clear is synced again, and a success includes all schemas.
    """

    world = World(Chooser([]), replace(REPAIRS[name]), Start(), schemas=SCHEMAS)

    ends = explore_steps(Task.of(world, policy, store))

    record_property("sequences", sum(ends.values()))
    print(f"\nexplored {sum(ends.values())} sequences: {dict(ends)}")
    assert ends["green"] > 0
