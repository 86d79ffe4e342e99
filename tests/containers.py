"""Runs a Python script as a container would: read-only files, a random user without an entry or a home.

Only one folder is writable, and everything that the script tries to write elsewhere is recorded. Python's own caches
of compiled modules don't count.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

USER = 1_234_567  # no user of any machine has this id
ROOT = Path(__file__).parent.parent

# Mounts keep their contents, but nothing can be written to them, except to the folder.
ISOLATE = """
set -e
mount -t tmpfs -o mode=0777 tmpfs "$FOLDER"
for mount in $(cut -d ' ' -f 2 /proc/self/mounts | tac); do
    case $mount in /proc*|/sys*|"$FOLDER") ;; *) mount -o remount,bind,ro "$mount" ;; esac
done
exec "$@"
"""
# Reading every file is allowed, because the interpreter may be in a folder that only root can read. Nothing else is.
DROP = [
    "setpriv",
    f"--reuid={USER}",
    f"--regid={USER}",
    "--clear-groups",
    "--no-new-privs",
    "--bounding-set=-all,+dac_read_search",
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
]

RECORD_WRITES = """
import json, os, sys

_writes = []
_folder = os.environ["FOLDER"]
_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
            "os.chown", "tempfile.mkstemp", "tempfile.mkdtemp"}

def _record(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, int) or not flags & _FLAGS:
            return
    elif event in _CHANGES:
        path = arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0]
    else:
        return
    path = os.path.abspath(os.fsdecode(path))
    if not path.startswith((_folder, "/dev/null")) and "__pycache__" not in path:
        _writes.append(f"{event} {path}")

sys.addaudithook(_record)
"""
REPORT = '\nprint(json.dumps({"user": os.getuid(), "home": os.environ.get("HOME"), "writes": _writes}))\n'


def why_impossible() -> str | None:
    """Return why this machine can't run a container; None if it can."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None or shutil.which("unshare") is None:
        return "needs root, unshare, and setpriv"
    probe = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return f"the machine does not allow mounts: {probe.stderr.decode()}" if probe.returncode else None


def run_in_container(script: str, folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script.

    The last line of its output is a report, a JSON object with the user's id, the home directory, and what the
    script tried to write outside of ``folder``.

    :param folder: the only writable folder, also for temporary files, which Airflow 3 requires. It is empty.
    :param env: the complete environment, apart from what Python needs.
    """
    python = [sys.executable, "-c", RECORD_WRITES + textwrap.dedent(script) + REPORT]
    return subprocess.run(
        ["unshare", "--mount", "--propagation=private", "sh", "-c", ISOLATE, "sh", *DROP, *python],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "FOLDER": str(folder), "TMPDIR": str(folder), **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
