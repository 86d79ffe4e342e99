"""What a sandbox begins with: connections, syncs, and how their executions will go.

A seed is a YAML or JSON file (or, in a test, the same as a ``dict``)::

    key: sandbox                      # the API key
    connections:                      # left out: the three of the default seed
      - name: CRM
        type: salesforce
        configuration: {instance_url: https://example.my.salesforce.com}
        schemas: [account, contact]   # offered as a source, besides those that its syncs name
        target: {type: object}        # the JSON schema of a destination_configuration; left out: one with a schema
        resync_modes: [refetch]       # supported as a destination; left out: all three
      - {name: Local file, type: sqlite, configuration: {path: /tmp/warehouse.sqlite}}
    bulk_syncs:
      - name: CRM to warehouse
        id: 2f6f…                     # left out: made from the name, so the same each time
        source: CRM                   # a connection's name or id; left out: the first one
        destination: Local file       # left out: the last one
        duration: 12                  # seconds at speed 1
        outcome: [failed, completed]  # one for all runs, or one for each run, the last for the rest
        schemas:                      # a name alone is enough
          - account
          - {id: contact, output_name: contacts, rows: 500, errors: 3, outcome: failed, status_message: no such field}
    model_syncs:
      - {name: Users to CRM, target: CRM, target_object: Contact, rows: 200, errors: [user 7 has no email]}

That is one organization. There can be more, each with a key, connections and syncs of its own::

    name: Acme                        # the first one; left out: Sandbox
    partner_key: partner              # as the password, with an organization's id as the login, it acts for each
    organizations:
      - {name: Globex, id: 0b00…, key: globex, connections: […], bulk_syncs: […], model_syncs: […]}

An ``outcome`` is one of the API's terminal statuses, or any other text, to see how a client bears it.
Without one, an execution completes, as ``errors`` if one of its schemas fails or has errors. ``stages`` are the
statuses on the way to the end. A connection of type ``sqlite`` as a destination really gets rows.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

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


class SeedError(ValueError):
    """A seed that cannot be used; the message names the file and the field."""


@dataclass
class SchemaSpec:
    """A table or object of a source, and how syncing it goes."""

    id: str
    output_name: str = ""  # left out: the part of the id behind the last dot
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
    name: str
    type: str
    id: str = ""
    configuration: dict[str, Any] = field(default_factory=dict)
    schemas: list[SchemaSpec] = field(default_factory=list)
    target: dict[str, Any] = field(default_factory=dict)
    resync_modes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = self.id or made_id("connection", self.name)
        self.target = self.target or {
            "type": "object",
            "properties": {"schema": {"type": "string", "title": "Output schema"}},
        }
        self.resync_modes = self.resync_modes or list(RESYNC_MODES)


@dataclass
class BulkSyncSpec:
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
        self.id = self.id or made_id("bulk_sync", self.name)
        self.stages = self.stages or list(BULK_STAGES)


@dataclass
class ModelSyncSpec:
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
        self.id = self.id or made_id("model_sync", self.name)
        self.stages = self.stages or list(MODEL_STAGES)


@dataclass
class OrganizationSpec:
    """An organization, with connections and syncs that no other one sees."""

    name: str
    id: str = ""
    key: str = ""  # of its users; left out: only the partner key reaches it
    connections: list[ConnectionSpec] = field(default_factory=list)
    bulk_syncs: list[BulkSyncSpec] = field(default_factory=list)
    model_syncs: list[ModelSyncSpec] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = self.id or made_id("organization", self.name)
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
            twice = _repeated(spec.id for spec in sync.schemas)
            if twice:
                raise SeedError(f"{sync.name!r}: schemas: {twice} is there more than once")
        _refuse_shared_ids(self.connections)

    def _connection(self, name_or_id: str, where: str) -> str:
        for connection in self.connections:
            if name_or_id in (connection.id, connection.name):
                return connection.id
        raise SeedError(f"{where}: there is no connection {name_or_id!r}")


@dataclass
class Seed(OrganizationSpec):
    """All that a sandbox begins with: an organization, and perhaps more of them."""

    name: str = "Sandbox"
    id: str = ORGANIZATION_ID
    key: str = "sandbox"
    partner_key: str = ""
    organizations: list[OrganizationSpec] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.key:
            raise SeedError("key: must not be empty")
        everybody = [self, *self.organizations]
        _refuse_shared_ids(everybody)
        _refuse_shared_ids(
            [*(s for each in everybody for s in each.bulk_syncs), *(s for each in everybody for s in each.model_syncs)]
        )
        if _repeated(key for key in (self.partner_key, *(each.key for each in everybody)) if key):
            raise SeedError("key: two organizations, or one and the partner, have the same key")


def _repeated(ids: Iterable[str]) -> str | None:
    return next((each for each, count in Counter(ids).items() if count > 1), None)


def _refuse_shared_ids(items: Sequence[ConnectionSpec | BulkSyncSpec | ModelSyncSpec | OrganizationSpec]) -> None:
    twice = _repeated(item.id for item in items)
    if twice:
        name = next(item.name for item in items if item.id == twice)
        raise SeedError(f"{name!r}: id: {twice} is used more than once")


def load_seed(source: Seed | dict[str, Any] | str | Path | None) -> Seed:
    """Read a seed from a file or a ``dict``; ``None`` is the default seed.

    :raises SeedError: naming the file and the field.
    """
    if source is None:
        return default_seed()
    if isinstance(source, Seed):
        return source
    if isinstance(source, dict):
        return _build(Seed, source, "")
    try:
        return _build(Seed, _parse(Path(source)), "")
    except SeedError as error:
        raise SeedError(f"{source}: {error}") from None


def default_seed() -> Seed:
    """Two bulk syncs and a model sync between a CRM, an application's database and a warehouse."""
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


