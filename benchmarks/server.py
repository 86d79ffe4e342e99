"""The server that all kinds of waiters ask: TLS, in a process of its own, with nothing of a network between.

    python -m benchmarks.server '{"waiters": 200, …}'

It prints one line when it listens, serves until its standard input ends, and then prints what it has seen as one
line of JSON. What it answers in Polytomic's place is what the sandbox of this project answers.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import ssl
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_polytomic.sandbox.clock import format_timestamp
from airflow_provider_polytomic.sandbox.execution import Execution, Part

from .pinned import SERVER_CPU, pin
from .work import EXECUTION, SYNC, WARM_UP, execution_id, number_of, sync_id

PAGE = 100  # executions in a page, which is the most that the API gives
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Settings:
    """What a measurement asks of the server.

    :param waiters: how many wait, numbered from 0.
    :param intervals: the number of intervals for which all waiters wait after the first response to each.
    :param interval: seconds between two polls of a waiter.
    :param schemas: of each execution.
    :param summary: whether there is a status of many syncs at once.
    :param ended: whether all work has ended before anybody asks.
    :param listed: how many executions a sync has.
    """

    waiters: int = 1
    intervals: int = 5
    interval: float = 1.0
    schemas: int = 5
    summary: bool = True
    ended: bool = False
    listed: int = 0
    tls: tuple[str, str] | None = None  # files: certificate and key


class World:
    """What is true of each waiter's work at a moment, and what has been asked. It knows no sockets.

    No work ends before every waiter has had a response and has waited for ``intervals`` intervals: until then it is
    the steady state that is measured. The ends are spread over two intervals, so that they meet waiters in any phase.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bodies = Bodies(settings.schemas)
        self.requests = self.polls = 0
        self.at_steady = (0, 0)  # requests and polls until then
        self.in_steady = (0, 0)  # … and while it lasted
        self.steady: float | None = None  # when each waiter had been answered once
        self.first_end: float | None = None
        self.ends: list[float] = []
        self.running = [0.0] * settings.waiters  # time of the last response to each waiter with running work
        self.reported: dict[int, float] = {}  # time of the first response with ended work
        self.gets = self.gets_of_ended = 0  # of single executions
        self._unseen = set(range(settings.waiters))

    def answer(self, method: str, path: str, query: list[tuple[str, str]], now: float) -> tuple[int, bytes]:
        """Status and body."""
        self.requests += 1
        parts = path.strip("/").split("/")
        match parts:
            case ["api", "bulk", "syncs", "status"]:
                if not self.settings.summary:
                    return 404, _json({"key": "not_found", "message": "there is nothing here", "status": 404})
                numbers = [number_of(value) for name, value in query if name == "sync_id"]
                rows = [self.bodies.row(number, self._poll(number, now)) for number in numbers]
                return 200, b'{"data":[' + b",".join(rows) + b"]}"
            case ["api", "bulk", "syncs", _, "executions"] if method == "POST":
                return 200, self.bodies.bulk(0, ended=False)
            case ["api", "bulk", "syncs", _, "executions"]:
                return 200, self.bodies.page(self.settings.listed, dict(query).get("page_token"))
            case ["api", "bulk", "syncs", _, "executions", name]:
                return 200, self.bodies.bulk(*self._get(name[-12:], now))
            case ["api", "syncs", _, "executions", name]:
                return 200, self.bodies.model(*self._get(name[-12:], now))
            # The peers' own servers
            case ["v1", "applications", "token"] if method == "POST":
                return 200, _json({"access_token": "t0ken", "token_type": "Bearer", "expires_in": 86400})
            case ["v1", "jobs"] if method == "POST":
                return 200, self.bodies.airbyte(0, ended=False)
            case ["v1", "jobs", name]:
                return 200, self.bodies.airbyte(*self._get(name, now))
            case ["v1", "connectors", _, "force"] if method == "POST":
                return 200, _json({"code": "Success", "message": "Sync has been successfully triggered."})
            case ["v1", "connectors", name]:
                return 200, self.bodies.fivetran(*self._get(name.removeprefix("connector_"), now))
            case ["api", "v2", "accounts", _, "jobs", _, "run"] if method == "POST":
                return 200, self.bodies.dbt(0, ended=False)
            case ["api", "v2", "accounts", _, "runs", name]:
                return 200, self.bodies.dbt(*self._get(name, now))
        return 404, _json({"message": f"there is nothing at {path}"})

    def _get(self, name: str, now: float) -> tuple[int, bool]:
        number = int(name)
        ended = self._poll(number, now)
        if number != WARM_UP:
            self.gets += 1
            self.gets_of_ended += ended
        return number, ended

    def _poll(self, number: int, now: float) -> bool:
        """Count a poll of a waiter, and return whether its work has ended."""
        if number == WARM_UP:
            return True
        self.polls += 1
        if self.settings.ended:
            return True
        if self._unseen:
            self._unseen.discard(number)
            if not self._unseen:
                self._all_seen(now)
        ended = self.steady is not None and now >= self.ends[number]
        if self.first_end is not None and self.in_steady == (0, 0) and now >= self.first_end:
            self.in_steady = (self.requests - 1 - self.at_steady[0], self.polls - 1 - self.at_steady[1])
        if ended:
            self.reported.setdefault(number, now)
        else:
            self.running[number] = now
        return ended

    def _all_seen(self, now: float) -> None:
        settings = self.settings
        self.steady, self.at_steady = now, (self.requests, self.polls)
        self.first_end = now + settings.intervals * settings.interval
        spread = [2 * settings.interval * number / settings.waiters for number in range(settings.waiters)]
        random.Random(settings.waiters).shuffle(spread)
        self.ends = [self.first_end + after for after in spread]

    def report(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "polls": self.polls,
            "gets": self.gets,
            "gets_of_ended": self.gets_of_ended,
            "steady": self.steady,
            "first_end": self.first_end,
            "polls_before": self.at_steady[1],
            "steady_requests": self.in_steady[0],
            "steady_polls": self.in_steady[1],
            "ends": self.ends,
            "running": self.running,
            "reported": [self.reported.get(number) for number in range(self.settings.waiters)],
        }


