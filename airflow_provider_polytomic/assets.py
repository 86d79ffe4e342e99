"""Asset events (Airflow 2.11: dataset events) for the tables that a task's execution wrote.

They go through an alias, because the tables are only known when the task has run: Airflow makes the assets then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic._airflow.compat import Asset, AssetAlias, add_asset_event, make_alias

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.deferral import Reporting
    from airflow_provider_polytomic.api.executions.tables import WrittenTable
    from airflow_provider_polytomic.api.models import Execution

log = logging.getLogger(__name__)

MAX_EVENTS = 100  # of a task: each is a row in Airflow's database, and may start DAG runs


def task_alias(dag_id: str | None, task_id: str) -> AssetAlias:
    """The alias of all tables that a task writes: ``polytomic:dag_id.task_id``."""
    return AssetAlias(name=f"polytomic:{dag_id}.{task_id}" if dag_id else f"polytomic:{task_id}")


def validate_assets(assets: Any) -> None:
    """Refuse what is not meant for ``assets``.

    :raises ValueError: naming the argument.
    """
    if isinstance(assets, bool):
        return
    if not isinstance(assets, Mapping):
        raise ValueError(f"assets must be true, false, or a dict of tables and their assets, not {assets!r:.200}")
    for table, asset in assets.items():
        if not isinstance(table, str) or not isinstance(asset, str | Asset | None):
            raise ValueError(f"assets: {table!r:.100} must be given a URI, an Asset or None, not {asset!r:.100}")
        if isinstance(asset, str):
            try:
                Asset(asset)
            except ValueError as error:
                raise ValueError(f"assets: the URI of {table!r:.100}: {error}") from None


def emit_events(
    context: Any,
    alias: AssetAlias,
    assets: bool | Mapping[str, Any],
    written: list[WrittenTable],
    execution: Execution,
    reporting: Reporting,
) -> None:
    """Add an asset event for each table that was written, with what is known of it: :data:`MAX_EVENTS` at most.

    :param assets: which asset a table is, by output name or schema id, where it is another than the table's own
        address says; None leaves it out.
    :param reporting: bounds the time; for each table Airflow may be asked for its asset.
    """
    tables = _largest(written, assets if isinstance(assets, Mapping) else {})
    if not tables:
        return
    make_alias(alias)
    events = context["outlet_events"][alias]
    for done, (table, asset) in enumerate(tables):
        if not reporting.left:
            log.warning(
                "No asset events of %d of %d tables: the time for reporting is used up", len(tables) - done, len(tables)
            )
            return
        add = partial(add_asset_event, events, asset, event_extra(table, execution))
        reporting.best_effort(f"asset event of {asset}", add)


def _largest(written: list[WrittenTable], names: Mapping[str, Any]) -> list[tuple[WrittenTable, Any]]:
    """The tables that get events, each with its asset: those that ``names`` has first, then by number of records."""
    found = []
    for table in written:
        key = table.output_name if table.output_name in names else table.schema
        asset = names.get(key, table.table.uri)
        if asset is not None:
            found.append((key not in names, -(table.records or 0), table, asset))
    if len(found) > MAX_EVENTS:
        found.sort(key=lambda it: it[:2])
        log.info(
            "Asset events: the %d tables with the most records of %d; %d are left out",
            MAX_EVENTS,
            len(found),
            len(found) - MAX_EVENTS,
        )
    return [(table, asset) for *_, table, asset in found[:MAX_EVENTS]]


def event_extra(one: WrittenTable, execution: Execution) -> dict[str, Any]:
    """What an asset event says of one table: no lists, with which Airflow 2.11 and 3.0 fail the task."""
    return {
        "sync_id": one.sync_id,
        "execution_id": execution.id,
        "schema": one.schema,
        "output_name": one.output_name,
        "record_count": one.records,
        "error_count": one.errors,
        "started_at": execution.started_at.isoformat() if execution.started_at else None,
        "completed_at": execution.completed_at.isoformat() if execution.completed_at else None,
        "sources": " ".join(source.uri for source in one.sources),
    }
