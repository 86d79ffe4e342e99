"""What a seed may say, and how a wrong one is refused."""

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
def test_a_wrong_seed_is_refused(seed: dict[str, Any], message: str) -> None:
    """The message names the field and what it should be."""
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
def test_a_wrong_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    """The message begins with the file."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SeedError) as error:
        load_seed(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """It says which file cannot be read, and why."""
    with pytest.raises(SeedError, match=r"seed\.yaml: cannot be read: No such file"):
        load_seed(tmp_path / "seed.yaml")


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    """Both forms, and a dict, make equal seeds; ids are the same each time."""
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


def test_a_source_can_offer_more_than_a_sync_takes() -> None:
    """A sync without schemas takes all that its source has."""
    seed = {"connections": [{"name": "c", "type": "t", "schemas": ["x", "y"]}], "bulk_syncs": [{"name": "s"}]}
    assert [spec.id for spec in load_seed(seed).bulk_syncs[0].schemas] == ["x", "y"]


def test_the_default_seed_has_something_of_everything() -> None:
    """At least two bulk syncs and a model sync, which take 5 to 30 seconds."""
    seed = load_seed(None)
    assert seed == default_seed()
    assert isinstance(seed, Seed)
    assert len(seed.bulk_syncs) >= 2
    assert len(seed.model_syncs) >= 1
    assert all(5 <= sync.duration <= 30 for sync in [*seed.bulk_syncs, *seed.model_syncs])
    assert {item.type for item in seed.connections} == {"salesforce", "postgresql", "snowflake"}
