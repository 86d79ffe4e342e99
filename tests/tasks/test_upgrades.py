"""Who upgrades loses nothing: today's code goes on with all that each release has written down."""

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
from .persisted import ENDS, FOREIGN, TASKS, WATCHERS, all_that_is_written, make, stage
from .test_event_trigger import Store as AssetStore

GOLDEN = Golden("written")
FILES = GOLDEN.files
OPERATORS = [name for name in TASKS if "operator" in name and name not in FOREIGN]
of_each_release = pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
each_task = pytest.mark.parametrize("name", TASKS)


@pytest.fixture(scope="module")
def today() -> Any:
    """What today's code writes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return all_that_is_written(monkeypatch)


def of(file: Path, scene: str) -> Any:
    """What a release wrote in a scene; a scene that came later is passed over."""
    written = json.loads(file.read_text())
    if scene not in written:
        pytest.skip(f"{file.stem} had no {scene}")
    return written[scene]


def revived(row: dict[str, Any]) -> Any:
    """A trigger, as the triggerer makes it of its row."""
    module, name = row["path"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**row["kwargs"])


def shape(value: Any) -> Any:
    """The fields, and the types of what is in them; of a list, its first item's."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


def lacks(today: Any, before: Any) -> list[str]:
    """Where a shape has less than another had."""
    if isinstance(before, dict) and isinstance(today, dict):
        missing = [name for name in before if name not in today]
        return missing + [
            f"{name}.{lack}" for name in before if name in today for lack in lacks(today[name], before[name])
        ]
    if isinstance(before, list) and isinstance(today, list):
        return lacks(today[0], before[0]) if before and today else []
    return [] if today == before else [f"{before} is {today}"]


def test_today_writes_what_the_newest_file_has(today: Any) -> None:
    """Each change of what is written has a file; `make golden` adds that of an unreleased version."""
    GOLDEN.check(today)


def test_each_scene_writes_something(today: Any) -> None:
    """The scenes reach what they are there for: every note, key and XCom is among what is recorded."""
    bulk, model = today["bulk operator"], today["model operator"]

    assert set(bulk["xcoms"]) == {"execution", links.XCOM_KEY, CONSOLE_KEY}
    assert [len(scene["keys"]) for scene in (bulk, model, today["creation"])] == [1, 1, 1]
    assert set(bulk["task_state"]) == {"polytomic_start"}
    assert today["bulk operator that attaches"]["event"]["notes"]["adopted"] is True
    assert today["bulk operator that waits for another"]["event"]["notes"]["blocking"] is True
    assert [trouble["outcome"] for trouble in today["troubles"].values()] == ["timeout", "error"]
    assert len(today["what a watcher is told, and keeps"]["payloads"]) == len(ENDS)


