"""What a task asks to be started, and what it keeps of a start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from ..call import Call
from ..idempotency import compute_key
from ..kinds import SyncKind, get_sync_kind
from ..models import Execution
from ..plan import is_valid_id

MAX_ATTEMPTS = 5  # keys of a try; a lost race or a recorded error uses one up
POLICIES = ("wait", "attach", "fail", "skip", "cancel")


@dataclass(frozen=True)
class StoredStart:
    """What a try started, kept in Airflow's task state store (Airflow 3.3 and newer) until the task instance is gone.

    It replaces replaying the try's keys, which the server forgets after a day, and says what no later change of the DAG
    can change: which sync that was, and since which try the task has not been cleared.

    :param try_number: the try that started it.
    :param key: :meth:`StartRequest.key` of attempt (0, 0), which identifies the task and what it starts.
    :param first_try: the first try since the last clear, as known then.
    :param max_tries: Airflow's number of tries, which only a clear changes.
    """

    try_number: int
    execution_id: str
    sync_id: str
    key: str
    sync_name: str | None = None
    first_try: int = 1
    max_tries: int = 0

    VERSION: ClassVar[int] = 1

    def to_store(self) -> dict[str, Any]:
        return {"version": self.VERSION, **asdict(self)}

    @classmethod
    def from_store(cls, value: Any) -> StoredStart:
        """
        :raises ValueError: the value is not a stored start of this version.
        """
        if not isinstance(value, dict) or value.get("version") != cls.VERSION:
            raise ValueError(f"not a stored start of version {cls.VERSION}: {value!r:.200}")
        given = {item.name: value.get(item.name) for item in fields(cls)}
        texts = [given[name] for name in ("execution_id", "sync_id", "key")]
        numbers = [given[name] for name in ("try_number", "first_try", "max_tries")]
        if not all(map(is_valid_id, texts)) or not all(type(number) is int for number in numbers):
            raise ValueError(f"a stored start with wrong fields: {value!r:.200}")
        if not isinstance(given["sync_name"], str | None):
            raise ValueError(f"a stored start with a wrong sync_name: {value!r:.200}")
        return cls(**given)  # type: ignore[arg-type]  # they have just been checked


@dataclass(frozen=True)
class StartRequest:
    """What to start, and for which task.

    :param task: identifies the task in its DAG run: DAG, run, task, map index, the run's start date.
    :param try_number: the current try.
    :param first_try: the first try since the task was last cleared; a retry resumes, a clear starts over.
    :param arguments: the start's arguments, as the endpoint function takes them.
    :param if_running: what to do about somebody else's execution: one of :data:`POLICIES`.
    :param succeeded: whether an execution that has ended is a success by the task's criteria.
    :param wait_for_completion: whether the task waits for the end. If not, any execution that was started counts.
    :param cancel_on_kill: whether what was started before a clear is canceled; if not, it is waited for.
    :param attempts: how many keys of this try are known to be used up by conflicts.
    """

    kind: str
    sync_id: str
    task: tuple[str, ...]
    try_number: int = 1
    first_try: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    if_running: str = "wait"
    succeeded: Callable[[Execution], bool] = lambda execution: execution.succeeded
    wait_for_completion: bool = True
    cancel_on_kill: bool = True
    attempts: int = 0
    stored: StoredStart | None = None

    @property
    def sync_kind(self) -> SyncKind:
        return get_sync_kind(self.kind)

    @property
    def digest(self) -> str:
        body = self.sync_kind.start(self.sync_id, **self.arguments).request.json
        return compute_key([self.kind, self.sync_id, body])

    def key(self, try_number: int, attempt: int) -> str:
        """The idempotency key of an attempt."""
        return compute_key([*self.task, self.digest, try_number, attempt])

    def call(self, try_number: int, attempt: int) -> Call[Execution]:
        key = self.key(try_number, attempt)
        return self.sync_kind.start(self.sync_id, **self.arguments, idempotency_key=key)

    @property
    def was_cleared(self) -> bool:
        return self.first_try > 1


def first_try_since_clear(
    try_number: int, max_tries: int, retries: int, *, stored: StoredStart | None = None, uncleared: bool = False
) -> int:
    """The first try since the task was last cleared: a retry resumes what the tries from this one on have started.

    A clear raises ``max_tries`` by what ``retries`` is then, and nothing else changes it; but ``retries`` may be edited
    between two tries. What was stored at a start tells a clear from an edit. Without it, an edit that cannot be a clear
    is recognized, and in doubt the answer is the earlier try: resuming repeats and cancels nothing.

    :param max_tries: of the task instance.
    :param retries: of the task, as the DAG file says now.
    :param stored: what the last try that is known to have started something has stored.
    :param uncleared: whether Airflow itself knows that the DAG run was never cleared.
    """
    if try_number > max_tries + 1:
        return try_number  # no retry: only a clear gives a task more tries than it has
    if uncleared:
        return 1
    if stored is not None and stored.max_tries == max_tries:
        return min(stored.first_try, try_number)
    earliest = 1 if stored is None else min(stored.try_number + 1, try_number)
    inferred = max_tries - retries + 1
    return inferred if earliest <= inferred <= try_number else earliest
