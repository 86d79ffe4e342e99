"""The provider's metadata for Airflow, and nothing else: this runs in every Airflow process."""

from __future__ import annotations

from typing import Any

from airflow_provider_polytomic import __version__


def get_provider_info() -> dict[str, Any]:
    """What Airflow shows of this provider: its connection type and the fields of its form."""
    return {
        "package-name": "airflow-provider-polytomic",
        "name": "Polytomic",
        "description": "Start Polytomic syncs exactly once, wait for them deferred, and go on.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "Polytomic",
                "external-doc-url": "https://docs.polytomic.com/",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": "Polytomic", "python-modules": ["airflow_provider_polytomic.hooks.polytomic"]}],
        "operators": [
            {
                "integration-name": "Polytomic",
                "python-modules": [
                    "airflow_provider_polytomic.operators.bulk_sync",
                    "airflow_provider_polytomic.operators.model_sync",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Polytomic",
                "python-modules": [
                    "airflow_provider_polytomic.sensors.bulk_sync",
                    "airflow_provider_polytomic.sensors.model_sync",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": "Polytomic",
                "python-modules": [
                    "airflow_provider_polytomic.triggers.events",
                    "airflow_provider_polytomic.triggers.execution",
                ],
            }
        ],
        "extra-links": ["airflow_provider_polytomic.links.PolytomicExecutionLink"],  # needed by Airflow 2 only
        "connection-types": [
            {
                "connection-type": "polytomic",
                "hook-class-name": "airflow_provider_polytomic.hooks.polytomic.PolytomicHook",
                "hook-name": "Polytomic",
                "ui-field-behaviour": UI_FIELDS,
                "conn-fields": {
                    name: {
                        "label": field["label"],
                        "description": field["description"],
                        "schema": field["schema"],
                    }
                    for name, field in EXTRA_FIELDS.items()
                },
            }
        ],
    }


# The form's standard fields: which are hidden, how the others are called. The port is shown, although the base URL may
# hold it: Airflow 3.3.2's Test button refuses a stored connection whose port is empty.
UI_FIELDS: dict[str, Any] = {
    "hidden-fields": ["schema", "extra"],
    "relabeling": {
        "password": "API key",
        "host": "Base URL",
        "login": "Organization id",
        "port": "Port",
    },
    "placeholders": {
        "password": "a user's key; with an organization id, a partner or deployment key",
        "host": "https://app.polytomic.com",
        "login": "only for a partner or deployment key: the organization it acts for",
        "port": "443, or as in the base URL",
    },
}

# What the connection keeps in `extra`, with its own field in the form.
EXTRA_FIELDS: dict[str, dict[str, Any]] = {
    "api_version": {
        "label": "API version",
        "description": "The date of the API version to speak. Default: 2025-09-18",
        "placeholder": "2025-09-18",
        "schema": {"type": ["string", "null"]},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "How long to wait for an answer. Default: 60",
        "placeholder": "60",
        "schema": {"type": ["string", "null"]},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "true, false, or the path of a file with CA certificates. Default: true",
        "placeholder": "true",
        "schema": {"type": ["string", "null"]},
    },
    "proxy": {
        "label": "Proxy",
        "description": "URL of an HTTP proxy, or none. Default: what the environment says",
        "placeholder": "http://proxy.example.com:3128",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "max_retries": {
        "label": "Retries of a call",
        "description": "How often a single call is asked again after a passing failure. Default: 5",
        "placeholder": "5",
        "schema": {"type": ["string", "null"]},
    },
    "ui_url": {
        "label": "Web app URL",
        "description": (
            "Where the link to an execution leads; {kind} (bulk or model), {sync_id} and {execution_id} are filled in. "
            "Default: the base URL"
        ),
        "placeholder": "https://app.polytomic.com",
        "schema": {"type": ["string", "null"]},
    },
}
