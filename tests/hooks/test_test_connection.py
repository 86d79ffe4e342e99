"""The connection test: its result, its messages, and its time limit."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic.api.errors import PolytomicAuthError
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import ORGANIZATION_ID
from airflow_provider_polytomic.sandbox.server import Server as SandboxServer
from tests.api.servers import Received, Reply, Server, authority, closed_address, http

from .conftest import KEY, Define


def run_test(hook: PolytomicHook | None = None) -> tuple[bool, str]:
    result = (hook or PolytomicHook()).test_connection()
    assert isinstance(result, tuple)
    good, message = result
    assert isinstance(good, bool)
    assert isinstance(message, str)
    assert message
    assert KEY not in message
    return good, message


ME = {"id": "u-1", "organization_id": "o-1", "organization_name": "Acme"}


@pytest.mark.parametrize(
    ("identity", "key"),
    [
        ({**ME, "is_user": True, "email": "a@b.c"}, "a user key, of a@b.c in organization Acme"),
        ({**ME, "is_user": True}, "a user key, of u-1 in organization Acme"),
        ({**ME, "is_organization": True}, "an organization key in organization Acme"),
        ({**ME, "is_organization": True, "organization_name": None}, "an organization key in organization o-1"),
        (
            {"id": "p", "is_partner": True},
            "a partner key, which without a login can access only organizations and users, not syncs. "
            "To act for an organization, set the login to that organization's id",
        ),
        ({"id": "s", "is_system": True}, "a deployment key"),
        ({"email": "a@b.c"}, "a key"),
    ],
)
def test_message_names_the_owner_of_the_key(define: Define, identity: dict[str, Any], key: str) -> None:
    """It contains the kind of the key, its owner, and the organization."""
    with Server([http(200, json.dumps({"data": identity}).encode())]) as server:
        define(host=server.url)
        assert run_test() == (True, f"Connected to {server.host} with {key}.")
        assert [(received.method, received.target) for received in server.requests] == [("GET", "/api/me")]


@pytest.mark.parametrize(
    ("identity", "key"),
    [
        ({**ME, "is_organization": True}, "an organization key, acting for organization Acme (o-1)"),
        ({"organization_id": "o-1", "is_partner": True}, "a partner key, acting for organization o-1"),
        ({"id": "s", "is_system": True}, "a deployment key, acting for the organization whose id is the login"),
    ],
)
def test_message_names_the_organization_that_a_key_with_a_login_acts_for(
    define: Define, identity: dict[str, Any], key: str
) -> None:
    """By name and id, if the server returns them."""
    with Server([http(200, json.dumps({"data": identity}).encode())]) as server:
        define(host=server.url, login="o-1")
        assert run_test() == (True, f"Connected to {server.host} with {key}.")


@pytest.mark.parametrize("login", ["", "organization"])
def test_keys_of_the_sandbox_connect(polytomic_sandbox: Sandbox, define: Define, login: str) -> None:
    """Those of a user and of an organization."""
    define(host=polytomic_sandbox.url, login=login, password="sandbox")
    good, message = PolytomicHook().test_connection()
    assert good
    assert ("an organization key" if login else "a user key, of sandbox@example.com") in message


GLOBEX = "0b000000-0000-4000-8000-000000000002"
TWO_ORGANIZATIONS = {
    "name": "Acme",
    "key": "acme",
    "bulk_syncs": [{"name": "Acme to warehouse", "schemas": ["account"]}],
    "model_syncs": [{"name": "Acme to CRM"}],
    "partner_key": "partner",
    "organizations": [
        {
            "name": "Globex",
            "id": GLOBEX,
            "key": "globex",
            "bulk_syncs": [{"name": "Globex to warehouse", "schemas": ["account"]}],
            "model_syncs": [{"name": "Globex to CRM"}],
        }
    ],
}


@pytest.fixture
def two_organizations() -> Iterator[Sandbox]:
    sandbox = Sandbox(TWO_ORGANIZATIONS)
    server = SandboxServer(sandbox)
    yield sandbox
    server.close()


@pytest.mark.parametrize(("login", "name"), [(ORGANIZATION_ID, "Acme"), (GLOBEX, "Globex")])
def test_login_selects_the_organization_of_a_partner_key(
    two_organizations: Sandbox, define: Define, login: str, name: str
) -> None:
    """The message names it, and the hook lists only its syncs."""
    define(host=two_organizations.url, login=login, password="partner")
    good, message = PolytomicHook().test_connection()
    assert good
    assert message.endswith(f" with an organization key, acting for organization {name} ({login}).")
    assert [sync.name for sync in PolytomicHook().list_bulk_syncs()] == [f"{name} to warehouse"]
    assert [sync.name for sync in PolytomicHook().list_model_syncs()] == [f"{name} to CRM"]


def test_partner_key_without_a_login_connects_but_cannot_access_syncs(
    two_organizations: Sandbox, define: Define
) -> None:
    """The message contains what to set. A call of a sync is rejected with 403."""
    define(host=two_organizations.url, password="partner")
    good, message = PolytomicHook().test_connection()
    assert good
    assert "set the login to that organization's id" in message
    with pytest.raises(PolytomicAuthError, match="HTTP 403"):
        list(PolytomicHook().list_bulk_syncs())


def test_unknown_login_is_rejected(two_organizations: Sandbox, define: Define) -> None:
    """The message contains what a login must be."""
    define(host=two_organizations.url, login="acme", password="partner")
    good, message = PolytomicHook().test_connection()
    assert not good
    assert "(HTTP 401)" in message
    assert "the login must be an organization's id" in message


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("login", "how"),
    [
        ("", "without a login, as a user's key. A partner or deployment key needs the organization's id as the login"),
        (
            "org",
            "with a login, so the login must be an organization's id, and the password a partner or deployment key "
            "that may act for this organization",
        ),
    ],
)
def test_rejected_key_is_reported_with_the_requirements_of_the_login(
    define: Define, status: int, login: str, how: str
) -> None:
    """The message contains how the key was sent."""
    with Server([http(status, json.dumps({"message": f"{KEY} is not valid"}).encode())]) as server:
        define(host=server.url, login=login)
        assert run_test() == (
            False,
            f"{server.host} rejected the key (HTTP {status}): *** is not valid. It was sent {how}",
        )
        assert len(server.requests) == 1


def test_unknown_host_name_is_reported(define: Define, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be resolved."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    define(host="polytomic.invalid")
    message = "polytomic.invalid cannot be reached: the host name of polytomic.invalid cannot be resolved"
    assert run_test() == (False, message)


def test_refused_connection_is_reported(define: Define) -> None:
    """No server listens."""
    with closed_address() as host:
        define(host=f"http://{host}")
        assert run_test() == (False, f"{host} cannot be reached: the connection to {host} was refused")


def test_refused_connection_of_a_proxy_is_reported(define: Define) -> None:
    """The message names the proxy."""
    with closed_address() as proxy:
        define(host="http://polytomic.invalid", extra={"proxy": f"http://me:{KEY}@{proxy}"})
        message = f"polytomic.invalid cannot be reached: the connection to {proxy} (the proxy) was refused"
        assert run_test() == (False, message)


def test_untrusted_certificate_is_reported(define: Define, tmp_path: Path) -> None:
    """With the certificate of its authority in `verify`, the test passes."""
    own = authority(tmp_path)
    with Server([http(200, json.dumps({"data": ME}).encode())], tls=own.context) as server:
        define(host=server.url)
        good, message = run_test()
        assert not good
        assert f"cannot be reached: TLS failed: the certificate of {server.host} is not trusted" in message
        define(host=server.url, extra={"verify": str(own.bundle)})
        assert run_test()[0]


def test_https_to_an_http_server_is_reported(define: Define) -> None:
    """TLS fails."""
    with Server([Reply(b"HTTP/1.1 400 Bad Request\r\n\r\n", then="close")]) as server:
        define(host=server.host)
        good, message = run_test()
    assert not good
    assert f"cannot be reached: TLS failed with {server.host}: " in message


@pytest.mark.parametrize(
    "response",
    [
        http(200, b"<html><title>Welcome</title></html>"),
        http(200, b'{"hello": "world"}'),
        http(200, b'{"data": {}}'),
        http(200, b'{"data": {"id": 5}}'),
        http(200, b"[]"),
        http(200, b"{"),
        http(200, b""),
        http(204, b""),
        http(404, b"<html>not found</html>"),
        http(404, b"404 page not found"),
        http(404, b'{"message": "no such page"}'),
        http(502, b"<html><title>502 Bad Gateway</title></html>"),
        http(301, b"", "Location: https://www.elsewhere.example/"),
        http(200, b"{}", length=99, then="close"),
    ],
    ids=lambda response: repr(response.data[9:13] + response.data[-12:]),
)
def test_server_that_is_not_polytomic_is_reported(define: Define, response: Reply) -> None:
    """The message contains the response, and the advice to check the host."""
    with Server([response]) as server:
        define(host=server.url)
        good, message = run_test()
    assert not good
    assert message.startswith(f"{server.host} responds, but not as the Polytomic API does. Check host")


@pytest.mark.parametrize("status", [401, 403])
def test_html_page_that_denies_access_is_attributed_to_a_proxy(define: Define, status: int) -> None:
    """With status 401 or 403, too: the key was not checked."""
    with Server([http(status, b"<html><title>Access denied</title></html>")]) as server:
        define(host=server.url)
        good, message = run_test()
    assert not good
    assert message == (
        f"{server.host} responds, but not as the Polytomic API does. Check host and proxy. A proxy or firewall denied "
        f"access before the key was checked: GET /api/me: HTTP {status}: not a response of the Polytomic API: "
        "an HTML page, 'Access denied'"
    )


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_error_of_the_api_is_reported_without_a_retry(define: Define, status: int) -> None:
    """The message is that of the API."""
    with Server([http(status, b'{"message": "not now"}', "Retry-After: 3600")]) as server:
        define(host=server.url)
        good, message = run_test()
        assert (good, len(server.requests)) == (False, 1)
    assert message.startswith(f"GET /api/me: HTTP {status}: not now")


def test_invalid_connection_is_reported_without_a_request(define: Define) -> None:
    """The message names the field."""
    define(host="ftp://h")
    good, message = run_test()
    assert not good
    assert message.startswith("connection 'polytomic_default': host must be")


def test_missing_connection_is_reported() -> None:
    """The result contains Airflow's message instead of raising it."""
    good, message = run_test(PolytomicHook("there_is_no_such_connection"))
    assert not good
    assert "there_is_no_such_connection" in message


