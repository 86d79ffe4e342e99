"""Both transports against real servers: the same settings give the same results and failure reasons."""

from __future__ import annotations

import base64
import gzip
import logging
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import certifi
import pytest

from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure
from airflow_provider_polytomic.api.settings import MAX_BODY_SIZE, Settings

from .conftest import Send
from .servers import Authority, Received, Reply, Script, Server, authority, http, nobody, tunnel

KEY = "the/secret+key=="
GET = Request("GET", "/api/me")
START = Request("POST", "/api/bulk/syncs/s/executions", json={}, idempotency_key="a-key-of-a-start")


def settings(url: str, **more: Any) -> Settings:
    return Settings(base_url=url, key=KEY, **{"timeout": 60.0, **more})


# what is sent


@pytest.mark.parametrize(
    ("request_", "login", "sent"),
    [
        (GET, "", {"authorization": f"Bearer {KEY}"}),
        (GET, "org", {"authorization": f"Basic {base64.b64encode(f'org:{KEY}'.encode()).decode()}"}),
        (
            START,
            "",
            {
                "authorization": f"Bearer {KEY}",
                "content-type": "application/json",
                "content-length": "2",
                "idempotency-key": "a-key-of-a-start",
            },
        ),
        (
            Request("POST", "/api/bulk/syncs/s/cancel"),
            "",
            {"authorization": f"Bearer {KEY}", "content-length": "0"},
        ),
    ],
    ids=["bearer", "basic", "start", "no body"],
)
def test_headers(send: Send, request_: Request, login: str, sent: dict[str, str]) -> None:
    """A request has credentials, version, and what its body needs, and nothing that a library thought of."""
    with Server() as server:
        send(settings(server.url, login=login, api_version="2024-02-08"), request_)
        (received,) = server.requests
    ours = {
        "host": server.host,
        "x-polytomic-version": "2024-02-08",
        "accept": "application/json",
        "user-agent": "airflow-provider-polytomic",
    }
    libraries = {"accept-encoding", "connection"}
    assert {name: value for name, value in received.headers.items() if name not in libraries} == ours | sent
    assert received.body == (request_.body or b"")


def test_the_path_of_the_base_url_is_kept(send: Send) -> None:
    """Polytomic behind a path of somebody's host gets its requests there."""
    with Server() as server:
        send(settings(f"{server.url}/deep/down"), GET)
        assert [received.target for received in server.requests] == ["/deep/down/api/me"]


def test_a_connection_is_used_again(send: Send) -> None:
    """Several requests go over one connection."""
    with Server() as server:
        send(settings(server.url), GET, START, GET)
        assert (len(server.requests), server.connections) == (3, 1)


# what comes back


def test_a_response_has_status_headers_and_body(send: Send) -> None:
    """Status, headers (names in lower case) and body are handed over."""
    with Server([http(418, b'{"a": 1}', "X-Request-Id: r-1")]) as server:
        (answer,) = send(settings(server.url), GET)
    assert isinstance(answer, Response)
    assert (answer.status, answer.headers["x-request-id"], answer.body) == (418, "r-1", b'{"a": 1}')


