"""Both transports against local servers, proxies and broken connections: equal settings give equal results."""

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
from .servers import Authority, Received, Reply, Script, Server, authority, closed_address, http, tunnel

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
def test_request_has_only_the_documented_headers(
    send: Send, request_: Request, login: str, sent: dict[str, str]
) -> None:
    """Credentials, version, and what the body needs; the libraries add only encoding and connection headers."""
    with Server() as server:
        send(settings(server.url, login=login, api_version="2024-02-08"), request_)
        (received,) = server.requests
    always = {
        "host": server.host,
        "x-polytomic-version": "2024-02-08",
        "accept": "application/json",
        "user-agent": "airflow-provider-polytomic",
    }
    libraries = {"accept-encoding", "connection"}
    assert {name: value for name, value in received.headers.items() if name not in libraries} == always | sent
    assert received.body == (request_.body or b"")


def test_request_path_is_appended_to_the_path_of_the_base_url(send: Send) -> None:
    """Polytomic may be served below a path of a host."""
    with Server() as server:
        send(settings(f"{server.url}/deep/down"), GET)
        assert [received.target for received in server.requests] == ["/deep/down/api/me"]


def test_requests_of_a_session_share_one_connection(send: Send) -> None:
    """The connection is kept open between requests."""
    with Server() as server:
        send(settings(server.url), GET, START, GET)
        assert (len(server.requests), server.connections) == (3, 1)


# what comes back


def test_response_has_status_headers_and_body(send: Send) -> None:
    """Names of headers are in lower case."""
    with Server([http(418, b'{"a": 1}', "X-Request-Id: r-1")]) as server:
        (result,) = send(settings(server.url), GET)
    assert isinstance(result, Response)
    assert (result.status, result.headers["x-request-id"], result.body) == (418, "r-1", b'{"a": 1}')


def test_compressed_response_is_decompressed(send: Send) -> None:
    """The body is the original text."""
    with Server([http(200, gzip.compress(b'{"a": 1}'), "Content-Encoding: gzip")]) as server:
        (result,) = send(settings(server.url), GET)
    assert result == Response(200, result.headers, b'{"a": 1}')  # type: ignore[union-attr]


def test_response_repr_omits_the_secrets_to_conceal(send: Send) -> None:
    """The response carries the secrets that messages must not quote; its repr does not show them."""
    with Server([http(200, b"")]) as server:
        (result,) = send(settings(server.url, proxy=None), GET)
    assert isinstance(result, Response)
    assert KEY in result.secrets
    assert KEY not in repr(result)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_returned_and_not_followed(send: Send, status: int) -> None:
    """The key is not sent to another host."""
    with Server() as elsewhere, Server([http(status, b"", f"Location: {elsewhere.url}/api/me")]) as server:
        (result,) = send(settings(server.url), GET)
        assert isinstance(result, Response)
        assert (result.status, result.headers["location"]) == (status, f"{elsewhere.url}/api/me")
        assert elsewhere.connections == 0


def test_cookies_are_not_sent_back(send: Send) -> None:
    """A session keeps no cookies of the server."""
    with Server([http(200, b"{}", "Set-Cookie: who=you; Path=/")]) as server:
        send(settings(f"http://localhost:{server.port}"), GET, GET)
        assert ["cookie" in received.headers for received in server.requests] == [False, False]


