"""The deferral state and the event of an execution trigger: what is stored as JSON, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.deferral import DeferralState, ExecutionEvent
from airflow_provider_polytomic.api.errors import PolytomicError
from airflow_provider_polytomic.api.kinds import get_sync_kind
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator

from .conftest import make_context

STATE = DeferralState(task_instance_name="a b c -1", try_number=2, sync_name="Orders", origin="resumed", attempts=3)
EVENT = ExecutionEvent(
    "ended", "s1", "e1", STATE, deadline=12.5, console_cursor="7", execution={"execution_id": "e1", "status": "failed"}
)


def test_deferral_state_survives_json() -> None:
    """What `to_json` returns, `from_json` reads."""
    assert DeferralState.from_json(json.loads(json.dumps(STATE.to_json()))) == STATE


def test_deferral_state_ignores_unknown_fields_and_has_defaults() -> None:
    """A state that lacks a field, or has one more, is read."""
    assert DeferralState.from_json({"version": 1, "added_later": 1}) == DeferralState()


@pytest.mark.parametrize("value", [None, 7, [], "state", {}, {"version": 0}, {"version": 2}])
def test_deferral_state_of_another_version_is_refused(value: Any) -> None:
    """The message has the value."""
    with pytest.raises(ValueError, match="Not a deferral state of version 1"):
        DeferralState.from_json(value)


@pytest.mark.parametrize(
    "fields",
    [
        {"task_instance_name": 1},
        {"try_number": "1"},
        {"try_number": True},
        {"sync_name": ["Orders"]},
        {"origin": "adopted"},
        {"origin": ["started"]},
        {"is_blocking": 1},
        {"attempts": -1},
        {"attempts": 6},
        {"attempts": None},
        {"deadline_limit": 1.5},
        {"earlier_ids": None},
        {"earlier_ids": ["e1", ".."]},
    ],
    ids=str,
)
def test_deferral_state_with_an_invalid_field_is_refused(fields: dict[str, Any]) -> None:
    """The message has the value."""
    with pytest.raises(ValueError, match="Deferral state with an invalid field"):
        DeferralState.from_json(STATE.to_json() | fields)


def test_execution_event_survives_json() -> None:
    """What `to_payload` returns, `from_payload` reads."""
    event = ExecutionEvent.from_payload(json.loads(json.dumps(EVENT.to_payload())))

    assert event == EVENT
    assert event.read_execution(get_sync_kind("bulk")).status == "failed"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 2}, "version 1"),
        ({"outcome": "success"}, "outcome is not one of ended, timeout, error"),
        ({"sync_id": ".."}, "an invalid id"),
        ({"execution_id": 5}, "an invalid id"),
        ({"execution_id": None}, "no execution_id"),
        ({"deadline": "soon"}, "deadline has an invalid type"),
        ({"message": None}, "message has an invalid type"),
        ({"error_type": 1}, "error_type has an invalid type"),
        ({"still_running": "yes"}, "still_running has an invalid type"),
        ({"console_cursor": 7}, "console_cursor has an invalid type"),
        ({"execution": None}, "execution has an invalid type"),
        ({"deferral_state": None}, "Not a deferral state"),
        ({"deferral_state": {"version": 1, "is_blocking": 1}}, "Deferral state with an invalid field"),
    ],
    ids=str,
)
def test_malformed_execution_event_is_refused(fields: dict[str, Any], reason: str) -> None:
    """The task fails with the reason: the outcome of its execution is unknown."""
    operator = PolytomicBulkSyncOperator(task_id="sync", sync_id="s1")

    with pytest.raises(PolytomicError, match=rf"outcome is unknown: .*{reason}"):
        operator.execute_complete(make_context(), EVENT.to_payload() | fields)


@pytest.mark.parametrize(
    "execution", [{}, {"execution_id": "e2", "status": "completed"}, {"execution_id": "e1", "schemas": 1}]
)
def test_execution_event_with_another_execution_is_refused(execution: dict[str, Any]) -> None:
    """An event that reports the end of another execution is no success of this one."""
    event = ExecutionEvent.from_payload(EVENT.to_payload() | {"execution": execution})

    with pytest.raises(PolytomicError, match="outcome is unknown"):
        event.read_execution(get_sync_kind("bulk"))
