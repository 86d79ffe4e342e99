"""Credentials never reach logs, XComs, events, errors, trigger rows, copies or other hosts."""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import traceback
from typing import Any

import pytest

from airflow_provider_polytomic._airflow.compat import AirflowFailException
from airflow_provider_polytomic._airflow.reporting import sync_display_name
from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import PolytomicSyncError
from airflow_provider_polytomic.api.kinds import get_sync_kind
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import SALESFORCE_TO_WAREHOUSE as SYNC
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor

from . import persisted
from .conftest import Task, make_context
from .persisted import NEW, TASKS, Stage, collect_persisted_data

KEY = "k3y-that-must-not-appear"
LOGIN = "an-organization"
SECRETS = (KEY, base64.b64encode(f"{LOGIN}:{KEY}".encode()).decode(), base64.b64encode(KEY.encode()).decode()[:-2])


@pytest.fixture
def captured_output(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A function that returns everything logged and printed, with Python's development aids switched on."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    caplog.set_level(1)
    names = ("asyncio", "aiohttp.client", "urllib3", "requests", "httpx", "airflow", "airflow_provider_polytomic")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(1)

    def collect() -> str:
        return caplog.text + repr([vars(record) for record in caplog.records]) + "".join(capfd.readouterr())

    yield collect
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def find_secrets(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture
def login_sandbox(polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The sandbox behind a connection with a login and a password."""
    polytomic_sandbox.rotate_key(KEY)
    connection = {"conn_type": "polytomic", "host": polytomic_sandbox.url, "login": LOGIN, "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
    return polytomic_sandbox


def test_persisted_data_and_logs_contain_no_key(monkeypatch: pytest.MonkeyPatch, captured_output: Any) -> None:
    """Trigger rows, events, XComs, task state, positions, asset events and the log are searched."""

    class StageWithKey(Stage):
        def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
            super().__init__(monkeypatch)
            self.sandbox.rotate_key(KEY)

    monkeypatch.setattr(persisted, "Stage", StageWithKey)

    shown_text = json.dumps(collect_persisted_data(monkeypatch))

    assert all(name in shown_text for name in TASKS)
    logged = captured_output()
    assert "/api/bulk/syncs" in logged
    assert find_secrets(shown_text + logged) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda **more: PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, poke_interval=0.02, **more),
        lambda **more: PolytomicBulkSyncSensor(
            task_id="sync", sync_id=SYNC, completed_after="2026-01-01", poke_interval=0.02, **more
        ),
    ],
    ids=["operator", "sensor"],
)
def test_task_attributes_and_copies_contain_no_key_after_the_run(
    login_sandbox: Sandbox, make: Any, deferrable: bool, captured_output: Any
) -> None:
    """Attributes, rendered fields and copies are searched after the task has read the connection."""
    made = []

    def make_and_keep() -> Any:
        made.append(make(deferrable=deferrable))
        return made[-1]

    if "Sensor" in type(make(deferrable=deferrable)).__name__:
        login_sandbox.start_foreign(SYNC)
    task = Task(make_and_keep)
    task.run()

    for one in made:
        fields = {name: getattr(one, name) for name in one.template_fields}
        dumps = [repr(one), repr(vars(one)), repr(fields), repr(vars(copy.deepcopy(one)))]
        assert find_secrets("".join(dumps)) == []
    assert find_secrets(repr(task.deferrals) + json.dumps(task.events) + captured_output()) == []


def test_error_contains_no_key_when_the_server_quotes_the_credentials(
    login_sandbox: Sandbox, deferrable: bool, captured_output: Any
) -> None:
    """The error, its causes and the log contain no secret."""
    body = json.dumps({"message": f"{KEY} and {SECRETS[1]}", "key": KEY})
    login_sandbox.faults.status(422, "POST .*", times=None, body=body)

    with pytest.raises(AirflowFailException) as caught:
        Task(lambda: PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, deferrable=deferrable)).run()

    shown_text = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert "***" in shown_text
    assert find_secrets(shown_text + captured_output()) == []


def test_failure_message_and_console_log_contain_no_key(
    login_sandbox: Sandbox, deferrable: bool, captured_output: Any
) -> None:
    """The console log, in the task's log and in the failure message, contains no secret."""
    context = make_context()
    push = context["ti"].xcom_push

    def push_and_fail(key: str, value: Any) -> None:
        push(key, value)
        if login_sandbox.running(SYNC):
            login_sandbox.finish(SYNC, value["execution_id"], "failed", "disk full")

    context["ti"].xcom_push = push_and_fail
    arguments = {"task_id": "sync", "sync_id": SYNC, "poke_interval": 0.02, "log_console": True}

    with pytest.raises(PolytomicSyncError) as caught:
        Task(lambda: PolytomicBulkSyncOperator(deferrable=deferrable, **arguments)).run(context)

    assert find_secrets(str(caught.value) + captured_output() + json.dumps(context["ti"].xcoms)) == []


def test_create_operator_shows_no_key(login_sandbox: Sandbox, captured_output: Any) -> None:
    """Attributes and the log contain no secret."""
    operator = PolytomicCreateBulkSyncOperator(**NEW)
    operator.execute(make_context(task_id="create"))

    assert find_secrets(repr(vars(operator)) + captured_output()) == []


def test_hook_pickle_contains_no_key(login_sandbox: Sandbox) -> None:
    """A pickle or a copy of a hook has the id of the connection, and reads the connection again."""
    hook = PolytomicHook(timeout=7)
    assert hook.client.settings.key == KEY

    packed = pickle.dumps(hook)
    assert KEY.encode() not in packed
    assert find_secrets(repr(vars(hook))) == []
    for arrived in (pickle.loads(packed), copy.deepcopy(hook), copy.copy(hook)):
        assert "client" not in vars(arrived)
        assert (arrived.polytomic_conn_id, arrived.timeout) == ("polytomic_default", 7)
        assert arrived.get_bulk_sync(SYNC).id == SYNC


def test_error_pickle_contains_no_key(login_sandbox: Sandbox) -> None:
    """Airflow pickles the errors that a task raises."""
    login_sandbox.rotate_key("another")
    hook = PolytomicHook(max_retries=0)
    with pytest.raises(Exception, match="HTTP 401") as caught:
        hook.call(bulk_syncs.get(SYNC))

    assert KEY.encode() not in pickle.dumps(caught.value)


def test_connection_of_another_type_is_not_used(
    login_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    """A DAG author cannot have the password of another connection sent to its host, or to Polytomic."""
    other = {"conn_type": "postgres", "host": login_sandbox.url, "password": "the-password-of-a-database"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(other))
    arguments = {"task_id": "sync", "sync_id": SYNC, "polytomic_conn_id": "warehouse", "deferrable": deferrable}

    with pytest.raises(AirflowFailException, match="connection 'warehouse': type must be polytomic, not 'postgres'"):
        Task(lambda: PolytomicBulkSyncOperator(**arguments)).run()
    assert login_sandbox.requests == []


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "..", "../../me"])
def test_invalid_rendered_id_fails_the_task_without_retries(login_sandbox: Sandbox, bad: str, deferrable: bool) -> None:
    """A template cannot add headers or change the request path."""

    def rendered() -> Any:
        made = PolytomicBulkSyncOperator(task_id="sync", sync_id="{{ bad }}", deferrable=deferrable)
        made.render_template_fields({"bad": bad})
        return made

    with pytest.raises(Exception, match=r"sync_id must not|HTTP 404") as caught:
        Task(rendered).run()

    assert isinstance(caught.value, AirflowFailException)
    assert all(request.path.startswith("/api/bulk/syncs/") for request in login_sandbox.requests)
    assert all("x-evil" not in request.headers for request in login_sandbox.requests)


def test_server_text_cannot_forge_log_lines(
    login_sandbox: Sandbox, caplog: pytest.LogCaptureFixture, deferrable: bool
) -> None:
    """Text from a server with line breaks and escapes stays within the lines that quote it."""
    caplog.set_level(logging.DEBUG, "airflow_provider_polytomic")
    forged = "x\n2026-01-01 CRITICAL forged \x1b[31mred"
    sync = login_sandbox._world.syncs[SYNC]
    sync.doc["name"] = forged
    for schema in sync.schemas.values():
        schema.spec.outcome = ["failed"]
        schema.spec.status_message = forged
        schema.config["user_output_name"] = forged
    arguments = {"task_id": "sync", "sync_name": forged, "poke_interval": 0.02, "log_console": True}

    with pytest.raises(PolytomicSyncError) as caught:
        Task(lambda: PolytomicBulkSyncOperator(deferrable=deferrable, **arguments)).run()

    logged = [record.getMessage() for record in caplog.records if record.name.startswith("airflow_provider_polytomic")]
    assert any("forged" in message for message in logged)
    assert [message for message in logged if not message.isprintable()] == []
    assert [line for line in str(caught.value).splitlines() if not line.isprintable() or line.startswith("2026")] == []


def test_sync_name_in_messages_is_one_short_line(polytomic_sandbox: Sandbox) -> None:
    """A sync's name goes into deferral state, events and messages."""
    polytomic_sandbox._world.syncs[SYNC].doc["name"] = "x\n" + "y" * 100_000
    client = PolytomicHook().client
    name = sync_display_name(client.run, get_sync_kind("bulk"), SYNC) or ""

    assert name.isprintable()
    assert len(name) < 500


@pytest.mark.parametrize("spelling", SECRETS[:2], ids=["plain", "encoded"])
@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_key_quoted_in_an_execution_is_redacted(
    login_sandbox: Sandbox, kind: str, spelling: str, deferrable: bool, captured_output: Any
) -> None:
    """A key that a server quotes in messages, names or its console log reaches no error, XCom, event or log."""
    quoted = f"refused: {spelling}"
    sync = login_sandbox._world.syncs[SYNC]
    sync.doc["name"] = quoted
    sync.spec.outcome, sync.spec.status_message = ["errors"], quoted
    for schema in sync.schemas.values():
        schema.spec.outcome, schema.spec.status_message = ["failed"], quoted
        schema.config["user_output_name"] = quoted
    arguments = {"task_id": "sync", "sync_id": SYNC, "poke_interval": 0.02, "deferrable": deferrable}
    if kind == "sensor":
        arguments["execution_id"] = login_sandbox.start_foreign(SYNC).id
        task = Task(lambda: PolytomicBulkSyncSensor(**arguments))
    else:
        task = Task(lambda: PolytomicBulkSyncOperator(log_console=True, **arguments))
    context = make_context()

    with pytest.raises((PolytomicSyncError, AirflowFailException)) as caught:
        task.run(context)

    shown_text = "".join(traceback.format_exception(caught.value)) + json.dumps([context["ti"].xcoms, task.events])
    assert "refused: ***" in shown_text
    assert find_secrets(shown_text + repr(vars(caught.value)) + captured_output()) == []


def test_response_is_not_redacted_when_it_contains_a_short_key(
    polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of a few letters, which occurs in names and ids by chance, is not redacted in data."""
    polytomic_sandbox.rotate_key("account")
    connection = {"conn_type": "polytomic", "host": polytomic_sandbox.url, "password": "account"}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
    hook = PolytomicHook()

    schemas = hook.iterate(bulk_syncs.schemas(SYNC))

    assert "account" in [schema.id for schema in schemas]
