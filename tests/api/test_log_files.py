"""Log files behind signed URLs: read in pieces, bounded, without our key; and nobody is told the URL."""

from __future__ import annotations

import json
import logging
import re
import socket
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic.api.client import Client
from airflow_provider_polytomic.api.endpoints import bulk_syncs, model_syncs
from airflow_provider_polytomic.api.errors import PolytomicError, PolytomicResponseError, PolytomicUnreachableError
from airflow_provider_polytomic.api.executions.log_files import LogFile, iter_log_files
from airflow_provider_polytomic.api.settings import Settings
from airflow_provider_polytomic.api.transport.requests_transport import CHUNK

from .servers import Authority, Received, Reply, Script, Server, authority, http, nobody, until

KEY = "the-key-of-the-api"
SIGNATURE = "s3cr3t%2Fsignature"
QUERY = f"X-Expires=900&X-Signature={SIGNATURE}"
CALL = bulk_syncs.log_files("s", "e")


def listing(*urls: str) -> Reply:
    return http(200, json.dumps({"data": {"Expires": "soon", "URLs": urls}}).encode())


def signed(storage: Server, name: str = "log.json", query: str = QUERY) -> str:
    return f"{storage.url}/bucket/{name}?{query}"


@contextmanager
def asking(*listings: Reply, **settings: Any) -> Iterator[Client]:
    """A client of an API that answers these."""
    with Server([*listings]) as api, Client(Settings(api.url, KEY, **{"timeout": 60.0, **settings})) as client:
        yield client


def content(files: Iterator[LogFile]) -> dict[str, bytes]:
    return {file.name: b"".join(file.chunks) for file in files}


def test_files_are_read_one_after_the_other() -> None:
    """Each with a name of its own, made of its number and of what it is called where it is stored."""
    with Server([http(200, b"one"), http(200, b""), http(200, b"three")]) as storage:
        urls = [signed(storage), signed(storage, "log.json"), signed(storage, "deep/%2e%2e%2Fodd%20n%C3%A4me.gz")]
        with asking(listing(*urls)) as client:
            files = content(iter_log_files(client, CALL, 100))

    assert files == {"1-log.json": b"one", "2-log.json": b"", "3-odd_n_me.gz": b"three"}


def test_none_is_none() -> None:
    """An execution without log files has none to read."""
    with asking(http(200, b'{"data": {"Expires": null, "URLs": null}}')) as client:
        assert content(iter_log_files(client, CALL, 1)) == {}


def test_log_files_of_model_syncs() -> None:
    """Their list is spelled in lower case, and read alike."""
    with Server([http(200, b"one")]) as storage:
        answer = http(200, json.dumps({"data": {"urls": [signed(storage)]}}).encode())
        with asking(answer) as client:
            assert content(iter_log_files(client, model_syncs.log_files("s", "e", "errors"), 9)) == {
                "1-log.json": b"one"
            }


def test_each_file_has_a_fresh_url() -> None:
    """The URLs expire: those of the second file are asked for when the first has been read."""
    with Server([http(200, b"x")]) as storage:
        first = listing(signed(storage, "a", "n=1"), signed(storage, "b", "n=1"))
        second = listing(signed(storage, "a", "n=2"), signed(storage, "b", "n=2"))
        with asking(first, second) as client:
            content(iter_log_files(client, CALL, 9))
        assert [received.target for received in storage.requests] == ["/bucket/a?n=1", "/bucket/b?n=2"]


@pytest.mark.parametrize("login", ["", "organization"])
def test_the_key_is_not_sent_along(login: str) -> None:
    """The storage gets the URL as it was signed, and no header that tells it anything about us."""
    with Server([http(200, b"x", "Set-Cookie: a=b")]) as storage:
        with asking(listing(signed(storage), signed(storage)), login=login) as client:
            content(iter_log_files(client, CALL, 9))
        for received in storage.requests:
            assert received.target == f"/bucket/log.json?{QUERY}"
            assert received.headers == {
                "host": storage.host,
                "user-agent": "airflow-provider-polytomic",
                "accept": "*/*",
                "accept-encoding": "identity",
                "connection": "keep-alive",
            }


def test_what_has_come_can_be_read_before_the_rest() -> None:
    """A chunk is handed over as soon as it is whole; who stops reading hangs up."""
    hung_up: list[bool] = []

    def slowly(server: Server, connection: socket.socket, _: Received) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {3 * CHUNK}\r\n\r\n".encode() + b"x" * CHUNK)
        hung_up.append(connection.recv(1) == b"")

    with Server([slowly]) as storage, asking(listing(signed(storage)), timeout=30.0) as client:
        (file,) = [next(iter_log_files(client, CALL, 9 * CHUNK))]
        assert next(file.chunks) == b"x" * CHUNK
        file.chunks.close()  # type: ignore[attr-defined]
        until(lambda: hung_up)
    assert hung_up == [True]


