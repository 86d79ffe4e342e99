"""Processes that cannot outlive their parent. The tests need /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.processes import Family, Listener, find_descendants, find_listeners, find_marked

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")

ROOT = Path(__file__).parents[2]

# A child that leaves its parent's session and process group, and ignores polite signals.
STUBBORN_TREE = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
time.sleep(600)
"""


def eventually(what: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_end_of_a_family_kills_processes_in_other_sessions(tmp_path: Path) -> None:
    """Descendants in other sessions that ignore SIGTERM, and the folder, are gone when `end` returns."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    family = Family(uuid.uuid4().hex, scratch)
    process = family.spawn([sys.executable, "-c", STUBBORN_TREE], dict(os.environ), scratch / "log", scratch)
    assert eventually(lambda: len(family.processes()) == 3)
    assert len({member.session for member in family.processes()}) == 3

    family.end()

    assert family.processes() == []
    assert not scratch.exists()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_processes_end_when_a_signal_kills_their_parent(tmp_path: Path, sig: signal.Signals) -> None:
    """Their folder is removed, whatever the signal."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    mark = uuid.uuid4().hex
    parent_code = f"""
        import os, signal, sys, time
        from pathlib import Path
        from tools.processes import Family
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        scratch = Path({str(scratch)!r})
        family = Family({mark!r}, scratch)
        family.spawn([sys.executable, "-c", {STUBBORN_TREE!r}], dict(os.environ), scratch / "log", scratch)
        time.sleep(600)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(parent_code)], cwd=ROOT)
    try:
        assert eventually(lambda: len(find_marked(mark)) == 3)
    finally:
        parent.send_signal(sig)

    assert parent.wait() == -sig
    assert eventually(lambda: find_marked(mark) == [])
    assert eventually(lambda: not scratch.exists())


def test_end_of_a_family_leaves_other_families_running(tmp_path: Path) -> None:
    """The end of one of two families does not affect the other."""
    families = []
    for name in ("one", "two"):
        scratch = tmp_path / name
        scratch.mkdir()
        family = Family(uuid.uuid4().hex, scratch)
        family.spawn([sys.executable, "-c", "import time; time.sleep(600)"], dict(os.environ), scratch / "log", scratch)
        families.append(family)
    one, two = families
    assert eventually(lambda: len(one.processes()) == 1 and len(two.processes()) == 1)

    one.end()

    assert (len(one.processes()), len(two.processes())) == (0, 1)
    two.end()
    assert two.processes() == []


def test_find_descendants_follows_parents(tmp_path: Path) -> None:
    """Not sessions or groups."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    family = Family(uuid.uuid4().hex, scratch)
    try:
        tree = family.spawn([sys.executable, "-c", STUBBORN_TREE], dict(os.environ), scratch / "log", scratch)
        alone = family.spawn([sys.executable, "-c", "import time; time.sleep(600)"], {}, scratch / "log", scratch)
        assert eventually(lambda: len(family.processes()) == 4)
        assert alone.pid not in {process.pid for process in find_descendants(tree.pid, family.processes())}
        assert len(find_descendants(tree.pid, family.processes())) == 3
        assert [process.pid for process in find_descendants(alone.pid, family.processes())] == [alone.pid]
    finally:
        family.end()


@pytest.mark.parametrize(
    ("family", "address", "is_loopback"),
    [
        ("AF_INET", "127.0.0.1", True),
        ("AF_INET", "0.0.0.0", False),
        ("AF_INET6", "::1", True),
        ("AF_INET6", "::", False),
    ],
)
def test_find_listeners_distinguishes_loopback(family: str, address: str, is_loopback: bool) -> None:
    """A listening socket is found with its owner, its port and its address, for IPv4 and IPv6."""
    code = f"""
        import socket, sys
        with socket.socket(socket.{family}) as server:
            server.bind(({address!r}, 0))
            server.listen()
            print(server.getsockname()[1], flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            pytest.skip(f"this machine has no {family}")
        found = find_listeners([server.pid])
        server.communicate("")

    assert found == [Listener(server.pid, address, int(line))]
    assert found[0].is_loopback is is_loopback
