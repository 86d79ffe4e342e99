"""Fixtures that run a test with both transports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from airflow_provider_polytomic.api.client import AsyncClient
from airflow_provider_polytomic.api.plan import Request, SendResult
from airflow_provider_polytomic.api.settings import Settings
from airflow_provider_polytomic.api.transport import requests_transport

from .servers import Authority, authority

Send = Callable[..., list[SendResult]]


def by_requests(settings: Settings, *requests: Request) -> list[SendResult]:
    transport = requests_transport.Transport(settings)
    try:
        return [transport.send(request) for request in requests]
    finally:
        transport.close()


def by_aiohttp(settings: Settings, *requests: Request) -> list[SendResult]:
    async def send() -> list[SendResult]:
        async with AsyncClient(settings) as client:
            return [await client.send(request) for request in requests]

    return asyncio.run(send())


@pytest.fixture(params=[by_requests, by_aiohttp], ids=["requests", "aiohttp"])
def send(request: pytest.FixtureRequest) -> Send:
    """Send requests with a transport of its own, one after the other: ``send(settings, *requests)``."""
    return request.param


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("authority"))
