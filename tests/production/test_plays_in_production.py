"""Plays of the system tests whose course depends on the executor, with Celery."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tests.plays import perform_plays
from tests.system.test_deaths import (
    MANY,
    Play,
    killed_at_the_end,
    killed_before_its_start,
    killed_before_the_response,
    killed_with_its_worker,
    left_by_its_worker,
)
from tests.system.test_kills import (
    cleared_while_it_runs,
    marked_as_failed_in_a_worker,
    two_in_workers,
)
from tools.stage import Run

from .conftest import ProductionStage

pytestmark = pytest.mark.production


def with_plays(*plays: Any) -> pytest.MarkDecorator:
    ids = [str(play) if isinstance(play, Play) else play.__name__ for play in plays]
    return pytest.mark.parametrize("run", plays, ids=ids, indirect=True)


@pytest.fixture(scope="module")
def performed(request: pytest.FixtureRequest, stage: ProductionStage) -> Iterator[dict[Any, Future[Run]]]:
    """All plays of the module, each on a sync of its own."""

    def add_sync(play: Any) -> str:
        return stage.add_sync(f"Play {getattr(play, '__name__', play)}", getattr(play, "schemas", 2))

    with perform_plays(request, stage, add_sync) as plays:
        yield plays


@with_plays(
    Play("worker", (killed_before_its_start, killed_before_the_response)),
    Play("deferred", (killed_before_the_response,)),
    Play("deferred", (killed_at_the_end,), schemas=MANY),
    Play("worker", (killed_with_its_worker,)),
    Play("worker", (left_by_its_worker,)),
)
def test_killed_task_of_a_celery_worker_starts_one_execution(run: Run) -> None:
    """However its process, or the worker's process for it, is killed."""
    assert (run.state, run.statuses, run.cancel_requests) == ("success", ["completed"], [])


@with_plays(marked_as_failed_in_a_worker)
def test_marked_task_of_a_celery_worker_cancels_its_execution_once(run: Run) -> None:
    """The worker's process for the task notices it with its next heartbeat, and ends the task."""
    assert (run.statuses, run.cancel_requests) == (["canceled"], [run.started[0].id])


@with_plays(cleared_while_it_runs)
def test_cleared_task_of_a_celery_worker_cancels_its_execution_and_starts_another(run: Run) -> None:
    """The second execution starts after the first has ended."""
    first, second = run.started
    assert (run.state, run.statuses, set(run.cancel_requests)) == ("success", ["canceled", "completed"], {first.id})
    assert second.created_at >= first.end


@with_plays(two_in_workers)
def test_two_runs_of_one_sync_in_celery_workers_execute_one_after_the_other(run: Run) -> None:
    """Both succeed, with one execution each."""
    first, second = run.started
    assert (run.statuses, run.cancel_requests) == (["completed", "completed"], [])
    assert second.created_at >= first.end
