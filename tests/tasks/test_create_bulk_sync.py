"""The operator that creates bulk syncs: existing names, idempotency over tries, validation and arguments."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic.api import idempotency
from airflow_provider_polytomic.api.call import Call
from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import (
    PolytomicAuthError,
    PolytomicError,
    PolytomicLookupError,
    PolytomicServerError,
    PolytomicUnreachableError,
    PolytomicValidationError,
)
from airflow_provider_polytomic.api.models import BulkSync
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import POSTGRES, SALESFORCE, WAREHOUSE
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC

from .conftest import DagRun, Task, make_context

SYNCS = "/api/bulk/syncs"
CREATE = f"POST {SYNCS}"
TARGET = f"GET /api/connections/{WAREHOUSE}/bulksync/target"
RETRIES = 3
NEW: dict[str, Any] = {
    "name": "New",
    "mode": "replicate",
    "default_schedule": {"frequency": "manual"},
    "destination_configuration": {"schema": "new"},
    "source_connection_id": SALESFORCE,
    "destination_connection_id": WAREHOUSE,
}


def operator(**arguments: Any) -> PolytomicCreateBulkSyncOperator:
    given = {"task_id": "create", "retries": RETRIES, **NEW, **arguments}
    for end in ("source", "destination"):
        if f"{end}_connection" in arguments and f"{end}_connection_id" not in arguments:
            del given[f"{end}_connection_id"]
    return PolytomicCreateBulkSyncOperator(**given)


def task(**arguments: Any) -> Task:
    return Task(lambda: operator(**arguments))


def make_try_context(number: int, *, cleared_after: int = 0) -> dict[str, Any]:
    """The context of a try; the first try, or the first after a clear, is followed by retries."""
    return make_context(task_id="create", try_number=number, max_tries=cleared_after + RETRIES)


def list_sync_ids(sandbox: Sandbox, name: str = "New") -> list[str]:
    """The ids of the syncs that have a name."""
    return [sync.id for sync in PolytomicHook().list_bulk_syncs(name=name)]


def request_paths(sandbox: Sandbox, method: str) -> list[str]:
    return [request.path for request in sandbox.requests if request.method == method]


# --- success


def test_create_operator_creates_one_sync_and_returns_its_id(polytomic_sandbox: Sandbox) -> None:
    """One POST has exactly the given arguments, and no request changes, activates or starts anything."""
    returned = task().run()

    assert list_sync_ids(polytomic_sandbox) == [returned]
    (post,) = [request for request in polytomic_sandbox.requests if request.method != "GET"]
    assert (post.method, post.path, post.body) == ("POST", SYNCS, NEW)


def test_create_operator_sends_each_argument_under_its_own_name(polytomic_sandbox: Sandbox) -> None:
    """The created sync has the values of the arguments."""
    more: dict[str, Any] = {
        "source_configuration": {"lookback": 3},
        "schemas": ["account", {"id": "contact", "user_output_name": "contacts"}],
        "active": False,
        "additional_schedules": [{"frequency": "daily", "hour": "3", "schemas": ["account"]}],
        "automatically_add_new_fields": "none",
        "automatically_add_new_objects": "onlyIncremental",
        "normalize_names": "legacy",
        "data_cutoff_timestamp": "2024-01-02T03:04:05+00:00",
        "disable_record_timestamps": True,
        "concurrency_limit": 3,
        "resync_concurrency_limit": 0,
        "policies": [POSTGRES],
        "organization_id": SALESFORCE,
    }
    not_sent = {"task_id", "source_connection", "destination_connection", "if_exists", "polytomic_conn_id"}
    assert {*NEW, *more} == set(PolytomicCreateBulkSyncOperator.template_fields) - not_sent

    sync_id = task(**more).run()

    (post,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert post.body == {**NEW, **more}
    sync = PolytomicHook().get_bulk_sync(sync_id)
    assert (sync.active, sync.normalize_names, sync.concurrency_limit) == (False, "legacy", 3)
    assert sync.data_cutoff_timestamp == datetime.fromisoformat(more["data_cutoff_timestamp"])


def test_create_operator_finds_connections_by_name_or_id(polytomic_sandbox: Sandbox) -> None:
    """One lookup serves the source and the destination."""
    sync = PolytomicHook().get_bulk_sync(task(source_connection="App database", destination_connection=WAREHOUSE).run())

    assert (sync.source_connection_id, sync.destination_connection_id) == (POSTGRES, WAREHOUSE)
    assert request_paths(polytomic_sandbox, "GET").count("/api/connections") == 1


def test_create_operator_fails_when_the_connection_name_is_unknown(polytomic_sandbox: Sandbox) -> None:
    """The message lists similar names, and nothing is created. A retry repeats the lookup."""
    with pytest.raises(PolytomicLookupError, match=r"no connection is named 'Ware house'.*'Warehouse'"):
        task(destination_connection="Ware house").run()
    assert request_paths(polytomic_sandbox, "POST") == []


def test_create_operator_output_is_the_sync_id_of_the_next_task(polytomic_sandbox: Sandbox) -> None:
    """The creating task becomes an upstream of the task that uses its output."""
    try:
        from airflow.sdk import DAG
    except ImportError:
        from airflow import DAG

    with DAG("chained", schedule=None):
        create = operator()
        run = PolytomicBulkSyncOperator(task_id="run", sync_id=create.output)

    assert run.upstream_task_ids == {"create"}
    sync_id = task().run()
    execution = Task(lambda: PolytomicBulkSyncOperator(task_id="run", sync_id=sync_id, poke_interval=0.05)).run()
    assert [started.id for started in polytomic_sandbox.starts(sync_id)] == [execution]


# --- existing names


def test_create_operator_fails_without_retries_when_the_name_exists(polytomic_sandbox: Sandbox) -> None:
    """By default the message has the id of the existing sync, and nothing is created."""
    existing = PolytomicHook().create_bulk_sync(**NEW).id

    with pytest.raises(AirflowFailException, match=re.escape(existing)):
        task().run()

    assert list_sync_ids(polytomic_sandbox) == [existing]


def test_create_operator_returns_the_existing_sync_when_if_exists_is_skip(polytomic_sandbox: Sandbox) -> None:
    """The existing sync is not changed."""
    existing = PolytomicHook().create_bulk_sync(**NEW)

    assert task(mode="append", active=False, if_exists="skip").run() == existing.id
    assert PolytomicHook().get_bulk_sync(existing.id) == existing
    assert len(request_paths(polytomic_sandbox, "POST")) == 1


@pytest.mark.parametrize("if_exists", ["fail", "skip", "update"])
def test_create_operator_fails_when_the_existing_name_is_ambiguous(polytomic_sandbox: Sandbox, if_exists: str) -> None:
    """The message lists the ids of all syncs of that name."""
    existing = [PolytomicHook().create_bulk_sync(**NEW).id for _ in range(2)]

    with pytest.raises(AirflowFailException) as raised:
        task(if_exists=if_exists).run()
    assert all(sync_id in str(raised.value) for sync_id in existing)


def test_create_operator_finds_an_existing_sync_beyond_the_first_page(polytomic_sandbox: Sandbox) -> None:
    """All pages of the list are read."""
    existing = PolytomicHook().create_bulk_sync(**NEW).id
    for number in range(60):
        PolytomicHook().create_bulk_sync(**{**NEW, "name": f"Other {number}"})

    assert task(if_exists="skip").run() == existing


# --- idempotency


def test_creation_with_a_lost_response_creates_one_sync(polytomic_sandbox: Sandbox) -> None:
    """The request is repeated with the same idempotency key."""
    polytomic_sandbox.faults.drop_after(CREATE, times=2)

    returned = task().run()

    assert list_sync_ids(polytomic_sandbox) == [returned]
    keys = [request.headers["idempotency-key"] for request in polytomic_sandbox.requests if request.method == "POST"]
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize("if_exists", ["fail", "skip", "update"])
@pytest.mark.parametrize("lagging", [False, True], ids=["seen", "lagging"])
def test_retry_returns_the_sync_that_a_dead_try_created(
    polytomic_sandbox: Sandbox, if_exists: str, lagging: bool
) -> None:
    """The retry finds the sync whether the list of syncs shows it already or not."""
    lost = polytomic_sandbox.faults.drop_after(CREATE, times=None)
    with pytest.raises(
        PolytomicUnreachableError,
        match=r"Could not confirm whether the creation succeeded.*Airflow connection: 'polytomic_default'$",
    ):
        task(if_exists=if_exists).run(make_try_context(1))
    lost.left = 0
    (sync_id,) = list_sync_ids(polytomic_sandbox)
    if lagging:
        polytomic_sandbox.faults.status(200, f"GET {SYNCS}", body={"data": None})

    assert task(if_exists=if_exists).run(make_try_context(2)) == sync_id
    assert task(if_exists=if_exists).run(make_try_context(3)) == sync_id
    assert list_sync_ids(polytomic_sandbox) == [sync_id]


def dead_try(sandbox: Sandbox) -> Call[BulkSync]:
    """The request of a first try that died, which has not reached the server yet."""
    sandbox.faults.drop_before(CREATE, times=None)
    with pytest.raises(PolytomicUnreachableError):
        task().run(make_try_context(1))
    sandbox.faults.clear()
    sent = next(request for request in sandbox.requests if request.method == "POST")
    return bulk_syncs.create(sent.body, idempotency_key=sent.headers["idempotency-key"])


def test_retry_waits_while_the_server_processes_the_request_of_a_dead_try(
    polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry repeats the request until the server responds, and returns the sync of the dead try."""
    request = dead_try(polytomic_sandbox)
    monkeypatch.setattr(idempotency, "OUTCOME_TIMEOUT", 20.0)
    held = polytomic_sandbox.faults.delay(1.5, CREATE)
    client = PolytomicHook().client
    with ThreadPoolExecutor() as pool:
        late = pool.submit(client.call, request)
        while not held.hits and not late.done():
            time.sleep(0.01)
        returned = task().run(make_try_context(2))

    assert list_sync_ids(polytomic_sandbox) == [returned] == [late.result().id]
    assert 409 in [request.status for request in polytomic_sandbox.requests]


