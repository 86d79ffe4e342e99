"""The tutorial and the guides: their commands and DAGs have the described results."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowException

from airflow_provider_polytomic._airflow.compat import BaseOperator
from airflow_provider_polytomic.api.endpoints.schedules import list_ as list_schedules
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.seed import POSTGRES_TO_WAREHOUSE, SALESFORCE_TO_WAREHOUSE
from airflow_provider_polytomic.sandbox.server import Server
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from tests.documents import ROOT, Block, read, source
from tools.migrated_database import make_sqlite

GUIDES = ROOT / "docs" / "howto"
TUTORIAL = read(ROOT / "docs" / "tutorial.md")
MIGRATING = read(GUIDES / "migrating.md")
SCHEDULED = read(GUIDES / "after-polytomics-schedule.md")
SHARED_TABLE = "dbt Cloud, Hightouch, and Census"
AIRFLOW_3 = importlib.util.find_spec("airflow.sdk") is not None
COMMAND_TIMEOUT = 600  # seconds, on a busy machine
# They need a clone, run forever, and need an account.
SKIPPED_SECTIONS = {"See the result first", "Run a complete Airflow", "Connect to Polytomic"}
INSTALLED = ("python3 -m venv .venv", "source .venv/bin/activate", "pip install airflow-provider-polytomic")


def environment(home: Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_", "PYTEST_"))}
    return {
        **inherited,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NO_PROXY": "127.0.0.1,localhost",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(home / "dags")]),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.system
def test_tutorial_commands_have_the_documented_output(tmp_path: Path) -> None:
    """The commands, run in order in one shell, print the documented output and fail where the tutorial says so."""
    port = str(free_port())
    script = ["set -m", "trap 'kill $(jobs -p)' EXIT"]
    shown = []
    for block in TUTORIAL.blocks:
        if block.section in SKIPPED_SECTIONS:
            continue
        code = source(block).replace("8765", port)
        if block.title:
            script.append(f"cat > {block.title} <<'END OF FILE'\n{code}END OF FILE")
        elif block.language == "bash":
            for line in INSTALLED:
                code = code.replace(f"{line}\n", "")
            code = code.replace("polytomic.sandbox", f"polytomic.sandbox --port {port}")
            script += [code, f"echo {shlex.quote(f'{block.section}: exit code')} $?"]
        else:
            shown += code.splitlines()
    env = environment(tmp_path / "polytomic-tutorial")
    del env["AIRFLOW_HOME"], env["AIRFLOW__CORE__DAGS_FOLDER"], env["AIRFLOW__CORE__LOAD_EXAMPLES"]
    # By default, Airflow checks for changes of a DAG only every 30 seconds, which is shorter than a reader needs.
    env["AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL"] = "0"
    shell = ["bash", "-c", "\n".join(script)]
    done = subprocess.run(
        shell,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT,
    )

    assert [line for line in shown if line not in done.stdout] == [], done.stdout
    assert "\nTrue " in done.stdout
    exits = [line for line in done.stdout.splitlines() if ": exit code " in line]
    assert {line.rpartition(" ")[2] for line in exits if not line.startswith("See a failure")} == {"0"}, done.stdout
    assert exits[-1] == "See a failure: exit code 1", done.stdout


@pytest.mark.system
def test_migrated_dag_and_its_replacements_start_the_sync_once(tmp_path: Path) -> None:
    """The DAGs with HttpOperator, the SDK, and the operator succeed, and each starts the sync once."""
    pytest.importorskip("airflow.sdk")
    pytest.importorskip("airflow.providers.http")
    codes = [block for block in MIGRATING.blocks if block.language == "python"]
    sandbox = Sandbox(speed=4)

    states = run(tmp_path, codes, sandbox)

    assert states == {"sync_by_http": "success", "sync_by_provider": "success", "sync_by_sdk": "success"}
    assert [sandbox.status(it.id) for it in sandbox.starts(SALESFORCE_TO_WAREHOUSE)] == ["completed"] * 3


@pytest.mark.system
def test_sensor_waits_for_an_execution_of_polytomics_schedule(tmp_path: Path) -> None:
    """The DAG with the sensor waits for the execution of Polytomic's schedule, and starts none."""
    (block,) = [block for block in SCHEDULED.blocks if block.section == "Use a sensor"]
    if not AIRFLOW_3:
        block = replace(block, code=re.sub(r"{{.*}}(.*# Airflow 2.11: ({{.*}}))", r"\2\1", block.code))
    sandbox = Sandbox(speed=0.001)
    sandbox.run_on_schedule(POSTGRES_TO_WAREHOUSE)

    states = run(tmp_path, [block], sandbox)

    assert states == {"with_polytomics_schedule": "success"}
    assert len(sandbox.starts(POSTGRES_TO_WAREHOUSE)) == 1


