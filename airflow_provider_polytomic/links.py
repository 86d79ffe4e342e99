"""The link from a task instance to its execution in Polytomic's web app."""

from __future__ import annotations

import logging
from typing import Any

from airflow_provider_polytomic._airflow.compat import BaseOperatorLink, read_xcom

log = logging.getLogger(__name__)

# The key under which Airflow 3 reads this link.
LINK_KEY = "_link_PolytomicExecutionLink"


class PolytomicExecutionLink(BaseOperatorLink):
    """Link to the execution that a task started or waits for.

    The task pushes the link as an XCom as soon as it knows the execution. It is available while the task runs, while
    it is deferred, and after it has succeeded or failed. The connection's ``ui_url`` defines its target.
    """

    name = "Polytomic execution"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002  the signature is Airflow's
        """Return the link that the task has pushed, or an empty string. Reads it from Airflow, and never raises."""
        try:
            link = read_xcom(ti_key, LINK_KEY)
        except Exception as error:  # noqa: BLE001  a missing link must not break Airflow's page
            log.debug("Could not read the link of %s: %s", ti_key, error)
            return ""
        return link if isinstance(link, str) else ""
