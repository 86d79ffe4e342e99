"""Public names: names, parameters and defaults that users rely on, and their changes in CHANGELOG.md."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

import pytest

from airflow_provider_polytomic import __version__, bodies, links, types
from airflow_provider_polytomic.api import endpoints, errors, settings
from airflow_provider_polytomic.get_provider_info import EXTRA_FIELDS, get_provider_info
from airflow_provider_polytomic.hooks import polytomic
from airflow_provider_polytomic.sandbox import app, pytest_plugin
from airflow_provider_polytomic.triggers import events, execution
from tests.releases import Golden
from tools.release import CHANGELOG, check_tag, parse_releases

GOLDEN = Golden("public")
NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def public_names() -> dict[str, str]:
    """Return all public names, with parameters as ``name(parameter)``, and their defaults as text."""
    found: dict[str, str] = {}
    info = get_provider_info()
    for module in (importlib.import_module(name) for kind in ("operators", "sensors") for name in _modules(info, kind)):
        for cls in _classes(module):
            found |= _parameters(cls, cls.__init__)  # type: ignore[misc]
            found |= {_name(cls, f"{field} (templated)"): "" for field in cls.template_fields}  # type: ignore[attr-defined]
    found |= _parameters(polytomic.PolytomicHook, polytomic.PolytomicHook.__init__)
    found |= _methods(polytomic.PolytomicHook)
    for cls in (events.PolytomicSyncEventTrigger, execution.PolytomicExecutionTrigger):
        found |= _parameters(cls, cls.__init__)  # type: ignore[misc]
    for cls in _classes(errors):
        found[_name(cls)] = ", ".join(base.__name__ for base in cls.__bases__)
    for part in pkgutil.iter_modules(endpoints.__path__, f"{endpoints.__name__}."):
        for function in _functions(importlib.import_module(part.name)):
            found |= _parameters(function, function)
    found |= _types("types", types) | _types("bodies", bodies)
    found |= _parameters(app.Sandbox, app.Sandbox.__init__) | _methods(app.Sandbox)
    # A decorated fixture is wrapped in another way by each version of pytest; its name is what is used.
    fixtures = [name for name in vars(pytest_plugin) if name.startswith("polytomic_sandbox")]
    found |= {f"sandbox.pytest_plugin.{name}": "" for name in fixtures}
    defaults = settings.Settings()
    found |= {f"connection.{name}": repr(getattr(defaults, name, "")) for name in ("login", *EXTRA_FIELDS)}
    found |= {
        "connection.conn_type": polytomic.PolytomicHook.conn_type,
        "connection.conn_id": polytomic.PolytomicHook.default_conn_name,
        "connection.host": settings.DEFAULT_HOST,
        "link": links.PolytomicExecutionLink.name,
    }
    return found


def _types(path: str, module: ModuleType) -> dict[str, str]:
    """The types of a module: fixed values as text, dicts with their keys."""
    found: dict[str, str] = {}
    for name in module.__all__:
        value = getattr(module, name)
        found[f"{path}.{name}"] = ", ".join(map(repr, get_args(value))) if get_origin(value) is Literal else ""
        found |= {f"{path}.{name}({key})": "" for key in getattr(value, "__annotations__", {})}
    return found


def _modules(info: dict[str, Any], kind: str) -> list[str]:
    return [name for entry in info[kind] for name in entry["python-modules"]]


def _classes(module: ModuleType) -> list[type]:
    return [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def _functions(module: ModuleType) -> list[Any]:
    return [
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def _name(what: Any, parameter: str = "") -> str:
    name = f"{what.__module__}.{what.__qualname__}".removeprefix("airflow_provider_polytomic.")
    return f"{name}({parameter})" if parameter else name


def _parameters(what: Any, function: Any) -> dict[str, str]:
    found = {_name(what): ""}
    for parameter in inspect.signature(inspect.unwrap(function)).parameters.values():
        if parameter.kind in NAMED and parameter.name != "self":
            required = parameter.default is inspect.Parameter.empty
            default = "required" if required else "a function" if callable(parameter.default) else parameter.default
            found[_name(what, parameter.name)] = default if required else repr(default)
    return found


def _methods(cls: type) -> dict[str, str]:
    """The public attributes of a class, by its own name also where a base class in the package defines them."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("airflow_provider_polytomic."):
            for name, value in vars(base).items():
                if not name.startswith("_"):
                    value = getattr(value, "__func__", value)
                    is_function = inspect.isfunction(value)
                    members = _parameters(value, value) if is_function else {f"{_name(base)}.{name}": ""}
                    found |= {_name(cls) + key.removeprefix(_name(base)): default for key, default in members.items()}
    return found


