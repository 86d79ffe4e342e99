"""What each release has left in databases, and what it has promised: files in tests/golden, which are never edited.

    tests/golden/written/0.1.0.json    what it writes: rows of triggers, XComs, notes, keys
    tests/golden/public/0.1.0.json     its public names and their defaults

A release has a file only if it differs from the one before. `make golden` writes that of the version in hand, as long
as CHANGELOG.md calls it unreleased.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from airflow_provider_polytomic import __version__
from tools.release import CHANGELOG, ROOT, parse_releases

GOLDEN = ROOT / "tests" / "golden"


class Golden:
    """The files of one kind.

    :param what: their folder.
    :param version: the version in hand.
    """

    def __init__(
        self, what: str, golden: Path = GOLDEN, changelog: Path = CHANGELOG, version: str = __version__
    ) -> None:
        self._folder = golden / what
        self._changelog = changelog
        self._version = version

    @property
    def files(self) -> list[Path]:
        """The oldest first."""
        return sorted(self._folder.glob("*.json"), key=lambda path: Version(path.stem))

    @property
    def is_out(self) -> bool:
        """Whether the version in hand has been released."""
        sections = parse_releases(self._changelog.read_text(encoding="utf-8"))
        return any(section.is_out for section in sections if section.version == self._version)

    def before(self) -> Any:
        """What the release before the version in hand left; None: there was none."""
        older = [path for path in self.files if Version(path.stem) < Version(self._version)]
        return json.loads(older[-1].read_text()) if older else None

    def check(self, today: Any, *, write: bool = "GOLDEN" in os.environ) -> None:
        """Today's code leaves what the newest file has; or else, for `make golden`, it is written."""
        told = json.dumps(today, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        if self.files and json.loads(self.files[-1].read_text()) == json.loads(told):
            return
        if not write:
            newest = self.files[-1].read_text() if self.files else ""
            assert newest == told, (
                "What this release leaves has changed. Is what older releases left still understood, and does "
                "CHANGELOG.md say so? Then `make golden` writes it down."
            )
        if self.is_out:
            pytest.fail(f"{self._version} is released, and its file stays as it is: raise the version first")
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{self._version}.json").write_text(told, encoding="utf-8")