class Bodies:
    """Answers, made once and filled with ids: the server must not be what is measured."""

    def __init__(self, schemas: int) -> None:
        self._rows, self._bulk, self._model, self._listed = {}, {}, {}, {}
        for ended in (False, True):
            bulk = _execution("bulk", schemas, ended)
            now = bulk.created_at + 60
            row = {
                "sync_id": SYNC,
                "status": bulk.status(now),
                "nextExecutionTime": format_timestamp(None),
                "schemas": [*bulk.part_summaries(now)],
            }
            self._rows[ended] = _json(row)
            self._bulk[ended] = _json({"data": bulk.row(now)})
            self._model[ended] = _json({"data": _execution("model", 1, ended).row(now)})
            self._listed[ended] = _json(bulk.row(now))

    def row(self, number: int, ended: bool) -> bytes:
        body = self._rows[ended].replace(SYNC.encode(), sync_id(number).encode())
        return body.replace(EXECUTION.encode(), execution_id(number).encode())

    def bulk(self, number: int, ended: bool) -> bytes:
        return self._bulk[ended].replace(EXECUTION.encode(), execution_id(number).encode())

    def model(self, number: int, ended: bool) -> bytes:
        return self._model[ended].replace(EXECUTION.encode(), execution_id(number).encode())

    def page(self, listed: int, token: str | None) -> bytes:
        begin = int(token or 0)
        end = min(begin + PAGE, listed)
        row = self._listed[True]
        rows = [row.replace(EXECUTION.encode(), execution_id(number).encode()) for number in range(begin, end)]
        token = _json({"next_page_token": str(end)} if end < listed else {})
        return b'{"data":[' + b",".join(rows) + b'],"pagination":' + token + b"}"

    def airbyte(self, number: int, ended: bool) -> bytes:
        return _json(
            {
                "jobId": number,
                "status": "succeeded" if ended else "running",
                "jobType": "sync",
                "startTime": "2026-11-01T10:00:00Z",
                "connectionId": sync_id(number),
                "lastUpdatedAt": "2026-11-01T10:01:00Z",
                "duration": "PT1M",
                "bytesSynced": 123456,
                "rowsSynced": 1234,
            }
        )

    def fivetran(self, number: int, ended: bool) -> bytes:
        return _json(
            {
                "code": "Success",
                "message": "Operation performed.",
                "data": {
                    "id": f"connector_{number}",
                    "group_id": "group_of_them",
                    "service": "salesforce",
                    "service_version": 4,
                    "schema": "salesforce",
                    "connected_by": "somebody_there",
                    "created_at": "2026-10-01T10:00:00.000000Z",
                    "succeeded_at": "2099-11-01T10:00:00.000000Z" if ended else "2026-10-01T10:00:00.000000Z",
                    "failed_at": None,
                    "paused": False,
                    "pause_after_trial": False,
                    "sync_frequency": 360,
                    "data_delay_threshold": 0,
                    "data_delay_sensitivity": "NORMAL",
                    "private_link_id": None,
                    "networking_method": "Directly",
                    "proxy_agent_id": None,
                    "schedule_type": "manual",
                    "status": {
                        "setup_state": "connected",
                        "schema_status": "ready",
                        "sync_state": "scheduled" if ended else "syncing",
                        "update_state": "on_schedule",
                        "is_historical_sync": False,
                        "tasks": [],
                        "warnings": [],
                        "rescheduled_for": None,
                    },
                    "setup_tests": [],
                    "config": {"domain": "example.my.salesforce.com", "is_sandbox": False},
                },
            }
        )

    def dbt(self, number: int, ended: bool) -> bytes:
        status = 10 if ended else 3
        return _json(
            {
                "status": {"code": 200, "is_success": True, "user_message": "Success!", "developer_message": ""},
                "data": {
                    "id": number,
                    "trigger_id": number,
                    "account_id": 1,
                    "environment_id": 1,
                    "project_id": 1,
                    "job_definition_id": 1,
                    "status": status,
                    "dbt_version": "1.9.0-latest",
                    "git_branch": "main",
                    "git_sha": "c0ffee" * 6,
                    "status_message": None,
                    "owner_thread_id": None,
                    "executed_by_thread_id": "dbt-run-1-abcdef",
                    "deferring_run_id": None,
                    "artifacts_saved": ended,
                    "artifact_s3_path": "prod/runs/1/artifacts/target",
                    "has_docs_generated": False,
                    "has_sources_generated": False,
                    "notifications_sent": ended,
                    "scribe_enabled": True,
                    "created_at": "2026-11-01 10:00:00.000000+00:00",
                    "updated_at": "2026-11-01 10:01:00.000000+00:00",
                    "dequeued_at": "2026-11-01 10:00:01.000000+00:00",
                    "started_at": "2026-11-01 10:00:02.000000+00:00",
                    "finished_at": "2026-11-01 10:01:00.000000+00:00" if ended else None,
                    "last_checked_at": None,
                    "last_heartbeat_at": None,
                    "should_start_at": "2026-11-01 10:00:00.000000+00:00",
                    "trigger": None,
                    "job": None,
                    "environment": None,
                    "run_steps": [],
                    "status_humanized": "Success" if ended else "Running",
                    "in_progress": not ended,
                    "is_complete": ended,
                    "is_success": ended,
                    "is_error": False,
                    "is_cancelled": False,
                    "href": f"https://localhost/deploy/1/projects/1/runs/{number}",
                    "duration": "00:01:00",
                    "queued_duration": "00:00:01",
                    "run_duration": "00:00:58",
                    "job_id": 1,
                    "is_running": not ended,
                },
            }
        )


