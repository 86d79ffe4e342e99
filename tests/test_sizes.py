"""Files and functions of the package stay short, as CONTRIBUTING.md requires."""

from __future__ import annotations

import ast

from tests.documents import ROOT

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 45  # without the docstring
FILES = sorted((ROOT / "airflow_provider_polytomic").rglob("*.py"))


def count_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_files_of_the_package_have_at_most_400_lines() -> None:
    """The sandbox included."""
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: number for path, number in lines.items() if number > MAX_FILE_LINES} == {}


def test_functions_of_the_package_have_at_most_45_lines() -> None:
    """Docstrings do not count."""
    functions = [
        (path.name, node.name, count_lines(node))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    assert [found for found in functions if found[2] > MAX_FUNCTION_LINES] == []
