"""`retry_failed_schemas_only`: a retry syncs only what earlier tries left incomplete."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from airflow_provider_polytomic import assets
from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.sandbox.seed import SchemaSpec

from .conftest import Store, Task
from .test_assets import OutletEventAccessors, emitted
from .test_bulk_sync_operator import Died, dying_operator, tries

SYNC = "b0000000-0000-4000-8000-0000000000e1"


@pytest.fixture(params=["no store", "store"])
def store(request: pytest.FixtureRequest) -> Store | None:
    """With and without Airflow's task state store (Airflow 3.3 or newer)."""
    return Store() if request.param == "store" else None


@pytest.fixture
def polytomic_sandbox_seed() -> dict[str, Any]:
    """The first execution completes one of three schemas, the second one more, the third all."""
    schemas = [
        {"id": "account", "rows": 100},
        {"id": "contact", "rows": 20, "outcome": ["failed", "completed"], "status_message": "no permission"},
        {"id": "lead", "rows": 3, "outcome": ["failed", "failed", "completed"], "status_message": "no such column"},
    ]
    return {"bulk_syncs": [{"name": "Orders", "id": SYNC, "schemas": schemas}]}


def make_task(**arguments: Any) -> Task:
    defaults = {"task_id": "sync", "sync_id": SYNC, "poke_interval": 0.05, "retries": 2}
    return Task(lambda: PolytomicBulkSyncOperator(retry_failed_schemas_only=True, **(defaults | arguments)))


def start_bodies(sandbox: Any, sync_id: str = SYNC) -> list[dict[str, Any]]:
    return [execution.start_body for execution in sandbox.starts(sync_id)]


def ids(sandbox: Any, sync_id: str = SYNC) -> list[str]:
    return [execution.id for execution in sandbox.starts(sync_id)]


