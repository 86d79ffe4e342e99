"""A storm: many tasks of bulk and model syncs on a real Airflow, with a seeded schedule of faults and kills.

The seed determines which tasks there are and when they begin, how their executions end, which requests get faults, and
when something is killed. What a kill interrupts depends on the progress of the tasks.

The storm leaves out what docs/promises.md excludes:

- a killed last try: there are more retries than the storm can use up;
- a server error that is recorded for a key although the start had an effect;
- a recorded server error while another client may start an execution of the sync: only lonely syncs get them, of which
  one task runs at a time;
- a task's process that keeps running concurrently with the next try because only its worker was killed: a worker is
  killed together with its task. After the kill of a scheduler Airflow itself ends the remaining processes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import requests

from airflow_provider_polytomic.sandbox.execution import TERMINAL, Execution
from airflow_provider_polytomic.sandbox.faults import GARBAGE, Fault, Faults
from airflow_provider_polytomic.sandbox.seed import BulkSyncSpec, ModelSyncSpec, SchemaSpec
from tools.local_airflow import FINISHED, LocalAirflow, LocalAirflowError
from tools.stage import Run, Spec, Stage

SYNCS = 10
EACH = range(SYNCS)
LONELY = range(4)  # of these syncs one task runs at a time
MODEL = (3, 8, 9)  # model syncs; the others are bulk syncs
TASKS = 36  # for three minutes
ARRIVALS = 0.7  # share of the storm in which tasks begin
CALM = 900.0  # seconds in which all tasks must end after the storm
PART = {"bulk": "schemas", "model": "identities"}  # the start argument that identifies the task of an execution
FOREIGN_PART = "foreign"  # the part that foreign executions sync

# Faults of requests, with their number per minute over all syncs.
FAULTS: dict[str, tuple[float, Callable[[Faults, str, random.Random], Fault]]] = {
    "request dropped": (6, lambda to, on, dice: to.drop_before(f"(GET|POST) {on}.*", times=dice.randint(1, 3))),
    "response dropped": (6, lambda to, on, dice: to.drop_after(f"(GET|POST) {on}.*", times=dice.randint(1, 2))),
    "response to a start dropped": (6, lambda to, on, dice: to.drop_after(f"POST {on}", times=dice.randint(1, 3))),
    "burst of 503": (6, lambda to, on, dice: to.status(503, f"(GET|POST) {on}.*", times=dice.randint(2, 6))),
    "gateway's 502 after a start": (
        3,
        lambda to, on, dice: to.status(502, f"POST {on}", processed=True, body="<html>502 Bad Gateway</html>"),
    ),
    "429 with Retry-After": (
        5,
        lambda to, on, dice: to.status(
            429, f"(GET|POST) {on}.*", times=dice.randint(1, 3), headers={"Retry-After": str(dice.randint(1, 3))}
        ),
    ),
    "garbage": (
        6,
        lambda to, on, dice: to.garbage(dice.choice(sorted(GARBAGE)), f"(GET|POST) {on}.*", times=dice.randint(1, 3)),
    ),
    "request delayed": (3, lambda to, on, dice: to.delay(dice.uniform(1, 4), f"(GET|POST) {on}.*")),
    "start delayed": (3, lambda to, on, dice: to.delay(dice.uniform(2, 6), f"POST {on}")),
    "response to a start delayed": (3, lambda to, on, dice: to.delay(dice.uniform(2, 6), f"POST {on}", after=True)),
    "bad batch status": (6, lambda to, on, dice: dice.choice(BAD_BATCH_STATUSES)(to, dice.randint(1, 3))),
}
# Faults of batch status requests, which affect all bulk syncs.
BATCH_STATUS = "GET /api/bulk/syncs/status"
BAD_BATCH_STATUSES: tuple[Callable[[Faults, int], Fault], ...] = (
    lambda to, times: to.drop_before(BATCH_STATUS, times=times),
    lambda to, times: to.status(404, BATCH_STATUS, times=times),
    lambda to, times: to.status(429, BATCH_STATUS, times=times, headers={"Retry-After": "1"}),
    lambda to, times: to.status(200, BATCH_STATUS, times=times, body={"data": None}),
    lambda to, times: to.garbage("cut", BATCH_STATUS, times=times),
    lambda to, times: to.delay(15, BATCH_STATUS, times=times),
)
RECORDED = "recorded 500"
RECORDED_A_MINUTE = 1.0


@dataclass(frozen=True)
class Kill:
    """Something that is killed: how often per minute, and how. Without ``act``, these are processes of a task."""

    a_minute: float
    act: Callable[[Any, random.Random], None] | None = None


def _kill_component(component: str, whole: bool, airflow: LocalAirflow, _: random.Random) -> None:
    airflow.kill(component, whole=whole)
    airflow.restart(component)
    # The idle workers of a killed scheduler would wait forever.
    family = {process.pid: process for process in airflow.processes()}
    for process in family.values():
        if "LocalExecutor" in process.command and "<idle>" in process.command and process.parent not in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


KILLS = {
    "task": Kill(12.0),
    "worker and task": Kill(2.0),
    "triggerer": Kill(1.0, partial(_kill_component, "triggerer", True)),
    "scheduler": Kill(0.4, partial(_kill_component, "scheduler", False)),
    "scheduler and workers": Kill(0.4, partial(_kill_component, "scheduler", True)),
}
FOREIGN_A_MINUTE = 3.0


@dataclass(frozen=True)
class Event:
    at: float  # seconds since the storm began
    kind: str  # "task", "fault", "kill" or "foreign"
    what: str  # the DAG of a task, or the kind of fault or kill
    sync: int = 0
    dice: int = 0  # the number of a task, or the seed for random choices when the event happens


def task_count(seconds: float) -> int:
    """Return the number of tasks of a storm."""
    return max(TASKS, round(TASKS * seconds / 180))


def schedule(seed: int, seconds: float, tasks: int, kills: Mapping[str, Kill] = KILLS) -> list[Event]:
    """Return the events of a storm, which depend only on seed, length, and number of tasks."""
    dice = random.Random(seed)
    minutes = seconds / 60
    events = []
    for number in range(tasks):
        dag = ("deferred", "worker")[number // SYNCS % 2]
        events.append(Event(dice.uniform(0, ARRIVALS * seconds), "task", dag, number % SYNCS, number))

    def sprinkle(
        kind: str, what: str, a_minute: float, syncs: Sequence[int] = EACH, between: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        # At least one of each, also of rare ones.
        for _ in range(max(1, round(a_minute * minutes))):
            at = dice.uniform(*between) * seconds
            events.append(Event(at, kind, what, dice.choice(syncs), dice.getrandbits(32)))

    def sprinkle_both(kind: str, what: str, a_minute: float, syncs: Sequence[int] = EACH) -> None:
        for of_a_kind in ([n for n in syncs if n not in MODEL], [n for n in syncs if n in MODEL]):
            sprinkle(kind, what, a_minute * len(of_a_kind) / len(syncs), of_a_kind)

    for what, (a_minute, _) in FAULTS.items():
        sprinkle_both("fault", what, a_minute)
    sprinkle_both("fault", RECORDED, RECORDED_A_MINUTE, LONELY)
    for what, kill in kills.items():
        # A component that is killed while no task begins anymore would mostly delay the end.
        sprinkle("kill", what, kill.a_minute, between=(0.1, ARRIVALS if kill.act else 1.0))
    sprinkle_both("foreign", "execution", FOREIGN_A_MINUTE, [number for number in EACH if number not in LONELY])
    return sorted(events, key=lambda event: event.at)


def specs(seed: int, tasks: int) -> list[Spec]:
    """Return the syncs with their durations and outcomes. Every task has its own part of its sync."""
    dice = random.Random(seed)
    syncs: list[Spec] = []
    for number in EACH:
        fields: dict[str, Any] = {
            "name": name_of(number),
            "duration": dice.uniform(3, 8),
            "cancel_duration": dice.uniform(0.2, 2),
            "outcome": [dice.choices(["completed", "failed"], [5, 1])[0] for _ in range(500)],
        }
        if number in MODEL:
            syncs.append(ModelSyncSpec(**fields))
        else:
            parts = [FOREIGN_PART, *map(part_of, range(number, tasks, SYNCS))]
            syncs.append(BulkSyncSpec(**fields, schemas=[SchemaSpec(part) for part in parts]))
    return syncs


def name_of(sync: int) -> str:
    return f"{'model' if sync in MODEL else 'bulk'} {sync}" + (" (lonely)" if sync in LONELY else "")


def part_of(task: int) -> str:
    """Return the part of a task: a schema of a bulk sync, an identity of a model sync."""
    return f"task_{task}"


@dataclass
class Task:
    """A task of the storm. Its part of the sync identifies its executions at the server."""

    part: str
    sync: int
    dag: str
    run: Run
    has_begun: bool = False

    def begin(self) -> None:
        """Trigger the run, if the API server is up."""
        try:
            self.run.trigger(f"storm_{self.dag}", part=self.part)
        except requests.RequestException:
            return
        except LocalAirflowError as error:
            if "-> 409" not in str(error):  # the response to an earlier request was lost
                return
        self.has_begun = True

    @property
    def has_ended(self) -> bool:
        return self.run.state in FINISHED

    @property
    def executions(self) -> list[Execution]:
        return [execution for execution in self.run.started if execution.start_body[PART[self.run.kind]] == [self.part]]

    @property
    def statuses(self) -> list[str]:
        return [self.run.stage.sandbox.status(execution.id) for execution in self.executions]

    @property
    def doubled(self) -> int:
        """The number of executions that were started after one had completed."""
        statuses = self.statuses
        return len(statuses) - 1 - statuses.index("completed") if "completed" in statuses else 0

    @property
    def overlaps(self) -> bool:
        """Whether an execution was started before the previous one had ended."""
        executions = self.executions
        return any(later.created_at < earlier.end for earlier, later in itertools.pairwise(executions))

    @property
    def orphaned(self) -> int:
        """The number of executions that run after the end of the task, or completed without being returned."""
        returned = self.run.returned
        return sum(
            status not in TERMINAL or (status == "completed" and execution.id != returned)
            for execution, status in zip(self.executions, self.statuses, strict=True)
        )


class Storm:
    """One storm, from its first task until all tasks have ended."""

    def __init__(
        self, stage: Stage, seed: int, seconds: float, tasks: int, planned: Mapping[str, Kill] = KILLS
    ) -> None:
        self.stage = stage
        self.seed = seed
        self.seconds = seconds
        self.planned = planned
        self._events = schedule(seed, seconds, tasks, planned)
        self._delayed: list[Event] = []  # kills for which no task was running
        self.tasks: list[Task] = []
        self.faults: list[tuple[str, int, Fault]] = []  # kind, sync
        self.kills: list[tuple[str, Task | None]] = []
        self.foreign: list[Execution] = []

    def run(self) -> None:
        """Execute the schedule, then wait for all tasks without faults and kills."""
        queues: dict[int, list[Task]] = {number: [] for number in LONELY}
        began = time.monotonic()
        with ThreadPoolExecutor(1) as executor:  # killing and restarting a component takes a while
            restarts: list[Future[None]] = []
            while (now := time.monotonic() - began) < self.seconds + CALM:
                while self._events and self._events[0].at <= now:
                    event = self._events.pop(0)
                    if event.kind == "task":
                        task = Task(part_of(event.dice), event.sync, event.what, self._run(event.sync))
                        self.tasks.append(task)
                        queues.get(event.sync, []).append(task)
                    elif event.kind == "fault":
                        self._add_fault(event)
                    elif event.kind == "foreign":
                        self._start_foreign(event)
                    elif act := self.planned[event.what].act:
                        restarts.append(executor.submit(self._disturb, event, act))
                    else:
                        self._delayed.append(event)
                if self._delayed and self._kill(self._delayed[0]):
                    del self._delayed[0]
                for queue in queues.values():
                    if queue and queue[0].has_ended:
                        queue.pop(0)
                for task in self.tasks:
                    if not task.has_begun and task in queues.get(task.sync, [task])[:1]:
                        task.begin()
                if now > self.seconds and all(restart.done() for restart in restarts):
                    self.stage.sandbox.faults.clear()
                    if all(task.has_ended for task in self.tasks):
                        break
                time.sleep(0.2)
            for restart in restarts:
                restart.result()

    def _run(self, sync: int) -> Run:
        return self.stage.run(self.stage.syncs[sync])

    def _add_fault(self, event: Event) -> None:
        dice = random.Random(event.dice)
        on = self._run(event.sync).path
        faults = self.stage.sandbox.faults
        if event.what == RECORDED:
            fault = faults.status(500, f"POST {on}", recorded=True)
        else:
            fault = FAULTS[event.what][1](faults, on, dice)
        self.faults.append((event.what, event.sync, fault))

    def _start_foreign(self, event: Event) -> None:
        with contextlib.suppress(ValueError):  # an execution is running
            run = self._run(event.sync)
            execution = self.stage.sandbox.start_foreign(run.sync_id, **{PART[run.kind]: [FOREIGN_PART]})
            self.foreign.append(execution)

    def _kill(self, event: Event) -> bool:
        """Kill processes of a running task, and return whether there was one."""
        running = [task for task in self.tasks if task.run.state == "running"]
        processes = {process.pid: process for process in self.stage.airflow.processes()} if running else {}
        running = [task for task in running if task.run.task["pid"] in processes]
        if not running:
            return False
        victim = random.Random(event.dice).choice(running)
        process = processes[victim.run.task["pid"]]
        pids = [process.pid] if event.what == "task" else [process.parent, process.pid]
        if not all(pid in processes for pid in pids):
            return False
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kills.append((event.what, victim))
        return True

    def _disturb(self, event: Event, act: Callable[[Any, random.Random], None]) -> None:
        self.kills.append((event.what, None))
        act(self.stage.airflow, random.Random(event.dice))


# --- results


@dataclass
class Row:
    """The results of one sync, or of all syncs of a kind, or of all."""

    name: str
    tasks: int = 0
    succeeded: int = 0
    tries: int = 0
    faults: int = 0
    kills: int = 0
    expected: int = 0
    started: int = 0
    failed: int = 0
    canceled: int = 0
    orphaned: int = 0
    doubled: int = 0
    foreign: int = 0


def make_rows(storm: Storm) -> list[Row]:
    """Return a row for each sync, one for all bulk syncs, one for all model syncs, and one for all."""
    rows = []
    for number, sync_id in enumerate(storm.stage.syncs[:SYNCS]):
        tasks = [task for task in storm.tasks if task.sync == number]
        row = Row(name_of(number), len(tasks))
        row.faults = sum(fault.hits for _, sync, fault in storm.faults if sync == number)
        row.kills = sum(task is not None and task.sync == number for _, task in storm.kills)
        row.foreign = sum(execution.sync_id == sync_id for execution in storm.foreign)
        for task in tasks:
            statuses = task.statuses
            row.succeeded += task.run.state == "success"
            row.tries += task.run.task.get("try_number", 0)
            row.started += len(statuses)
            row.failed += statuses.count("failed")
            row.canceled += statuses.count("canceled")
            row.doubled += task.doubled
            row.orphaned += task.orphaned
        # One for each task that succeeded, and one for each execution that failed or was canceled and then retried.
        row.expected = row.succeeded + row.failed + row.canceled
        rows.append(row)
    bulk, model = [rows[n] for n in EACH if n not in MODEL], [rows[n] for n in MODEL]
    return [*rows, total("all bulk syncs", bulk), total("all model syncs", model), total("all", rows)]


def total(name: str, rows: list[Row]) -> Row:
    return Row(name, *(sum(getattr(row, column.name) for row in rows) for column in fields(Row)[1:]))


def format_rows(storm: Storm, rows: list[Row]) -> str:
    names = [column.name for column in fields(Row)]
    lines = ["".join([f"{'':<18}", *(f"{name:>10}" for name in names[1:])])]
    for row in rows:
        lines.append("".join([f"{row.name:<18}", *(f"{getattr(row, name):>10}" for name in names[1:])]))
    lines.append("")
    for name, syncs in (("bulk", set(EACH) - set(MODEL)), ("model", set(MODEL))):
        hits_by_kind: Counter[str] = Counter()
        for kind, sync, fault in storm.faults:
            hits_by_kind[kind] += fault.hits * (sync in syncs)
        hits = ", ".join(f"{count} x {kind}" for kind, count in sorted(hits_by_kind.items()) if count)
        lines.append(f"faults that hit {name} syncs: {hits}")
    killed = Counter(kind for kind, _ in storm.kills)
    lines.append("kills: " + ", ".join(f"{count} x {kind}" for kind, count in sorted(killed.items())))
    dags = Counter(f"{task.dag} {task.run.kind}" for task in storm.tasks)
    lines.append("tasks: " + ", ".join(f"{count} {dag}" for dag, count in sorted(dags.items())))
    return "\n".join(lines)