def test_creation_request_that_arrives_after_the_retry_creates_nothing(polytomic_sandbox: Sandbox) -> None:
    """The idempotency key of the dead try is used up by the retry, also when the name exists."""
    request = dead_try(polytomic_sandbox)
    existing = PolytomicHook().create_bulk_sync(**NEW).id

    with pytest.raises(AirflowFailException, match=re.escape(existing)):
        task().run(make_try_context(2))
    with pytest.raises(PolytomicValidationError):
        PolytomicHook().call(request)

    assert list_sync_ids(polytomic_sandbox) == [existing]


@pytest.mark.parametrize("status", [500, 503])
def test_retry_creates_the_sync_after_a_recorded_server_error(polytomic_sandbox: Sandbox, status: int) -> None:
    """A recorded server error fails the try. The retry uses an idempotency key of its own."""
    polytomic_sandbox.faults.status(status, CREATE, recorded=True)
    with pytest.raises(PolytomicServerError):
        task().run(make_try_context(1))
    assert list_sync_ids(polytomic_sandbox) == []

    assert [task().run(make_try_context(2))] == list_sync_ids(polytomic_sandbox)


def test_create_operator_fails_without_retries_when_the_server_rejects_the_request(polytomic_sandbox: Sandbox) -> None:
    """With the DAG corrected, a cleared task creates the sync."""
    with pytest.raises(AirflowFailException, match=r"schemas.*nothing"):
        task(schemas=["nothing"]).run(make_try_context(1))
    assert list_sync_ids(polytomic_sandbox) == []

    assert [task(schemas=["account"]).run(make_try_context(2, cleared_after=1))] == list_sync_ids(polytomic_sandbox)


