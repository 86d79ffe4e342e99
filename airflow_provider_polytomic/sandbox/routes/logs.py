# ruff: noqa: ARG001 - every route is given the world and the call, whether it needs them or not
"""Routes of console logs, log files and log exports, and what the routes of syncs share of them."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from airflow_provider_polytomic.api.plan import Response

from ..clock import format_timestamp
from ..execution import Execution, LogLine
from ..wire import Call, HttpError, Router
from ..world import World

route = Router()

MAX_CONSOLE_LINES = 50  # the API keeps only the newest lines
URL_LIFETIME = 900  # seconds for which a signed URL is valid
EXPORT_DURATION = 2.0  # seconds at speed 1
EXPORT_QUEUED_SHARE = 0.25  # of that time, before its status is "running"


def build_console_page(call: Call, lines: list[LogLine]) -> dict[str, Any]:
    """Return the newest lines, or those after the request's cursor, oldest first."""
    numbered = list(enumerate(lines, 1))[-MAX_CONSOLE_LINES:]
    limit = call.limit(MAX_CONSOLE_LINES)
    after = call.text("after")
    if after is None:
        shown = numbered[-limit:]
    elif after.isdigit():
        shown = [(number, line) for number, line in numbered if number > int(after)][:limit]
    else:
        raise HttpError(400, "bad_request", "after: not a cursor of this log")
    entries = [
        {
            "id": str(number),
            "level": line.level,
            "message": line.message,
            "timestamp": format_timestamp(line.at),
            "payload": {**line.payload, **({"schema": line.schema} if line.schema else {})} or None,
        }
        for number, line in shown
    ]
    return {"data": {"entries": entries or None, "next_cursor": entries[-1]["id"] if entries else after}}


def sign_url(world: World, execution: Execution, name: str) -> tuple[str, str]:
    """Return the expiry and the signed URL of a log file. The URL needs no API key."""
    expires = int(world.now) + URL_LIFETIME
    path = f"/logs/{execution.id}/{quote(name, safe='')}"
    return format_timestamp(expires) or "", f"{world.url}{path}?expires={expires}&signature={_signature(path, expires)}"


@route("GET", "/logs/{execution_id}/{name}")
def get_log_file(world: World, call: Call, execution_id: str, name: str) -> Response:
    """Serve a signed URL: the log, one JSON object on each line."""
    expires, signature = call.text("expires") or "", call.text("signature")
    found = [item for each in world.organizations for item in each.executions if item.id == execution_id]
    if (
        not expires.isdigit()
        or int(expires) < world.now
        or signature != _signature(call.path, int(expires))
        or not found
    ):
        raise HttpError(403, "forbidden", "the URL has expired or was not signed here")
    lines = [json.dumps({**line._asdict(), "at": format_timestamp(line.at)}) for line in found[0].log(world.now)]
    return Response(200, {"content-type": "application/x-ndjson"}, "".join(f"{line}\n" for line in lines).encode())


@route("GET", "/api/jobs/{job_type}/{job_id}")
def get_job(world: World, call: Call, job_type: str, job_id: str) -> Any:
    if job_type != "exportlogs":
        raise HttpError(400, "bad_request", f"there are no jobs of type {job_type}")
    if job_id not in world.exports:
        raise HttpError(404, "not_found", f"there is no job {job_id}")
    return {"data": export_row(world, job_id)}


def export_row(world: World, job_id: str) -> dict[str, Any]:
    created_at, execution = world.exports[job_id]
    progress = (world.now - created_at) * world.speed / EXPORT_DURATION
    row: dict[str, Any] = {"job_id": job_id, "type": "exportlogs"}
    if progress < 1:
        return row | {"status": "created" if progress < EXPORT_QUEUED_SHARE else "running"}
    return row | {"status": "done", "result": {"url": sign_url(world, execution, "export.json")[1]}}


@route("GET", "/api/connections/{connection_id}/ingest/consolelog")
def get_ingest_console_log(world: World, call: Call, connection_id: str) -> Any:
    world.find_connection(connection_id)
    return build_console_page(call, [])  # the sandbox ingests nothing between executions


def _signature(path: str, expires: int) -> str:
    return hashlib.sha256(f"sandbox {path} {expires}".encode()).hexdigest()[:32]
