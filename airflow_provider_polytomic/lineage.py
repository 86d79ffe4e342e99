"""OpenLineage metadata of an execution, for Airflow's OpenLineage provider if it is installed.

It is built from data that the task already has, without requests. An error while building it never fails the task.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.executions.table_address import Table
    from airflow_provider_polytomic.api.executions.tables import WrittenTable
    from airflow_provider_polytomic.api.models import Execution

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LineageRecord:
    """What a task knows about its execution when it ends.

    :ivar execution: with its terminal status.
    :ivar base_url: of Polytomic, as the connection defines it.
    :ivar written: the tables that the execution wrote, each with its sources; None if they were not looked up.
    :ivar failure: why the task failed; None when it succeeded.
    """

    sync_id: str
    execution: Execution
    base_url: str
    written: list[WrittenTable] | None = None
    failure: str | None = None


def build_lineage(record: LineageRecord | None) -> Any:
    """Build the ``OperatorLineage`` of a task: inputs, outputs, the execution, and the failure.

    :param record: None if the task has no execution that ended.
    :returns: None without a record, or when OpenLineage is incomplete.
    """
    if record is None:
        return None
    try:
        return _build(record, _written_tables(record))
    except Exception:
        log.exception("Could not build the OpenLineage metadata of execution %s.", record.execution.id)
        return None


def _written_tables(record: LineageRecord) -> list[WrittenTable]:
    if record.written is not None:
        return record.written
    from airflow_provider_polytomic.api.executions.tables import tables_without_lookup

    return tables_without_lookup(record.sync_id, record.execution, record.base_url)


def _build(record: LineageRecord, written: list[WrittenTable]) -> Any:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import (
        datasource_dataset,
        error_message_run,
        external_query_run,
        output_statistics_output_dataset,
    )

    def source_facets(table: Table) -> dict[str, Any]:
        uri = table.namespace if "://" in table.namespace else f"{table.namespace}://"
        return {"dataSource": datasource_dataset.DatasourceDatasetFacet(name=table.namespace, uri=uri)}

    def statistics_facets(output: WrittenTable) -> dict[str, Any]:
        if output.records is None:
            return {}
        rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=output.records)
        return {"outputStatistics": rows}

    sources = dict.fromkeys(table for output in written for table in output.sources)
    facets: dict[str, Any] = {
        "externalQuery": external_query_run.ExternalQueryRunFacet(
            externalQueryId=record.execution.id, source=record.base_url
        )
    }
    if record.failure is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=record.failure, programmingLanguage="python"
        )
    return OperatorLineage(
        inputs=[
            InputDataset(namespace=table.namespace, name=table.name, facets=source_facets(table)) for table in sources
        ],
        outputs=[
            OutputDataset(
                namespace=output.table.namespace,
                name=output.table.name,
                facets=source_facets(output.table),
                outputFacets=statistics_facets(output),
            )
            for output in written
        ],
        run_facets=facets,
    )
