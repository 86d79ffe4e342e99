"""The types of arguments: what mypy accepts, what it reports, and that they exist at run time."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from airflow_provider_polytomic import bodies, types
from airflow_provider_polytomic.api import models
from airflow_provider_polytomic.api.events.poll import ENDS
from airflow_provider_polytomic.operators.bulk_sync import PolytomicBulkSyncOperator, PolytomicCreateBulkSyncOperator
from airflow_provider_polytomic.operators.model_sync import PolytomicModelSyncOperator
from airflow_provider_polytomic.sandbox import schedule
from airflow_provider_polytomic.sandbox.routes import model_syncs
from airflow_provider_polytomic.sensors.bulk_sync import PolytomicBulkSyncSensor
from airflow_provider_polytomic.sensors.model_sync import PolytomicModelSyncSensor
from airflow_provider_polytomic.triggers.events import PolytomicSyncEventTrigger
from tests.documents import read

ROOT = Path(__file__).parents[1]
PAGE = read(ROOT / "docs" / "howto" / "type-checking.md")
FORMS, MISTAKES = (ROOT / "tests" / "typed" / name for name in ("documented_forms.py", "mistakes.py"))
EXAMPLES = sorted((ROOT / "example_dags").glob("*.py"))
TASKS = [
    PolytomicBulkSyncOperator,
    PolytomicCreateBulkSyncOperator,
    PolytomicModelSyncOperator,
    PolytomicBulkSyncSensor,
    PolytomicModelSyncSensor,
]
needs_airflow_3 = pytest.mark.skipif(
    importlib.util.find_spec("airflow.sdk") is None, reason="on Airflow 2, these files need other imports"
)


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[int, list[str]]]:
    """What `mypy --strict` reports without any configuration: messages by file and line."""
    pytest.importorskip("mypy", reason="what mypy reports is the same for all Airflows")
    folder = tmp_path_factory.mktemp("page")
    for number, block in enumerate(block for block in PAGE.blocks if block.language == "python"):
        (folder / f"block_{number}.py").write_text(block.code)
    files = [FORMS, MISTAKES, *EXAMPLES, *folder.iterdir()]
    options = ["--strict", "--config-file=", "--follow-imports=silent", "--no-error-summary", "--hide-error-context"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *map(str, files)], cwd=ROOT, capture_output=True, text=True
    )
    found: dict[str, dict[int, list[str]]] = {path.name: {} for path in files}
    assert done.returncode == 1, done.stdout + done.stderr  # the mistakes
    for path, line, message in re.findall(r"^(.+?):(\d+): error: (.*)$", done.stdout, flags=re.MULTILINE):
        found[Path(path).name].setdefault(int(line), []).append(message)
    return found


@needs_airflow_3
def test_mypy_strict_accepts_each_documented_form(errors: dict[str, dict[int, list[str]]]) -> None:
    """Literals, marked templates, outputs of tasks, DAG parameters, dicts of schedules and bodies."""
    assert errors[FORMS.name] == {}


@needs_airflow_3
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_mypy_strict_accepts_the_example(path: Path, errors: dict[str, dict[int, list[str]]]) -> None:
    """Each example can be copied to a repository that checks types."""
    assert errors[path.name] == {}


@needs_airflow_3
def test_mypy_reports_each_mistake(errors: dict[str, dict[int, list[str]]]) -> None:
    """An error is reported for exactly the marked lines, and says what is wrong."""
    marks = {
        number: line.partition("# error: ")[2]
        for number, line in enumerate(MISTAKES.read_text().splitlines(), 1)
        if "  # error: " in line
    }

    assert {'Argument "resync_mode"', 'Unexpected keyword argument "concurency_limit"'} <= set(marks.values())
    assert sorted(errors[MISTAKES.name]) == sorted(marks)
    assert [mark for line, mark in marks.items() if not any(mark in text for text in errors[MISTAKES.name][line])] == []


@needs_airflow_3
def test_page_has_the_error_that_mypy_reports(errors: dict[str, dict[int, list[str]]]) -> None:
    """The first example of the page has this error, and the others have none."""
    (text,) = [block.code for block in PAGE.blocks if block.language == "text"]
    reported = {name: found for name, found in errors.items() if name.startswith("block_") and found}

    assert list(reported) == ["block_0.py"]
    ((line, (message,)),) = reported["block_0.py"].items()
    assert f"dags/typed.py:{line}: error: {message}".startswith(" ".join(text.split()))


@needs_airflow_3
def test_operators_accept_each_documented_form() -> None:
    """The file that mypy accepts is a valid DAG file."""
    spec = importlib.util.spec_from_file_location("documented_forms", FORMS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert {"create", "literal", "templates", "references", "mapped"} <= set(module.documented_forms.task_ids)


@pytest.mark.parametrize("cls", [*TASKS, PolytomicSyncEventTrigger], ids=lambda cls: cls.__name__)
def test_annotations_of_arguments_can_be_read_at_run_time(cls: typing.Any) -> None:
    """Tools such as pydantic and Sphinx evaluate them."""
    parameters = set(inspect.signature(inspect.unwrap(cls.__init__)).parameters)

    assert set(typing.get_type_hints(cls.__init__)) >= parameters - {"self"}


def test_a_marked_template_is_a_string_at_run_time() -> None:
    """Airflow serializes and renders it like any other string."""
    assert type(types.Template("{{ params.mode }}")) is str


@pytest.mark.parametrize(
    ("fixed", "values"),
    [
        (types.ResyncMode, models.RESYNC_MODES),
        (types.FetchMode, models.FETCH_MODES),
        (types.EventName, ENDS),
        (types.Frequency, schedule.FREQUENCIES),
        (types.LogType, model_syncs.LOG_TYPES),
    ],
)
def test_fixed_values_are_those_of_the_api(fixed: typing.Any, values: typing.Any) -> None:
    """The client and the sandbox, which import nothing of Airflow, list the same values."""
    assert set(typing.get_args(fixed)) == set(values)


def test_create_operator_and_hook_have_the_same_fields() -> None:
    """The operator has two more ways to name a connection, and what is not part of the body."""
    parameters = set(inspect.signature(inspect.unwrap(PolytomicCreateBulkSyncOperator.__init__)).parameters)
    own = {"self", "kwargs", "source_connection", "destination_connection", "if_exists", "polytomic_conn_id"}

    assert set(typing.get_type_hints(bodies.NewBulkSync)) == parameters - own
    assert set(typing.get_type_hints(bodies.BulkSyncChanges)) == parameters - own
    assert set(typing.get_type_hints(bodies.ModelSyncChanges)) == set(typing.get_type_hints(bodies.NewModelSync))
