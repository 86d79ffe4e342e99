"""The API key stays where it is, whatever the provider does, and whoever looks."""

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
from airflow_provider_polytomic._airflow.deferral import sync_display_name
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
from .persisted import NEW, TASKS, Stage, all_that_is_written

KEY = "k3y-that-nobody-shall-see"
LOGIN = "an-organization"
SECRETS = (KEY, base64.b64encode(f"{LOGIN}:{KEY}".encode()).decode(), base64.b64encode(KEY.encode()).decode()[:-2])


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """All that is logged, by whom it may be, and printed, with Python's own development aids switched on."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    caplog.set_level(1)
    names = ("asyncio", "aiohttp.client", "urllib3", "requests", "httpx", "airflow", "airflow_provider_polytomic")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(1)

    def all_of_it() -> str:
        return caplog.text + repr([vars(record) for record in caplog.records]) + "".join(capfd.readouterr())

    yield all_of_it
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def has_secret(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture
def behind_a_login(polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The sandbox, for whose key there is a login, too."""
    polytomic_sandbox.rotate_key(KEY)
    connection = {"conn_type": "polytomic", "host": polytomic_sandbox.url, "login": LOGIN, "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
    return polytomic_sandbox


def test_nothing_that_is_written_down_has_it(monkeypatch: pytest.MonkeyPatch, shown: Any) -> None:
    """No XCom, no row of a trigger, no event, no note, no position and no asset event; nor any log on the way."""

    class Secretive(Stage):
        def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
            super().__init__(monkeypatch)
            self.sandbox.rotate_key(KEY)

    monkeypatch.setattr(persisted, "Stage", Secretive)

    told = json.dumps(all_that_is_written(monkeypatch))

    assert all(name in told for name in TASKS)
    logged = shown()
    assert "/api/bulk/syncs" in logged
    assert has_secret(told + logged) == []


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
def test_nor_has_a_task_that_has_run(behind_a_login: Sandbox, make: Any, deferrable: bool, shown: Any) -> None:
    """Neither its attributes, nor its rendered fields, nor a copy of it, when it has read the connection."""
    made = []

    def remember() -> Any:
        made.append(make(deferrable=deferrable))
        return made[-1]

    if "Sensor" in type(make(deferrable=deferrable)).__name__:
        behind_a_login.start_foreign(SYNC)
    task = Task(remember)
    task.run()

    for one in made:
        fields = {name: getattr(one, name) for name in one.template_fields}
        dumps = [repr(one), repr(vars(one)), repr(fields), repr(vars(copy.deepcopy(one)))]
        assert has_secret("".join(dumps)) == []
    assert has_secret(repr(task.deferrals) + json.dumps(task.events) + shown()) == []


def test_no_failure_shows_it(behind_a_login: Sandbox, deferrable: bool, shown: Any) -> None:
    """A server that fails and quotes the credentials puts them neither into the error nor into what it came from."""
    said = json.dumps({"message": f"{KEY} and {SECRETS[1]}", "key": KEY})
    behind_a_login.faults.status(422, "POST .*", times=None, body=said)

    with pytest.raises(AirflowFailException) as caught:
        Task(lambda: PolytomicBulkSyncOperator(task_id="sync", sync_id=SYNC, deferrable=deferrable)).run()

    told = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert "***" in told
    assert has_secret(told + shown()) == []


def test_a_failed_execution_shows_no_secret_either(behind_a_login: Sandbox, deferrable: bool, shown: Any) -> None:
    """Nor does a log that quotes it: the console log, in the task's log and in the failure's message."""
    context = make_context()
    push = context["ti"].xcom_push

    def push_and_fail(key: str, value: Any) -> None:
        push(key, value)
        if behind_a_login.running(SYNC):
            behind_a_login.finish(SYNC, value["execution_id"], "failed", "disk full")

    context["ti"].xcom_push = push_and_fail
    arguments = {"task_id": "sync", "sync_id": SYNC, "poke_interval": 0.02, "log_console": True}

    with pytest.raises(PolytomicSyncError) as caught:
        Task(lambda: PolytomicBulkSyncOperator(deferrable=deferrable, **arguments)).run(context)

    assert has_secret(str(caught.value) + shown() + json.dumps(context["ti"].xcoms)) == []


def test_creating_shows_no_secret(behind_a_login: Sandbox, shown: Any) -> None:
    """Nor does the operator that creates syncs."""
    operator = PolytomicCreateBulkSyncOperator(**NEW)
    operator.execute(make_context(task_id="create"))

    assert has_secret(repr(vars(operator)) + shown()) == []


def test_a_hook_travels_without_its_key(behind_a_login: Sandbox) -> None:
    """A pickle or a copy of a hook has the id of the connection, reads it again where it arrives, and works there."""
    hook = PolytomicHook(timeout=7)
    assert hook.client.settings.key == KEY

    packed = pickle.dumps(hook)
    assert KEY.encode() not in packed
    assert has_secret(repr(vars(hook))) == []
    for arrived in (pickle.loads(packed), copy.deepcopy(hook), copy.copy(hook)):
        assert "client" not in vars(arrived)
        assert (arrived.polytomic_conn_id, arrived.timeout) == ("polytomic_default", 7)
        assert arrived.get_bulk_sync(SYNC).id == SYNC


def test_an_error_travels_without_it(behind_a_login: Sandbox) -> None:
    """Airflow pickles what a task raises."""
    behind_a_login.rotate_key("another")
    hook = PolytomicHook(max_retries=0)
    with pytest.raises(Exception, match="HTTP 401") as caught:
        hook.call(bulk_syncs.get(SYNC))

    assert KEY.encode() not in pickle.dumps(caught.value)


def test_a_connection_of_another_kind_is_not_sent_to_polytomic(
    behind_a_login: Sandbox, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    """Who may choose the id of a connection cannot have the password of a database sent to its host, or to ours."""
    other = {"conn_type": "postgres", "host": behind_a_login.url, "password": "the-password-of-a-database"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(other))
    arguments = {"task_id": "sync", "sync_id": SYNC, "polytomic_conn_id": "warehouse", "deferrable": deferrable}

    with pytest.raises(AirflowFailException, match="connection 'warehouse': type must be polytomic, not 'postgres'"):
        Task(lambda: PolytomicBulkSyncOperator(**arguments)).run()
    assert behind_a_login.requests == []


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "..", "../../me"])
def test_a_rendered_id_that_is_none_ends_the_task(behind_a_login: Sandbox, bad: str, deferrable: bool) -> None:
    """A template cannot add headers, or ask for something else with our key."""

    def rendered() -> Any:
        made = PolytomicBulkSyncOperator(task_id="sync", sync_id="{{ bad }}", deferrable=deferrable)
        made.render_template_fields({"bad": bad})
        return made

    with pytest.raises(Exception, match=r"sync_id must not|HTTP 404") as caught:
        Task(rendered).run()

    assert isinstance(caught.value, AirflowFailException)
    assert all(request.path.startswith("/api/bulk/syncs/") for request in behind_a_login.requests)
    assert all("x-evil" not in request.headers for request in behind_a_login.requests)


