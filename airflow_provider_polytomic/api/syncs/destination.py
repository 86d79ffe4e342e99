"""What a destination publishes of itself, for messages that say what is allowed.

All of it is best effort: where a destination publishes nothing, or nothing of use, the server judges alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, TypeVar

from ..call import fetch
from ..endpoints import bulk_syncs
from ..errors import PolytomicError, PolytomicValidationError, add_context, printable
from ..models import BulkSyncDestination
from ..plan import Plan

log = logging.getLogger(__name__)

T = TypeVar("T")

REQUEST_TIMEOUT = 10.0  # seconds for each question
MAX_REPORTED = 10  # of what does not fit
_MAX_LENGTH = 300
# Keywords of a schema that can take for ever (a regular expression, references that branch), or ask another host. What
# they forbid, the server refuses.
_IGNORED = (
    *("pattern", "patternProperties"),
    *("$ref", "$dynamicRef", "$recursiveRef", "unevaluatedItems", "unevaluatedProperties"),
)


def check_configuration(connection_id: str, configuration: dict[str, Any]) -> Plan[None]:
    """Check a ``destination_configuration`` against the JSON schema that the destination publishes for it.

    :raises ValueError: it does not fit; the message names the fields.
    """
    destination = yield from _fetch_schema(connection_id)
    if destination is None or not destination.configuration:
        return
    try:
        wrong = list(dict.fromkeys(_validation_errors(configuration, destination.configuration)))
    except Exception as error:  # noqa: BLE001  whatever is wrong with a foreign schema, it must not be in the way
        log.warning("What %s publishes is no JSON schema that can be used: %s", connection_id, printable(error, 300))
        return
    if wrong:
        more_of_it = [f"and {len(wrong) - MAX_REPORTED} more"] if len(wrong) > MAX_REPORTED else []
        raise ValueError("; ".join([*wrong[:MAX_REPORTED], *more_of_it]))


def with_resync_mode_hint(plan: Plan[T], sync_id: str, resync_mode: str | None) -> Plan[T]:
    """Carry out a start; when it is refused with a ``resync_mode`` that is not supported, say which ones are."""
    try:
        return (yield from plan)
    except PolytomicValidationError as error:
        if not resync_mode:
            raise
        modes = yield from _supported_resync_modes(sync_id)
        if not modes or resync_mode in modes:
            raise
        raise add_context(
            error, f"the destination of this sync supports as resync_mode: {printable(', '.join(modes), _MAX_LENGTH)}"
        ) from None


def _supported_resync_modes(sync_id: str) -> Plan[list[str]]:
    try:
        sync = yield from fetch(bulk_syncs.get(sync_id).with_timeout(REQUEST_TIMEOUT), 1)
    except PolytomicError as error:
        log.info("The destination of sync %s could not be read: %s", sync_id, error)
        return []
    if not sync.destination_connection_id:
        return []
    destination = yield from _fetch_schema(sync.destination_connection_id)
    return (destination.supported_resync_modes or []) if destination else []


def _fetch_schema(connection_id: str) -> Plan[BulkSyncDestination | None]:
    try:
        return (yield from fetch(bulk_syncs.destination(connection_id).with_timeout(REQUEST_TIMEOUT), 1))
    except PolytomicError as error:
        log.warning("What the destination %s allows could not be read: %s", connection_id, error)
        return None


def _validation_errors(configuration: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """What does not fit, each with the field's name.

    :raises Exception: of many types, for what is no JSON schema.
    """
    # Loaded here: whoever starts and waits does not need it.
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend, validator_for

    kind = validator_for(schema, default=Draft202012Validator)
    kind.check_schema(schema)
    closed = kind.VALIDATORS["additionalProperties"]

    def without_patterns(validator: Any, allowed: Any, instance: Any, within: dict[str, Any]) -> Any:
        return None if "patternProperties" in within else closed(validator, allowed, instance, within)

    passed_over = dict.fromkeys(_IGNORED, lambda *_: None)
    careful = extend(kind, passed_over | {"additionalProperties": without_patterns})  # type: ignore[no-untyped-call]
    for error in careful(schema).iter_errors(configuration):
        yield from _describe(error)


def _describe(error: Any) -> Iterator[str]:
    where = "destination_configuration" + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path
    )
    fields = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    if error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield f"{where}.{printable(name, 100)}: is required{_allowed(fields.get(name))}"
    elif error.validator == "additionalProperties":
        for name in error.instance:
            if name not in fields:
                allowed = printable(", ".join(fields), _MAX_LENGTH) or "none"
                yield f"{where}.{printable(name, 100)}: no such field; allowed are {allowed}"
    else:
        # Of alternatives: why each of them does not fit.
        messages = [each.message for each in error.context] or [error.message]
        yield f"{where}: {printable(', and '.join(messages), _MAX_LENGTH)}"


def _allowed(field: Any) -> str:
    """What a field takes, in brackets."""
    if not isinstance(field, dict):
        return ""
    kinds = field.get("type", [])
    allowed = [repr(value) for value in field.get("enum", [])] or ([kinds] if isinstance(kinds, str) else kinds)
    return f" ({printable(' or '.join(allowed), _MAX_LENGTH)})" if allowed else ""
