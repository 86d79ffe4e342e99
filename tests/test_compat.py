from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import async_to_sync

from airflow_provider_polytomic._airflow import compat


def test_a_question_is_asked_to_its_end_when_the_trigger_is_cancelled() -> None:
    """Who asks the triggerer's supervisor and is cancelled meanwhile leaves no answer behind for somebody else."""

    async def play() -> list[str]:
        asked, answer = asyncio.Event(), asyncio.Event()
        read = []

        async def exchange() -> None:  # as a triggerer before Airflow 3.2 does it: ask, then read
            asked.set()
            await answer.wait()
            read.append("the answer")

        trigger = asyncio.create_task(compat.run_in_thread(async_to_sync(exchange)))
        await asked.wait()
        trigger.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trigger
        answer.set()
        for _ in range(1000):
            if read:
                break
            await asyncio.sleep(0.01)
        return read

    assert asyncio.run(play()) == ["the answer"]
