"""The workflows of GitHub: nobody can put anything into them unseen, and none may do more than it has to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def parsed(file: Path) -> dict[Any, Any]:
    workflow: dict[Any, Any] = yaml.safe_load(file.read_text())
    workflow["on"] = workflow.pop(True)  # YAML 1.1 takes "on" for a truth
    return workflow


def steps(file: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(name, step) for name, job in parsed(file)["jobs"].items() for step in job["steps"]]


def test_both_are_there() -> None:
    """The tests below look at something."""
    assert [file.stem for file in FILES] == ["release", "test"]


@each_file
def test_each_action_is_pinned(file: Path) -> None:
    """By the full hash of a commit, which nobody can move, with the version for people beside it."""
    lines = [line for line in file.read_text().splitlines() if re.match(r"\s*(- )?uses:", line)]

    assert len(lines) == len([step for _, step in steps(file) if "uses" in step]) > 0
    for line in lines:
        assert re.fullmatch(r"\s*(- )?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_version() -> None:
    """All workflows use the same commit of it."""
    used = {step["uses"] for file in FILES for _, step in steps(file) if "uses" in step}

    assert len({action.partition("@")[0] for action in used}) == len(used)


@each_file
def test_nothing_is_allowed_that_is_not_needed(file: Path) -> None:
    """No right is given to all jobs; a job may read the sources, and only the one that publishes says who it is."""
    workflow = parsed(file)

    assert workflow["permissions"] == {}
    allowed = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    publishes = allowed.pop("publish", None)
    assert publishes == ({"id-token": "write"} if file.stem == "release" else None)
    assert set(map(str, allowed.values())) == {str({"contents": "read"})}


@each_file
def test_no_credentials_are_left_behind(file: Path) -> None:
    """The token that the sources were fetched with is not kept for what runs then."""
    for _, step in steps(file):
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"] == {"persist-credentials": False}


@each_file
def test_nobody_writes_into_a_command(file: Path) -> None:
    """No command has an expression in it, which would be what a stranger called his branch; no job runs with more
    rights for a stranger's change, none has a secret, and each ends."""
    workflow = parsed(file)

    assert not [step for _, step in steps(file) if "${{" in step.get("run", "")]
    assert "pull_request_target" not in workflow["on"]
    assert "workflow_run" not in workflow["on"]
    assert "secrets." not in file.read_text()
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


def test_who_publishes_runs_nothing_of_ours() -> None:
    """The job with the right to publish takes what another one has built, after a person has agreed."""
    (release,) = [parsed(file) for file in FILES if file.stem == "release"]
    job = release["jobs"]["publish"]

    assert release["on"] == {"push": {"tags": ["v*"]}}
    assert (job["needs"], job["environment"]) == (["check", "build"], "release")
    assert [step["uses"].partition("@")[0] for step in job["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]


def test_what_is_published_is_built_where_nothing_else_runs() -> None:
    """No test, and nothing that only tests need, runs on the machine that builds; only what it built is handed on."""
    (release,) = [parsed(file) for file in FILES if file.stem == "release"]
    uploads = [name for name, job in release["jobs"].items() if "upload-artifact" in str(job)]
    commands = [step["run"] for step in release["jobs"]["build"]["steps"] if "run" in step]

    assert uploads == ["build"]
    assert re.fullmatch(r"python -m pip install build==[\d.]+", commands[0])
    assert commands[1:] == ["python -m build", "sha256sum dist/*"]
    assert any("make lint types unit" in step.get("run", "") for step in release["jobs"]["check"]["steps"])


def test_the_commands_exist() -> None:
    """Each target of make, and each tool, that a workflow runs, is there."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [command for file in FILES for _, step in steps(file) for command in step.get("run", "").splitlines()]

    made = [word for command in commands if command.startswith("make ") for word in command.split("#")[0].split()[1:]]
    assert {word for word in made if "=" not in word} <= targets
    assert any("tools.release" in command for command in commands)


def test_the_pythons_are_those_of_the_metadata() -> None:
    """The quick tests run on each Python that the classifiers name."""
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    (test,) = [parsed(file) for file in FILES if file.stem == "test"]

    assert test["jobs"]["quick"]["strategy"]["matrix"]["python"] == named
