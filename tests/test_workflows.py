"""GitHub workflows: pinned actions, minimal permissions, and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.matrix import PYTHONS, make_cells

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def parsed(file: Path) -> dict[Any, Any]:
    workflow: dict[Any, Any] = yaml.safe_load(file.read_text())
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads "on" as a boolean
    return workflow


def steps(file: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(name, step) for name, job in parsed(file)["jobs"].items() for step in job["steps"]]


def test_both_workflows_exist() -> None:
    """The other tests check them."""
    assert [file.stem for file in FILES] == ["release", "test"]


@each_file
def test_actions_are_pinned_to_commits(file: Path) -> None:
    """By full commit hash, with the version in a comment."""
    lines = [line for line in file.read_text().splitlines() if re.match(r"\s*(- )?uses:", line)]

    assert len(lines) == len([step for _, step in steps(file) if "uses" in step]) > 0
    for line in lines:
        assert re.fullmatch(r"\s*(- )?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_workflows_use_one_version_of_each_action() -> None:
    """The same commit in all workflows."""
    used = {step["uses"] for file in FILES for _, step in steps(file) if "uses" in step}

    assert len({action.partition("@")[0] for action in used}) == len(used)


@each_file
def test_jobs_have_minimal_permissions(file: Path) -> None:
    """No permission for all jobs; jobs may read the sources, and only publishing may get an identity token."""
    workflow = parsed(file)

    assert workflow["permissions"] == {}
    allowed = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    publishes = allowed.pop("publish", None)
    assert publishes == ({"id-token": "write"} if file.stem == "release" else None)
    assert set(map(str, allowed.values())) == {str({"contents": "read"})}


@each_file
def test_checkout_keeps_no_credentials(file: Path) -> None:
    """The token of the checkout is not available to later steps."""
    for _, step in steps(file):
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"] == {"persist-credentials": False}


@each_file
def test_workflows_cannot_be_injected(file: Path) -> None:
    """Commands contain no expression, such as a branch's name. Pull requests get no additional rights and no secret."""
    workflow = parsed(file)

    assert not [step for _, step in steps(file) if "${{" in step.get("run", "")]
    assert "pull_request_target" not in workflow["on"]
    assert "workflow_run" not in workflow["on"]
    assert "secrets." not in file.read_text()
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


def test_publishing_job_runs_no_code_of_the_repository() -> None:
    """It publishes the files of another job, after an approval."""
    (release,) = [parsed(file) for file in FILES if file.stem == "release"]
    job = release["jobs"]["publish"]

    assert release["on"] == {"push": {"tags": ["v*"]}}
    assert (job["needs"], job["environment"]) == (["check", "build"], "release")
    assert [step["uses"].partition("@")[0] for step in job["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]


def test_build_job_runs_only_the_build() -> None:
    """No tests and no test dependencies on the machine that builds; only its files are published."""
    (release,) = [parsed(file) for file in FILES if file.stem == "release"]
    uploads = [name for name, job in release["jobs"].items() if "upload-artifact" in str(job)]
    commands = [step["run"] for step in release["jobs"]["build"]["steps"] if "run" in step]

    assert uploads == ["build"]
    assert re.fullmatch(r"python -m pip install build==[\d.]+", commands[0])
    assert commands[1].startswith('python -m tools.release build "$GITHUB_REF_NAME" --repository ')
    assert commands[2:] == ["sha256sum dist/*"]
    assert any("make lint types unit" in step.get("run", "") for step in release["jobs"]["check"]["steps"])


def test_commands_of_workflows_exist() -> None:
    """Each make target and each tool that a workflow runs."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [command for file in FILES for _, step in steps(file) for command in step.get("run", "").splitlines()]

    made = [word for command in commands if command.startswith("make ") for word in command.split("#")[0].split()[1:]]
    assert {word for word in made if "=" not in word} <= {*targets, '"$TARGET"'}
    assert any("tools.release" in command for command in commands)


@pytest.fixture
def jobs() -> dict[str, Any]:
    """The jobs of the workflow `test`."""
    (test,) = [parsed(file) for file in FILES if file.stem == "test"]
    jobs: dict[str, Any] = test["jobs"]
    return jobs


@pytest.mark.parametrize("target", ["unit", "system"])
def test_workflow_has_the_cells_of_the_matrix(target: str, jobs: dict[str, Any]) -> None:
    """Each Airflow with every Python that it supports, and the same system tests as `make test-matrix`."""
    included = [(cell["airflow"], cell["python"]) for cell in jobs[target]["strategy"]["matrix"]["include"]]

    assert included == [(cell.airflow, cell.python) for cell in make_cells(every=True) if target in cell.targets]
    command = {"run": f"make {target} PYTHON=python", "env": {"AIRFLOW": "${{ matrix.airflow }}"}}
    assert jobs[target]["steps"][-1] == command


def test_pythons_of_the_matrix_are_those_of_the_metadata() -> None:
    """The classifiers have each Python of the matrix."""
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())

    assert tuple(named) == PYTHONS


def test_workflow_runs_the_suites_of_ci(jobs: dict[str, Any]) -> None:
    """Each target that `.ci/run` makes with a real Airflow is a job."""
    made = re.findall(r"^make (test-\w+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)

    assert jobs["stages"]["strategy"]["matrix"]["target"] == made != []
    env = {name.upper(): f"${{{{ matrix.{name} }}}}" for name in ("target", "airflow", "args")}
    env["ALL"] = "${{ github.event_name == 'schedule' && matrix.airflow == 'newest' && '1' || '' }}"
    assert jobs["stages"]["steps"][-1] == {"run": 'make "$TARGET" PYTHON=python', "env": env}


def test_workflow_runs_celery_workers_of_the_oldest_airflow(jobs: dict[str, Any]) -> None:
    """All tests of an Airflow as in production but the storm."""
    (cell,) = jobs["stages"]["strategy"]["matrix"]["include"]
    left_out = {path.name for path in (ROOT / "tests" / "production").glob("test_*.py")} - {
        Path(path).name for path in cell["args"].split() if (ROOT / path).is_file()
    }

    assert (cell["target"], cell["airflow"], left_out) == ("test-production", "2.11.2", {"test_storm.py"})


def test_workflow_runs_each_week_with_the_newest_releases() -> None:
    """A schedule, no lock file, and no prereleases."""
    (test,) = [parsed(file) for file in FILES if file.stem == "test"]
    ((_, _, day, month, weekday),) = [entry["cron"].split() for entry in test["on"]["schedule"]]

    assert (day, month) == ("*", "*")
    assert weekday.isdigit()
    assert [path.name for path in ROOT.glob("*.lock")] == []
    assert "prerelease" not in (ROOT / "Makefile").read_text()


def test_dependabot_updates_actions_and_python_packages() -> None:
    """Every week."""
    settings = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())

    assert settings["version"] == 2
    ecosystems = {update["package-ecosystem"]: update["schedule"]["interval"] for update in settings["updates"]}
    assert ecosystems == {"github-actions": "weekly", "pip": "weekly"}
