"""Generated requests to every route: the sandbox always responds in the API's format."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from airflow_provider_polytomic.api.plan import Response
from airflow_provider_polytomic.sandbox.app import ROUTES, Sandbox
from airflow_provider_polytomic.sandbox.routes.bulk_schemas import SCHEMA_DEFAULTS
from airflow_provider_polytomic.sandbox.seed import (
    SALESFORCE,
    SALESFORCE_TO_WAREHOUSE,
    WAREHOUSE_TO_SALESFORCE,
    derive_id,
)
from airflow_provider_polytomic.sandbox.world import BULK_DEFAULTS, MODEL_DEFAULTS

from .test_sandbox_api import MODEL_SYNC, SYNC

START = ("test", "resync", "resync_mode", "fetch_mode", "identities", "source_identities")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
REFERENCES = st.sampled_from([SALESFORCE, "account", "replicate", "create", "manual", "daily", "3"])
GOOD_BODIES: list[dict[str, Any]] = [
    {},
    SYNC,
    MODEL_SYNC,
    {"schemas": [{"id": "account", "enabled": True}]},
    {"schedule": {"frequency": "daily", "hour": "3"}},
]
FIELDS = sorted({*SYNC, *MODEL_SYNC, *BULK_DEFAULTS, *MODEL_DEFAULTS, *SCHEMA_DEFAULTS, *START, "schemas", "id"})
NESTED = st.dictionaries(
    st.sampled_from(["id", "frequency", "hour", "connection_id", "source", "fields", "enabled", "model_id"]),
    REFERENCES | ANYTHING,
)
CHANGES = st.dictionaries(st.sampled_from(FIELDS), REFERENCES | NESTED | st.lists(NESTED) | ANYTHING, max_size=2)
BODIES = st.builds(lambda good, change: {**good, **change}, st.sampled_from(GOOD_BODIES), CHANGES)
QUERIES = st.sampled_from(
    ["", "?limit=x", "?limit=-1&page_token=AA", "?after=%00", "?active=", "?all=1&sync_id=", "?type="]
)
IDS = {"sync_id": (SALESFORCE_TO_WAREHOUSE, WAREHOUSE_TO_SALESFORCE), "connection_id": (SALESFORCE,)}


@settings(max_examples=150, deadline=None)
@given(data=st.data(), body=BODIES, query=QUERIES)
def test_any_request_gets_a_response_of_the_api(data: Any, body: dict[str, Any], query: str) -> None:
    """Every route, with any body and query, succeeds or responds with an error in the API's format."""
    sandbox = Sandbox()
    execution = sandbox.start_foreign(data.draw(st.sampled_from(IDS["sync_id"])))
    method, pattern, _ = data.draw(st.sampled_from(ROUTES.routes))
    ids = {
        **IDS,
        "execution_id": (execution.id,),
        "schema_id": ("account",),
        "schedule_id": (derive_id("schedule", SALESFORCE_TO_WAREHOUSE),),
        "log_type": ("errors",),
        "job_type": ("exportlogs",),
    }
    path = pattern.pattern
    for name in pattern.groupindex:
        value = data.draw(st.sampled_from([*ids.get(name, ()), "nothing", "%2e%2e"]))
        path = path.replace(f"(?P<{name}>[^/]+)", value)
    response = sandbox.handle(
        method, path + query, {"authorization": "Bearer sandbox"}, json.dumps(body).encode() if body else b""
    )
    assert isinstance(response, Response)
    assert response.status < 500
    if response.status >= 400:
        assert set(json.loads(response.body)) == {"status", "message", "key", "metadata"}
    # The changed state can still be read.
    one = f"/api/bulk/syncs/{SALESFORCE_TO_WAREHOUSE}"
    for path in ("/api/bulk/syncs", "/api/syncs", f"{one}/schemas", f"{one}/schedules", f"{one}/status", "/api/events"):
        shown = sandbox.handle("GET", path, {"authorization": "Bearer sandbox"})
        assert isinstance(shown, Response)
        assert shown.status in (200, 404)
