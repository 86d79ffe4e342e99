"""The documentation is accurate: its code runs, its tables are complete, its links and numbers are right."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, get_args

import certifi
import pytest
import yaml

from airflow_provider_polytomic import __version__, types
from airflow_provider_polytomic._airflow import compat
from airflow_provider_polytomic.api import errors, idempotency
from airflow_provider_polytomic.api.client import drive
from airflow_provider_polytomic.api.events import poll as event_poll
from airflow_provider_polytomic.api.executions import batch_poller, outage, start_request, summary, wait
from airflow_provider_polytomic.api.kinds import SYNC_KINDS
from airflow_provider_polytomic.api.models import BulkSync, BulkSyncExecution, ModelSyncExecution, SchemaExecution
from airflow_provider_polytomic.api.plan import Response
from airflow_provider_polytomic.api.settings import DEFAULT_TRIGGERER_CONNECTIONS, MAX_BATCH_SIZE, Settings
from airflow_provider_polytomic.api.syncs import lookup
from airflow_provider_polytomic.api.transport import requests_transport
from airflow_provider_polytomic.get_provider_info import EXTRA_FIELDS, UI_FIELDS, get_provider_info
from airflow_provider_polytomic.hooks._sync_calls import DEFAULT_MAX_LOG_BYTES, MAX_SYNCS_PER_PAGE
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.sandbox import pytest_plugin, seed
from airflow_provider_polytomic.sandbox.__main__ import _parser
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.faults import Faults
from airflow_provider_polytomic.sandbox.seed import load_seed
from airflow_provider_polytomic.triggers import events as trigger_events
from airflow_provider_polytomic.triggers import execution as trigger_execution
from airflow_provider_polytomic.triggers.events import PolytomicSyncEventTrigger
from tests.documents import DOCUMENTS, README, ROOT, Block, blocks, read, source
from tools.migrated_database import make_sqlite

pytest_plugins = ["airflow_provider_polytomic.sandbox.pytest_plugin"]

PACKAGE = ROOT / "airflow_provider_polytomic"
REFERENCE = ROOT / "docs" / "reference"
CONNECTION, OPERATORS, BEHAVIOR, ERRORS, EVENTS, HOOK, SANDBOX = (
    REFERENCE / f"{name}.md" for name in ("connection", "operators", "behavior", "errors", "events", "hook", "sandbox")
)
TESTING = ROOT / "docs" / "howto" / "testing-dags.md"


# --- tables


def rows(document: Path, section: str = "") -> list[dict[str, str]]:
    """Return the table rows of a section, or of the whole page, as dicts by column name."""
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
    """Return the texts in backticks in a table cell."""
    return re.findall(r"`([^`]+)`", cell)


# --- operators and sensors


def public_modules(*kinds: str) -> list[str]:
    """Return the modules in the provider's metadata."""
    info = get_provider_info()
    return [name for kind in kinds for entry in info[kind] for name in entry["python-modules"]]


def public_classes() -> dict[str, type]:
    """Return the public operators and sensors by name."""
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


def test_public_classes_include_operators_and_sensors() -> None:
    """The tests below don't pass because they find no classes."""
    assert {"PolytomicBulkSyncOperator", "PolytomicBulkSyncSensor"} <= set(public_classes())


@pytest.mark.parametrize("name", public_classes())
def test_operator_table_lists_every_parameter(name: str) -> None:
    """The section of an operator or sensor has exactly its parameters, in the same order."""
    assert list(parameters(public_classes()[name])) == [names(row["Parameter"])[0] for row in rows(OPERATORS, name)]


@pytest.mark.parametrize("name", public_classes())
def test_operator_table_lists_the_defaults_of_the_signature(name: str) -> None:
    """The defaults are those of the signature. The default of `deferrable` is a setting of Airflow."""
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
def test_operator_table_marks_exactly_the_template_fields(name: str) -> None:
    """A parameter is marked as templated if and only if it is a template field of the class."""
    documented = {names(row["Parameter"])[0] for row in rows(OPERATORS, name) if row["Templated"] == "yes"}

    assert set(public_classes()[name].template_fields) == documented  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", public_classes())
def test_operator_section_names_the_module(name: str) -> None:
    """The section of an operator or sensor names the module to import it from."""
    assert f"`{public_classes()[name].__module__}`" in read(OPERATORS).sections[name]


