"""Forms of an argument (text, list, set, JSON, id spellings): each is sent with its meaning, or rejected by name."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import POSTGRES, SALESFORCE, WAREHOUSE
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as BULK
from airflow_provider_polytomic.sandbox.seed import WAREHOUSE_TO_SALESFORCE as MODEL
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor
from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

from .conftest import Task

EMAIL = {"source": {"model_id": WAREHOUSE, "field": "email"}, "value": "a@example.com"}
FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "JSON": json.dumps,
    "printed list": str,
    "printed tuple": lambda values: str(tuple(values)),
}
SETS: dict[str, Callable[[list[Any]], Any]] = {
    "set": set,
    "frozenset": frozenset,
    "printed set": lambda values: str(set(values)),
    "printed frozenset": lambda values: str(frozenset(values)),
    "comma-separated": ", ".join,
}
OPERATORS = {BULK: PolytomicBulkSyncOperator, MODEL: PolytomicModelSyncOperator}


def start_body(sandbox: Sandbox, sync_id: str, deferrable: bool = False, **arguments: Any) -> Any:
    """The body of the start request of an operator with rendered template fields."""

    def rendered() -> Any:
        made = OPERATORS[sync_id](
            task_id="sync",
            sync_id=sync_id,
            poke_interval=0.05,
            deferrable=deferrable,
            **{name: f"{{{{ {name} }}}}" for name in arguments},
        )
        made.render_template_fields(arguments)
        return made

    Task(rendered).run()
    (start,) = [request for request in sandbox.requests if request.method == "POST"]
    return start.body


@pytest.mark.parametrize("form", [*FORMS, *SETS])
def test_operator_sends_schemas_given_in_any_form(polytomic_sandbox: Sandbox, deferrable: bool, form: str) -> None:
    """A template renders a list, a tuple or a set as text; the schemas in it are sent."""
    value = {**FORMS, **SETS}[form](["account", "contact"])

    assert start_body(polytomic_sandbox, BULK, deferrable, schemas=value) == {"schemas": ["account", "contact"]}


@pytest.mark.parametrize("form", [*FORMS, *SETS])
def test_operator_sends_identities_given_in_any_form(polytomic_sandbox: Sandbox, deferrable: bool, form: str) -> None:
    """Identities may contain quotes."""
    value = {**FORMS, **SETS}[form](["o'brien@x.io", "z@x.io"])

    sent = start_body(polytomic_sandbox, MODEL, deferrable, identities=value)
    assert sent == {"identities": ["o'brien@x.io", "z@x.io"]}


@pytest.mark.parametrize("form", FORMS)
def test_operator_sends_source_identities_given_in_any_form(polytomic_sandbox: Sandbox, form: str) -> None:
    """Source identities are a list of lists of dicts."""
    sent = start_body(polytomic_sandbox, MODEL, source_identities=FORMS[form]([[EMAIL]]))

    assert sent == {"source_identities": [[EMAIL]]}


@pytest.mark.parametrize("form", FORMS)
def test_create_operator_sends_lists_given_in_any_form(polytomic_sandbox: Sandbox, form: str) -> None:
    """The lists are schemas with their configuration, schedules and policies."""
    lists: dict[str, list[Any]] = {
        "schemas": ["account", {"id": "contact", "user_output_name": "contacts"}],
        "additional_schedules": [{"frequency": "daily", "hour": "3"}],
        "policies": [POSTGRES],
    }
    arguments: dict[str, Any] = {
        "name": "New",
        "mode": "replicate",
        "default_schedule": {"frequency": "manual"},
        "destination_configuration": {"schema": "new"},
        "source_connection_id": f" {SALESFORCE.upper()}\n",
        "destination_connection_id": WAREHOUSE,
    }

    def rendered() -> Any:
        made = PolytomicCreateBulkSyncOperator(
            task_id="create", **arguments, **{name: f"{{{{ {name} }}}}" for name in lists}
        )
        made.render_template_fields({name: FORMS[form](values) for name, values in lists.items()})
        return made

    Task(rendered).run()

    (post,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert post.body == {**arguments, "source_connection_id": SALESFORCE, **lists}


# --- ids


@pytest.mark.parametrize("sync_id", [BULK, MODEL])
@pytest.mark.parametrize("spelling", [" {}\n", "\t{}", "{}"])
def test_operator_sends_a_sync_id_in_its_canonical_form(
    polytomic_sandbox: Sandbox, deferrable: bool, sync_id: str, spelling: str
) -> None:
    """Surrounding white space, as in a line of a file, and upper case are removed."""
    kind = OPERATORS[sync_id]
    value = spelling.format(sync_id.upper())

    Task(lambda: kind(task_id="sync", sync_id=value, poke_interval=0.05, deferrable=deferrable)).run()

    assert len(polytomic_sandbox.starts(sync_id)) == 1
    assert all(f"/{sync_id}" in request.path for request in polytomic_sandbox.requests)


@pytest.mark.parametrize(
    ("kind", "sync_id"), [(PolytomicBulkSyncSensor, BULK), (PolytomicModelSyncSensor, MODEL)], ids=["bulk", "model"]
)
def test_sensor_accepts_ids_with_surrounding_white_space(
    polytomic_sandbox: Sandbox, deferrable: bool, kind: Any, sync_id: str
) -> None:
    """The ids of the sync and of the execution are both sent in their canonical form."""
    execution = polytomic_sandbox.start_foreign(sync_id)

    def sensor() -> Any:
        ids = {"sync_id": f" {sync_id.upper()}", "execution_id": f"{execution.id}\n"}
        return kind(task_id="wait", poke_interval=0.05, deferrable=deferrable, **ids)

    assert Task(sensor).run() == execution.id
    assert all(f"/{sync_id}/" in f"{request.path}/" for request in polytomic_sandbox.requests)


@pytest.mark.parametrize("kind", [PolytomicBulkSyncSensor, PolytomicModelSyncSensor])
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"sync_id": "a b"}, "sync_id"),
        ({"execution_id": "a b"}, "execution_id"),
        ({"execution_id": "."}, "execution_id"),
        ({"execution_id": uuid.UUID(BULK)}, "execution_id"),
        ({"deferrable": "false"}, "deferrable must be True or False"),
        ({"deferrable": "{{ params.x }}"}, "deferrable must be True or False.*not a template field"),
    ],
)
def test_sensor_rejects_invalid_ids_and_text_for_a_boolean(kind: Any, arguments: dict[str, Any], named: str) -> None:
    """The constructor raises a ValueError that names the argument."""
    with pytest.raises(ValueError, match=named):
        kind(**{"task_id": "wait", "sync_id": BULK, **arguments})


@pytest.mark.parametrize("name", ["cancel_at_deadline", "cancel_on_kill", "log_console"])
def test_execution_trigger_rejects_text_for_a_boolean(name: str) -> None:
    """The text `"false"` is true, and would cancel an execution that should be left running."""
    with pytest.raises(ValueError, match=f"{name} must be True or False, not 'false'"):
        PolytomicExecutionTrigger("bulk", BULK, "e1", **{name: "false"})


# --- the hook

NOT_JSON = [datetime(2026, 1, 1), Decimal(1), float("nan"), b"a", {"a"}, {1: "a"}, uuid.UUID(BULK)]
EMPTY: list[Any] = [[], (), set(), iter([])]


@pytest.fixture
def hook(polytomic_sandbox: Sandbox) -> PolytomicHook:
    return PolytomicHook()


@pytest.mark.parametrize("value", EMPTY, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    ("kind", "name"), [("bulk", "schemas"), ("model", "identities"), ("model", "source_identities")]
)
def test_hook_rejects_a_start_with_an_empty_list(
    hook: PolytomicHook, polytomic_sandbox: Sandbox, kind: str, name: str, value: Any
) -> None:
    """The API treats an empty list as all."""
    with pytest.raises(ValueError, match=f"{name} must not be empty: to include all, omit it"):
        getattr(hook, f"start_{kind}_sync")(BULK, **{name: value})
    assert polytomic_sandbox.requests == []


BAD_STARTS: list[tuple[str, dict[str, Any], str]] = [
    *(("bulk", {"test": value}, "test must be True or False") for value in ("false", 0, "", [])),
    ("bulk", {"resync_mode": 5}, "resync_mode must be text"),
    ("bulk", {"fetch_mode": True}, "fetch_mode must be text"),
    *(("bulk", {"schemas": value}, "schemas must be a list") for value in ("account", "", {"account": 1}, 5, True)),
    *(("bulk", {"schemas": ["account", value]}, r"schemas\[1\]") for value in (None, 5, "", " ", "a\n", ["a"])),
    *(("bulk", {"sync_id": value}, "sync_id") for value in (None, 5, "", " ", "..", "a b", "None", uuid.UUID(BULK))),
    *(("bulk", {"idempotency_key": value}, "idempotency_key must be") for value in ("", 12345678, b"12345678")),
    ("model", {"resync": "false"}, "resync must be True or False"),
    ("model", {"identities": "a@x.io"}, "identities must be a list, not text"),
    ("model", {"identities": [1]}, r"identities\[0\]"),
    ("model", {"source_identities": [EMAIL]}, r"source_identities\[0\] must be a list"),
    *(
        ("model", {"source_identities": [[EMAIL | {"value": value}]]}, r"source_identities\[0\]\[0\]\['value'\]")
        for value in NOT_JSON
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "named"), BAD_STARTS)
def test_hook_rejects_an_invalid_argument_of_a_start(
    hook: PolytomicHook, polytomic_sandbox: Sandbox, kind: str, arguments: dict[str, Any], named: str
) -> None:
    """A ValueError names the argument and the position in it, and nothing is sent."""
    with pytest.raises(ValueError, match=named):
        getattr(hook, f"start_{kind}_sync")(**{"sync_id": BULK, **arguments})
    assert polytomic_sandbox.requests == []


def test_hook_accepts_any_iterable_of_schemas(hook: PolytomicHook, polytomic_sandbox: Sandbox) -> None:
    """A generator, a set or the keys of a dict are read once, and sent as a list."""
    schemas = ["account", "contact"]
    for value in (iter(schemas), set(schemas), dict.fromkeys(schemas).keys(), tuple(schemas)):
        execution = hook.start_bulk_sync(f" {BULK.upper()}\n", schemas=value)  # type: ignore[arg-type]
        hook.wait_for_bulk_sync_execution(BULK.upper(), f"{execution.id} ", poke_interval=0.01)

    starts = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert [request.body for request in starts] == [{"schemas": schemas}] * 4
    assert all(f"/{BULK}/" in request.path for request in polytomic_sandbox.requests)


@pytest.mark.parametrize("kind", ["bulk", "model"])
@pytest.mark.parametrize("value", NOT_JSON, ids=repr)
def test_hook_rejects_fields_that_json_cannot_represent(
    hook: PolytomicHook, polytomic_sandbox: Sandbox, kind: str, value: Any
) -> None:
    """A ValueError names the field and the position in it, and nothing is sent."""
    with pytest.raises(ValueError, match=r"destination_configuration\['a'\]\[0\]"):
        getattr(hook, f"create_{kind}_sync")(name="New", destination_configuration={"a": [value]})
    with pytest.raises(ValueError, match="name"):
        getattr(hook, f"update_{kind}_sync")(BULK, name=value)
    assert polytomic_sandbox.requests == []


@pytest.mark.parametrize(
    ("method", "arguments", "named"),
    [
        ("activate_bulk_sync", (BULK, "false"), "active must be True or False"),
        ("activate_model_sync", (MODEL, None), "active must be True or False"),
        ("create_bulk_sync", {"active": "false"}, "active must be True or False"),
        ("update_model_sync", {"sync_id": MODEL, "sync_all_records": 0}, "sync_all_records must be True or False"),
        ("list_bulk_syncs", ("false",), "active must be True or False"),
        ("list_bulk_syncs", {"source_connection_id": 5}, "source_connection_id must be text"),
        ("list_model_syncs", (1,), "active must be True or False"),
        ("list_bulk_sync_executions", (BULK, "false"), "only_terminal must be True or False"),
        ("list_model_sync_executions", (MODEL, True, "no"), "ascending must be True or False"),
        ("get_bulk_sync", ("a b",), "sync_id must not be"),
        ("get_model_sync", (None,), "sync_id must be given"),
        ("get_bulk_sync_execution", (BULK, "None"), "execution_id must be given"),
        ("cancel_model_sync_execution", (MODEL, ".."), "execution_id must not be"),
        ("delete_bulk_sync", ("",), "sync_id must be given"),
        ("wait_for_bulk_sync_execution", {"sync_id": BULK, "execution_id": "e", "timeout": "5"}, "timeout must be"),
        ("refresh_schemas", (5,), "connection_id must be text"),
        ("select_schemas", (BULK, ["account"]), "names must each be text"),
        ("iter_bulk_sync_logs", {"sync_id": BULK, "execution_id": "e", "max_bytes": "5"}, "max_bytes must be"),
    ],
)
def test_hook_rejects_an_invalid_argument(
    hook: PolytomicHook, polytomic_sandbox: Sandbox, method: str, arguments: Any, named: str
) -> None:
    """A ValueError names the argument, and nothing is sent."""
    positional, by_name = ((), arguments) if isinstance(arguments, dict) else (arguments, {})
    with pytest.raises(ValueError, match=named):
        list(getattr(hook, method)(*positional, **by_name) or ())
    assert polytomic_sandbox.requests == []


def test_hook_filters_syncs_by_a_connection_id_in_any_spelling(hook: PolytomicHook) -> None:
    """An id in upper case, or with surrounding white space, filters as the canonical id does."""
    found = list(hook.list_bulk_syncs(source_connection_id=f" {SALESFORCE.upper()}\n"))

    assert found
    assert found == list(hook.list_bulk_syncs(source_connection_id=SALESFORCE))
    assert list(hook.list_model_syncs(target_connection_id=SALESFORCE.upper()))
