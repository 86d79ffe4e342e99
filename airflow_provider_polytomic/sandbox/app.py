"""The sandbox: turns requests into responses, and gives tests control over it. It has no socket and no own clock."""

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
from .seed import BulkSyncSpec, OrganizationSpec, SchemaSpec, Seed, load_seed
from .seed_reader import SeedError
from .wire import Call, HttpError, Router
from .world import World

# Of X-Polytomic-Version, oldest first: the default is the oldest.
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
MAX_LOGGED_REQUESTS = 100_000  # the oldest are dropped
SECRET_HEADERS = ("authorization", "cookie")


@dataclass(frozen=True)
class LoggedRequest:
    """A request that the sandbox has received. ``status`` is None when it sent no response."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in lower case, without credentials
    body: Any
    status: int | None


class Sandbox:
    """A Polytomic in memory.

    :param seed: a file, a ``dict`` or a :class:`Seed`; None is the default seed.
    :param speed: how many times faster than in the seed executions run.
    :param now: returns the time, in seconds since the epoch.
    :param sleep: called with the delays of faults, in seconds; by default the sandbox sleeps.
    :param deliver_to: a SQLite file to which the rows of all completed bulk executions are written.
    :raises SeedError: when the seed is invalid.
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
        self.pages_by_position = False  # whether page tokens are positions, which shift when a list changes
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
        self.faults = Faults(conditions, self._hide)
        self._responses = RecordedResponses()
        self._log: deque[LoggedRequest] = deque(maxlen=MAX_LOGGED_REQUESTS)
        self._lock = threading.RLock()

    # requests

    @property
    def key(self) -> str:
        """The API key of the first organization."""
        return self._world.key

    @property
    def url(self) -> str:
        """The address of its server; at ``sandbox.invalid`` before a server serves it."""
        return self._world.url

    @url.setter
    def url(self, url: str) -> None:
        for world in self._worlds:
            world.url = url

    def handle(self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> SendResult:
        """Handle one request, and log it in :attr:`requests`.

        :param target: path and query, percent-encoded.
        :return: a response, or a :class:`TransportFailure` when the connection is to be closed without one.
        """
        parts = urlsplit(target)
        headers = {name.lower(): value for name, value in headers.items()}
        query = parse_qs(parts.query, keep_blank_values=True)
        call = Call(method, parts.path, query, body, pages_by_position=self.pages_by_position)
        with self._lock:
            fault = self.faults.take(method, parts.path)
        result = self._with_date(self._apply_fault(call, headers, fault))
        with self._lock:
            self._log.append(_log_entry(call, headers, result))
        return result

    def send(self, request: Request) -> SendResult:
        """Handle a request of the provider's client, as a transport would, which includes the credentials."""
        headers = {"authorization": f"Bearer {self.key}", "x-polytomic-version": VERSIONS[-1]}
        if request.idempotency_key is not None:
            headers["idempotency-key"] = request.idempotency_key
        target = request.path + (f"?{urlencode(request.query)}" if request.query else "")
        result = self.handle(request.method, target, headers, request.body or b"")
        if isinstance(result, Response) and int(result.headers.get("content-length", 0)) > len(result.body):
            return TransportFailure("The connection was closed in the middle of the response.")
        return result

    # controls for tests

    @property
    def requests(self) -> list[LoggedRequest]:
        """The requests that it has received, oldest first."""
        with self._lock:
            return list(self._log)

    def starts(self, sync_id: str) -> list[Execution]:
        """Return all executions of a sync that were started, oldest first, including deleted and vanished ones."""
        with self._lock:
            return [item for world in self._worlds for item in world.executions if item.sync_id == sync_id]

    def running(self, sync_id: str) -> Execution | None:
        """Return the running execution of a sync, if any."""
        with self._lock:
            world = self._find_world(sync_id)
            return world.running(world.syncs[sync_id])

    def status(self, execution_id: str) -> str:
        """Return the current status of an execution."""
        with self._lock:
            return self._find_execution(execution_id).status(self._world.now)

    def start_foreign(self, sync_id: str, **body: Any) -> Execution:
        """Start an execution as another client would. The request is not logged, and no fault applies to it.

        :param body: fields of the request.
        :raises ValueError: the start was rejected, for instance because an execution is running.
        """
        with self._lock:
            world = self._find_world(sync_id)
            kind = world.syncs[sync_id].kind
            path = f"/api/{'bulk/' if kind == 'bulk' else ''}syncs/{sync_id}/executions"
            result = self._route(world, Call("POST", path, {}, json.dumps(body).encode(), VERSIONS[-1]))
            if result.status != 200:
                raise ValueError(f"sync_id: the start of {sync_id} was rejected: {result.body.decode()}")
            return world.executions[-1]

    def run_on_schedule(self, sync_id: str) -> Execution:
        """Start an execution as Polytomic's scheduler does."""
        with self._lock:
            execution = self.start_foreign(sync_id)
            execution.source = "schedule"
            return execution

    def add_bulk_sync(self, name: str, schemas: int | list[SchemaSpec] = 1, **fields: Any) -> str:
        """Add a bulk sync to the first organization, for instance ``add_bulk_sync("Wide", schemas=10_000)``.

        :param schemas: their number, for schemas named ``table_00000`` and so on, or the schemas.
        :param fields: other fields of :class:`BulkSyncSpec`.
        :return: the id of the sync.
        :raises SeedError: when a field is invalid.
        """
        if isinstance(schemas, int):
            schemas = [SchemaSpec(f"table_{number:05}") for number in range(schemas)]
        spec = BulkSyncSpec(name, schemas=schemas, **fields)
        with self._lock:
            world = self._world
            OrganizationSpec(world.name, connections=[*world.connections.values()], bulk_syncs=[spec])  # validates it
            if spec.id in world.syncs:
                raise SeedError(f"{name!r}: id: {spec.id} is used more than once")
            return world.add_bulk_sync(spec).id

    def add_history(self, sync_id: str, executions: int = 30) -> list[Execution]:
        """Add completed executions to a sync without any: one per hour, of which the newest has just ended.

        :return: the executions, oldest first. They use up none of the outcomes in the seed.
        :raises ValueError: the sync has executions.
        """
        with self._lock:
            world = self._find_world(sync_id)
            world.add_history(world.syncs[sync_id], executions)
            return list(world.syncs[sync_id].executions)

    def delay_events(self, execution_id: str, seconds: float) -> None:
        """List the events of an execution only that many seconds after the time that they contain."""
        with self._lock:
            self._find_execution(execution_id).event_delay = seconds

    def finish(self, sync_id: str, execution_id: str, status: str = "completed", message: str = "") -> None:
        """End a running execution now, with any status.

        :raises ValueError: the execution has ended, or belongs to another sync.
        """
        with self._lock:
            execution = self._find_execution(execution_id)
            now = self._world.now
            if execution.sync_id != sync_id or execution.ended(now):
                raise ValueError(f"execution_id: {execution_id} is not a running execution of sync {sync_id}")
            execution.end_now(now, status, message)

    def touch(self, sync_id: str, **changes: Any) -> None:
        """Update fields of a sync of the first organization, which makes it the first in lists."""
        with self._lock:
            sync = self._world.syncs[sync_id]
            sync.doc.update(changes)
            newest = max(other.updated_at for other in self._world.syncs.values())
            sync.updated_at = max(self._world.now, newest + 1e-6)

    def describe(self) -> list[str]:
        """Return a line of text for each sync."""
        with self._lock:
            has_several = len(self._worlds) > 1
            return [
                f"{sync.kind} sync {sync.id}  {sync.doc['name']}"
                + (f" ({world.name}, {world.id})" if has_several else "")
                for world in self._worlds
                for sync in world.syncs.values()
            ]

    def close(self) -> None:
        """Release all delayed requests."""
        self.faults.clear()

    def rotate_key(self, key: str) -> None:
        """Replace the API key of the first organization."""
        with self._lock:
            self._world.key = key

    def _hide(self, execution_id: str) -> None:
        with self._lock:
            self._find_execution(execution_id).is_hidden = True

    def _find_world(self, sync_id: str) -> World:
        return next((world for world in self._worlds if sync_id in world.syncs), self._world)

    def _find_execution(self, execution_id: str) -> Execution:
        for world in self._worlds:
            for execution in world.executions:
                if execution.id == execution_id:
                    return execution
        raise ValueError(f"execution_id: there is no execution {execution_id}")

    # request handling

    @property
    def date(self) -> str:
        """The sandbox's time in the format of the ``Date`` header."""
        return formatdate(self._world.now, usegmt=True)

    def _with_date(self, result: SendResult) -> SendResult:
        if isinstance(result, TransportFailure) or not self._world.conditions.sends_date:
            return result
        return replace(result, headers={"date": self.date, **result.headers})

    def _wait(self, fault: Fault, seconds: float) -> None:
        if self._sleep is None:
            fault.wait(seconds)
        else:
            self._sleep(seconds)

    def _apply_fault(self, call: Call, headers: Mapping[str, str], fault: Fault | None) -> SendResult:
        if fault is None:
            return self._process(call, headers, None)
        if not fault.processed and not fault.recorded:  # a gateway responds, or nothing does
            self._wait(fault, fault.after)
            return fault.instead or TransportFailure("The sandbox dropped the request.")
        result = self._process(call, headers, fault)
        if fault.meanwhile is not None:
            fault.meanwhile()
        if fault.dropped:
            return TransportFailure("The sandbox dropped the response.")
        return fault.apply_edit(result) if fault.instead is None or fault.recorded else fault.instead

    def _process(self, call: Call, headers: Mapping[str, str], fault: Fault | None) -> Response:
        """Process a request as the API does: version, authentication, idempotency, then the route."""
        if call.path.startswith("/logs/"):  # a signed URL needs no key
            return self._route(self._world, call)
        version = headers.get("x-polytomic-version") or VERSIONS[0]
        is_known = version in VERSIONS
        try:
            if not is_known:
                raise HttpError(400, "bad_request", f"X-Polytomic-Version: there is no version {version!r}")
            world, caller = authenticate(headers.get("authorization", ""), self._worlds, self._partner_key)
            call = replace(call, version=version, caller=caller)
            if caller == "partner" and not organizations.PARTNER_PATHS.fullmatch(call.path):
                raise HttpError(403, "forbidden", "a partner key without an organization's id has no access to this")
            key = headers.get("idempotency-key") if call.method == "POST" else None
            response = (
                self._route_with_delays(world, call, fault)
                if key is None
                else self._route_once(world, call, key, fault)
            )
        except HttpError as error:
            response = error.response
        api_headers = {
            "x-polytomic-version": version if is_known else VERSIONS[-1],
            "x-request-id": uuid.uuid4().hex,
        }
        return replace(response, headers={**response.headers, **api_headers})

    def _route_once(self, world: World, call: Call, key: str, fault: Fault | None) -> Response:
        """The first request with an Idempotency-Key determines the response to all later ones."""
        with self._lock:
            recorded = self._responses.reserve(world.id, key, world.now)
        if recorded is not None:
            return recorded
        try:
            response = self._route_with_delays(world, call, fault)
        except BaseException:
            with self._lock:
                self._responses.release(world.id, key)
            raise
        with self._lock:
            self._responses.record(world.id, key, response)
        return response

    def _route_with_delays(self, world: World, call: Call, fault: Fault | None) -> Response:
        if fault is None:
            return self._route(world, call)
        # Without the lock, so that other requests are processed during a delay.
        self._wait(fault, fault.before)
        response = self._route(world, call) if fault.processed else None
        self._wait(fault, fault.after)
        if response is None or fault.recorded:
            assert fault.instead is not None  # noqa: S101 - only faults with a response are recorded
            return fault.instead
        return response

    def _route(self, world: World, call: Call) -> Response:
        with self._lock:
            for each in self._worlds:
                each.deliver_ended()
            try:
                return ROUTES.dispatch(world, call)
            except HttpError as error:
                return error.response


def _log_entry(call: Call, headers: Mapping[str, str], result: SendResult) -> LoggedRequest:
    try:
        body = json.loads(call.body) if call.body else None
    except ValueError:
        body = call.body.decode("utf-8", "replace")
    shown = {name: value for name, value in headers.items() if name not in SECRET_HEADERS}
    return LoggedRequest(
        call.method, call.path, call.query, shown, body, result.status if isinstance(result, Response) else None
    )