def test_clear_after_a_rejected_creation_uses_another_key(polytomic_sandbox: Sandbox) -> None:
    """A request that was rejected because of something in Polytomic succeeds once that is corrected."""
    polytomic_sandbox.faults.status(422, CREATE, recorded=True)
    with pytest.raises(AirflowFailException):
        task().run(make_try_context(1))

    assert [task().run(make_try_context(2, cleared_after=1))] == list_sync_ids(polytomic_sandbox)


def test_clear_applies_if_exists_to_the_sync_that_the_task_created(polytomic_sandbox: Sandbox) -> None:
    """Clearing the task starts over, and the sync that it created before is an existing sync."""
    sync_id = task().run(make_try_context(1))

    with pytest.raises(AirflowFailException, match=re.escape(sync_id)):
        task().run(make_try_context(2, cleared_after=1))
    assert task(if_exists="skip").run(make_try_context(3, cleared_after=2)) == sync_id
    PolytomicHook().delete_bulk_sync(sync_id)
    assert [task().run(make_try_context(4, cleared_after=3))] == list_sync_ids(polytomic_sandbox) != [sync_id]


def test_dag_runs_and_mapped_tasks_use_idempotency_keys_of_their_own(polytomic_sandbox: Sandbox) -> None:
    """Other runs, other map indexes and a run created again with the same id send different keys."""
    contexts = [
        make_context(),
        make_context(run_id="another"),
        make_context(map_index=1),
        make_context(run=DagRun(datetime.fromisoformat("2027-01-01T00:00:00+00:00"))),
    ]
    for context in contexts:
        task().run(context)
        PolytomicHook().delete_bulk_sync(list_sync_ids(polytomic_sandbox)[0])

    keys = [request.headers["idempotency-key"] for request in polytomic_sandbox.requests if request.method == "POST"]
    assert len(set(keys)) == len(contexts)


