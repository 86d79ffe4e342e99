"""How the browser tests find Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import chromium


def executable(path: Path) -> Path:
    path.touch(mode=0o755)
    return path


def test_installed_chromium_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By any of the usual names."""
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium.find() is None
    installed = executable(tmp_path / "chromium-browser")
    assert chromium.find() == str(installed)
    assert chromium.main() == 0


def test_environment_variable_overrides_the_installed_chromium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes precedence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    executable(tmp_path / "chromium")
    mine = executable(tmp_path / "mine")
    monkeypatch.setenv("CHROMIUM", str(mine))
    assert chromium.find() == str(mine)


def test_missing_chromium_prints_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When there is none and none can be installed, or the configured one does not exist."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for named in ("", "/no/such/chromium"):
        monkeypatch.setenv("CHROMIUM", named)
        assert chromium.main() == 1
        assert "make test-ui CHROMIUM=" in capsys.readouterr().err
