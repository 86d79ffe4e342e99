# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Console logs and log files of executions."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from airflow_provider_polytomic.api.plan import Response

from ..clock import stamp
from ..execution import Execution, LogLine
from ..wire import ApiProblem, Call, Router
from ..world import World

route = Router()

RETAINED = 50  # lines of a console log
SIGNED_FOR = 900  # seconds
EXPORT_TAKES = 2.0  # seconds at speed 1
EXPORT_WAITS = 0.25  # of them, until it begins


def console(call: Call, lines: list[LogLine]) -> dict[str, Any]:
    """The newest lines; with a cursor, those that came after it. Oldest first."""
    numbered = list(enumerate(lines, 1))[-RETAINED:]
    limit = call.limit(RETAINED)
    after = call.text("after")
    if after is None:
        shown = numbered[-limit:]
    elif after.isdigit():
        shown = [(number, line) for number, line in numbered if number > int(after)][:limit]
    else:
        raise ApiProblem(400, "bad_request", "after: not a cursor of this log")
    entries = [
        {
            "id": str(number),
            "level": line.level,
            "message": line.message,
            "timestamp": stamp(line.at),
            "payload": {**line.payload, **({"schema": line.schema} if line.schema else {})} or None,
        }
        for number, line in shown
    ]
    return {"data": {"entries": entries or None, "next_cursor": entries[-1]["id"] if entries else after}}


def signed(world: World, execution: Execution, name: str) -> tuple[str, str]:
    """When it expires, and a URL that gives a log file to whoever has it."""
    expires = int(world.now) + SIGNED_FOR
    path = f"/logs/{execution.id}/{quote(name, safe='')}"
    return stamp(expires) or "", f"{world.url}{path}?expires={expires}&signature={_signature(path, expires)}"


@route("GET", "/logs/{execution_id}/{name}")
def read(world: World, call: Call, execution_id: str, name: str) -> Response:
    """What is behind a signed URL: the log, a JSON object on each line."""
    expires, signature = call.text("expires") or "", call.text("signature")
    found = [item for each in world.organizations for item in each.executions if item.id == execution_id]
    if (
        not expires.isdigit()
        or int(expires) < world.now
        or signature != _signature(call.path, int(expires))
        or not found
    ):
        raise ApiProblem(403, "forbidden", "the URL has expired or was not signed here")
    lines = [json.dumps({**line._asdict(), "at": stamp(line.at)}) for line in found[0].log(world.now)]
    return Response(200, {"content-type": "application/x-ndjson"}, "".join(f"{line}\n" for line in lines).encode())


@route("GET", "/api/jobs/{job_type}/{job_id}")
def job(world: World, call: Call, job_type: str, job_id: str) -> Any:
    if job_type != "exportlogs":
        raise ApiProblem(400, "bad_request", f"there are no jobs of type {job_type}")
    if job_id not in world.exports:
        raise ApiProblem(404, "not_found", f"there is no job {job_id}")
    return {"data": export_row(world, job_id)}


def export_row(world: World, job_id: str) -> dict[str, Any]:
    began_at, execution = world.exports[job_id]
    done = (world.now - began_at) * world.speed / EXPORT_TAKES
    row: dict[str, Any] = {"job_id": job_id, "type": "exportlogs"}
    if done < 1:
        return row | {"status": "created" if done < EXPORT_WAITS else "running"}
    return row | {"status": "done", "result": {"url": signed(world, execution, "export.json")[1]}}


@route("GET", "/api/connections/{connection_id}/ingest/consolelog")
def ingest_log(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    return console(call, [])  # nothing is ingested between executions here


def _signature(path: str, expires: int) -> str:
    return hashlib.sha256(f"sandbox {path} {expires}".encode()).hexdigest()[:32]
