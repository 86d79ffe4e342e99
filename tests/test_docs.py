"""The documents say what is so: their code runs, their tables are complete, their links lead somewhere."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml

from airflow_provider_polytomic import __version__
from airflow_provider_polytomic._airflow import compat
from airflow_provider_polytomic.api import errors, idempotency
from airflow_provider_polytomic.api.client import drive
from airflow_provider_polytomic.api.events import poll as event_poll
from airflow_provider_polytomic.api.executions import batch_poller, outage, start_request, summary, wait
from airflow_provider_polytomic.api.kinds import SYNC_KINDS
from airflow_provider_polytomic.api.models import BulkSync, BulkSyncExecution, SchemaExecution
from airflow_provider_polytomic.api.plan import Response
from airflow_provider_polytomic.api.settings import Settings
from airflow_provider_polytomic.api.syncs import lookup
from airflow_provider_polytomic.api.transport import aiohttp_transport, requests_transport
from airflow_provider_polytomic.get_provider_info import EXTRA_FIELDS, UI_FIELDS, get_provider_info
from airflow_provider_polytomic.hooks.polytomic import DEFAULT_MAX_LOG_BYTES, MAX_SYNCS_PER_PAGE, PolytomicHook
from airflow_provider_polytomic.operators import bulk_sync
from airflow_provider_polytomic.operators._base import IF_RUNNING
from airflow_provider_polytomic.sandbox.__main__ import _parser
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import load_seed
from airflow_provider_polytomic.triggers import events as trigger_events
from airflow_provider_polytomic.triggers import execution as trigger_execution
from airflow_provider_polytomic.triggers.events import PolytomicSyncEventTrigger
from tests.documents import DOCUMENTS, README, ROOT, Block, blocks, read, source

pytest_plugins = ["airflow_provider_polytomic.sandbox.pytest_plugin"]

PACKAGE = ROOT / "airflow_provider_polytomic"
REFERENCE = ROOT / "docs" / "reference"
CONNECTION, OPERATORS, BEHAVIOUR, ERRORS, EVENTS, HOOK, SANDBOX = (
    REFERENCE / f"{name}.md" for name in ("connection", "operators", "behaviour", "errors", "events", "hook", "sandbox")
)
TESTING = ROOT / "docs" / "howto" / "testing-dags.md"


# --- reading the tables


def rows(document: Path, section: str = "") -> list[dict[str, str]]:
    """The rows of the tables in a section of a page, or of the whole page, by the names of their columns."""
    found: list[dict[str, str]] = []
    columns: list[str] = []
    sections = read(document).sections
    for line in (sections[section] if section else "\n".join(sections.values())).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            columns = []
        elif not columns:
            columns = cells
        elif set(line) - set("|- :"):
            assert len(cells) == len(columns), line
            found.append(dict(zip(columns, cells, strict=True)))
    return found


def names(cell: str) -> list[str]:
    """What a cell has in `code`."""
    return re.findall(r"`([^`]+)`", cell)


# --- operators and sensors


def public_modules(*kinds: str) -> list[str]:
    """The modules that the provider tells Airflow of."""
    info = get_provider_info()
    return [name for kind in kinds for entry in info[kind] for name in entry["python-modules"]]


def public_classes() -> dict[str, type]:
    """Every operator and sensor in them."""
    return {
        name: value
        for module in map(importlib.import_module, public_modules("operators", "sensors"))
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and issubclass(value, compat.BaseOperator)
    }


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    signature = inspect.signature(inspect.unwrap(cls.__init__))  # type: ignore[misc]
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {name: it for name, it in signature.parameters.items() if name != "self" and it.kind in named}


def test_all_operators_and_sensors_are_found() -> None:
    """The tests below look at the classes that there are, not at none."""
    assert {"PolytomicBulkSyncOperator", "PolytomicBulkSyncSensor"} <= set(public_classes())


@pytest.mark.parametrize("name", public_classes())
def test_the_table_of_an_operator_names_each_parameter(name: str) -> None:
    """Every public operator and sensor has a section named after it, with exactly its parameters, in its order."""
    assert list(parameters(public_classes()[name])) == [names(row["Parameter"])[0] for row in rows(OPERATORS, name)]


@pytest.mark.parametrize("name", public_classes())
def test_the_table_of_an_operator_gives_each_default(name: str) -> None:
    """The defaults are those of the signature; that of `deferrable` is a setting of Airflow."""
    given = {parameter.name: parameter.default for parameter in parameters(public_classes()[name]).values()}
    expected = {name: "required" if it is inspect.Parameter.empty else repr(it) for name, it in given.items()}
    if "deferrable" in given:
        assert given["deferrable"] == compat.default_deferrable()
        expected["deferrable"] = repr("[operators] default_deferrable")

    documented = {
        names(row["Parameter"])[0]: (names(row["Default"]) or [row["Default"]])[0] for row in rows(OPERATORS, name)
    }

    assert {key: value.replace("'", '"').strip('"') for key, value in expected.items()} == {
        key: value.strip('"') for key, value in documented.items()
    }


@pytest.mark.parametrize("name", public_classes())
def test_the_table_of_an_operator_tells_what_is_templated(name: str) -> None:
    """Templated is what the class has among its template fields, and nothing else."""
    documented = {names(row["Parameter"])[0] for row in rows(OPERATORS, name) if row["Templated"] == "yes"}

    assert set(public_classes()[name].template_fields) == documented  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", public_classes())
def test_the_section_of_an_operator_tells_where_to_import_it_from(name: str) -> None:
    """The module is named, so that nobody has to search for it."""
    assert f"`{public_classes()[name].__module__}`" in read(OPERATORS).sections[name]


def test_each_value_of_an_enumeration_is_told() -> None:
    """What the operator that creates syncs takes for an argument is in its row."""
    documented = {
        names(row["Parameter"])[0]: row["Meaning"] for row in rows(OPERATORS, "PolytomicCreateBulkSyncOperator")
    }

    for name, values in {
        "mode": bulk_sync.MODES,
        "automatically_add_new_fields": bulk_sync.DISCOVERIES,
        "normalize_names": bulk_sync.NORMALIZATIONS,
        "if_exists": bulk_sync.IF_EXISTS,
    }.items():
        assert [value for value in values if f'`"{value}"`' not in documented[name]] == []


def test_each_value_of_if_running_is_explained() -> None:
    """The table has the values that the operator takes."""
    assert [f'"{value}"' for value in IF_RUNNING] == [
        names(row["`if_running`"])[0] for row in rows(BEHAVIOUR, "What if the sync runs already")
    ]


def test_the_summary_is_documented_field_by_field() -> None:
    """XCom `execution` has the fields of the table, and each of its schemas those that the table names."""
    schema = SchemaExecution(schema="account", output_name="accounts", status="completed")
    told = summary.summarize("a", BulkSyncExecution(id="b", status="completed", schemas=[schema]))

    documented = {names(row["Field"])[0]: row["Meaning"] for row in rows(OPERATORS, "What they return")}

    assert list(told) == list(documented)
    assert list(told["schemas"][0]) == names(documented["schemas"])
    assert f"at most {summary.MAX_SCHEMAS}" in documented["schemas"]
    assert f"at most {summary.MAX_MESSAGE_LENGTH} characters" in documented["schemas"]
    assert f"{summary.MAX_SUMMARY_SIZE // 1024} KiB" in documented["schemas_omitted"]


# --- the trigger of asset watchers

TRIGGER = PolytomicSyncEventTrigger


def test_the_table_of_the_event_trigger_is_complete() -> None:
    """Its section has its parameters in their order, with their defaults, each of its ends, and where it is."""
    expected = {it.name: repr(it.default).replace("'", '"') for it in parameters(TRIGGER).values()}

    documented = {names(row["Parameter"])[0]: row for row in rows(EVENTS, TRIGGER.__name__) if "Parameter" in row}

    assert list(expected.items()) == [(name, names(row["Default"])[0]) for name, row in documented.items()]
    assert [f'"{name}"' for name in trigger_events.EVENTS] == names(documented["events"]["Meaning"])
    assert f"`{TRIGGER.__module__}`" in read(EVENTS).sections[TRIGGER.__name__]


def test_the_payload_of_an_event_is_documented_field_by_field() -> None:
    """The table has what the trigger tells, of events and of executions."""

    def told(plan: Any, row: dict[str, Any]) -> event_poll.ExecutionEnd:
        answer = Response(200, {}, json.dumps({"data": [{"id": "x", **row}]}).encode())
        found = drive(plan, lambda _: answer, now=lambda: 0.0)
        (ended,) = found.ended if isinstance(found, event_poll.EventWindow) else found
        return ended

    by_event = told(event_poll.poll_events(0.0), {"type": "sync.failed", "event": {"execution_id": "e", "error": "x"}})
    failed = {"status": "failed", "completed_at": "2026-01-01T00:00:00Z"}
    by_itself = told(event_poll.list_ended_since(SYNC_KINDS["bulk"], BulkSync(id="a"), 0.0), failed)

    payload = [row for row in rows(EVENTS, TRIGGER.__name__) if "Payload" in row]
    documented = {name: row["Meaning"] for row in payload for name in names(row["Payload"])}

    assert list(by_event.data) == list(by_itself.data) == list(documented)
    assert f"at most {event_poll.MAX_ERROR_LENGTH} characters" in documented["error"]


# --- the connection


def test_each_field_of_the_connection_is_documented() -> None:
    """Every field that the hook reads has a row, with the label that the form shows."""
    documented = {names(row["Field"])[-1]: row for row in rows(CONNECTION)}
    labels = {name: field["label"] for name, field in EXTRA_FIELDS.items()} | UI_FIELDS["relabeling"]

    assert {"password", "login", "host", "port", "schema", *EXTRA_FIELDS} == set(documented)
    for name, label in labels.items():
        assert label == documented[name]["In the form"]
    assert documented["schema"]["In the form"] == "hidden"
    assert "schema" in UI_FIELDS["hidden-fields"]


def test_the_defaults_of_the_connection_are_those_of_the_code() -> None:
    """What the table calls a default is what a connection with nothing but a key gets."""
    documented = {names(row["Field"])[-1]: row["Default"].strip("`") for row in rows(CONNECTION)}
    settings = Settings()

    assert settings.base_url == documented["host"]
    assert settings.api_version == documented["api_version"]
    assert f"{settings.timeout:g}" == documented["timeout"]
    assert str(settings.verify).lower() == documented["verify"]
    assert str(settings.max_retries) == documented["max_retries"]


KEY: dict[str, Any] = {"key": "YOUR_API_KEY", "ca_bundle": certifi.where()}
CA_FILE = "/etc/ssl/certs/company.pem"  # which has to exist
CONNECTIONS = {
    "polytomic://:YOUR_API_KEY@": Settings(**KEY),
    "polytomic://:YOUR_API_KEY@/?timeout=30&max_retries=3": Settings(**KEY, timeout=30, max_retries=3),
    "polytomic://ORGANIZATION_ID:YOUR_API_KEY@polytomic.example.com": Settings(
        "https://polytomic.example.com", login="ORGANIZATION_ID", **KEY
    ),
    "polytomic://http://:sandbox@localhost:8765": Settings("http://localhost:8765", key="sandbox"),
    '{"conn_type": "polytomic", "password": "YOUR_API_KEY"}': Settings(**KEY),
    '{"conn_type": "polytomic", "password": "YOUR_API_KEY", "extra": {"timeout": 30}}': Settings(**KEY, timeout=30),
    '{"conn_type": "polytomic", "host": "https://example.com:8443/polytomic", "password": "YOUR_API_KEY"}': Settings(
        "https://example.com:8443/polytomic", **KEY
    ),
    '{"conn_type": "polytomic", "host": "polytomic.example.com", "password": "YOUR_API_KEY", '
    f'"extra": {{"verify": "{CA_FILE}"}}}}': Settings("https://polytomic.example.com", **KEY),
    '{"conn_type": "polytomic", "password": "YOUR_API_KEY", "extra": {"proxy": "http://proxy.example.com:3128"}}': (
        Settings(**KEY, proxy="http://proxy.example.com:3128")
    ),
}


def test_each_connection_line_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow and the hook make of the environment variables in the documents what they look like."""
    lines = re.findall(r"^export AIRFLOW_CONN_(\w+)='(.*)'$", "\n".join(it.code for it in blocks("bash")), re.MULTILINE)
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    found = {}
    for name, value in lines:
        assert name == "POLYTOMIC_DEFAULT"
        monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", value.replace(CA_FILE, certifi.where()))
        found[value] = PolytomicHook().settings()

    assert found == CONNECTIONS


