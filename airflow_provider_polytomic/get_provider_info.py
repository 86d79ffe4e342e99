"""The provider's metadata for Airflow. It imports nothing else, because Airflow calls it in every process."""

from __future__ import annotations

from typing import Any

from airflow_provider_polytomic import __version__

INTEGRATION = "Polytomic"
HOOK = "airflow_provider_polytomic.hooks.polytomic"
OPERATORS = ["airflow_provider_polytomic.operators.bulk_sync", "airflow_provider_polytomic.operators.model_sync"]
SENSORS = ["airflow_provider_polytomic.sensors.bulk_sync", "airflow_provider_polytomic.sensors.model_sync"]
TRIGGERS = ["airflow_provider_polytomic.triggers.events", "airflow_provider_polytomic.triggers.execution"]

# Read by registries of providers: paths in the repository.
HOW_TO_GUIDES = ["docs/tutorial.md", "docs/reference/operators.md", "docs/reference/connection.md"]

# Standard fields of the form: hidden ones, labels, and placeholders. The port is shown, although the base URL may
# contain it, because the Test button of Airflow 3.3.2 rejects a stored connection without a port.
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

# Fields that the connection stores in `extra`.
EXTRA_FIELDS: dict[str, dict[str, Any]] = {
    "api_version": {
        "label": "API version",
        "description": "Date of the API version to use. Default: 2025-09-18",
        "placeholder": "2025-09-18",
        "schema": {"type": ["string", "null"]},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "How long to wait for a response. Default: 60",
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
        "description": "URL of an HTTP proxy, or none. Default: the proxy of the environment",
        "placeholder": "http://proxy.example.com:3128",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "max_retries": {
        "label": "Retries of a call",
        "description": "How often a call is retried after a transient failure. Default: 5",
        "placeholder": "5",
        "schema": {"type": ["string", "null"]},
    },
    "ui_url": {
        "label": "Web app URL",
        "description": (
            "Target of the link to an execution. {kind} (bulk or model), {sync_id} and {execution_id} are replaced. "
            "Default: the base URL"
        ),
        "placeholder": "https://app.polytomic.com",
        "schema": {"type": ["string", "null"]},
    },
}

# Options of the section [polytomic] in Airflow's configuration.
CONFIG_OPTIONS: dict[str, dict[str, Any]] = {
    "triggerer_connections": {
        "description": (
            "Connections of an HTTP session in the triggerer, for all triggers with equal connection settings."
        ),
        "version_added": "0.1.0",
        "type": "integer",
        "example": "20",
        "default": "10",
    },
    "triggerer_batch_size": {
        "description": (
            "Executions of bulk syncs per status request of the triggerer, at most 100. 1 disables these requests: "
            "each trigger then polls its execution."
        ),
        "version_added": "0.1.0",
        "type": "integer",
        "example": "1",
        "default": "100",
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the metadata of this provider: its modules, its connection type, and the fields of its form."""
    return {
        "package-name": "airflow-provider-polytomic",
        "name": "Polytomic",
        "description": "Start Polytomic syncs exactly once, wait for them deferred, and go on.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://docs.polytomic.com/",
                "logo": "docs/images/logo.svg",
                "how-to-guide": HOW_TO_GUIDES,
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": INTEGRATION, "python-modules": [HOOK]}],
        "operators": [{"integration-name": INTEGRATION, "python-modules": OPERATORS}],
        "sensors": [{"integration-name": INTEGRATION, "python-modules": SENSORS}],
        "triggers": [{"integration-name": INTEGRATION, "python-modules": TRIGGERS}],
        "extra-links": ["airflow_provider_polytomic.links.PolytomicExecutionLink"],  # only needed by Airflow 2
        "config": {
            "polytomic": {"description": "Settings of the Polytomic provider.", "options": CONFIG_OPTIONS},
        },
        "connection-types": [
            {
                "connection-type": "polytomic",
                "hook-class-name": f"{HOOK}.PolytomicHook",
                "hook-name": "Polytomic",
                "ui-field-behaviour": UI_FIELDS,
                "conn-fields": {
                    name: {key: field[key] for key in ("label", "description", "schema")}
                    for name, field in EXTRA_FIELDS.items()
                },
            }
        ],
    }
