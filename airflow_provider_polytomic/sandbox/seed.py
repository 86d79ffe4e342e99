"""The seed of a sandbox: its connections and syncs, and the outcomes of their executions.

A seed is a YAML or JSON file (or, in a test, the same as a ``dict``)::

    key: sandbox                      # the API key
    connections:                      # default: the three of the default seed
      - name: CRM
        type: salesforce
        configuration: {instance_url: https://example.my.salesforce.com}
        schemas: [account, contact]   # offered as a source, in addition to those of its syncs
        target: {type: object}        # JSON schema of a destination_configuration; default: one with a schema
        resync_modes: [refetch]       # supported as a destination; default: all three
      - {name: Local file, type: sqlite, configuration: {path: /tmp/warehouse.sqlite}}
    bulk_syncs:
      - name: CRM to warehouse
        id: 2f6f…                     # default: derived from the name, so the same each time
        source: CRM                   # a connection's name or id; default: the first one
        destination: Local file       # default: the last one
        duration: 12                  # seconds at speed 1
        outcome: [failed, completed]  # one for all executions, or one each, the last for all further ones
        schemas:                      # an id is enough
          - account
          - {id: contact, output_name: contacts, rows: 500, errors: 3, outcome: failed, status_message: no such field}
    model_syncs:
      - {name: Users to CRM, target: CRM, target_object: Contact, rows: 200, errors: [user 7 has no email]}

This seed has one organization. Others have their own key, connections and syncs::

    name: Acme                        # of the first organization; default: Sandbox
    partner_key: partner              # with the id of any organization as the login, it acts for that one
    organizations:
      - {name: Globex, id: 0b00…, key: globex, connections: […], bulk_syncs: […], model_syncs: […]}

An ``outcome`` is one of the API's terminal statuses, or any other text, to test how a client handles it.
Without one, an execution ends as ``completed``, or as ``errors`` if one of its schemas fails or has errors.
``stages`` are the non-terminal statuses of an execution. A destination of type ``sqlite`` gets rows.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .seed_reader import SeedError, build, read_file

ORGANIZATION_ID = "0a000000-0000-4000-8000-000000000001"
ACTOR = {"id": "0e000000-0000-4000-8000-000000000001", "name": "Sandbox", "type": "user"}
SALESFORCE = "c0000000-0000-4000-8000-000000000001"
POSTGRES = "c0000000-0000-4000-8000-000000000002"
WAREHOUSE = "c0000000-0000-4000-8000-000000000003"
SALESFORCE_TO_WAREHOUSE = "b0000000-0000-4000-8000-000000000001"
POSTGRES_TO_WAREHOUSE = "b0000000-0000-4000-8000-000000000002"
WAREHOUSE_TO_SALESFORCE = "a0000000-0000-4000-8000-000000000001"

BULK_STAGES = ("created", "scheduled", "running", "exporting", "processing")
RESYNC_MODES = ("refetch", "resync", "rebuild")
MODEL_STAGES = ("created", "scheduled", "running", "processing")


@dataclass
class SchemaSpec:
    """A table or object of a source, and the outcome of syncing it."""

    id: str
    output_name: str = ""  # default: the part of the id after the last dot
    rows: int = 100
    errors: int = 0
    warnings: int = 0
    outcome: list[str] = field(default_factory=list)
    status_message: str = ""
    enabled: bool = True
    partition_key: str | None = None
    tracking_field: str | None = None

    def __post_init__(self) -> None:
        self.output_name = self.output_name or self.id.rsplit(".", 1)[-1]


@dataclass
class ConnectionSpec:
    """A connection, as the source of bulk syncs, and as the destination or target of syncs."""

    name: str
    type: str
    id: str = ""
    configuration: dict[str, Any] = field(default_factory=dict)
    schemas: list[SchemaSpec] = field(default_factory=list)
    target: dict[str, Any] = field(default_factory=dict)
    resync_modes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = self.id or derive_id("connection", self.name)
        self.target = self.target or {
            "type": "object",
            "properties": {"schema": {"type": "string", "title": "Output schema"}},
        }
        self.resync_modes = self.resync_modes or list(RESYNC_MODES)


@dataclass
class BulkSyncSpec:
    """A bulk sync, and the duration and outcome of its executions. Durations are in seconds at speed 1."""

    name: str
    id: str = ""
    source: str = ""
    destination: str = ""
    schemas: list[SchemaSpec] = field(default_factory=list)
    active: bool = True
    mode: str = "replicate"
    destination_configuration: dict[str, Any] = field(default_factory=dict)
    duration: float = 10.0
    cancel_duration: float = 2.0
    outcome: list[str] = field(default_factory=list)
    status_message: str = ""
    stages: list[str] = field(default_factory=lambda: list(BULK_STAGES))

    def __post_init__(self) -> None:
        self.id = self.id or derive_id("bulk_sync", self.name)
        self.stages = self.stages or list(BULK_STAGES)


@dataclass
class ModelSyncSpec:
    """A model sync, and the duration and outcome of its executions. Durations are in seconds at speed 1."""

    name: str
    id: str = ""
    target: str = ""
    target_object: str = "Contact"
    active: bool = True
    mode: str = "updateOrCreate"
    rows: int = 100
    errors: list[str] = field(default_factory=list)
    warnings: int = 0
    duration: float = 8.0
    cancel_duration: float = 2.0
    outcome: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=lambda: list(MODEL_STAGES))

    def __post_init__(self) -> None:
        self.id = self.id or derive_id("model_sync", self.name)
        self.stages = self.stages or list(MODEL_STAGES)


@dataclass
class OrganizationSpec:
    """An organization with its connections and syncs."""

    name: str
    id: str = ""
    key: str = ""  # the API key of its users; without one only the partner key has access
    connections: list[ConnectionSpec] = field(default_factory=list)
    bulk_syncs: list[BulkSyncSpec] = field(default_factory=list)
    model_syncs: list[ModelSyncSpec] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = self.id or derive_id("organization", self.name)
        self.connections = self.connections or _default_connections()
        for sync in self.bulk_syncs:
            sync.source = self._connection(sync.source or self.connections[0].id, f"{sync.name!r}: source")
            sync.destination = self._connection(
                sync.destination or self.connections[-1].id, f"{sync.name!r}: destination"
            )
        for model in self.model_syncs:
            model.target = self._connection(model.target or self.connections[0].id, f"{model.name!r}: target")
        for sync in self.bulk_syncs:
            source = next(item for item in self.connections if item.id == sync.source)
            sync.schemas = sync.schemas or list(source.schemas)
            if not sync.schemas:
                raise SeedError(f"{sync.name!r}: schemas: is required, because its source offers none")
            duplicate = _find_duplicate(spec.id for spec in sync.schemas)
            if duplicate:
                raise SeedError(f"{sync.name!r}: schemas: {duplicate} is listed more than once")
        _require_unique_ids(self.connections)

    def _connection(self, name_or_id: str, where: str) -> str:
        for connection in self.connections:
            if name_or_id in (connection.id, connection.name):
                return connection.id
        raise SeedError(f"{where}: there is no connection {name_or_id!r}")


@dataclass
class Seed(OrganizationSpec):
    """The complete seed: the first organization, and the others in ``organizations``."""

    name: str = "Sandbox"
    id: str = ORGANIZATION_ID
    key: str = "sandbox"
    partner_key: str = ""
    organizations: list[OrganizationSpec] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.key:
            raise SeedError("key: must not be empty")
        everything = [self, *self.organizations]
        _require_unique_ids(everything)
        _require_unique_ids(
            [
                *(s for each in everything for s in each.bulk_syncs),
                *(s for each in everything for s in each.model_syncs),
            ]
        )
        if _find_duplicate(key for key in (self.partner_key, *(each.key for each in everything)) if key):
            raise SeedError("key: two organizations, or one and the partner, have the same key")


def _find_duplicate(ids: Iterable[str]) -> str | None:
    return next((each for each, count in Counter(ids).items() if count > 1), None)


def _require_unique_ids(items: Sequence[ConnectionSpec | BulkSyncSpec | ModelSyncSpec | OrganizationSpec]) -> None:
    duplicate = _find_duplicate(item.id for item in items)
    if duplicate:
        name = next(item.name for item in items if item.id == duplicate)
        raise SeedError(f"{name!r}: id: {duplicate} is used more than once")


def load_seed(source: Seed | dict[str, Any] | str | Path | None) -> Seed:
    """Read a seed from a file or a ``dict``; ``None`` is the default seed.

    :raises SeedError: when it is invalid; the message names the file and the field.
    """
    if source is None:
        return default_seed()
    if isinstance(source, Seed):
        return source
    if isinstance(source, dict):
        return build(Seed, source, _NESTED_SPECS)
    try:
        return build(Seed, read_file(Path(source)), _NESTED_SPECS)
    except SeedError as error:
        raise SeedError(f"{source}: {error}") from None


def default_seed() -> Seed:
    """Return a seed with two bulk syncs and a model sync between a CRM, an application's database and a warehouse."""
    return Seed(
        connections=_default_connections(),
        bulk_syncs=[
            BulkSyncSpec(
                id=SALESFORCE_TO_WAREHOUSE,
                name="Salesforce to warehouse",
                source=SALESFORCE,
                destination=WAREHOUSE,
                destination_configuration={"schema": "salesforce"},
                duration=10.0,
                schemas=[
                    SchemaSpec("account", rows=120, tracking_field="SystemModstamp"),
                    SchemaSpec("contact", rows=480, tracking_field="SystemModstamp"),
                    SchemaSpec("opportunity", rows=260, tracking_field="SystemModstamp"),
                ],
            ),
            BulkSyncSpec(
                id=POSTGRES_TO_WAREHOUSE,
                name="Postgres to warehouse",
                source=POSTGRES,
                destination=WAREHOUSE,
                destination_configuration={"schema": "app"},
                duration=20.0,
                schemas=[
                    SchemaSpec("public.customers", rows=300),
                    SchemaSpec("public.orders", rows=1500),
                    SchemaSpec("public.products", rows=80),
                ],
            ),
        ],
        model_syncs=[
            ModelSyncSpec(
                id=WAREHOUSE_TO_SALESFORCE,
                name="Customer health to Salesforce",
                target=SALESFORCE,
                target_object="Account",
                rows=150,
                duration=8.0,
            )
        ],
    )