def test_a_large_file_takes_little_memory() -> None:
    """However large it is, no more than some chunks of it are held."""

    def much(server: Server, connection: socket.socket, _: Received) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {64 * CHUNK}\r\n\r\n".encode())
        piece = bytes(CHUNK)
        for _ in range(64):
            connection.sendall(piece)

    with Server([much]) as storage, asking(listing(signed(storage))) as client:
        tracemalloc.start()
        read_in_all = sum(len(chunk) for file in iter_log_files(client, CALL, 64 * CHUNK) for chunk in file.chunks)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert read_in_all == 64 * CHUNK
    assert most < 8 * CHUNK


@pytest.mark.parametrize(("bound", "readable"), [(6, True), (5, False)])
def test_how_much_is_read_is_bounded(bound: int, readable: bool) -> None:
    """By the sum of all files; what is more is refused, by the name of the argument."""
    with Server([http(200, b"abc")]) as storage, asking(listing(signed(storage), signed(storage))) as client:
        files = iter_log_files(client, CALL, bound)
        if readable:
            assert len(content(files)) == 2
        else:
            with pytest.raises(
                PolytomicResponseError, match=r"log file 2 exceeds the limit: .* more than the 5 bytes of max_b"
            ):
                content(files)


# nobody is told the URL


def refusal(status: int, *headers: str) -> Reply:
    """A storage's answer, which quotes what was signed."""
    return http(status, f"<Error><StringToSign>{QUERY}</StringToSign></Error>".encode(), *headers)


REFUSED = "HTTP {}: log file 1 cannot be read from its storage"
TROUBLE: dict[str, tuple[Script, str]] = {
    "expired": (refusal(403), REFUSED.format(403)),
    "gone": (refusal(404), REFUSED.format(404)),
    "busy": (refusal(503), REFUSED.format(503)),
    "redirect": (refusal(302, f"Location: http://elsewhere/x?{QUERY}"), REFUSED.format(302)),
    "part": (refusal(206), REFUSED.format(206)),
    "reset": (Reply(then="reset"), "closed the connection without an answer"),
    "half": (http(200, b"x", length=9, then="close"), "closed the connection in the middle of the answer"),
    "hangs": (Reply(then="hold"), "did not answer within 0.2 s"),
    "stops": (http(200, b"x", length=9, then="hold"), "did not answer within 0.2 s"),
    "not HTTP": (Reply(b"SSH-2.0\r\n\r\n", then="close"), "closed the connection|is not HTTP"),
    "not packed": (http(200, b"no gzip", "Content-Encoding: gzip"), "the answer cannot be unpacked"),
    "not chunks": (
        Reply(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{QUERY}\r\n".encode(), then="close"),
        "in the middle of the answer",
    ),
}


def shown(error: BaseException) -> str:
    """All that anybody may print of an error."""
    return "".join([str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)])


Fail = Callable[[str, Client], PolytomicError]


@pytest.fixture
def fails(caplog: pytest.LogCaptureFixture) -> Fail:
    """Read the log file behind a URL, which fails; neither error nor log show what must not be seen."""

    def fails(url: str, client: Client) -> PolytomicError:
        with caplog.at_level(logging.DEBUG), pytest.raises(PolytomicError) as caught:
            content(iter_log_files(client, CALL, 100))
        told = shown(caught.value) + caplog.text + repr(caplog.records)
        assert url not in told
        for secret in (SIGNATURE, "s3cr3t", "X-Signature", "StringToSign", KEY):
            assert secret not in told
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert str(caught.value).startswith("GET /api/bulk/syncs/s/executions/e/logs: ")
        return caught.value

    return fails


@pytest.mark.parametrize("name", TROUBLE)
def test_no_error_holds_the_url(fails: Fail, name: str) -> None:
    """Whatever the storage does, the error says so, and which file it is; it quotes nothing of the storage's."""
    script, says = TROUBLE[name]
    timeout = 0.2 if "0.2 s" in says else 60.0
    with Server([script]) as storage, asking(listing(signed(storage)), timeout=timeout) as client:
        error = fails(signed(storage), client)

    assert [part for part in says.split("|") if part in str(error)], error
    assert "log file 1" in str(error)


def test_a_storage_that_is_not_there(fails: Fail) -> None:
    """The error names its host."""
    with nobody() as host:
        url = f"http://{host}/log.json?{QUERY}"
        with asking(listing(url)) as client:
            error = fails(url, client)
    assert isinstance(error, PolytomicUnreachableError)
    assert f"log file 1: the connection to {host} was refused" in str(error)


def test_a_storage_that_no_way_leads_to(fails: Fail) -> None:
    """What the library says of it holds the URL; the error has only what the operating system says."""
    url = f"http://255.255.255.255/log.json?{QUERY}"
    with asking(listing(url)) as client:
        error = fails(url, client)
    assert re.search(r"log file 1: 255\.255\.255\.255: [A-Z][a-z ]+$", str(error))


