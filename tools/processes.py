"""Start processes that cannot outlive their parent, and look at them.

Airflow's components start processes of their own, which may leave their parent's process group, so killing a group is
not enough. Therefore every process started here carries a mark in its environment, which its descendants inherit, and a
small guard process kills whatever bears the mark when its parent is gone: after a normal end, an exception, or a
`kill -9`. The guard learns of the parent's end by a pipe, which the kernel closes, whatever the parent died of.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "LOCAL_AIRFLOW_MARK"
PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    session: int
    command: str


@dataclass(frozen=True)
class Listener:
    pid: int
    address: str
    port: int

    @property
    def is_loopback(self) -> bool:
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


class Family:
    """The processes of one mark, and the guard that ends them together with `scratch`, a folder of theirs."""

    def __init__(self, mark: str, scratch: Path) -> None:
        self.mark = mark
        self._started: list[subprocess.Popen[bytes]] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-I", __file__, mark, str(scratch)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            # Not the caller's: whoever reads our output to its end would wait for the guard, too.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def spawn(self, command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, so that a Ctrl-C at the terminal reaches the parent alone."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env={**env, MARK: self.mark, "SPT_NOENV": "1"},  # setproctitle would write over the environment
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{process.pid}\n".encode())
        self._guard.stdin.flush()
        return process

    def processes(self) -> list[Process]:
        return marked(self.mark)

    def end(self) -> None:
        """Kill what is left and remove the scratch folder; returns when that is done."""
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            # Said aloud: a process that was forked from ours may hold the pipe open, too.
            self._guard.stdin.write(b"end\n")
            self._guard.stdin.close()
        self._guard.wait()
        for process in self._started:
            process.wait()


def _read_process(folder: Path) -> Process | None:
    """One entry of /proc; None for a process that has ended (a zombie has, too)."""
    try:
        stat = (folder / "stat").read_text()
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    # The second field is the name in brackets, and may itself hold brackets and spaces.
    state, parent, _group, session = stat.rpartition(")")[2].split()[:4]
    return None if state in "ZX" else Process(int(folder.name), int(parent), int(session), command)


def marked(mark: str) -> list[Process]:
    """All living processes with this mark, in the order of their ids. Needs /proc."""
    needle = f"{MARK}={mark}".encode()
    found = []
    for folder in PROC.glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or somebody else's
            continue
        if needle in environment and (process := _read_process(folder)):
            found.append(process)
    return sorted(found, key=lambda process: process.pid)


def descendants(pid: int, among: Iterable[Process]) -> list[Process]:
    """The process itself and what descends from it."""
    family: set[int] = {pid}
    rest = list(among)
    while more := {process.pid for process in rest if process.parent in family} - family:
        family |= more
    return [process for process in rest if process.pid in family]


def listeners(pids: Iterable[int]) -> list[Listener]:
    """The TCP sockets on which these processes listen, from /proc/net: no tool needs to be installed for it."""
    owner: dict[str, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in (PROC / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    target = os.readlink(descriptor)
                    if target.startswith("socket:["):
                        owner.setdefault(target[len("socket:[") : -1], pid)
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                local, state, inode = fields[1], fields[3], fields[9]
                if state == "0A" and inode in owner:  # 0A is LISTEN
                    address, port = local.split(":")
                    found.add(Listener(owner[inode], _address(address), int(port, 16)))
    return sorted(found, key=lambda listener: (listener.port, listener.pid, listener.address))


def _address(text: str) -> str:
    """The kernel writes addresses as 32-bit words in the machine's byte order."""
    words = [int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def _kill_all(mark: str, sessions: Iterable[int]) -> None:
    if not PROC.is_dir():
        # Elsewhere (macOS) there is no /proc: the groups must do.
        for session in sessions:
            with contextlib.suppress(OSError):
                os.killpg(session, signal.SIGKILL)
        return
    # Until two looks found nothing: a process may fork between the look and the kill.
    quiet = 0
    while quiet < 2:
        processes = marked(mark)
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        quiet = 0 if processes else quiet + 1
        time.sleep(0.1)


def _guard() -> None:
    mark, scratch = sys.argv[1:]
    sessions = []
    for line in sys.stdin:  # ends, too, when the parent is gone
        if line == "end\n":
            break
        sessions.append(int(line))
    _kill_all(mark, sessions)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    _guard()
