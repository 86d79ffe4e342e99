"""Batch status polling by many triggers in one event loop, and each trigger's direct polls beside it."""

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

from .conftest import recreate_trigger

NUMBER = 30
BATCH_STATUS = "GET /api/bulk/syncs/status"
IDS = [f"b0000000-0000-4000-8000-{n:012}" for n in range(NUMBER)]


def syncs(kind: str) -> dict[str, Any]:
    more = {"schemas": ["one", "two"]} if kind == "bulk" else {}
    return {f"{kind}_syncs": [{"name": f"Sync {n}", "id": IDS[n], "duration": 1e6, **more} for n in range(NUMBER)]}


@pytest.fixture
def polytomic_sandbox_seed() -> dict[str, Any]:
    return syncs("bulk")


class Triggers:
    """One trigger for an execution of each sync, all in one event loop."""

    def __init__(self, sandbox: Any, kind: str = "bulk") -> None:
        self.sandbox = sandbox
        self.kind = kind
        self.executions = {sync_id: sandbox.start_foreign(sync_id).id for sync_id in IDS}
        self.events: dict[str, Any] = {}

    def run(self, meanwhile: Callable[[Triggers], Any]) -> Triggers:
        async def main() -> None:
            tasks = [asyncio.ensure_future(self._one(sync_id)) for sync_id in IDS]
            await meanwhile(self)
            await asyncio.gather(*tasks)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert not aiohttp_transport._shared.get(asyncio.get_running_loop())

        asyncio.run(main())
        return self

    async def _one(self, sync_id: str) -> None:
        trigger = PolytomicExecutionTrigger(self.kind, sync_id, self.executions[sync_id], poke_interval=0.2)
        async for event in recreate_trigger(trigger).run():
            assert sync_id not in self.events
            self.events[sync_id] = event.payload

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  the sandbox has no event to wait for
            await asyncio.sleep(0.01)

    def finish(self, sync_ids: list[str], status: str = "completed") -> None:
        for sync_id in sync_ids:
            self.sandbox.finish(sync_id, self.executions[sync_id], status)

    def requests(self) -> Counter[str]:
        return Counter(f"{request.method} {request.path}" for request in self.sandbox.requests)

    def direct_polls(self) -> dict[str, int]:
        """The number of direct polls by each trigger."""
        requests = self.requests()
        bulk = "bulk/" if self.kind == "bulk" else ""
        return {
            sync_id: requests[f"GET /api/{bulk}syncs/{sync_id}/executions/{execution_id}"]
            for sync_id, execution_id in self.executions.items()
        }

    @property
    def statuses(self) -> dict[str, str]:
        return {
            sync_id: (event["execution"] or {}).get("status") or event["error_type"]
            for sync_id, event in self.events.items()
        }


async def finish_in_two_groups(triggers: Triggers) -> None:
    """Finish some executions as failed, and the others once these have been reported."""
    await triggers.until(lambda: triggers.requests()[BATCH_STATUS] >= 3 or min(triggers.direct_polls().values()) >= 2)
    triggers.finish(IDS[:5], "failed")
    await triggers.until(lambda: len(triggers.events) == 5)
    triggers.finish(IDS[5:])


ENDS = dict.fromkeys(IDS[:5], "failed") | dict.fromkeys(IDS[5:], "completed")


def test_trigger_polls_directly_only_at_the_end_of_its_execution(polytomic_sandbox: Any) -> None:
    """While all executions run, one batch request covers all of them. Each trigger polls once, at the end."""
    triggers = Triggers(polytomic_sandbox).run(finish_in_two_groups)

    assert triggers.statuses == ENDS
    assert triggers.direct_polls() == dict.fromkeys(IDS, 1)
    assert triggers.requests()[BATCH_STATUS] >= 3


