"""Many tasks on a real Airflow, of bulk and of model syncs, and a seeded storm of faults and kills over them.

The seed decides what happens when, and to which sync: which tasks there are and when they begin, how their executions
end, which requests go wrong and how, and at which moments something is killed. What exactly a kill meets depends on how
far the tasks have come by then.

Left out, because nobody can promise anything then (docs/promises.md):

- a last try that is killed: there are more retries than the storm can use up;
- a server error that is recorded for a key although the start had an effect;
- a recorded server error while somebody else may start an execution of the sync: only syncs of which one task runs at
  a time (the lonely ones) get them;
- a task's process that lives on beside the next try's because its worker alone has died: a worker dies with its task.
  The exception is a killed scheduler: Airflow itself ends the processes that it leaves behind.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_polytomic.sandbox.execution import TERMINAL, Execution
from airflow_provider_polytomic.sandbox.faults import GARBAGE, Fault, Faults
from airflow_provider_polytomic.sandbox.seed import BulkSyncSpec, ModelSyncSpec, SchemaSpec
from tools.local_airflow import FINISHED
from tools.stage import Run, Spec, Stage

SYNCS = 10
EACH = range(SYNCS)
LONELY = range(4)  # of these one task runs at a time
MODEL = (3, 8, 9)  # these are model syncs
TASKS = 36  # in three minutes
ARRIVALS = 0.7  # of the storm, in which tasks begin
CALM = 900.0  # seconds that the tasks have at most to end in, when the storm is over
PART = {"bulk": "schemas", "model": "identities"}  # by which the server's executions tell whose they are
EVERYBODY = "everybody's"  # what somebody else syncs

# What goes wrong with a request, and how often per minute it begins to, on one sync or another.
FAULTS: dict[str, tuple[float, Callable[[Faults, str, random.Random], Fault]]] = {
    "request dropped": (6, lambda to, on, dice: to.drop_before(f"(GET|POST) {on}.*", times=dice.randint(1, 3))),
    "answer dropped": (6, lambda to, on, dice: to.drop_after(f"(GET|POST) {on}.*", times=dice.randint(1, 2))),
    "answer to a start dropped": (6, lambda to, on, dice: to.drop_after(f"POST {on}", times=dice.randint(1, 3))),
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
    "answer to a start delayed": (3, lambda to, on, dice: to.delay(dice.uniform(2, 6), f"POST {on}", after=True)),
    "bad summary": (6, lambda to, on, dice: dice.choice(BAD_SUMMARIES)(to, dice.randint(1, 3))),
}
# ... with what those who wait for bulk syncs ask together, whatever the sync.
SUMMARY = "GET /api/bulk/syncs/status"
BAD_SUMMARIES: tuple[Callable[[Faults, int], Fault], ...] = (
    lambda to, times: to.drop_before(SUMMARY, times=times),
    lambda to, times: to.status(404, SUMMARY, times=times),
    lambda to, times: to.status(429, SUMMARY, times=times, headers={"Retry-After": "1"}),
    lambda to, times: to.status(200, SUMMARY, times=times, body={"data": None}),
    lambda to, times: to.garbage("cut", SUMMARY, times=times),
    lambda to, times: to.delay(15, SUMMARY, times=times),
)
RECORDED = "recorded 500"
RECORDED_A_MINUTE = 1.0

# What is killed, and how often per minute.
KILLS = {"task": 12.0, "worker and task": 2.0, "triggerer": 1.0, "scheduler": 0.4, "scheduler and workers": 0.4}
COMPONENTS = {  # which component that is, and whether its children die with it
    "triggerer": ("triggerer", True),
    "scheduler": ("scheduler", False),
    "scheduler and workers": ("scheduler", True),
}
FOREIGN_A_MINUTE = 3.0


@dataclass(frozen=True)
class Event:
    at: float  # seconds since the storm began
    kind: str  # "task", "fault", "kill" or "foreign"
    what: str
    sync: int = 0
    dice: int = 0  # the number of a task; the seed of what else is left to chance when it happens


def count(seconds: float) -> int:
    """How many tasks a storm has."""
    return max(TASKS, round(TASKS * seconds / 180))


def schedule(seed: int, seconds: float) -> list[Event]:
    """What happens when: the same for the same seed and length."""
    dice = random.Random(seed)
    minutes = seconds / 60
    events = []
    for number in range(count(seconds)):
        way = ("deferred", "worker")[number // SYNCS % 2]
        events.append(Event(dice.uniform(0, ARRIVALS * seconds), "task", way, number % SYNCS, number))

    def sprinkle(kind: str, what: str, a_minute: float, syncs: Sequence[int] = EACH, begin: float = 0.0) -> None:
        # At least one of each, also of the rare ones.
        for _ in range(max(1, round(a_minute * minutes))):
            at = dice.uniform(begin * seconds, seconds)
            events.append(Event(at, kind, what, dice.choice(syncs), dice.getrandbits(32)))

    def sprinkle_both(kind: str, what: str, a_minute: float, syncs: Sequence[int] = EACH) -> None:
        for of_a_kind in ([n for n in syncs if n not in MODEL], [n for n in syncs if n in MODEL]):
            sprinkle(kind, what, a_minute * len(of_a_kind) / len(syncs), of_a_kind)

    for what, (a_minute, _) in FAULTS.items():
        sprinkle_both("fault", what, a_minute)
    sprinkle_both("fault", RECORDED, RECORDED_A_MINUTE, LONELY)
    for what, a_minute in KILLS.items():
        sprinkle("kill", what, a_minute, begin=0.1)
    sprinkle_both("foreign", "execution", FOREIGN_A_MINUTE, [number for number in EACH if number not in LONELY])
    return sorted(events, key=lambda event: event.at)


def specs(seed: int, tasks: int) -> list[Spec]:
    """The syncs: how long each takes, and how its executions end. Every task has a part of it to itself."""
    dice = random.Random(seed)
    syncs: list[Spec] = []
    for number in EACH:
        behaviour: dict[str, Any] = {
            "name": name_of(number),
            "duration": dice.uniform(3, 8),
            "cancel_duration": dice.uniform(0.2, 2),
            "outcome": [dice.choices(["completed", "failed"], [5, 1])[0] for _ in range(500)],
        }
        if number in MODEL:
            syncs.append(ModelSyncSpec(**behaviour))
        else:
            parts = [EVERYBODY, *map(part_of, range(number, tasks, SYNCS))]
            syncs.append(BulkSyncSpec(**behaviour, schemas=[SchemaSpec(part) for part in parts]))
    return syncs


def name_of(sync: int) -> str:
    return f"{'model' if sync in MODEL else 'bulk'} {sync}" + (" (lonely)" if sync in LONELY else "")


def part_of(task: int) -> str:
    """A schema of a bulk sync, an identity of a model sync."""
    return f"task_{task}"


@dataclass
class Task:
    """A task of the storm. No other asks for its part of the sync, so the server's executions tell whose they are."""

    part: str
    sync: int
    way: str
    run: Run
    begun: bool = False

    def begin(self) -> None:
        self.begun = True
        self.run.trigger(self.way, part=self.part)

    @property
    def ended(self) -> bool:
        return self.run.state in FINISHED

    @property
    def executions(self) -> list[Execution]:
        return [execution for execution in self.run.started if execution.start_body[PART[self.run.kind]] == [self.part]]

    @property
    def statuses(self) -> list[str]:
        return [self.run.stage.sandbox.status(execution.id) for execution in self.executions]

    @property
    def returned(self) -> str | None:
        """The execution that the task says was its own."""
        if self.run.state != "success":
            return None
        return str(self.run.stage.airflow.xcom(self.run.dag_id, self.run.run_id, self.run.task_id))

    @property
    def doubled(self) -> int:
        """Executions that were started although one had succeeded."""
        statuses = self.statuses
        return len(statuses) - 1 - statuses.index("completed") if "completed" in statuses else 0

    @property
    def overlaps(self) -> bool:
        """Whether one was started before the one before it had ended."""
        executions = self.executions
        return any(later.created_at < earlier.end for earlier, later in itertools.pairwise(executions))

    @property
    def orphaned(self) -> int:
        """Executions that run although the task has ended, or succeeded without its knowing."""
        returned = self.returned
        return sum(
            status not in TERMINAL or (status == "completed" and execution.id != returned)
            for execution, status in zip(self.executions, self.statuses, strict=True)
        )


