"""Find Chromium for the browser tests, or install it.

    python -m tools.chromium

As root on Debian without Chromium, this installs its package; elsewhere it prints what to do. The environment variable
CHROMIUM names an executable other than those of Linux distributions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")  # on Debian, on other distributions, and Google Chrome
ADVICE = """Chromium was not found, but `make test-ui` needs it. Install it (on Debian and Ubuntu, as root:
apt-get install chromium), or name an executable: make test-ui CHROMIUM=/path/to/chromium"""


def find() -> str | None:
    """Return the path of Chromium, or None if there is none."""
    configured = os.environ.get("CHROMIUM")
    return shutil.which(configured) if configured else next(filter(None, map(shutil.which, NAMES)), None)


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
