"""What a seed decides."""

from __future__ import annotations

from .storm import FAULTS, KILLS, LONELY, MODEL, RECORDED, TASKS, count, schedule, specs


def test_the_same_seed_is_the_same_storm() -> None:
    """A seed and a length say what happens when, and how executions end; another seed says something else."""
    assert schedule(1, 180) == schedule(1, 180) != schedule(2, 180)
    assert specs(1, TASKS) == specs(1, TASKS) != specs(2, TASKS)


def test_a_short_storm_has_everything() -> None:
    """Every kind of kill, and of fault for either kind of sync, is in the schedule, and no fewer tasks than ever."""
    events = schedule(1, 30)
    assert {event.what for event in events if event.kind == "kill"} == set(KILLS)
    faults = {(event.what, event.sync in MODEL) for event in events if event.kind == "fault"}
    assert faults == {(what, of_model) for what in (*FAULTS, RECORDED) for of_model in (False, True)}
    assert sum(event.kind == "task" for event in events) == count(30) == TASKS


def test_recorded_errors_are_for_lonely_syncs() -> None:
    """Recorded errors come only where one task runs at a time, and somebody else's executions only elsewhere."""
    for event in schedule(3, 1800):
        assert event.what != RECORDED or event.sync in LONELY
        assert event.kind != "foreign" or event.sync not in LONELY
