"""The comparison of a bulk sync with its desired state."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_polytomic.api.syncs.desired_state import find_changes, find_schema_changes

AUDIT = {"created_at": "2026-01-01T00:00:00Z", "created_by": {"id": "u"}, "updated_at": None}
DAILY = {"id": "s1", "frequency": "daily", "hour": "3", "minute": "0", **AUDIT}
SAME: list[tuple[str, Any, Any]] = [
    ("mode", "replicate", "replicate"),
    ("source_connection_id", "A0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000001"),
    ("default_schedule", DAILY, {"frequency": "daily", "hour": "3"}),
    ("default_schedule", DAILY, {"frequency": "daily", "hour": "03", "minute": ""}),
    ("default_schedule", {**DAILY, "hour": 3, "resync_mode": "normal"}, {"frequency": "daily", "hour": "3"}),
    ("default_schedule", {**DAILY, "schemas": ["a", "b"]}, {"frequency": "daily", "hour": "3", "schemas": ["b", "a"]}),
    ("additional_schedules", [{**DAILY, "hour": "4"}, DAILY], [{"frequency": "daily", "hour": h} for h in ("3", "4")]),
    ("additional_schedules", None, []),
    ("policies", ["p2", "p1"], ["p1", "p2"]),
    ("policies", None, []),
    ("data_cutoff_timestamp", "2024-01-02T03:04:05Z", "2024-01-02T04:04:05+01:00"),
    ("automatically_add_new_fields", None, "all"),
    ("automatically_add_new_objects", None, "none"),
    ("normalize_names", None, "enabled"),
    ("disable_record_timestamps", None, False),
    ("concurrency_limit", 3, 3),
    ("destination_configuration", {"schema": "raw", "added_by": "the server"}, {"schema": "raw"}),
    ("destination_configuration", {"advanced": {"a": 1, "b": 2}}, {"advanced": {"a": 1}}),
    ("source_configuration", {"lookback": "3"}, {"lookback": 3}),
    ("source_configuration", None, {"lookback": None}),
    ("organization_id", "o1", "O1"),
]
DIFFERENT: list[tuple[str, Any, Any, str]] = [
    ("mode", "replicate", "append", "mode: 'replicate' → 'append'"),
    ("active", True, False, "active: True → False"),
    ("default_schedule", DAILY, {"frequency": "daily", "hour": "4"}, "default_schedule.hour: '3' → '4'"),
    ("default_schedule", DAILY, {"frequency": "daily"}, "default_schedule.hour: '3' → None"),
    ("default_schedule", None, {"frequency": "manual"}, "default_schedule.frequency: None → 'manual'"),
    ("additional_schedules", [DAILY, DAILY], [{"frequency": "daily", "hour": "3"}], "additional_schedules: "),
    ("policies", ["p1"], ["p1", "p2"], "policies: ['p1'] → ['p1', 'p2']"),
    ("data_cutoff_timestamp", None, "2024-01-02T04:04:05+01:00", "data_cutoff_timestamp: None → "),
    ("normalize_names", None, "legacy", "normalize_names: None → 'legacy'"),
    ("disable_record_timestamps", False, True, "disable_record_timestamps: False → True"),
    ("concurrency_limit", None, 0, "concurrency_limit: None → 0"),
    ("destination_configuration", {"schema": "raw"}, {"schema": "other"}, "destination_configuration.schema"),
    ("destination_configuration", None, {"key": "s3cr3t"}, "destination_configuration.key"),
    ("source_configuration", {"columns": ["a", "b"]}, {"columns": ["b", "a"]}, "source_configuration.columns"),
]


@pytest.mark.parametrize(("field", "old", "new"), SAME)
def test_equal_meaning_is_no_change(field: str, old: Any, new: Any) -> None:
    """The server may add fields and return another notation or order."""
    assert find_changes({field: old}, {field: new}) == []


@pytest.mark.parametrize(("field", "old", "new", "text"), DIFFERENT)
def test_other_meaning_is_a_change(field: str, old: Any, new: Any, text: str) -> None:
    """Its text has the old and the new value, except for configurations, which may contain secrets."""
    (change,) = find_changes({field: old}, {field: new})

    assert str(change).startswith(text)
    assert "configuration" not in field or str(change) == text


def test_fields_outside_of_the_desired_state_are_not_compared() -> None:
    """They keep their values."""
    assert find_changes({"name": "a", "mode": "append", "policies": ["p"]}, {"name": "a"}) == []


SCHEMAS = [
    {"id": "account", "enabled": True, "user_output_name": None, "filters": [{"field": "a"}]},
    {"id": "contact", "enabled": False},
]


@pytest.mark.parametrize(
    ("wanted", "texts"),
    [
        (["account"], []),
        ([{"id": "account", "enabled": True, "filters": [{"field": "a"}]}], []),
        (["account", "contact"], ["schemas[contact].enabled: False → True"]),
        (["contact"], ["schemas[contact].enabled: False → True", "schemas[account].enabled: True → False"]),
        (["account", "new"], ["schemas[new].enabled: False → True"]),
        ([{"id": "account", "user_output_name": "accounts"}], ["schemas[account].user_output_name"]),
        ([{"id": "account", "filters": [{"field": "b"}]}], ["schemas[account].filters"]),
        ([{"id": "account", "enabled": False}], ["schemas[account].enabled"]),
    ],
)
def test_schemas_are_compared_by_selection_and_configuration(wanted: list[Any], texts: list[str]) -> None:
    """The order of schemas is no difference. Values of their configuration are left out."""
    assert [str(change) for change in find_schema_changes(SCHEMAS, wanted)] == texts
