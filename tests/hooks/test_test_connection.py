"""The connection test: whose key it is, or what is wrong, in words that say what to mend, within ten seconds."""

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
from tests.api.servers import Received, Reply, Server, authority, http, nobody

from .conftest import KEY, Define


def outcome(hook: PolytomicHook | None = None) -> tuple[bool, str]:
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
    ("who", "kind"),
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
def test_whose_key_it_is(define: Define, who: dict[str, Any], kind: str) -> None:
    """The message says to whom the key belongs, and in which organization."""
    with Server([http(200, json.dumps({"data": who}).encode())]) as server:
        define(host=server.url)
        assert outcome() == (True, f"Connected to {server.host} with {kind}.")
        assert [(received.method, received.target) for received in server.requests] == [("GET", "/api/me")]


@pytest.mark.parametrize(
    ("who", "acting"),
    [
        ({**ME, "is_organization": True}, "an organization key, acting for organization Acme (o-1)"),
        ({"organization_id": "o-1", "is_partner": True}, "a partner key, acting for organization o-1"),
        ({"id": "s", "is_system": True}, "a deployment key, acting for the organization whose id is the login"),
    ],
)
def test_message_names_the_organization_that_a_key_with_a_login_acts_for(
    define: Define, who: dict[str, Any], acting: str
) -> None:
    """By name and id, as far as the server names it."""
    with Server([http(200, json.dumps({"data": who}).encode())]) as server:
        define(host=server.url, login="o-1")
        assert outcome() == (True, f"Connected to {server.host} with {acting}.")


@pytest.mark.parametrize("login", ["", "organization"])
def test_with_the_sandbox(polytomic_sandbox: Sandbox, define: Define, login: str) -> None:
    """A user's key and an organization's both connect."""
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
    """The connection test names it, and the hook sees only its syncs."""
    define(host=two_organizations.url, login=login, password="partner")
    good, message = PolytomicHook().test_connection()
    assert good
    assert message.endswith(f" with an organization key, acting for organization {name} ({login}).")
    assert [sync.name for sync in PolytomicHook().list_bulk_syncs()] == [f"{name} to warehouse"]
    assert [sync.name for sync in PolytomicHook().list_model_syncs()] == [f"{name} to CRM"]


def test_partner_key_without_a_login_connects_and_sees_no_syncs(two_organizations: Sandbox, define: Define) -> None:
    """The connection test says what to set; a call of a sync is refused with 403."""
    define(host=two_organizations.url, password="partner")
    good, message = PolytomicHook().test_connection()
    assert good
    assert "set the login to that organization's id" in message
    with pytest.raises(PolytomicAuthError, match="HTTP 403"):
        list(PolytomicHook().list_bulk_syncs())


def test_unknown_login_is_refused(two_organizations: Sandbox, define: Define) -> None:
    """The connection test says what a login has to be."""
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
def test_a_key_that_is_refused(define: Define, status: int, login: str, how: str) -> None:
    """The message says how the key was sent and what the login has to be."""
    with Server([http(status, json.dumps({"message": f"{KEY} is not valid"}).encode())]) as server:
        define(host=server.url, login=login)
        assert outcome() == (
            False,
            f"{server.host} rejected the key (HTTP {status}): *** is not valid. It was sent {how}",
        )
        assert len(server.requests) == 1


