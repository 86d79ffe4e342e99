"""Plays: tasks, each with what happens to it, that run concurrently on one stage.

A play is called with a run. A test names its plays as parameters of the fixture `run`, which is the run after the end
of the play.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tools.stage import Run, Stage

CONCURRENT_PLAYS = 8


def find_plays(items: Sequence[pytest.Item]) -> list[Any]:
    """Return the plays of tests."""
    items = [item for item in items if "performed" in item.fixturenames and not item.get_closest_marker("skip")]
    return list(dict.fromkeys(item.callspec.params["run"] for item in items))


@contextlib.contextmanager
def perform_plays(
    request: pytest.FixtureRequest, stage: Stage, get_sync: Callable[[Any], str]
) -> Iterator[dict[Any, Future[Run]]]:
    """Perform the plays of the module, a limited number at a time, because more tasks would only delay each other.

    :param get_sync: returns the id of the sync for a play.
    """
    plays = find_plays([item for item in request.session.items if getattr(item, "module", None) is request.module])
    plays.sort(key=lambda play: getattr(play, "barrier", None) is None)  # those that wait at a barrier come first
    for name, action in getattr(request.module, "BARRIERS", {}).items():
        stage.add_barrier(name, max(1, sum(getattr(play, "barrier", None) == name for play in plays)), action)
    pool = ThreadPoolExecutor(CONCURRENT_PLAYS)
    yield {play: pool.submit(_perform, play, stage.run(get_sync(play))) for play in plays}
    # Plays go on only after a failure; then the end of the stage ends them.
    stage.abort_barriers()
    pool.shutdown(wait=False, cancel_futures=True)


def _perform(play: Any, run: Run) -> Run:
    try:
        play(run)
    except BaseException:
        run.stage.abort_barriers()
        raise
    return run


@pytest.fixture
def run(request: pytest.FixtureRequest, performed: dict[Any, Future[Run]]) -> Run:
    """The run of the test's play, after its end."""
    run = performed[request.param].result()
    print(run.report())  # pytest shows it for a failed test
    return run
