"""Replaces values of an unexpected type in a response, so that the rest of it can be read.

Imported with the first such response.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from .tolerant import LEAST, MOST, TolerantModel

log = logging.getLogger(__name__)

_spelled_integer: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=LEAST, le=MOST)])

_JSON_TYPES = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    NoneType: "null",
}
_DROPPED = object()  # stands for an element that is removed when all invalid values have been replaced
_reported: set[str] = set()  # fields of which this process has logged a warning


@dataclass(frozen=True)
class _Fault:
    """The place of an unreadable value, and the value that may be replaced."""

    container: Any
    key: Any
    replacement: Any
    replaced: str  # the name of the field that is replaced, or of the element
    name: str  # of the field at fault


def replace_invalid_values(root: type[TolerantModel], data: Any, error: ValidationError) -> bool:
    """Replace the invalid values in ``data``. Returns False if one of them must be readable."""
    shortened: list[list[Any]] = []
    for problem in error.errors(include_url=False, include_context=False):
        fault = _locate(root, data, problem["loc"])
        if fault is None:
            return False
        if fault.container[fault.key] is fault.replacement:
            continue  # replaced because of an earlier error
        spelled = _spelled_number(problem)
        if spelled is not None:
            fault.container[fault.key] = spelled
            continue
        fault.container[fault.key] = fault.replacement
        if fault.replacement is _DROPPED:
            shortened.append(fault.container)
        _report(fault, problem)
    for items in shortened:
        items[:] = [item for item in items if item is not _DROPPED]
    return True


def _locate(root: type[TolerantModel], data: Any, loc: tuple[int | str, ...]) -> _Fault | None:
    """The innermost value around an error that may be replaced."""
    place: tuple[Any, Any, Any, str] | None = None
    model: type[TolerantModel] | None = root  # of the value, or of each element of a list
    name = ""
    for part in loc:
        if isinstance(part, int) and isinstance(data, list):
            name = model.__name__ if model else f"{name}[]"
            how = model.__unreadable_element__ if model else "drop"
            place = None if how == "raise" else (data, part, {} if how == "keep" else _DROPPED, name)
            data = data[part]
        elif isinstance(part, str) and isinstance(data, dict) and model and (field := _field(model, part)):
            name = field.name
            if field.optional:
                place = (data, part, None, name)
            model, data = field.model, data.get(part)
        else:
            break
    return _Fault(*place, name) if place else None


@dataclass(frozen=True)
class _Field:
    name: str  # with that of its model
    optional: bool
    model: type[TolerantModel] | None  # of its value, or of each element of its list


@functools.lru_cache(1000)  # of a long list, the same few fields may be at fault in each element
def _field(model: type[TolerantModel], key: str) -> _Field | None:
    """The field of a model that has this name in a response."""
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            kind = _plain(field.annotation)
            if get_origin(kind) is list:
                kind = _plain(get_args(kind)[0])
            of = kind if isinstance(kind, type) and issubclass(kind, TolerantModel) else None
            optional = not field.is_required() and name not in model.__strict_fields__
            return _Field(f"{model.__name__}.{name}", optional, of)
    return None


def _plain(kind: Any) -> Any:
    """A type without ``Annotated`` and ``None``."""
    while True:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:
            kind = arguments[0]
        elif origin in (Union, UnionType) and len(arguments) == 2 and NoneType in arguments:
            kind = next(item for item in arguments if item is not NoneType)
        else:
            return kind


def _spelled_number(problem: ErrorDetails) -> int | None:
    """The integer that a string or a number such as ``3.0`` spells."""
    if problem["type"] != "int_type" or isinstance(problem["input"], bool):
        return None
    try:
        return _spelled_integer.validate_python(problem["input"])
    except ValidationError:
        return None


def _report(fault: _Fault, problem: ErrorDetails) -> None:
    """Warn once per field of an unreadable value. The value itself may be a secret."""
    if fault.name in _reported:
        return
    _reported.add(fault.name)
    kind = type(problem["input"])
    found = "missing" if problem["type"] == "missing" else _JSON_TYPES.get(kind, kind.__name__)
    if fault.replacement is None:
        consequence = f"{fault.replaced} is read as None"
    else:
        consequence = f"the list element is {'left out' if fault.replacement is _DROPPED else 'read as empty'}"
    log.warning(
        "Polytomic returned an unexpected value of %s (%s, %s): %s. This is logged once.",
        fault.name,
        found,
        problem["type"],
        consequence,
    )