class Storm:
    """One storm, from its first task to the calm after it."""

    def __init__(self, stage: Stage, seed: int, seconds: float) -> None:
        self.stage = stage
        self.seconds = seconds
        self._events = schedule(seed, seconds)
        self.tasks: list[Task] = []
        self.faults: list[tuple[str, int, Fault]] = []  # kind, sync
        self.kills: list[tuple[str, Task | None]] = []
        self.foreign: list[Execution] = []

    def rage(self) -> None:
        """Do what the schedule says, then let all tasks end in peace."""
        queues: dict[int, list[Task]] = {number: [] for number in LONELY}
        began = time.monotonic()
        with ThreadPoolExecutor(1) as undertaker:  # killing and restarting a component takes a while
            restarts: list[Future[None]] = []
            while (now := time.monotonic() - began) < self.seconds + CALM:
                while self._events and self._events[0].at <= now:
                    event = self._events.pop(0)
                    if event.kind == "task":
                        task = Task(part_of(event.dice), event.sync, event.what, self._run(event.sync))
                        self.tasks.append(task)
                        queues.get(event.sync, []).append(task)
                        if event.sync not in queues:
                            task.begin()
                    elif event.kind == "fault":
                        self._spoil(event)
                    elif event.kind == "foreign":
                        self._interfere(event)
                    elif event.what in COMPONENTS:
                        restarts.append(undertaker.submit(self._restart, event.what))
                    else:
                        self._kill(event)
                for queue in queues.values():
                    if queue and queue[0].ended:
                        queue.pop(0)
                    if queue and not queue[0].begun:
                        queue[0].begin()
                if now > self.seconds:
                    self.stage.sandbox.faults.clear()
                    if all(task.ended for task in self.tasks):
                        break
                time.sleep(0.2)
            for restart in restarts:
                restart.result()

    def _run(self, sync: int) -> Run:
        return self.stage.run(self.stage.syncs[sync])

    def _spoil(self, event: Event) -> None:
        dice = random.Random(event.dice)
        on = self._run(event.sync).path
        faults = self.stage.sandbox.faults
        if event.what == RECORDED:
            fault = faults.status(500, f"POST {on}", recorded=True)
        else:
            fault = FAULTS[event.what][1](faults, on, dice)
        self.faults.append((event.what, event.sync, fault))

    def _interfere(self, event: Event) -> None:
        with contextlib.suppress(ValueError):  # something runs already
            run = self._run(event.sync)
            execution = self.stage.sandbox.start_foreign(run.sync_id, **{PART[run.kind]: [EVERYBODY]})
            self.foreign.append(execution)

    def _kill(self, event: Event) -> None:
        processes = {process.pid: process for process in self.stage.airflow.processes()}
        running = [task for task in self.tasks if task.run.state == "running" and task.run.task["pid"] in processes]
        if not running:
            return
        victim = random.Random(event.dice).choice(running)
        process = processes[victim.run.task["pid"]]
        pids = [process.pid] if event.what == "task" else [process.parent, process.pid]
        if all(pid in processes for pid in pids):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.kills.append((event.what, victim))

    def _restart(self, what: str) -> None:
        airflow = self.stage.airflow
        component, whole = COMPONENTS[what]
        airflow.kill(component, whole=whole)
        self.kills.append((what, None))
        airflow.restart(component)
        # What a scheduler leaves behind waits for work from it for ever.
        family = {process.pid: process for process in airflow.processes()}
        for process in family.values():
            if "LocalExecutor" in process.command and "<idle>" in process.command and process.parent not in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


