"""A model of the server for the explored tests of the start protocol.

A chooser decides on the events that the budgets still allow:

fault      A start is lost on its way, its response is lost, it arrives late, a gateway answers it, or the server
           records an error for its key.
effect     The server records an error for a start although it has begun an execution.
kill       The task's process dies.
failure    An execution of the task fails.
partial    An execution of the task ends with some or all of its schemas failed.
cancel     Another client cancels an execution of the task.
vanish     The sync loses its last schema. The server rejects a start that names it.
foreign    Another client starts an execution.
lag        Lists do not show a new execution for some time.
clear      A user clears the task after its process died.
edit       A user changes ``retries`` in the DAG file between two tries.

An execution may complete at any time; that has no budget.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from email.utils import formatdate
from typing import Any

from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure

from .explorer import MAX_DELAY, Chooser, Died

MAX_LAG = 50.0  # seconds until an execution is listed; less than REPLICA_LAG
RECORDED_ERROR = Response(500, {}, b'{"status": 500, "message": "oops", "key": "internal"}')
SYNC = "s"
SCHEMAS = ["a", "b", "c"]


@dataclass
class Execution:
    """An execution.

    :ivar key: the idempotency key that started it; None for an execution of another client.
    :ivar at: when it was created, by the server's clock.
    :ivar does: its fields that show what it does; empty for a model sync.
    :ivar unlisted_until: when lists begin to show it.
    :ivar ended_at: when it ended, by the server's clock.
    :ivar schemas: the status of each schema, if the world has schemas.
    """

    id: str
    key: str | None
    at: float
    does: dict[str, Any]
    status: str = "running"
    unlisted_until: float = 0.0
    ended_at: float | None = None
    schemas: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> dict[str, Any]:
        rows = [{"schema": name, "status": status} for name, status in self.schemas.items()]
        return {
            "id": self.id,
            "status": self.status,
            "created_at": _iso(self.at),
            "completed_at": _iso(self.ended_at),
            **self.does,
            **({"schemas": rows} if rows else {}),
        }


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat()


@functools.cache
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


@dataclass
class Budget:
    """How many events of each sort may happen, and the task's ``retries``."""

    faults: int = 0
    kills: int = 0
    failures: int = 0
    foreign: int = 0
    clears: int = 0
    effects: int = 0
    lags: int = 0
    edits: int = 0
    partials: int = 0
    cancels: int = 0
    vanishes: int = 0
    retries: int = 2


@dataclass(frozen=True)
class Start:
    """What the task starts. Other clients start the same sync without arguments."""

    kind: str = "bulk"
    arguments: dict[str, Any] = field(default_factory=dict)

    def does(self, key: str | None) -> dict[str, Any]:
        if self.kind != "bulk":
            return {}
        resyncs = key is not None and bool(self.arguments)
        return {"is_test": False, "is_resync": resyncs, "output_disposition": "rebuild" if resyncs else "retain"}