def test_rejected_api_key_is_retried_only_after_the_first_try(polytomic_sandbox: Sandbox) -> None:
    """The first try fails for good. A later one is retried, because an earlier one may have created the sync."""
    polytomic_sandbox.rotate_key("another")

    with pytest.raises(AirflowFailException):
        task().run(make_try_context(1))
    with pytest.raises(PolytomicAuthError):
        task().run(make_try_context(2))


# --- destination_configuration


def test_create_operator_rejects_an_invalid_destination_configuration_before_the_creation(
    polytomic_sandbox: Sandbox,
) -> None:
    """The destination's JSON schema decides. The message has the field and what is allowed."""
    with pytest.raises(AirflowFailException, match=r"destination_configuration\.schema: 5 is not of type 'string'"):
        task(destination_configuration={"schema": 5}).run()
    assert request_paths(polytomic_sandbox, "POST") == []


@pytest.mark.parametrize("status", [200, 404, 500])
def test_create_operator_skips_the_validation_when_the_destination_has_no_usable_schema(
    polytomic_sandbox: Sandbox, status: int
) -> None:
    """The sync is created, or the server itself rejects the request."""
    response = {"data": {"configuration": {"type": "strng"}}} if status == 200 else None
    polytomic_sandbox.faults.status(status, TARGET, times=None, body=response)

    assert [task().run()] == list_sync_ids(polytomic_sandbox)
    with pytest.raises(AirflowFailException, match=r"HTTP 422: destination_configuration\.schema"):
        task(name="Another", destination_configuration={"schema": 5}).run()


# --- resync_mode of a start


def limited_seed() -> dict[str, Any]:
    warehouse = {"id": WAREHOUSE, "name": "W", "type": "snowflake", "resync_modes": ["refetch", "resync"]}
    source = {"id": SALESFORCE, "name": "S", "type": "salesforce", "schemas": ["account"]}
    return {"connections": [source, warehouse], "bulk_syncs": [{"id": SYNC, "name": "s"}]}


class TestLimitedResyncModes:
    """A destination that supports only some resync modes."""

    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return limited_seed()

    def test_rejected_resync_mode_lists_the_supported_modes(self, polytomic_sandbox: Sandbox) -> None:
        """The operator and the hook report the server's message and the modes that the destination supports."""
        run = Task(lambda: PolytomicBulkSyncOperator(task_id="run", sync_id=SYNC, resync_mode="rebuild"))
        with pytest.raises(AirflowFailException) as by_task:
            run.run()
        with pytest.raises(PolytomicValidationError) as by_hook:
            PolytomicHook().start_bulk_sync(SYNC, resync_mode="rebuild")

        for raised in (by_task, by_hook):
            assert "does not support 'rebuild'" in str(raised.value)
            assert "supports as resync_mode: refetch, resync" in str(raised.value)

    def test_rejected_schemas_list_those_of_the_sync(self, polytomic_sandbox: Sandbox) -> None:
        """The operator fails without retries."""
        run = Task(lambda: PolytomicBulkSyncOperator(task_id="run", sync_id=SYNC, schemas=["accounts"]))

        with pytest.raises(AirflowFailException, match="this sync has no schema 'accounts'; its schemas are: account"):
            run.run()

    def test_rejected_resync_mode_keeps_the_servers_message_when_the_destination_fails(
        self, polytomic_sandbox: Sandbox
    ) -> None:
        """The supported modes are left out when the destination cannot be read."""
        polytomic_sandbox.faults.status(500, TARGET, times=None)

        with pytest.raises(PolytomicValidationError, match="does not support 'rebuild'") as raised:
            PolytomicHook().start_bulk_sync(SYNC, resync_mode="rebuild")
        assert "supports as" not in str(raised.value)


