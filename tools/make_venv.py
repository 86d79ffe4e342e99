"""Make a virtual environment with this package and what else is named, unless it is there already.

    python tools/make_venv.py FOLDER [ARGUMENT OF `uv pip install` ...]

Needs nothing but Python: pip fetches uv, which installs Airflow in seconds. It is made anew when pyproject.toml, the
arguments or the Python have changed, or when the last attempt was cut short. Two at once wait for each other.
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
        sys.exit(f"Python {needed} or newer is needed, this is {version}: make … PYTHON=/path/to/a/newer/python3")
    folder, *arguments = sys.argv[1:]
    venv = ROOT / folder
    lock = ROOT / ".cache" / f"{folder.strip('.')}.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        made_of = fingerprint(arguments)
        stamp = venv / "made-of"
        if not stamp.exists() or stamp.read_text() != made_of:
            try:
                make(venv, ["--editable", str(ROOT), *arguments])
            except subprocess.CalledProcessError as error:
                sys.exit(f"{folder} could not be made: {' '.join(error.cmd)} ended with {error.returncode}")
            stamp.write_text(made_of)


def fingerprint(arguments: list[str]) -> str:
    parts = [sys.version, sys.executable, str(ROOT), *arguments, (ROOT / "pyproject.toml").read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def make(venv: Path, requirements: list[str]) -> None:
    """Make the environment anew, with what `uv pip install` understands as requirements."""
    print(f"Making {venv.name} with Python {sys.version.split()[0]}: Airflow, this package, what they need", flush=True)
    run(sys.executable, "-m", "venv", "--clear", venv)
    python = venv / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
    # Compiled here once: the components of Airflow, started together, would otherwise each do it for themselves.
    install = ["pip", "install", "--quiet", "--python", python, "--compile-bytecode", *requirements]
    run(venv / "bin" / "uv", *install, env=index_of_pip(python))


def index_of_pip(python: Path) -> dict[str, str]:
    """Where pip has been told to use another package index, uv, which does not read pip's settings, uses it as well."""
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
