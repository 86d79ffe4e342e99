"""Check that a tag matches the version of the package and the first section of the changelog.

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
    def is_released(self) -> bool:
        return self.date != "unreleased"


def parse_releases(changelog: str) -> list[Release]:
    """Return the sections of a changelog, newest first."""
    parts = re.split(r"^## (\S+) \((\S+)\)$", changelog, flags=re.MULTILINE)[1:]
    return [Release(*parts[at : at + 3]) for at in range(0, len(parts), 3)]


def check_tag(tag: str, changelog: str, version: str = __version__) -> str | None:
    """Return why a tag cannot be released, or None if it can."""
    if tag != f"v{version}":
        return f"The tag is {tag}, but the version in airflow_provider_polytomic/__init__.py is {version}."
    newest = parse_releases(changelog)[0]
    if newest.version != version or not newest.is_released:
        found = f"{newest.version} ({newest.date})"
        return f"The first section of CHANGELOG.md must be `## {version} (date)`, but it is `## {found}`."
    return None


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    problem = check_tag(sys.argv[1], CHANGELOG.read_text(encoding="utf-8"))
    print(problem or f"Version {__version__} can be released.")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
