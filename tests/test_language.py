"""The words of the package, the pages, the examples, and the test names: see the glossary in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT

# What to write instead of the words on the left: regular expressions, matched as whole words in any case.
BANNED = {
    r"told|(?<!\.)tell|tells|telling": "report, return, contain, log",
    r"look(?:s|ed|ing)?(?!\s+up\b)": "poll, read, check",
    r"ask|asks|asked|asking": "request, poll, send",
    r"questions?": "request",
    r"anew": "again, from the beginning",
    r"begins? again|began again": "start over",
    r"mends?|mended|mending": "fix",
    r"wish|wishes|wished": "request",
    r"bears?|borne|endures?|endured|enduring": "tolerate",
    r"heeds?|heeded": "honor",
    r"troubles?": "error, failure, outage",
    r"patience": "timeout",
    r"pace": "poll interval",
    r"in the way": "blocking",
    r"whoever|somebody|nobody|everybody|anybody": "a user, a task, no task",
    r"nor": "and not, or",
    r"makes? (?:no )?sense": "invalid, unexpected",
    r"what came of|is for nothing|as it is now|as ever|so be it": "plain words",
    r"we|us|our|ours|mine": "the provider, the task, owned",
    r"behaviour|honour(?:s|ed)?|colours?|licence|recognise[ds]?|cancelled(?!\()|cancelling": "American spelling",
}
PATTERN = re.compile(rf"(?<![\w-])(?:{'|'.join(BANNED)})(?![\w-])", re.IGNORECASE)

# Text that is not the project's own, by the file that contains it: names of others and the texts of Airflow.
ALLOWED: dict[str, tuple[str, ...]] = {}

CODE = sorted((ROOT / "airflow_provider_polytomic").rglob("*.py")) + sorted((ROOT / "example_dags").glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
# A test name that starts with one of these continues the test above it.
CONTINUATIONS = {"and", "but", "else", "neither", "nobody", "nor", "or", "so"}


def banned_words(text: str, allowed: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    """Return the banned words in a text with their line numbers. "Neither … nor" is fine."""
    for phrase in allowed:
        text = text.replace(phrase, "")
    text = re.sub(r"\b(neither\b[^.;:]+?)\bnor\b", r"\1", text, flags=re.IGNORECASE)
    return [(text.count("\n", 0, match.start()) + 1, match[0]) for match in PATTERN.finditer(text)]


def list_test_names(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return [function.name for function in functions if function.name.startswith("test_")]


@pytest.mark.parametrize("path", CODE + DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_contains_no_banned_words(path: Path) -> None:
    """The text of a module or a page contains none of the banned words."""
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), ())

    assert banned_words(path.read_text(encoding="utf-8"), allowed) == []


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_test_names_contain_no_banned_words(path: Path) -> None:
    """The name of a test contains none of the banned words."""
    assert [name for name in list_test_names(path) if banned_words(name.replace("_", " "))] == []


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_test_names_stand_alone(path: Path) -> None:
    """The name of a test doesn't continue the test above it."""
    assert [name for name in list_test_names(path) if name.split("_")[1] in CONTINUATIONS] == []


def test_banned_words_match_as_whole_words_only() -> None:
    """Identifiers, longer words, and common phrases that contain a banned word are not reported."""
    assert banned_words("get_ui_field_behaviour, Bearer, task.cancelled(), look\nup, neither this nor that") == []


def test_banned_words_are_found_with_their_lines() -> None:
    """A banned word is reported in any case, with the number of its line."""
    text = "We asked;\nit looks wrong,\nnor Cancelled."

    assert banned_words(text) == [(1, "We"), (1, "asked"), (2, "looks"), (3, "nor"), (3, "Cancelled")]