# --- what came of it


@dataclass
class Row:
    """What happened to one sync, or to all of a kind, or to all."""

    name: str
    tasks: int = 0
    green: int = 0
    tries: int = 0
    faults: int = 0
    kills: int = 0
    wanted: int = 0
    started: int = 0
    failed: int = 0
    cancelled: int = 0
    orphaned: int = 0
    doubled: int = 0
    foreign: int = 0


def table(storm: Storm) -> list[Row]:
    """A row for each sync, then one for all bulk syncs, one for all model syncs, and one for all."""
    rows = []
    for number, sync_id in enumerate(storm.stage.syncs):
        tasks = [task for task in storm.tasks if task.sync == number]
        row = Row(name_of(number), len(tasks))
        row.faults = sum(fault.hits for _, sync, fault in storm.faults if sync == number)
        row.kills = sum(task is not None and task.sync == number for _, task in storm.kills)
        row.foreign = sum(execution.sync_id == sync_id for execution in storm.foreign)
        for task in tasks:
            statuses = task.statuses
            row.green += task.run.state == "success"
            row.tries += task.run.task.get("try_number", 0)
            row.started += len(statuses)
            row.failed += statuses.count("failed")
            row.cancelled += statuses.count("canceled")
            row.doubled += task.doubled
            row.orphaned += task.orphaned
        # One for each task that is green, and one for each that came to nothing and was tried again.
        row.wanted = row.green + row.failed + row.cancelled
        rows.append(row)
    bulk, model = [rows[n] for n in EACH if n not in MODEL], [rows[n] for n in MODEL]
    return [*rows, total("all bulk syncs", bulk), total("all model syncs", model), total("all", rows)]


def total(name: str, rows: list[Row]) -> Row:
    return Row(name, *(sum(getattr(row, column.name) for row in rows) for column in fields(Row)[1:]))


def told(storm: Storm, rows: list[Row]) -> str:
    names = [column.name for column in fields(Row)]
    lines = ["".join([f"{'':<18}", *(f"{name:>10}" for name in names[1:])])]
    for row in rows:
        lines.append("".join([f"{row.name:<18}", *(f"{getattr(row, name):>10}" for name in names[1:])]))
    lines.append("")
    for name, syncs in (("bulk", set(EACH) - set(MODEL)), ("model", set(MODEL))):
        struck: Counter[str] = Counter()
        for kind, sync, fault in storm.faults:
            struck[kind] += fault.hits * (sync in syncs)
        hits = ", ".join(f"{count} x {kind}" for kind, count in sorted(struck.items()) if count)
        lines.append(f"faults that struck {name} syncs: {hits}")
    killed = Counter(kind for kind, _ in storm.kills)
    lines.append("kills: " + ", ".join(f"{count} x {kind}" for kind, count in sorted(killed.items())))
    ways = Counter(f"{task.way} {task.run.kind}" for task in storm.tasks)
    lines.append("tasks: " + ", ".join(f"{count} {way}" for way, count in sorted(ways.items())))
    return "\n".join(lines)