# --- arguments

INVALID: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": None}, "name"),
    ({"name": 5}, "name"),
    ({"mode": "copy"}, "mode"),
    ({"mode": None}, "mode"),
    ({"default_schedule": {}}, "default_schedule"),
    ({"default_schedule": {"hour": "3"}}, "default_schedule"),
    ({"default_schedule": "daily"}, "default_schedule"),
    ({"default_schedule": None}, "default_schedule"),
    ({"destination_configuration": None}, "destination_configuration"),
    ({"destination_configuration": ["schema"]}, "destination_configuration"),
    ({"destination_configuration": {"at": datetime(2026, 1, 1)}}, "destination_configuration"),
    ({"destination_configuration": {"n": float("nan")}}, "destination_configuration"),
    ({"source_configuration": "[1]"}, "source_configuration"),
    ({"source_connection_id": None}, "source_connection_id or source_connection"),
    ({"source_connection_id": ""}, "source_connection_id or source_connection"),
    ({"source_connection_id": SALESFORCE, "source_connection": "Salesforce"}, "both given"),
    ({"destination_connection_id": None}, "destination_connection_id or destination_connection"),
    ({"destination_connection_id": WAREHOUSE, "destination_connection": "W"}, "both given"),
    ({"destination_connection": 5}, "destination_connection"),
    ({"schemas": []}, "schemas must not be empty"),
    ({"schemas": "[]"}, "schemas must not be empty"),
    ({"schemas": iter(["account"])}, "schemas"),
    ({"schemas": [5]}, "schemas"),
    ({"schemas": [{"enabled": True}]}, "schemas"),
    ({"schemas": [{"id": "a", "filters": {1, 2}}]}, "schemas"),
    ({"active": "perhaps"}, "active"),
    ({"additional_schedules": [{"hour": "3"}]}, r"additional_schedules\[0\]"),
    ({"additional_schedules": ["daily"]}, r"additional_schedules\[0\]"),
    ({"additional_schedules": {"frequency": "daily"}}, "additional_schedules"),
    ({"automatically_add_new_fields": "some"}, "automatically_add_new_fields"),
    ({"automatically_add_new_objects": "some"}, "automatically_add_new_objects"),
    ({"normalize_names": "never"}, "normalize_names"),
    ({"data_cutoff_timestamp": "yesterday"}, "data_cutoff_timestamp"),
    ({"disable_record_timestamps": 2}, "disable_record_timestamps"),
    ({"concurrency_limit": -1}, "concurrency_limit"),
    ({"resync_concurrency_limit": "many"}, "resync_concurrency_limit"),
    ({"additional_schedules": [None, {"frequency": "daily"}]}, r"additional_schedules\[0\]"),
    ({"additional_schedules": "[{'frequency': 'daily'}"}, "additional_schedules"),
    (
        {"destination_configuration": {"deep": [{"at": Decimal(1)}]}},
        r"destination_configuration\['deep'\]\[0\]\['at'\]",
    ),
    ({"destination_configuration": {1: "a"}}, "destination_configuration must have text as keys"),
    ({"destination_configuration": '{"n": NaN}'}, r"destination_configuration\['n'\]"),
    ({"source_connection_id": "a b"}, "source_connection_id"),
    ({"policies": [5]}, "policies"),
    ({"policies": ["a b"]}, r"policies\[0\]"),
    ({"policies": "{'a'"}, "policies"),
    ({"policies": iter([POSTGRES])}, "policies"),
    ({"organization_id": 5}, "organization_id"),
    ({"if_exists": "replace"}, "if_exists"),
]


