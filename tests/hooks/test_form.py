"""The connection form on every version of Airflow that has forms."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest
from packaging.version import Version

from airflow_provider_polytomic.get_provider_info import EXTRA_FIELDS, get_provider_info
from airflow_provider_polytomic.hooks._connection import settings_from_connection
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

from .conftest import connection

ROOT = Path(__file__).parents[2]
version = Version(importlib.metadata.version("apache-airflow"))
IS_AIRFLOW_3, READS_METADATA = version.major >= 3, version.release >= (3, 2)
FIELDS = ["api_version", "timeout", "verify", "proxy", "max_retries", "ui_url"]
STANDARD = {
    "password": ("API key", "a user's key; with an organization id, a partner or deployment key"),
    "host": ("Base URL", "https://app.polytomic.com"),
    "login": ("Organization id", "only for a partner or deployment key: the organization it acts for"),
    "port": ("Port", "443, or as in the base URL"),
}
(TYPE,) = get_provider_info()["connection-types"]


def schema(name: str) -> Any:
    path = Path(airflow.__path__[0]) / name
    if not path.exists():
        pytest.skip(f"this Airflow has no {name}")
    return json.loads(path.read_text())


def test_metadata_matches_the_schema_of_airflow() -> None:
    """The one for provider information at run time."""
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


def test_connection_type_matches_the_schema_of_airflow() -> None:
    """It includes fields since Airflow 3.2."""
    types = schema("provider.yaml.schema.json")["properties"]["connection-types"]
    if READS_METADATA:
        assert "conn-fields" in types["items"]["properties"]
    jsonschema.validate([TYPE], types)


def test_ui_field_behavior_matches_the_schema_of_airflow() -> None:
    """For Airflow before 3.2."""
    jsonschema.validate(PolytomicHook.get_ui_field_behaviour(), schema("customized_form_field_behaviours.schema.json"))


def test_every_setting_in_extra_has_a_field() -> None:
    """It has a label, a description and a placeholder."""
    assert list(TYPE["conn-fields"]) == list(EXTRA_FIELDS) == FIELDS
    for field in EXTRA_FIELDS.values():
        assert field["label"]
        assert field["placeholder"]
        assert "Default: " in field["description"]


@pytest.mark.parametrize("name", FIELDS)
def test_placeholder_is_a_valid_value(name: str) -> None:
    """Of its own field."""
    assert settings_from_connection(connection(extra={name: EXTRA_FIELDS[name]["placeholder"]}))


def test_extra_is_hidden_only_if_its_settings_have_fields() -> None:
    """Otherwise they could not be edited."""
    behavior = PolytomicHook.get_ui_field_behaviour()
    widgets = PolytomicHook.get_connection_form_widgets()
    assert list(widgets) in ([], FIELDS)
    assert ("extra" in behavior["hidden_fields"]) is bool(widgets)
    assert "schema" in behavior["hidden_fields"]
    assert (
        "port" not in behavior["hidden_fields"]
    )  # the Test button of Airflow 3.3.2 rejects stored connections without one


def test_ui_field_behavior_does_not_modify_the_metadata() -> None:
    """It is a copy."""
    before = json.dumps(get_provider_info())
    PolytomicHook.get_ui_field_behaviour()
    assert json.dumps(get_provider_info()) == before


READ_FORM = """
import json, sys
from airflow.providers_manager import ProvidersManager
try:
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
except ImportError:
    manager = ProvidersManager()
    widgets, behaviour = manager.connection_form_widgets, manager.field_behaviours["polytomic"]
    prefix = "extra__polytomic__"
    form = {
        "hidden": behaviour["hidden_fields"],
        "standard": {
            name: [behaviour["relabeling"].get(name), behaviour["placeholders"].get(name)]
            for name in ("password", "host", "login", "port")
        },
        "extra": {
            name.removeprefix(prefix): [
                str(widget.field.args[0]), widget.field.kwargs["description"],
                widget.field.field_class.__name__ == "PasswordField", behaviour["placeholders"].get(name),
            ]
            for name, widget in widgets.items() if name.startswith(prefix)
        },
    }
else:
    (meta,) = (item for item in HookMetaService.hook_meta_data() if item.connection_type == "polytomic")
    standard = meta.standard_fields.model_dump() if meta.standard_fields else None
    form = {
        "hidden": standard and [name for name, field in standard.items() if field and field["hidden"]],
        "standard": standard and {
            name: [standard[name]["title"], standard[name]["placeholder"]]
            for name in ("password", "host", "login", "port")
        },
        "extra": meta.extra_fields and {
            name: [
                field["schema"]["title"], field["description"], field["schema"].get("format") == "password",
                field["schema"]["type"],
            ]
            for name, field in meta.extra_fields.items()
        },
    }
form["hook is imported"] = "airflow_provider_polytomic.hooks.polytomic" in sys.modules
print("FORM " + json.dumps(form))
"""


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The form that Airflow creates for its UI."""
    folder = tmp_path_factory.mktemp("form")
    try:
        importlib.metadata.distribution("airflow-provider-polytomic")
    except importlib.metadata.PackageNotFoundError:  # add what an installation would
        info = folder / "airflow_provider_polytomic-0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: airflow-provider-polytomic\nVersion: 0\n")
        point = "airflow_provider_polytomic.get_provider_info:get_provider_info"
        (info / "entry_points.txt").write_text(f"[apache_airflow_provider]\nprovider_info = {point}\n")
    done = subprocess.run(
        [sys.executable, "-c", READ_FORM],
        env={**os.environ, "AIRFLOW_HOME": str(folder), "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("FORM ")) if not done.returncode else [""]
    assert line, done.stderr
    return json.loads(line.removeprefix("FORM "))


def test_airflow_shows_the_fields_in_its_form(form: Any) -> None:
    """Standard fields have labels and placeholders, other fields have labels, and the proxy is a password field."""
    if form["standard"] is None:
        pytest.skip("this Airflow makes no forms without the FAB provider")
    assert form["standard"] == {name: list(field) for name, field in STANDARD.items()}
    assert set(form["hidden"]) in ({"schema", "extra"}, {"url_schema", "extra"}, {"schema"}, {"url_schema"})
    assert list(form["extra"]) == FIELDS
    for name, (label, description, password, last) in form["extra"].items():
        assert (label, description) == (EXTRA_FIELDS[name]["label"], EXTRA_FIELDS[name]["description"])
        assert password is (name == "proxy")
        assert last == (["string", "null"] if IS_AIRFLOW_3 else EXTRA_FIELDS[name]["placeholder"])


@pytest.mark.skipif(version.release < (3, 3), reason="before, Airflow asks the hook, too")
def test_airflow_creates_the_form_without_importing_the_hook(form: Any) -> None:
    """It reads the metadata only."""
    assert form["hook is imported"] is False
