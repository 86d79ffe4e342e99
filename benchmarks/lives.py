"""Part ``lives``: what remains after many triggers have ended.

They run in waves. The work of a trigger has ended before its first poll, and one of ten triggers is canceled while it
waits.
"""

from __future__ import annotations

import asyncio
import gc
import os
from typing import TYPE_CHECKING, Any

from . import probe
from .waiters import KINDS, MakeWaiter, Where
from .waiting import SCHEMAS, event_of
from .work import WARM_UP

if TYPE_CHECKING:
    from .harness import Bench

CANCELED = 10  # one of so many triggers is canceled


async def wave(make: MakeWaiter, numbers: range) -> None:
    tasks = [asyncio.create_task(event_of(make(number))) for number in numbers]
    await asyncio.sleep(1)
    for task in tasks[::CANCELED]:
        task.cancel()
    for number, end in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
        if isinstance(end, BaseException) and (number % CANCELED or not isinstance(end, asyncio.CancelledError)):
            raise end


async def count_resources() -> dict[str, int]:
    await asyncio.sleep(0.5)  # until closed connections are removed
    gc.collect()
    import aiohttp

    there = gc.get_objects()
    return {
        "objects": len(there),
        "sessions": sum(isinstance(this, aiohttp.ClientSession) for this in there),
        "tasks": len(asyncio.all_tasks()),
        "files": len(os.listdir("/proc/self/fd")),
        "memory": probe.memory(),
    }


async def main(spec: dict[str, Any]) -> dict[str, Any]:
    where = Where(spec["port"], spec["bundle"], spec["interval"], intervals=1, schemas=SCHEMAS)
    async with KINDS[spec["kind"]].around(where) as make:
        await event_of(make(WARM_UP))
        seen = []
        for begin in range(0, spec["lives"], spec["at_once"]):
            await wave(make, range(begin, begin + spec["at_once"]))
            seen.append(await count_resources())
    return {"waves": seen}


# --- in the process that has it measured


def measure(bench: Bench, lives: int, at_once: int) -> dict[str, Any]:
    with bench.serving(waiters=lives, ended=True) as serving:
        spec = {"kind": "provider", "interval": 1.0, "lives": lives, "at_once": at_once}
        result = bench.measure("lives", {**spec, "port": serving.port, "bundle": str(bench.bundle)})
    return figures(spec, result, serving.report)


def figures(spec: dict[str, Any], result: dict[str, Any], server: dict[str, Any]) -> dict[str, Any]:
    """What is left. Memory and objects are compared with what there was after the first wave."""
    first, last = result["waves"][0], result["waves"][-1]
    lives = spec["lives"] - spec["at_once"]
    return {
        "lives": spec["lives"],
        "left_sessions": last["sessions"],
        "left_tasks": last["tasks"] - 1,  # the one that counts
        "left_files": last["files"] - first["files"],
        "left_connections": server["left_connections"],
        "connections": server["connections"],
        "most_connections": server["most_connections"],
        "objects_per_life": (last["objects"] - first["objects"]) / lives if lives else 0,
        "bytes_per_life": (last["memory"] - first["memory"]) / lives if lives else 0,
    }


if __name__ == "__main__":
    probe.report(asyncio.run(main(probe.begin())))