def test_create_operator_table_lists_every_enumeration_value() -> None:
    """The row of an argument lists all its accepted values."""
    documented = {
        names(row["Parameter"])[0]: row["Meaning"] for row in rows(OPERATORS, "PolytomicCreateBulkSyncOperator")
    }

    for name, values in {
        "mode": types.BulkSyncMode,
        "automatically_add_new_fields": types.Discovery,
        "normalize_names": types.NameNormalization,
        "if_exists": types.IfExists,
    }.items():
        assert [value for value in get_args(values) if f'`"{value}"`' not in documented[name]] == []


def test_behavior_page_explains_every_value_of_if_running() -> None:
    """The table has the values that the operators accept, in the same order."""
    assert [f'"{value}"' for value in get_args(types.IfRunning)] == [
        names(row["`if_running`"])[0] for row in rows(BEHAVIOR, "When another execution is running")
    ]


def test_summary_table_lists_every_field() -> None:
    """The table has the fields of XCom `execution` for both kinds, the fields of its schemas, and their limits."""
    schema = SchemaExecution(schema="account", output_name="accounts", status="completed")
    result = summary.summarize("a", BulkSyncExecution(id="b", status="completed", schemas=[schema]))
    of_model = summary.summarize("a", ModelSyncExecution(id="b", status="completed"))

    documented = {names(row["Field"])[0]: row["Meaning"] for row in rows(OPERATORS, "Return values and XComs")}

    assert list(result | of_model) == list(documented)
    assert list(result["schemas"][0]) == names(documented["schemas"])
    assert f"at most {summary.MAX_SCHEMAS}" in documented["schemas"]
    assert f"at most {summary.MAX_MESSAGE_LENGTH} characters" in documented["schemas"]
    assert f"{summary.MAX_SUMMARY_SIZE // 1024} KiB" in documented["schemas_omitted"]


# --- the trigger of asset watchers

TRIGGER = PolytomicSyncEventTrigger


def test_event_trigger_table_lists_every_parameter() -> None:
    """The section has the parameters in order with their defaults, all outcomes, and the module."""
    expected = {it.name: repr(it.default).replace("'", '"') for it in parameters(TRIGGER).values()}

    documented = {names(row["Parameter"])[0]: row for row in rows(EVENTS, TRIGGER.__name__) if "Parameter" in row}

    assert list(expected.items()) == [(name, names(row["Default"])[0]) for name, row in documented.items()]
    assert [f'"{name}"' for name in trigger_events.EVENTS] == names(documented["events"]["Meaning"])
    assert f"`{TRIGGER.__module__}`" in read(EVENTS).sections[TRIGGER.__name__]


def test_event_payload_table_lists_every_field() -> None:
    """The table has the fields of payloads that come from events and from executions."""

    def run(plan: Any, row: dict[str, Any]) -> event_poll.ExecutionEnd:
        response = Response(200, {}, json.dumps({"data": [{"id": "x", **row}]}).encode())
        result = drive(plan, lambda _: response, now=lambda: 0.0)
        (end,) = result.ends if isinstance(result, event_poll.EventWindow) else result
        return end

    from_event = run(event_poll.poll_events(0.0), {"type": "sync.failed", "event": {"execution_id": "e", "error": "x"}})
    failed = {"status": "failed", "completed_at": "2026-01-01T00:00:00Z"}
    from_execution = run(event_poll.list_ended_since(SYNC_KINDS["bulk"], BulkSync(id="a"), 0.0), failed)

    payload = [row for row in rows(EVENTS, TRIGGER.__name__) if "Payload" in row]
    documented = {name: row["Meaning"] for row in payload for name in names(row["Payload"])}

    assert list(from_event.data) == list(from_execution.data) == list(documented)
    assert f"at most {event_poll.MAX_ERROR_LENGTH} characters" in documented["error"]


# --- the connection


def test_connection_table_lists_every_field() -> None:
    """Every field that the hook reads has a row with the label of the form."""
    documented = {names(row["Field"])[-1]: row for row in rows(CONNECTION) if "Field" in row}
    labels = {name: field["label"] for name, field in EXTRA_FIELDS.items()} | UI_FIELDS["relabeling"]

    assert {"password", "login", "host", "port", "schema", *EXTRA_FIELDS} == set(documented)
    for name, label in labels.items():
        assert label == documented[name]["In the form"]
    assert documented["schema"]["In the form"] == "hidden"
    assert "schema" in UI_FIELDS["hidden-fields"]


