"""The end of a storm: its results, which are printed, and its tests."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from .storm import Row, Storm, format_rows, make_rows


@dataclass
class Aftermath:
    """The results of a storm that is over."""

    storm: Storm
    rows: list[Row]

    @property
    def all(self) -> Row:
        return self.rows[-1]

    def reports(self, *parts: str) -> str:
        """Return the reports of some tasks, for messages."""
        return "\n\n".join(task.run.report() for task in self.storm.tasks if task.part in parts)


def run_storm(request: pytest.FixtureRequest, storm: Storm, prefix: str) -> Aftermath:
    """Run a storm, and print its table and the variables with this prefix that repeat it."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def report(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{prefix}_SEED={storm.seed} {prefix}_SECONDS={storm.seconds:g}{text}", flush=True)

    report("")
    storm.run()
    rows = make_rows(storm)
    report(f"\n{format_rows(storm, rows)}\n")
    return Aftermath(storm, rows)