@pytest.mark.parametrize(("arguments", "named"), INVALID)
def test_create_operator_rejects_invalid_literals_when_the_dag_is_parsed(arguments: dict[str, Any], named: str) -> None:
    """The constructor raises a ValueError that names the argument."""
    with pytest.raises(ValueError, match=named):
        operator(**arguments)


@pytest.mark.parametrize(("arguments", "named"), INVALID)
def test_create_operator_fails_without_retries_when_a_template_renders_an_invalid_value(
    polytomic_sandbox: Sandbox, arguments: dict[str, Any], named: str
) -> None:
    """Nothing is sent."""

    def rendered() -> Any:
        made = operator()
        for name, value in arguments.items():
            setattr(made, name, value)
        return made

    with pytest.raises(AirflowFailException, match=named):
        Task(rendered).run()
    assert polytomic_sandbox.requests == []


@pytest.mark.parametrize("name", PolytomicCreateBulkSyncOperator.template_fields)
def test_create_operator_fails_without_retries_when_a_template_was_not_rendered(
    polytomic_sandbox: Sandbox, name: str
) -> None:
    """An argument that is still a template when the task runs is an error, and is not left out."""

    def unrendered() -> Any:
        made = operator()
        setattr(made, name, "{{ oh }}")
        return made

    with pytest.raises(AirflowFailException, match=name):
        Task(unrendered).run()
    assert polytomic_sandbox.requests == []


def test_create_operator_accepts_any_template_when_the_dag_is_parsed() -> None:
    """The constructor does not validate templates, at any depth of an argument."""
    template = "{{ params.x }}"
    texts = dict.fromkeys(PolytomicCreateBulkSyncOperator.template_fields, template)

    operator(
        **{name: value for name, value in texts.items() if name not in ("source_connection", "destination_connection")}
    )
    operator(
        default_schedule={"frequency": template},
        destination_configuration={"deep": [{"schema": template}]},
        schemas=[{"id": template}],
    )


def test_create_operator_sends_rendered_templates_in_a_dict(polytomic_sandbox: Sandbox) -> None:
    """Airflow renders nested templates."""
    made = operator(destination_configuration={"schema": "{{ prefix }}_raw"}, name="New {{ prefix }}")
    made.render_template_fields({"prefix": "crm"})

    Task(lambda: made).run()

    (post,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert (post.body["destination_configuration"], post.body["name"]) == ({"schema": "crm_raw"}, "New crm")


def test_create_operator_parses_rendered_text(polytomic_sandbox: Sandbox) -> None:
    """Dicts, lists, booleans, numbers and None that Jinja rendered as text keep their meaning."""

    def rendered() -> Any:
        made = operator()
        made.default_schedule = '{"frequency": "manual"}'  # type: ignore[assignment]
        made.destination_configuration = "{'schema': 'new'}"  # type: ignore[assignment]
        made.schemas, made.active, made.concurrency_limit = "['account', 'contact']", "False", "3"  # type: ignore[assignment]
        made.source_connection, made.normalize_names, made.data_cutoff_timestamp = "None", "", "2024-01-02"
        made.additional_schedules = '[{"frequency": "daily"}]'  # type: ignore[assignment]
        made.policies, made.disable_record_timestamps = "[]", None
        return made

    Task(rendered).run()

    (post,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert post.body == {
        **NEW,
        "schemas": ["account", "contact"],
        "active": False,
        "concurrency_limit": 3,
        "data_cutoff_timestamp": "2024-01-02T00:00:00+00:00",
        "additional_schedules": [{"frequency": "daily"}],
    }


def test_create_operator_fails_with_retries_when_the_list_cannot_be_read(polytomic_sandbox: Sandbox) -> None:
    """The message says so, and nothing has been created."""
    polytomic_sandbox.faults.status(404, f"GET {SYNCS}", body="<html>no</html>")

    with pytest.raises(PolytomicError, match="not a response of the Polytomic API"):
        task().run()
    assert list_sync_ids(polytomic_sandbox) == []
