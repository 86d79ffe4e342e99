"""Seeds: their formats, defaults, and the errors for invalid ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic.sandbox.seed import Seed, SeedError, default_seed, load_seed

SYNC = {"name": "s", "schemas": ["a"]}


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ({"syncs": []}, "syncs: unknown field"),
        ({"bulk_syncs": {}}, "bulk_syncs: a list is required, not a mapping"),
        ({"bulk_syncs": ["s"]}, "bulk_syncs[0]: a mapping is required, not text"),
        ({"bulk_syncs": [{"schemas": ["a"]}]}, "bulk_syncs[0].name: is required"),
        ({"bulk_syncs": [{"name": "s"}]}, "'s': schemas: is required"),
        ({"bulk_syncs": [{**SYNC, "colour": 1}]}, "bulk_syncs[0].colour: unknown field"),
        ({"bulk_syncs": [{**SYNC, "duration": "long"}]}, "bulk_syncs[0].duration: a number of at least 0"),
        ({"bulk_syncs": [{**SYNC, "duration": -1}]}, "bulk_syncs[0].duration: a number of at least 0"),
        ({"bulk_syncs": [{**SYNC, "duration": float("nan")}]}, "bulk_syncs[0].duration: a number of at least 0"),
        ({"bulk_syncs": [{**SYNC, "active": "yes"}]}, "bulk_syncs[0].active: true or false"),
        ({"bulk_syncs": [{**SYNC, "id": 7}]}, "bulk_syncs[0].id: text is required, not 7"),
        ({"bulk_syncs": [{**SYNC, "outcome": [1]}]}, "bulk_syncs[0].outcome: text or a list of texts"),
        ({"bulk_syncs": [{**SYNC, "source": "nothing"}]}, "'s': source: there is no connection 'nothing'"),
        ({"bulk_syncs": [{"name": "s", "schemas": [{"id": "a", "rows": 1.5}]}]}, "schemas[0].rows: a whole number"),
        ({"bulk_syncs": [{"name": "s", "schemas": ["a", "a"]}]}, "'s': schemas: a is listed more than once"),
        ({"bulk_syncs": [SYNC, SYNC]}, "'s': id: "),
        ({"model_syncs": [{"name": "m", "target": "nothing"}]}, "'m': target: there is no connection"),
        ({"connections": [{"name": "c"}]}, "connections[0].type: is required"),
        ({"connections": [{"name": "c", "type": "t", "configuration": {"a": {1}}}]}, "connections[0].configuration: "),
        ({"key": ""}, "key: must not be empty"),
        ({"organizations": [{"id": "o"}]}, "organizations[0].name: is required"),
        ({"organizations": [{"name": "o", "partner_key": "p"}]}, "organizations[0].partner_key: unknown field"),
        ({"id": "o", "organizations": [{"name": "O", "id": "o"}]}, "id: o is used more than once"),
        ({"bulk_syncs": [SYNC], "organizations": [{"name": "o", "bulk_syncs": [SYNC]}]}, "'s': id: "),
        ({"organizations": [{"name": "o", "key": "sandbox"}]}, "key: two organizations, or one and the partner"),
        ({"partner_key": "sandbox"}, "key: two organizations, or one and the partner"),
    ],
)
def test_invalid_seed_error_names_the_field(seed: dict[str, Any], message: str) -> None:
    """The message names the field and what is expected."""
    with pytest.raises(SeedError) as error:
        load_seed(seed)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("seed.yaml", "a: [", "not YAML"),
        ("seed.json", "{", "not JSON"),
        ("seed.yaml", "", "a mapping is required, not nothing"),
        ("seed.yaml", "connections: [{name: c, type: t, configuration: {since: 2026-01-01}}]", "configuration: "),
    ],
)
def test_invalid_seed_error_names_the_file(tmp_path: Path, name: str, text: str, message: str) -> None:
    """The message begins with the path of the file."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SeedError) as error:
        load_seed(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_missing_seed_file_error_names_the_file(tmp_path: Path) -> None:
    """The message has the path and the reason."""
    with pytest.raises(SeedError, match=r"seed\.yaml: cannot be read: No such file"):
        load_seed(tmp_path / "seed.yaml")


def test_yaml_json_and_dict_make_equal_seeds(tmp_path: Path) -> None:
    """Derived ids are the same each time."""
    seed = {
        "key": "k",
        "connections": [{"name": "CRM", "type": "salesforce"}, {"name": "file", "type": "sqlite"}],
        "bulk_syncs": [{**SYNC, "source": "CRM", "outcome": "failed"}],
        "model_syncs": [{"name": "m", "errors": ["bad"]}],
    }
    (tmp_path / "seed.json").write_text(json.dumps(seed))
    (tmp_path / "seed.yaml").write_text(
        "key: k\n"
        "connections: [{name: CRM, type: salesforce}, {name: file, type: sqlite}]\n"
        "bulk_syncs:\n  - {name: s, schemas: [a], source: CRM, outcome: failed}\n"
        "model_syncs:\n  - {name: m, errors: [bad]}\n"
    )
    loaded = load_seed(tmp_path / "seed.json")
    assert loaded == load_seed(str(tmp_path / "seed.yaml")) == load_seed(seed)
    sync = loaded.bulk_syncs[0]
    assert (sync.source, sync.destination) == (loaded.connections[0].id, loaded.connections[1].id)
    assert sync.outcome == ["failed"]


def test_sync_without_schemas_selects_all_of_its_source() -> None:
    """A source may offer more schemas than a sync selects."""
    seed = {"connections": [{"name": "c", "type": "t", "schemas": ["x", "y"]}], "bulk_syncs": [{"name": "s"}]}
    assert [spec.id for spec in load_seed(seed).bulk_syncs[0].schemas] == ["x", "y"]


def test_default_seed_has_bulk_and_model_syncs() -> None:
    """At least two bulk syncs and a model sync, which take 5 to 30 seconds."""
    seed = load_seed(None)
    assert seed == default_seed()
    assert isinstance(seed, Seed)
    assert len(seed.bulk_syncs) >= 2
    assert len(seed.model_syncs) >= 1
    assert all(5 <= sync.duration <= 30 for sync in [*seed.bulk_syncs, *seed.model_syncs])
    assert {item.type for item in seed.connections} == {"salesforce", "postgresql", "snowflake"}