def test_connection_table_lists_the_defaults_of_the_settings() -> None:
    """The defaults in the table apply to a connection with only a key."""
    documented = {names(row["Field"])[-1]: row["Default"].strip("`") for row in rows(CONNECTION) if "Field" in row}
    settings = Settings()

    assert settings.base_url == documented["host"]
    assert settings.api_version == documented["api_version"]
    assert f"{settings.timeout:g}" == documented["timeout"]
    assert str(settings.verify).lower() == documented["verify"]
    assert str(settings.max_retries) == documented["max_retries"]


KEY: dict[str, Any] = {"key": "YOUR_API_KEY", "ca_bundle": certifi.where()}
CA_FILE = "/etc/ssl/certs/company.pem"  # replaced with a file that exists
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


def test_connection_variables_are_parsed_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow and the hook parse the environment variables on the pages to the expected settings."""
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


def test_error_table_lists_every_type() -> None:
    """Every type in api/errors.py has a row, and so does every Airflow error that operators raise."""
    own = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    from_airflow = {
        "AirflowFailException",
        "AirflowSensorTimeout",
        "AirflowTaskTimeout",
        "AirflowSkipException",
        "AirflowNotFoundException",
    }

    assert own | from_airflow | {"ValueError"} == {names(row["Error"])[0] for row in rows(ERRORS)}


def test_hook_page_names_every_method() -> None:
    """The page names every public method that Airflow's own hook doesn't have."""
    inherited = {*vars(compat.BaseHook), "get_connection_form_widgets", "get_ui_field_behaviour"}
    for_triggers = {"async_client", "settings"}
    own = [vars(base) for base in PolytomicHook.__mro__ if base.__module__.startswith(PACKAGE.name)]
    public = {
        name for name in set[str]().union(*own) if not name.startswith("_") and callable(getattr(PolytomicHook, name))
    }

    text = "\n".join(read(HOOK).sections.values())

    assert public - inherited - for_triggers - set(names(text)) == set()
    mentioned = {name for row in rows(HOOK) for cell in list(row.values())[1:] for name in names(cell)}
    assert mentioned <= public


# --- the sandbox


def test_sandbox_table_lists_every_option() -> None:
    """The table has the options of the command with their defaults."""
    actions = [action for action in _parser()._actions if "--help" not in action.option_strings]

    documented = {names(row["Option"])[0]: row["Default"].strip("`") for row in rows(SANDBOX) if "Option" in row}

    defaults = {action.option_strings[0]: "" if action.default is None else action.default for action in actions}
    assert {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in defaults.items()} == (
        documented
    )


def parameters_of(function: Any) -> str:
    """The parameters of a function without annotations, as the tables show them."""
    signature = inspect.signature(function)
    shown = [each.replace(annotation=each.empty) for name, each in signature.parameters.items() if name != "self"]
    return str(inspect.Signature(shown))


def test_sandbox_page_lists_the_methods_of_a_sandbox(polytomic_sandbox: Sandbox) -> None:
    """With their signatures. Only what the server itself uses is left out."""
    (table, methods) = (
        [names(row[column])[0] for row in rows(SANDBOX, "Control a sandbox in a test") if column in row]
        for column in ("Attribute or method", "Method")
    )
    attributes = {name: getattr(Sandbox, name, None) for name in dir(polytomic_sandbox) if not name.startswith("_")}
    public = {f"{name}{parameters_of(it)}" if callable(it) else name for name, it in attributes.items()}
    used_by_the_server = {"handle(method, target, headers, body=b'')", "send(request)", "close()", "date"}
    of_faults = {name: it for name, it in vars(Faults).items() if callable(it) and not name.startswith("_")}

    assert set(table) == public - used_by_the_server
    assert len(table) == len(set(table))
    assert set(methods) == {
        *(f"{name}{parameters_of(it)}" for name, it in of_faults.items() if name != "take"),
        f"vanish{parameters_of(polytomic_sandbox.faults.vanish)}",
    }


@pytest.mark.parametrize(
    ("column", "spec"),
    [
        ("Field of the file", seed.Seed),
        ("Field of a connection", seed.ConnectionSpec),
        ("Field of a bulk sync", seed.BulkSyncSpec),
        ("Field of a schema", seed.SchemaSpec),
        ("Field of a model sync", seed.ModelSyncSpec),
    ],
)
def test_sandbox_page_lists_the_fields_of_a_seed(column: str, spec: Any) -> None:
    """With the defaults that are numbers, and whether a field is required."""
    documented = {names(row[column])[0]: row["Default"] for row in rows(SANDBOX, "Fields of a seed") if column in row}
    fields = {each.name: each for each in dataclasses.fields(spec)}

    assert documented.keys() == fields.keys()
    required = {name for name, it in fields.items() if it.default is it.default_factory is dataclasses.MISSING}
    assert {name for name, default in documented.items() if default == "required"} == required
    for name, it in fields.items():
        if isinstance(it.default, int | float):
            shown = str(it.default).lower() if isinstance(it.default, bool) else f"{it.default:g}"
            assert documented[name] == f"`{shown}`", name
    for name in ("stages",):
        if name in fields:
            assert names(documented[name]) == fields[name].default_factory()


def test_sandbox_command_for_an_execution_of_others_starts_one(polytomic_sandbox: Sandbox) -> None:
    """The page's request is accepted by a sandbox with the default seed."""
    (block,) = [block for block in read(SANDBOX).blocks if block.language == "sh"]
    command = block.code.replace("http://127.0.0.1:8765", polytomic_sandbox.url)

    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)

    started = json.loads(done.stdout)["data"]["id"]
    assert [each.id for each in polytomic_sandbox.starts(seed.SALESFORCE_TO_WAREHOUSE)] == [started]


