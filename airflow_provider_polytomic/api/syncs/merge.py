"""The body of a ``PUT`` that changes some fields of a sync and keeps all others."""

from __future__ import annotations

from typing import Any

# Fields that the API returns of a sync, but does not accept in a request.
_READ_ONLY_FIELDS = frozenset(
    {"id", "organization_id", "created_at", "created_by", "updated_at", "updated_by", "problems", "model_ids"}
)
_SCHEDULE_FIELDS = frozenset({"default_schedule", "additional_schedules", "schedule"})  # contain such fields, too
# Fields that the API returns in an old and in a new form. A request in which both differ is rejected, or the new
# form wins, so a change of one form must omit the other one.
_ALTERNATIVE_FIELDS = (
    ({"identity"}, {"identities"}),
    ({"filters", "filter_logic"}, {"model_filters", "target_filters"}),
)


def merge_changes(sync: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a ``PUT`` that applies changes to a sync.

    :param sync: the sync as the API returned it. Unknown fields are kept, read-only ones are dropped.
    :param changes: fields with their new values.
    """
    body = {name: value for name, value in sync.items() if name not in _READ_ONLY_FIELDS}
    for changed, other in (pair for old, new in _ALTERNATIVE_FIELDS for pair in ((old, new), (new, old))):
        if changed & changes.keys():
            body = {name: value for name, value in body.items() if name not in other}
    # The schedules among the changes may have been read from a sync, too.
    return {
        name: _without_timestamps(value) if name in _SCHEDULE_FIELDS else value
        for name, value in (body | changes).items()
    }


def _without_timestamps(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_timestamps(item)
            for name, item in value.items()
            if not name.startswith(("created_", "updated_"))
        }
    return [_without_timestamps(item) for item in value] if isinstance(value, list) else value
