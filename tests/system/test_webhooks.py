"""The gateway of docs/webhooks.md between a webhook and a real Airflow."""

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
    """The URL of the gateway."""
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
    """Return the executions in the asset's events."""
    listed = airflow.api("GET", "/assets/events", params={"limit": 100})["asset_events"]
    return [one["extra"]["payload"]["execution_id"] for one in listed if one["name"] == ASSET]


def test_signed_webhook_event_starts_the_dag(gateway: str, airflow: LocalAirflow) -> None:
    """The asset event has the data of a watcher's event, and the DAG on the asset runs."""
    assert post(gateway, event("by-webhook")) == 204

    assert executions(airflow).count("by-webhook") == 1
    airflow.until(lambda: any("by-webhook" in ids for ids in returned(airflow)), "a run with the event's data", 90)


def returned(airflow: LocalAirflow) -> list[list[str]]:
    runs = airflow.api("GET", "/dags/run_after_sync/dagRuns", params={"limit": 100})["dag_runs"]
    done = [run["dag_run_id"] for run in runs if run["state"] == "success"]
    return [airflow.xcom("run_after_sync", run_id, "use_the_data") for run_id in done]


def test_unsigned_webhook_event_is_rejected(gateway: str, airflow: LocalAirflow) -> None:
    """Without the secret no event reaches Airflow."""
    assert post(gateway, event("forged"), secret="a guess") == 401
    assert requests.post(gateway, json.dumps(event("forged")), timeout=60).status_code == 401

    assert "forged" not in executions(airflow)


def test_webhook_event_without_an_asset_is_accepted_and_dropped(gateway: str, airflow: LocalAirflow) -> None:
    """The response is successful, so that Polytomic does not send the event again."""
    assert post(gateway, event("other", "bulk_sync.running")) == 204
    assert post(gateway, event("other", sync="Another sync")) == 204

    assert "other" not in executions(airflow)


def test_webhook_event_gets_an_error_while_airflow_is_down(
    gateway: str, airflow: LocalAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway's error makes Polytomic send the event again."""
    monkeypatch.setenv("AIRFLOW_URL", f"http://{LOOPBACK}:9")

    assert post(gateway, event("again")) == 502
