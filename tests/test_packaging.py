"""Packages: what is built is complete, reproducible, and works in a fresh environment."""

from __future__ import annotations

import ast
import email
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from airflow_provider_polytomic import __version__
from airflow_provider_polytomic.get_provider_info import get_provider_info
from tools.make_venv import make

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_provider_polytomic"
DISTRIBUTION = "airflow-provider-polytomic"


def test_entry_point_returns_the_provider_info_of_this_distribution() -> None:
    """Airflow rejects a provider whose package-name differs from the distribution's."""
    points = importlib.metadata.entry_points(group="apache_airflow_provider")
    entry_points = [point for point in points if point.dist is not None and point.dist.name == DISTRIBUTION]
    assert [point.load() for point in entry_points] == [get_provider_info]
    assert get_provider_info()["package-name"] == DISTRIBUTION
    assert get_provider_info()["versions"][0] == __version__ == importlib.metadata.version(DISTRIBUTION)


# Airflow and what it stands on, and what is used where it is there: Airflow 2's form, lineage, the sandbox's fixture.
OPTIONAL = {"airflow", "sqlalchemy", "flask_appbuilder", "flask_babel", "wtforms", "openlineage", "pytest"}


def test_every_imported_package_is_a_dependency() -> None:
    """No package is available only because another one depends on it."""
    requirements = importlib.metadata.requires(DISTRIBUTION) or []
    declared = {re.split(r"[^\w-]", one)[0].replace("-", "_").lower() for one in requirements}
    declared |= {"yaml"} if "pyyaml" in declared else set()
    imported = {
        (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
        for path in (ROOT / PACKAGE).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)
        for alias in node.names
    }

    assert {"yarl", "urllib3", "requests", "aiohttp"} <= imported
    assert imported - sys.stdlib_module_names - {PACKAGE} - OPTIONAL <= declared


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist, and a wheel that was built from it."""
    pytest.importorskip("build", reason="what is built is the same for all Airflows")
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


def sources() -> set[str]:
    """Return all files of the package in the repository."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.system
def test_wheel_has_only_the_package(wheel: Path) -> None:
    """All files of the package, with `py.typed`, license and entry point; no tests, no tools."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"{PACKAGE}-{__version__}.dist-info"
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
    assert {name for name in names if not name.startswith(f"{info}/")} == sources()
    assert f"{PACKAGE}/py.typed" in names
    assert f"{info}/licenses/LICENSE" in names
    assert entry_points.split() == [
        "[apache_airflow_provider]",
        "provider_info",
        "=",
        "airflow_provider_polytomic.get_provider_info:get_provider_info",
    ]


@pytest.mark.system
def test_sdist_has_what_development_needs(built: Path) -> None:
    """Sources, tests, examples and tools, and no generated files."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert sources() <= names
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "Makefile",
        "mkdocs.yml",
        "tools/make_venv.py",
        ".ci/run",
    } <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.*")} <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "example_dags").glob("*.py")} <= names
    assert Path(__file__).relative_to(ROOT).as_posix() in names
    unwanted = ("__pycache__", ".venv", ".cache", ".git/", ".site", ".pyc")
    assert [name for name in names if any(part in name for part in unwanted)] == []


def hashes(folder: Path) -> dict[str, str]:
    """Return the hashes of the built files by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def unpacked(built: Path, folder: Path) -> Path:
    """The contents of the sdist."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (inside,) = folder.iterdir()
    return inside


@pytest.mark.system
def test_build_is_reproducible(built: Path, tmp_path: Path) -> None:
    """From the sdist, with other dates, modes, umask and a built site, come identical files."""
    source = unpacked(built, tmp_path / "elsewhere")
    for path in source.rglob("*"):
        path.chmod(0o700 if path.is_dir() or os.access(path, os.X_OK) else 0o600)
        os.utime(path, (1e9, 1e9))
    (source / ".site" / "pages").mkdir(parents=True)
    for name in (PACKAGE, "tests"):  # as `make docs` links them
        (source / ".site" / "pages" / name).symlink_to(source / name)
    env = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path / "again"), str(source)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, umask=0o077)
    assert done.returncode == 0, done.stdout + done.stderr

    assert hashes(tmp_path / "again") == hashes(built)


