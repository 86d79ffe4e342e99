"""How many requests a task sends to Polytomic, as docs/performance.md says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowSkipException
from airflow_provider_polytomic.api.errors import PolytomicConflictError
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sandbox.seed import WAREHOUSE_TO_SALESFORCE as MODEL_SYNC

from .conftest import Store, TaskDeferred, fire, make_context

try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:  # Airflow 2
    from airflow.utils.context import OutletEventAccessors

NAMES = [
    ("list of syncs", "GET", r"/api/(bulk/)?syncs"),
    ("sync", "GET", r"/api/(bulk/)?syncs/[^/]+"),
    ("list", "GET", r".*/executions"),
    ("start", "POST", r".*/executions"),
    ("poll", "GET", r".*/executions/[^/]+"),
    ("cancel", "POST", r".*/executions/[^/]+/cancel"),
    ("connection", "GET", r"/api/connections/[^/]+"),
]


@pytest.fixture
def polytomic_sandbox_speed() -> float:
    """Executions end only when a test ends them."""
    return 0.001


class Counted:
    """Runs a task step by step, and names the requests of each step."""

    def __init__(
        self, sandbox: Any, make: Callable[..., Any] = PolytomicBulkSyncOperator, run_id: str = "run", **arguments: Any
    ) -> None:
        self.sandbox = sandbox
        defaults = {"sync_id": MODEL_SYNC if make is PolytomicModelSyncOperator else SYNC, "deferrable": True}
        if "sync_name" in arguments:
            del defaults["sync_id"]
        given = {**defaults, "assets": False, **arguments}
        self._make: Callable[..., Any] = lambda **more: make(task_id="sync", poke_interval=0.05, **{**given, **more})
        self.context = make_context(run_id=run_id)
        self._seen = 0

    def make_again(self, **arguments: Any) -> Counted:
        """The same task with other arguments, as after an edit of the DAG file."""
        make = self._make
        self._make = lambda: make(**arguments)
        return self

    def execute(self) -> Any:
        """Start, and return the trigger."""
        with pytest.raises(TaskDeferred) as deferral:
            self._make().execute(self.context)
        return deferral.value.trigger

    def run(self) -> Any:
        return self._make().execute(self.context)

    def resume(self, event: Any) -> Any:
        return self._make().execute_complete(self.context, event)

    def end(self, trigger: Any) -> Any:
        """End the execution that a trigger waits for, and run the trigger."""
        self.sandbox.finish(trigger.sync_id, trigger.execution_id)
        return fire(trigger)

    def requests(self) -> list[str]:
        """The requests since the last call."""
        new, self._seen = self.sandbox.requests[self._seen :], len(self.sandbox.requests)
        return [_name(request) for request in new]


def _name(request: Any) -> str:
    path = request.path.partition("?")[0]
    return next((name for name, method, form in NAMES if request.method == method and re.fullmatch(form, path)), path)


def by_step(task: Counted) -> list[list[str]]:
    """The requests of a deferred task that starts, waits, and resumes."""
    task.requests()
    trigger = task.execute()
    steps = [task.requests()]
    event = task.end(trigger)
    steps.append(task.requests())
    task.resume(event)
    return [*steps, task.requests()]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (PolytomicBulkSyncOperator, "Salesforce to warehouse"),
        (PolytomicModelSyncOperator, "Customer health to Salesforce"),
    ],
)
def test_deferred_task_sends_four_requests_and_one_more_by_name(polytomic_sandbox: Any, make: Any, name: str) -> None:
    """The list, the start, one poll before it defers, and one at the end; none when it resumes."""
    expected = [["list", "start", "poll"], ["poll"], []]

    assert by_step(Counted(polytomic_sandbox, make)) == expected
    expected[0].insert(0, "list of syncs")
    assert by_step(Counted(polytomic_sandbox, make, run_id="by name", sync_name=name)) == expected


@pytest.mark.parametrize(
    ("make", "lookups"), [(PolytomicBulkSyncOperator, ["sync", "connection"]), (PolytomicModelSyncOperator, ["sync"])]
)
def test_asset_events_add_the_requests_that_name_the_tables(
    polytomic_sandbox: Any, make: Any, lookups: list[str]
) -> None:
    """The sync, and the connection of a bulk sync's destination, when the task resumes."""
    task = Counted(polytomic_sandbox, make, assets=True)
    task.context["outlet_events"] = OutletEventAccessors()

    assert by_step(task) == [["list", "start", "poll"], ["poll"], lookups]