def find_undocumented(before: dict[str, str], today: dict[str, str], changelog: str) -> list[str]:
    """Return the changed names that a text lacks: the last part of the name, or a parameter with its owner."""
    changed = [name for name in {**before, **today} if before.get(name) != today.get(name)]
    return [
        name
        for name in changed
        if not all(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", changelog) for word in _words(name))
    ]


def _words(name: str) -> list[str]:
    owner, _, parameter = name.removesuffix(")").partition("(")
    return [owner.rpartition(".")[2], *parameter.split()[:1]]


# --- the tests


def test_newest_golden_file_has_the_public_names() -> None:
    """Changed names and defaults are recorded; `make golden` does it for an unreleased version."""
    GOLDEN.check(public_names())


def test_changelog_names_every_changed_public_name() -> None:
    """Every difference from the previous release is in the section of this version."""
    (section,) = [section for section in parse_releases(CHANGELOG.read_text()) if section.version == __version__]
    before = GOLDEN.previous()
    # Of the first release all is new: it names the classes.
    names = (
        public_names()
        if before is not None
        else {
            _name(cls): ""
            for name in _modules(get_provider_info(), "operators") + _modules(get_provider_info(), "sensors")
            for cls in _classes(importlib.import_module(name))
        }
    )

    assert find_undocumented(before or {}, names, section.text) == [], (
        f"CHANGELOG.md does not name these in its section of {__version__}; say what is new, or has changed"
    )


def test_public_names_include_all_kinds() -> None:
    """Operators, sensors, hook, triggers, errors, endpoints, types, sandbox and connection."""
    found = public_names()

    assert found["operators.bulk_sync.PolytomicBulkSyncOperator(if_running)"] == "'wait'"
    assert "sensors.model_sync.PolytomicModelSyncSensor(execution_id (templated))" in found
    assert found["hooks.polytomic.PolytomicHook.start_bulk_sync(sync_id)"] == "required"
    assert found["triggers.events.PolytomicSyncEventTrigger(poke_interval)"] == "60"
    assert found["api.errors.PolytomicNotFoundError"] == "PolytomicApiError"
    assert found["api.endpoints.bulk_syncs.get(sync_id)"] == "required"
    assert found["types.IfExists"] == "'fail', 'skip', 'update'"
    assert {"types.Template", "types.Schedule(frequency)", "bodies.NewBulkSync(mode)"} <= set(found)
    assert "sandbox.pytest_plugin.polytomic_sandbox" in found
    assert found["connection.timeout"] == "60.0"
    assert found["connection.conn_id"] == "polytomic_default"


CHANGED = "operators.bulk_sync.PolytomicBulkSyncOperator(timeout)"


@pytest.mark.parametrize(
    ("today", "changelog", "missing"),
    [
        ({CHANGED: "None"}, "nothing", []),
        ({CHANGED: "60"}, "nothing", [CHANGED]),
        ({CHANGED: "60"}, "a longer `timeout`", [CHANGED]),
        ({CHANGED: "60"}, "`timeouts` of `PolytomicBulkSyncOperator`", [CHANGED]),
        ({CHANGED: "60"}, "`timeout` of `PolytomicBulkSyncOperator` is 60 s by default", []),
        ({}, "nothing", [CHANGED]),
        ({}, "`PolytomicBulkSyncOperator` has no `timeout` any more", []),
        ({CHANGED: "None", "connection.ca": "''"}, "nothing", ["connection.ca"]),
        ({CHANGED: "None", "connection.ca": "''"}, "connections have a field `ca`", []),
    ],
)
def test_undocumented_change_is_found(today: dict[str, str], changelog: str, missing: list[str]) -> None:
    """A new, changed or removed name must be in the changelog, together with its owner."""
    assert find_undocumented({CHANGED: "None"}, today, changelog) == missing


# --- the files


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Golden files of a made-up project with a given changelog."""

    def make(changelog: str, version: str) -> Golden:
        path = tmp_path / "CHANGELOG.md"
        path.write_text(changelog)
        return Golden("what", tmp_path, path, version)

    return make


OUT = "# Changelog\n\n## 0.1.0 (2026-12-01)\n\n- One.\n"
NEXT = "# Changelog\n\n## 0.2.0 (unreleased)\n\n- Two.\n\n## 0.1.0 (2026-12-01)\n\n- One.\n"


def test_golden_file_of_an_unreleased_version_can_change(files: Any) -> None:
    """`make golden` rewrites it; without that, a difference fails."""
    golden = files("## 0.1.0 (unreleased)\n", "0.1.0")
    golden.check({"a": 1}, write=True)
    golden.check({"a": 1}, write=False)
    with pytest.raises(AssertionError, match="make golden"):
        golden.check({"a": 2}, write=False)
    golden.check({"a": 2}, write=True)
    golden.check({"a": 2}, write=False)

    assert [path.name for path in golden.files] == ["0.1.0.json"]


def test_golden_file_of_a_released_version_never_changes(files: Any) -> None:
    """The next version gets a file of its own if it differs."""
    files("## 0.1.0 (unreleased)\n", "0.1.0").check({"a": 1}, write=True)
    with pytest.raises(pytest.fail.Exception, match="increase the version"):
        files(OUT, "0.1.0").check({"a": 2}, write=True)

    following = files(NEXT, "0.2.0")
    following.check({"a": 1}, write=True)
    assert [path.name for path in following.files] == ["0.1.0.json"]
    following.check({"a": 2}, write=True)
    assert [path.read_text() for path in following.files] == ['{\n  "a": 1\n}\n', '{\n  "a": 2\n}\n']
    assert following.previous() == {"a": 1}


def test_golden_files_are_sorted_by_version(files: Any) -> None:
    """0.10 follows 0.9, and a release follows its candidates."""
    for version in ("0.10.0", "0.9.0", "0.10.0rc1"):
        files(f"## {version} (unreleased)\n", version).check({version: 1}, write=True)

    assert [path.stem for path in files(OUT, "1").files] == ["0.9.0", "0.10.0rc1", "0.10.0"]


# --- the changelog


@pytest.mark.parametrize(
    ("tag", "changelog", "why"),
    [
        ("v0.1.0", OUT, None),
        ("v0.2.0", OUT, "the version in .* is 0.1.0"),
        ("0.1.0", OUT, "The tag is 0.1.0"),
        ("v0.1.0", NEXT, r"it is `## 0.2.0 \(unreleased\)`"),
        ("v0.1.0", OUT.replace("2026-12-01", "unreleased"), r"it is `## 0.1.0 \(unreleased\)`"),
    ],
)
def test_tag_requires_a_dated_section_in_the_changelog(tag: str, changelog: str, why: str | None) -> None:
    """The tag must be the current version, and the newest section of the changelog must have a date."""
    found = check_tag(tag, changelog, "0.1.0")

    assert (found is None) == (why is None)
    assert why is None or re.search(why, str(found))


def test_changelog_has_the_expected_format() -> None:
    """`## VERSION (DATE)` or `## VERSION (unreleased)`, newest first, starting with the current version."""
    text = CHANGELOG.read_text()
    sections = parse_releases(text)

    assert len(sections) == len(re.findall(r"^## ", text, flags=re.MULTILINE))
    assert sections[0].version == __version__
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", section.date) for section in sections[1:])
    assert sections[0].date == "unreleased" or re.fullmatch(r"\d{4}-\d\d-\d\d", sections[0].date)
    assert all(section.text.strip() for section in sections)
