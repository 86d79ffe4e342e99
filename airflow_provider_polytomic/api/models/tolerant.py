"""The base class of all models: it parses responses in which a field has an unexpected type.

A well-formed response is validated once. If that fails, the invalid values are replaced and the rest is validated
again.
"""

from __future__ import annotations

import copy
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from typing_extensions import Self

# The range of the API's own integers. Values outside cannot be stored in a database.
LEAST, MOST = -(2**63), 2**63 - 1
Integer = Annotated[int, Field(strict=True, ge=LEAST, le=MOST)]


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
            from .invalid_values import replace_invalid_values

            repaired = copy.deepcopy(obj)
            if not replace_invalid_values(cls, repaired, error):
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
                from .invalid_values import replace_invalid_values

                data = from_json(json_data)
                if not replace_invalid_values(cls, data, error):
                    raise
                return super().model_validate(data, **options)
            whole = _without_half_characters(json_data)
            if whole is None or whole == json_data:
                raise
        return cls.model_validate_json(whole, **options)


class Model(TolerantModel):
    """Base of all models: open to unknown fields, readable by field name or by the API's name."""

    model_config = ConfigDict(extra="allow", populate_by_name=True, protected_namespaces=())


def _without_half_characters(body: str | bytes | bytearray) -> bytes | None:
    """JSON with "?" for each half of a surrogate pair, which a text has that was cut inside of an emoji."""
    try:
        return json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace")
    except (ValueError, RecursionError):
        return None