# --- errors, hook


def test_each_error_is_explained() -> None:
    """Every type in api/errors.py has a row; so has what operators raise of Airflow's."""
    ours = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    airflows = {
        "AirflowFailException",
        "AirflowSensorTimeout",
        "AirflowTaskTimeout",
        "AirflowSkipException",
        "AirflowNotFoundException",
    }

    assert ours | airflows | {"ValueError"} == {names(row["Error"])[0] for row in rows(ERRORS)}


def test_each_method_of_the_hook_is_named() -> None:
    """What the hook offers beyond Airflow's own hook is listed."""
    inherited = {*vars(compat.BaseHook), "get_connection_form_widgets", "get_ui_field_behaviour"}
    for_triggers = {"async_client", "settings"}
    public = {
        name for name in vars(PolytomicHook) if not name.startswith("_") and callable(getattr(PolytomicHook, name))
    }

    text = "\n".join(read(HOOK).sections.values())

    assert public - inherited - for_triggers - set(names(text)) == set()
    mentioned = {name for row in rows(HOOK) for cell in list(row.values())[1:] for name in names(cell)}
    assert mentioned <= public


# --- the sandbox


def test_each_option_of_the_sandbox_is_documented() -> None:
    """The table has the options of the command, with their defaults."""
    actions = [action for action in _parser()._actions if "--help" not in action.option_strings]

    documented = {names(row["Option"])[0]: row["Default"].strip("`") for row in rows(SANDBOX)}

    defaults = {action.option_strings[0]: "" if action.default is None else action.default for action in actions}
    assert {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in defaults.items()} == (
        documented
    )


