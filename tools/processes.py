"""Start processes that cannot outlive their parent, and inspect them.

Airflow's components start child processes that may leave their process group, so killing a group is not enough.
Therefore every process started here has a mark, an environment variable, which its descendants inherit. A small guard
process kills every process with the mark when the parent ends, whether normally, by an exception or by `kill -9`. The
guard detects that through a pipe, which the kernel closes when the parent ends.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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


@contextlib.contextmanager
def as_member(mark: str) -> Iterator[None]:
    """Give the mark to the processes that a library starts within the block."""
    os.environ[MARK] = mark
    try:
        yield
    finally:
        del os.environ[MARK]


class Family:
    """The processes with one mark, and the guard that kills them and removes `scratch`, their folder."""

    def __init__(self, mark: str, scratch: Path) -> None:
        self.mark = mark
        self._started: list[subprocess.Popen[bytes]] = []
        self._guard = subprocess.Popen(
            [sys.executable, "-I", __file__, mark, str(scratch)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            # Not inherited: a reader of the parent's output would wait for the guard to close it.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def spawn(self, command: Sequence[str], env: Mapping[str, str], log: Path, cwd: Path) -> subprocess.Popen[bytes]:
        """Start a process in its own session, so that a Ctrl-C in the terminal reaches only the parent."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env={**env, MARK: self.mark, "SPT_NOENV": "1"},  # keeps setproctitle from overwriting the environment
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

    def processes(self, **env: str) -> list[Process]:
        """Return all running processes of the family, or those with these variables in their environment."""
        return find_marked(self.mark, **env)

    def end(self) -> None:
        """Kill the remaining processes and remove the scratch folder, and wait until that is done."""
        assert self._guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            # An explicit message, because a forked process may also hold the pipe open.
            self._guard.stdin.write(b"end\n")
            self._guard.stdin.close()
        self._guard.wait()
        for process in self._started:
            process.wait()


def _read_process(folder: Path) -> Process | None:
    """Read one entry of /proc; None for a process that has ended, including zombies."""
    try:
        stat = (folder / "stat").read_text()
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    # The second field is the name in parentheses, and may itself contain parentheses and spaces.
    state, parent, _group, session = stat.rpartition(")")[2].split()[:4]
    return None if state in "ZX" else Process(int(folder.name), int(parent), int(session), command)


def find_marked(mark: str, **env: str) -> list[Process]:
    """Return all running processes with this mark, and with these variables, ordered by id. Needs /proc."""
    needles = {f"{name}={value}".encode() for name, value in {MARK: mark, **env}.items()}
    found = []
    for folder in PROC.glob("[0-9]*"):
        try:
            environment = set((folder / "environ").read_bytes().split(b"\0"))
        except OSError:  # ended meanwhile, or of another user
            continue
        if needles <= environment and (process := _read_process(folder)):
            found.append(process)
    return sorted(found, key=lambda process: process.pid)


def find_descendants(pid: int, among: Iterable[Process]) -> list[Process]:
    """Return a process and its descendants."""
    family: set[int] = {pid}
    candidates = list(among)
    while more := {process.pid for process in candidates if process.parent in family} - family:
        family |= more
    return [process for process in candidates if process.pid in family]


def find_listeners(pids: Iterable[int]) -> list[Listener]:
    """Return the TCP sockets on which these processes listen, read from /proc/net."""
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
                    found.add(Listener(owner[inode], _parse_address(address), int(port, 16)))
    return sorted(found, key=lambda listener: (listener.port, listener.pid, listener.address))


def _parse_address(text: str) -> str:
    """Parse an address of /proc/net: 32-bit words in the machine's byte order."""
    words = [int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8)]
    return str(ipaddress.ip_address(b"".join(words)))


def _kill_all(mark: str, sessions: Iterable[int]) -> None:
    if not PROC.is_dir():
        # Without /proc (macOS), the process groups have to suffice.
        for session in sessions:
            with contextlib.suppress(OSError):
                os.killpg(session, signal.SIGKILL)
        return
    # Until two scans find nothing, because a process may fork between the scan and the kill.
    empty_scans = 0
    while empty_scans < 2:
        processes = find_marked(mark)
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        empty_scans = 0 if processes else empty_scans + 1
        time.sleep(0.1)


def _guard() -> None:
    mark, scratch = sys.argv[1:]
    sessions = []
    for line in sys.stdin:  # also ends when the parent has ended
        if line == "end\n":
            break
        sessions.append(int(line))
    _kill_all(mark, sessions)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    _guard()
