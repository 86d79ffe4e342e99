"""The schedule of a storm, which depends only on its seed and length."""

from __future__ import annotations

from .storm import FAULTS, KILLS, LONELY, MODEL, RECORDED, TASKS, schedule, specs, task_count


def test_same_seed_makes_the_same_schedule() -> None:
    """Seed, length, and number of tasks determine the events and the outcomes of executions."""
    assert schedule(1, 180, TASKS) == schedule(1, 180, TASKS) != schedule(2, 180, TASKS)
    assert specs(1, TASKS) == specs(1, TASKS) != specs(2, TASKS)


def test_short_storm_has_all_kinds_of_events() -> None:
    """Every kind of kill, every fault for both kinds of syncs, and the minimum number of tasks."""
    events = schedule(1, 30, TASKS)
    assert {event.what for event in events if event.kind == "kill"} == set(KILLS)
    faults = {(event.what, event.sync in MODEL) for event in events if event.kind == "fault"}
    assert faults == {(what, of_model) for what in (*FAULTS, RECORDED) for of_model in (False, True)}
    assert sum(event.kind == "task" for event in events) == task_count(30) == TASKS


def test_recorded_errors_hit_only_lonely_syncs() -> None:
    """Foreign executions are started only for the other syncs."""
    for event in schedule(3, 1800, task_count(1800)):
        assert event.what != RECORDED or event.sync in LONELY
        assert event.kind != "foreign" or event.sync not in LONELY
