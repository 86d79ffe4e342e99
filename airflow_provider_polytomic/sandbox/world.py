"""The state of one organization, called a world: its connections, syncs and executions.

Routes read and change it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .clock import format_timestamp
from .delivery import Delivery
from .execution import Execution, Part
from .faults import Conditions
from .schedule import Schedule, next_due, parse_rule
from .seed import ACTOR, BulkSyncSpec, ConnectionSpec, ModelSyncSpec, OrganizationSpec, SchemaSpec, derive_id
from .wire import HttpError

# Fields that a request to create or replace a sync leaves out.
BULK_DEFAULTS: dict[str, Any] = {
    "active": True,
    "additional_schedules": None,
    "automatically_add_new_fields": "all",
    "automatically_add_new_objects": "none",
    "concurrency_limit": None,
    "data_cutoff_timestamp": None,
    "disable_record_timestamps": False,
    "normalize_names": "enabled",
    "policies": None,
    "resync_concurrency_limit": None,
    "source_configuration": None,
}
MODEL_DEFAULTS: dict[str, Any] = {
    "active": True,
    "encryption_passphrase": None,
    "filter_logic": None,
    "filters": None,
    "identities": None,
    "identity": None,
    "model_filters": None,
    "model_ids": None,
    "only_enrich_updates": False,
    "override_fields": None,
    "overrides": None,
    "policies": None,
    "skip_initial_backfill": False,
    "sync_all_records": False,
    "target_filters": None,
}


@dataclass
class Schema:
    """A schema of a bulk sync: what the source offers, and the sync's configuration of it."""

    spec: SchemaSpec
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def enabled(self) -> bool:
        return bool(self.config.get("enabled", True))

    @property
    def output_name(self) -> str:
        return self.config.get("user_output_name") or self.spec.output_name


@dataclass
class Sync:
    """A bulk or model sync. ``doc`` has its API fields except ids, timestamps and the schedules of a bulk sync."""

    id: str
    kind: str  # "bulk" or "model"
    doc: dict[str, Any]
    spec: BulkSyncSpec | ModelSyncSpec
    organization_id: str
    created_at: float
    updated_at: float
    schemas: dict[str, Schema] = field(default_factory=dict)
    schedules: list[Schedule] = field(default_factory=list)  # of a bulk sync; the first is the default schedule
    executions: list[Execution] = field(default_factory=list)  # oldest first
    history_count: int = 0  # executions added as history, which use none of the seed's outcomes

    @property
    def started_count(self) -> int:
        return len(self.executions) - self.history_count

    def row(self) -> dict[str, Any]:
        return {
            **self.doc,
            **self._schedules(),
            "id": self.id,
            "organization_id": self.organization_id,
            "created_at": format_timestamp(self.created_at),
            "created_by": ACTOR,
            "updated_at": format_timestamp(self.updated_at),
            "updated_by": ACTOR,
        }

    def _schedules(self) -> dict[str, Any]:
        if not self.schedules:
            return {}
        default, *more = self.schedules
        return {
            "default_schedule": {"id": default.id, **default.row()},
            "additional_schedules": [schedule.row() for schedule in more] or None,
        }

    def set_doc(self, doc: dict[str, Any], now: float) -> None:
        """Replace the sync's fields. Unchanged schedules stay, and the default schedule always keeps its id."""
        self.doc = dict(doc)
        default, more = self.doc.pop("default_schedule", None), self.doc.pop("additional_schedules", None)
        if default is not None:
            previous, self.schedules = self.schedules, []
            for index, given in enumerate([default, *(more or [])]):
                is_default, rule = index == 0, parse_rule(given)
                unchanged = [item for item in previous if (item.is_default, item.rule) == (is_default, rule)]
                if unchanged:
                    previous.remove(unchanged[0])
                new_id = derive_id("schedule", self.id) if is_default else str(uuid.uuid4())
                since = self.created_at if is_default else now
                self.schedules.append(unchanged[0] if unchanged else Schedule(new_id, rule, is_default, since, now))

    def next_due(self, now: float) -> float | None:
        """Return when the first schedule is due, in seconds since the epoch; None without one or when inactive."""
        times = [next_due(schedule.rule, now) for schedule in self.schedules if self.doc["active"]]
        return min((time for time in times if time is not None), default=None)


