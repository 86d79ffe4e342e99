"""A sandbox behind a socket: HTTP/1.1 on the loopback interface."""

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

HOST = "127.0.0.1"  # never another one: it knows no secrets and keeps nobody out


class Server:
    """Serves ``sandbox`` from threads of its own, from now until :meth:`close`.

    :param port: 0 picks a free one.
    :raises OSError: when the port is taken.
    """

    def __init__(self, sandbox: Sandbox, port: int = 0) -> None:
        self._sandbox = sandbox
        self._http = _HttpServer(sandbox, port)
        self.url = sandbox.url = f"http://{HOST}:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="polytomic-sandbox")
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Give back the port; no thread is left."""
        self._sandbox.close()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self._http.hang_up()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        self.sandbox = sandbox
        self._open: dict[socket.socket, threading.Thread] = {}
        self._open_lock = threading.Lock()
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service for its name, which can take seconds.
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
        # A client that went away is its own affair.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """Clients keep their connections open; end them, and wait for who serves them."""
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

    def answer(self) -> None:
        """Read one request whole, and write one answer whole."""
        length = self.headers.get("content-length", "0")
        body = self.rfile.read(int(length)) if length.isdigit() else b""
        answer = self.server.sandbox.handle(self.command, self.path, dict(self.headers.items()), body)
        if isinstance(answer, TransportFailure):
            self.close_connection = True
            return
        try:
            self.wfile.write(self._head(answer.status, answer.headers, answer.body) + answer.body)
        except OSError:
            self.close_connection = True  # the client did not wait for it

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - named by the base class

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
        """The sandbox's time, in the errors that the base class sends too."""
        return self.server.sandbox.date

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
        """Says nothing: what was asked is in ``sandbox.requests``."""
