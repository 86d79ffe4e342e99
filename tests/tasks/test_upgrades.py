"""Upgrades: the current code continues with the data that each release persisted."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_polytomic import links
from airflow_provider_polytomic.api import errors
from airflow_provider_polytomic.links import PolytomicExecutionLink
from airflow_provider_polytomic.triggers.execution import CONSOLE_KEY
from tests.releases import Golden

from .conftest import Store, TaskDeferred, make_context
from .persisted import ENDS, FOREIGN, TASKS, WATCHERS, collect_persisted_data, make_task, stage
from .test_event_trigger import Store as AssetStore

GOLDEN = Golden("written")
FILES = GOLDEN.files
OPERATORS = [name for name in TASKS if "operator" in name and name not in FOREIGN]
each_release = pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
each_task = pytest.mark.parametrize("name", TASKS)


@pytest.fixture(scope="module")
def current_data() -> Any:
    """The data that the current code persists."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return collect_persisted_data(monkeypatch)


def load_scene(file: Path, scene: str) -> Any:
    """What a release persisted in a scene. A scene that was added later is skipped."""
    written = json.loads(file.read_text())
    if scene not in written:
        pytest.skip(f"{file.stem} has no scene {scene}")
    return written[scene]


def trigger_from_row(row: dict[str, Any]) -> Any:
    """A trigger, created from its database row as the triggerer does."""
    module, name = row["path"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**row["kwargs"])


def shape(value: Any) -> Any:
    """The fields of a value and the types in them; of a list, the shape of its first item."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def missing_fields(current: Any, before: Any) -> list[str]:
    """The fields that are missing in the current shape, or have another type."""
    if isinstance(before, dict) and isinstance(current, dict):
        missing = [name for name in before if name not in current]
        return missing + [
            f"{name}.{lack}"
            for name in before
            if name in current
            for lack in missing_fields(current[name], before[name])
        ]
    if isinstance(before, list) and isinstance(current, list):
        return missing_fields(current[0], before[0]) if before and current else []
    return [] if current == before else [f"{before} is {current}"]


def test_persisted_data_matches_the_newest_golden_file(current_data: Any) -> None:
    """Each change of the persisted data has a file; `make golden` adds the one of an unreleased version."""
    GOLDEN.check(current_data)


def test_persisted_data_covers_keys_xcoms_and_deferral_state(current_data: Any) -> None:
    """The scenes reach the states that they are named for."""
    bulk, model = current_data["bulk operator"], current_data["model operator"]

    assert set(bulk["xcoms"]) == {"execution", links.LINK_KEY, CONSOLE_KEY}
    assert [len(scene["keys"]) for scene in (bulk, model, current_data["creation"])] == [1, 1, 1]
    assert set(bulk["task_state"]) == {"polytomic_start"}
    assert current_data["bulk operator that attaches"]["event"]["deferral_state"]["origin"] == "attached"
    assert current_data["bulk operator that waits for another"]["event"]["deferral_state"]["is_blocking"] is True
    assert [event["outcome"] for event in current_data["trigger errors"].values()] == ["timeout", "error"]
    assert len(current_data["watcher state and payloads"]["payloads"]) == len(ENDS)


@each_release
@each_task
def test_trigger_of_an_older_release_reports_the_end_of_its_execution(
    file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arguments of the trigger keep their values."""
    scene = load_scene(file, name)
    row = scene["deferral"]["row"]
    # The deadline has passed since the file was created.
    trigger = trigger_from_row(row | {"kwargs": row["kwargs"] | {"deadline": None}})

    with stage(monkeypatch) as staged:
        staged.sandbox.start_foreign(row["kwargs"]["sync_id"])
        event = staged.fire(trigger)

    stored = trigger.serialize()[1]
    assert {key: stored[key] for key in row["kwargs"]} == row["kwargs"] | {"deadline": None}
    assert (event["outcome"], event["execution_id"]) == ("ended", scene["event"]["execution_id"])