def test_retry_syncs_only_the_schemas_that_did_not_complete(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """Each retry syncs what is left, with the other arguments of the task. The result counts all executions."""
    task = make_task(deferrable=deferrable, resync_mode="rebuild")
    contexts = [tries(number, store) for number in (1, 2, 3)]
    for context, message in zip(contexts, ("2 of 3 schemas failed", "1 of 3 schemas failed"), strict=False):
        with pytest.raises(PolytomicSyncError, match=message):
            task.run(context)

    returned = task.run(contexts[2])

    rebuild = {"resync_mode": "rebuild"}
    assert start_bodies(polytomic_sandbox) == [
        rebuild,
        rebuild | {"schemas": ["contact", "lead"]},
        rebuild | {"schemas": ["lead"]},
    ]
    assert returned == ids(polytomic_sandbox)[-1]
    partial, summary = contexts[1]["ti"].summary, contexts[2]["ti"].summary
    assert (partial["status"], partial["executions"]) == ("errors", ids(polytomic_sandbox)[:2])
    assert [row["schema"] for row in partial["schemas"] if row["status"] != "completed"] == ["lead"]
    assert (summary["status"], summary["executions"]) == ("completed", ids(polytomic_sandbox))
    assert {row["schema"]: row["record_count"] for row in summary["schemas"]} == {
        "account": 100,
        "contact": 20,
        "lead": 3,
    }
    assert summary["record_count"] == 123


def test_retry_logs_how_many_schemas_it_syncs(polytomic_sandbox: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The line about the execution that failed says what the next one does."""
    caplog.set_level(logging.INFO)
    task = make_task()
    for number in (1, 2):
        with pytest.raises(PolytomicSyncError):
            task.run(tries(number, None))

    first = ids(polytomic_sandbox)[0]
    assert f"Execution {first} of bulk sync {SYNC}, which try 1 started, ended with status 'errors'." in caplog.text
    assert "Starting a new one with 2 of 3 schemas." in caplog.text


def test_repair_logs_the_executions_that_its_counts_include(
    polytomic_sandbox: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that nobody looks for all records in the last execution."""
    caplog.set_level(logging.INFO)
    task = make_task()
    with pytest.raises(PolytomicSyncError, match="2 of 3 schemas failed\\."):
        task.run(tries(1, None))
    with pytest.raises(PolytomicSyncError) as failure:
        task.run(tries(2, None))
    task.run(tries(3, None))

    first, second, third = ids(polytomic_sandbox)
    assert f"1 of 3 schemas failed, together with execution {first} of an earlier try.\n" in str(failure.value)
    log = caplog.text + capsys.readouterr().out  # Airflow 2 logs to the former, Airflow 3 to the latter
    assert (
        f"Execution {third} of bulk sync {SYNC} succeeded: completed, 3 of 3 schemas completed, 123 records, "
        f"together with executions {first}, {second} of earlier tries." in log
    )


def test_retry_of_200_schemas_syncs_the_ten_that_failed(polytomic_sandbox: Any, deferrable: bool) -> None:
    """Assets and lineage contain each of the 200 tables once, although the summary lists 100 of them."""
    schemas = [SchemaSpec(f"t{number:03}", outcome=["failed", "completed"] * (number < 10)) for number in range(200)]
    sync_id = polytomic_sandbox.add_bulk_sync("Wide", schemas=schemas)
    operators: list[Any] = []

    def make() -> Any:
        operators.append(make_task(sync_id=sync_id, deferrable=deferrable).make())
        return operators[-1]

    task, context = Task(make), tries(2, None) | {"outlet_events": OutletEventAccessors()}
    with pytest.raises(PolytomicSyncError, match="10 of 200 schemas failed"):
        task.run(tries(1, None))

    task.run(context)

    assert start_bodies(polytomic_sandbox, sync_id) == [{}, {"schemas": [f"t{number:03}" for number in range(10)]}]
    summary = context["ti"].summary
    assert (len(summary["schemas"]), summary["schemas_omitted"], summary["record_count"]) == (100, 100, 20_000)
    outputs = [table.name for table in operators[-1].get_openlineage_facets_on_complete(None).outputs]
    assert (len(outputs), len(set(outputs))) == (200, 200)
    assert len(emitted(context)) == assets.MAX_EVENTS


def test_asset_event_names_the_execution_that_wrote_the_table(polytomic_sandbox: Any, deferrable: bool) -> None:
    """A table that completed in an earlier try gets its event when the task succeeds."""
    task, context = make_task(deferrable=deferrable), tries(3, None) | {"outlet_events": OutletEventAccessors()}
    for number in (1, 2):
        with pytest.raises(PolytomicSyncError):
            task.run(tries(number, None))

    task.run(context)

    writers = {extra["schema"]: extra["execution_id"] for extra in emitted(context).values()}
    assert writers == dict(zip(("account", "contact", "lead"), ids(polytomic_sandbox), strict=True))


@pytest.mark.parametrize("when", ["before the start", "before its response", "after its response"])
def test_retry_resumes_the_repair_of_a_dead_try(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None, when: str
) -> None:
    """A try that dies in its repair leaves it to the next one, which starts no other."""
    task = make_task(deferrable=deferrable, schemas=["account", "contact"])
    with pytest.raises(PolytomicSyncError):
        task.run(tries(1, store))
    with pytest.raises(Died):
        dying_operator(task.make, when).execute(tries(2, store))
    context = tries(3, store)

    returned = task.run(context)

    assert start_bodies(polytomic_sandbox) == [{"schemas": ["account", "contact"]}, {"schemas": ["contact"]}]
    assert (returned, context["ti"].summary["executions"]) == (ids(polytomic_sandbox)[-1], ids(polytomic_sandbox))


def test_retry_starts_nothing_when_everything_has_completed(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None
) -> None:
    """A repair that completed while no process waited for it makes the task succeed."""
    task = make_task(deferrable=deferrable, schemas=["account", "contact"])
    with pytest.raises(PolytomicSyncError):
        task.run(tries(1, store))
    with pytest.raises(Died):
        dying_operator(task.make, "after its response").execute(tries(2, store))
    while polytomic_sandbox.running(SYNC):
        time.sleep(0.05)
    context = tries(3, store)

    returned = task.run(context)

    assert len(ids(polytomic_sandbox)) == 2
    assert (returned, context["ti"].summary["executions"]) == (ids(polytomic_sandbox)[-1], ids(polytomic_sandbox))


def test_clear_syncs_all_schemas_again(polytomic_sandbox: Any, deferrable: bool, store: Store | None) -> None:
    """What completed before a clear does not count."""
    task = make_task(deferrable=deferrable)
    context = tries(2, store, max_tries=3)
    with pytest.raises(PolytomicSyncError):
        task.run(tries(1, store))

    with pytest.raises(PolytomicSyncError, match="1 of 3 schemas failed"):
        task.run(context)

    assert start_bodies(polytomic_sandbox) == [{}, {}]
    assert context["ti"].summary["executions"] == ids(polytomic_sandbox)[1:]


def test_retry_syncs_all_schemas_when_the_sync_has_lost_one(
    polytomic_sandbox: Any, deferrable: bool, store: Store | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Polytomic rejects a start that names a schema which the sync no longer has."""
    task = make_task(deferrable=deferrable)
    with pytest.raises(PolytomicSyncError):
        task.run(tries(1, store))
    del polytomic_sandbox._world.syncs[SYNC].schemas["lead"]
    context = tries(2, store)

    task.run(context)

    assert start_bodies(polytomic_sandbox) == [{}, {}]
    assert "Polytomic rejected a start of some schemas" in caplog.text
    assert context["ti"].summary["executions"] == ids(polytomic_sandbox)[1:]


def run_elsewhere(sandbox: Any, schemas: list[str] | None) -> str:
    """An execution of another client, which has just completed all of its schemas."""
    execution = sandbox.start_foreign(SYNC, schemas=schemas)
    for part in execution.parts:
        part.outcome = "completed"
    sandbox.finish(SYNC, execution.id, "completed")
    return str(execution.id)


def test_repair_adopts_no_fresh_execution_of_only_the_schemas_that_are_left(
    polytomic_sandbox: Any, deferrable: bool
) -> None:
    """They may have failed after it ended."""
    run_elsewhere(polytomic_sandbox, ["lead"])
    task, context = make_task(deferrable=deferrable, schemas=["account", "lead"], fresh_within=1800), tries(2, None)
    with pytest.raises(PolytomicSyncError, match="1 of 2 schemas failed"):
        task.run(tries(1, None))

    task.run(context)

    assert start_bodies(polytomic_sandbox)[1:] == [{"schemas": ["account", "lead"]}, {"schemas": ["lead"]}]
    assert context["ti"].summary["executions"] == ids(polytomic_sandbox)[1:]


def test_repair_adopts_a_fresh_execution_of_everything(polytomic_sandbox: Any, deferrable: bool) -> None:
    """It is the result by itself."""
    task, context = make_task(deferrable=deferrable, fresh_within=1800), tries(2, None)
    with pytest.raises(PolytomicSyncError):
        task.run(tries(1, None))
    fresh = run_elsewhere(polytomic_sandbox, None)

    assert task.run(context) == fresh
    assert context["ti"].summary["executions"] == [fresh]
    assert len(ids(polytomic_sandbox)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": True}, "retry_failed_schemas_only and test exclude each other"),
        ({"wait_for_completion": False}, "retry_failed_schemas_only needs wait_for_completion=True"),
    ],
)
def test_repairing_task_rejects_arguments_that_exclude_it(arguments: dict[str, Any], message: str) -> None:
    """A test run, and a task that does not wait, leave nothing to repair."""
    with pytest.raises(ValueError, match=message):
        make_task(**arguments).make()


def test_retry_failed_schemas_only_has_to_be_a_boolean() -> None:
    """It is not a template field."""
    with pytest.raises(ValueError, match="retry_failed_schemas_only must be True or False"):
        PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, retry_failed_schemas_only="yes")


def test_repairing_task_rejects_a_templated_test_when_it_runs(polytomic_sandbox: Any) -> None:
    """The task fails without retries, and starts nothing."""
    task = make_task(test="{{ params.test }}")
    operator = task.make()
    operator.test = "true"

    with pytest.raises(AirflowFailException, match="retry_failed_schemas_only and test exclude each other"):
        operator.execute(tries(1, None))
    assert ids(polytomic_sandbox) == []
