"""The base class of all models: it parses responses in which a field has an unexpected type.

A well-formed response is validated once. If that fails, the invalid values are replaced and the rest is validated
again.
"""

from __future__ import annotations

import copy
import json
import logging
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json
from typing_extensions import Self

log = logging.getLogger(__name__)

# The range of the API's own integers. Values outside cannot be stored in a database.
_LEAST, _MOST = -(2**63), 2**63 - 1
Integer = Annotated[int, Field(strict=True, ge=_LEAST, le=_MOST)]
_spelled_integer: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=_LEAST, le=_MOST)])

_JSON_TYPES = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    NoneType: "null",
}
_DROPPED = object()  # stands for an element that is removed when all errors have been repaired
_reported: set[str] = set()  # fields of which this process has logged a warning


class TolerantModel(BaseModel):
    """Reads a field of an unexpected type as None, with one warning per field and process.

    Required fields and those of ``__strict_fields__`` are never replaced: if one is unreadable, so is the object. An
    unreadable object becomes None if it is the value of a field.
    """

    # Not annotated: pydantic would evaluate the annotations again for each model.
    __strict_fields__ = frozenset[str]()
    # How a list handles an unreadable element: "drop" omits it, "keep" replaces it with an object without fields,
    # "raise" makes the list unreadable.
    __unreadable_element__ = "drop"

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """
        :raises ValidationError: a field is unreadable that must be readable.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            repaired = copy.deepcopy(obj)
            if not _repair(cls, repaired, error):
                raise
        return super().model_validate(repaired, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """
        :raises ValidationError: it is not JSON, or a field is unreadable that must be readable.
        """
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            invalid = error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid"
            if not invalid:
                data = from_json(json_data)
                if not _repair(cls, data, error):
                    raise
                return super().model_validate(data, **options)
            whole = _without_half_characters(json_data)
            if whole is None or whole == json_data:
                raise
        return cls.model_validate_json(whole, **options)


class Model(TolerantModel):
    """Base of all models: open to unknown fields, readable by field name or by the API's name."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, protected_namespaces=())


@dataclass(frozen=True)
class _Fault:
    """The place of an unreadable value, and the value that may be replaced."""

    container: Any
    key: Any
    replacement: Any
    replaced: str  # the name of the field that is replaced, or of the element
    name: str  # of the field at fault


def _repair(root: type[TolerantModel], data: Any, error: ValidationError) -> bool:
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


@lru_cache(1000)  # of a long list, the same few fields may be at fault in each element
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


def _without_half_characters(body: str | bytes | bytearray) -> bytes | None:
    """JSON with "?" for each half of a surrogate pair, which a text has that was cut inside of an emoji."""
    try:
        return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None
