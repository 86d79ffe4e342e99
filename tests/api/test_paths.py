"""Coverage of the API: a table of endpoints, compared with the functions and with the vendor's SDK."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from polytomic import Polytomic

from airflow_provider_polytomic.api.call import Call
from airflow_provider_polytomic.api.endpoints import (
    bulk_syncs,
    connections,
    events,
    identity,
    jobs,
    model_syncs,
    schedules,
)
from airflow_provider_polytomic.api.pagination import ListCall

PATHS: dict[str, Callable[..., Call[Any] | ListCall[Any]]] = {
    "GET /api/me": identity.get,
    "GET /api/connections": connections.list_,
    "GET /api/connections/{id}": connections.get,
    "POST /api/connections/{id}/schemas/refresh": connections.refresh_schemas,
    "GET /api/connections/{id}/schemas/status": connections.schema_cache,
    "GET /api/connections/{id}/bulksync/source": bulk_syncs.source,
    "GET /api/connections/{id}/bulksync/target": bulk_syncs.destination,
    "GET /api/connections/{id}/modelsync/source": model_syncs.source,
    "GET /api/connections/{id}/modelsync/source/fields": model_syncs.source_fields,
    "GET /api/connections/{id}/modelsync/targetobjects": model_syncs.targets,
    "GET /api/connections/{id}/modelsync/target/fields": model_syncs.target_fields,
    "GET /api/events": events.list_,
    "GET /api/events_types": events.types,
    "GET /api/jobs/{type}/{job_id}": jobs.get,
    "GET /api/bulk/syncs": bulk_syncs.list_,
    "POST /api/bulk/syncs": bulk_syncs.create,
    "GET /api/bulk/syncs/status": bulk_syncs.status_of_many,
    "GET /api/bulk/syncs/{id}": bulk_syncs.get,
    "PUT /api/bulk/syncs/{id}": bulk_syncs.replace,
    "DELETE /api/bulk/syncs/{id}": bulk_syncs.delete,
    "POST /api/bulk/syncs/{id}/activate": bulk_syncs.activate,
    "POST /api/bulk/syncs/{id}/cancel": bulk_syncs.cancel_running,
    "GET /api/bulk/syncs/{id}/status": bulk_syncs.status,
    "POST /api/bulk/syncs/{id}/executions": bulk_syncs.start,
    "GET /api/bulk/syncs/{id}/executions": bulk_syncs.executions,
    "GET /api/bulk/syncs/{id}/executions/{exec_id}": bulk_syncs.execution,
    "POST /api/bulk/syncs/{id}/executions/{exec_id}/cancel": bulk_syncs.cancel,
    "GET /api/bulk/syncs/{id}/executions/{exec_id}/consolelog": bulk_syncs.console_log,
    "GET /api/bulk/syncs/{id}/executions/{exec_id}/schemas/{schema_id}/consolelog": bulk_syncs.schema_console_log,
    "GET /api/bulk/syncs/{id}/executions/{exec_id}/logs": bulk_syncs.log_files,
    "POST /api/bulk/syncs/{id}/executions/{exec_id}/logs/export": bulk_syncs.export_logs,
    "GET /api/bulk/syncs/{id}/schemas": bulk_syncs.schemas,
    "PATCH /api/bulk/syncs/{id}/schemas": bulk_syncs.patch_schemas,
    "GET /api/bulk/syncs/{id}/schemas/{schema_id}": bulk_syncs.schema,
    "PUT /api/bulk/syncs/{id}/schemas/{schema_id}": bulk_syncs.replace_schema,
    "POST /api/bulk/syncs/{id}/schemas/{schema_id}/cancel": bulk_syncs.cancel_schema,
    "GET /api/bulk/syncs/{id}/schedules": schedules.list_,
    "POST /api/bulk/syncs/{id}/schedules": schedules.create,
    "GET /api/bulk/syncs/{id}/schedules/{schedule_id}": schedules.get,
    "PUT /api/bulk/syncs/{id}/schedules/{schedule_id}": schedules.replace,
    "DELETE /api/bulk/syncs/{id}/schedules/{schedule_id}": schedules.delete,
    "GET /api/syncs": model_syncs.list_,
    "POST /api/syncs": model_syncs.create,
    "GET /api/syncs/schedules": model_syncs.schedule_options,
    "GET /api/syncs/{id}": model_syncs.get,
    "PUT /api/syncs/{id}": model_syncs.replace,
    "DELETE /api/syncs/{id}": model_syncs.delete,
    "POST /api/syncs/{id}/activate": model_syncs.activate,
    "POST /api/syncs/{id}/cancel": model_syncs.cancel_running,
    "GET /api/syncs/{id}/status": model_syncs.status,
    "POST /api/syncs/{id}/executions": model_syncs.start,
    "GET /api/syncs/{id}/executions": model_syncs.executions,
    "GET /api/syncs/{id}/executions/{exec_id}": model_syncs.execution,
    "POST /api/syncs/{id}/executions/{exec_id}/cancel": model_syncs.cancel,
    "GET /api/syncs/{id}/executions/{exec_id}/consolelog": model_syncs.console_log,
    "GET /api/syncs/{id}/executions/{exec_id}/logs": model_syncs.log_index,
    "GET /api/syncs/{id}/executions/{exec_id}/{type}": model_syncs.log_files,
}
# Requests of the SDK's clients for the same subjects that have no function, with the reason.
LEFT_OUT = {
    "GET /api/connections/{id}/ingest/consolelog": "log of ingested data, outside executions",
    "GET /api/connections/{id}/modelsync/targetobjects/properties/{property}": "creates objects in a target",
    "GET /api/syncs/{id}/executions/{exec_id}/{type}/{file}": "redirects to what the URLs in log_files lead to",
    "GET /api/bulk/syncs/{id}/error-handling": "set up in Polytomic",
    "PUT /api/bulk/syncs/{id}/error-handling": "set up in Polytomic",
    "GET /api/syncs/{id}/error-handling": "set up in Polytomic",
    "PUT /api/syncs/{id}/error-handling": "set up in Polytomic",
}
MODULES = (bulk_syncs, connections, events, identity, jobs, model_syncs, schedules)


def fill_ids(path: str) -> str:
    """Replace each placeholder of a path by the id `x`."""
    return re.sub(r"\{\w+\}", "x", path)


def required_arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a value for each required parameter: the id `x` if it is part of the path, otherwise an empty value."""
    required = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is inspect.Parameter.empty
    ]
    in_path = ("id", "type", "property", "filename")
    special: dict[str, Any] = {"schemas": []}
    return {
        parameter.name: "x" if parameter.name.split("_")[-1] in in_path else special.get(parameter.name, {})
        for parameter in required
    }


