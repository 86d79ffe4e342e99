"""The waiters: triggers of this and other providers, and minimal implementations, called floors.

Each kind is an async context manager around the measurement. It gives a function that makes the waiter of a number:
something with ``run()``, an async generator of one event, as Airflow's triggers are. What a kind needs is imported
when it is used, because each has an environment of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from .work import WARM_UP, execution_id, sync_id

CONNECTION = "benchmark"
CONNECTIONS = 10  # of the floors
BATCH = 100  # syncs in one request
SUCCESS = {"status": "success"}


@dataclass(frozen=True)
class Where:
    """Where the server is, and how to wait for it."""

    port: int
    bundle: str  # file of certificates to trust
    interval: float
    intervals: int
    schemas: int

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"


MakeWaiter = Callable[[int], Any]


def _connect(**fields: Any) -> None:
    os.environ[f"AIRFLOW_CONN_{CONNECTION.upper()}"] = json.dumps(fields)


# --- this provider


def _provider(sync_kind: str) -> Callable[[Where], AbstractAsyncContextManager[MakeWaiter]]:
    @asynccontextmanager
    async def provider(where: Where) -> AsyncIterator[MakeWaiter]:
        extra = {"verify": where.bundle}
        _connect(conn_type="polytomic", host=f"https://{where.host}", password="key", extra=extra)
        from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

        deferred_at = time.time()

        def waiter(number: int) -> Any:
            return PolytomicExecutionTrigger(
                kind=sync_kind,
                sync_id=sync_id(number),
                execution_id=execution_id(number),
                polytomic_conn_id=CONNECTION,
                poke_interval=where.interval,
                waiting_since=deferred_at,
                # Without a deadline the warm-up would sleep some seconds before its poll.
                deadline=time.time() + 0.2 if number == WARM_UP else None,
                schema_count=where.schemas,  # as an operator has seen
            )

        yield waiter

    return provider


# --- other providers


def connect_airbyte(host: str) -> None:
    _connect(
        conn_type="airbyte",
        host=f"https://{host}/v1",
        login="client",
        password="secret",
        schema="v1/applications/token",
    )


def connect_dbt_cloud(host: str) -> None:
    _connect(conn_type="dbt_cloud", host=host, login="1", password="token")


def connect_fivetran(host: str) -> None:
    _connect(conn_type="fivetran", login="key", password="secret")
    from fivetran_provider_async.hooks import FivetranHook

    FivetranHook.api_host = host  # there is no setting for it


@asynccontextmanager
async def airbyte(where: Where) -> AsyncIterator[MakeWaiter]:
    connect_airbyte(where.host)
    from airflow.providers.airbyte.triggers.airbyte import AirbyteSyncTrigger

    yield lambda number: AirbyteSyncTrigger(
        job_id=number, conn_id=CONNECTION, end_time=time.time() + 86400, poll_interval=where.interval
    )


@asynccontextmanager
async def dbt_cloud(where: Where) -> AsyncIterator[MakeWaiter]:
    connect_dbt_cloud(where.host)
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    yield lambda number: DbtCloudRunJobTrigger(
        conn_id=CONNECTION, run_id=number, end_time=time.time() + 86400, poll_interval=where.interval, account_id=1
    )


@asynccontextmanager
async def fivetran(where: Where) -> AsyncIterator[MakeWaiter]:
    connect_fivetran(where.host)
    import pendulum
    from fivetran_provider_async.triggers import FivetranTrigger

    before = pendulum.datetime(2026, 11, 1)
    yield lambda number: FivetranTrigger(
        task_id="sync",
        connector_id=f"connector_{number}",
        fivetran_conn_id=CONNECTION,
        previous_completed_at=before,
        poke_interval=where.interval,
    )


# --- floors: without retries, validation, errors, deadlines and logs


class _Waiter:
    """What a floor's function does, in the form of a trigger."""

    def __init__(self, wait: Callable[[int], Any], number: int) -> None:
        self._wait, self._number = wait, number

    async def run(self) -> AsyncIterator[dict[str, str]]:
        await self._wait(self._number)
        yield SUCCESS


@asynccontextmanager
async def _session(where: Where) -> AsyncIterator[Any]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=ssl.create_default_context(cafile=where.bundle))
    async with aiohttp.ClientSession(f"https://{where.host}", connector=connector) as session:
        yield session


@asynccontextmanager
async def one_by_one(where: Where) -> AsyncIterator[MakeWaiter]:
    """One session of ten connections for all; one GET and ``json.loads`` per poll."""
    async with _session(where) as session:

        async def wait(number: int) -> None:
            await asyncio.sleep(random.random() * where.interval)  # spreads the polls over the interval
            while True:
                path = f"/api/bulk/syncs/{sync_id(number)}/executions/{execution_id(number)}"
                async with session.get(path) as response:
                    if json.loads(await response.read())["data"]["status"] == "completed":
                        return
                await asyncio.sleep(where.interval)

        yield lambda number: _Waiter(wait, number)


@asynccontextmanager
async def batched(where: Where) -> AsyncIterator[MakeWaiter]:
    """One batch status request for a hundred waiters per interval, and no other polls."""
    async with _session(where) as session:
        batches: dict[int, dict[str, asyncio.Future[None]]] = {}
        requests = set()

        async def poll(waiting: dict[str, asyncio.Future[None]]) -> None:
            while waiting:
                await asyncio.sleep(where.interval)
                params = [("sync_id", name) for name in waiting]
                async with session.get("/api/bulk/syncs/status", params=params) as response:
                    for row in json.loads(await response.read())["data"]:
                        if row["status"] == "completed":
                            waiting.pop(row["sync_id"]).set_result(None)

        async def wait(number: int) -> None:
            waiting = batches.setdefault(number // BATCH, {})
            ended = waiting[sync_id(number)] = asyncio.get_running_loop().create_future()
            if len(waiting) == 1:
                requests.add(asyncio.create_task(poll(waiting)))
            await ended

        yield lambda number: _Waiter(wait, number)
        await asyncio.gather(*requests)


@asynccontextmanager
async def null(where: Where) -> AsyncIterator[MakeWaiter]:
    """The harness alone: waiters without requests."""

    async def wait(number: int) -> None:
        for _ in range(0 if number == WARM_UP else where.intervals + 1):
            await asyncio.sleep(where.interval)

    yield lambda number: _Waiter(wait, number)


@dataclass(frozen=True)
class Kind:
    label: str
    around: Callable[[Where], AbstractAsyncContextManager[MakeWaiter]]
    venv: str = "provider"
    summary: bool = True  # whether its server has a batch status

    @property
    def is_peer(self) -> bool:
        return self.venv != "provider"


KINDS = {
    "provider": Kind("this provider, bulk syncs", _provider("bulk")),
    "provider-unbatched": Kind("this provider, bulk syncs, no batch status", _provider("bulk"), summary=False),
    "provider-model": Kind("this provider, model syncs", _provider("model")),
    "airbyte": Kind("Airbyte's provider", airbyte, "airbyte"),
    "dbt-cloud": Kind("dbt Cloud's provider", dbt_cloud, "dbt-cloud"),
    "fivetran": Kind("Fivetran's provider", fivetran, "fivetran"),
    "A10": Kind("floor: aiohttp, ten connections, a GET each", one_by_one),
    "C": Kind("floor: aiohttp, one GET for a hundred", batched),
    "null": Kind("the harness alone", null),
}
