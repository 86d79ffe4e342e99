"""A load balancer for servers on this machine. It forwards each connection to the next server that is ready."""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import socketserver
import threading

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16  # bytes


class LoadBalancer(socketserver.ThreadingTCPServer):
    """Listens on ``port`` after :meth:`start`, and forwards to the ports of servers that were added, in turn."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False  # a connection ends with its client or server
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__((LOOPBACK, port), _Connection)
        self._servers: set[int] = set()
        self._turns = itertools.count()
        self._thread = threading.Thread(target=self.serve_forever, name="load-balancer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()

    def add(self, server: int) -> None:
        """Forward new connections to the port ``server``, too."""
        self._servers.add(server)

    def remove(self, server: int) -> None:
        """Forward no new connections to the port ``server``."""
        self._servers.discard(server)

    def __contains__(self, server: int) -> bool:
        return server in self._servers

    def connect(self) -> socket.socket | None:
        """Connect to a server; return None if none accepts a connection."""
        servers = sorted(self._servers)
        first = next(self._turns)
        for number in range(len(servers)):
            with contextlib.suppress(OSError):
                return socket.create_connection((LOOPBACK, servers[(first + number) % len(servers)]))
        return None


class _Connection(socketserver.BaseRequestHandler):
    """One connection of a client, until the client or the server ends it."""

    server: LoadBalancer

    def handle(self) -> None:
        if not (upstream := self.server.connect()):
            return
        peers = {self.request: upstream, upstream: self.request}
        with upstream, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            for each in peers:
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if not (data := key.fileobj.recv(CHUNK)):  # type: ignore[union-attr]
                        return
                    peers[key.fileobj].sendall(data)
