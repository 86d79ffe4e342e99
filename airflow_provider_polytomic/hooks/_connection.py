"""Airflow connections: reading one into settings, and the fields of its form."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_polytomic.get_provider_info import EXTRA_FIELDS, UI_FIELDS

if TYPE_CHECKING:
    from airflow_provider_polytomic.api.settings import Settings

CONN_TYPE = "polytomic"


def settings_from_connection(connection: Any, timeout: float | None = None, max_retries: int | None = None) -> Settings:
    """Convert an Airflow connection to settings.

    :param connection: Airflow's connection.
    :param timeout: seconds per request, instead of the connection's ``timeout``.
    :param max_retries: retries of a call, instead of the connection's ``max_retries``.
    :raises ValueError: A field is invalid. The message names the connection and the field, and contains no secret.
    """
    from airflow_provider_polytomic._airflow.configuration import read_limit
    from airflow_provider_polytomic.api import settings as defaults

    fields = _Fields(connection)
    fields.check_type()
    base_url = fields.base_url(defaults.DEFAULT_HOST)
    verify, ca_bundle = fields.verify()
    if verify and ca_bundle is None and base_url.startswith("https:"):
        ca_bundle = defaults.ca_bundle_from_environment()
    proxy = fields.proxy()
    if proxy is None:
        proxy = defaults.proxy_from_environment(base_url)
    return defaults.Settings(
        base_url=base_url,
        key=fields.key(),
        login=fields.login(),
        api_version=fields.api_version(defaults.DEFAULT_API_VERSION),
        timeout=fields.number("timeout", defaults.DEFAULT_TIMEOUT, timeout),
        verify=verify,
        ca_bundle=ca_bundle,
        proxy=proxy or None,
        no_proxy=proxy == "",
        max_retries=fields.whole("max_retries", defaults.DEFAULT_MAX_RETRIES, max_retries),
        ui_url=fields.ui_url(),
        triggerer_connections=read_limit("triggerer_connections", defaults.DEFAULT_TRIGGERER_CONNECTIONS),
        triggerer_batch_size=read_limit("triggerer_batch_size", defaults.MAX_BATCH_SIZE, defaults.MAX_BATCH_SIZE),
    )


class _Fields:
    """Reads and validates the fields of a connection.

    Numbers and booleans may be text, because connection URIs contain nothing else. Every method raises ValueError
    when its field is invalid.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        try:
            extra = json.loads(connection.extra or "{}")
        except (ValueError, RecursionError):
            raise self._error("extra", "is not JSON") from None
        if not isinstance(extra, dict):
            raise self._error("extra", "must be a JSON object")
        self._extra: dict[str, Any] = extra

    def _error(self, field: str, message: str) -> ValueError:
        return ValueError(f"connection {self._connection.conn_id!r}: {field} {message}")

    def _format_value(self, value: object) -> str:
        """Format an invalid value for a message, with the API key redacted in case it is in the wrong field."""
        from airflow_provider_polytomic.api.text import printable, redact

        return printable(redact(repr(value), [self._connection.password or ""]), 100)

    def _read_extra(self, name: str, override: Any = None) -> Any:
        """Read a field of ``extra``, or its override; None when it is absent or blank."""
        value = self._extra.get(name) if override is None else override
        value = value.strip() if isinstance(value, str) else value
        return None if value == "" else value

    def _read_text(self, name: str, value: str | None) -> str:
        text = (value or "").strip()
        if not text.isprintable():
            raise self._error(name, "must not contain control characters")
        return text

    def check_type(self) -> None:
        # A wrong connection id must not send, for instance, the password of a database to Polytomic.
        if self._connection.conn_type not in (CONN_TYPE, "", None):
            raise self._error("type", f"must be {CONN_TYPE}, not {self._format_value(self._connection.conn_type)}")

    def key(self) -> str:
        key = self._read_text("password (the API key)", self._connection.password)
        if not key:
            raise self._error("password (the API key)", "is empty")
        if not key.isascii():  # requests and aiohttp encode other characters differently
            raise self._error("password (the API key)", "must contain only ASCII characters")
        return key

    def login(self) -> str:
        login = self._read_text("login", self._connection.login)
        if ":" in login:
            raise self._error("login", "must not contain a colon")
        return login

    def base_url(self, default: str) -> str:
        from airflow_provider_polytomic.api.settings import parse_http_url

        host = self._read_text("host", self._connection.host).rstrip("/") or default
        try:
            parts = parse_http_url(host if "://" in host else f"https://{host}")
        except ValueError:
            message = "must be the base URL of Polytomic, for instance https://app.polytomic.com"
            raise self._error("host", message) from None
        if "@" in parts.netloc:
            raise self._error("host", "must not contain credentials: set the API key as password")
        port = self._port()
        if port and not parts.port:
            parts = parts._replace(netloc=f"{parts.netloc}:{port}")
        schema = self._read_text("schema", self._connection.schema).strip("/")
        try:
            return parse_http_url(f"{parts.geturl()}/{schema}").geturl()
        except ValueError:
            raise self._error("schema", "must be the path of the base URL, or empty") from None

    def _port(self) -> int | None:
        port = self._connection.port
        if port is None or port == "":
            return None
        if not re.fullmatch("[0-9]{1,5}", str(port)) or not 0 < int(port) < 65536:
            raise self._error("port", f"must be a number from 1 to 65535, not {self._format_value(port)}")
        return int(port)

    def verify(self) -> tuple[bool, str | None]:
        value = self._read_extra("verify")
        if value is None:
            return True, None
        known = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
        if known is not None:
            return known, None
        if not isinstance(value, str) or not os.path.exists(value):
            raise self._error(
                "verify",
                f"must be true, false, or the path of a CA bundle that exists, not {self._format_value(value)}",
            )
        return True, value

    def number(self, name: str, default: float, override: float | None = None) -> float:
        value = self._read_extra(name, override)
        if value is None:
            return default
        try:
            number = float("nan") if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if not 0 < number <= 86400:
            expected = "a number of seconds, more than 0 and at most 86400"
            raise self._error(name, f"must be {expected}, not {self._format_value(value)}")
        return number

    def whole(self, name: str, default: int, override: int | None = None) -> int:
        value = self._read_extra(name, override)
        if value is None:
            return default
        if not isinstance(value, str | int) or not re.fullmatch("[0-9]{1,3}", str(value)):
            raise self._error(name, f"must be a whole number from 0 to 999, not {self._format_value(value)}")
        return int(value)

    def proxy(self) -> str | None:
        """Read the URL of the proxy.

        :returns: ``""`` for no proxy, even if the environment names one; None to use the environment's.
        """
        from airflow_provider_polytomic.api.settings import parse_http_url

        value = self._read_extra("proxy")
        if value is None:
            return None
        if str(value).lower() in ("none", "false"):
            return ""
        try:
            return parse_http_url(value if isinstance(value, str) else "").geturl()
        except ValueError:
            message = "must be the URL of an HTTP proxy, for instance http://proxy.example.com:3128, or none"
            raise self._error("proxy", message) from None

    def ui_url(self) -> str:
        from airflow_provider_polytomic.api.settings import LINK_PLACEHOLDERS, parse_link_template

        value = self._read_extra("ui_url")
        if value is None:
            return ""
        try:
            return parse_link_template(value if isinstance(value, str) else "")
        except ValueError:
            names = ", ".join(f"{{{name}}}" for name in LINK_PLACEHOLDERS)
            message = f"must be an http(s) URL that may contain {names}, not {self._format_value(value)}"
            raise self._error("ui_url", message) from None

    def api_version(self, default: str) -> str:
        value = self._read_extra("api_version")
        if value is None:
            return default
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise self._error("api_version", f"must be a date such as {default}, not {self._format_value(value)}")
        return value


