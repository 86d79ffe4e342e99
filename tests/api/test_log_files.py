"""Log files behind signed URLs: streamed, bounded, without credentials, and with no URL in errors or logs."""

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

from .servers import Authority, Received, Reply, Script, Server, authority, closed_address, http, wait_until

KEY = "the-key-of-the-api"
SIGNATURE = "s3cr3t%2Fsignature"
QUERY = f"X-Expires=900&X-Signature={SIGNATURE}"
CALL = bulk_syncs.log_files("s", "e")


def listing(*urls: str) -> Reply:
    return http(200, json.dumps({"data": {"Expires": "soon", "URLs": urls}}).encode())


def signed(storage: Server, name: str = "log.json", query: str = QUERY) -> str:
    return f"{storage.url}/bucket/{name}?{query}"


@contextmanager
def client_of(*listings: Reply, **settings: Any) -> Iterator[Client]:
    """A client of an API with these responses."""
    with Server([*listings]) as api, Client(Settings(api.url, KEY, **{"timeout": 60.0, **settings})) as client:
        yield client


def content(files: Iterator[LogFile]) -> dict[str, bytes]:
    return {file.name: b"".join(file.chunks) for file in files}


def test_log_files_are_read_in_order() -> None:
    """Each name consists of the number and the sanitized name in the storage."""
    with Server([http(200, b"one"), http(200, b""), http(200, b"three")]) as storage:
        urls = [signed(storage), signed(storage, "log.json"), signed(storage, "deep/%2e%2e%2Fodd%20n%C3%A4me.gz")]
        with client_of(listing(*urls)) as client:
            files = content(iter_log_files(client, CALL, 100))

    assert files == {"1-log.json": b"one", "2-log.json": b"", "3-odd_n_me.gz": b"three"}


def test_execution_without_log_files_has_none() -> None:
    """An execution without log files yields none."""
    with client_of(http(200, b'{"data": {"Expires": null, "URLs": null}}')) as client:
        assert content(iter_log_files(client, CALL, 1)) == {}


def test_log_files_of_model_syncs_are_read() -> None:
    """Their list spells its fields in lower case."""
    with Server([http(200, b"one")]) as storage:
        response = http(200, json.dumps({"data": {"urls": [signed(storage)]}}).encode())
        with client_of(response) as client:
            assert content(iter_log_files(client, model_syncs.log_files("s", "e", "errors"), 9)) == {
                "1-log.json": b"one"
            }


def test_log_file_urls_are_listed_again_for_each_file() -> None:
    """URLs expire, so that of the second file is requested after the first file was read."""
    with Server([http(200, b"x")]) as storage:
        first = listing(signed(storage, "a", "n=1"), signed(storage, "b", "n=1"))
        second = listing(signed(storage, "a", "n=2"), signed(storage, "b", "n=2"))
        with client_of(first, second) as client:
            content(iter_log_files(client, CALL, 9))
        assert [received.target for received in storage.requests] == ["/bucket/a?n=1", "/bucket/b?n=2"]


@pytest.mark.parametrize("login", ["", "organization"])
def test_storage_receives_no_credentials(login: str) -> None:
    """The storage gets the signed URL unchanged, and no header that identifies the client's account."""
    with Server([http(200, b"x", "Set-Cookie: a=b")]) as storage:
        with client_of(listing(signed(storage), signed(storage)), login=login) as client:
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


def test_chunks_are_yielded_as_they_arrive() -> None:
    """A chunk is yielded once it is complete. Closing the iterator closes the connection."""
    hung_up: list[bool] = []

    def slowly(server: Server, connection: socket.socket, _: Received) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {3 * CHUNK}\r\n\r\n".encode() + b"x" * CHUNK)
        hung_up.append(connection.recv(1) == b"")

    with Server([slowly]) as storage, client_of(listing(signed(storage)), timeout=30.0) as client:
        (file,) = [next(iter_log_files(client, CALL, 9 * CHUNK))]
        assert next(file.chunks) == b"x" * CHUNK
        file.chunks.close()  # type: ignore[attr-defined]
        wait_until(lambda: hung_up)
    assert hung_up == [True]


