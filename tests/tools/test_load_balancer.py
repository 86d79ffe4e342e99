"""The load balancer in front of the API servers of an Airflow as in production."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from tools.load_balancer import LOOPBACK, LoadBalancer


class Server(socketserver.ThreadingTCPServer):
    """Answers each line with its name."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        super().__init__((LOOPBACK, 0), _Lines)
        self.name = name
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Lines(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(f"{self.server.name} {line.decode()}".encode())
            if line == b"last\n":
                return


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    servers = [Server("first"), Server("second")]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def balancer(servers: list[Server]) -> Iterator[LoadBalancer]:
    balancer = LoadBalancer(0)
    for server in servers:
        balancer.add(server.server_address[1])
    balancer.start()
    yield balancer
    balancer.stop()


@contextlib.contextmanager
def connect(balancer: LoadBalancer) -> Iterator[TextIO]:
    """Open a connection; in it, each written line gets a response."""
    with (
        socket.create_connection((LOOPBACK, balancer.server_address[1]), timeout=30) as connection,
        connection.makefile("rw") as lines,
    ):
        yield lines


def ask(lines: TextIO, line: str) -> str:
    lines.write(f"{line}\n")
    lines.flush()
    return lines.readline().strip()


def test_load_balancer_forwards_connections_in_turn(balancer: LoadBalancer) -> None:
    """All data of a connection goes to one server."""
    with contextlib.ExitStack() as stack:
        clients, answers = [], []
        for _ in range(3):
            clients.append(stack.enter_context(connect(balancer)))
            answers.append(ask(clients[-1], "a"))
        answers += [ask(client, "b") for client in clients]

    first, second, *_ = answers
    assert {first, second} == {"first a", "second a"}
    assert answers == [first, second, first, *(answer[:-1] + "b" for answer in (first, second, first))]


def test_load_balancer_forwards_no_connection_to_a_removed_server(
    balancer: LoadBalancer, servers: list[Server]
) -> None:
    """Open connections of the server continue."""
    with connect(balancer) as one, connect(balancer) as two:
        before = {ask(one, "a"), ask(two, "a")}
        balancer.remove(servers[0].server_address[1])
        assert {ask(one, "a"), ask(two, "a")} == before
    for _ in range(2):
        with connect(balancer) as lines:
            assert ask(lines, "a") == "second a"


def test_load_balancer_uses_the_server_that_accepts_a_connection(balancer: LoadBalancer, servers: list[Server]) -> None:
    """While the other one restarts."""
    servers[0].stop()

    for _ in range(2):
        with connect(balancer) as lines:
            assert ask(lines, "a") == "second a"


def test_load_balancer_closes_a_connection_when_no_server_accepts_it(
    balancer: LoadBalancer, servers: list[Server]
) -> None:
    """The client sees an outage at once."""
    for server in servers:
        server.stop()

    with connect(balancer) as lines:
        assert lines.readline() == ""


def test_load_balancer_closes_a_connection_that_the_server_closes(balancer: LoadBalancer) -> None:
    """The client then opens another one, which another server can accept."""
    with connect(balancer) as lines:
        assert ask(lines, "last").endswith("last")
        assert lines.readline() == ""
