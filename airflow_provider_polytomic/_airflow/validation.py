"""Validation of arguments: literals in ``__init__``, templated arguments after rendering."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from types import NoneType
from typing import Any, TypeAlias

DEFAULT_CONN_ID = "polytomic_default"
Check: TypeAlias = Callable[[str, Any], Any]  # from an argument's name and value to the parsed value
_LITERAL = frozenset({NoneType, bool, int, float})
_LONGEST = 1e9  # seconds, 31 years: time.sleep accepts it on all platforms
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False, "none": False, "": False}
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# Compiled by re at first use: few DAG files need them.
_UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"  # control characters, invalid in an id
_STRING = r"""(?s)'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_PIECE = r"""[\[({]\s*['"]|['"]\s*[\])}]|\w\([\[({)]"""  # such as in dict_keys(['a']) and deque([])
_PRINTED_SET = r"(?s)(?:frozenset|set)\((.*)\)"


def is_templated(value: Any) -> bool:
    """Whether a value is unknown until the task runs: Jinja, an XComArg, a Param."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if type(value) in _LITERAL:
        return False
    if isinstance(value, list | tuple | set | frozenset):
        return any(is_templated(item) for item in value)
    if isinstance(value, dict):
        return any(is_templated(item) for item in value.values())
    return hasattr(value, "iter_references") or hasattr(value, "resolve")


def set_attributes(task: Any, **given: Any) -> None:
    """Set attributes of a task in its ``__init__``.

    It bypasses ``BaseOperator.__setattr__``, whose work has no effect in an ``__init__`` and takes a tenth of the
    parsing time of a DAG file with hundreds of tasks.
    """
    for name, value in given.items():
        object.__setattr__(task, name, value)


def validate_known(task: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Validate the arguments that are known, and return their parsed values.

    :raises ValueError: an argument is invalid; the message begins with its name.
    """
    return {
        name: check(name, value) for name, check in checks.items() if not is_templated(value := getattr(task, name))
    }


def require_rendered(task: Any) -> None:
    """Reject arguments that are still templates when the task runs: ignoring them would change what the task does.

    :raises ValueError: an argument is still a template.
    """
    for name in task.template_fields:
        if is_templated(getattr(task, name)):
            raise ValueError(f"{name} is still a template when the task runs: {getattr(task, name)!r:.200}")


def blank_to_none(value: Any) -> Any:
    """The value, or None for text that Jinja renders from None: ``''`` and ``'None'``."""
    return None if isinstance(value, str) and value.strip() in ("", "None") else value


def text(name: str, value: Any) -> str | None:
    value = blank_to_none(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {format_value(value)}")
    return value


def format_value(value: Any) -> str:
    """A rejected value for a message, at most 200 characters."""
    try:
        return f"{value!r:.200}"
    except Exception:  # noqa: BLE001  a value that cannot be printed, such as an int of 5,000 digits
        return f"a value of type {type(value).__name__}"


def identifier(name: str, value: Any) -> str | None:
    """An id that Polytomic assigned, in its canonical form."""
    value = text(name, value)
    return None if value is None else canonical_id(name, value)


def canonical_id(name: str, value: str) -> str:
    """An id without surrounding white space; a UUID in lower case, as the API returns it.

    :raises ValueError: the value is not a valid id.
    """
    value = value.strip()
    if _UUID.fullmatch(value):
        return value.lower()
    if value in ("", ".", "..") or len(value.split()) > 1 or re.search(_UNPRINTABLE, value):
        raise ValueError(
            f"{name} must not be '.' or '..', or contain white space or control characters: {format_value(value)}"
        )
    return value


def boolean(name: str, value: Any) -> bool:
    """True or False; also ``true``, ``false``, ``1``, ``0`` in any case, because Jinja renders text."""
    if isinstance(value, bool):
        return value
    with contextlib.suppress(Exception):  # a value that cannot be printed
        meant = _BOOLEANS.get(str(value).strip().lower())
        if meant is not None:
            return meant
    raise ValueError(f"{name} must be true or false, not {format_value(value)}")


def flag(name: str, value: Any) -> bool:
    """True or False, for an argument that is not templated: any text would count as true."""
    if not isinstance(value, bool):
        hint = "; it is not a template field" if is_templated(value) else ""
        raise ValueError(f"{name} must be True or False, not {format_value(value)}{hint}")
    return value


def error_limit(name: str, value: Any) -> bool | int | float:
    """How many records may have errors: True (any number), False (none), a number, or a share below 1."""
    value = blank_to_none(value)
    if value is None:
        return False
    limit = _number(value) if isinstance(value, str) else value
    if isinstance(limit, bool):
        return limit
    if (isinstance(limit, int) and limit >= 0) or (isinstance(limit, float) and 0 <= limit < 1):
        return limit
    raise ValueError(
        f"{name} must be true, false, a number of records (0 or more) or a share of them (0.0 or more, and less "
        f"than 1.0), not {value!r}"
    )


def _number(text: str) -> bool | int | float | None:
    """Parse rendered text: a boolean, an int or a float; None for anything else."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return None


def choice(name: str, value: Any, choices: Iterable[str]) -> str | None:
    chosen = text(name, value)
    if chosen is not None and chosen not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {format_value(chosen)}")
    return chosen


def one_of(choices: Sequence[str]) -> Check:
    return partial(choice, choices=choices)


def items(name: str, value: Any) -> list[Any] | None:
    """A list, or text: JSON, Python's notation, or comma-separated."""
    value = blank_to_none(value)
    if value is None:
        return None
    if isinstance(value, str):
        value = _items_of(name, value.strip())
    if isinstance(value, set | frozenset):
        # The order of a set differs between processes, and idempotency keys depend on the arguments.
        return sorted(value, key=repr)
    # An iterator would be exhausted by this check.
    if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Sequence):
        raise ValueError(f"{name} must be a list, JSON, or comma-separated: {format_value(value)}")
    return list(value)


def _items_of(name: str, value: str) -> Any:
    """Parse text as a list.

    :raises ValueError: it is not JSON, Python's notation, or comma-separated text.
    """
    printed_set = re.fullmatch(_PRINTED_SET, value)
    if printed_set is not None or value.startswith(("[", "(", "{")):
        with contextlib.suppress(ValueError, TypeError):
            if printed_set is None:
                return _parse_printed(value)
            inner = _parse_printed(printed_set[1]) if printed_set[1].strip() else ()
            if isinstance(inner, list | tuple | set):
                return set(inner)
        raise ValueError(
            f"{name} must be a list, JSON, or comma-separated; it starts like a list, but cannot be parsed: "
            f"{value!r:.200}"
        )
    found = [item.strip() for item in value.split(",")]
    for number, item in enumerate(found):
        if _is_fragment(item):
            raise ValueError(
                f"{name}[{number}] is a fragment of a printed value: {item!r:.200}; "
                "pass a list, or text from the filter tojson"
            )
    return [item for item in found if item]


def _is_fragment(item: str) -> bool:
    """Whether an item of comma-separated text is a fragment of a printed value, such as an array or a list."""
    if item == "None" or item.startswith(tuple("[](){}<'\"")) or re.search(_UNPRINTABLE, item):
        return True
    if any(item.count(opening) != item.count(closing) for opening, closing in ("[]", "()", "{}")):
        return True
    return re.search(_PIECE, item) is not None


def ids(name: str, value: Any) -> list[str] | None:
    """A list of schema ids, which the source defines: any text without control characters."""
    values = texts(name, value)
    for number, item in enumerate(values or ()):
        if re.search(_UNPRINTABLE, item):
            raise ValueError(f"{name}[{number}] must not contain control characters: {format_value(item)}")
    return values


def texts(name: str, value: Any) -> list[str] | None:
    """A list of non-empty texts."""
    values = items(name, value)
    for number, item in enumerate(values or ()):
        if not isinstance(item, str) or not item.strip():
            raise ValueError(f"{name}[{number}] must be non-empty text, not {format_value(item)}")
    return values


def lists(name: str, value: Any) -> list[Any] | None:
    """A list of lists of JSON values."""
    values = items(name, value)
    for number, item in enumerate(values or ()):
        if not isinstance(item, list | tuple):
            raise ValueError(f"{name}[{number}] must be a list, not {format_value(item)}")
    require_json(name, values)
    return values


def iterable(name: str, value: Any) -> list[Any] | None:
    """A list for a hook call: any iterable except text and mappings."""
    if value is None:
        return None
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        raise ValueError(
            f"{name} must be a list, not {'text' if isinstance(value, str) else type(value).__name__}: "
            f"{format_value(value)}"
        )
    return sorted(value, key=repr) if isinstance(value, set | frozenset) else list(value)


def required(check: Check) -> Check:
    """Require a value."""
    return partial(_require, check)


def _require(check: Check, name: str, value: Any) -> Any:
    parsed = check(name, value)
    if parsed is None:
        raise ValueError(f"{name} must be given")
    return parsed


def non_empty(check: Check) -> Check:
    """Reject an empty list, which must not be taken for "all"."""
    return partial(_reject_empty, check)


def _reject_empty(check: Check, name: str, value: Any) -> Any:
    values = check(name, value)
    if values == []:
        raise ValueError(
            f"{name} must not be empty: to include all, omit it or pass None; if there is nothing to do, skip the task"
        )
    return values


def mapping(name: str, value: Any) -> dict[str, Any] | None:
    """A dict, or text in JSON or Python's notation, because Jinja renders text."""
    value = blank_to_none(value)
    if isinstance(value, str):
        try:
            value = _parse_printed(value)
        except ValueError:
            raise ValueError(f"{name} must be a dict or a JSON object, not other text") from None
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a dict or a JSON object, not {type(value).__name__}")
    require_json(name, value)
    return value


def _parse_printed(value: str) -> Any:
    """Parse text in JSON or in Python's notation, in which Jinja renders lists and dicts.

    :raises ValueError: the text is in neither.
    """
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(value)
    # Not for adjacent strings, which Python joins: numpy prints an array as ['a' 'b'].
    if not re.search(r'"\s*\w*"', re.sub(_STRING, '"', value)):
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return ast.literal_eval(value.strip())
    raise ValueError("neither JSON nor a literal")


def require_json(name: str, value: Any) -> None:
    """Reject values that JSON cannot represent, such as a datetime, a Decimal, NaN or a key that is not text.

    :raises ValueError: the message has the argument and the position in it.
    """
    try:
        _require_json(name, value)
    except RecursionError:
        raise ValueError(f"{name} must be representable in JSON; it is nested too deeply") from None


def _require_json(where: str, value: Any) -> None:
    if value is None or isinstance(value, str):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where} must have text as keys, not {format_value(key)}")
            _require_json(f"{where}[{key!r:.50}]", item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _require_json(f"{where}[{number}]", item)
    else:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError(f"{where} must be representable in JSON, not {format_value(value)}") from None


def count(name: str, value: Any) -> int | None:
    value = blank_to_none(value)
    if value is None:
        return None
    try:
        number = int(value) if not isinstance(value, bool | float) else -1
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise ValueError(f"{name} must be a whole number, 0 or more, not {value!r}")
    return number


def seconds(name: str, value: Any) -> float | None:
    """Seconds, from a number or a timedelta; more than 0."""
    if value is None:
        return None
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= _LONGEST:
        raise ValueError(f"{name} must be more than 0 seconds (a number or a timedelta), not {format_value(value)}")
    return float(number)


def duration(name: str, value: Any) -> float | None:
    """Seconds as :func:`seconds`, also as text, because Jinja renders text."""
    value = blank_to_none(value)
    number = _number(value) if isinstance(value, str) else value
    return seconds(name, value if number is None else number)


def timestamp(name: str, value: Any) -> datetime:
    """A point in time, from a datetime or ISO 8601 text; without a time zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            raise ValueError(f"{name} must be a time in ISO 8601, not {format_value(value)}") from None
    if not isinstance(value, datetime):
        raise ValueError(f"{name} must be a time (datetime or ISO 8601 text), not {format_value(value)}")
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


def exactly_one(first: str, first_value: Any, second: str, second_value: Any) -> None:
    """Require exactly one of two arguments, as far as they are known.

    :raises ValueError: both are given, or neither is.
    """
    if is_templated(first_value) or is_templated(second_value):
        if first_value is not None and second_value is not None:
            raise ValueError(f"give either {first} or {second}: both given")
        return
    first_value, second_value = text(first, first_value), text(second, second_value)
    if (first_value is None) == (second_value is None):
        which = "both" if first_value is not None else "neither"
        raise ValueError(f"give either {first} or {second}: {which} given")
