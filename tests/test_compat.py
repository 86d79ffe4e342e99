from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import async_to_sync

from airflow_provider_polytomic._airflow import compat


def test_request_to_the_supervisor_completes_when_the_trigger_is_canceled() -> None:
    """A canceled request to the triggerer's supervisor leaves no response behind for another task."""

    async def cancel_during_request() -> list[str]:
        sent, response = asyncio.Event(), asyncio.Event()
        read = []

        async def exchange() -> None:  # as in a triggerer before Airflow 3.2: send, then read
            sent.set()
            await response.wait()
            read.append("the response")

        trigger = asyncio.create_task(compat.run_in_thread(async_to_sync(exchange)))
        await sent.wait()
        trigger.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trigger
        response.set()
        for _ in range(1000):
            if read:
                break
            await asyncio.sleep(0.01)
        return read

    assert asyncio.run(cancel_during_request()) == ["the response"]
