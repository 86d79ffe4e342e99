"""The start that a task requests, and the record of a start that Airflow stores between tries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ..call import Call
from ..idempotency import compute_key
from ..kinds import SyncKind, get_sync_kind
from ..plan import is_valid_id
from .repair import Repair

if TYPE_CHECKING:
    from ..models import Execution

MAX_ATTEMPTS = 5  # idempotency keys per try; each conflict or recorded error uses one


@dataclass(frozen=True)
class StoredStart:
    """The record of a start in Airflow's task state store (Airflow 3.3 and newer), kept as long as the task instance.

    A later try reads it instead of replaying the keys, which the server forgets after a day. It also preserves what
    an edit of the DAG file would hide: the sync, and the first try since the last clear.

    :param try_number: the try that started the execution.
    :param key: ``StartRequest.key(0, 0)``, which identifies the task and the arguments of the start.
    :param first_try: the first try since the last clear.
    :param max_tries: Airflow's ``max_tries`` of the task instance, which only a clear changes.
    :param earlier_ids: the executions of earlier tries that count together with this one: see :class:`.Repair`.
    """

    try_number: int
    execution_id: str
    sync_id: str
    key: str
    sync_name: str | None = None
    first_try: int = 1
    max_tries: int = 0
    earlier_ids: list[str] = field(default_factory=list)

    VERSION: ClassVar[int] = 1

    def to_store(self) -> dict[str, Any]:
        """The record as JSON-safe data."""
        return {"version": self.VERSION, **asdict(self)}

    @classmethod
    def from_store(cls, value: Any) -> StoredStart:
        """The record that :meth:`to_store` returned.

        :raises ValueError: the value is not a stored start of this version.
        """
        if not isinstance(value, dict) or value.get("version") != cls.VERSION:
            raise ValueError(f"not a stored start of version {cls.VERSION}: {value!r:.200}")
        given = {item.name: value.get(item.name) for item in fields(cls)}
        given["earlier_ids"] = value.get("earlier_ids", [])
        texts = [given[name] for name in ("execution_id", "sync_id", "key")]
        numbers = [given[name] for name in ("try_number", "first_try", "max_tries")]
        if not all(map(is_valid_id, texts)) or not all(type(number) is int for number in numbers):
            raise ValueError(f"a stored start with wrong fields: {value!r:.200}")
        if not isinstance(given["sync_name"], str | None):
            raise ValueError(f"a stored start with a wrong sync_name: {value!r:.200}")
        if not isinstance(given["earlier_ids"], list) or not all(map(is_valid_id, given["earlier_ids"])):
            raise ValueError(f"a stored start with wrong earlier_ids: {value!r:.200}")
        return cls(**given)  # type: ignore[arg-type]  # checked above


@dataclass(frozen=True)
class StartRequest:
    """What to start, and for which task.

    :param kind_name: the name of the sync's kind: ``bulk`` or ``model``.
    :param sync_name: the sync's name for messages, if it is known.
    :param task: identifies the task instance: DAG, run, task, map index, the run's start date.
    :param try_number: the current try.
    :param first_try: the first try since the last clear. Executions of tries from here on are resumed.
    :param arguments: the arguments of the endpoint function that starts the sync.
    :param if_running: what to do about an execution that this task did not start: ``wait``, ``attach``, ``fail``,
        ``skip`` or ``cancel``.
    :param fresh_within: seconds since the end of an execution that is taken instead of starting one; None for none.
    :param succeeded: whether an execution that has ended is a success by the task's criteria.
    :param wait_for_completion: whether the task waits for the end. If not, an execution counts once it is started.
    :param cancel_from_before_clear: whether to cancel, instead of waiting for, an execution from before a clear.
    :param attempts: how many keys of this try are used up.
    :param stored: the record of the last start, if there is one.
    :param repair: what the earlier tries have left to sync, as far as is known; None if each start syncs everything.
    """

    kind_name: str
    sync_id: str
    task: tuple[str, ...]
    try_number: int = 1
    first_try: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    if_running: str = "wait"
    fresh_within: float | None = None
    succeeded: Callable[[Execution], bool] = lambda execution: execution.succeeded
    wait_for_completion: bool = True
    cancel_from_before_clear: bool = True
    attempts: int = 0
    stored: StoredStart | None = None
    repair: Repair | None = None
    sync_name: str | None = None

    @property
    def start_arguments(self) -> dict[str, Any]:
        """The arguments of the next start: those of the task, or with the schemas that are left to repair."""
        return self.repair.narrow(self.arguments) if self.repair else self.arguments

    @property
    def is_narrowed(self) -> bool:
        """Whether the next start syncs only the schemas that are left to repair."""
        return self.repair is not None and bool(self.repair.schemas)

    def without_repair(self) -> StartRequest:
        """The same request, whose starts sync everything again."""
        return replace(self, repair=Repair()) if self.repair else self

    def after(self, execution: Execution) -> StartRequest:
        """The same request after an execution of its ended without success."""
        return replace(self, repair=self.repair.after(execution, self.start_arguments)) if self.repair else self

    def has_succeeded(self, execution: Execution) -> bool:
        """Whether an execution that has ended is a success, together with those of earlier tries."""
        return self.succeeded(self.repair.merge(execution) if self.repair else execution)

    @property
    def kind(self) -> SyncKind:
        return get_sync_kind(self.kind_name)

    @property
    def sync(self) -> str:
        """The sync, as messages name it."""
        return self.kind.describe(self.sync_id, self.sync_name)

    @property
    def digest(self) -> str:
        """A hash of the sync and the task's arguments, whatever is left to repair."""
        body = self.kind.start(self.sync_id, **self.arguments).request.json
        return compute_key([self.kind_name, self.sync_id, body])

    def key(self, try_number: int, attempt: int) -> str:
        """The idempotency key of an attempt."""
        return compute_key([*self.task, self.digest, try_number, attempt])

    def call(self, try_number: int, attempt: int) -> Call[Execution]:
        """The start with the key of an attempt. Sending it may start an execution."""
        key = self.key(try_number, attempt)
        return self.kind.start(self.sync_id, **self.start_arguments, idempotency_key=key)

    @property
    def was_cleared(self) -> bool:
        return self.first_try > 1


def first_try_since_clear(
    try_number: int, max_tries: int, retries: int, *, stored: StoredStart | None = None, uncleared: bool = False
) -> int:
    """Infer the first try since the task was last cleared.

    A clear sets ``max_tries`` to the number of tries so far plus ``retries``, and nothing else changes it. But
    ``retries`` may be edited in the DAG file between two tries, so the difference alone is no proof. The stored start
    distinguishes a clear from an edit. Without one, the earlier of the possible tries is returned, because resuming one
    try too many repeats no execution and cancels none.

    :param max_tries: ``max_tries`` of the task instance.
    :param retries: ``retries`` of the task in the current DAG file.
    :param stored: the record of the last start, if there is one.
    :param uncleared: whether Airflow knows that the DAG run was never cleared.
    """
    if try_number > max_tries + 1:
        return try_number  # only a clear gives a task more tries than max_tries allows
    if uncleared:
        return 1
    if stored is not None and stored.max_tries == max_tries:
        return min(stored.first_try, try_number)
    earliest = 1 if stored is None else min(stored.try_number + 1, try_number)
    inferred = max_tries - retries + 1
    return inferred if earliest <= inferred <= try_number else earliest
