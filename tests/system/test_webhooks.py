"""The gateway of docs/webhooks.md, as it stands there, between a webhook and a real Airflow."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
import requests

from tests.documents import ROOT, read
from tools.local_airflow import AIRFLOW_2, LOOPBACK, LocalAirflow

pytestmark = [pytest.mark.system, pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 has no DAG of the gateway's asset")]

SECRET = "the-secret-of-the-webhook"
ASSET = "postgres_to_warehouse_loaded"


@pytest.fixture(scope="module")
def gateway(airflow: LocalAirflow) -> Iterator[str]:
    """The URL at which it listens."""
    (block,) = [block for block in read(ROOT / "docs" / "webhooks.md").blocks if block.section == "The gateway"]
    namespace: dict[str, Any] = {"__name__": "gateway"}
    exec(compile(block.code, str(block), "exec"), namespace)
    airflow.wait_dag("run_after_sync")
    with pytest.MonkeyPatch.context() as patch, ThreadingHTTPServer((LOOPBACK, 0), namespace["Gateway"]) as server:
        patch.setenv("POLYTOMIC_WEBHOOK_SECRET", SECRET)
        patch.setenv("AIRFLOW_URL", airflow.url)
        patch.setenv("AIRFLOW_USER", "gateway")
        patch.setenv("AIRFLOW_PASSWORD", "gateway")
        patch.setenv("NO_PROXY", LOOPBACK)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.shutdown()


def post(gateway: str, event: dict[str, Any], secret: str = SECRET) -> int:
    body = json.dumps(event).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return requests.post(gateway, body, headers={"Polytomic-Signature": signature}, timeout=60).status_code


def event(execution_id: str, type_: str = "bulk_sync.completed", sync: str = "Postgres to warehouse") -> dict[str, Any]:
    return {"id": "v1", "type": type_, "event": {"sync_name": sync, "execution_id": execution_id}}


def executions(airflow: LocalAirflow) -> list[str]:
    """What Airflow has been told of the asset."""
    listed = airflow.api("GET", "/assets/events", params={"limit": 100})["asset_events"]
    return [one["extra"]["payload"]["execution_id"] for one in listed if one["name"] == ASSET]


def test_a_signed_event_starts_the_dag(gateway: str, airflow: LocalAirflow) -> None:
    """The event becomes one of the asset, with its data where a watcher's are, and the DAG on the asset runs."""
    assert post(gateway, event("by-webhook")) == 204

    assert executions(airflow).count("by-webhook") == 1
    airflow.until(lambda: any("by-webhook" in told for told in returned(airflow)), "a run with the event's data", 90)


def returned(airflow: LocalAirflow) -> list[list[str]]:
    runs = airflow.api("GET", "/dags/run_after_sync/dagRuns", params={"limit": 100})["dag_runs"]
    done = [run["dag_run_id"] for run in runs if run["state"] == "success"]
    return [airflow.xcom("run_after_sync", run_id, "use_the_data") for run_id in done]


def test_what_is_not_signed_is_refused(gateway: str, airflow: LocalAirflow) -> None:
    """Without the secret nobody tells Airflow anything."""
    assert post(gateway, event("forged"), secret="a guess") == 401
    assert requests.post(gateway, json.dumps(event("forged")), timeout=60).status_code == 401

    assert "forged" not in executions(airflow)


def test_other_events_are_taken_and_dropped(gateway: str, airflow: LocalAirflow) -> None:
    """What no asset stands for is answered well, so that Polytomic does not send it again."""
    assert post(gateway, event("other", "bulk_sync.running")) == 204
    assert post(gateway, event("other", sync="Another sync")) == 204

    assert "other" not in executions(airflow)


def test_an_airflow_that_does_not_answer_is_told_later(
    gateway: str, airflow: LocalAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway's error makes Polytomic send the event again."""
    monkeypatch.setenv("AIRFLOW_URL", f"http://{LOOPBACK}:9")

    assert post(gateway, event("again")) == 502