def test_a_compressed_response_is_decoded(send: Send) -> None:
    """It is unpacked."""
    with Server([http(200, gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip")]) as server:
        (answer,) = send(settings(server.url), GET)
    assert answer == Response(200, answer.headers, b'{"a": 1}')  # type: ignore[union-attr]


def test_the_repr_of_a_response_hides_secrets(send: Send) -> None:
    """What messages must not quote is known to the answer, and not part of how it looks."""
    with Server([http(200, b"")]) as server:
        (answer,) = send(settings(server.url, proxy=None), GET)
    assert isinstance(answer, Response)
    assert KEY in answer.secrets
    assert KEY not in repr(answer)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(send: Send, status: int) -> None:
    """The key goes to no other host: the redirect itself is the answer."""
    with Server() as elsewhere, Server([http(status, b"", f"Location: {elsewhere.url}/api/me")]) as server:
        (answer,) = send(settings(server.url), GET)
        assert isinstance(answer, Response)
        assert (answer.status, answer.headers["location"]) == (status, f"{elsewhere.url}/api/me")
        assert elsewhere.connections == 0


def test_cookies_are_not_kept(send: Send) -> None:
    """What a server sets is not sent back to it."""
    with Server([http(200, b"{}", "Set-Cookie: who=you; Path=/")]) as server:
        send(settings(f"http://localhost:{server.port}"), GET, GET)
        assert ["cookie" in received.headers for received in server.requests] == [False, False]


def test_netrc_is_never_read(send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the machine's user do not replace the key."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with Server() as server:
        send(settings(server.url), GET)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


# trouble: one table, in the same words for both


@dataclass
class Trouble:
    """A server that does ``script``, and what both transports make of it."""

    script: Script
    expected: SendResult
    request: Request = GET


def endless(_: Server, connection: socket.socket, __: Received) -> None:
    """An answer that is larger than any of the API's."""
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BODY_SIZE + 1}\r\n\r\n".encode())
    connection.sendall(b" " * (MAX_BODY_SIZE + 1))


def drip(server: Server, connection: socket.socket, _: Received) -> None:
    """An answer that comes byte by byte, and never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not server.ended.wait(0.05):
        connection.sendall(b"1\r\n \r\n")


HALF = b'{"data": [1, 2, '
TROUBLE = {
    "no answer in time": Trouble(
        Reply(then="hold"), TransportFailure("{host} did not respond within {seconds} s"), replace(GET, timeout=0.3)
    ),
    "half an answer in time": Trouble(
        http(200, HALF, length=999, then="hold"),
        TransportFailure("{host} did not respond within {seconds} s", status=200),
        replace(GET, timeout=0.3),
    ),
    "an answer that drips": Trouble(
        drip, TransportFailure("{host} did not respond within {seconds} s", status=200), replace(GET, timeout=0.3)
    ),
    "closed without a response": Trouble(
        Reply(then="close"), TransportFailure("{host} closed the connection without a response")
    ),
    "reset without an answer": Trouble(
        Reply(then="reset"), TransportFailure("{host} closed the connection without a response")
    ),
    "fewer bytes than announced": Trouble(
        http(200, HALF, length=999, then="close"),
        TransportFailure("{host} closed the connection in the middle of the response", status=200),
    ),
    "fewer bytes than announced, of an error": Trouble(
        http(503, HALF, length=999, then="close"),
        TransportFailure("{host} closed the connection in the middle of the response", status=503),
    ),
    "a chunk that never ends": Trouble(
        Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + HALF, then="close"),
        TransportFailure("{host} closed the connection in the middle of the response", status=200),
    ),
    "reset in the middle": Trouble(
        http(200, HALF, length=999, then="reset"),
        TransportFailure("{host} closed the connection in the middle of the response", status=200),
    ),
    "not HTTP": Trouble(
        Reply(b"SSH-2.0-OpenSSH_9.7\r\n\r\n", then="close"), TransportFailure("the response of {host} is not HTTP")
    ),
    "not gzip": Trouble(
        http(200, b"never packed", "Content-Encoding: gzip"),
        TransportFailure("the response body cannot be decoded", status=200),
    ),
    "more than we take": Trouble(
        endless,
        TransportFailure("the response is too large", status=200),
    ),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_transport_failures_have_the_same_reason_in_both_transports(send: Send, name: str) -> None:
    """Whatever a server does instead of answering, both say the same of it."""
    trouble = TROUBLE[name]
    expected = trouble.expected
    assert isinstance(expected, TransportFailure)
    with Server([trouble.script]) as server:
        for slower in (1, 10, 100):  # where time runs out: the first that lets this machine begin to answer
            seconds = slower * (trouble.request.timeout or 60)
            (answer,) = send(settings(server.url), replace(trouble.request, timeout=seconds))
            reason = expected.reason.format(host=server.host, seconds=f"{seconds:g}")
            if answer == replace(expected, reason=reason) or not trouble.request.timeout:
                break
    assert answer == replace(expected, reason=reason)


def test_the_next_request_after_a_failure_succeeds(send: Send) -> None:
    """A broken connection is not used again."""
    with Server([http(200, HALF, length=999, then="close"), Reply(then="reset"), http()]) as server:
        *_, answer = send(settings(server.url), GET, START, GET)
    assert isinstance(answer, Response)


def test_a_server_that_is_down(send: Send) -> None:
    """Refused: and the request was surely not processed."""
    with nobody() as host:
        (answer,) = send(settings(f"http://{host}"), GET)
    assert answer == TransportFailure(f"the connection to {host} was refused", sent=False)


def test_an_unknown_host_name_is_reported(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be resolved: and the request was surely not processed."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    reason = "the host name of polytomic.invalid cannot be resolved"
    assert send(settings("https://polytomic.invalid"), GET) == [TransportFailure(reason, sent=False)]


def test_a_server_that_accepts_no_connection_is_reported(send: Send) -> None:
    """Time runs out before there is a connection: and the request was surely not processed."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(2)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        (answer,) = send(settings(f"http://127.0.0.1:{port}", timeout=0.3), GET)
        for one in waiting:
            one.close()
    assert answer == TransportFailure(f"could not connect to 127.0.0.1:{port} within 0.3 s", sent=False)


@pytest.mark.parametrize("timeout", [None, 86400.0])
def test_a_timeout_of_a_request_only_shortens(send: Send, timeout: float | None) -> None:
    """What the settings say is the most: the request ends, although the server never answers."""
    with Server([Reply(then="hold")]) as server:
        (answer,) = send(settings(server.url, timeout=0.2), replace(GET, timeout=timeout))
    assert answer == TransportFailure(f"{server.host} did not respond within 0.2 s")


# TLS


def test_a_certificate_of_an_authority_that_is_named(send: Send, trusted: Authority) -> None:
    """`ca_bundle` says whom to trust."""
    with Server(tls=trusted.context) as server:
        (answer,) = send(settings(server.url, ca_bundle=str(trusted.bundle)), GET)
    assert isinstance(answer, Response)


def test_a_folder_of_authorities(send: Send, trusted: Authority, tmp_path: Path) -> None:
    """`ca_bundle` may be a folder with hashed names, as OpenSSL has them."""
    import subprocess

    name = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", trusted.bundle], check=True, capture_output=True, text=True
    ).stdout.strip()
    (tmp_path / f"{name}.0").write_bytes(trusted.bundle.read_bytes())
    with Server(tls=trusted.context) as server:
        (answer,) = send(settings(server.url, ca_bundle=str(tmp_path)), GET)
    assert isinstance(answer, Response)


@pytest.mark.parametrize("bundle", [None, certifi.where()])
def test_an_untrusted_certificate_is_reported(send: Send, trusted: Authority, bundle: str | None) -> None:
    """It is refused, in words that say which certificates are trusted, and nothing was sent."""
    with Server(tls=trusted.context) as server:
        (answer,) = send(settings(server.url, ca_bundle=bundle), GET)
        assert server.requests == []
    assert isinstance(answer, TransportFailure)
    assert answer.sent is False
    assert answer.reason.startswith(f"TLS failed: the certificate of {server.host} is not trusted (")
    assert answer.reason.endswith(f"; trusted certificates: {bundle or 'certifi'}")


def test_a_certificate_of_another_host_is_reported(send: Send, tmp_path: Path) -> None:
    """A trusted certificate for another name is refused."""
    other = authority(tmp_path, "somebody.invalid")
    with Server(tls=other.context) as server:
        (answer,) = send(settings(server.url, ca_bundle=str(other.bundle)), GET)
        assert server.requests == []
    assert isinstance(answer, TransportFailure)
    assert re.search(r"is not trusted \(.*match", answer.reason)
    assert answer.sent is False


def test_the_environment_says_nothing_about_tls(
    send: Send, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom to trust is in the settings, where one resolver has put it for both."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(trusted.bundle))
    with Server(tls=trusted.context) as server:
        (answer,) = send(settings(server.url, ca_bundle=certifi.where()), GET)
    assert isinstance(answer, TransportFailure)


def test_certificates_need_not_be_verified(send: Send, trusted: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """`verify=False` takes any certificate; one warning for the whole session says so."""
    with Server(tls=trusted.context) as server:
        answers = send(settings(server.url, verify=False), GET, GET)
    assert [type(answer) for answer in answers] == [Response, Response]
    assert [record.levelno for record in caplog.records if "not verified" in record.message] == [logging.WARNING]


def test_https_where_only_http_is_spoken(send: Send) -> None:
    """The message says that TLS failed."""
    with Server([Reply(b"HTTP/1.1 400 Bad Request\r\n\r\n", then="close")]) as server:
        (answer,) = send(settings(f"https://{server.host}"), GET)
    assert isinstance(answer, TransportFailure)
    assert answer.reason.startswith(f"TLS failed with {server.host}: ")


def test_a_bundle_without_certificates(send: Send, tmp_path: Path) -> None:
    """It is an answer that failed like any other, no exception of a library."""
    bundle = tmp_path / "empty.pem"
    bundle.write_text("no certificates here")
    (answer,) = send(settings("https://127.0.0.1:1", ca_bundle=str(bundle)), GET)
    assert isinstance(answer, TransportFailure)


def test_a_bundle_that_has_changed_is_read_again(send: Send, trusted: Authority, tmp_path: Path) -> None:
    """A renewed bundle under the same name counts from the next session on."""
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    with Server(tls=trusted.context) as server:
        where = settings(server.url, ca_bundle=str(bundle))
        assert isinstance(send(where, GET)[0], TransportFailure)
        bundle.write_bytes(trusted.bundle.read_bytes())
        assert isinstance(send(where, GET)[0], Response)


# proxies


@pytest.fixture
def proxy() -> Iterator[Server]:
    with Server([tunnel]) as proxy:
        yield proxy


def asked(proxy: Server) -> list[tuple[str, str]]:
    return [(received.method, received.target) for received in proxy.requests]


def test_a_proxy_for_http(send: Send, proxy: Server) -> None:
    """The proxy is asked for the whole URL, and passes the request on."""
    with Server() as server:
        (answer,) = send(settings(server.url, proxy=proxy.url), GET)
        assert isinstance(answer, Response)
        assert (asked(proxy), len(server.requests)) == ([("GET", f"{server.url}/api/me")], 1)


def test_a_proxy_for_https(send: Send, proxy: Server, trusted: Authority) -> None:
    """The proxy opens a tunnel, and sees neither path nor key."""
    with Server(tls=trusted.context) as server:
        (answer,) = send(settings(server.url, proxy=proxy.url, ca_bundle=str(trusted.bundle)), GET)
        assert isinstance(answer, Response)
        assert (asked(proxy), len(server.requests)) == ([("CONNECT", server.host)], 1)
    assert "authorization" not in proxy.requests[0].headers


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_receives_its_credentials(send: Send, proxy: Server, trusted: Authority, tls: bool) -> None:
    """User and password of its URL, percent-encoded or not, are sent to the proxy alone."""
    url = proxy.url.replace("://", "://me:p%40ss@")
    with Server(tls=trusted.context if tls else None) as server:
        (answer,) = send(settings(server.url, proxy=url, ca_bundle=str(trusted.bundle)), GET)
        assert isinstance(answer, Response)
        assert "proxy-authorization" not in server.requests[0].headers
    basic = base64.b64encode(b"me:p@ss").decode()
    assert proxy.requests[0].headers["proxy-authorization"] == f"Basic {basic}"


def test_the_environment_says_nothing_about_proxies(send: Send, proxy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which proxy to use is in the settings, where one resolver has put it for both."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        answers = send(settings(server.url), GET) + send(settings(server.url, proxy=proxy.url), GET)
    assert [type(answer) for answer in answers] == [Response, Response]
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_down(send: Send, scheme: str) -> None:
    """It is the proxy that is named, without its password."""
    with nobody() as host:
        (answer,) = send(settings(f"{scheme}://polytomic.invalid", proxy=f"http://me:pass-word@{host}"), GET)
    assert answer == TransportFailure(f"the connection to {host} (the proxy) was refused", sent=False)


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_a_tunnel(send: Send, status: int) -> None:
    """What it said is told; the request was surely not processed."""
    with Server([http(status, b"go away")]) as proxy:
        (answer,) = send(settings("https://polytomic.invalid", proxy=proxy.url), GET)
    assert answer == TransportFailure(f"the proxy {proxy.host} refused the request: {status} Whatever", sent=False)


def test_a_proxy_that_refuses_a_request(send: Send) -> None:
    """Without a tunnel the proxy's answer is an answer."""
    with Server([http(407, b"go away")]) as proxy:
        (answer,) = send(settings("http://polytomic.invalid", proxy=proxy.url), GET)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (407, b"go away")
