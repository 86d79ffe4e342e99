"""The section [polytomic] of Airflow's configuration."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic._airflow import configuration
from airflow_provider_polytomic.get_provider_info import CONFIG_OPTIONS, get_provider_info
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps({"conn_type": "polytomic", "password": "k"}))
    for option in CONFIG_OPTIONS:
        monkeypatch.delenv(variable(option), raising=False)
    configuration._parse_limit.cache_clear()


def variable(option: str) -> str:
    return f"AIRFLOW__POLYTOMIC__{option.upper()}"


@pytest.mark.parametrize("option", CONFIG_OPTIONS)
def test_client_settings_have_the_documented_defaults(option: str) -> None:
    """Without a value the default of the metadata applies."""
    assert getattr(PolytomicHook().settings(), option) == int(CONFIG_OPTIONS[option]["default"])


@pytest.mark.parametrize("option", CONFIG_OPTIONS)
@pytest.mark.parametrize(("text", "number"), [("7", 7), (" 8 ", 8), ("1", 1)])
def test_option_sets_the_client_settings(option: str, text: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be set by Airflow's environment variable."""
    monkeypatch.setenv(variable(option), text)

    assert getattr(PolytomicHook().settings(), option) == number


@pytest.mark.parametrize("option", CONFIG_OPTIONS)
@pytest.mark.parametrize("text", ["abc", "0", "-1", "1.5", "9" * 5000])
def test_invalid_option_is_ignored_with_one_warning(
    option: str, text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names the option. The default applies."""
    monkeypatch.setenv(variable(option), text)
    with caplog.at_level(logging.WARNING):
        found = [getattr(PolytomicHook().settings(), option) for _ in range(3)]

    assert found == [int(CONFIG_OPTIONS[option]["default"])] * 3
    assert caplog.text.count(f"The option {option} in the section [polytomic]") == 1


def test_batch_size_is_limited_to_what_a_request_can_contain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API's limit is 100."""
    monkeypatch.setenv(variable("triggerer_batch_size"), "5000")

    assert PolytomicHook().settings().triggerer_batch_size == 100


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `airflow config list` prints of the section."""
    folder = tmp_path_factory.mktemp("home")
    try:
        importlib.metadata.distribution("airflow-provider-polytomic")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("Airflow finds only installed providers")
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "config", "list", "--section", "polytomic", "--include-env-vars"],
        env={**os.environ, "AIRFLOW_HOME": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_airflow_lists_the_section(listed: str) -> None:
    """With each option and its environment variable. Values are hidden by default in the newest Airflow."""
    assert "[polytomic]" in listed.splitlines()
    for option in CONFIG_OPTIONS:
        assert re.search(rf"^(# )?{option} = ", listed, re.MULTILINE)
        assert f"# Variable: {variable(option)}" in listed


def test_metadata_of_the_section_matches_airflows_schema() -> None:
    """Airflow ignores a provider with invalid metadata."""
    import airflow

    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    info: dict[str, Any] = get_provider_info()

    jsonschema.validate({"config": info["config"]}, {**schema, "required": []})
