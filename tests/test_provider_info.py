"""Provider metadata: what Airflow reads about the provider exists."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import airflow
import jsonschema
import pytest

import airflow_provider_polytomic
from airflow_provider_polytomic import __version__
from airflow_provider_polytomic.get_provider_info import get_provider_info

ROOT = Path(__file__).parents[1]
PACKAGE = Path(airflow_provider_polytomic.__file__).parent
INFO = get_provider_info()
GROUPS = ["hooks", "operators", "sensors", "triggers"]


def listed(group: str) -> list[str]:
    return [module for entry in INFO[group] for module in entry["python-modules"]]


def test_package_name_is_that_of_the_distribution() -> None:
    """Airflow rejects a provider with another package-name, and then `import airflow.sdk` fails."""
    match = re.search(r'^name = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert match
    assert INFO["package-name"] == match[1] == "airflow-provider-polytomic"
    assert INFO["versions"][0] == __version__


@pytest.mark.parametrize("group", GROUPS)
def test_every_module_is_listed_and_exists(group: str) -> None:
    """All public modules of each kind and no others, and each has a class of its kind."""
    there = {
        f"airflow_provider_polytomic.{group}.{path.stem}"
        for path in (PACKAGE / group).glob("*.py")
        if not path.name.startswith("_")
    }
    assert set(listed(group)) == there
    assert len(listed(group)) == len(there)
    for name in there:
        module = importlib.import_module(name)
        assert [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == name]


def test_listed_modules_belong_to_the_integration() -> None:
    """Each group names the only integration."""
    (integration,) = INFO["integrations"]
    names = {entry["integration-name"] for group in GROUPS for entry in INFO[group]}
    assert names == {integration["integration-name"]}


def test_connection_type_names_the_hook() -> None:
    """Type, name and class are those of the hook."""
    (entry,) = INFO["connection-types"]
    module, _, name = entry["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert (
        (hook.conn_type, hook.hook_name) == (entry["connection-type"], entry["hook-name"]) == ("polytomic", "Polytomic")
    )
    assert f"{hook.conn_type}_default" == hook.default_conn_name


def test_extra_links_exist() -> None:
    """Each listed class can be imported."""
    for path in INFO.get("extra-links", []):
        module, _, name = path.rpartition(".")
        assert inspect.isclass(getattr(importlib.import_module(module), name))


def test_provider_info_is_json() -> None:
    """It can be serialized, and is the same each time."""
    assert json.loads(json.dumps(INFO)) == INFO == get_provider_info()


@pytest.mark.parametrize("schema", ["provider_info", "provider.yaml"])
def test_integrations_and_modules_match_the_schema_of_airflow(schema: str) -> None:
    """Airflow validates providers with the first schema, and registries read fields of the second.

    The second also requires fields of Airflow's own repository, so only the parts that this provider has are validated.
    """
    path = Path(airflow.__file__).parent / f"{schema}.schema.json"
    if not path.exists():
        pytest.skip(f"this Airflow has no {path.name}")
    rules = json.loads(path.read_text())
    if schema == "provider.yaml":
        rules.pop("required", None)
        rules["properties"] = {name: rule for name, rule in rules["properties"].items() if name in INFO}

    jsonschema.validate(INFO, rules)


def test_schema_of_airflow_rejects_an_invalid_field() -> None:
    """The validation above is not vacuous."""
    rules = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**INFO, "integrations": [{"integration-name": 1}]}, rules)


def test_logo_and_guides_exist() -> None:
    """A registry shows the logo beside the guides. The logo is an SVG that loads nothing and states its license."""
    (integration,) = INFO["integrations"]
    logo = ROOT / integration["logo"]

    assert ElementTree.parse(logo).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert "Apache-2.0" in logo.read_text()
    assert "href" not in logo.read_text()
    assert [guide for guide in integration["how-to-guide"] if not (ROOT / guide).is_file()] == []