def test_what_a_test_can_do_with_a_sandbox_exists(polytomic_sandbox: Sandbox) -> None:
    """Each `.name` of the page on testing is one of the fixture's sandbox."""
    mentioned = re.findall(r"`\.(\w+)", "\n".join(read(TESTING).sections.values()))

    assert mentioned
    assert [name for name in mentioned if not hasattr(polytomic_sandbox, name)] == []


def test_the_sandbox_starts_as_shown() -> None:
    """The command prints the lines below it (here on a free port), and ends when it is told to."""
    (command,) = [block.code.split() for block in read(SANDBOX).blocks if block.language == "bash"]
    (shown,) = [block.code for block in read(SANDBOX).blocks if block.language == "text"]
    arguments = [sys.executable, *command[1:], "--port", "0"]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in shown.splitlines()]
        finally:
            process.terminate()

    assert process.wait() == 0
    port = r"127\.0\.0\.1:\d+"
    assert re.sub(port, "", shown) == re.sub(port, "", "".join(lines))


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_each_seed_can_be_used(block: Block) -> None:
    """A seed in the documents is one that the sandbox takes."""
    assert load_seed(yaml.safe_load(block.code)).bulk_syncs


# --- commands, links


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_each_make_target_exists(document: Path) -> None:
    """What a document tells to make can be made."""
    text = document.read_text(encoding="utf-8")
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *(block.code for block in read(document).blocks)])

    assert set(re.findall(r"^make ([a-z-]+)", code, re.MULTILINE)) <= make_targets()


