"""A StatsD server for the tests."""

from __future__ import annotations

import socket
import threading


class Metrics:
    """Receives the packets of Airflow's StatsD client.

    :ivar received: each metric by name, with its values, such as ``1|c``.
    """

    def __init__(self) -> None:
        self.received: dict[str, list[str]] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while packet := self._socket.recv(65536):
            for line in packet.decode().splitlines():
                name, _, value = line.partition(":")
                self.received.setdefault(name, []).append(value)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()