def _execution(kind: str, schemas: int, ended: bool) -> Execution:
    parts = [Part(f"schema_{number}", f"analytics.table_{number}", 10_000 + number) for number in range(schemas)]
    takes = 50.0 if ended else 100.0  # and it is polled after 60
    stages = ["created", "scheduled", "running"]
    return Execution(EXECUTION, 1, SYNC, kind, 1_800_000_000.0, takes, 1.0, stages, "completed", parts)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


# --- behind a socket


async def serve(settings: Settings) -> None:
    from aiohttp import web

    world = World(settings)
    before = 0  # connections of the warm-up that are gone

    async def handle(request: web.BaseRequest) -> web.Response:
        nonlocal before
        await request.read()
        if not world.polls:
            before = server.made - len(server.connections)
        query = [(name, value) for name, value in request.rel_url.query.items()]
        status, body = world.answer(request.method, request.rel_url.path, query, time.monotonic())
        return web.Response(status=status, body=body, headers=JSON)

    class Counting(web.Server):
        made = most = 0

        def connection_made(self, handler: Any, transport: Any) -> None:  # after the handshake
            super().connection_made(handler, transport)
            self.made += 1
            self.most = max(self.most, len(self.connections))

    server = Counting(handle, access_log=None, keepalive_timeout=600)
    tls = None
    if settings.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*settings.tls)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(server, "127.0.0.1", 0, ssl=tls, backlog=10_000)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    used = resource.getrusage(resource.RUSAGE_SELF)
    report = world.report() | {
        "connections": server.made - before,
        "most_connections": server.most,
        "left_connections": len(server.connections),
        "server_cpu": used.ru_utime + used.ru_stime,
    }
    print(json.dumps(report), flush=True)


def arguments(settings: Settings) -> Iterable[str]:
    """The command line of a server with these settings, after the Python."""
    return "-m", "benchmarks.server", json.dumps(asdict(settings))


def main() -> None:
    pin(SERVER_CPU)
    try:
        from uvloop import run
    except ImportError:  # it is faster, but the server is not what is measured
        from asyncio import run
    settings = json.loads(sys.argv[1])
    if settings["tls"]:
        settings["tls"] = tuple(settings["tls"])
    run(serve(Settings(**settings)))


if __name__ == "__main__":
    main()