def test_each_make_target_is_documented() -> None:
    """The table for contributors has what `make help` lists, but for the help itself."""
    listed = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}

    assert listed == {
        name.removeprefix("make ") for row in rows(ROOT / "CONTRIBUTING.md") for name in names(row["Command"])
    }


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_link_is_broken(document: Path) -> None:
    """A relative link leads to a file of the repository, and to a heading in it."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        path, _, fragment = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        known = file.exists() and (not fragment or fragment in [anchor(heading) for heading in read(file).headings])
        if not known:
            broken.append(target)
    assert broken == []


def test_each_document_is_linked_from_somewhere() -> None:
    """Whoever begins with the README gets everywhere."""
    reached, left = set[Path](), [README]
    while left:
        document = left.pop()
        if document in reached or document.suffix != ".md":
            continue
        reached.add(document)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
            file = (document.parent / target).resolve()
            left += file.glob("*.md") if file.is_dir() else [file] if file.exists() else []

    assert set(DOCUMENTS) == reached


# --- architecture, decisions, changes


def test_the_table_of_modules_is_complete() -> None:
    """Every module of the package is in docs/architecture.md."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.stat().st_size]

    assert [name for name in modules if f"`{name}`" not in text] == []


def test_the_table_of_modules_names_no_other() -> None:
    """What docs/architecture.md calls a file is one."""
    named = set(re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))

    assert [name for name in named if not (PACKAGE / name).exists() and not (ROOT / name).exists()] == []