def test_no_answer_forges_lines_of_a_log(
    behind_a_login: Sandbox, caplog: pytest.LogCaptureFixture, deferrable: bool
) -> None:
    """What a host says, with line breaks and escapes in it, stays within the lines that quote it."""
    caplog.set_level(logging.DEBUG, "airflow_provider_polytomic")
    forged = "x\n2026-01-01 CRITICAL forged \x1b[31mred"
    sync = behind_a_login._world.syncs[SYNC]
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


def test_no_name_is_kept_to_its_end(polytomic_sandbox: Sandbox) -> None:
    """A sync's name, which goes into notes, events and messages, is one short line."""
    polytomic_sandbox._world.syncs[SYNC].doc["name"] = "x\n" + "y" * 100_000
    client = PolytomicHook().client
    name = sync_display_name(client.run, get_sync_kind("bulk"), SYNC) or ""

    assert name.isprintable()
    assert len(name) < 500


@pytest.mark.parametrize("spelled", SECRETS[:2], ids=["as it is", "as it is sent"])
@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_key_that_an_execution_quotes_is_concealed(
    behind_a_login: Sandbox, kind: str, spelled: str, deferrable: bool, shown: Any
) -> None:
    """A server that quotes the key in messages, names or its console log puts it into no error, XCom, event or log."""
    quoted = f"refused: {spelled}"
    sync = behind_a_login._world.syncs[SYNC]
    sync.doc["name"] = quoted
    sync.behaviour.outcome, sync.behaviour.status_message = ["errors"], quoted
    for schema in sync.schemas.values():
        schema.spec.outcome, schema.spec.status_message = ["failed"], quoted
        schema.config["user_output_name"] = quoted
    arguments = {"task_id": "sync", "sync_id": SYNC, "poke_interval": 0.02, "deferrable": deferrable}
    if kind == "sensor":
        arguments["execution_id"] = behind_a_login.start_foreign(SYNC).id
        task = Task(lambda: PolytomicBulkSyncSensor(**arguments))
    else:
        task = Task(lambda: PolytomicBulkSyncOperator(log_console=True, **arguments))
    context = make_context()

    with pytest.raises((PolytomicSyncError, AirflowFailException)) as caught:
        task.run(context)

    told = "".join(traceback.format_exception(caught.value)) + json.dumps([context["ti"].xcoms, task.events])
    assert "refused: ***" in told
    assert has_secret(told + repr(vars(caught.value)) + shown()) == []


def test_answer_is_as_it_was_when_a_short_key_occurs_in_it(
    polytomic_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of a few letters, which names and ids hold by chance, and a proxy's password are not looked for in data."""
    polytomic_sandbox.rotate_key("account")
    connection = {"conn_type": "polytomic", "host": polytomic_sandbox.url, "password": "account"}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
    hook = PolytomicHook()

    schemas = hook.iterate(bulk_syncs.schemas(SYNC))

    assert "account" in [schema.id for schema in schemas]