def test_testing_page_names_existing_sandbox_attributes(polytomic_sandbox: Sandbox) -> None:
    """Each `.name` on the page is an attribute of the sandbox that the fixture returns."""
    mentioned = re.findall(r"`\.(\w+)", "\n".join(read(TESTING).sections.values()))

    assert mentioned
    assert [name for name in mentioned if not hasattr(polytomic_sandbox, name)] == []


def test_testing_page_has_the_speed_of_the_fixture() -> None:
    """The default, and what it means for a duration of ten minutes."""
    speed = inspect.unwrap(pytest_plugin.polytomic_sandbox_speed)()

    text = " ".join(read(TESTING).sections["Test a timeout"].split())
    assert f"executions run {speed:g} times faster" in text
    assert f"`duration: 600` ends after {600 / speed:g} seconds" in text


def test_sandbox_prints_the_documented_lines() -> None:
    """The command prints the documented lines (here on a free port), and stops on SIGTERM."""
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
def test_documented_seed_loads(block: Block) -> None:
    """The sandbox accepts the seeds on the pages."""
    assert load_seed(yaml.safe_load(block.code)).bulk_syncs


# --- commands, links


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documented_make_targets_exist(document: Path) -> None:
    """Every make command on a page has a target."""
    text = document.read_text(encoding="utf-8")
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *(block.code for block in read(document).blocks)])

    assert set(re.findall(r"^make ([a-z-]+)", code, re.MULTILINE)) <= make_targets()


def test_contributing_lists_every_make_target() -> None:
    """The table of commands has all targets that `make help` lists, except help."""
    listed = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help"}

    assert listed == {
        name.removeprefix("make ")
        for row in rows(ROOT / "CONTRIBUTING.md")
        if "Command" in row
        for name in names(row["Command"])
    }


def anchor(heading: str) -> str:
    """Return the anchor that GitHub generates for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_to_existing_headings(document: Path) -> None:
    """A relative link leads to a file of the repository and to a heading in it."""
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


def test_readme_leads_to_every_page() -> None:
    """Following links from the README reaches every page."""
    reached, pending = set[Path](), [README]
    while pending:
        document = pending.pop()
        if document in reached or document.suffix != ".md":
            continue
        reached.add(document)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8")):
            file = (document.parent / target).resolve()
            pending += file.glob("*.md") if file.is_dir() else [file] if file.exists() else []

    assert set(DOCUMENTS) == reached


# --- architecture, decisions, changes


def test_architecture_lists_every_module() -> None:
    """docs/architecture.md names every module of the package."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.stat().st_size]

    assert [name for name in modules if f"`{name}`" not in text] == []


