"""The sandbox's command line, its HTTP server, and the pytest fixture for users' tests."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE
from airflow_provider_polytomic.sandbox.server import Server

from .conftest import BULK

pytest_plugins = ["pytester"]
HEADERS = {"Authorization": "Bearer sandbox", "X-Polytomic-Version": "2025-09-18"}
COMMAND = [sys.executable, "-m", "airflow_provider_polytomic.sandbox"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    server = Server(sandbox)
    yield sandbox
    server.close()


def connect(sandbox: Sandbox) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=10)


def run(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


# the command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_a_signal(number: signal.Signals) -> None:
    """The first line has address and key; a signal ends it at once without output, even with a client connected."""
    process = run("--port", "0", "--speed", "1000")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"Polytomic sandbox at http://127\.0\.0\.1:(\d+), API key: sandbox\n", line)
        assert match, line
        assert SALESFORCE_TO_WAREHOUSE in process.stdout.readline()
        client = http.client.HTTPConnection("127.0.0.1", int(match[1]), timeout=10)
        client.request("GET", "/api/me", headers=HEADERS)
        assert client.getresponse().read()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
        client.close()
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, errors) == (0, "")


def test_port_in_use_is_a_one_line_error() -> None:
    """No traceback, and exit code 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = run("--port", str(port))
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (1, "")
    assert errors == f"Cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_invalid_seed_is_a_one_line_error(tmp_path: Path) -> None:
    """File and field are named, and the exit code is 2."""
    path = tmp_path / "seed.yaml"
    path.write_text("bulk_syncs: [{name: s, schemas: [a], colour: red}]")
    process = run("--seed", str(path))
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (2, "")
    assert errors.startswith(f"Invalid seed: {path}: bulk_syncs[0].colour: unknown field")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--port", "70000"], ["--speed", "0"], ["--speed", "nan"]])
def test_invalid_arguments_are_rejected(arguments: list[str]) -> None:
    """argparse names the invalid argument."""
    process = run(*arguments)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"argument {arguments[0]}" in errors


def test_help_lists_the_syncs_of_the_default_seed() -> None:
    """With their ids, which a first DAG needs."""
    output, _ = run("--help").communicate(timeout=30)
    assert f"({SALESFORCE_TO_WAREHOUSE})" in "".join(output.split())


