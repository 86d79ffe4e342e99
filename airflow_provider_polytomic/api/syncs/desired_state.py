"""Compares a bulk sync with its desired state, by meaning: pure functions.

Only fields of the desired state are compared. What the server adds to a value, or returns in another notation or order,
is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..text import printable

# What Polytomic assumes for a field that it returns as null.
DEFAULTS: dict[str, Any] = {
    "automatically_add_new_fields": "all",
    "automatically_add_new_objects": "none",
    "disable_record_timestamps": False,
    "normalize_names": "enabled",
}
CONFIGURATIONS = ("source_configuration", "destination_configuration")  # may contain secrets
# Of a schedule: values that mean the same as none, and fields that the server adds.
_NEUTRAL = (None, "", False, 0, "*", "none", "normal")
_SCHEDULE_IDS = ("id", "created_at", "created_by", "updated_at", "updated_by")
_MAX_LENGTH = 200  # characters of a value in a log line


@dataclass(frozen=True)
class Change:
    """A field that differs. Values of configurations and of schemas are left out, because they may be secrets.

    :param field: with the place in it, for instance ``default_schedule.hour``.
    """

    field: str
    old: Any = None
    new: Any = None
    has_values: bool = True

    def __str__(self) -> str:
        if not self.has_values:
            return self.field
        return f"{self.field}: {printable(repr(self.old), _MAX_LENGTH)} → {printable(repr(self.new), _MAX_LENGTH)}"


def find_changes(sync: Mapping[str, Any], body: Mapping[str, Any]) -> list[Change]:
    """The differences between a sync and its desired state, except for schemas: see :func:`find_schema_changes`.

    :param sync: as the API returns it.
    :param body: the desired state, as the body of a creation.
    """
    changes: list[Change] = []
    for name, new in body.items():
        old = sync.get(name)
        if name in ("schemas", "organization_id"):  # the organization of a sync cannot be changed
            continue
        if name == "default_schedule":
            changes += _schedule_changes(old or {}, new)
        elif name in CONFIGURATIONS:
            known: Mapping[str, Any] = old or {}
            changes += [
                Change(f"{name}.{key}", has_values=False) for key in new if not _is_same(known.get(key), new[key])
            ]
        elif not _is_same_field(name, old, new):
            changes.append(Change(name, old, new))
    return changes


def find_schema_changes(schemas: Sequence[Mapping[str, Any]], wanted: Sequence[Any]) -> list[Change]:
    """The differences between the schemas of a sync and the desired ones.

    :param schemas: of the sync; with fields and filters where these are desired.
    :param wanted: ids, or dicts with an ``id`` and the desired configuration. All other schemas are to be disabled.
    """
    known = {schema["id"]: schema for schema in schemas}
    configurations = {item["id"]: item for item in map(schema_item, wanted)}
    changes = []
    for schema_id, item in configurations.items():
        old = known.get(schema_id)
        if old is None or old.get("enabled") is False:
            changes.append(Change(f"schemas[{schema_id}].enabled", False, True))
        fields = [name for name in item if name != "id" and not _is_same((old or {}).get(name), item[name])]
        changes += [
            Change(f"schemas[{schema_id}].{name}", has_values=False)
            for name in fields
            if not (name == "enabled" and item[name] is True)
        ]
    return changes + [
        Change(f"schemas[{schema_id}].enabled", True, False)
        for schema_id, schema in known.items()
        if schema_id not in configurations and schema.get("enabled") is not False
    ]


def schema_item(wanted: Any) -> dict[str, Any]:
    """A desired schema as a dict."""
    return wanted if isinstance(wanted, dict) else {"id": wanted}


# --- comparison of one field


def _is_same_field(name: str, old: Any, new: Any) -> bool:
    if name == "additional_schedules":
        return _is_same_set(old or [], new or [], lambda one, other: not _schedule_changes(one, other))
    if name == "policies":
        return _is_same_set(old or [], new or [], _is_same)
    if name == "data_cutoff_timestamp":
        return bool(_instant(old) == _instant(new))
    if name in DEFAULTS and old is None:
        old = DEFAULTS[name]
    return _is_same(old, new)


def _schedule_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """A schedule is replaced as a whole. A field that it does not name is therefore desired to be unset."""
    names = [name for name in dict.fromkeys([*new, *old]) if name not in _SCHEDULE_IDS]
    return [
        Change(f"default_schedule.{name}", old.get(name), new.get(name))
        for name in names
        if not _is_same_schedule_value(old.get(name), new.get(name))
    ]


def _is_same_schedule_value(old: Any, new: Any) -> bool:
    if isinstance(old, list) or isinstance(new, list):
        return _is_same_set(old or [], new or [], _is_same)
    values = [None if _normal(value) in _NEUTRAL else _normal(value) for value in (old, new)]
    return _is_same(*values)


def _is_same(old: Any, new: Any) -> bool:
    """Whether a value has the desired meaning: objects may have more keys, and numbers may be text."""
    if isinstance(new, dict):
        return isinstance(old, dict) and all(_is_same(old.get(key), value) for key, value in new.items())
    if isinstance(new, list):
        known = old or []
        if new and all(isinstance(item, dict) and "id" in item for item in new):
            by_id = {item.get("id"): item for item in known if isinstance(item, dict)}
            return all(_is_same(by_id.get(item["id"]), item) for item in new)
        return isinstance(known, list) and len(known) == len(new) and all(map(_is_same, known, new))
    return type(_normal(old)) is type(_normal(new)) and bool(_normal(old) == _normal(new))


def _is_same_set(old: Sequence[Any], new: Sequence[Any], is_same: Any) -> bool:
    """Whether two lists have the same items in any order."""
    left = list(old)
    for item in new:
        match = next((number for number, other in enumerate(left) if is_same(other, item)), None)
        if match is None:
            return False
        del left[match]
    return not left


def _normal(value: Any) -> Any:
    """One notation for a value: numbers for text with digits, lower case for ids, None for what is empty."""
    if value in ("", [], {}):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.isascii() and text.isdigit() and len(text) < 18:
        return int(text)
    return text.lower() if len(text) == 36 and text.count("-") == 4 else text


def _instant(value: Any) -> Any:
    if isinstance(value, str) and value:
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return value
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or timezone.utc).astimezone(timezone.utc)
    return value or None
