"""Checks arguments against what a destination publishes, for error messages that list the allowed values.

Best effort: if a destination publishes nothing, or nothing usable, only the server validates.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..call import fetch
from ..endpoints import bulk_syncs
from ..errors import PolytomicError, PolytomicValidationError, add_context
from ..plan import Plan
from ..text import printable

if TYPE_CHECKING:
    from ..models import BulkSyncDestination

log = logging.getLogger(__name__)

T = TypeVar("T")

DESTINATION_TIMEOUT = 10.0  # seconds per request
MAX_REPORTED = 10  # violations in an error message
_MAX_LENGTH = 300  # characters
# Keywords that a server's schema could use for endless work (regular expressions, branching references) or for requests
# to another host. The server enforces them.
_IGNORED = (
    *("pattern", "patternProperties"),
    *("$ref", "$dynamicRef", "$recursiveRef", "unevaluatedItems", "unevaluatedProperties"),
)


def check_configuration(connection_id: str, configuration: dict[str, Any]) -> Plan[None]:
    """Check a ``destination_configuration`` against the JSON schema that the destination publishes for it.

    :raises ValueError: the configuration violates the schema; the message names the fields.
    """
    destination = yield from _fetch_schema(connection_id)
    if destination is None or not destination.configuration:
        return
    try:
        violations = list(dict.fromkeys(_validation_errors(configuration, destination.configuration)))
    except Exception as error:  # noqa: BLE001  an unusable schema must not prevent the creation
        log.warning(
            "The configuration schema of destination connection %s is not usable: %s. It was not checked.",
            connection_id,
            printable(error, _MAX_LENGTH),
        )
        return
    if violations:
        omitted = [f"and {len(violations) - MAX_REPORTED} more"] if len(violations) > MAX_REPORTED else []
        raise ValueError("; ".join([*violations[:MAX_REPORTED], *omitted]))


def with_argument_hints(plan: Plan[T], sync_id: str, arguments: Mapping[str, Any]) -> Plan[T]:
    """Run a plan that starts a sync. If the API rejects its arguments, add the valid values to the error.

    :param arguments: those of the start. There are hints for ``resync_mode`` and ``schemas``.
    """
    try:
        return (yield from plan)
    except PolytomicValidationError as error:
        rejection: PolytomicError = error
        for find_hint, value in (
            (_resync_mode_hint, arguments.get("resync_mode")),
            (_schemas_hint, arguments.get("schemas")),
        ):
            hint = (yield from find_hint(sync_id, value)) if value else None
            rejection = add_context(rejection, hint) if hint else rejection
        raise rejection from None


def _resync_mode_hint(sync_id: str, resync_mode: str) -> Plan[str | None]:
    modes = yield from _supported_resync_modes(sync_id)
    if not modes or resync_mode in modes:
        return None
    return f"the destination of this sync supports as resync_mode: {printable(', '.join(modes), _MAX_LENGTH)}"


def _schemas_hint(sync_id: str, requested: Sequence[str]) -> Plan[str | None]:
    try:
        page = yield from fetch(bulk_syncs.schemas(sync_id).page(None).with_timeout(DESTINATION_TIMEOUT), 1)
    except PolytomicError as error:
        log.info("The schemas of bulk sync %s could not be read: %s", sync_id, error)
        return None
    known = [schema.id for schema in page.items if schema.id]
    unknown = [schema_id for schema_id in requested if schema_id not in known]
    if not known or not unknown or page.next_page_token:
        return None
    nearest = difflib.get_close_matches(unknown[0], known, n=5, cutoff=0.5)
    ids = ", ".join(dict.fromkeys([*nearest, *known]))
    return f"this sync has no schema {printable(repr(unknown[0]), 100)}; its schemas are: {printable(ids, _MAX_LENGTH)}"


def _supported_resync_modes(sync_id: str) -> Plan[list[str]]:
    try:
        sync = yield from fetch(bulk_syncs.get(sync_id).with_timeout(DESTINATION_TIMEOUT), 1)
    except PolytomicError as error:
        log.info("The destination of bulk sync %s could not be read: %s", sync_id, error)
        return []
    if not sync.destination_connection_id:
        return []
    destination = yield from _fetch_schema(sync.destination_connection_id)
    return (destination.supported_resync_modes or []) if destination else []


def _fetch_schema(connection_id: str) -> Plan[BulkSyncDestination | None]:
    try:
        return (yield from fetch(bulk_syncs.destination(connection_id).with_timeout(DESTINATION_TIMEOUT), 1))
    except PolytomicError as error:
        log.warning("The options of destination connection %s could not be read: %s", connection_id, error)
        return None


def _validation_errors(configuration: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    """Validate a configuration; yield a message for each violation, beginning with the field's name.

    :raises Exception: of many types, if the schema is not a valid JSON schema.
    """
    # Imported here, because only the creation of syncs needs it.
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend, validator_for

    validator_class = validator_for(schema, default=Draft202012Validator)
    validator_class.check_schema(schema)
    check_additional = validator_class.VALIDATORS["additionalProperties"]

    def without_patterns(validator: Any, allowed: Any, instance: Any, within: dict[str, Any]) -> Any:
        return None if "patternProperties" in within else check_additional(validator, allowed, instance, within)

    ignored = dict.fromkeys(_IGNORED, lambda *_: None)
    restricted = extend(validator_class, ignored | {"additionalProperties": without_patterns})  # type: ignore[no-untyped-call]
    for error in restricted(schema).iter_errors(configuration):
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
        # For alternatives (anyOf, oneOf), the reason of each.
        messages = [each.message for each in error.context] or [error.message]
        yield f"{where}: {printable(', and '.join(messages), _MAX_LENGTH)}"


def _allowed(field: Any) -> str:
    """The allowed values or types of a field, in brackets."""
    if not isinstance(field, dict):
        return ""
    types = field.get("type", [])
    allowed = [repr(value) for value in field.get("enum", [])] or ([types] if isinstance(types, str) else types)
    return f" ({printable(' or '.join(allowed), _MAX_LENGTH)})" if allowed else ""
