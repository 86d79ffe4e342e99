"""Creating once: the plan against every order of events within small budgets, and against answers that are odd."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicError, PolytomicLookupError
from airflow_provider_polytomic.api.plan import Now, Request, Response, SendResult, Sleep, TransportFailure
from airflow_provider_polytomic.api.syncs.create import CreateRequest, create_once, resolve_connection_ids

from .explorer import EXTRA, IN_FLIGHT_AT_MOST, Chooser, Died, explore
from .plans import Hand

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
    """The server, the clock, and what may still go wrong.

    :param strict: the server refuses another body with a key that was used, which it does not document.
    """

    choose: Chooser
    strict: bool
    faults: int = 1
    kills: int = 1
    foreign: int = 1
    lags: int = 1
    now: float = 1000.0
    taken: bool = False  # whether this try has seen a sync of the name
    syncs: list[tuple[str, bool]] = field(default_factory=list)  # id, and whether it is ours
    keys: dict[str, tuple[Any, Response]] = field(default_factory=dict)
    in_flight: dict[str, tuple[Any, float]] = field(default_factory=dict)

    @property
    def ours(self) -> list[str]:
        return [sync_id for sync_id, ours in self.syncs if ours]

    @property
    def theirs(self) -> list[str]:
        return [sync_id for sync_id, ours in self.syncs if not ours]

    def create(self, *, ours: bool) -> str:
        self.syncs.append((f"sync-{len(self.syncs)}", ours))
        return self.syncs[-1][0]

    def process(self, key: str, body: Any) -> Response:
        """Decide a creation; the first decision stays."""
        if key not in self.keys:
            if body == BODY:
                decided = data({"id": self.create(ours=True), "name": "New"})
            else:
                decided = problem(422, "validation")
            self.keys[key] = body, decided
        decided_for, decided = self.keys[key]
        return problem(422, "another_body") if self.strict and decided_for != body else decided

    def meanwhile(self) -> None:
        for key, (body, since) in list(self.in_flight.items()):
            if self.now - since >= IN_FLIGHT_AT_MOST or self.choose("wait on", "arrive") == "arrive":
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
        if request.path == "/api/bulk/syncs":
            # Nothing but the list shows what others create, so it is all the same when before it they do.
            if self.foreign and self.choose("nothing", "foreign") == "foreign":
                self.foreign -= 1
                self.create(ours=False)
            shown = [sync_id for sync_id, _ in self.syncs]
            if self.lags and self.ours and self.choose("up to date", "lagging") == "lagging":
                self.lags -= 1
                shown = self.theirs
            self.taken = self.taken or bool(shown)
            return data([{"id": sync_id, "name": "New"} for sync_id in shown])
        sync_id = request.path.rsplit("/", 1)[1]
        return data({"id": sync_id, "name": "New"}) if sync_id in self.ours else problem(404, "not_found")

    def post(self, request: Request) -> SendResult:
        key, body = request.idempotency_key, request.json
        assert key is not None
        # Nothing is asked for that would make a second one.
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
        answer = self.process(key, body)
        if what == "die after":
            raise Died
        return TransportFailure("lost") if what == "lost after" else answer


def drive(world: World, creation: CreateRequest) -> str:
    plan = create_once(creation)
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
        return str(end.value.id)


def one_task(world: World, policy: str) -> str:
    """All tries of a task.

    :returns: how it ended.
    """
    returned, how = None, "red"
    for number in range(1, RETRIES + 2):
        world.taken = False
        try:
            returned = drive(world, CreateRequest(BODY, ("t",), number, 1, policy))
            how = "ours" if returned in world.ours else "theirs"
            break
        except PolytomicLookupError:
            how = "taken"
            break
        except (Died, PolytomicError):
            continue
    for key, (body, _) in list(world.in_flight.items()):  # whatever was on the way arrives in the end
        world.process(key, body)

    assert len(world.ours) <= 1, world.syncs
    if how == "ours":
        assert world.ours == [returned]
    elif how == "theirs":
        assert policy == "skip"
        assert [returned] == world.theirs
    if world.ours and not world.strict:
        # What was created is found again, whatever has died since.
        assert how == "ours", (how, world.syncs)
    if how == "taken":
        assert world.theirs or world.strict
    return how


@pytest.mark.parametrize("strict", [False, True], ids=["documented", "strict"])
@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_no_order_of_events_creates_two_or_loses_one(policy: str, strict: bool) -> None:
    """However often the process dies and whatever gets lost, one sync is created at most, and the task returns it."""
    ends = explore(lambda choose: one_task(World(choose, strict, kills=1 + EXTRA), policy))

    assert ends["ours"] > 100
    assert ends["red"] == 0
    assert set(ends) == {"ours", "taken" if policy == "fail" else "theirs"} | ({"taken"} if strict else set())


# --- odd answers


def listing(*names: str) -> Response:
    return data([{"id": f"id-{number}-{name}", "name": name} for number, name in enumerate(names)])


def test_what_an_earlier_try_created_and_somebody_deleted_is_created_anew() -> None:
    """A sync that is gone for a minute does not count; an answer about it is an old one."""
    gone = problem(404, "not_found")
    hand = Hand([listing(), data({"id": "old", "name": "New"}), *[gone] * 13, listing(), gone, data({"id": "new"})])

    assert hand.drive(create_once(CreateRequest(BODY, ("t",), try_number=2))).id == "new"
    assert sum(hand.sleeps) >= 60
    first, second = [request.idempotency_key for request in hand.requests if request.method == "POST"]
    assert first != second


def test_a_key_is_one_of_the_task_the_wish_and_the_try() -> None:
    """Another task, another body and another try ask with another key; the same ask with the same."""
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


def test_a_connection_is_found_by_its_id_or_name() -> None:
    """An id is taken for one although another connection has it as its name; one list serves both ends."""
    known = data(
        [{"id": "a", "name": "b"}, {"id": "b", "name": "c"}, {"id": "d", "name": "e"}, {"id": "f", "name": "e"}]
    )
    hand = Hand([known])

    assert hand.drive(resolve_connection_ids({"source_connection": "b", "destination_connection": "c"})) == {
        "source_connection_id": "b",
        "destination_connection_id": "b",
    }
    assert len(hand.requests) == 1
    assert Hand([]).drive(resolve_connection_ids({})) == {}
    with pytest.raises(PolytomicLookupError, match=r"2 connections are named 'e': use source_connection_id with.*d, f"):
        Hand([known]).drive(resolve_connection_ids({"source_connection": "e"}))
    with pytest.raises(PolytomicLookupError, match="no connection is named 'cc'; the nearest names are 'c'"):
        Hand([known]).drive(resolve_connection_ids({"source_connection": "cc"}))
