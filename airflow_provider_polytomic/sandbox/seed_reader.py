"""Reading of seeds: a YAML or JSON file to a mapping, and a mapping to the dataclasses of :mod:`.seed`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Nested = Mapping[str, type]


class SeedError(ValueError):
    """A seed is invalid; the message names the file and the field."""


def read_file(path: Path) -> Any:
    """Parse a YAML or JSON file.

    :raises SeedError: when it cannot be read or parsed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SeedError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise SeedError(f"not JSON: {error}") from None
    import yaml  # imported for YAML only, so that the sandbox starts faster

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SeedError("not YAML: " + " ".join(str(error).split())) from None


def build(cls: type[T], data: Any, nested: Nested, where: str = "") -> T:
    """Build an instance of a dataclass from ``data``, and reject unknown fields.

    :param nested: the dataclass of each field type that is a list of dataclasses, by the text of the annotation.
    :param where: the path of ``data`` in the seed, for messages.
    :raises SeedError: when ``data`` does not match the fields.
    """
    if not isinstance(data, dict):
        raise SeedError(f"{where or 'the seed'}: a mapping is required, not {_describe_type(data)}")
    known = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = {}
    for name, value in data.items():
        at = f"{where}.{name}" if where else str(name)
        if name not in known:
            raise SeedError(f"{at}: unknown field; fields are: {', '.join(known)}")
        values[name] = _read_value(str(known[name].type), value, nested, at)
    for name, item in known.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and not values.get(name):
            raise SeedError(f"{f'{where}.' if where else ''}{name}: is required")
    return cls(**values)


_PLAIN: dict[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "text"),
    "str | None": ((str, type(None)), "text"),
    "bool": (bool, "true or false"),
    "dict[str, Any]": (dict, "a mapping"),
}


def _read_value(kind: str, value: Any, nested: Nested, where: str) -> Any:
    if kind in nested:
        if not isinstance(value, list):
            raise SeedError(f"{where}: a list is required, not {_describe_type(value)}")
        return [
            nested[kind](item)  # a schema's id alone
            if kind == "list[SchemaSpec]" and isinstance(item, str)
            else build(nested[kind], item, nested, f"{where}[{index}]")
            for index, item in enumerate(value)
        ]
    if kind == "list[str]":
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
            raise SeedError(f"{where}: text or a list of texts is required, not {_describe_type(value)}")
        return items
    if kind in ("int", "float"):
        number = int if kind == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, number) or not 0 <= value < 1e9:
            raise SeedError(
                f"{where}: a {'whole ' if kind == 'int' else ''}number of at least 0 is required: {value!r}"
            )
        return value
    types, name = _PLAIN[kind]
    if not isinstance(value, types):
        raise SeedError(f"{where}: {name} is required, not {_describe_type(value)}")
    if kind == "dict[str, Any]":
        try:
            json.dumps(value)
        except TypeError as error:  # YAML has dates, JSON has none
            raise SeedError(f"{where}: {error}") from None
    return value


def _describe_type(value: Any) -> str:
    return {dict: "a mapping", list: "a list", str: "text", type(None): "nothing"}.get(type(value), repr(value))
