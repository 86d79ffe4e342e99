"""The gateway of docs/webhooks.md with malformed and malicious requests, without an Airflow."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest

from tests.documents import ROOT, read

SECRET = "the-secret-of-the-webhook"


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The address of the gateway. Its Airflow does not exist."""
    (block,) = [block for block in read(ROOT / "docs" / "webhooks.md").blocks if block.section == "The gateway"]
    namespace: dict[str, Any] = {"__name__": "gateway"}
    exec(compile(block.code, str(block), "exec"), namespace)
    monkeypatch.setenv("POLYTOMIC_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("AIRFLOW_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AIRFLOW_USER", "gateway")
    monkeypatch.setenv("AIRFLOW_PASSWORD", "gateway")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), namespace["Gateway"]) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


def respond(gateway: tuple[str, int], body: bytes, length: str | None = None, signature: str | None = None) -> int:
    """Return the response while the client keeps its connection open."""
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest() if signature is None else signature
    length = str(len(body)) if length is None else length
    head = f"POST / HTTP/1.1\r\nHost: gateway\r\nPolytomic-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(gateway, timeout=10) as caller:
        caller.sendall(head.encode() + body)
        return int(caller.recv(100).split()[1])


@pytest.mark.parametrize("length", ["-1", "-1000000", "", "many", "1e9", "0x10", "9" * 5000])
def test_gateway_reads_no_body_of_an_invalid_length(gateway: tuple[str, int], length: str) -> None:
    """A client without the secret gets a response, and nothing more is read."""
    assert respond(gateway, b"x" * 1000, length, signature="a guess") == 401


@pytest.mark.parametrize(
    "event",
    [
        {"type": "user.created", "event": None},
        {"type": "user.created"},
        {"type": "bulk_sync.completed", "event": {}},
        {"type": "bulk_sync.completed", "event": {"sync_name": "another"}},
        {},
    ],
)
def test_gateway_drops_signed_events_without_an_asset(gateway: tuple[str, int], event: dict[str, Any]) -> None:
    """Polytomic does not have to send them again."""
    assert respond(gateway, json.dumps(event).encode()) == 204


@pytest.mark.parametrize("body", [b"", b"[]", b"no JSON", b'{"event": "text"}', b'{"event": {"sync_name": []}}'])
def test_gateway_rejects_signed_bodies_that_are_no_events(gateway: tuple[str, int], body: bytes) -> None:
    """Any signed body gets an error response."""
    assert respond(gateway, body) == 502


def test_gateway_needs_airflow_for_events_of_an_asset(gateway: tuple[str, int]) -> None:
    """The gateway does not respond to everything in the same way."""
    event = {"type": "bulk_sync.completed", "event": {"sync_name": "Postgres to warehouse"}}
    assert respond(gateway, json.dumps(event).encode()) == 502
