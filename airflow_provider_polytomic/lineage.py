"""What OpenLineage is told of an execution, where Airflow's OpenLineage provider is installed and asks.

Built from what the task has in its hands already: no request is sent for it, and nothing fails for it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.executions.tables import Table, WrittenTable
    from airflow_provider_polytomic.api.models import Execution

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LineageRecord:
    """What a task knows of its execution when it ends."""

    execution: Execution
    base_url: str
    written: list[WrittenTable]
    failure: str | None = None


def build_lineage(story: LineageRecord | None) -> Any:
    """The ``OperatorLineage`` of a task: what it read and wrote, which execution that was, and what went wrong.

    :returns: None when there is nothing to tell.
    """
    if story is None:
        return None
    try:
        return _build(story)
    except Exception:
        log.exception("OpenLineage is told nothing of execution %s", story.execution.id)
        return None


def _build(story: LineageRecord) -> Any:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import (
        datasource_dataset,
        error_message_run,
        external_query_run,
        output_statistics_output_dataset,
    )

    def source(table: Table) -> dict[str, Any]:
        where = table.namespace if "://" in table.namespace else f"{table.namespace}://"
        return {"dataSource": datasource_dataset.DatasourceDatasetFacet(name=table.namespace, uri=where)}

    def statistics(one: WrittenTable) -> dict[str, Any]:
        if one.records is None:
            return {}
        rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=one.records)
        return {"outputStatistics": rows}

    read = dict.fromkeys(table for one in story.written for table in one.sources)
    facets: dict[str, Any] = {
        "externalQuery": external_query_run.ExternalQueryRunFacet(
            externalQueryId=story.execution.id, source=story.base_url
        )
    }
    if story.failure is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=story.failure, programmingLanguage="python"
        )
    return OperatorLineage(
        inputs=[InputDataset(namespace=table.namespace, name=table.name, facets=source(table)) for table in read],
        outputs=[
            OutputDataset(
                namespace=one.table.namespace,
                name=one.table.name,
                facets=source(one.table),
                outputFacets=statistics(one),
            )
            for one in story.written
        ],
        run_facets=facets,
    )