def test_architecture_names_only_existing_files() -> None:
    """Every file that docs/architecture.md names exists."""
    named = set(re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))

    assert [name for name in named if not (PACKAGE / name).exists() and not (ROOT / name).exists()] == []


def test_data_flow_diagram_names_existing_functions() -> None:
    """Every name in code font in the diagram is defined in the package, or is a term of Airflow or HTTP."""
    picture = (ROOT / "docs" / "images" / "value.svg").read_text(encoding="utf-8")
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    code = {name for text in re.findall(r"monospace[^>]*>([^<]+)<", picture) for name in text.split(", ")}

    assert {"start_or_resume", "wait_for_execution", "from_event_summary"} <= code
    modules = {path.stem for path in PACKAGE.rglob("*.py")}
    assert {it for it in code - modules if not re.search(rf"(?:def|class) {it}\b", source)} == {"POST", "GET", "XCom"}


def test_importing_the_package_loads_no_libraries() -> None:
    """After Airflow is loaded, operators, sensors, triggers, and the hook load only modules of this package."""
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
    third_party = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert third_party == {"airflow_provider_polytomic"}
    assert [name for name in loaded if name.startswith("airflow_provider_polytomic.api")] == []


def test_documented_limits_match_the_constants() -> None:
    """The timeouts and limits on the pages are those of the code."""

    def text(name: str) -> str:
        return " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())

    promises, behavior, recipes = text("promises.md"), text("reference/behavior.md"), text("recipes.md")
    operators = text("reference/operators.md")

    assert f"(0 to {start_request.MAX_ATTEMPTS - 1})" in promises
    assert f"with the same key for {idempotency.OUTCOME_TIMEOUT:g} seconds" in promises
    assert f"is repeated for {outage.OUTAGE_BUDGET / 60:g} minutes" in promises
    assert f"unknown to the server for {idempotency.REPLICA_LAG:g} seconds" in promises
    assert f"polls have failed for {outage.OUTAGE_BUDGET / 60:g} minutes" in behavior
    assert f"In the first {idempotency.REPLICA_LAG:g} seconds of the wait" in behavior
    assert (outage.MIN_FAILURES, outage.MAX_BACKOFF) == (3, 60)
    assert "at least three times" in behavior
    assert f"has been unavailable for {outage.OUTAGE_BUDGET / 60:g} minutes" in behavior
    assert f"in the triggerer is after {trigger_execution.MIN_FIRST_SLEEP:g} seconds or more" in behavior
    assert f"Polling starts at {wait.MIN_POLL_INTERVAL:g} seconds" in operators
    assert f"one for up to {MAX_BATCH_SIZE} executions" in behavior
    assert "every {} to {} batch polls".format(*batch_poller.DIRECT_POLL_EVERY) in behavior
    assert f"at most {DEFAULT_TRIGGERER_CONNECTIONS} connections" in behavior
    assert requests_transport.CHUNK == 2**20
    assert "at most one mebibyte" in recipes
    assert f"by default {DEFAULT_MAX_LOG_BYTES / 2**30:g} GiB" in recipes
    assert f"at most {lookup.MAX_WALKS} times" in operators
    assert f"changes during each of {lookup.MAX_WALKS} reads" in promises
    assert f"unless {MAX_SYNCS_PER_PAGE} others are saved" in promises
    assert f"over the last {event_poll.OVERLAP / 60:g} minutes" in promises
    assert f"shows up to {event_poll.OVERLAP / 60:g} minutes after" in promises
    assert f"shows more than {event_poll.OVERLAP / 60:g} minutes after" in promises
    assert f"keeps events for {event_poll.EVENT_RETENTION / 3600:g} hours" in promises
    assert f"longer than {(event_poll.EVENT_RETENTION - event_poll.MARGIN) / 3600:g} hours" in promises
    assert f"at most {event_poll.MAX_SYNCS} syncs of each kind are read" in promises
    assert f"for {trigger_events.CATCH_UP_TIMEOUT:g} seconds at most" in promises
    assert f"differ by more than {(event_poll.MARGIN - event_poll.OVERLAP) / 60:g} minutes" in promises


