"""Whether the tests that the promises and the defences name have passed, by the reports of the last `make test…`.

make test test-deaths test-chaos test-ui proofs
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parent.parent
PROMISES = (ROOT / "docs" / "promises.md", ROOT / "docs" / "security.md")
REPORTS = ROOT / ".reports"  # where the Makefile has pytest write what became of each test


def named(promises: str) -> list[str]:
    """The tests that a text names, as pytest does: `tests/test_it.py::TestThis::test_that`."""
    return sorted(set(re.findall(r"`(tests/[^`]*::[^`]*)`", promises)))


def outcomes(reports: Path) -> dict[str, set[str]]:
    """What became of each test, all its parameters taken together."""
    cases: dict[tuple[str, str], set[str]] = {}
    # What was tried once more counts as it ended then.
    for path in sorted(reports.glob("*.xml"), key=lambda path: path.stem.endswith("-again")):
        told: dict[tuple[str, str], set[str]] = defaultdict(set)
        for case in ElementTree.parse(path).iter("testcase"):
            bad = {child.tag for child in case} & {"failure", "error", "skipped"}
            told[case.get("classname", ""), case.get("name", "")] |= bad or {"passed"}
        cases.update(told)
    found: dict[str, set[str]] = defaultdict(set)
    for (module, name), became in cases.items():
        test = re.sub(r"\[.*", "", name, flags=re.DOTALL)
        found[f"{module}.{test}"] |= became
    return found


def unproved(promises: str, reports: Path) -> list[str]:
    """A line for each test that is named and did not pass."""
    found = outcomes(reports)
    lines = []
    for test in named(promises):
        became = found.get(test.replace(".py::", ".").replace("::", ".").replace("/", "."), {"did not run"})
        if became != {"passed"}:
            lines.append(f"{test}: {', '.join(sorted(became))}")
    return lines


def main() -> int:
    promises = "\n".join(page.read_text() for page in PROMISES)
    lines = unproved(promises, REPORTS)
    print(*lines, sep="\n", end="\n" if lines else "")
    print(f"{len(named(promises)) - len(lines)} of {len(named(promises))} tests that prove the promises have passed")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
