"""Operator arguments: validation of literals and rendered templates, template fields, and text from Jinja."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from jinja2 import Template

from airflow_provider_polytomic._airflow import validation
from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor

from .conftest import Task, make_context

INVALID: list[tuple[dict[str, Any], str]] = [
    ({"sync_id": None}, "sync_id or sync_name"),
    ({"sync_name": "x"}, "sync_id or sync_name"),
    ({"sync_id": ""}, "sync_id or sync_name"),
    ({"sync_id": 7}, "sync_id"),
    ({"test": True, "resync_mode": "rebuild"}, "test and resync_mode"),
    ({"test": "maybe"}, "test"),
    ({"resync_mode": "all"}, "resync_mode"),
    ({"fetch_mode": "some"}, "fetch_mode"),
    ({"if_running": "hope"}, "if_running"),
    ({"allow_errors": "perhaps"}, "allow_errors"),
    ({"min_records": -1}, "min_records"),
    ({"min_records": "many"}, "min_records"),
    ({"schemas": {"a": 1}}, "schemas"),
    ({"schemas": [1]}, "schemas"),
    ({"schemas": iter(["account"])}, "schemas"),
    ({"schemas": map(str.lower, ["ACCOUNT"])}, "schemas"),
    ({"schemas": filter(None, ["account"])}, "schemas"),
    ({"schemas": "['account'"}, "schemas"),
    ({"schemas": "['account', 'contact'"}, "schemas"),
    ({"schemas": "account', 'contact']"}, r"schemas\[1\]"),
    ({"schemas": "('account')"}, "schemas"),
    ({"schemas": "{'account': 1}"}, "schemas"),
    ({"schemas": "['account' 'contact']"}, "schemas"),
    ({"schemas": "['account', 7]"}, r"schemas\[1\]"),
    ({"schemas": "dict_keys(['account'])"}, r"schemas\[0\]"),
    ({"schemas": "dict_keys(['account', 'contact'])"}, r"schemas\[0\]"),
    ({"schemas": "deque([])"}, r"schemas\[0\]"),
    ({"schemas": "frozenset({'account', 'contact'}"}, r"schemas\[0\]"),
    ({"schemas": "frozenset([['account']])"}, "schemas"),
    ({"schemas": "set()"}, "schemas must not be empty"),
    ({"schemas": "()"}, "schemas must not be empty"),
    ({"schemas": "<generator object <genexpr> at 0x7f>"}, r"schemas\[0\]"),
    ({"schemas": '"account"'}, r"schemas\[0\]"),
    ({"schemas": "'account', 'contact'"}, r"schemas\[0\]"),
    ({"schemas": "None,account"}, r"schemas\[0\]"),
    ({"schemas": "account\ncontact"}, r"schemas\[0\]"),
    ({"schemas": ["account\n"]}, r"schemas\[0\]"),
    ({"schemas": ["account", None]}, r"schemas\[1\]"),
    ({"sync_id": "a b"}, "sync_id"),
    ({"sync_id": ".."}, "sync_id"),
    ({"sync_id": "a\0"}, "sync_id"),
    ({"schemas": []}, "schemas must not be empty: .* omit it"),
    ({"schemas": (), "resync_mode": "rebuild"}, "schemas must not be empty"),
    ({"schemas": set()}, "schemas must not be empty"),
    ({"schemas": "[]"}, "schemas must not be empty"),
    ({"schemas": ","}, "schemas must not be empty"),
]
UNTEMPLATED: list[tuple[dict[str, Any], str]] = [
    ({"poke_interval": 0}, "poke_interval"),
    ({"poke_interval": -3}, "poke_interval"),
    ({"poke_interval": "30"}, "poke_interval"),
    ({"poke_interval": None}, "poke_interval"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": timedelta(0)}, "timeout"),
    ({"timeout": float("nan")}, "timeout"),
    ({"timeout": 10**400}, "timeout"),
    *(
        ({name: value}, f"{name} must be True or False")
        for name in ("wait_for_completion", "deferrable", "cancel_on_kill", "log_console")
        for value in ("false", "{{ params.x }}", None, 1)
    ),
    ({"assets": "false"}, "assets"),
]


@pytest.mark.parametrize(("arguments", "named"), INVALID + UNTEMPLATED)
def test_operator_rejects_invalid_literals_when_the_dag_is_parsed(arguments: dict[str, Any], named: str) -> None:
    """The constructor raises a ValueError that names the argument."""
    with pytest.raises(ValueError, match=named):
        PolytomicBulkSyncOperator(**{"task_id": "sync", "sync_id": SYNC, **arguments})


@pytest.mark.parametrize(("arguments", "named"), INVALID)
def test_operator_fails_without_retries_when_a_template_renders_an_invalid_value(
    polytomic_sandbox: Any, arguments: dict[str, Any], named: str
) -> None:
    """Nothing is sent."""

    def rendered() -> Any:
        operator = PolytomicBulkSyncOperator(task_id="sync", sync_id="{{ later }}")
        operator.sync_id = SYNC
        for name, value in arguments.items():
            setattr(operator, name, value)
        return operator

    with pytest.raises(AirflowFailException, match=named):
        Task(rendered).run()
    assert polytomic_sandbox.requests == []


@pytest.mark.parametrize("name", PolytomicBulkSyncOperator.template_fields)
def test_operator_fails_without_retries_when_a_template_was_not_rendered(polytomic_sandbox: Any, name: str) -> None:
    """An argument that is still a template when the task runs is an error, and is not ignored."""

    def unrendered() -> Any:
        operator = PolytomicBulkSyncOperator(task_id="sync", sync_id="{{ later }}")
        operator.sync_id = SYNC
        setattr(operator, name, "{{ oh }}")
        return operator

    with pytest.raises(AirflowFailException, match=name):
        Task(unrendered).run()
    assert polytomic_sandbox.requests == []


@pytest.mark.parametrize("value", ["{{ params.x }}", ["{{ params.x }}"], "{% if x %}a{% endif %}"])
def test_operator_accepts_any_template_when_the_dag_is_parsed(value: Any) -> None:
    """The constructor does not validate templates."""
    fields = {name: value for name in PolytomicBulkSyncOperator.template_fields if name != "sync_name"}

    PolytomicBulkSyncOperator(task_id="sync", **fields)


@pytest.mark.parametrize("operator", [PolytomicBulkSyncOperator, PolytomicBulkSyncSensor])
def test_every_template_field_is_an_attribute(operator: Any) -> None:
    """Every template field is an argument that is stored unchanged."""
    made = operator(task_id="sync", sync_id=SYNC)

    assert [name for name in operator.template_fields if not hasattr(made, name)] == []
    assert made.sync_id == SYNC


OPERATORS = [PolytomicBulkSyncOperator, PolytomicModelSyncOperator, PolytomicCreateBulkSyncOperator]
SENSORS = [PolytomicBulkSyncSensor, PolytomicModelSyncSensor]


@pytest.mark.parametrize("kind", [*OPERATORS, *SENSORS])
def test_operator_and_sensor_classes_define_one_constructor_each(kind: Any) -> None:
    """Airflow wraps every `__init__` in the hierarchy, which slows DAG parsing."""
    own_classes = [base for base in kind.mro() if base.__module__.startswith("airflow_provider_polytomic")]

    assert sum("__init__" in vars(base) for base in own_classes) == 1


def test_subclass_may_override_an_argument_with_a_property() -> None:
    """A property of a subclass is set like any attribute."""

    class Prefixed(PolytomicBulkSyncOperator):
        @property
        def sync_id(self) -> str | None:
            return self._sync

        @sync_id.setter
        def sync_id(self, value: str) -> None:
            self._sync = f"prefix-{value}"

    assert Prefixed(task_id="sync", sync_id="x").sync_id == "prefix-x"


def test_operator_parses_rendered_text(polytomic_sandbox: Any) -> None:
    """Booleans, numbers, lists and None that Jinja rendered as text keep their meaning."""

    def rendered() -> Any:
        operator = PolytomicBulkSyncOperator(task_id="sync", sync_id="{{ later }}", poke_interval=0.05)
        operator.sync_id, operator.sync_name = SYNC, "None"
        operator.test, operator.resync_mode, operator.fetch_mode = "False", "", "None"
        operator.schemas, operator.min_records, operator.allow_errors = "['account', 'contact']", "None", "true"
        operator.if_running = "fail"
        return operator

    Task(rendered).run()

    (start,) = [request for request in polytomic_sandbox.requests if request.method == "POST"]
    assert start.body == {"schemas": ["account", "contact"]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("None", None),
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        ({"b", "c", "a"}, ["a", "b", "c"]),
        (frozenset({"b", "c", "a"}), ["a", "b", "c"]),
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("a, b", ["a", "b"]),
        ("a", ["a"]),
    ],
)
def test_list_argument_accepts_lists_json_and_comma_separated_text(value: Any, expected: Any) -> None:
    """A list may also be the text that Python prints for it."""
    assert validation.ids("schemas", value) == expected


@pytest.mark.parametrize("value", [["O'Brien", "Smith"], ['x", "y'], ["back\\slash", "é\x85"], ["a"]], ids=ascii)
def test_rendered_list_or_dict_is_parsed_without_loss(value: list[str]) -> None:
    """Quotes, backslashes and control characters in a rendered list or dict are kept."""
    printed = Template("{{ v }}").render

    assert validation.texts("identities", printed(v=value)) == value
    assert validation.mapping("destination_configuration", printed(v={"all": value})) == {"all": value}


def test_set_argument_has_the_same_order_in_every_process() -> None:
    """The order does not depend on the hash seed, so that a retry sends the same request."""
    code = (
        "from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator\n"
        "made = PolytomicBulkSyncOperator(task_id='sync', sync_id='x', schemas={'account', 'contact', 'lead'})\n"
        "print(made._get_start_arguments()['schemas'])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        for seed in "123"
    ]

    assert [run.stdout.splitlines()[-1:] for run in runs] == [["['account', 'contact', 'lead']"]] * 3, runs


def test_dag_parsing_reads_no_connection() -> None:
    """Operators and sensors with an unknown connection id can be created."""
    for number in range(50):
        PolytomicBulkSyncOperator(task_id=f"sync_{number}", sync_id=SYNC, polytomic_conn_id="nowhere")
        PolytomicBulkSyncSensor(task_id=f"wait_{number}", sync_id=SYNC, polytomic_conn_id="nowhere")


def test_operator_output_may_be_an_argument_of_another_task(polytomic_sandbox: Any) -> None:
    """The task whose output is used becomes an upstream task."""
    try:
        from airflow.sdk import DAG
    except ImportError:
        from airflow import DAG

    with DAG("chained"):
        first = PolytomicBulkSyncOperator(task_id="first", sync_id=SYNC, wait_for_completion=False)
        second = PolytomicBulkSyncSensor(task_id="second", sync_id=SYNC, execution_id=first.output)

    assert second.upstream_task_ids == {"first"}


def test_operator_uses_the_connection_of_polytomic_conn_id(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`polytomic_conn_id` names the connection."""
    connection = os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"]
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", connection)
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(json.loads(connection) | {"password": "wrong"}))

    Task(
        lambda: PolytomicBulkSyncOperator(
            task_id="sync", sync_id=SYNC, polytomic_conn_id="elsewhere", poke_interval=0.05, deferrable=True
        )
    ).run(make_context())

    assert len(polytomic_sandbox.starts(SYNC)) == 1