def test_a_name_that_nobody_knows(define: Define, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be resolved."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    define(host="polytomic.invalid")
    told = "polytomic.invalid cannot be reached: the host name of polytomic.invalid cannot be resolved"
    assert outcome() == (False, told)


def test_a_server_that_is_down(define: Define) -> None:
    """It refuses the connection."""
    with nobody() as host:
        define(host=f"http://{host}")
        assert outcome() == (False, f"{host} cannot be reached: the connection to {host} was refused")


def test_a_proxy_that_is_down(define: Define) -> None:
    """It is the proxy that is named."""
    with nobody() as proxy:
        define(host="http://polytomic.invalid", extra={"proxy": f"http://me:{KEY}@{proxy}"})
        told = f"polytomic.invalid cannot be reached: the connection to {proxy} (the proxy) was refused"
        assert outcome() == (False, told)


def test_a_certificate_that_nobody_vouches_for(define: Define, tmp_path: Path) -> None:
    """TLS fails; with the authority's certificate it does not."""
    own = authority(tmp_path)
    with Server([http(200, json.dumps({"data": ME}).encode())], tls=own.context) as server:
        define(host=server.url)
        good, message = outcome()
        assert not good
        assert f"cannot be reached: TLS failed: the certificate of {server.host} is not trusted" in message
        define(host=server.url, extra={"verify": str(own.bundle)})
        assert outcome()[0]


def test_https_where_only_http_is_spoken(define: Define) -> None:
    """TLS fails."""
    with Server([Reply(b"HTTP/1.1 400 Bad Request\r\n\r\n", then="close")]) as server:
        define(host=server.host)
        good, message = outcome()
    assert not good
    assert f"cannot be reached: TLS failed with {server.host}: " in message


@pytest.mark.parametrize(
    "answer",
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
    ids=lambda answer: repr(answer.data[9:13] + answer.data[-12:]),
)
def test_what_is_not_polytomic(define: Define, answer: Reply) -> None:
    """Whatever else answers there, the message says to check the host, and what it answered."""
    with Server([answer]) as server:
        define(host=server.url)
        good, message = outcome()
    assert not good
    assert message.startswith(f"{server.host} responds, but not as the Polytomic API does. Check host")


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_that_refuses_access_is_not_blamed_on_the_key(define: Define, status: int) -> None:
    """An HTML page with 401 or 403 is a proxy's: the message says so, and does not send anybody to look for a key."""
    with Server([http(status, b"<html><title>Access denied</title></html>")]) as server:
        define(host=server.url)
        good, message = outcome()
    assert not good
    assert message == (
        f"{server.host} responds, but not as the Polytomic API does. Check host and proxy. A proxy or firewall denied "
        f"access before the key was checked: GET /api/me: HTTP {status}: not an answer of the Polytomic API: "
        "an HTML page, 'Access denied'"
    )


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_error_of_the_api(define: Define, status: int) -> None:
    """It is told as it came, and not asked again."""
    with Server([http(status, b'{"message": "not now"}', "Retry-After: 3600")]) as server:
        define(host=server.url)
        good, message = outcome()
        assert (good, len(server.requests)) == (False, 1)
    assert message.startswith(f"GET /api/me: HTTP {status}: not now")


def test_a_connection_that_is_wrong(define: Define) -> None:
    """The field is named, and nothing is sent."""
    define(host="ftp://h")
    good, message = outcome()
    assert not good
    assert message.startswith("connection 'polytomic_default': host must be")


def test_a_connection_that_is_not_there() -> None:
    """Airflow's own words, as a result and not as an exception."""
    good, message = outcome(PolytomicHook("there_is_no_such_connection"))
    assert not good
    assert "there_is_no_such_connection" in message


def test_a_proxy_of_the_environment_that_cannot_be_used(define: Define, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://p")
    define()
    assert outcome() == (False, "the environment variable HTTPS_PROXY is not the URL of an HTTP proxy")


def drip(server: Server, connection: socket.socket, _: Received) -> None:
    """An answer that comes byte by byte, and never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not server.ended.wait(0.05):
        connection.sendall(b" ")


def test_it_takes_ten_seconds_at_most(define: Define, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is slow, for ever here: the server, all of its answer, or the name server, which heeds no timeout."""
    go_on = threading.Event()
    known = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **more: Any) -> Any:
        if host == "slow.invalid":
            go_on.wait()
        return known(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    results: dict[str, tuple[bool, str]] = {}

    def test(name: str) -> None:
        results[name] = PolytomicHook(name, timeout=3600).test_connection()

    with Server([Reply(then="hold")]) as silent, Server([drip]) as dripping:
        urls = {"silent": silent.url, "dripping": dripping.url, "unnamed": "http://slow.invalid"}
        threads = [threading.Thread(target=test, args=(name,), daemon=True) for name in urls]
        for name, url in urls.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"host": url, "password": KEY}))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert results.keys() == urls.keys()
        go_on.set()
    for name, (good, message) in results.items():
        assert not good
        assert f"{urls[name].removeprefix('http://')} did not answer within " in message