def test_a_storage_whose_name_is_unknown(fails: Fail) -> None:
    """The error names it."""
    url = f"https://me:pass-word@storage.invalid/log.json?{QUERY}"
    with asking(listing(url)) as client:
        error = fails(url, client)
    assert "the host name of storage.invalid cannot be resolved" in str(error)
    assert "pass-word" not in shown(error)


@pytest.mark.parametrize(
    "url", [f"ftp://h/x?{QUERY}", f"/relative?{QUERY}", f"http://[h/x?{QUERY}", f"http:///x?{QUERY}"]
)
def test_what_is_no_url(fails: Fail, url: str) -> None:
    """It is an error like any other, which does not show it."""
    with asking(listing(url)) as client:
        assert isinstance(fails(url, client), PolytomicUnreachableError)


def test_a_proxy_that_refuses(fails: Fail) -> None:
    """The error says that it was the proxy."""
    url = f"https://storage.invalid/log.json?{QUERY}"
    with Server([http(403)]) as proxy, Server([listing(url)]) as api:
        settings = Settings(api.url, KEY, proxy=f"http://me:pass-word@{proxy.host}", timeout=5.0)
        proxy.script = [api.script[0], http(403)]
        with Client(settings) as client:
            error = fails(url, client)
    assert f"the proxy {proxy.host} refuses: 403" in str(error)
    assert "pass-word" not in shown(error)


def test_a_good_read_is_not_logged_either(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3's debug log has the requests to the API, but not those to the storage; afterwards it is as it was."""
    caplog.set_level(logging.DEBUG)
    with Server([http(200, b"x")]) as storage, asking(listing(signed(storage))) as client:
        content(iter_log_files(client, CALL, 9))
    assert "/api/bulk/syncs/s/executions/e/logs" in caplog.text
    assert "bucket" not in caplog.text
    assert logging.getLogger("urllib3.connectionpool").filters == []


def test_a_log_file_does_not_show_its_url() -> None:
    """Nor does what is answered about it, when it is printed."""
    with Server([http(200, b"x")]) as storage, asking(listing(signed(storage))) as client:
        (file,) = iter_log_files(client, CALL, 9)
        assert repr(file) == "LogFile(name='1-log.json')"
        assert "s3cr3t" not in repr(client.call(CALL))


# the way there


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def test_tls_is_as_the_connection_says(trusted: Authority, fails: Fail) -> None:
    """Trusted is what is trusted for the API; without verification nothing is, and nobody is warned once more."""
    with Server([http(200, b"x")], tls=trusted.context) as storage:
        url = signed(storage)
        with asking(listing(url), ca_bundle=str(trusted.bundle)) as client:
            assert content(iter_log_files(client, CALL, 9)) == {"1-log.json": b"x"}
        with asking(listing(url)) as client:
            assert f"the certificate of {storage.host} is not trusted" in str(fails(url, client))
        with asking(listing(url), verify=False) as client, warnings.catch_warnings():
            warnings.simplefilter("error")
            assert content(iter_log_files(client, CALL, 9)) == {"1-log.json": b"x"}


@pytest.mark.parametrize(
    ("environment", "proxy", "through"),
    [
        ({}, None, []),
        ({}, "the proxy", ["api", "storage"]),
        ({"HTTP_PROXY": "the proxy"}, "environment", ["api", "storage"]),
        ({"HTTP_PROXY": "the proxy", "NO_PROXY": "api"}, "environment", ["storage"]),
        ({"HTTP_PROXY": "the proxy", "NO_PROXY": "storage"}, "environment", ["api"]),
        ({"HTTP_PROXY": "http://wrong.invalid"}, "the proxy", ["api", "storage"]),
    ],
)
def test_the_way_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None, through: list[str]
) -> None:
    """The connection's own proxy is for both; the environment's is decided on for each host."""
    from airflow_provider_polytomic.api.settings import proxy_from_environment

    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Server([http(200, b"x")]) as storage, Server([listing(signed(storage))]) as api, Server() as between:
        replies = {"api": api.script[0], "storage": storage.script[0]}
        between.script = [replies[name] for name in ("api", "storage", "api") if name in through] or [http(500)]
        spelled = {"the proxy": between.url, "api": api.host, "storage": storage.host}
        for name, value in environment.items():
            monkeypatch.setenv(name, spelled.get(value, value))
        decided = proxy_from_environment(api.url) if proxy == "environment" else proxy and spelled[proxy]
        with closing(Client(Settings(api.url, KEY, proxy=decided, timeout=5.0))) as client:
            assert content(iter_log_files(client, CALL, 9)) == {"1-log.json": b"x"}
        hosts = [(api.host, api.requests), (storage.host, storage.requests)]
        directly = [host for host, requests in hosts if requests]
        by_proxy = {received.headers["host"] for received in between.requests}
    assert by_proxy == {spelled[name] for name in through}
    assert by_proxy.isdisjoint(directly)
