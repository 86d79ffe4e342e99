"""See to it that there is a Chromium for the tests in the browser.

    python -m tools.chromium

As root on a Debian that has none, its package is installed; anywhere else it says what to do. The environment variable
CHROMIUM names another one than those that Linux distributions have.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")  # Debian's, others', Google's
ADVICE = """No Chromium was found, which `make test-ui` needs. Install it (on Debian and Ubuntu, as root:
apt-get install chromium), or name one that you have: make test-ui CHROMIUM=/path/to/chromium"""


def find() -> str | None:
    """The path of the Chromium to use."""
    named = os.environ.get("CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


def main() -> int:
    if find() is None and not os.environ.get("CHROMIUM") and shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing Chromium (apt-get install chromium)", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            if subprocess.run(["apt-get", "-q", *command], check=False, **quiet).returncode != 0:
                break
    if find() is None:
        print(ADVICE, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
