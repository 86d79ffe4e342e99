"""Creating a bulk sync exactly once.

The explored test runs the plan against a model of the server with every sequence of choices within small budgets. A
choice is what happens to a request (it or its response is lost or delayed, a gateway answers, an error is recorded for
its key), whether the process dies, and whether another client creates a sync with the same name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicError, PolytomicLookupError
from airflow_provider_polytomic.api.plan import Now, Request, Response, SendResult, Sleep, TransportFailure
from airflow_provider_polytomic.api.syncs.create import CreateRequest, create_once, resolve_connection_ids
from airflow_provider_polytomic.api.syncs.update import ensure_sync

from .explorer import EXTRA, MAX_DELAY, Chooser, Died, explore_steps
from .plans import PlanDriver

BODY: dict[str, Any] = {
    "name": "New",
    "mode": "replicate",
    "default_schedule": {"frequency": "manual"},
    "destination_configuration": {"schema": "new"},
    "source_connection_id": "s",
    "destination_connection_id": "d",
}
RETRIES = 3


def problem(status: int, key: str) -> Response:
    return Response(status, {}, json.dumps({"status": status, "message": key, "key": key}).encode())


def data(value: Any) -> Response:
    return Response(200, {}, json.dumps({"data": value}).encode())


@dataclass
class World:
    """A model of the server, with a clock and budgets for what may still happen.

    :ivar strict: whether the server rejects a used key with another body, which its documentation does not say.
    :ivar faults: lost or failed requests.
    :ivar kills: deaths of the task's process.
    :ivar foreign: syncs of the same name that another client creates.
    :ivar lags: lists that do not show the task's sync yet.
    :ivar taken: whether this try has seen a sync of the name.
    :ivar syncs: the id of each sync, and whether the task created it.
    :ivar modes: the mode of each sync. That of foreign ones is not the desired one.
    :ivar keys: the body and the recorded response of each key.
    :ivar in_flight: delayed requests by key: their body, and when they were sent.
    """

    choose: Chooser
    strict: bool
    faults: int = 1
    kills: int = 1
    foreign: int = 1
    lags: int = 1
    now: float = 1000.0
    taken: bool = False
    syncs: list[tuple[str, bool]] = field(default_factory=list)
    modes: dict[str, str] = field(default_factory=dict)
    keys: dict[str, tuple[Any, Response]] = field(default_factory=dict)
    in_flight: dict[str, tuple[Any, float]] = field(default_factory=dict)

    def copy(self) -> World:
        """A world that nothing changes if this one changes."""
        return replace(
            self,
            syncs=list(self.syncs),
            modes=dict(self.modes),
            keys=dict(self.keys),
            in_flight=dict(self.in_flight),
        )

    @property
    def own(self) -> list[str]:
        return [sync_id for sync_id, is_own in self.syncs if is_own]

    @property
    def foreign_syncs(self) -> list[str]:
        return [sync_id for sync_id, is_own in self.syncs if not is_own]

    def create(self, *, is_own: bool) -> str:
        sync_id = f"sync-{len(self.syncs)}"
        self.syncs.append((sync_id, is_own))
        self.modes[sync_id] = BODY["mode"] if is_own else "append"
        return sync_id

    def process(self, key: str, body: Any) -> Response:
        """Process a creation. The first response for a key is recorded."""
        if key not in self.keys:
            if body == BODY:
                decided = data({"id": self.create(is_own=True), "name": "New"})
            else:
                decided = problem(422, "validation")
            self.keys[key] = body, decided
        decided_for, decided = self.keys[key]
        return problem(422, "another_body") if self.strict and decided_for != body else decided

    def meanwhile(self) -> None:
        for key, (body, since) in list(self.in_flight.items()):
            if self.now - since >= MAX_DELAY or self.choose("wait on", "arrive") == "arrive":
                del self.in_flight[key]
                self.process(key, body)

    def send(self, request: Request) -> SendResult:
        self.now += 0.01
        self.meanwhile()
        if self.kills and self.choose("live", "die") == "die":
            self.kills -= 1
            raise Died
        if request.method == "POST":
            return self.post(request)
        if request.method == "PUT":
            return self.put(request)
        if request.path == "/api/bulk/syncs":
            # Only the list shows what other clients create, so it is sufficient that they do so before a list.
            if self.foreign and self.choose("nothing", "foreign") == "foreign":
                self.foreign -= 1
                self.create(is_own=False)
            shown = [sync_id for sync_id, _ in self.syncs]
            if self.lags and self.own and self.choose("up to date", "lagging") == "lagging":
                self.lags -= 1
                shown = self.foreign_syncs
            self.taken = self.taken or bool(shown)
            return data([{"id": sync_id, "name": "New"} for sync_id in shown])
        sync_id = request.path.rsplit("/", 1)[1]
        return data(self.document(sync_id)) if sync_id in self.modes else problem(404, "not_found")

    def document(self, sync_id: str) -> dict[str, Any]:
        return {**BODY, "id": sync_id, "mode": self.modes[sync_id]}

    def put(self, request: Request) -> SendResult:
        sync_id, body = request.path.rsplit("/", 1)[1], request.json
        assert isinstance(body, dict)
        assert body == BODY  # complete: the server would reset what is left out
        options = ["answered", *(["lost before", "lost after", "gateway"] if self.faults else [])]
        options += ["die after"] if self.kills else []
        what = self.choose(*options)
        self.faults -= what in ("lost before", "lost after", "gateway")
        self.kills -= what == "die after"
        if what in ("lost before", "gateway"):
            return TransportFailure("lost") if what == "lost before" else Response(502, {}, b"<html></html>")
        self.modes[sync_id] = body["mode"]
        if what == "die after":
            raise Died
        return TransportFailure("lost") if what == "lost after" else data(self.document(sync_id))

    def post(self, request: Request) -> SendResult:
        key, body = request.idempotency_key, request.json
        assert key is not None
        # No request may create a second sync.
        assert not (self.taken and body == BODY)
        if key in self.in_flight:
            return problem(409, "in_flight")
        options = ["answered"]
        if self.faults:
            options += ["lost before", "lost after", "late", "gateway"]
            options += ["recorded error"] * (key not in self.keys)
        if self.kills:
            options += ["die after", "die, late"]
        what = self.choose(*options)
        self.faults -= what not in ("answered", "die after", "die, late")
        self.kills -= what in ("die after", "die, late")
        match what:
            case "lost before":
                return TransportFailure("lost")
            case "gateway":
                return Response(502, {"content-type": "text/html"}, b"<html>bad gateway</html>")
            case "late" | "die, late":
                self.in_flight[key] = body, self.now
                if what == "late":
                    return TransportFailure("lost")
                raise Died
            case "recorded error":
                self.keys[key] = body, problem(500, "internal")
        result = self.process(key, body)
        if what == "die after":
            raise Died
        return TransportFailure("lost") if what == "lost after" else result


def drive(world: World, creation: CreateRequest) -> str:
    plan = ensure_sync(creation) if creation.if_exists == "update" else create_once(creation)
    result: Any = None
    try:
        while True:
            step = plan.send(result)
            result = None
            if isinstance(step, Request):
                result = world.send(step)
            elif isinstance(step, Sleep):
                world.now += step.seconds
            elif isinstance(step, Now):
                result = world.now
    except StopIteration as end:
        return str(getattr(end.value, "id", end.value))


@dataclass
class Task:
    """All tries of a task, each of which is a step."""

    world: World
    policy: str
    number: int = 1

    def copy(self) -> Task:
        return replace(self, world=self.world.copy())

    def advance(self, choose: Chooser) -> str | None:
        world = self.world
        world.choose, world.taken = choose, False
        try:
            returned = drive(world, CreateRequest(BODY, ("t",), self.number, 1, self.policy))
        except PolytomicLookupError:
            return finish(world, self.policy, "taken", None)
        except (Died, PolytomicError):
            self.number += 1
            return None if self.number <= RETRIES + 1 else finish(world, self.policy, "red", None)
        how = "created" if returned in world.own else "updated" if self.policy == "update" else "skipped"
        return finish(world, self.policy, how, returned)


def finish(world: World, policy: str, how: str, returned: str | None) -> str:
    """Check the end of a task.

    :param how: how it ended: created, skipped, updated, taken (the name), or red.
    """
    for key, (body, _) in list(world.in_flight.items()):  # delayed requests arrive in the end
        world.process(key, body)

    assert len(world.own) <= 1, world.syncs
    if how == "created":
        assert world.own == [returned]
    elif how == "skipped":
        assert policy == "skip"
        assert [returned] == world.foreign_syncs
    elif how == "updated":
        assert [returned] == world.foreign_syncs
    if policy == "update" and returned is not None:
        assert world.modes[returned] == BODY["mode"]
    if world.own and not world.strict and policy != "update":
        # A created sync is found by a later try, whatever happens in between.
        assert how == "created", (how, world.syncs)
    if how == "taken":
        assert world.foreign_syncs or world.strict
    return how


@pytest.mark.parametrize("strict", [False, True], ids=["documented", "strict"])
@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_creation_creates_one_sync_and_loses_none_in_any_order_of_events(policy: str, strict: bool) -> None:
    """With any deaths and losses within the budgets, at most one sync is created, and the task returns it."""
    ends = explore_steps(Task(World(Chooser([]), strict, kills=1 + EXTRA), policy))

    assert ends["created"] > 100
    assert ends["red"] == 0
    assert set(ends) == {"created", "taken" if policy == "fail" else "skipped"} | ({"taken"} if strict else set())


@pytest.mark.parametrize("strict", [False, True], ids=["documented", "strict"])
def test_update_ends_in_one_sync_with_the_desired_state_in_any_order_of_events(strict: bool) -> None:
    """With any deaths and losses within the budgets, at most one sync is created, and it has the desired state."""
    ends = explore_steps(Task(World(Chooser([]), strict, kills=1 + EXTRA), "update"))

    assert ends["created"] > 100
    assert ends["updated"] > 100
    assert ends["red"] == 0
    assert set(ends) <= {"created", "updated", "taken"}


# --- scripted responses


def listing(*names: str) -> Response:
    return data([{"id": f"id-{number}-{name}", "name": name} for number, name in enumerate(names)])


def test_creation_repeats_when_the_sync_was_deleted() -> None:
    """A sync that returns 404 for a minute does not exist, although the recorded response contains it."""
    gone = problem(404, "not_found")
    driver = PlanDriver(
        [listing(), data({"id": "old", "name": "New"}), *[gone] * 13, listing(), gone, data({"id": "new"})]
    )

    assert driver.drive(create_once(CreateRequest(BODY, ("t",), try_number=2))).id == "new"
    assert sum(driver.sleeps) >= 60
    first, second = [request.idempotency_key for request in driver.requests if request.method == "POST"]
    assert first != second


def test_creation_key_depends_on_task_body_and_try() -> None:
    """Another task, body or try has another key. Everything else does not change it."""
    creations = [
        CreateRequest(BODY, ("t",)).call(1, BODY),
        CreateRequest(BODY, ("t",)).call(2, BODY),
        CreateRequest(BODY, ("u",)).call(1, BODY),
        CreateRequest({**BODY, "mode": "append"}, ("t",)).call(1, BODY),
        CreateRequest(BODY, ("t",), try_number=5, if_exists="skip").call(1, {}),
    ]
    keys = [call.request.idempotency_key for call in creations]

    assert len(set(keys)) == 4
    assert keys[0] == keys[4]


def test_connection_is_resolved_by_id_or_name() -> None:
    """An id takes precedence over an equal name. One list serves both connections."""
    known = data(
        [{"id": "a", "name": "b"}, {"id": "b", "name": "c"}, {"id": "d", "name": "e"}, {"id": "f", "name": "e"}]
    )
    driver = PlanDriver([known])

    assert driver.drive(resolve_connection_ids({"source_connection": "b", "destination_connection": "c"})) == {
        "source_connection_id": "b",
        "destination_connection_id": "b",
    }
    assert len(driver.requests) == 1
    assert PlanDriver([]).drive(resolve_connection_ids({})) == {}
    with pytest.raises(PolytomicLookupError, match=r"2 connections are named 'e': use source_connection_id with.*d, f"):
        PlanDriver([known]).drive(resolve_connection_ids({"source_connection": "e"}))
    with pytest.raises(PolytomicLookupError, match="no connection is named 'cc'; the nearest names are 'c'"):
        PlanDriver([known]).drive(resolve_connection_ids({"source_connection": "cc"}))
