"""Many triggers in one event loop against one server: what they ask together, and that none harms another."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_polytomic.api.executions import batch_poller
from airflow_provider_polytomic.api.transport import aiohttp_transport
from airflow_provider_polytomic.triggers.execution import PolytomicExecutionTrigger

from .conftest import revive

NUMBER = 30
SUMMARY = "GET /api/bulk/syncs/status"
IDS = [f"b0000000-0000-4000-8000-{n:012}" for n in range(NUMBER)]


def syncs(kind: str) -> dict[str, Any]:
    more = {"schemas": ["one", "two"]} if kind == "bulk" else {}
    return {f"{kind}_syncs": [{"name": f"Sync {n}", "id": IDS[n], "duration": 1e6, **more} for n in range(NUMBER)]}


@pytest.fixture
def polytomic_sandbox_seed() -> dict[str, Any]:
    return syncs("bulk")


class Waiting:
    """A triggerer with a trigger for an execution of each sync."""

    def __init__(self, sandbox: Any, kind: str = "bulk") -> None:
        self.sandbox = sandbox
        self.kind = kind
        self.executions = {sync_id: sandbox.start_foreign(sync_id).id for sync_id in IDS}
        self.events: dict[str, Any] = {}

    def run(self, meanwhile: Callable[[Waiting], Any]) -> Waiting:
        async def main() -> None:
            tasks = [asyncio.ensure_future(self._one(sync_id)) for sync_id in IDS]
            await meanwhile(self)
            await asyncio.gather(*tasks)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert not aiohttp_transport._shared.get(asyncio.get_running_loop())

        asyncio.run(main())
        return self

    async def _one(self, sync_id: str) -> None:
        kept = PolytomicExecutionTrigger(self.kind, sync_id, self.executions[sync_id], poke_interval=0.2)
        async for event in revive(kept).run():
            assert sync_id not in self.events
            self.events[sync_id] = event.payload

    async def until(self, what: Callable[[], bool]) -> None:
        while not what():  # noqa: ASYNC110  the sandbox has no event to wait for
            await asyncio.sleep(0.01)

    def finish(self, sync_ids: list[str], status: str = "completed") -> None:
        for sync_id in sync_ids:
            self.sandbox.finish(sync_id, self.executions[sync_id], status)

    def asked(self) -> Counter[str]:
        return Counter(f"{request.method} {request.path}" for request in self.sandbox.requests)

    def looks(self) -> dict[str, int]:
        """How often each trigger looked for itself."""
        asked = self.asked()
        bulk = "bulk/" if self.kind == "bulk" else ""
        return {
            sync_id: asked[f"GET /api/{bulk}syncs/{sync_id}/executions/{execution_id}"]
            for sync_id, execution_id in self.executions.items()
        }

    @property
    def statuses(self) -> dict[str, str]:
        return {sync_id: event.get("status") or event["error"] for sync_id, event in self.events.items()}


async def end_some_then_all(waiting: Waiting) -> None:
    """Some end, well and badly; and the others when these have been found."""
    await waiting.until(lambda: waiting.asked()[SUMMARY] >= 3 or min(waiting.looks().values()) >= 2)
    waiting.finish(IDS[:5], "failed")
    await waiting.until(lambda: len(waiting.events) == 5)
    waiting.finish(IDS[5:])


ENDS = dict.fromkeys(IDS[:5], "failed") | dict.fromkeys(IDS[5:], "completed")


def test_an_end_costs_one_look(polytomic_sandbox: Any) -> None:
    """While all run there is one request for all of them; each looks for itself once, at its end."""
    waiting = Waiting(polytomic_sandbox).run(end_some_then_all)

    assert waiting.statuses == ENDS
    assert waiting.looks() == dict.fromkeys(IDS, 1)
    assert waiting.asked()[SUMMARY] >= 3


TROUBLE: dict[str, Callable[[Any], Any]] = {
    "missing": lambda faults: faults.status(404, SUMMARY, times=None),
    "broken": lambda faults: faults.status(500, SUMMARY, times=None),
    "a page": lambda faults: faults.garbage("html", SUMMARY, times=None),
    "cut": lambda faults: faults.garbage("cut", SUMMARY, times=None),
    "dropped": lambda faults: faults.drop_after(SUMMARY, times=None),
    "slow": lambda faults: faults.delay(2, SUMMARY, times=None),
    "empty": lambda faults: faults.status(200, SUMMARY, times=None, body={"data": None}),
    "of other executions": lambda faults: faults.status(
        200,
        SUMMARY,
        times=None,
        body={
            "data": [{"sync_id": sync_id, "schemas": [{"execution_id": "x", "status": "running"}]} for sync_id in IDS]
        },
    ),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_with_the_summary_is_nobodys(
    polytomic_sandbox: Any, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with the common question, each trigger finds the end of its own execution."""
    monkeypatch.setattr(batch_poller, "REQUEST_TIMEOUT", 0.3)
    TROUBLE[trouble](polytomic_sandbox.faults)

    async def end_when_each_has_polled(waiting: Waiting) -> None:
        await waiting.until(lambda: min(waiting.looks().values()) >= 2)
        await end_some_then_all(waiting)

    assert Waiting(polytomic_sandbox).run(end_when_each_has_polled).statuses == ENDS


def test_a_stuck_summary_is_not_believed_for_ever(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary that says for ever that all run delays an end, and hides none."""
    monkeypatch.setattr(batch_poller, "DIRECT_POLL_EVERY", (2, 4))
    waiting = Waiting(polytomic_sandbox)
    rows = [
        {"sync_id": sync_id, "schemas": [{"execution_id": execution_id, "status": "running"}]}
        for sync_id, execution_id in waiting.executions.items()
    ]
    polytomic_sandbox.faults.status(200, SUMMARY, times=None, body={"data": rows})

    assert waiting.run(end_some_then_all).statuses == ENDS


def test_a_trigger_that_fails_harms_no_other(polytomic_sandbox: Any) -> None:
    """One execution vanishes: its trigger says so, and the others wait on for theirs."""

    async def one_vanishes(waiting: Waiting) -> None:
        await waiting.until(lambda: waiting.asked()[SUMMARY] >= 2)
        polytomic_sandbox.faults.vanish(waiting.executions[IDS[0]])
        await waiting.until(lambda: bool(waiting.events))
        waiting.finish(IDS[1:])

    waiting = Waiting(polytomic_sandbox).run(one_vanishes)

    assert waiting.statuses == {**dict.fromkeys(IDS, "completed"), IDS[0]: "PolytomicNotFoundError"}


class TestModelSyncs:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return syncs("model")

    def test_they_ask_each_for_itself(self, polytomic_sandbox: Any) -> None:
        """The API has no summary of model syncs, and none is asked for."""
        waiting = Waiting(polytomic_sandbox, "model").run(end_some_then_all)

        assert waiting.statuses == ENDS
        assert waiting.asked()[SUMMARY] == 0


def test_a_rotated_key_is_read_again(polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the key is refused, each trigger reads its connection again, and they ask together as before."""

    async def rotate(waiting: Waiting) -> None:
        await waiting.until(lambda: waiting.asked()[SUMMARY] >= 2)
        connection = json.loads(os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"])
        connection["password"] = "another-key-for-tests"
        polytomic_sandbox.rotate_key(connection["password"])
        monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
        seen = waiting.asked()[SUMMARY]
        await waiting.until(lambda: waiting.asked()[SUMMARY] >= seen + 4)
        waiting.finish(IDS)

    assert Waiting(polytomic_sandbox).run(rotate).statuses == dict.fromkeys(IDS, "completed")