def test_large_log_file_is_read_in_bounded_memory() -> None:
    """At most some chunks of a file are in memory."""

    def much(server: Server, connection: socket.socket, _: Received) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {64 * CHUNK}\r\n\r\n".encode())
        piece = bytes(CHUNK)
        for _number in range(64):
            connection.sendall(piece)

    with Server([much]) as storage, client_of(listing(signed(storage))) as client:
        tracemalloc.start()
        read_in_all = sum(len(chunk) for file in iter_log_files(client, CALL, 64 * CHUNK) for chunk in file.chunks)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert read_in_all == 64 * CHUNK
    assert most < 8 * CHUNK


@pytest.mark.parametrize(("bound", "readable"), [(6, True), (5, False)])
def test_max_bytes_bounds_the_sum_of_all_files(bound: int, readable: bool) -> None:
    """The error names the argument."""
    with Server([http(200, b"abc")]) as storage, client_of(listing(signed(storage), signed(storage))) as client:
        files = iter_log_files(client, CALL, bound)
        if readable:
            assert len(content(files)) == 2
        else:
            with pytest.raises(
                PolytomicResponseError, match=r"log file 2 exceeds the limit: .* more than the 5 bytes of max_b"
            ):
                content(files)


# --- errors without the URL


def refusal(status: int, *headers: str) -> Reply:
    """An error of the storage that quotes the signed query."""
    return http(status, f"<Error><StringToSign>{QUERY}</StringToSign></Error>".encode(), *headers)


REFUSED = "HTTP {}: log file 1 cannot be read from its storage"
FAILURES: dict[str, tuple[Script, str]] = {
    "expired": (refusal(403), REFUSED.format(403)),
    "gone": (refusal(404), REFUSED.format(404)),
    "busy": (refusal(503), REFUSED.format(503)),
    "redirect": (refusal(302, f"Location: http://elsewhere/x?{QUERY}"), REFUSED.format(302)),
    "part": (refusal(206), REFUSED.format(206)),
    "reset": (Reply(then="reset"), "closed the connection without a response"),
    "half": (http(200, b"x", length=9, then="close"), "closed the connection in the middle of the response"),
    "hangs": (Reply(then="hold"), "did not respond within 0.2 s"),
    "stops": (http(200, b"x", length=9, then="hold"), "did not respond within 0.2 s"),
    "not HTTP": (Reply(b"SSH-2.0\r\n\r\n", then="close"), "closed the connection|is not HTTP"),
    "not packed": (http(200, b"no gzip", "Content-Encoding: gzip"), "the response body cannot be decoded"),
    "not chunks": (
        Reply(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{QUERY}\r\n".encode(), then="close"),
        "in the middle of the response",
    ),
}


def shown(error: BaseException) -> str:
    """Everything that could be printed of an error."""
    return "".join([str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)])


Fail = Callable[[str, Client], PolytomicError]


@pytest.fixture
def fails(caplog: pytest.LogCaptureFixture) -> Fail:
    """Read a log file, which fails. Neither the error nor the log may contain secrets."""

    def fails(url: str, client: Client) -> PolytomicError:
        with caplog.at_level(logging.DEBUG), pytest.raises(PolytomicError) as caught:
            content(iter_log_files(client, CALL, 100))
        output = shown(caught.value) + caplog.text + repr(caplog.records)
        assert url not in output
        for secret in (SIGNATURE, "s3cr3t", "X-Signature", "StringToSign", KEY):
            assert secret not in output
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        assert str(caught.value).startswith("GET /api/bulk/syncs/s/executions/e/logs: ")
        return caught.value

    return fails


@pytest.mark.parametrize("name", FAILURES)
def test_storage_error_does_not_contain_the_url(fails: Fail, name: str) -> None:
    """The error names the failure and the file, and quotes nothing from the storage."""
    script, says = FAILURES[name]
    timeout = 0.2 if "0.2 s" in says else 60.0
    with Server([script]) as storage, client_of(listing(signed(storage)), timeout=timeout) as client:
        error = fails(signed(storage), client)

    assert [part for part in says.split("|") if part in str(error)], error
    assert "log file 1" in str(error)