def test_invalid_proxy_of_the_environment_is_reported(define: Define, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://p")
    define()
    assert run_test() == (False, "the environment variable HTTPS_PROXY is not the URL of an HTTP proxy")


def drip(server: Server, connection: socket.socket, _: Received) -> None:
    """Send a response byte by byte, which never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not server.ended.wait(0.05):
        connection.sendall(b" ")


def test_connection_test_takes_ten_seconds_at_most(define: Define, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server, the rest of the response, or the name server may never respond."""
    is_test_over = threading.Event()
    getaddrinfo = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "slow.invalid":
            is_test_over.wait()
        return getaddrinfo(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    results: dict[str, tuple[bool, str]] = {}

    def test_in_thread(name: str) -> None:
        results[name] = PolytomicHook(name, timeout=3600).test_connection()

    with Server([Reply(then="hold")]) as silent, Server([drip]) as dripping:
        urls = {"silent": silent.url, "dripping": dripping.url, "unnamed": "http://slow.invalid"}
        threads = [threading.Thread(target=test_in_thread, args=(name,), daemon=True) for name in urls]
        for name, url in urls.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"host": url, "password": KEY}))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert results.keys() == urls.keys()
        is_test_over.set()
    for name, (good, message) in results.items():
        assert not good
        assert f"{urls[name].removeprefix('http://')} did not respond within " in message