class World:
    """One organization with all its data. Its clock and conditions are shared with the other organizations."""

    def __init__(
        self,
        seed: OrganizationSpec,
        clock: Callable[[], float],
        speed: float,
        deliver_to: str | None,
        conditions: Conditions,
    ) -> None:
        self.organizations: list[World] = [self]  # every organization of the sandbox, this one included
        self.id = seed.id
        self.name = seed.name
        self.key = seed.key
        self.clock = clock
        self.conditions = conditions
        self.speed = speed
        self.url = "http://sandbox.invalid"
        self.connections: dict[str, ConnectionSpec] = {item.id: item for item in seed.connections}
        self.syncs: dict[str, Sync] = {}
        self.created_at = self.now
        self.executions: list[Execution] = []  # of all syncs, including deleted ones, oldest first
        self.delivery = Delivery(deliver_to)
        self.exports: dict[str, tuple[float, Execution]] = {}  # start time and execution of each log export, by job id
        self.refreshes: dict[str, list[float]] = {}  # start times of schema refreshes, by connection id
        self._undelivered: list[Execution] = []
        for bulk in seed.bulk_syncs:
            self.add_bulk_sync(bulk)
        for model in seed.model_syncs:
            self.add_sync("model", _model_doc(model), model)

    @property
    def now(self) -> float:
        return self.clock() + self.conditions.skew

    def _add_offered_schemas(self, connection_id: str, schemas: list[SchemaSpec]) -> None:
        """Add to a source the schemas of a sync of the seed."""
        offered = self.connections[connection_id].schemas
        known = {spec.id for spec in offered}
        offered.extend(spec for spec in schemas if spec.id not in known)

    # syncs

    def add_bulk_sync(self, spec: BulkSyncSpec) -> Sync:
        self._add_offered_schemas(spec.source, spec.schemas)
        sync = self.add_sync("bulk", _bulk_doc(spec), spec)
        sync.schemas = {schema.id: Schema(schema, _config(schema)) for schema in spec.schemas}
        return sync

    def add_sync(self, kind: str, doc: dict[str, Any], spec: BulkSyncSpec | ModelSyncSpec) -> Sync:
        now = self.now
        sync = Sync(spec.id, kind, {}, spec, self.id, now, now)
        sync.set_doc(doc, now)
        self.syncs[sync.id] = sync
        return sync

    def find_sync(self, kind: str, sync_id: str) -> Sync:
        sync = self.syncs.get(sync_id)
        if sync is None or sync.kind != kind:
            raise HttpError(404, "not_found", f"there is no {kind} sync {sync_id}")
        return sync

    def list_syncs(self, kind: str) -> list[Sync]:
        return [sync for sync in self.syncs.values() if sync.kind == kind]

    def remove_sync(self, sync: Sync) -> None:
        """Delete a sync with its history, after canceling its running execution."""
        self.cancel_running(sync)
        for execution in sync.executions:
            execution.is_hidden = True
        del self.syncs[sync.id]

    def find_connection(self, connection_id: str) -> ConnectionSpec:
        connection = self.connections.get(connection_id)
        if connection is None:
            raise HttpError(404, "not_found", f"there is no connection {connection_id}")
        return connection

    # executions

    def history(self, sync: Sync) -> list[Execution]:
        """Return the executions of a sync that lists contain, oldest first."""
        return self._visible(sync, self.conditions.lag)

    def _visible(self, sync: Sync, lag: float) -> list[Execution]:
        now = self.now
        return [item for item in sync.executions if not item.is_hidden and not (lag and now - item.created_at < lag)]

    def running(self, sync: Sync) -> Execution | None:
        # At most one execution runs at a time, and it is the newest.
        newest = sync.executions[-1] if sync.executions else None
        return newest if newest is not None and not newest.ended(self.now) else None

    def find_execution(self, sync: Sync, execution_id: str) -> Execution:
        for execution in self._visible(sync, self.conditions.get_lag):
            if execution.id == execution_id:
                return execution
        raise HttpError(404, "not_found", f"{sync.kind} sync {sync.id} has no execution {execution_id}")

    def start(self, sync: Sync, parts: list[Part], **fields: Any) -> Execution:
        """Start an execution.

        :raises HttpError: with status 409 while another one runs.
        """
        if self.running(sync) is not None:
            raise HttpError(409, "conflict", f"sync {sync.id} is already running")
        execution = self._make_execution(sync, parts, self.now, _nth(sync.spec.outcome, sync.started_count), **fields)
        self._add(sync, execution)
        if sync.kind == "bulk" and not execution.test:
            self._undelivered.append(execution)
        return execution

    def add_history(self, sync: Sync, executions: int) -> None:
        """Add completed executions to a sync without any: one per hour, of which the newest has just ended.

        :raises ValueError: the sync has executions.
        """
        if sync.executions:
            raise ValueError(f"sync {sync.id} has executions")
        duration = sync.spec.duration / self.speed
        parts, fields = self.full_run(sync)  # shared, because the parts of an ended execution do not change
        for number in reversed(range(executions)):
            created_at = self.now - duration - number * max(duration, 3600.0)
            self._add(sync, self._make_execution(sync, parts, created_at, None, **fields))
        sync.history_count = executions

    def full_run(self, sync: Sync) -> tuple[list[Part], dict[str, Any]]:
        """Return the parts and the other fields of an execution of the complete sync."""
        spec = sync.spec
        if isinstance(spec, ModelSyncSpec):
            part = Part("", "", spec.rows, errors=len(spec.errors), warnings=spec.warnings)
            return [part], {"error_messages": spec.errors}
        return [self.make_part(sync, schema) for schema in sync.schemas.values() if schema.enabled], {}

    def _add(self, sync: Sync, execution: Execution) -> None:
        self.executions.append(execution)
        sync.executions.append(execution)

    def _make_execution(
        self, sync: Sync, parts: list[Part], created_at: float, outcome: str | None, **fields: Any
    ) -> Execution:
        spec = sync.spec
        if outcome is None:
            has_failures = any(part.errors or part.outcome not in (None, "completed") for part in parts)
            outcome = "errors" if sync.kind == "bulk" and has_failures else "completed"
        event_fields = {"sync_name": sync.doc["name"], "organization_id": self.id}
        if sync.kind == "bulk":
            event_fields["source_connection_id"] = sync.doc["source_connection_id"]
            event_fields["destination_connection_id"] = sync.doc["destination_connection_id"]
        else:
            event_fields["target_connection_id"] = sync.doc["target"]["connection_id"]
        return Execution(
            id=str(uuid.uuid4()),
            seq=len(self.executions),
            sync_id=sync.id,
            kind=sync.kind,
            created_at=created_at,
            duration=spec.duration / self.speed,
            cancel_duration=spec.cancel_duration / self.speed,
            stages=list(spec.stages),
            outcome=outcome,
            parts=parts,
            event_fields=event_fields,
            **fields,
        )

    def make_part(self, sync: Sync, schema: Schema) -> Part:
        spec = schema.spec
        return Part(
            schema=spec.id,
            output_name=schema.output_name,
            rows=spec.rows,
            errors=spec.errors,
            warnings=spec.warnings,
            outcome=_nth(spec.outcome, sync.started_count),
            status_message=spec.status_message,
        )

    def cancel_running(self, sync: Sync) -> bool:
        running = self.running(sync)
        return running is not None and running.cancel(self.now)

    def deliver_ended(self) -> None:
        """Write the rows of executions that have ended since the last call; one that cannot be written fails."""
        now = self.now
        ended = [execution for execution in self._undelivered if execution.ended(now)]
        self._undelivered = [execution for execution in self._undelivered if not execution.ended(now)]
        for execution in sorted(ended, key=lambda execution: execution.end):
            destination = self.connections.get(execution.event_fields["destination_connection_id"])
            failure = self.delivery.deliver(execution, destination)
            if failure:
                execution.end_now(execution.end, "failed", failure)