FAULTS: dict[str, Callable[[Any], Any]] = {
    "missing": lambda faults: faults.status(404, BATCH_STATUS, times=None),
    "broken": lambda faults: faults.status(500, BATCH_STATUS, times=None),
    "html page": lambda faults: faults.garbage("html", BATCH_STATUS, times=None),
    "cut": lambda faults: faults.garbage("cut", BATCH_STATUS, times=None),
    "dropped": lambda faults: faults.drop_after(BATCH_STATUS, times=None),
    "slow": lambda faults: faults.delay(2, BATCH_STATUS, times=None),
    "empty": lambda faults: faults.status(200, BATCH_STATUS, times=None, body={"data": None}),
    "other executions": lambda faults: faults.status(
        200,
        BATCH_STATUS,
        times=None,
        body={
            "data": [{"sync_id": sync_id, "schemas": [{"execution_id": "x", "status": "running"}]} for sync_id in IDS]
        },
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_trigger_reports_its_execution_when_batch_polls_fail(
    polytomic_sandbox: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trigger finds the end of its own execution, whatever is wrong with the batch response."""
    monkeypatch.setattr(batch_poller, "BATCH_POLL_TIMEOUT", 0.3)
    FAULTS[fault](polytomic_sandbox.faults)

    async def finish_after_direct_polls(triggers: Triggers) -> None:
        await triggers.until(lambda: min(triggers.direct_polls().values()) >= 2)
        await finish_in_two_groups(triggers)

    assert Triggers(polytomic_sandbox).run(finish_after_direct_polls).statuses == ENDS


def test_trigger_reports_its_execution_when_the_batch_response_is_stale(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch response that never stops listing the executions as running only delays the end."""
    monkeypatch.setattr(batch_poller, "DIRECT_POLL_EVERY", (2, 4))
    triggers = Triggers(polytomic_sandbox)
    rows = [
        {"sync_id": sync_id, "schemas": [{"execution_id": execution_id, "status": "running"}]}
        for sync_id, execution_id in triggers.executions.items()
    ]
    polytomic_sandbox.faults.status(200, BATCH_STATUS, times=None, body={"data": rows})

    assert triggers.run(finish_in_two_groups).statuses == ENDS


def test_trigger_failure_does_not_affect_other_triggers(polytomic_sandbox: Any) -> None:
    """One execution vanishes: its trigger reports that, and the others keep triggers for theirs."""

    async def lose_one_execution(triggers: Triggers) -> None:
        await triggers.until(lambda: triggers.requests()[BATCH_STATUS] >= 2)
        polytomic_sandbox.faults.vanish(triggers.executions[IDS[0]])
        await triggers.until(lambda: bool(triggers.events))
        triggers.finish(IDS[1:])

    triggers = Triggers(polytomic_sandbox).run(lose_one_execution)

    assert triggers.statuses == {**dict.fromkeys(IDS, "completed"), IDS[0]: "PolytomicNotFoundError"}


class TestModelSyncs:
    @pytest.fixture
    def polytomic_sandbox_seed(self) -> dict[str, Any]:
        return syncs("model")

    def test_model_sync_trigger_polls_directly(self, polytomic_sandbox: Any) -> None:
        """The API has no batch status of model syncs, and none is requested."""
        triggers = Triggers(polytomic_sandbox, "model").run(finish_in_two_groups)

        assert triggers.statuses == ENDS
        assert triggers.requests()[BATCH_STATUS] == 0


def test_trigger_reloads_the_connection_when_its_key_was_rotated(
    polytomic_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the key is rejected, each trigger reads its connection again, and batch polling continues."""

    async def rotate(triggers: Triggers) -> None:
        await triggers.until(lambda: triggers.requests()[BATCH_STATUS] >= 2)
        connection = json.loads(os.environ["AIRFLOW_CONN_POLYTOMIC_DEFAULT"])
        connection["password"] = "another-key-for-tests"
        polytomic_sandbox.rotate_key(connection["password"])
        monkeypatch.setenv("AIRFLOW_CONN_POLYTOMIC_DEFAULT", json.dumps(connection))
        seen = triggers.requests()[BATCH_STATUS]
        await triggers.until(lambda: triggers.requests()[BATCH_STATUS] >= seen + 4)
        triggers.finish(IDS)

    assert Triggers(polytomic_sandbox).run(rotate).statuses == dict.fromkeys(IDS, "completed")
