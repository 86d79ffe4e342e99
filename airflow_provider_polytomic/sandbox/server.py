"""An HTTP/1.1 server for the sandbox on the loopback interface."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from airflow_provider_polytomic.api.plan import TransportFailure

from .app import Sandbox

HOST = "127.0.0.1"  # fixed, because the sandbox protects nothing


class Server:
    """Serves ``sandbox`` from its own threads, until :meth:`close`.

    :param port: 0 picks a free one.
    :raises OSError: when the port is in use.
    """

    def __init__(self, sandbox: Sandbox, port: int = 0) -> None:
        self._sandbox = sandbox
        self._http = _HttpServer(sandbox, port)
        self.url = sandbox.url = f"http://{HOST}:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="polytomic-sandbox")
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Stop serving, close all connections and wait for all threads."""
        self._sandbox.close()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._http.close_connections()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        self.sandbox = sandbox
        self._open: dict[socket.socket, threading.Thread] = {}
        self._open_lock = threading.Lock()
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind does a DNS lookup, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._open_lock:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._open_lock:
            self._open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that closed its connection is not an error of the server.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close_connections(self) -> None:
        """Close the connections that clients keep open, and wait for their threads."""
        with self._open_lock:
            still_open = dict(self._open)
        for connection in still_open:
            with suppress(OSError):  # closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)
        for thread in still_open.values():
            thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def respond(self) -> None:
        """Read one complete request and write one complete response."""
        length = self.headers.get("content-length", "0")
        body = self.rfile.read(int(length)) if length.isdigit() else b""
        result = self.server.sandbox.handle(self.command, self.path, dict(self.headers.items()), body)
        if isinstance(result, TransportFailure):
            self.close_connection = True
            return
        try:
            self.wfile.write(self._head(result.status, result.headers, result.body) + result.body)
        except OSError:
            self.close_connection = True  # the client closed the connection

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond  # noqa: N815 - named by the base class

    def _head(self, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
        announced = int(headers.get("content-length", len(body)))
        lines = [f"HTTP/1.1 {status} {responses.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if name != "content-length"]
        if status != 204:
            lines.append(f"content-length: {announced}")
        if announced != len(body):
            self.close_connection = True
            lines.append("connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002 - named by the base class
        """Return the sandbox's time, which the error responses of the base class also contain."""
        return self.server.sandbox.date

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
        """Log nothing: ``sandbox.requests`` has the requests."""
