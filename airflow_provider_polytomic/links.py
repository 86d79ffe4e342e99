"""The link from a task instance to its execution in Polytomic's web app."""

from __future__ import annotations

import logging
from typing import Any

from airflow_provider_polytomic._airflow.compat import BaseOperatorLink, read_xcom

log = logging.getLogger(__name__)

# The key under which Airflow 3 looks for this link.
XCOM_KEY = "_link_PolytomicExecutionLink"


class PolytomicExecutionLink(BaseOperatorLink):
    """Leads to the execution that a task started or waits for.

    The task writes the link down as soon as it knows the execution, so that it is there while the task runs, while it
    is deferred, and after its end, good or bad. Where it leads to, the field ``ui_url`` of the connection says.
    """

    name = "Polytomic execution"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002  Airflow calls it so
        """What the task has written down, or nothing. Asks nobody but Airflow, and never raises."""
        try:
            link = read_xcom(ti_key, XCOM_KEY)
        except Exception as error:  # noqa: BLE001  a link is not worth a failure
            log.debug("No link of %s: %s", ti_key, error)
            return ""
        return link if isinstance(link, str) else ""