@pytest.mark.parametrize("path", PATHS)
def test_endpoint_function_builds_the_method_and_path_of_the_table(path: str) -> None:
    """Ids are filled into the path."""
    request = PATHS[path](**required_arguments(PATHS[path])).request

    assert f"{request.method} {request.path}" == fill_ids(path)


def test_path_table_contains_each_endpoint_function_once() -> None:
    """No function is missing, and none is listed twice."""
    functions = [
        function
        for module in MODULES
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
    ]

    assert sorted(map(str, functions)) == sorted(map(str, PATHS.values()))


def list_sdk_requests() -> Iterator[str]:
    """Yield method and path of each request that the methods of the SDK send."""
    requests: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(f"{request.method} {request.url.path}")
        return httpx.Response(404, json={})

    with httpx.Client(transport=httpx.MockTransport(respond)) as client:
        sdk = Polytomic(base_url="http://sdk", token="t", httpx_client=client, max_retries=0)
        for method in list_sdk_methods(sdk):
            requests.clear()
            with pytest.raises(Exception, match="404"):
                list(
                    method(**required_arguments(method)) or ()
                )  # a download sends its request when the first part is read
            yield from requests


def list_sdk_methods(sdk: Polytomic) -> Iterator[Callable[..., Any]]:
    """Yield the methods of the SDK for the subjects of the table."""
    clients: list[Any] = [sdk.jobs, sdk.events, sdk.identity]
    for kind in (sdk.bulk_sync, sdk.model_sync):
        properties = [name for name, item in vars(type(kind)).items() if isinstance(item, property)]
        clients += [kind, *(getattr(kind, name) for name in properties if name != "with_raw_response")]
    for client in clients:
        for name, _ in inspect.getmembers(type(client), inspect.isfunction):
            if not name.startswith("_"):
                yield getattr(client, name)
    yield from (sdk.connections.list, sdk.connections.get, sdk.schemas.refresh, sdk.schemas.get_status)


def test_path_table_equals_the_requests_of_the_sdk() -> None:
    """Each request of the SDK for these subjects is in the table, or left out for a stated reason."""
    assert sorted(list_sdk_requests()) == sorted(map(fill_ids, [*PATHS, *LEFT_OUT]))
