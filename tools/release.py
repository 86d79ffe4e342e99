"""Whether what is here is the release that a tag says: its version, with a date in the changelog.

python -m tools.release v0.1.0
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_polytomic import __version__

ROOT = Path(__file__).parent.parent
CHANGELOG = ROOT / "CHANGELOG.md"


@dataclass(frozen=True)
class Release:
    """A section of the changelog."""

    version: str
    date: str  # or "unreleased"
    text: str

    @property
    def is_out(self) -> bool:
        return self.date != "unreleased"


def releases(changelog: str) -> list[Release]:
    """The sections of a changelog, the newest first."""
    parts = re.split(r"^## (\S+) \((\S+)\)$", changelog, flags=re.MULTILINE)[1:]
    return [Release(*parts[at : at + 3]) for at in range(0, len(parts), 3)]


def wrong(tag: str, changelog: str, version: str = __version__) -> str | None:
    """Why a tag does not fit; None: it does."""
    if tag != f"v{version}":
        return f"the tag is {tag}, and the version in airflow_provider_polytomic/__init__.py is {version}"
    newest = releases(changelog)[0]
    if newest.version != version or not newest.is_out:
        is_of = f"{newest.version}, {newest.date}"
        return f"the first section of CHANGELOG.md must be `## {version} (the day)`, and is of {is_of}"
    return None


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    why = wrong(sys.argv[1], CHANGELOG.read_text(encoding="utf-8"))
    print(why or f"{__version__} can be released")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