@of_each_release
@each_task
def test_a_trigger_of_each_release_goes_on(file: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row is understood as it was meant, and it tells of the end of its execution."""
    scene = of(file, name)
    row = scene["deferral"]["row"]
    # The deadline, an hour of the day on which the file was made, has passed since.
    trigger = revived(row | {"kwargs": row["kwargs"] | {"deadline": None}})

    with stage(monkeypatch) as on:
        on.sandbox.start_foreign(row["kwargs"]["sync_id"])
        event = on.fire(trigger)

    stored = trigger.serialize()[1]
    assert {key: stored[key] for key in row["kwargs"]} == row["kwargs"] | {"deadline": None}
    assert (event["outcome"], event["execution_id"]) == ("ended", scene["event"]["execution_id"])


@of_each_release
@each_task
def test_a_task_goes_on_with_an_event_of_each_release(file: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a trigger of that release told ends the task, or lets it start when the way is free."""
    scene = of(file, name)
    deferral = scene["deferral"]

    with stage(monkeypatch) as on:
        on.sandbox.start_foreign(deferral["row"]["kwargs"]["sync_id"])
        on.now += 3600
        resume = getattr(make(name), deferral["method_name"])
        arguments = {"event": scene["event"], **(deferral["kwargs"] or {})}
        if "return_value" in scene:
            assert resume(make_context(), **arguments) == scene["return_value"]
        else:
            with pytest.raises(TaskDeferred):
                resume(make_context(), **arguments)
            assert len(on.keys()) == 1


@of_each_release
@pytest.mark.parametrize("trouble", ["timeout", "error"])
def test_trouble_that_a_trigger_of_each_release_told_is_trouble(
    file: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task fails with the error that it would have failed with then."""
    event = of(file, "troubles")[trouble]
    kind = errors.PolytomicTimeoutError if trouble == "timeout" else getattr(errors, event["error"])

    with stage(monkeypatch), pytest.raises(kind, match=event["message"]):
        make("bulk operator by name").execute_complete(make_context(max_tries=1), event)


@of_each_release
@pytest.mark.parametrize("name", OPERATORS)
def test_a_retry_finds_the_note_of_each_release(file: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a task noted in Airflow is taken up by a retry, though the server has forgotten the key."""
    scene = of(file, name)
    kwargs = scene["deferral"]["row"]["kwargs"]

    with stage(monkeypatch) as on:
        on.sandbox.start_foreign(kwargs["sync_id"])
        context = make_context(Store(scene["task_state"]), try_number=2, max_tries=1)
        with pytest.raises(TaskDeferred) as deferred:
            make(name).execute(context)

        assert deferred.value.trigger.execution_id == kwargs["execution_id"]
        assert on.keys() == []


@of_each_release
@pytest.mark.parametrize("name", [*TASKS, "creation"])
def test_the_keys_of_each_release_are_those_of_today(file: Path, name: str, today: Any) -> None:
    """A retry after an upgrade asks with the keys that the try before it has sent: nothing is started twice."""
    assert of(file, name)["keys"] == today[name]["keys"]


@of_each_release
@pytest.mark.parametrize("name", [name for name in TASKS if name != "bulk operator that waits for another"])
def test_what_others_read_has_all_that_each_release_had(file: Path, name: str, today: Any) -> None:
    """DAGs read XComs and asset events: no field is gone or of another type, and no address has changed."""
    before = of(file, name)

    for what in ("return_value", "xcoms", "asset_events"):
        assert lacks(shape(today[name][what]), shape(before[what])) == []


@of_each_release
def test_what_a_watcher_tells_has_all_that_each_release_told(file: Path, today: Any) -> None:
    """DAGs read the payloads, too; and the aliases of tables are called what they were."""
    name = "what a watcher is told, and keeps"

    assert lacks(shape(today[name]["payloads"]), shape(of(file, name)["payloads"])) == []
    assert of(file, "aliases") == today["aliases"]


@of_each_release
def test_the_link_and_the_console_log_go_on(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link that a task of that release wrote is shown, and what its trigger has logged is not logged again."""
    scene = of(file, "bulk operator")
    (link,) = set(scene["xcoms"][links.XCOM_KEY])
    monkeypatch.setattr(links, "read_xcom", lambda _, key: scene["xcoms"][key][0])
    assert PolytomicExecutionLink().get_link(None, ti_key=None) == link

    with stage(monkeypatch) as on:
        on.sandbox.start_foreign(scene["deferral"]["row"]["kwargs"]["sync_id"])
        on.xcoms[CONSOLE_KEY] = scene["xcoms"][CONSOLE_KEY]
        on.fire(revived(scene["deferral"]["row"]))

    assert on.console_requests()[0].query["after"] == [scene["xcoms"][CONSOLE_KEY]["after"]]


@of_each_release
@pytest.mark.parametrize("name", WATCHERS)
def test_a_watcher_of_each_release_goes_on_where_it_was(file: Path, name: str) -> None:
    """Its row makes an equal watcher, which finds the position that was saved, under the name it was saved by."""
    scene = of(file, f"watcher of {name}")
    position = of(file, "what a watcher is told, and keeps")["position"]

    watcher = revived(scene["row"])
    watcher.asset_state_store = AssetStore({scene["stored_as"]: json.dumps(position)})
    found = asyncio.run(watcher._stored())

    assert watcher.serialize()[1].items() >= scene["row"]["kwargs"].items()
    assert found is not None
    assert found.to_json() == position
