"""Servers on the loopback interface that send exactly the bytes that a test defines."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Received:
    """A request that a server received."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass
class Reply:
    """A scripted reply: wait for a condition, send bytes, then keep or end the connection."""

    data: bytes = b""
    then: str = "keep"  # "keep", "close", "reset" or "hold" (until the server is closed)
    ready: Callable[[Server], bool] | None = None  # condition to wait for before the first byte


Script = Reply | Callable[["Server", socket.socket, Received], None]


def http(status: int = 200, body: bytes = b"{}", *headers: str, length: int | None = None, then: str = "keep") -> Reply:
    """Return a complete HTTP response, or one that announces another `length`."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body) if length is None else length}", *headers]
    return Reply("\r\n".join([*lines, "", ""]).encode("latin-1") + body, then=then)


@dataclass
class Server:
    """Replies to each request with the next entry of `script`; the last entry repeats."""

    script: list[Script] = field(default_factory=lambda: [http()])
    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self.script = list(self.script)
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self.open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if self.tls else 'http'}://{self.host}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: Any) -> None:
        self.ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self.open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self.open.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        plain = connection
        with suppress(OSError):
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            while (received := read_request(connection)) is not None:
                with self._lock:
                    self.requests.append(received)
                    script = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                if callable(script):
                    script(self, connection, received)
                    break
                while script.ready and not script.ready(self) and not self.ended.wait(0.005):
                    pass
                connection.sendall(script.data)
                if script.then == "hold":
                    self.ended.wait()
                if script.then == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if script.then != "keep":
                    break
        connection.close()
        with self._lock:
            self.open.discard(plain)


def read_request(connection: socket.socket) -> Received | None:
    """Read the next request of a connection; None at its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return None
        data += chunk
        if data.startswith(b"\x16\x03"):
            return Received("TLS", "", {}, data)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, target, _ = first.split(" ", 2)
    return Received(method, target, headers, body)


def tunnel(_server: Server, client: socket.socket, received: Received) -> None:
    """Act as a proxy: connect to the target of the request and forward all bytes in both directions."""
    if received.method == "CONNECT":
        host, _, port = received.target.rpartition(":")
        upstream = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
    else:
        netloc, _, path = received.target.removeprefix("http://").partition("/")
        host, _, port = netloc.rpartition(":")
        upstream = socket.create_connection((host, int(port)))
        lines = [f"{received.method} /{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in received.headers.items() if not name.startswith("proxy-")]
        upstream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + received.body)
    response_pump = threading.Thread(target=_pump, args=(upstream, client), daemon=True)
    response_pump.start()
    _pump(client, upstream)
    response_pump.join(5)
    upstream.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def closed_address() -> Iterator[str]:
    """Yield a loopback address on which no server listens; the port is bound to keep it unused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait until a condition is true that another thread fulfills."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.005)


@dataclass
class Authority:
    """A certificate authority, and a server certificate that it signed."""

    bundle: Path  # its certificate, PEM
    context: ssl.SSLContext  # for servers


def authority(folder: Path, name: str = "127.0.0.1") -> Authority:
    """Create a certificate authority, and a server certificate for `name`."""
    signer, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _certificate("Test authority", signer.public_key(), signer, x509.DNSName("ca.invalid"), True)
    try:
        alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    certificate = _certificate(name, key.public_key(), signer, alternative, False)
    bundle, chain = folder / "ca.pem", folder / "server.pem"
    bundle.write_bytes(ca)
    plain = serialization.NoEncryption()
    chain.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain) + certificate
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return Authority(bundle, context)


def _certificate(name: str, key: Any, signer: Any, alternative: x509.GeneralName, is_authority: bool) -> bytes:
    """Return a signed certificate with the extensions that Python 3.13 and newer require."""
    now = dt.datetime.now(dt.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("Test authority"))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