def test_netrc_does_not_replace_the_key(send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the machine's user are not used."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    with Server() as server:
        send(settings(server.url), GET)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


# failures: one table for both transports


@dataclass
class Failure:
    """How a server breaks off, and the result in both transports."""

    script: Script
    expected: SendResult
    request: Request = GET


def send_too_much(_: Server, connection: socket.socket, __: Received) -> None:
    """Send a response above the size limit."""
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {MAX_BODY_SIZE + 1}\r\n\r\n".encode())
    connection.sendall(b" " * (MAX_BODY_SIZE + 1))


def send_byte_by_byte(server: Server, connection: socket.socket, _: Received) -> None:
    """Send an endless response byte by byte."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not server.ended.wait(0.05):
        connection.sendall(b"1\r\n \r\n")


HALF = b'{"data": [1, 2, '
FAILURES = {
    "no response in time": Failure(
        Reply(then="hold"), TransportFailure("{host} did not respond within {seconds} s"), replace(GET, timeout=0.3)
    ),
    "half a response in time": Failure(
        http(200, HALF, length=999, then="hold"),
        TransportFailure("{host} did not respond within {seconds} s", status=200),
        replace(GET, timeout=0.3),
    ),
    "a response sent byte by byte": Failure(
        send_byte_by_byte,
        TransportFailure("{host} did not respond within {seconds} s", status=200),
        replace(GET, timeout=0.3),
    ),
    "closed without a response": Failure(
        Reply(then="close"), TransportFailure("{host} closed the connection without a response")
    ),
    "reset without a response": Failure(
        Reply(then="reset"), TransportFailure("{host} closed the connection without a response")
    ),
    "fewer bytes than announced": Failure(
        http(200, HALF, length=999, then="close"),
        TransportFailure("{host} closed the connection in the middle of the response", status=200),
    ),
    "fewer bytes than announced, of an error": Failure(
        http(503, HALF, length=999, then="close"),
        TransportFailure("{host} closed the connection in the middle of the response", status=503),
    ),
    "a chunk that never ends": Failure(
        Reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + HALF, then="close"),
        TransportFailure("{host} closed the connection in the middle of the response", status=200),
    ),
    "reset in the middle": Failure(
        http(200, HALF, length=999, then="reset"),
        TransportFailure("{host} closed the connection in the middle of the response", status=200),
    ),
    "not HTTP": Failure(
        Reply(b"SSH-2.0-OpenSSH_9.7\r\n\r\n", then="close"), TransportFailure("the response of {host} is not HTTP")
    ),
    "not gzip": Failure(
        http(200, b"never packed", "Content-Encoding: gzip"),
        TransportFailure("the response body cannot be decoded", status=200),
    ),
    "body above the limit": Failure(
        send_too_much,
        TransportFailure("the response is too large", status=200),
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_broken_response_is_a_transport_failure_with_the_same_reason_in_both_transports(send: Send, name: str) -> None:
    """The table above lists the failures and their reasons."""
    failure = FAILURES[name]
    expected = failure.expected
    assert isinstance(expected, TransportFailure)
    with Server([failure.script]) as server:
        for slower in (1, 10, 100):  # timeouts only: the first that is long enough for this machine to start a response
            seconds = slower * (failure.request.timeout or 60)
            (result,) = send(settings(server.url), replace(failure.request, timeout=seconds))
            reason = expected.reason.format(host=server.host, seconds=f"{seconds:g}")
            if result == expected._replace(reason=reason) or not failure.request.timeout:
                break
    assert result == expected._replace(reason=reason)


def test_request_succeeds_after_a_broken_connection(send: Send) -> None:
    """A broken connection is not reused."""
    with Server([http(200, HALF, length=999, then="close"), Reply(then="reset"), http()]) as server:
        *_, result = send(settings(server.url), GET, START, GET)
    assert isinstance(result, Response)


def test_refused_connection_is_a_failure_that_was_not_sent(send: Send) -> None:
    """The request was surely not processed."""
    with closed_address() as host:
        (result,) = send(settings(f"http://{host}"), GET)
    assert result == TransportFailure(f"the connection to {host} was refused", sent=False)


def test_unresolvable_host_is_a_failure_that_was_not_sent(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request was surely not processed."""

    def raise_unknown_host(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", raise_unknown_host)
    reason = "the host name of polytomic.invalid cannot be resolved"
    assert send(settings("https://polytomic.invalid"), GET) == [TransportFailure(reason, sent=False)]


def test_connect_timeout_is_a_failure_that_was_not_sent(send: Send) -> None:
    """The request was surely not processed."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        clients = [socket.socket() for _ in range(2)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        (result,) = send(settings(f"http://127.0.0.1:{port}", timeout=0.3), GET)
        for client in clients:
            client.close()
    assert result == TransportFailure(f"could not connect to 127.0.0.1:{port} within 0.3 s", sent=False)


@pytest.mark.parametrize("timeout", [None, 86400.0])
def test_request_timeout_cannot_exceed_the_timeout_of_the_settings(send: Send, timeout: float | None) -> None:
    """The request ends after the shorter timeout, although the server does not respond."""
    with Server([Reply(then="hold")]) as server:
        (result,) = send(settings(server.url, timeout=0.2), replace(GET, timeout=timeout))
    assert result == TransportFailure(f"{server.host} did not respond within 0.2 s")


# TLS


def test_certificate_is_trusted_when_ca_bundle_contains_its_authority(send: Send, trusted: Authority) -> None:
    """`ca_bundle` is a file."""
    with Server(tls=trusted.context) as server:
        (result,) = send(settings(server.url, ca_bundle=str(trusted.bundle)), GET)
    assert isinstance(result, Response)


def test_certificate_is_trusted_when_the_ca_bundle_folder_contains_its_authority(
    send: Send, trusted: Authority, tmp_path: Path
) -> None:
    """`ca_bundle` may be a folder with hashed names, as OpenSSL reads it."""
    import subprocess

    name = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", trusted.bundle], check=True, capture_output=True, text=True
    ).stdout.strip()
    (tmp_path / f"{name}.0").write_bytes(trusted.bundle.read_bytes())
    with Server(tls=trusted.context) as server:
        (result,) = send(settings(server.url, ca_bundle=str(tmp_path)), GET)
    assert isinstance(result, Response)


@pytest.mark.parametrize("bundle", [None, certifi.where()])
def test_untrusted_certificate_is_a_failure_that_was_not_sent(
    send: Send, trusted: Authority, bundle: str | None
) -> None:
    """The reason says which certificates are trusted, and the server receives no request."""
    with Server(tls=trusted.context) as server:
        (result,) = send(settings(server.url, ca_bundle=bundle), GET)
        assert server.requests == []
    assert isinstance(result, TransportFailure)
    assert result.sent is False
    assert result.reason.startswith(f"TLS failed: the certificate of {server.host} is not trusted (")
    assert result.reason.endswith(f"; trusted certificates: {bundle or 'certifi'}")


def test_certificate_for_another_host_is_a_failure_that_was_not_sent(send: Send, tmp_path: Path) -> None:
    """The authority is trusted, but the name differs."""
    other = authority(tmp_path, "somebody.invalid")
    with Server(tls=other.context) as server:
        (result,) = send(settings(server.url, ca_bundle=str(other.bundle)), GET)
        assert server.requests == []
    assert isinstance(result, TransportFailure)
    assert re.search(r"is not trusted \(.*match", result.reason)
    assert result.sent is False


def test_transport_ignores_certificate_variables_of_the_environment(
    send: Send, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are resolved once, when the settings are made."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(trusted.bundle))
    with Server(tls=trusted.context) as server:
        (result,) = send(settings(server.url, ca_bundle=certifi.where()), GET)
    assert isinstance(result, TransportFailure)


def test_verify_false_accepts_any_certificate_with_one_warning(
    send: Send, trusted: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning is logged once per session."""
    with Server(tls=trusted.context) as server:
        results = send(settings(server.url, verify=False), GET, GET)
    assert [type(result) for result in results] == [Response, Response]
    assert [record.levelno for record in caplog.records if "not verified" in record.message] == [logging.WARNING]


def test_tls_failure_is_named_when_the_server_speaks_plain_http(send: Send) -> None:
    """The reason names the host."""
    with Server([Reply(b"HTTP/1.1 400 Bad Request\r\n\r\n", then="close")]) as server:
        (result,) = send(settings(f"https://{server.host}"), GET)
    assert isinstance(result, TransportFailure)
    assert result.reason.startswith(f"TLS failed with {server.host}: ")


def test_ca_bundle_without_certificates_is_a_transport_failure(send: Send, tmp_path: Path) -> None:
    """No exception of a library escapes."""
    bundle = tmp_path / "empty.pem"
    bundle.write_text("no certificates here")
    (result,) = send(settings("https://127.0.0.1:1", ca_bundle=str(bundle)), GET)
    assert isinstance(result, TransportFailure)


def test_changed_ca_bundle_applies_to_the_next_session(send: Send, trusted: Authority, tmp_path: Path) -> None:
    """A renewed file of the same name is read again."""
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes())
    with Server(tls=trusted.context) as server:
        with_bundle = settings(server.url, ca_bundle=str(bundle))
        assert isinstance(send(with_bundle, GET)[0], TransportFailure)
        bundle.write_bytes(trusted.bundle.read_bytes())
        assert isinstance(send(with_bundle, GET)[0], Response)


# proxies


@pytest.fixture
def proxy() -> Iterator[Server]:
    with Server([tunnel]) as proxy:
        yield proxy


def list_requests(proxy: Server) -> list[tuple[str, str]]:
    """Return method and target of each request that the proxy received."""
    return [(received.method, received.target) for received in proxy.requests]


def test_http_request_is_sent_to_the_proxy_with_the_whole_url(send: Send, proxy: Server) -> None:
    """The proxy forwards the request."""
    with Server() as server:
        (result,) = send(settings(server.url, proxy=proxy.url), GET)
        assert isinstance(result, Response)
        assert (list_requests(proxy), len(server.requests)) == ([("GET", f"{server.url}/api/me")], 1)


def test_https_request_is_tunneled_through_the_proxy(send: Send, proxy: Server, trusted: Authority) -> None:
    """The proxy does not see the path or the key."""
    with Server(tls=trusted.context) as server:
        (result,) = send(settings(server.url, proxy=proxy.url, ca_bundle=str(trusted.bundle)), GET)
        assert isinstance(result, Response)
        assert (list_requests(proxy), len(server.requests)) == ([("CONNECT", server.host)], 1)
    assert "authorization" not in proxy.requests[0].headers


@pytest.mark.parametrize("tls", [False, True])
def test_proxy_credentials_are_sent_to_the_proxy_only(send: Send, proxy: Server, trusted: Authority, tls: bool) -> None:
    """User and password come from the URL of the proxy, percent-encoded or not."""
    url = proxy.url.replace("://", "://me:p%40ss@")
    with Server(tls=trusted.context if tls else None) as server:
        (result,) = send(settings(server.url, proxy=url, ca_bundle=str(trusted.bundle)), GET)
        assert isinstance(result, Response)
        assert "proxy-authorization" not in server.requests[0].headers
    basic = base64.b64encode(b"me:p@ss").decode()
    assert proxy.requests[0].headers["proxy-authorization"] == f"Basic {basic}"


def test_transport_ignores_proxy_variables_of_the_environment(
    send: Send, proxy: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are resolved once, when the settings are made."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        results = send(settings(server.url), GET) + send(settings(server.url, proxy=proxy.url), GET)
    assert [type(result) for result in results] == [Response, Response]
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_refused_proxy_connection_names_the_proxy_without_its_password(send: Send, scheme: str) -> None:
    """The request was surely not processed."""
    with closed_address() as host:
        (result,) = send(settings(f"{scheme}://polytomic.invalid", proxy=f"http://me:pass-word@{host}"), GET)
    assert result == TransportFailure(f"the connection to {host} (the proxy) was refused", sent=False)


@pytest.mark.parametrize("status", [403, 407, 502])
def test_refused_tunnel_is_a_failure_with_the_status_of_the_proxy(send: Send, status: int) -> None:
    """The request was surely not processed."""
    with Server([http(status, b"go away")]) as proxy:
        (result,) = send(settings("https://polytomic.invalid", proxy=proxy.url), GET)
    assert result == TransportFailure(f"the proxy {proxy.host} refused the request: {status} Whatever", sent=False)


def test_proxy_response_is_returned_when_there_is_no_tunnel(send: Send) -> None:
    """Without TLS, the response of the proxy is the response."""
    with Server([http(407, b"go away")]) as proxy:
        (result,) = send(settings("http://polytomic.invalid", proxy=proxy.url), GET)
    assert isinstance(result, Response)
    assert (result.status, result.body) == (407, b"go away")