@pytest.mark.parametrize(
    ("store", "expected"), [(None, ["list", "start", "poll", "poll"]), (Store(), ["list", "poll", "poll"])]
)
def test_retry_resumes_its_execution_with_one_request_for_each_earlier_try(
    polytomic_sandbox: Any, store: Store | None, expected: list[str]
) -> None:
    """It replays the start, or reads the stored start, and reads the execution."""
    task = Counted(polytomic_sandbox, retries=1)
    task.context = make_context(store, max_tries=1)
    task.execute()
    task.requests()
    task.context["ti"].try_number = 2
    task.execute()

    assert task.requests() == expected
    assert len(polytomic_sandbox.starts(SYNC)) == 1


@pytest.mark.parametrize("has_store", [False, True])
@pytest.mark.parametrize("deferrable", [False, True])
def test_retry_by_name_lists_the_syncs_only_without_a_stored_start(
    polytomic_sandbox: Any, has_store: bool, deferrable: bool
) -> None:
    """The stored start contains the id of the sync. Without one, the retry looks the name up again."""
    task = Counted(polytomic_sandbox, sync_name="Salesforce to warehouse", retries=1)
    task.context = make_context(Store() if has_store else None, max_tries=1)
    trigger = task.execute()
    polytomic_sandbox.finish(trigger.sync_id, trigger.execution_id)
    task.requests()
    task.context["ti"].try_number = 2
    task.make_again(deferrable=deferrable).run()

    lookup_and_replay = ["list of syncs", "list", "start"]
    assert task.requests() == [*(["list"] if has_store else lookup_and_replay), "poll", "poll"]
    assert len(polytomic_sandbox.starts(SYNC)) == 1


@pytest.mark.parametrize(
    ("if_running", "error", "expected"),
    [
        ("attach", TaskDeferred, ["list", "poll"]),
        ("fail", PolytomicConflictError, ["list"]),
        ("skip", AirflowSkipException, ["list"]),
    ],
)
def test_task_that_starts_nothing_because_of_a_conflict_sends_a_list(
    polytomic_sandbox: Any, if_running: str, error: type[BaseException], expected: list[str]
) -> None:
    """One that attaches also polls once before it defers."""
    polytomic_sandbox.start_foreign(SYNC)
    task = Counted(polytomic_sandbox, if_running=if_running)
    with pytest.raises(error):
        task.run()

    assert task.requests() == expected


@pytest.mark.parametrize(("if_running", "cancel"), [("wait", []), ("cancel", ["cancel"])])
def test_conflict_adds_a_list_and_the_polls_of_the_blocking_execution(
    polytomic_sandbox: Any, if_running: str, cancel: list[str]
) -> None:
    """The task waits for a foreign execution, and starts its own."""
    polytomic_sandbox.start_foreign(SYNC)
    task = Counted(polytomic_sandbox, if_running=if_running)
    event = task.end(task.execute())
    assert task.requests() == ["list", *cancel, "poll"]
    with pytest.raises(TaskDeferred):
        task.resume(event)

    assert task.requests() == ["list", "start", "poll"]


@pytest.mark.parametrize("polytomic_sandbox_speed", [1000.0])
@pytest.mark.parametrize(
    ("arguments", "before", "after"),
    [
        ({}, [], []),
        ({"sync_name": "Salesforce to warehouse"}, ["list of syncs"], []),
        ({"assets": True}, [], ["sync", "connection"]),
    ],
)
def test_task_in_the_worker_sends_only_polls_after_its_start(
    polytomic_sandbox: Any, arguments: dict[str, Any], before: list[str], after: list[str]
) -> None:
    """One poll per poll interval until the execution has ended; a name and asset events add what they add deferred."""
    task = Counted(polytomic_sandbox, deferrable=False, **arguments)
    task.context["outlet_events"] = OutletEventAccessors()
    task.run()
    requests = task.requests()
    polls = requests[len(before) + 2 : len(requests) - len(after)]

    assert requests == [*before, "list", "start", *polls, *after]
    assert set(polls) == {"poll"}


@pytest.mark.parametrize("polytomic_sandbox_speed", [1000.0])
def test_conflict_in_the_worker_adds_a_list_and_polls(polytomic_sandbox: Any) -> None:
    """The polls of the blocking execution come before those of the task's own."""
    polytomic_sandbox.start_foreign(SYNC)
    task = Counted(polytomic_sandbox, deferrable=False)
    task.run()
    requests = task.requests()
    start = requests.index("start")

    assert [requests[0], *requests[start - 1 : start + 1]] == ["list", "list", "start"]
    assert set(requests[1 : start - 1] + requests[start + 1 :]) == {"poll"}
