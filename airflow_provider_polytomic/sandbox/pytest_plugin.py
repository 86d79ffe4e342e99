"""Pytest fixtures: a sandbox for the tests of your DAGs. Enable them in your ``conftest.py``::

    pytest_plugins = ["airflow_provider_polytomic.sandbox.pytest_plugin"]

A test that uses ``polytomic_sandbox`` runs with a sandbox of its own behind the connection
``polytomic_default``::

    def test_my_dag(polytomic_sandbox):
        my_dag.test()
        assert len(polytomic_sandbox.starts(SALESFORCE_TO_WAREHOUSE)) == 1

Override ``polytomic_sandbox_seed`` or ``polytomic_sandbox_speed`` to change its contents or its speed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .app import Sandbox
from .seed import Seed
from .server import Server


@pytest.fixture
def polytomic_sandbox_seed() -> Seed | dict[str, Any] | str | Path | None:
    """The seed of the sandbox: a file, a ``dict`` or a :class:`Seed`; None is the default seed."""
    return None


@pytest.fixture
def polytomic_sandbox_speed() -> float:
    """How many times faster than in the seed executions run."""
    return 100.0


@pytest.fixture
def polytomic_sandbox(
    polytomic_sandbox_seed: Any, polytomic_sandbox_speed: float, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    """A running sandbox (``.url``, ``.key``, ``.faults``, ``.requests``) and an Airflow connection to it."""
    sandbox = Sandbox(polytomic_sandbox_seed, speed=polytomic_sandbox_speed)
    server = Server(sandbox)
    connection = {"conn_type": "polytomic", "host": server.url, "password": sandbox.key}
    monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
    try:
        yield sandbox
    finally:
        server.close()
