"""Golden files in tests/golden, never edited by hand: what each release writes to databases, and its public names.

    tests/golden/written/0.1.0.json    what it writes: trigger rows, XComs, stored starts, keys
    tests/golden/public/0.1.0.json     its public names and their defaults

A release has a file only if it differs from the previous one. `make golden` writes that of the current version, while
it is unreleased in CHANGELOG.md.
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
    """The golden files of one kind.

    :param kind: the name of their folder.
    :param version: the current version.
    """

    def __init__(
        self, kind: str, golden: Path = GOLDEN, changelog: Path = CHANGELOG, version: str = __version__
    ) -> None:
        self._folder = golden / kind
        self._changelog = changelog
        self._version = version

    @property
    def files(self) -> list[Path]:
        """The golden files, oldest first."""
        return sorted(self._folder.glob("*.json"), key=lambda path: Version(path.stem))

    @property
    def is_released(self) -> bool:
        """Whether the current version has been released."""
        sections = parse_releases(self._changelog.read_text(encoding="utf-8"))
        return any(section.is_released for section in sections if section.version == self._version)

    def previous(self) -> Any:
        """The content of the release previous the current version; None if there is none."""
        older = [path for path in self.files if Version(path.stem) < Version(self._version)]
        return json.loads(older[-1].read_text()) if older else None

    def check(self, current: Any, *, write: bool = "GOLDEN" in os.environ) -> None:
        """Compare the current content with the newest file, or write it for `make golden`."""
        text = json.dumps(current, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        if self.files and json.loads(self.files[-1].read_text()) == json.loads(text):
            return
        if not write:
            newest = self.files[-1].read_text() if self.files else ""
            assert newest == text, (
                "The golden data has changed. If data of older releases can still be read and CHANGELOG.md describes "
                "the change, run `make golden`."
            )
        if self.is_released:
            pytest.fail(f"{self._version} is released, so its golden file cannot change: increase the version first")
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{self._version}.json").write_text(text, encoding="utf-8")