def made_id(kind: str, name: str) -> str:
    """The same id for the same name, each time the sandbox is started."""
    return str(uuid.uuid5(uuid.UUID(ORGANIZATION_ID), f"{kind}/{name}"))


def _parse(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SeedError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if path.suffix == ".json":
        try:
            return json.loads(text)
        except ValueError as error:
            raise SeedError(f"not JSON: {error}") from None
    import yaml  # only for seeds in YAML: the sandbox starts without it

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SeedError("not YAML: " + " ".join(str(error).split())) from None


def _build(cls: type[T], data: Any, where: str) -> T:
    """Make ``cls`` of ``data``, refusing what it does not know."""
    if not isinstance(data, dict):
        raise SeedError(f"{where or 'the seed'}: a mapping is needed, not {_kind(data)}")
    known = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = {}
    for name, value in data.items():
        at = f"{where}.{name}" if where else str(name)
        if name not in known:
            raise SeedError(f"{at}: unknown field (known are: {', '.join(known)})")
        values[name] = _read(str(known[name].type), value, at)
    for name, item in known.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and not values.get(name):
            raise SeedError(f"{f'{where}.' if where else ''}{name}: is required")
    return cls(**values)


_NESTED: dict[str, type] = {
    "list[SchemaSpec]": SchemaSpec,
    "list[ConnectionSpec]": ConnectionSpec,
    "list[BulkSyncSpec]": BulkSyncSpec,
    "list[ModelSyncSpec]": ModelSyncSpec,
    "list[OrganizationSpec]": OrganizationSpec,
}
_PLAIN: dict[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "text"),
    "str | None": ((str, type(None)), "text"),
    "bool": (bool, "true or false"),
    "dict[str, Any]": (dict, "a mapping"),
}


def _read(kind: str, value: Any, where: str) -> Any:
    if kind in _NESTED:
        if not isinstance(value, list):
            raise SeedError(f"{where}: a list is needed, not {_kind(value)}")
        return [
            SchemaSpec(item)
            if kind == "list[SchemaSpec]" and isinstance(item, str)
            else _build(_NESTED[kind], item, f"{where}[{index}]")
            for index, item in enumerate(value)
        ]
    if kind == "list[str]":
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
            raise SeedError(f"{where}: text or a list of texts is needed, not {_kind(value)}")
        return items
    if kind in ("int", "float"):
        number = int if kind == "int" else (int, float)
        if isinstance(value, bool) or not isinstance(value, number) or not 0 <= value < 1e9:
            raise SeedError(f"{where}: a {'whole ' if kind == 'int' else ''}number from 0 on is needed: {value!r}")
        return value
    types, name = _PLAIN[kind]
    if not isinstance(value, types):
        raise SeedError(f"{where}: {name} is needed, not {_kind(value)}")
    if kind == "dict[str, Any]":
        try:
            json.dumps(value)
        except TypeError as error:  # YAML has dates, JSON has none
            raise SeedError(f"{where}: {error}") from None
    return value


def _kind(value: Any) -> str:
    return {dict: "a mapping", list: "a list", str: "text", type(None): "nothing"}.get(type(value), repr(value))