@dataclass
class World:
    """The server, its clock, and the remaining budgets.

    :ivar keys: the recorded response of each key.
    :ivar in_flight: delayed starts: when they were sent, by key.
    :ivar started_in_this_try: how many executions the current try has started.
    :ivar keys_of_try: the keys of the current try.
    :ivar behind_errors: executions that a start with a recorded error began.
    :ivar beside_errors: executions that other clients began during a start with a recorded error.
    :ivar begun_meanwhile: executions that began during the current request.
    :ivar schemas: the schemas of the sync; none if the task does not repair.
    :ivar bodies: the body with which each key was sent, since the last clear.
    :ivar cleared_at: the number of executions at the last clear.
    :ivar skew: seconds that the server's clock is ahead of the task's.
    """

    choose: Chooser
    budget: Budget
    start: Start
    now: float = 1_790_000_000.0
    executions: list[Execution] = field(default_factory=list)
    keys: dict[str, Response] = field(default_factory=dict)
    in_flight: dict[str, float] = field(default_factory=dict)
    started_in_this_try: int = 0
    keys_of_try: set[str] = field(default_factory=set)
    behind_errors: set[str] = field(default_factory=set)
    beside_errors: set[str] = field(default_factory=set)
    begun_meanwhile: set[str] = field(default_factory=set)
    skew: float = -7200.25
    schemas: list[str] = field(default_factory=list)
    bodies: dict[str, Any] = field(default_factory=dict)
    cleared_at: int = 0

    def copy(self) -> World:
        """A world that nothing changes if this one changes."""
        return replace(
            self,
            budget=replace(self.budget),
            executions=[replace(item, schemas=dict(item.schemas)) for item in self.executions],
            keys=dict(self.keys),
            in_flight=dict(self.in_flight),
            keys_of_try=set(self.keys_of_try),
            behind_errors=set(self.behind_errors),
            beside_errors=set(self.beside_errors),
            begun_meanwhile=set(self.begun_meanwhile),
            schemas=list(self.schemas),
            bodies=dict(self.bodies),
        )

    @property
    def running(self) -> Execution | None:
        return next((item for item in self.executions if item.status in ("running", "canceling")), None)

    @property
    def own_executions(self) -> list[Execution]:
        return [item for item in self.executions if item.key is not None]

    def begin(self, key: str | None) -> Execution:
        assert self.running is None
        self.now += 0.3  # less than the resolution of a Date header
        execution = Execution(f"e{len(self.executions)}", key, self.now + self.skew, self.start.does(key))
        requested = self.bodies.get(key or "", {}).get("schemas") or self.schemas
        execution.schemas = dict.fromkeys(requested, "running")
        if key and not self.lost_schema:
            # A schema that completed since the last clear is never synced again, as far as a key returns its execution.
            assert not set(requested) & self.completed_schemas(self.behind_errors), (requested, self.executions)
        if self.budget.lags and self.choose("listed", "not listed yet") != "listed":
            self.budget.lags -= 1
            execution.unlisted_until = self.now + MAX_LAG
        self.executions.append(execution)
        return execution

    @property
    def lost_schema(self) -> bool:
        return bool(self.schemas) and len(self.schemas) < len(SCHEMAS)

    def completed_schemas(self, without: Collection[str] = ()) -> set[str]:
        """The schemas that executions of the task completed since the last clear."""
        own = [item for item in self.executions[self.cleared_at :] if item.key is not None and item.id not in without]
        return {name for item in own for name, status in item.schemas.items() if status == "completed"}

    def find(self, execution_id: str) -> Execution:
        return next(item for item in self.executions if item.id == execution_id)

    def end(self, execution: Execution, status: str) -> None:
        execution.status = "canceled" if execution.status == "canceling" else status
        execution.ended_at = self.now + self.skew
        if execution.status == "failed":
            execution.schemas = {}  # it failed before any schema
        execution.schemas = dict.fromkeys(execution.schemas, execution.status)

    def end_partly(self, execution: Execution, completed: int) -> None:
        """End an execution after this number of schemas."""
        self.end(execution, "errors")
        for number, name in enumerate(execution.schemas):
            execution.schemas[name] = "completed" if number < completed else "failed"

    def bad_ends(self, execution: Execution) -> list[str]:
        """How an execution may end without success."""
        if execution.key is None or execution.status != "running":
            return []
        ends = ["failed"] if self.budget.failures else []
        ends += ["canceled"] if self.budget.cancels else []
        if self.budget.partials and execution.schemas:
            ends += [f"{number} completed" for number in range(len(execution.schemas))]
        return ends

    def end_badly(self, execution: Execution, how: str) -> None:
        if how == "failed":
            self.budget.failures -= 1
            self.end(execution, how)
        elif how == "canceled":
            self.budget.cancels -= 1
            self.end(execution, how)
        else:
            self.budget.partials -= 1
            self.end_partly(execution, int(how.split()[0]))

    # --- events

    def meanwhile(self) -> None:
        """Events before a request: an execution ends, another client starts one, or a delayed start arrives."""
        for key, since in list(self.in_flight.items()):
            if self.now - since >= MAX_DELAY or self.choose("wait on", "arrive") == "arrive":
                del self.in_flight[key]
                self.process(key)
        options = ["nothing"]
        if self.running is not None:
            options += ["end well", *self.bad_ends(self.running)]
        elif self.budget.foreign:
            options.append("foreign")
        if self.budget.vanishes:
            options.append("vanish")
        match self.choose(*options):
            case "nothing":
                pass
            case "vanish":
                self.budget.vanishes -= 1
                self.schemas = self.schemas[:-1]
            case "end well":
                self.end(self.running, "completed")  # type: ignore[arg-type]
            case "foreign":
                self.budget.foreign -= 1
                self.begin(None)
            case how:
                self.end_badly(self.running, how)  # type: ignore[arg-type]

    # --- the API

    def process(self, key: str) -> Response:
        """Process a start. The first response for a key is recorded."""
        if key not in self.keys:
            if self.schemas and not set(self.bodies[key].get("schemas", ())) <= set(self.schemas):
                self.keys[key] = Response(400, {}, b'{"status": 400, "message": "no such schema", "key": "invalid"}')
            elif self.running is not None:
                self.keys[key] = Response(409, {}, b'{"status": 409, "message": "already running", "key": "conflict"}')
            else:
                self.keys[key] = Response(200, {}, json.dumps({"data": self.begin(key).json}).encode())
        return self.keys[key]

    def send(self, request: Request) -> SendResult:
        self.now += 0.01
        before = len(self.executions)
        self.meanwhile()
        self.begun_meanwhile = {item.id for item in self.executions[before:]}
        self.maybe_die()
        result = self.respond(request)
        if not isinstance(result, Response):
            return result
        return Response(result.status, {**result.headers, "date": _http_date(int(self.now + self.skew))}, result.body)

    def respond(self, request: Request) -> SendResult:
        if request.method == "GET":
            return self.get(request)
        if request.path.endswith("/cancel"):
            execution = self.find(request.path.split("/")[-2])
            if execution.status == "running":
                execution.status = "canceling"
            return Response(200)
        assert request.idempotency_key is not None
        # A key is always sent with the same body.
        assert self.bodies.setdefault(request.idempotency_key, request.json) == request.json
        return self.post(request.idempotency_key)

    def get(self, request: Request) -> Response:
        if request.path.endswith("/executions"):
            data: Any = [item.json for item in reversed(self.executions) if item.unlisted_until <= self.now]
        else:
            data = self.find(request.path.rpartition("/")[2]).json
        return Response(200, {}, json.dumps({"data": data}).encode())

    def post(self, key: str) -> SendResult:
        if key in self.in_flight:
            return Response(409, {}, b'{"status": 409, "message": "in flight", "key": "in_flight"}')
        options = ["answered"]
        if self.budget.faults:
            options += ["lost before", "lost after", "late"]
            if key not in self.keys:
                options += ["gateway", "recorded error"]
        if self.budget.effects and key in self.keys_of_try - set(self.keys) and self.running is None:
            options += ["recorded error, started"]
        if self.budget.kills:
            options += ["die after"]
        what = self.choose(*options)
        if what == "recorded error, started":
            self.budget.effects -= 1
        elif what not in ("answered", "die after"):
            self.budget.faults -= 1
        match what:
            case "lost before":
                return TransportFailure("lost")
            case "gateway":
                return Response(502, {"content-type": "text/html"}, b"<html>bad gateway</html>")
            case "late":
                self.in_flight[key] = self.now
                return TransportFailure("lost")
            case "recorded error":
                self.keys[key] = RECORDED_ERROR
                self.beside_errors |= self.begun_meanwhile
            case "recorded error, started":
                self.keys[key] = RECORDED_ERROR
                self.behind_errors.add(self.begin(key).id)
                self.started_in_this_try += 1
        before = len(self.executions)
        result = self.process(key)
        self.started_in_this_try += len(self.executions) - before
        # No try starts a second execution, even if it fails.
        assert self.started_in_this_try <= 1, self.executions
        if what == "lost after":
            return TransportFailure("lost")
        if what == "die after":
            self.budget.kills -= 1
            raise Died
        return result

    def maybe_die(self) -> None:
        if self.budget.kills and self.choose("live", "die") == "die":
            self.budget.kills -= 1
            raise Died