def test_refused_connection_to_the_storage_names_its_host(fails: Fail) -> None:
    """The error names the host."""
    with closed_address() as host:
        url = f"http://{host}/log.json?{QUERY}"
        with client_of(listing(url)) as client:
            error = fails(url, client)
    assert isinstance(error, PolytomicUnreachableError)
    assert f"log file 1: the connection to {host} was refused" in str(error)


def test_unreachable_storage_reports_the_system_error_only(fails: Fail) -> None:
    """The library's message contains the URL. The error has only the operating system's message."""
    url = f"http://255.255.255.255/log.json?{QUERY}"
    with client_of(listing(url)) as client:
        error = fails(url, client)
    assert re.search(r"log file 1: 255\.255\.255\.255: [A-Z][a-z ]+$", str(error))


def test_unresolvable_storage_names_its_host(fails: Fail) -> None:
    """The error names the host."""
    url = f"https://me:pass-word@storage.invalid/log.json?{QUERY}"
    with client_of(listing(url)) as client:
        error = fails(url, client)
    assert "the host name of storage.invalid cannot be resolved" in str(error)
    assert "pass-word" not in shown(error)


@pytest.mark.parametrize(
    "url", [f"ftp://h/x?{QUERY}", f"/relative?{QUERY}", f"http://[h/x?{QUERY}", f"http:///x?{QUERY}"]
)
def test_invalid_log_file_url_is_an_unreachable_error(fails: Fail, url: str) -> None:
    """The error does not contain the URL."""
    with client_of(listing(url)) as client:
        assert isinstance(fails(url, client), PolytomicUnreachableError)


def test_proxy_refusal_names_the_proxy(fails: Fail) -> None:
    """The error says that the proxy refused."""
    url = f"https://storage.invalid/log.json?{QUERY}"
    with Server([http(403)]) as proxy, Server([listing(url)]) as api:
        settings = Settings(api.url, KEY, proxy=f"http://me:pass-word@{proxy.host}", timeout=5.0)
        proxy.script = [api.script[0], http(403)]
        with Client(settings) as client:
            error = fails(url, client)
    assert f"the proxy {proxy.host} refused the request: 403" in str(error)
    assert "pass-word" not in shown(error)


def test_successful_read_does_not_log_the_url(caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 logs requests to the API, but not those to the storage. Its log filters are restored."""
    caplog.set_level(logging.DEBUG)
    with Server([http(200, b"x")]) as storage, client_of(listing(signed(storage))) as client:
        content(iter_log_files(client, CALL, 9))
    assert "/api/bulk/syncs/s/executions/e/logs" in caplog.text
    assert "bucket" not in caplog.text
    assert logging.getLogger("urllib3.connectionpool").filters == []


def test_log_file_repr_does_not_contain_the_url() -> None:
    """The repr of the response that lists the files does not contain it either."""
    with Server([http(200, b"x")]) as storage, client_of(listing(signed(storage))) as client:
        (file,) = iter_log_files(client, CALL, 9)
        assert repr(file) == "LogFile(name='1-log.json')"
        assert "s3cr3t" not in repr(client.call(CALL))


# --- TLS and proxies


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def test_storage_uses_the_tls_settings_of_the_connection(trusted: Authority, fails: Fail) -> None:
    """The CA bundle and `verify` apply to the storage as well, without a further warning."""
    with Server([http(200, b"x")], tls=trusted.context) as storage:
        url = signed(storage)
        with client_of(listing(url), ca_bundle=str(trusted.bundle)) as client:
            assert content(iter_log_files(client, CALL, 9)) == {"1-log.json": b"x"}
        with client_of(listing(url)) as client:
            assert f"the certificate of {storage.host} is not trusted" in str(fails(url, client))
        with client_of(listing(url), verify=False) as client, warnings.catch_warnings():
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
def test_storage_uses_the_proxy_settings_of_the_connection(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None, through: list[str]
) -> None:
    """A proxy of the connection serves both hosts. A proxy of the environment is chosen per host."""
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
