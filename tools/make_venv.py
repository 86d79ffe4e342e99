"""Make a virtual environment with this package and the given requirements, unless it is up to date.

    python tools/make_venv.py FOLDER [ARGUMENT OF `uv pip install` ...]

Needs only Python: pip installs uv, which installs Airflow in seconds. The environment is rebuilt when pyproject.toml,
the arguments or the Python have changed, or when the last build did not finish. Concurrent calls wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 10)


def main() -> None:
    if sys.version_info < OLDEST:
        version = ".".join(map(str, sys.version_info[:3]))
        needed = ".".join(map(str, OLDEST))
        sys.exit(f"Python {needed} or newer is required, but this is {version}. Use make … PYTHON=/path/to/python3")
    folder, *arguments = sys.argv[1:]
    venv = ROOT / folder
    lock = ROOT / ".cache" / f"{folder.strip('.')}.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        current = fingerprint(arguments)
        stamp = venv / "fingerprint"
        if not stamp.exists() or stamp.read_text() != current:
            try:
                make(venv, ["--editable", str(ROOT), *arguments])
            except subprocess.CalledProcessError as error:
                sys.exit(f"Cannot make {folder}: {' '.join(error.cmd)} exited with {error.returncode}")
            stamp.write_text(current)


def fingerprint(arguments: list[str]) -> str:
    parts = [sys.version, sys.executable, str(ROOT), *arguments, (ROOT / "pyproject.toml").read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def make(venv: Path, requirements: list[str]) -> None:
    """Rebuild the environment with arguments of `uv pip install`."""
    print(f"Making {venv.name} with Python {sys.version.split()[0]}, Airflow and this package", flush=True)
    run(sys.executable, "-m", "venv", "--clear", venv)
    python = venv / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
    # Compiled once here; otherwise each of Airflow's components, which start together, would compile.
    install = ["pip", "install", "--quiet", "--python", python, "--compile-bytecode", *requirements]
    run(venv / "bin" / "uv", *install, env=pip_index_environment(python))


def pip_index_environment(python: Path) -> dict[str, str]:
    """Return the environment that makes uv use the package index of pip's settings, which uv does not read."""
    listed = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = dict(line.split("=", 1) for line in listed.stdout.splitlines())
    for name in (":env:.index-url", "site.index-url", "user.index-url", "global.index-url"):
        if name in settings:
            return {"UV_DEFAULT_INDEX": settings[name].strip("'\"")}
    return {}


def run(*command: object, env: dict[str, str] | None = None) -> None:
    subprocess.run([*map(str, command)], cwd=ROOT, check=True, env={**(env or {}), **os.environ})


if __name__ == "__main__":
    main()