def _nth(outcomes: list[str], run: int) -> str | None:
    return outcomes[min(run, len(outcomes) - 1)] if outcomes else None


def _config(spec: SchemaSpec) -> dict[str, Any]:
    return {
        "enabled": spec.enabled,
        "partition_key": spec.partition_key,
        "tracking_field": spec.tracking_field,
    }


def _bulk_doc(spec: BulkSyncSpec) -> dict[str, Any]:
    return {
        **BULK_DEFAULTS,
        "name": spec.name,
        "active": spec.active,
        "mode": spec.mode,
        "source_connection_id": spec.source,
        "destination_connection_id": spec.destination,
        "destination_configuration": spec.destination_configuration,
        "default_schedule": {"frequency": "manual"},
    }


def _model_doc(spec: ModelSyncSpec) -> dict[str, Any]:
    model_id = derive_id("model", spec.name)
    return {
        **MODEL_DEFAULTS,
        "name": spec.name,
        "active": spec.active,
        "mode": spec.mode,
        "fields": [{"source": {"model_id": model_id, "field": "name"}, "target": "Name"}],
        "identity": {"source": {"model_id": model_id, "field": "email"}, "target": "Email", "function": "Equality"},
        "model_ids": [model_id],
        "schedule": {"frequency": "manual"},
        "target": {"connection_id": spec.target, "object": spec.target_object},
    }
