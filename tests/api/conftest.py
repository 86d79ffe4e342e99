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


def send_with_requests(settings: Settings, *requests: Request) -> list[SendResult]:
    """Send requests with the transport of workers."""
    transport = requests_transport.Transport(settings)
    try:
        return [transport.send(request) for request in requests]
    finally:
        transport.close()


def send_with_aiohttp(settings: Settings, *requests: Request) -> list[SendResult]:
    """Send requests with the transport of the triggerer."""

    async def send() -> list[SendResult]:
        async with AsyncClient(settings) as client:
            return [await client.send(request) for request in requests]

    return asyncio.run(send())


@pytest.fixture(params=[send_with_requests, send_with_aiohttp], ids=["requests", "aiohttp"])
def send(request: pytest.FixtureRequest) -> Send:
    """Return a function that sends requests with one transport, one after the other: `send(settings, *requests)`."""
    return request.param


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return a certificate authority with a server certificate for the loopback address."""
    return authority(tmp_path_factory.mktemp("authority"))
