"""Where the tests in the browser find their Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import chromium


def executable(path: Path) -> Path:
    path.touch(mode=0o755)
    return path


def test_one_that_is_installed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have any of the usual names."""
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium.find() is None
    installed = executable(tmp_path / "chromium-browser")
    assert chromium.find() == str(installed)
    assert chromium.main() == 0


def test_one_that_is_named_is_used_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variable comes first."""
    monkeypatch.setenv("PATH", str(tmp_path))
    executable(tmp_path / "chromium")
    mine = executable(tmp_path / "mine")
    monkeypatch.setenv("CHROMIUM", str(mine))
    assert chromium.find() == str(mine)


def test_what_to_do_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When there is none, and none can be installed, or the one that is named is not there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for named in ("", "/no/such/chromium"):
        monkeypatch.setenv("CHROMIUM", named)
        assert chromium.main() == 1
        assert "make test-ui CHROMIUM=" in capsys.readouterr().err
