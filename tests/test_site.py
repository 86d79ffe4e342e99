"""The documentation site: its contents, and the errors that fail its build."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from airflow_provider_polytomic.api import errors, models
from airflow_provider_polytomic.api.models.tolerant import Model
from airflow_provider_polytomic.get_provider_info import get_provider_info
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook
from airflow_provider_polytomic.links import PolytomicExecutionLink
from airflow_provider_polytomic.sandbox import pytest_plugin
from airflow_provider_polytomic.sandbox.app import Sandbox
from airflow_provider_polytomic.sandbox.faults import Faults
from tests.documents import ROOT

pytest.importorskip("mkdocs")

PACKAGE = ROOT / "airflow_provider_polytomic"
ENDPOINTS = [path.stem for path in (PACKAGE / "api" / "endpoints").glob("*.py") if path.stat().st_size]


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `make docs` with the environment of this test."""
    command = ["make", "--old-file=venv", "docs", f"BIN={Path(sys.executable).parent}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def copy_to(folder: Path, *changed: str) -> Path:
    """Copy the changed directories, and link the other files of the repository."""
    for path in ROOT.iterdir():
        if path.name in changed and path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site and return its directory."""
    folder = copy_to(tmp_path_factory.mktemp("site"))
    done = make(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / ".site" / "html"


# --- contents


class Page(HTMLParser):
    """The ids of a page, and the addresses that a browser loads for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: set[str] = set()
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        if tag == "link":
            self.fetched.add(given["href"])
        if "src" in given:
            self.fetched.add(given["src"])


def test_site_loads_nothing_from_other_hosts(site: Path) -> None:
    """No script, style, font, or image comes from another host, so the site works offline."""
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))

    fetched = {address for path in site.rglob("*.html") for address in Page(path).fetched}

    assert any(address.endswith("deferred.png") for address in fetched)
    assert {address for address in fetched if re.match(r"(https?:)?//", address)} == set()
    assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)]*", styles) == []


def public_classes() -> set[type]:
    """Return the classes that users import: names with the prefix Polytomic, errors, models, and the sandbox."""
    info = get_provider_info()
    kinds = ("operators", "sensors", "triggers")
    modules = [importlib.import_module(name) for kind in kinds for it in info[kind] for name in it["python-modules"]]
    found = {value for module in modules for name, value in vars(module).items() if name.startswith("Polytomic")}
    found |= {value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)}
    found |= {
        value
        for value in (getattr(models, name) for name in models.__all__)
        if inspect.isclass(value) and issubclass(value, Model)
    }
    return found | {PolytomicHook, PolytomicExecutionLink, Sandbox, Faults}


def public_functions() -> Iterator[str]:
    """Yield the hook's methods, the endpoints, and the fixtures."""
    for base in PolytomicHook.__mro__:
        if base.__module__.startswith(PACKAGE.name):
            for name, value in vars(base).items():
                if inspect.isfunction(value) and not name.startswith("_"):
                    yield f"{PolytomicHook.__module__}.{PolytomicHook.__qualname__}.{name}"
    for stem in ENDPOINTS:
        module = importlib.import_module(f"{PACKAGE.name}.api.endpoints.{stem}")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                yield f"{module.__name__}.{name}"
    for name in ("polytomic_sandbox", "polytomic_sandbox_seed", "polytomic_sandbox_speed"):
        assert hasattr(pytest_plugin, name)
        yield f"{pytest_plugin.__name__}.{name}"


def test_api_reference_is_complete(site: Path) -> None:
    """The reference has every public class, hook method, endpoint, model, error, and fixture."""
    classes = {f"{cls.__module__}.{cls.__qualname__}" for cls in public_classes()}
    functions = set(public_functions())
    assert len(classes) > 50
    assert len(functions) > 80

    documented = {found for path in (site / "docs" / "reference" / "api").glob("*.html") for found in Page(path).ids}

    assert sorted((classes | functions) - documented) == []


def test_api_reference_contains_no_restructuredtext(site: Path) -> None:
    """Roles, literal blocks, and parameter fields of the docstrings are converted."""
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "docs" / "reference" / "api").glob("*.html"))

    assert "<code>find_bulk_sync</code>" in text
    assert re.findall(r":(?:class|data|func|meth|mod):|::\s*</p>|:param \w+:", text) == []


DESCRIBED = [cls for cls in public_classes() if inspect.getdoc(cls) and ":param" in str(cls.__doc__)]


@pytest.mark.parametrize("cls", sorted(DESCRIBED, key=str), ids=lambda cls: cls.__name__)
def test_docstring_describes_every_argument(cls: type) -> None:
    """The docstring of a public class describes each of its arguments."""
    arguments = inspect.signature(inspect.unwrap(cls.__init__)).parameters.values()  # type: ignore[misc]
    named = {it.name for it in arguments if it.kind is not inspect.Parameter.VAR_KEYWORD} - {"self"}

    assert set(re.findall(r":param (\w+):", str(cls.__doc__))) == named


# --- errors


FAULTS = {
    'exist in the docs directory, but are not included in the "nav"': ("docs/forgotten.md", "# Forgotten"),
    "'docs/nowhere.md' is not found": ("docs/ui.md", "[a missing page](nowhere.md)"),
    "does not contain an anchor '#nowhere'": ("docs/ui.md", "[a missing heading](recipes.md#nowhere)"),
    "there is no such anchor on this page": ("docs/ui.md", "[a missing heading of this page](#nowhere)"),
    "'tests/nowhere.py' is not found": ("docs/ui.md", "[a missing file](../tests/nowhere.py)"),
    "'docs/images/nowhere.png' is not found": ("docs/ui.md", "![a missing image](images/nowhere.png)"),
    "unrecognized relative link '../tests'": ("docs/ui.md", "[a directory](../tests)"),
}


def test_build_fails_and_reports_every_fault(tmp_path: Path) -> None:
    """`make docs` fails, with one warning for each fault."""
    folder = copy_to(tmp_path, "docs", PACKAGE.name)
    for file, text in FAULTS.values():
        with (folder / file).open("a", encoding="utf-8") as page:
            page.write(f"\n{text}\n")
    module = folder / PACKAGE.name / "operators" / "bulk_sync.py"
    module.write_text(module.read_text(encoding="utf-8").replace(":param sync_name:", ":param sync_nam:", 1))
    docstring = "'sync_nam' does not appear in the function signature"

    done = make(folder)

    output = done.stdout + done.stderr
    warnings = [line for line in output.splitlines() if line.startswith("WARNING")]
    assert [it for it in [*FAULTS, docstring] if not any(it in warning for warning in warnings)] == [], output
    assert done.returncode != 0


def test_build_fails_when_the_reference_names_a_missing_object(tmp_path: Path) -> None:
    """`make docs` fails if a reference page names an object that the package does not have."""
    folder = copy_to(tmp_path, "docs")
    with (folder / "docs" / "reference" / "api" / "hook.md").open("a", encoding="utf-8") as page:
        page.write(f"\n::: {PACKAGE.name}.nothing\n")

    done = make(folder)

    assert f"{PACKAGE.name}.nothing could not be found" in done.stdout + done.stderr
    assert done.returncode != 0