def test_the_diagram_names_what_there_is() -> None:
    """What the picture of a value's way has in the letters of code is a name in the package, or Airflow's or HTTP's."""
    picture = (ROOT / "docs" / "images" / "value.svg").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    code = {name for text in re.findall(r"monospace[^>]*>([^<]+)<", picture) for name in text.split(", ")}

    assert {"start_or_resume", "wait_for_execution", "from_event_payload"} <= code
    modules = {path.stem for path in PACKAGE.rglob("*.py")}
    assert {it for it in code - modules if not re.search(rf"(?:def|class) {it}\b", source)} == {"POST", "GET", "XCom"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    """With Airflow loaded, operators, sensors, trigger and hook bring our own light modules, and no library."""
    modules = public_modules("hooks", "operators", "sensors", "triggers")
    program = f"""
import importlib, sys
from airflow_provider_polytomic._airflow import compat
for name in compat.__all__:
    getattr(compat, name)
before = set(sys.modules)
for name in {modules}:
    importlib.import_module(name)
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)

    loaded = done.stdout.splitlines()[-1].split()
    foreign = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert foreign == {"airflow_provider_polytomic"}
    assert [name for name in loaded if name.startswith("airflow_provider_polytomic.api")] == []


def test_the_numbers_are_those_of_the_code() -> None:
    """What the documents say of patience and limits is what the code has."""

    def said(document: Path) -> str:
        return " ".join(document.read_text(encoding="utf-8").split())

    promises, behaviour, recipes = (
        said(ROOT / "docs" / "promises.md"),
        said(BEHAVIOUR),
        said(ROOT / "docs" / "recipes.md"),
    )

    assert f"(0 to {start_request.MAX_ATTEMPTS - 1})" in promises
    assert f"with the same key for {idempotency.OUTCOME_TIMEOUT:g} seconds" in promises
    assert f"are repeated for {outage.OUTAGE_BUDGET / 60:g} minutes" in promises
    assert f"unknown to the server for {idempotency.REPLICA_LAG:g} seconds" in promises
    assert f"polls have failed for {outage.OUTAGE_BUDGET / 60:g} minutes" in behaviour
    assert f"In the first {idempotency.REPLICA_LAG:g} seconds of the wait" in behaviour
    assert (outage.MIN_FAILURES, outage.MAX_BACKOFF) == (3, 60)
    assert "at least three times" in behaviour
    assert f"out of touch with the API for {outage.OUTAGE_BUDGET / 60:g} minutes" in behaviour
    assert f"the first time after {trigger_execution.MIN_FIRST_SLEEP:g} seconds or more" in behaviour
    assert f"they begin {wait.MIN_POLL_INTERVAL:g} seconds apart" in said(ROOT / "docs" / "reference" / "operators.md")
    assert f"one for up to {batch_poller.MAX_SYNCS} of them" in behaviour
    assert "every {} to {} looks".format(*batch_poller.DIRECT_POLL_EVERY) in behaviour
    assert f"at most {aiohttp_transport.MAX_CONNECTIONS} connections" in behaviour
    assert requests_transport.CHUNK == 2**20
    assert "at most a mebibyte at a time" in recipes
    assert f"by default {DEFAULT_MAX_LOG_BYTES / 2**30:g} GiB" in recipes
    operators = said(ROOT / "docs" / "reference" / "operators.md")
    assert f"at most {lookup.MAX_WALKS} times" in operators
    assert f"changes during each of {lookup.MAX_WALKS} reads" in promises
    assert f"unless {MAX_SYNCS_PER_PAGE} others are saved" in promises
    assert f"over the last {event_poll.OVERLAP / 60:g} minutes" in promises
    assert f"shows up to {event_poll.OVERLAP / 60:g} minutes after" in promises
    assert f"shows more than {event_poll.OVERLAP / 60:g} minutes after" in promises
    assert f"keeps events for {event_poll.RETENTION / 3600:g} hours" in promises
    assert f"longer than {(event_poll.RETENTION - event_poll.MARGIN) / 3600:g} looks" in promises
    assert (
        f"at most {event_poll.MAX_SYNCS} of each kind are looked at, for {trigger_events.CATCH_UP_TIMEOUT:g} s"
        in promises
    )
    assert f"differ by more than {(event_poll.MARGIN - event_poll.OVERLAP) / 60:g} minutes" in promises


def test_decisions_are_short() -> None:
    """A record of a decision has at most 40 lines, and says what was decided and what follows from it."""
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert records
    for record in records:
        assert len(record.read_text(encoding="utf-8").splitlines()) <= 40
        assert {"Context", "Decision", "Consequences"} <= set(read(record).headings)


def test_the_changelog_knows_this_version() -> None:
    """The newest entry of the changelog is that of the package's version."""
    versions = [heading.split()[0] for heading in read(ROOT / "CHANGELOG.md").headings[1:]]

    assert __version__ == versions[0]


# --- code


TEST_FILES = [block for block in blocks("python") if block.document == TESTING]
PARTS = [block for block in blocks("python") if (ROOT / block.title).is_file()]
CODE = [block for block in blocks("python") if block not in TEST_FILES and block not in PARTS]


@pytest.fixture
def polytomic_sandbox_speed() -> float:
    return 1_000_000


@pytest.mark.parametrize("block", CODE, ids=str)
def test_the_code_runs(block: Block, polytomic_sandbox: Sandbox) -> None:
    """Every block of Python runs as it is written, with a sandbox behind its connection."""
    if "AssetWatcher" in block.code or "import Asset" in block.code:
        pytest.importorskip("airflow.sdk")
    if "providers.http" in block.code:
        pytest.importorskip("airflow.providers.http")
    namespace: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(source(block), str(block), "exec"), namespace)