def test_sandbox_imports_no_airflow_and_no_http_library() -> None:
    """It imports YAML only for a seed in YAML."""
    heavy = {"airflow", "requests", "aiohttp", "yaml", "pydantic", "pytest"}
    code = (
        "import sys, airflow_provider_polytomic.sandbox.__main__\n"
        f"print({heavy!r} & {{name.split('.')[0] for name in sys.modules}})"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert output.stdout.strip() == "set()"


# the server


def test_server_keeps_connections_open(sandbox: Sandbox) -> None:
    """Many requests, with and without bodies, use one socket."""
    client = connect(sandbox)
    client.connect()
    first = client.sock
    for method, path, body, status in [
        ("GET", "/api/me", None, 200),
        ("POST", f"{BULK}/executions", b"{}", 200),
        ("GET", "/api/nothing", None, 404),
        ("DELETE", BULK, None, 204),
        ("GET", "/api/me", None, 200),
    ]:
        client.request(method, path, body, HEADERS)
        answer = client.getresponse()
        answer.read()
        assert answer.status == status
    assert client.sock is first
    client.close()


def test_server_listens_on_loopback_only(sandbox: Sandbox) -> None:
    """It has no other listening address."""
    assert sandbox.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(("drop", "started"), [("drop_before", 0), ("drop_after", 1)])
def test_dropped_request_closes_the_connection(sandbox: Sandbox, drop: str, started: int) -> None:
    """The client receives no byte of a response."""
    getattr(sandbox.faults, drop)("POST .*")
    client = connect(sandbox)
    client.request("POST", f"{BULK}/executions", b"{}", HEADERS)
    with pytest.raises(http.client.RemoteDisconnected):
        client.getresponse()
    client.close()
    assert len(sandbox.starts(SALESFORCE_TO_WAREHOUSE)) == started


def test_truncated_response_closes_the_connection_early(sandbox: Sandbox) -> None:
    """The body is shorter than its Content-Length."""
    sandbox.faults.garbage("truncated")
    client = connect(sandbox)
    client.request("GET", "/api/me", headers=HEADERS)
    answer = client.getresponse()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    client.close()


def start(sandbox: Sandbox, key: str, answers: list[tuple[int, bytes]]) -> None:
    client = connect(sandbox)
    client.request("POST", f"{BULK}/executions", b"{}", {**HEADERS, "Idempotency-Key": key})
    answer = client.getresponse()
    answers.append((answer.status, answer.read()))
    client.close()


def at_once(sandbox: Sandbox, keys: list[str]) -> list[tuple[int, bytes]]:
    answers: list[tuple[int, bytes]] = []
    threads = [threading.Thread(target=start, args=(sandbox, key, answers)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return answers


def test_server_handles_requests_while_one_is_delayed() -> None:
    """A second request with the same key gets a 409, and the first still starts an execution."""
    held, go_on = threading.Event(), threading.Event()

    def hold(seconds: float) -> None:
        if seconds:
            held.set()
            go_on.wait(10)

    sandbox = Sandbox(sleep=hold)
    server = Server(sandbox)
    sandbox.faults.delay(1, "POST .*/executions")
    first: list[tuple[int, bytes]] = []
    thread = threading.Thread(target=start, args=(sandbox, "held-by-a-delay", first))
    thread.start()
    assert held.wait(10)
    assert [status for status, _ in at_once(sandbox, ["held-by-a-delay"])] == [409]
    assert first == []
    go_on.set()
    thread.join(10)
    assert [status for status, _ in first] == [200]
    assert len(sandbox.starts(SALESFORCE_TO_WAREHOUSE)) == 1
    server.close()


def test_concurrent_starts_start_one_execution(sandbox: Sandbox) -> None:
    """Of twenty keys one gets an execution; of twenty requests with one key all that succeed get the same one."""
    different = at_once(sandbox, [f"different-{number}" for number in range(20)])
    assert sorted(status for status, _ in different) == [200] + [409] * 19
    (execution,) = sandbox.starts(SALESFORCE_TO_WAREHOUSE)
    sandbox.finish(SALESFORCE_TO_WAREHOUSE, execution.id)
    same = at_once(sandbox, ["all-the-same"] * 20)
    assert len({body for status, body in same if status == 200}) == 1
    assert {status for status, _ in same} <= {200, 409}
    assert len(sandbox.starts(SALESFORCE_TO_WAREHOUSE)) == 2


def test_close_leaves_no_thread_and_no_port() -> None:
    """Even with a client connected and a request delayed."""
    before = set(threading.enumerate())
    sandbox = Sandbox()
    server = Server(sandbox)
    idle = connect(sandbox)
    idle.request("GET", "/api/me", headers=HEADERS)
    idle.getresponse().read()
    sandbox.faults.delay(3600)
    held = connect(sandbox)
    held.request("GET", "/api/me", headers=HEADERS)
    while not sandbox.faults._faults[0].hits:
        time.sleep(0.01)
    begin = time.monotonic()
    server.close()
    assert time.monotonic() - begin < 2
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        connect(sandbox).connect()
    idle.close()
    held.close()


def test_client_that_disconnects_causes_no_error(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed, and the next client is served."""
    sandbox.faults.delay(0.1, after=True)
    for _ in range(2):
        with socket.create_connection(sandbox.url.removeprefix("http://").split(":")) as client:  # type: ignore[arg-type]
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # closing resets
            client.sendall(b"GET /api/me HTTP/1.1\r\nHost: x\r\n\r\n")
    while len(sandbox.requests) < 2:
        time.sleep(0.01)
    with urlopen(Request(f"{sandbox.url}/api/me", headers=HEADERS), timeout=10) as answer:
        assert answer.status == 200
    assert capfd.readouterr() == ("", "")


# the fixture


def test_fixture_provides_a_sandbox_and_its_connection(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test gets a sandbox with its own seed and speed behind the default connection."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["airflow_provider_polytomic.sandbox.pytest_plugin"]')
    pytester.makepyfile(
        """
        import json, os, threading, urllib.request
        import pytest

        @pytest.fixture
        def polytomic_sandbox_seed():
            return {"key": "other", "bulk_syncs": [{"name": "s", "id": "one", "schemas": ["a"], "duration": 1}]}

        @pytest.fixture
        def polytomic_sandbox_speed():
            return 1e6

        @pytest.mark.parametrize("turn", [1, 2])
        def test_it(polytomic_sandbox, turn):
            connection = json.loads(os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"])
            assert connection == {"conn_type": "polytomic", "host": polytomic_sandbox.url, "password": "other"}
            request = urllib.request.Request(
                polytomic_sandbox.url + "/api/bulk/syncs/one/executions",
                b"{}",
                {"Authorization": "Bearer " + polytomic_sandbox.key},
            )
            with urllib.request.urlopen(request) as answer:
                execution = json.load(answer)["data"]
            assert [item.id for item in polytomic_sandbox.starts("one")] == [execution["id"]]
            assert polytomic_sandbox.status(execution["id"]) == "completed"

        def test_nothing_is_left():
            assert "AIRFLOW_CONN_POLYTOMIC_DEFAULT" not in os.environ
            assert threading.active_count() == 1
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    result.assert_outcomes(passed=3)
