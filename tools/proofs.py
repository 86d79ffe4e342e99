"""Check in the reports of the last test runs that the tests named in the promises passed: see PROMISES.

make test test-deaths test-chaos test-production test-ui proofs
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
PROMISES = tuple(ROOT / "docs" / page for page in ("promises.md", "security.md", "howto/production.md"))
REPORTS = ROOT / ".reports"  # where the Makefile has pytest write JUnit reports


def find_named_tests(promises: str) -> list[str]:
    """Return the tests that a text names as pytest does: `tests/test_it.py::TestThis::test_that`."""
    return sorted(set(re.findall(r"`(tests/[^`]*::[^`]*)`", promises)))


def read_outcomes(reports: Path) -> dict[str, set[str]]:
    """Return the outcomes of each test over all its parameters and reports."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in reports.glob("*.xml"):
        for case in ElementTree.parse(path).iter("testcase"):
            bad = {child.tag for child in case} & {"failure", "error", "skipped"}
            test = re.sub(r"\[.*", "", case.get("name", ""), flags=re.DOTALL)
            found[f"{case.get('classname', '')}.{test}"] |= bad or {"passed"}
    return found


def find_unproved(promises: str, reports: Path) -> list[str]:
    """Return a line for each named test that did not pass."""
    found = read_outcomes(reports)
    lines = []
    for test in find_named_tests(promises):
        outcomes = found.get(test.replace(".py::", ".").replace("::", ".").replace("/", "."), {"did not run"})
        if outcomes != {"passed"}:
            lines.append(f"{test}: {', '.join(sorted(outcomes))}")
    return lines


def main() -> int:
    promises = "\n".join(page.read_text() for page in PROMISES)
    tests = find_named_tests(promises)
    lines = find_unproved(promises, REPORTS)
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"{len(tests) - len(lines)} of {len(tests)} tests named in the promises have passed")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
