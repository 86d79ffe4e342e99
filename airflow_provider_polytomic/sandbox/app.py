"""The sandbox itself: a request goes in, an answer comes out. No socket, and no clock but the one it is given."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure

from .authentication import authenticate
from .execution import Execution
from .faults import Conditions, Fault, Faults
from .idempotency import RecordedResponses
from .routes import bulk_schedules, bulk_schemas, bulk_syncs, connections, events, logs, model_syncs, organizations
from .seed import BulkSyncSpec, OrganizationSpec, SchemaSpec, Seed, SeedError, load_seed
from .wire import ApiProblem, Call, Router
from .world import World

VERSIONS = ("2021-05-23", "2022-12-12", "2023-04-25", "2024-02-08", "2025-09-18")
ROUTES = Router(
    organizations.route,
    connections.route,
    events.route,
    bulk_syncs.route,
    bulk_schemas.route,
    bulk_schedules.route,
    logs.route,
    model_syncs.route,
)
REQUESTS_KEPT = 100_000
SECRET_HEADERS = ("authorization", "cookie")


@dataclass(frozen=True)
class LoggedRequest:
    """A request that the sandbox has got. ``status`` is None where it gave no answer."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in lower case, without credentials
    body: Any
    status: int | None


class Sandbox:
    """A Polytomic in memory.

    :param seed: a file, a ``dict`` or a :class:`Seed`; None is the default seed.
    :param speed: how many times faster than its seed says an execution goes.
    :param now: the clock, in seconds since the epoch.
    :param sleep: waits out the delays that faults ask for; None really waits.
    :param deliver_to: a SQLite file that gets the rows of all completed bulk executions.
    :raises SeedError: for a seed that cannot be used.
    """

    def __init__(
        self,
        seed: Seed | dict[str, Any] | str | Path | None = None,
        *,
        speed: float = 1.0,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], object] | None = None,
        deliver_to: str | Path | None = None,
    ) -> None:
        loaded = load_seed(seed)
        self.pages_by_position = False  # whether a page token is a position, so that a list moves under a walk
        self._sleep = sleep
        conditions = Conditions()
        path = str(deliver_to) if deliver_to else None
        self._worlds = [
            World(organization, now, speed, path, conditions) for organization in (loaded, *loaded.organizations)
        ]
        for world in self._worlds:
            world.organizations = self._worlds
        self._world = self._worlds[0]
        self._partner_key = loaded.partner_key
        self.faults = Faults(conditions, self._vanish)
        self._responses = RecordedResponses()
        self._log: deque[LoggedRequest] = deque(maxlen=REQUESTS_KEPT)
        self._lock = threading.RLock()

    # what the outside sees

    @property
    def key(self) -> str:
        """The API key of the first organization."""
        return self._world.key

    @property
    def url(self) -> str:
        """Where it can be reached; ``sandbox.invalid`` as long as no server serves it."""
        return self._world.url

    @url.setter
    def url(self, url: str) -> None:
        for world in self._worlds:
            world.url = url

    def handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> SendResult:
        """SendResult one request. :class:`Unreachable` means: close the connection without a word.

        :param target: path and query, percent-encoded.
        """
        parts = urlsplit(target)
        headers = {name.lower(): value for name, value in headers.items()}
        query = parse_qs(parts.query, keep_blank_values=True)
        call = Call(method, parts.path, query, body, pages_by_position=self.pages_by_position)
        with self._lock:
            fault = self.faults.take(method, parts.path)
        answer = self._dated(self._meet(call, headers, fault))
        with self._lock:
            self._log.append(_logged(call, headers, answer))
        return answer

    def send(self, request: Request) -> SendResult:
        """SendResult a request of the client in ``api``, as a transport would: credentials are added here."""
        headers = {"authorization": f"Bearer {self.key}", "x-polytomic-version": VERSIONS[-1]}
        if request.idempotency_key is not None:
            headers["idempotency-key"] = request.idempotency_key
        target = request.path + (f"?{urlencode(request.query)}" if request.query else "")
        answer = self.handle(request.method, target, headers, request.body or b"")
        if isinstance(answer, Response) and int(answer.headers.get("content-length", 0)) > len(answer.body):
            return TransportFailure("the connection broke in the middle of the answer")
        return answer

    # what a test sees and does

    @property
    def requests(self) -> list[LoggedRequest]:
        """What it was asked, oldest first."""
        with self._lock:
            return list(self._log)

    def starts(self, sync_id: str) -> list[Execution]:
        """The executions of a sync that really began, oldest first; those that nobody can see any more too."""
        with self._lock:
            return [item for world in self._worlds for item in world.executions if item.sync_id == sync_id]

    def running(self, sync_id: str) -> Execution | None:
        with self._lock:
            world = self._world_of(sync_id)
            return world.running(world.syncs[sync_id])

    def status(self, execution_id: str) -> str:
        """The status of an execution at this moment."""
        with self._lock:
            return self._find(execution_id).status(self._world.now)

    def start_foreign(self, sync_id: str, **body: Any) -> Execution:
        """Somebody else starts an execution. Not in the log of requests, and no fault meets it."""
        with self._lock:
            world = self._world_of(sync_id)
            kind = world.syncs[sync_id].kind
            path = f"/api/{'bulk/' if kind == 'bulk' else ''}syncs/{sync_id}/executions"
            answer = self._route(world, Call("POST", path, {}, json.dumps(body).encode(), VERSIONS[-1]))
            if answer.status != 200:
                raise ValueError(f"it cannot be started: {answer.body.decode()}")
            return world.executions[-1]

    def run_on_schedule(self, sync_id: str) -> Execution:
        """Polytomic itself starts an execution, because it is time."""
        with self._lock:
            execution = self.start_foreign(sync_id)
            execution.source = "schedule"
            return execution

    def add_bulk_sync(self, name: str, schemas: int | list[SchemaSpec] = 1, **fields: Any) -> str:
        """Add a bulk sync to the first organization, however wide: ``add_bulk_sync("Wide", schemas=10_000)``.

        :param schemas: how many, named ``table_00000`` and so on; or the schemas themselves.
        :param fields: what else a :class:`BulkSyncSpec` has.
        :return: its id.
        :raises SeedError: the fields describe no sync.
        """
        if isinstance(schemas, int):
            schemas = [SchemaSpec(f"table_{number:05}") for number in range(schemas)]
        spec = BulkSyncSpec(name, schemas=schemas, **fields)
        with self._lock:
            world = self._world
            OrganizationSpec(world.name, connections=[*world.connections.values()], bulk_syncs=[spec])  # checks it
            if spec.id in world.syncs:
                raise SeedError(f"{name!r}: id: {spec.id} is used more than once")
            return world.add_bulk_sync(spec).id

    def add_history(self, sync_id: str, executions: int = 30) -> list[Execution]:
        """Add completed executions of all of a sync that has none yet: one an hour, the newest has just ended.

        :return: oldest first. The ``outcome`` of a seed begins with the execution after them.
        :raises ValueError: the sync has executions.
        """
        with self._lock:
            world = self._world_of(sync_id)
            world.add_history(world.syncs[sync_id], executions)
            return list(world.syncs[sync_id].executions)

    def delay_events(self, execution_id: str, seconds: float) -> None:
        """The events of an execution turn up so much later than what they tell of, and keep its time."""
        with self._lock:
            self._find(execution_id).events_late = seconds

    def finish(self, sync_id: str, execution_id: str, status: str = "completed", message: str = "") -> None:
        """End an execution now, with any status.

        :raises ValueError: when it has ended already.
        """
        with self._lock:
            execution = self._find(execution_id)
            now = self._world.now
            if execution.sync_id != sync_id or execution.ended(now):
                raise ValueError(f"{execution_id} is not a running execution of {sync_id}")
            execution.cut(now, status, message)

    def touch(self, sync_id: str, **changes: Any) -> None:
        """Somebody saves a sync, with ``changes`` of its fields: it is the first of its list now."""
        with self._lock:
            sync = self._world.syncs[sync_id]
            sync.doc.update(changes)
            newest = max(other.updated_at for other in self._world.syncs.values())
            sync.updated_at = max(self._world.now, newest + 1e-6)

    def describe(self) -> list[str]:
        """What there is to play with, a line each."""
        with self._lock:
            several = len(self._worlds) > 1
            return [
                f"{sync.kind} sync {sync.id}  {sync.doc['name']}" + (f" ({world.name}, {world.id})" if several else "")
                for world in self._worlds
                for sync in world.syncs.values()
            ]

    def close(self) -> None:
        """Wait out no delay any more."""
        self.faults.clear()

    def rotate_key(self, key: str) -> None:
        """From now on only this key is good for the first organization."""
        with self._lock:
            self._world.key = key

    def _vanish(self, execution_id: str) -> None:
        with self._lock:
            self._find(execution_id).gone = True

    def _world_of(self, sync_id: str) -> World:
        return next((world for world in self._worlds if sync_id in world.syncs), self._world)

    def _find(self, execution_id: str) -> Execution:
        for world in self._worlds:
            for execution in world.executions:
                if execution.id == execution_id:
                    return execution
        raise ValueError(f"there is no execution {execution_id}")

    # how a request is dealt with

    @property
    def date(self) -> str:
        """The time by the sandbox's clock, as the ``Date`` header gives it."""
        return formatdate(self._world.now, usegmt=True)

    def _dated(self, answer: SendResult) -> SendResult:
        if isinstance(answer, TransportFailure) or not self._world.conditions.sends_date:
            return answer
        return replace(answer, headers={"date": self.date, **answer.headers})

    def _wait(self, fault: Fault, seconds: float) -> None:
        if self._sleep is None:
            fault.wait(seconds)
        else:
            self._sleep(seconds)

    def _meet(self, call: Call, headers: Mapping[str, str], fault: Fault | None) -> SendResult:
        if fault is None:
            return self._serve(call, headers, None)
        if not fault.processed and not fault.recorded:  # somebody in front of the API answers, or nobody does
            self._wait(fault, fault.after)
            return fault.instead or TransportFailure("the sandbox dropped the request")
        answer = self._serve(call, headers, fault)
        if fault.meanwhile is not None:
            fault.meanwhile()
        if fault.dropped:
            return TransportFailure("the sandbox dropped the answer")
        return fault.edited(answer) if fault.instead is None or fault.recorded else fault.instead

    def _serve(self, call: Call, headers: Mapping[str, str], fault: Fault | None) -> Response:
        """What the API itself does: whose request, which version, was it asked before, and the work."""
        if call.path.startswith("/logs/"):  # a signed URL needs no key
            return self._route(self._world, call)
        version = headers.get("x-polytomic-version") or VERSIONS[0]
        known = version in VERSIONS
        try:
            if not known:
                raise ApiProblem(400, "bad_request", f"X-Polytomic-Version: there is no version {version!r}")
            world, caller = authenticate(headers.get("authorization", ""), self._worlds, self._partner_key)
            call = replace(call, version=version, caller=caller)
            if caller == "partner" and not organizations.OPEN_TO_PARTNERS.fullmatch(call.path):
                raise ApiProblem(403, "forbidden", "a partner key without an organization's id has no access to this")
            key = headers.get("idempotency-key") if call.method == "POST" else None
            response = self._work(world, call, fault) if key is None else self._once(world, call, key, fault)
        except ApiProblem as error:
            response = error.response
        own = {"x-polytomic-version": version if known else VERSIONS[-1], "x-request-id": uuid.uuid4().hex}
        return replace(response, headers={**response.headers, **own})

    def _once(self, world: World, call: Call, key: str, fault: Fault | None) -> Response:
        """The first request with an Idempotency-Key determines the response to all later ones."""
        with self._lock:
            recorded = self._responses.reserve(world.id, key, world.now)
        if recorded is not None:
            return recorded
        try:
            response = self._work(world, call, fault)
        except BaseException:
            with self._lock:
                self._responses.release(world.id, key)
            raise
        with self._lock:
            self._responses.record(world.id, key, response)
        return response

    def _work(self, world: World, call: Call, fault: Fault | None) -> Response:
        if fault is None:
            return self._route(world, call)
        # Delays are waited out without the lock: others are served meanwhile.
        self._wait(fault, fault.before)
        response = self._route(world, call) if fault.processed else None
        self._wait(fault, fault.after)
        if response is None or fault.recorded:
            assert fault.instead is not None  # noqa: S101 - only an answer can be recorded
            return fault.instead
        return response

    def _route(self, world: World, call: Call) -> Response:
        with self._lock:
            for each in self._worlds:
                each.settle()
            try:
                return ROUTES.dispatch(world, call)
            except ApiProblem as error:
                return error.response


def _logged(call: Call, headers: Mapping[str, str], answer: SendResult) -> LoggedRequest:
    try:
        body = json.loads(call.body) if call.body else None
    except ValueError:
        body = call.body.decode("utf-8", "replace")
    shown = {name: value for name, value in headers.items() if name not in SECRET_HEADERS}
    return LoggedRequest(
        call.method, call.path, call.query, shown, body, answer.status if isinstance(answer, Response) else None
    )