def run(home: Path, blocks: list[Block], sandbox: Sandbox) -> dict[str, str]:
    """Run the DAGs of a guide in order. A running execution of Polytomic's schedule ends after the first request."""
    (home / "dags").mkdir()
    program = "import json\nstates = {}\n"
    for block in blocks:
        (dag_id,) = re.findall(r"^@dag.*\ndef (\w+)", block.code, re.MULTILINE)
        (home / "dags" / f"{dag_id}.py").write_text(source(block))
        program += f"import {dag_id}\nstates['{dag_id}'] = str({dag_id}.{dag_id}().test().state.value)\n"
    program += "print(json.dumps(states))"
    with closing(Server(sandbox)):
        connection = {"host": sandbox.url, "password": sandbox.key}
        env = {
            **environment(home),
            "AIRFLOW_CONN_POLYTOMIC_DEFAULT": json.dumps({"conn_type": "polytomic", **connection}),
            "AIRFLOW_CONN_POLYTOMIC_HTTP": json.dumps({"conn_type": "http", **connection}),
            "AIRFLOW_CONN_POLYTOMIC_SDK": json.dumps({"conn_type": "generic", **connection}),
        }
        make_sqlite(home / "airflow.db")
        log = home / "output"
        with log.open("w") as file:
            process = subprocess.Popen([sys.executable, "-c", program], env=env, stdout=file, stderr=file)
            scheduled, deadline = sandbox.running(POSTGRES_TO_WAREHOUSE), time.monotonic() + COMMAND_TIMEOUT
            while process.poll() is None:
                if scheduled and sandbox.requests:
                    sandbox.finish(POSTGRES_TO_WAREHOUSE, scheduled.id)
                    scheduled = None
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.2)
    output = log.read_text()
    assert process.returncode == 0, output
    (states,) = [line for line in output.splitlines() if line.startswith("{")]
    return json.loads(states)


def test_full_refresh_guide_lists_the_supported_modes(polytomic_sandbox: Sandbox) -> None:
    """The task in the guide returns the resync modes of the sync's destination."""
    (block,) = [block for block in read(GUIDES / "full-refresh.md").blocks if "supported_modes" in block.code]
    defined: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(source(block), str(block), "exec"), defined)

    assert defined["supported_modes"].function("Salesforce to warehouse") == ["refetch", "resync", "rebuild"]


def test_old_arguments_are_errors_when_the_dag_is_parsed() -> None:
    """Arguments in the migration tables that no operator or sensor here has: none is ignored silently."""
    classes = (PolytomicBulkSyncOperator, PolytomicBulkSyncSensor, PolytomicModelSyncOperator)
    tables = "".join(MIGRATING.sections[section] for section in ("Airbyte", "Fivetran", SHARED_TABLE))
    cells = [line.split("|")[1] for line in tables.splitlines() if line.startswith("|")]
    old = {name.partition("=")[0] for cell in cells for name in re.findall(r"`(\w+(?:=[^`]*)?)`", cell)}
    known = {name for cls in classes for name in inspect.signature(inspect.unwrap(cls.__init__)).parameters}
    unknown = {name for name in old - known if not re.match("[A-Z]", name)} - {"False", "True"}

    assert {"connection_id", "asynchronous", "reschedule_wait_time", "check_interval"} <= unknown
    for name, cls in itertools.product(unknown, classes):
        with pytest.raises((TypeError, AirflowException), match=name):
            cls(task_id="sync", sync_id="b", **{name: 1})


def test_new_arguments_in_the_migration_tables_exist() -> None:
    """Every argument in the column "Here" is one of an operator or a sensor, or of an Airflow task."""
    classes = (PolytomicBulkSyncOperator, PolytomicBulkSyncSensor, BaseOperator)
    known = {name for cls in classes for name in inspect.signature(inspect.unwrap(cls.__init__)).parameters}
    tables = "".join(MIGRATING.sections[section] for section in ("Airbyte", "Fivetran", SHARED_TABLE))
    cells = [line.split("|")[2] for line in tables.splitlines() if line.startswith("|")]
    new = {name for cell in cells for name in re.findall(r"`(\w+)(?:=[^`]*)?`", cell)}

    elsewhere = {"api_version", "max_retries", "warning_count", "False", "default_deferrable"}
    assert new - known - elsewhere == set()


def test_task_that_removes_schedules_leaves_a_manual_one(polytomic_sandbox: Sandbox) -> None:
    """The API accepts the change, and the sync keeps everything else."""
    (block,) = [block for block in SCHEDULED.blocks if block.section == "Move the schedule to Airflow"]
    defined: dict[str, Any] = {"__name__": "documentation"}
    exec(compile(source(block), str(block), "exec"), defined)
    hook = PolytomicHook()
    daily = {"frequency": "daily", "hour": "3"}
    hook.update_bulk_sync(SALESFORCE_TO_WAREHOUSE, default_schedule=daily, additional_schedules=[daily | {"hour": "5"}])
    before = hook.get_bulk_sync(SALESFORCE_TO_WAREHOUSE)

    defined["remove_schedules"].function("Salesforce to warehouse")

    after = hook.get_bulk_sync(SALESFORCE_TO_WAREHOUSE)
    schedules = [schedule.frequency for schedule in hook.iterate(list_schedules(SALESFORCE_TO_WAREHOUSE))]
    assert schedules == ["manual"]
    assert (after.mode, after.destination_configuration) == (before.mode, before.destination_configuration)


def test_connection_command_prints_the_result_of_the_test(polytomic_sandbox: Sandbox) -> None:
    """Both guides have the same command. It prints True and the owner of the key, or False and the reason."""
    commands = {
        block.code
        for page in (TUTORIAL, read(GUIDES / "self-hosted.md"))
        for block in page.blocks
        if "test_connection" in block.code
    }
    (command,) = commands
    arguments = [sys.executable, *shlex.split(command)[1:]]

    good = subprocess.run(arguments, capture_output=True, text=True, check=True)
    polytomic_sandbox.rotate_key("another")
    bad = subprocess.run(arguments, capture_output=True, text=True, check=True)

    assert good.stdout.splitlines()[-1].startswith("True ")
    assert bad.stdout.splitlines()[-1].startswith("False ")
    assert "401" in bad.stdout


def test_examples_page_lists_every_example() -> None:
    """The page links to each example once."""
    text = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")

    for path in (ROOT / "example_dags").glob("*.py"):
        assert text.count(f"](../example_dags/{path.name})") == 1, path.name