def _default_connections() -> list[ConnectionSpec]:
    return [
        ConnectionSpec(
            id=SALESFORCE,
            name="Salesforce",
            type="salesforce",
            configuration={"instance_url": "https://example.my.salesforce.com", "connect_mode": "browser"},
        ),
        ConnectionSpec(
            id=POSTGRES,
            name="App database",
            type="postgresql",
            configuration={"hostname": "db.example.com", "port": 5432, "database": "app", "username": "polytomic"},
        ),
        ConnectionSpec(
            id=WAREHOUSE,
            name="Warehouse",
            type="snowflake",
            configuration={
                "account": "ab12345",
                "dbname": "ANALYTICS",
                "warehouse": "LOADING",
                "username": "polytomic",
            },
        ),
    ]


def derive_id(kind: str, name: str) -> str:
    """Derive an id from a name, so that it is the same each time the sandbox is started."""
    return str(uuid.uuid5(uuid.UUID(ORGANIZATION_ID), f"{kind}/{name}"))


_NESTED_SPECS: dict[str, type] = {
    "list[SchemaSpec]": SchemaSpec,
    "list[ConnectionSpec]": ConnectionSpec,
    "list[BulkSyncSpec]": BulkSyncSpec,
    "list[ModelSyncSpec]": ModelSyncSpec,
    "list[OrganizationSpec]": OrganizationSpec,
}
