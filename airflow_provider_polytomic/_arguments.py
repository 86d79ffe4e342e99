"""Arguments of operators and sensors: literal ones are checked in ``__init__``, templated ones when rendered."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from types import NoneType
from typing import Any, TypeAlias

DEFAULT_CONN_ID = "polytomic_default"
Check: TypeAlias = Callable[[str, Any], Any]  # from an argument's name and value to what is meant
_LITERAL = frozenset({NoneType, bool, int, float})


def templated(value: Any) -> bool:
    """Whether a value is only known when the task runs: Jinja, an XComArg, a Param."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if type(value) in _LITERAL:
        return False
    if isinstance(value, list | tuple | set | frozenset):
        return any(templated(item) for item in value)
    if isinstance(value, dict):
        return any(templated(item) for item in value.values())
    return hasattr(value, "iter_references") or hasattr(value, "resolve")


def keep(task: Any, **given: Any) -> None:
    """Set attributes of a task that is being made.

    ``BaseOperator.__setattr__`` would look for more to do each time, and find nothing before the task is made: with
    hundreds of tasks in a file that is a tenth of its parsing.
    """
    for name, value in given.items():
        object.__setattr__(task, name, value)


def known(task: Any, checks: Mapping[str, Check]) -> dict[str, Any]:
    """What is meant by the arguments that are known already.

    :raises ValueError: naming the argument.
    """
    return {name: check(name, value) for name, check in checks.items() if not templated(value := getattr(task, name))}


def refuse_unrendered(task: Any) -> None:
    """Refuse what should have been rendered by now: taken for nothing, it would make another task of this one.

    :raises ValueError: naming the argument.
    """
    for name in task.template_fields:
        if templated(getattr(task, name)):
            raise ValueError(f"{name} still is a template when the task runs: {getattr(task, name)!r:.200}")


def given(value: Any) -> Any:
    """The value, or None for what renders as nothing: ``''`` and ``'None'``."""
    return None if isinstance(value, str) and value.strip() in ("", "None") else value


def text(name: str, value: Any) -> str | None:
    value = given(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {value!r}")
    return value


def boolean(name: str, value: Any) -> bool:
    """True or False; also ``true``, ``false``, ``1``, ``0`` in any case, because Jinja makes text of them."""
    if isinstance(value, bool):
        return value
    value = given(value)
    meant = {"true": True, "1": True, "false": False, "0": False, "none": False}.get(str(value).lower())
    if meant is None:
        raise ValueError(f"{name} must be true or false, not {value!r}")
    return meant


def error_limit(name: str, value: Any) -> bool | int | float:
    """How many records may have errors: True (any number), False (none), a number, or a share below 1."""
    value = given(value)
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
    """What a template has made text of: a boolean, a whole number or a fraction; None for anything else."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return None


def choice(name: str, value: Any, choices: Iterable[str]) -> str | None:
    value = text(name, value)
    if value is not None and value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def one_of(choices: Sequence[str]) -> Check:
    return partial(choice, choices=choices)


def items(name: str, value: Any) -> list[Any] | None:
    """A list: as it is, as JSON, as Python prints it, or as comma-separated text."""
    value = given(value)
    if value is None:
        return None
    if isinstance(value, str):
        if value.strip().startswith("["):
            with contextlib.suppress(ValueError):
                value = _printed(value)
        else:
            value = [item.strip() for item in value.split(",") if item.strip()]
    if isinstance(value, set | frozenset):
        # In another order in each process, and a retry knows its start again by what it asks for.
        return sorted(value, key=repr)
    # An iterator would be used up by this look at it, and mean nothing when the task runs.
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise ValueError(f"{name} must be a list, JSON, or comma-separated: {value!r:.200}")
    return list(value)


def ids(name: str, value: Any) -> list[str] | None:
    """A list of texts that are not empty."""
    values = items(name, value)
    for item in values or []:
        if not isinstance(item, str) or not item.strip():
            raise ValueError(f"{name} must hold ids, not {item!r}")
    return values


def must(check: Check) -> Check:
    """What has to be given."""
    return partial(_must, check)


def _must(check: Check, name: str, value: Any) -> Any:
    meant = check(name, value)
    if meant is None:
        raise ValueError(f"{name} must be given")
    return meant


def some(check: Check) -> Check:
    """What narrows a task to some of all there is: an empty list of them must not become all."""
    return partial(_some, check)


def _some(check: Check, name: str, value: Any) -> Any:
    values = check(name, value)
    if values == []:
        raise ValueError(
            f"{name} must not be empty: for all of them leave it out or give None; with nothing to do skip the task"
        )
    return values


def mapping(name: str, value: Any) -> dict[str, Any] | None:
    """A dict; also as JSON or as Python prints it, because Jinja makes text of it."""
    value = given(value)
    if isinstance(value, str):
        try:
            value = _printed(value)
        except ValueError:
            raise ValueError(f"{name} must be a dict, or a JSON object; it is other text") from None
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a dict, or a JSON object, not {type(value).__name__}")
    refuse_unsendable(name, value)
    return value


def _printed(value: str) -> Any:
    """What was made text of: as JSON, or with ``str()``, which is how Jinja renders lists and dicts.

    :raises ValueError: neither.
    """
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(value)
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError("neither JSON nor a literal") from None


def refuse_unsendable(name: str, value: Any) -> None:
    """Refuse what JSON cannot hold.

    :raises ValueError: naming the argument.
    """
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} must hold what JSON can hold: {error}") from None


def count(name: str, value: Any) -> int | None:
    value = given(value)
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
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < float("inf"):
        raise ValueError(f"{name} must be more than 0 seconds (a number or a timedelta), not {value!r}")
    return float(number)


def moment(name: str, value: Any) -> datetime:
    """A point in time, from a datetime or ISO 8601 text; without a time zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
        except ValueError:
            raise ValueError(f"{name} must be a time in ISO 8601, not {value!r}") from None
    if not isinstance(value, datetime):
        raise ValueError(f"{name} must be a time (datetime or ISO 8601 text), not {value!r}")
    return value if value.tzinfo else value.replace(tzinfo=timezone.utc)


def one_of_two(first: str, first_value: Any, second: str, second_value: Any) -> None:
    """Exactly one of the two must be given, as text, as far as that is known already.

    :raises ValueError: neither or both.
    """
    if templated(first_value) or templated(second_value):
        if first_value is not None and second_value is not None:
            raise ValueError(f"give either {first} or {second}: both given")
        return
    first_value, second_value = text(first, first_value), text(second, second_value)
    if (first_value is None) == (second_value is None):
        which = "both" if first_value is not None else "neither"
        raise ValueError(f"give either {first} or {second}: {which} given")