@pytest.mark.system
def test_sdist_passes_its_unit_tests(built: Path, tmp_path: Path) -> None:
    """Outside the repository, with the package of the sdist."""
    source = unpacked(built, tmp_path)
    shutil.rmtree(source / "tests" / "system")  # what runs a whole Airflow is run of the repository
    chosen = ["tests/api/test_plan.py", "tests/api/test_hostile.py", "tests/tasks/test_upgrades.py"]
    chosen += ["tests/test_public_names.py", "tests/test_workflows.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *chosen],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    where = [sys.executable, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)"]
    shown = subprocess.run(where, cwd=source, capture_output=True, text=True, check=True).stdout
    assert str(source) in shown


@pytest.mark.system
def test_twine_check_passes(built: Path) -> None:
    """In its strict mode."""
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


@pytest.mark.system
def test_metadata_has_license_and_version_bounds(wheel: Path) -> None:
    """The license is an SPDX expression with its text; each requirement has a lower bound and no upper one."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_string(archive.read(f"{PACKAGE}-{__version__}.dist-info/METADATA").decode())
    assert (metadata["Name"], metadata["Version"]) == (DISTRIBUTION, __version__)
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["Description-Content-Type"] == "text/markdown"
    classifiers = metadata.get_all("Classifier") or []
    assert {"Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= set(classifiers)
    assert not [it for it in classifiers if it.startswith("License ::")]  # the expression says it
    requirements = metadata.get_all("Requires-Dist") or []
    assert "apache-airflow>=2.11.0" in requirements
    assert metadata.get_all("Provides-Extra") == ["openlineage"]
    assert [it for it in requirements if not re.fullmatch(r"[a-z0-9_-]+>=[0-9.]+(; extra == '\w+')?", it)] == []


class Installed:
    """A fresh environment with the wheel, and an Airflow home outside the repository."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        make(folder / "venv", [str(wheel)])
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_", "PYTHON"))}
        self.env = {
            **inherited,
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_PROXY": "127.0.0.1",
        }

    def command(self, *arguments: str) -> list[str]:
        return [str(self.folder / "venv" / "bin" / "python"), *arguments]

    def output(self, *arguments: str, **env: str) -> str:
        """Return the output of Python in the environment; raise an error if it fails."""
        done = subprocess.run(
            self.command(*arguments),
            env={**self.env, **env},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), wheel)


@pytest.mark.system
def test_airflow_can_be_imported_with_the_wheel_installed(installed: Installed) -> None:
    """A provider with invalid metadata breaks `import airflow.sdk`."""
    code = f"import airflow.sdk, {PACKAGE}; print({PACKAGE}.__file__)"
    assert str(installed.folder) in installed.output("-c", code)


@pytest.mark.system
def test_airflow_lists_the_provider(installed: Installed) -> None:
    """`airflow providers get` shows the provider with its version."""
    shown = installed.output("-m", "airflow", "providers", "get", DISTRIBUTION, "--output", "json")
    (provider,) = json.loads(shown)
    assert (provider["Provider"], provider["Version"]) == (DISTRIBUTION, __version__)


@pytest.mark.system
def test_airflow_lists_the_hook(installed: Installed) -> None:
    """`airflow providers hooks` shows the connection type and can import its hook."""
    shown = json.loads(installed.output("-m", "airflow", "providers", "hooks", "--output", "json"))
    (hook,) = [row for row in shown if row["connection_type"] == "polytomic"]
    assert hook["class"] == "airflow_provider_polytomic.hooks.polytomic.PolytomicHook"
    assert hook["conn_id_attribute_name"] == "polytomic_conn_id"


@pytest.mark.system
def test_installed_wheel_runs_an_example_against_its_sandbox(installed: Installed) -> None:
    """With only the wheel and its requirements: `db migrate`, the sandbox, and a DAG with a sync."""
    installed.output("-m", "airflow", "db", "migrate")
    sandbox = subprocess.Popen(
        installed.command("-m", f"{PACKAGE}.sandbox", "--port", "0", "--speed", "20"),
        env=installed.env,
        cwd=installed.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert sandbox.stdout is not None
        words = sandbox.stdout.readline().split()
        url, key = words[3].rstrip(","), words[-1]
        connection = json.dumps({"conn_type": "polytomic", "host": url, "password": key})
        installed.output("-m", "airflow", "dags", "test", "start_and_wait", AIRFLOW_CONN_POLYTOMIC_DEFAULT=connection)
    finally:
        sandbox.terminate()
        sandbox.communicate()
