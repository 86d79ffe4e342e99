"""`allow_errors`: how many record errors an execution may have, for all operators and sensors."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic._airflow.validation import error_limit
from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.api.executions.outcome import failure_reason
from airflow_provider_polytomic.api.models import BulkSyncExecution, ModelSyncExecution
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor

from .conftest import Task, make_context

BULK, MODEL = "b0000000-0000-4000-8000-0000000000f1", "b0000000-0000-4000-8000-0000000000f2"
SYNC_OF = {
    PolytomicBulkSyncOperator: BULK,
    PolytomicBulkSyncSensor: BULK,
    PolytomicModelSyncOperator: MODEL,
    PolytomicModelSyncSensor: MODEL,
}
TASK_CLASSES = pytest.mark.parametrize("make", SYNC_OF, ids=lambda task_class: task_class.__name__)


def run(sandbox: Any, make: Any, deferrable: bool, context: Any = None, **more: Any) -> Any:
    arguments = {"task_id": "sync", "sync_id": SYNC_OF[make], "poke_interval": 0.02, "deferrable": deferrable, **more}
    if "Sensor" in make.__name__:
        arguments["execution_id"] = sandbox.start_foreign(SYNC_OF[make]).id
    return Task(lambda: make(**arguments)).run(context)


@pytest.fixture
def outcome() -> str:
    return "completed"


@pytest.fixture
def polytomic_sandbox_seed(outcome: str) -> dict[str, Any]:
    """Seven of 1,000 records have errors."""
    schemas = [{"id": "account", "rows": 900, "errors": 7}, {"id": "contact", "rows": 100}]
    return {
        "bulk_syncs": [{"name": "Bulk", "id": BULK, "schemas": schemas, "outcome": outcome}],
        "model_syncs": [{"name": "Model", "id": MODEL, "rows": 1000, "errors": ["no"] * 7, "outcome": outcome}],
    }


@TASK_CLASSES
@pytest.mark.parametrize("outcome", ["completed", "errors"])
@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        (False, "7 of 1,000 records had errors."),
        (0, "7 of 1,000 records had errors; allowed: 0."),
        (6, "7 of 1,000 records had errors; allowed: 6."),
        ("6", "7 of 1,000 records had errors; allowed: 6."),
        (0.001, "7 of 1,000 records had errors (0.7 %); allowed: 0.1 %."),
        ("0.0069", "7 of 1,000 records had errors (0.7 %); allowed: 0.69 %."),
    ],
)
def test_task_fails_when_more_records_have_errors_than_allowed(
    polytomic_sandbox: Any, make: Any, deferrable: bool, outcome: str, allowed: Any, message: str
) -> None:
    """A `completed` execution with errors fails by default. The message has the number of errors and the limit."""
    context = make_context()
    with pytest.raises((PolytomicSyncError, AirflowFailException)) as caught:
        run(polytomic_sandbox, make, deferrable, context, allow_errors=allowed)

    assert f"finished with status '{outcome}': {message}" in str(caught.value).splitlines()[0]
    assert context["ti"].summary["error_count"] == 7


@TASK_CLASSES
@pytest.mark.parametrize("outcome", ["completed", "errors"])
@pytest.mark.parametrize("allowed", [True, "true", 7, "7", 8, 0.007, "0.007", 0.5])
def test_task_succeeds_when_record_errors_are_within_the_limit(
    polytomic_sandbox: Any, make: Any, deferrable: bool, outcome: str, allowed: Any
) -> None:
    """A number and a share are inclusive limits; True allows any errors."""
    assert run(polytomic_sandbox, make, deferrable, allow_errors=allowed)


class TestFailedSchema:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        schemas: list[Any] = ["a", {"id": "b", "rows": 100, "errors": 1}, {"id": "c", "outcome": "failed"}]
        return {"bulk_syncs": [{"name": "Bulk", "id": BULK, "schemas": schemas}]}

    @pytest.mark.parametrize("make", list(SYNC_OF)[:2], ids=lambda task_class: task_class.__name__)
    @pytest.mark.parametrize("allowed", [False, 1000, 0.99])
    def test_failed_schema_is_allowed_only_by_true(
        self, polytomic_sandbox: Any, make: Any, deferrable: bool, allowed: Any
    ) -> None:
        """A limit for records does not apply to a schema that failed as a whole."""
        with pytest.raises((PolytomicSyncError, AirflowFailException)) as caught:
            run(polytomic_sandbox, make, deferrable, allow_errors=allowed)

        assert "finished with status 'errors': 1 of 3 schemas failed, 1 of" in str(caught.value)
        assert run(polytomic_sandbox, make, deferrable, make_context(run_id="second_run"), allow_errors=True)


BULK_ENDS: list[tuple[dict[str, Any], Any, str | None]] = [
    ({"status": "completed"}, False, None),
    ({"status": "completed", "error_count": None, "record_count": None}, False, None),
    ({"status": "completed", "error_count": 0, "schemas": [{"schema": "a", "error_count": 0}]}, False, None),
    ({"status": "completed", "schemas": [{"schema": "a", "error_count": 2}]}, False, "2 records had errors"),
    ({"status": "completed", "error_count": 0, "schemas": [{"schema": "a", "error_count": 2}]}, 1, "2 records"),
    ({"status": "completed", "schemas": [{"schema": "a", "error_count": 2}, {"schema": "b"}]}, 2, None),
    # The share is unknown without a record count.
    ({"status": "completed", "error_count": 2}, 0.5, "2 records had errors; allowed: 50 %"),
    ({"status": "completed", "error_count": 2, "record_count": 0}, 0.5, "2 records had errors"),
    ({"status": "completed", "error_count": 2, "record_count": 4}, 0.5, None),
    ({"status": "completed", "error_count": 29, "record_count": 100}, 0.29, None),  # as a float: 28.999…
    ({"status": "errors"}, False, "the API does not say what had errors"),
    ({"status": "errors"}, 1000, "the API does not say what had errors; allowed: 1,000"),
    ({"status": "errors", "error_count": 0}, 0.5, "the API does not say what had errors"),
    ({"status": "errors"}, True, None),
    ({"status": "failed", "error_count": 0}, True, "finished with status 'failed'"),
    ({"status": "canceled"}, 1000, "finished with status 'canceled'"),
]


@pytest.mark.parametrize(("data", "allowed", "message"), BULK_ENDS)
def test_bulk_execution_is_judged_by_its_counts(data: dict[str, Any], allowed: Any, message: str | None) -> None:
    """Missing counts of a `completed` execution are no failure; errors of an unknown share exceed any share."""
    reason = failure_reason(BulkSyncExecution.model_validate({"id": "e1", **data}), allow_errors=allowed)

    assert reason is None if message is None else message in (reason or "")


@pytest.mark.parametrize(
    ("counts", "allowed", "good"),
    [
        (None, False, True),
        ({"error": None, "total": 5}, False, True),
        ({"error": 1, "total": None}, 0.9, False),
        ({"error": 1, "total": None}, 1, True),
        ({"error": 1, "total": 10}, 0.1, True),
    ],
)
def test_model_execution_is_judged_by_its_counts(counts: Any, allowed: Any, good: bool) -> None:
    """The counts are `counts.error` and `counts.total`."""
    ended = ModelSyncExecution.model_validate({"id": "e1", "status": "completed", "counts": counts})

    assert (failure_reason(ended, allow_errors=allowed) is None) is good


@pytest.mark.parametrize("value", [-1, 1.0, 1.5, -0.1, float("nan"), float("inf"), [], {}, "many", "-1", "1.0", "nan"])
@TASK_CLASSES
def test_allow_errors_rejects_an_invalid_limit(make: Any, value: Any) -> None:
    """The constructor raises a ValueError that names the argument."""
    with pytest.raises(ValueError, match="allow_errors must be"):
        make(task_id="sync", sync_id=BULK, allow_errors=value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, False),
        ("", False),
        ("None", False),
        ("True", True),
        (" false ", False),
        (1, 1),
        ("1", 1),
        ("0", 0),
        ("5", 5),
        (0.0, 0.0),
        ("0.01", 0.01),
        ("1e-3", 0.001),
    ],
)
def test_allow_errors_parses_rendered_text(value: Any, expected: Any) -> None:
    """`1` is one record, and only `true` allows any number of errors."""
    limit = error_limit("allow_errors", value)

    assert (type(limit), limit) == (type(expected), expected)


@TASK_CLASSES
def test_allow_errors_rejects_an_invalid_rendered_limit(polytomic_sandbox: Any, make: Any, deferrable: bool) -> None:
    """A template that renders an invalid limit fails the task without retries."""
    if "Sensor" in make.__name__:
        polytomic_sandbox.start_foreign(SYNC_OF[make])
    task = make(
        task_id="sync", sync_id=SYNC_OF[make], poke_interval=0.02, deferrable=deferrable, allow_errors="{{ params.x }}"
    )
    task.allow_errors = "1.0"

    with pytest.raises(AirflowFailException, match="allow_errors must be"):
        task.execute(make_context())