@pytest.mark.parametrize("block", PARTS, ids=str)
def test_a_part_of_a_file_is_one(block: Block) -> None:
    """Code that names its file is in it, line by line: what a page shows of an example is what is tested."""
    file = (ROOT / block.title).read_text(encoding="utf-8")

    assert block.code in file or textwrap.indent(block.code, "    ", lambda line: bool(line.strip())) in file


def test_the_dag_at_the_top_is_what_it_looks_like() -> None:
    """It has two tasks, one behind the other, and ten lines without those of the imports and between them."""
    block = next(block for block in CODE if block.section == "A DAG")
    namespace: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(source(block), str(block), "exec"), namespace)

    dag = namespace["salesforce"]()

    assert {"sync": {"report"}, "report": set()} == {task.task_id: task.downstream_task_ids for task in dag.tasks}
    lines = [line for line in block.code.splitlines() if line and "import" not in line]
    assert len(lines) <= 10


def test_the_hook_recipe_does_what_it_says(polytomic_sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """It runs one schema to a good end, lists the others, and leaves the sync active under its new name."""
    block = next(block for block in CODE if block.document == HOOK)
    exec(compile(source(block), str(block), "exec"), {"__name__": "documentation"})

    ended, messages, schemas = capsys.readouterr().out.splitlines()[-3:]
    assert ended == "completed True 120 ['account']"
    assert "Execution completed" in messages
    assert schemas == "['account', 'contact', 'opportunity']"
    (sync,) = [sync for sync in PolytomicHook().list_bulk_syncs(active=True) if "nightly" in str(sync.name)]
    assert sync.name == "Salesforce to warehouse (nightly)"


@pytest.fixture
def airflow_env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an Airflow with a database of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_", "PYTEST_"))}
    env = {
        **inherited,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
        "NO_PROXY": "127.0.0.1",
    }
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
    return env


@pytest.mark.system
def test_the_tests_of_a_dag_pass_as_shown(airflow_env: dict[str, str], tmp_path: Path) -> None:
    """The DAG at the top, and the tests of it: written into files as a reader would, they run and pass."""
    dag = next(block for block in CODE if block.section == "A DAG")
    conftest, tests = TEST_FILES
    (tmp_path / "salesforce.py").write_text(source(dag))
    (tmp_path / "conftest.py").write_text(source(conftest))
    (tmp_path / "test_salesforce.py").write_text(source(tests))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=airflow_env, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