def test_on_call_page_quotes_existing_messages() -> None:
    """Each log line and error in the first column of the on-call page's tables occurs in the package."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "airflow_provider_polytomic").rglob("*.py")]
    literals = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))  # adjacent string literals
    page = (ROOT / "docs" / "howto" / "on-call.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]

    quoted = {part.strip() for row in rows for code in re.findall("`([^`]+)`", row) for part in code.split("…")}
    composed = {  # text that the package puts together -> what its source contains
        "Could not confirm whether the start succeeded": "Could not confirm whether the {self.operation} succeeded",
        "Started execution": '("Started", ',
        "is being canceled: its task was ended": '"its task was ended"',
    }
    assert composed.keys() <= quoted
    assert [part for part in sorted(quoted) if composed.get(part, part) not in literals] == []


def test_decision_records_are_short_and_complete() -> None:
    """A decision record has at most 40 lines, with context, decision, and consequences."""
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert records
    for record in records:
        assert len(record.read_text(encoding="utf-8").splitlines()) <= 40
        assert {"Context", "Decision", "Consequences"} <= set(read(record).headings)


def test_changelog_starts_with_the_package_version() -> None:
    """The first section of the changelog is for the version of the package."""
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
def test_documented_code_runs(block: Block, polytomic_sandbox: Sandbox) -> None:
    """Every Python block runs unchanged against a sandbox."""
    if "AssetWatcher" in block.code or "import Asset" in block.code:
        pytest.importorskip("airflow.sdk")
    if "providers.http" in block.code:
        pytest.importorskip("airflow.providers.http")
    namespace: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(source(block), str(block), "exec"), namespace)


@pytest.mark.parametrize("block", PARTS, ids=str)
def test_excerpt_matches_its_file(block: Block) -> None:
    """A block that names a file is part of the file, so the pages show tested code."""
    file = (ROOT / block.title).read_text(encoding="utf-8")

    assert block.code in file or textwrap.indent(block.code, "    ", lambda line: bool(line.strip())) in file


def test_readme_dag_has_two_tasks_and_ten_lines() -> None:
    """The DAG has two tasks in sequence, and at most ten lines without imports and blank lines."""
    block = next(block for block in CODE if block.section == "A DAG")
    namespace: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(source(block), str(block), "exec"), namespace)

    dag = namespace["salesforce"]()

    assert {"sync": {"report"}, "report": set()} == {task.task_id: task.downstream_task_ids for task in dag.tasks}
    lines = [line for line in block.code.splitlines() if line and "import" not in line]
    assert len(lines) <= 10


def test_hook_example_prints_the_described_results(
    polytomic_sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example runs one schema successfully, lists all schemas, and renames the sync, which stays active."""
    block = next(block for block in CODE if block.document == HOOK)
    exec(compile(source(block), str(block), "exec"), {"__name__": "documentation"})

    ended, messages, schemas = capsys.readouterr().out.splitlines()[-3:]
    assert ended == "completed True 120 ['account']"
    assert "Execution completed" in messages
    assert schemas == "['account', 'contact', 'opportunity']"
    (sync,) = [sync for sync in PolytomicHook().list_bulk_syncs(active=True) if "nightly" in str(sync.name)]
    assert sync.name == "Salesforce to warehouse (nightly)"


@pytest.fixture
def airflow_env(tmp_path: Path) -> dict[str, str]:
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
    (tmp_path / "airflow").mkdir()
    make_sqlite(tmp_path / "airflow" / "airflow.db")
    return env


# For the fixture of a second connection.
USE_SECOND_CONNECTION = """

def test_second_connection_has_access(eu_connection, polytomic_sandbox):
    from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

    assert PolytomicHook("polytomic_eu").get_bulk_sync(SALESFORCE_TO_WAREHOUSE).id == SALESFORCE_TO_WAREHOUSE
"""


@pytest.mark.system
def test_documented_dag_tests_pass(airflow_env: dict[str, str], tmp_path: Path) -> None:
    """The README's DAG and the tests on the testing page pass when they are saved to files."""
    dag = next(block for block in CODE if block.section == "A DAG")
    conftest, tests, second_connection = TEST_FILES
    (tmp_path / "salesforce.py").write_text(source(dag))
    (tmp_path / "conftest.py").write_text(source(conftest) + source(second_connection))
    (tmp_path / "test_salesforce.py").write_text(source(tests) + USE_SECOND_CONNECTION)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=airflow_env, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
