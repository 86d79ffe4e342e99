"""Asset events (Airflow 2.11: dataset events) for the tables that a task's execution wrote.

They are emitted through an asset alias, because the tables are not known before the task has run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic._airflow.compat import add_asset_event, make_alias

if TYPE_CHECKING:
    from airflow_provider_polytomic._airflow.compat import AssetAlias
    from airflow_provider_polytomic._airflow.reporting import Reporting
    from airflow_provider_polytomic.api.executions.tables import WrittenTable
    from airflow_provider_polytomic.api.models import Execution

log = logging.getLogger(__name__)

MAX_EVENTS = 100  # per task; each is a row in Airflow's database, and may trigger DAG runs
MAX_LOGGED_URIS = 10


def emit_events(
    context: Any,
    alias: AssetAlias,
    assets: bool | Mapping[str, Any],
    written: list[WrittenTable],
    execution: Execution,
    reporting: Reporting,
) -> None:
    """Add an asset event for each written table, at most :data:`MAX_EVENTS`.

    :param context: of the task.
    :param alias: through which the events are emitted.
    :param assets: assets that replace a table's own address, by output name or schema id. None omits the table.
    :param reporting: limits the time. Airflow may send a request for each asset.
    """
    tables = _select_tables(written, assets if isinstance(assets, Mapping) else {})
    if not tables:
        return
    make_alias(alias)
    events = context["outlet_events"][alias]
    for done, (table, asset) in enumerate(tables):
        if not reporting.left:
            log.warning(
                "Omitted the asset events of %d of %d tables, because the time for reporting has expired.",
                len(tables) - done,
                len(tables),
            )
            return
        add = partial(add_asset_event, events, asset, event_extra(table, execution))
        reporting.best_effort(f"asset event of {asset}", add)
    uris = [str(getattr(asset, "uri", asset)) for _, asset in tables]
    more = f", and {len(uris) - MAX_LOGGED_URIS} more" if len(uris) > MAX_LOGGED_URIS else ""
    log.info("Asset events: %s%s.", ", ".join(uris[:MAX_LOGGED_URIS]), more)


def _select_tables(written: list[WrittenTable], names: Mapping[str, Any]) -> list[tuple[WrittenTable, Any]]:
    """Select the tables that get events, each with its asset: those in ``names`` first, then by number of records."""
    candidates = []
    for table in written:
        key = table.output_name if table.output_name in names else table.schema
        asset = names.get(key, table.table.uri)
        if asset is not None:
            candidates.append((key not in names, -(table.records or 0), table, asset))
    if len(candidates) > MAX_EVENTS:
        candidates.sort(key=lambda candidate: candidate[:2])
        log.info(
            "Emitting asset events only for the %d largest of %d tables.",
            MAX_EVENTS,
            len(candidates),
        )
    return [(table, asset) for *_, table, asset in candidates[:MAX_EVENTS]]


def event_extra(table: WrittenTable, execution: Execution) -> dict[str, Any]:
    """Return the extra of a table's asset event. It contains no lists, which fail the task on Airflow 2.11 and 3.0."""
    return {
        "sync_id": table.sync_id,
        "execution_id": table.execution_id or execution.id,
        "schema": table.schema,
        "output_name": table.output_name,
        "record_count": table.records,
        "error_count": table.errors,
        "started_at": execution.started_at.isoformat() if execution.started_at else None,
        "completed_at": execution.completed_at.isoformat() if execution.completed_at else None,
        "sources": " ".join(source.uri for source in table.sources),
    }