# --- the form


def form_widgets() -> dict[str, Any]:
    """Return the form's fields for ``extra``, or none when Airflow's form libraries are not installed (Airflow 3)."""
    try:
        from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import PasswordField, StringField
    except ImportError:
        return {}

    def create_field(field: dict[str, Any]) -> Any:
        is_secret = field["schema"].get("format") == "password"
        field_class = PasswordField if is_secret else StringField
        widget = BS3PasswordFieldWidget() if is_secret else BS3TextFieldWidget()
        return field_class(lazy_gettext(field["label"]), widget=widget, description=field["description"])

    return {name: create_field(field) for name, field in EXTRA_FIELDS.items()}


def form_behavior(*, has_widgets: bool) -> dict[str, Any]:
    """Return which standard fields the form hides and renames.

    :param has_widgets: whether :func:`form_widgets` returned fields. Without them, the form shows ``extra`` itself.
    """
    behavior: dict[str, Any] = json.loads(json.dumps(UI_FIELDS))
    if has_widgets:
        behavior["placeholders"] |= {name: field["placeholder"] for name, field in EXTRA_FIELDS.items()}
    else:
        behavior["hidden-fields"].remove("extra")
    # The hook's method spells its keys with underscores, the provider's metadata with hyphens.
    return {name.replace("-", "_"): value for name, value in behavior.items()}