@each_release
@each_task
def test_task_resumes_with_the_event_of_an_older_release(
    file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event ends the task, or lets it start when the blocking execution has ended."""
    scene = load_scene(file, name)
    deferral = scene["deferral"]

    with stage(monkeypatch) as staged:
        staged.sandbox.start_foreign(deferral["row"]["kwargs"]["sync_id"])
        staged.now += 3600
        resume = getattr(make_task(name), deferral["method_name"])
        arguments = {"event": scene["event"], **(deferral["kwargs"] or {})}
        if "return_value" in scene:
            assert resume(make_context(), **arguments) == scene["return_value"]
        else:
            with pytest.raises(TaskDeferred):
                resume(make_context(), **arguments)
            assert len(staged.idempotency_keys()) == 1


@each_release
@pytest.mark.parametrize("outcome", ["timeout", "error"])
def test_task_fails_with_the_error_event_of_an_older_release(
    file: Path, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task fails with the error class that the older release would have raised."""
    event = load_scene(file, "trigger errors")[outcome]
    kind = errors.PolytomicTimeoutError if outcome == "timeout" else getattr(errors, event["error_type"])

    with stage(monkeypatch), pytest.raises(kind, match=event["message"]):
        make_task("bulk operator by name").execute_complete(make_context(max_tries=1), event)


@each_release
@pytest.mark.parametrize("name", OPERATORS)
def test_retry_resumes_from_the_stored_start_of_an_older_release(
    file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry resumes the execution even if the server has forgotten the idempotency key."""
    scene = load_scene(file, name)
    kwargs = scene["deferral"]["row"]["kwargs"]

    with stage(monkeypatch) as staged:
        staged.sandbox.start_foreign(kwargs["sync_id"])
        context = make_context(Store(scene["task_state"]), try_number=2, max_tries=1)
        with pytest.raises(TaskDeferred) as deferred:
            make_task(name).execute(context)

        assert deferred.value.trigger.execution_id == kwargs["execution_id"]
        assert staged.idempotency_keys() == []


@each_release
@pytest.mark.parametrize("name", [*TASKS, "creation"])
def test_idempotency_keys_are_those_of_older_releases(file: Path, name: str, current_data: Any) -> None:
    """A retry after an upgrade sends the keys of the try before it, so that nothing is started twice."""
    assert load_scene(file, name)["keys"] == current_data[name]["keys"]


@each_release
@pytest.mark.parametrize("name", [name for name in TASKS if name != "bulk operator that waits for another"])
def test_xcoms_and_asset_events_keep_the_fields_of_older_releases(file: Path, name: str, current_data: Any) -> None:
    """DAGs read XComs and asset events: no field is removed or changes its type."""
    before = load_scene(file, name)

    for what in ("return_value", "xcoms", "asset_events"):
        assert missing_fields(shape(current_data[name][what]), shape(before[what])) == []


@each_release
def test_event_payloads_and_aliases_keep_the_fields_of_older_releases(file: Path, current_data: Any) -> None:
    """DAGs read event payloads, and refer to the aliases of tables by name."""
    name = "watcher state and payloads"

    assert missing_fields(shape(current_data[name]["payloads"]), shape(load_scene(file, name)["payloads"])) == []
    assert load_scene(file, "aliases") == current_data["aliases"]


@each_release
def test_link_and_console_log_continue_from_an_older_release(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored link is shown, and console log lines that were logged before are not logged again."""
    scene = load_scene(file, "bulk operator")
    (link,) = set(scene["xcoms"][links.LINK_KEY])
    monkeypatch.setattr(links, "read_xcom", lambda _, key: scene["xcoms"][key][0])
    assert PolytomicExecutionLink().get_link(None, ti_key=None) == link

    with stage(monkeypatch) as staged:
        staged.sandbox.start_foreign(scene["deferral"]["row"]["kwargs"]["sync_id"])
        staged.xcoms[CONSOLE_KEY] = scene["xcoms"][CONSOLE_KEY]
        staged.fire(trigger_from_row(scene["deferral"]["row"]))

    assert staged.console_requests()[0].query["after"] == [scene["xcoms"][CONSOLE_KEY]["cursor"]]


@each_release
@pytest.mark.parametrize("name", WATCHERS)
def test_event_trigger_resumes_at_the_position_that_an_older_release_saved(file: Path, name: str) -> None:
    """The row creates an equal trigger, which finds the position under the name that it was saved by."""
    scene = load_scene(file, f"watcher of {name}")
    position = load_scene(file, "watcher state and payloads")["position"]

    watcher = trigger_from_row(scene["row"])
    watcher.asset_state_store = AssetStore({scene["stored_as"]: json.dumps(position)})
    found = asyncio.run(watcher._read_stored())

    assert watcher.serialize()[1].items() >= scene["row"]["kwargs"].items()
    assert found is not None
    assert found.to_json() == position
