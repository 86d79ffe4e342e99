"""Conversion of Airflow connections to settings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import certifi
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_polytomic.api.settings import Settings
from airflow_provider_polytomic.hooks._connection import settings_from_connection
from airflow_provider_polytomic.hooks.polytomic import PolytomicHook

from .conftest import KEY, Define, connection


def settings(**fields: Any) -> Settings:
    return settings_from_connection(connection(**fields))


# --- base URL


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, "https://app.polytomic.com"),
        ({"host": ""}, "https://app.polytomic.com"),
        ({"host": " "}, "https://app.polytomic.com"),
        ({"host": "/"}, "https://app.polytomic.com"),
        ({"host": "eu.polytomic.com"}, "https://eu.polytomic.com"),
        ({"host": " eu.polytomic.com/ "}, "https://eu.polytomic.com"),
        ({"host": "https://eu.polytomic.com///"}, "https://eu.polytomic.com"),
        ({"host": "HTTPS://EU.Polytomic.com"}, "https://eu.polytomic.com"),
        ({"host": "http://localhost"}, "http://localhost"),
        ({"host": "http://localhost:8765"}, "http://localhost:8765"),
        ({"host": "http://localhost", "port": 8765}, "http://localhost:8765"),
        ({"host": "http://localhost:8765", "port": 1}, "http://localhost:8765"),
        ({"host": "localhost:8765"}, "https://localhost:8765"),
        ({"host": "localhost", "port": 8765}, "https://localhost:8765"),
        ({"host": "h", "schema": "polytomic"}, "https://h/polytomic"),
        ({"host": "h", "schema": "/a/b/"}, "https://h/a/b"),
        ({"host": "h/a/", "schema": "b"}, "https://h/a/b"),
        ({"host": "https://h:8443/a", "schema": ""}, "https://h:8443/a"),
        ({"schema": "a", "port": 8443}, "https://app.polytomic.com:8443/a"),
        ({"host": "http://[::1]:8765"}, "http://[::1]:8765"),
        ({"host": "http://[::1]", "port": 8765}, "http://[::1]:8765"),
        ({"host": "http://::1", "port": 8765}, "http://[::1]:8765"),
        ({"host": "2001:db8::1"}, "https://[2001:db8::1]"),
        ({"host": "bücher.example"}, "https://xn--bcher-kva.example"),
    ],
)
def test_base_url_consists_of_host_port_and_path(fields: dict[str, Any], base_url: str) -> None:
    """It is HTTPS unless the host contains another scheme."""
    assert settings(**fields).base_url == base_url


URIS = [
    ("polytomic://:{key}@", Settings(key="{key}")),
    ("polytomic://:{key}@eu.polytomic.com", Settings("https://eu.polytomic.com", "{key}")),
    ("polytomic://http://:{key}@localhost:8765", Settings("http://localhost:8765", "{key}")),
    ("polytomic://http://:{key}@localhost:8765/", Settings("http://localhost:8765", "{key}")),
    ("polytomic://http://:{key}@127.0.0.1:8765/deep/down", Settings("http://127.0.0.1:8765/deep/down", "{key}")),
    ("polytomic://http://:{key}@[::1]:8765", Settings("http://[::1]:8765", "{key}")),
    ("polytomic://https://org:{key}@h:8443/p", Settings("https://h:8443/p", "{key}", "org")),
    ("polytomic://org:{key}@h", Settings("https://h", "{key}", "org")),
    (
        "polytomic://:{key}@h?api_version=2024-02-08&timeout=2.5&verify=false&max_retries=0&proxy=http%3A%2F%2Fp%3A3128",
        Settings("https://h", "{key}", "", "2024-02-08", 2.5, False, None, "http://p:3128", 0),
    ),
    (
        "polytomic://:{key}@h?api_version=&timeout=&verify=&max_retries=&proxy=&ui_url=",
        Settings("https://h", "{key}"),
    ),
]


@pytest.mark.parametrize(("uri", "expected"), URIS)
def test_connection_can_be_a_uri(define: Define, uri: str, expected: Settings) -> None:
    """In `AIRFLOW_CONN_POLYTOMIC_DEFAULT`. All values of extra are text."""
    define(uri.format(key="k%2Fe%3Ay%3D"))
    found = PolytomicHook().settings()
    assert found.key == "k/e:y="
    assert without_bundle(found) == without_bundle(expected) | {"key": "k/e:y="}


def without_bundle(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in vars(settings).items() if name != "ca_bundle"}


def test_connection_can_be_json(define: Define) -> None:
    """In `AIRFLOW_CONN_POLYTOMIC_DEFAULT`. Extra is an object with native values."""
    define(
        host="http://localhost",
        port=8765,
        schema="p",
        login="org",
        extra={"api_version": "2024-02-08", "timeout": 3, "verify": False, "max_retries": 1, "proxy": None},
    )
    expected = Settings("http://localhost:8765/p", KEY, "org", "2024-02-08", 3, False, None, None, 1)
    assert PolytomicHook().settings() == expected


def test_connection_needs_only_a_key() -> None:
    """All other settings have defaults."""
    assert settings() == Settings("https://app.polytomic.com", KEY, ca_bundle=certifi.where())
    assert (settings().timeout, settings().max_retries, settings().api_version) == (60, 5, "2025-09-18")


def test_extra_may_be_missing() -> None:
    """None, empty, or without a known field."""
    assert settings(extra=None) == settings(extra="") == settings(extra={}) == settings(extra={"foreign": [1]})


def test_white_space_around_the_key_is_removed() -> None:
    """It is often pasted."""
    assert settings(password=f" {KEY}\n").key == KEY


# --- fields of extra


@pytest.mark.parametrize("nothing", ["", " ", None])
@pytest.mark.parametrize("name", ["api_version", "timeout", "verify", "proxy", "max_retries", "ui_url"])
def test_blank_field_has_its_default(name: str, nothing: Any) -> None:
    """Forms send empty text for empty fields."""
    assert settings(extra={name: nothing}) == settings()


@pytest.mark.parametrize(
    ("extra", "attribute", "value"),
    [
        ({"timeout": 5}, "timeout", 5),
        ({"timeout": 0.5}, "timeout", 0.5),
        ({"timeout": "5"}, "timeout", 5),
        ({"timeout": " 2.5 "}, "timeout", 2.5),
        ({"max_retries": 0}, "max_retries", 0),
        ({"max_retries": "0"}, "max_retries", 0),
        ({"max_retries": " 12 "}, "max_retries", 12),
        ({"verify": True}, "verify", True),
        ({"verify": "true"}, "verify", True),
        ({"verify": "True"}, "verify", True),
        ({"verify": "1"}, "verify", True),
        ({"verify": 1}, "verify", True),
        ({"verify": False}, "verify", False),
        ({"verify": "FALSE"}, "verify", False),
        ({"verify": "0"}, "verify", False),
        ({"verify": 0}, "verify", False),
        ({"api_version": "2024-02-08"}, "api_version", "2024-02-08"),
        ({"proxy": "http://p:3128/"}, "proxy", "http://p:3128"),
        ({"proxy": "none"}, "proxy", None),
        ({"proxy": "https://me:p%40ss@p"}, "proxy", "https://me:p%40ss@p"),
        (
            {"ui_url": " https://h/#/{kind}/{sync_id}?e={execution_id} "},
            "ui_url",
            "https://h/#/{kind}/{sync_id}?e={execution_id}",
        ),
    ],
)
def test_fields_accept_native_values_and_text(extra: dict[str, Any], attribute: str, value: Any) -> None:
    """Numbers and booleans may be text."""
    found = getattr(settings(extra=extra), attribute)
    assert found == value
    assert isinstance(found, bool) == isinstance(value, bool)


def test_verify_accepts_a_path(tmp_path: Path) -> None:
    """Of a file, or of a folder."""
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    assert settings(extra={"verify": str(bundle)}).ca_bundle == str(bundle)
    assert settings(extra={"verify": str(tmp_path)}).ca_bundle == str(tmp_path)


INVALID = [
    *(("host", {"host": value}) for value in ("ftp://h", "h h", "h?a=b", "h#a", "https://", "https:/h", "h:x", "a..b", "https://a..b")),
    *(("host", {"host": value}) for value in (f"http://me:{KEY}@h", f"{KEY}@h", "http://[::1", "h/../a", "h\x00")),
    *(("port", {"port": value}) for value in (-1, 65536, 0, "x", "80x")),
    *(("schema", {"schema": value}) for value in ("..", "a?b", "a#b", "a/./b", "a\\b", "a\nb", "%zz")),
    *(("login", {"login": value}) for value in ("a:b", "a\nb", f"{KEY}:x")),
    *(("password (the API key)", {"password": value}) for value in (None, "", " ", "a\nb", "schlüssel", "\0")),
    *(("extra", {"extra": value}) for value in ("{", "[]", "7", "text", '"text"', "[" * 100_000)),
    *(
        ("timeout", {"extra": {"timeout": value}})
        for value in (0, -1, "0", "soon", "nan", "inf", True, [], {}, 86401, 10**400, "1e9", KEY, [KEY], {KEY: 1})
    ),
    *(("max_retries", {"extra": {"max_retries": value}}) for value in (-1, 1.5, "1.5", "x", True, [], 1000, "١", KEY)),
    *(("verify", {"extra": {"verify": value}}) for value in ("yes", "no", "/no.pem", 2, 1.0, [], {}, "\0", KEY)),
    *(("proxy", {"extra": {"proxy": value}}) for value in ("p:1", "socks5://p", "http://", 7, [], KEY, "http://p p")),
    *(("proxy", {"extra": {"proxy": value}}) for value in ("http://me:pass-word@p:x", "http://p:99999", "http://p?a")),
    *(("api_version", {"extra": {"api_version": value}}) for value in ("v", 2025, "2025-9-18", "２０２５-09-18", KEY)),
    *(("ui_url", {"extra": {"ui_url": value}}) for value in ("app.example.com", "javascript:alert(1)", 7, [], KEY)),
    *(("ui_url", {"extra": {"ui_url": f"https://h/{value}"}}) for value in ("{id}", "{sync_id", "{}", "{kind!r}")),
    *(("ui_url", {"extra": {"ui_url": f"https://{value}/"}}) for value in ("{sync_id}.h", f"me:{KEY}@h", "")),
    ("ui_url", {"extra": {"ui_url": "https://h/a b"}}),
    *(("type", {"conn_type": value}) for value in ("postgres", "aws", "http", KEY)),
]  # fmt: skip


@pytest.mark.parametrize(("field", "fields"), INVALID, ids=lambda value: str(value)[:50])
def test_invalid_value_is_rejected_without_showing_a_secret(field: str, fields: dict[str, Any]) -> None:
    """The error names connection and field. It does not contain a secret that was put into the wrong field."""
    conn = SimpleNamespace(**attributes(fields))
    with pytest.raises(ValueError) as caught:
        settings_from_connection(conn)
    message = str(caught.value)
    assert message.startswith(f"connection 'c': {field} ")
    assert KEY not in message
    assert "pass-word" not in message
    assert len(message) < 300
    assert message.isprintable()
    assert caught.value.__cause__ is None


def attributes(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a connection, even if Airflow would reject it."""
    extra = fields.get("extra")
    blank = dict.fromkeys(("host", "login", "port", "schema", "extra"))
    given = {"conn_id": "c", "conn_type": "polytomic", "password": KEY, **blank, **fields}
    return given | {"extra": json.dumps(extra) if isinstance(extra, dict) else extra}


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "x"])
def test_timeout_of_the_hook_is_validated(timeout: Any) -> None:
    """It overrides the timeout of the connection."""
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        settings_from_connection(connection(), timeout=timeout)


def test_arguments_of_the_hook_override_the_connection() -> None:
    """0 retries count as set."""
    conn = connection(extra={"timeout": 7, "max_retries": 9})
    assert (settings_from_connection(conn, 3, 0).timeout, settings_from_connection(conn, 3, 0).max_retries) == (3, 0)
    assert (settings_from_connection(conn).timeout, settings_from_connection(conn).max_retries) == (7, 9)


def test_execution_url_contains_encoded_ids() -> None:
    """Connections that differ only in `ui_url` have equal settings."""
    found = settings(extra={"ui_url": "https://h/{kind}/{sync_id}/{execution_id}"})
    assert found.execution_url("bulk", "a/b", "c?d") == "https://h/bulk/a%2Fb/c%3Fd"
    assert found == settings(extra={})
    assert settings(host="h/{x}").execution_url("bulk", "s", "e") == "https://h/%7Bx%7D"


# --- environment


def test_proxy_of_the_environment_is_used_without_one_in_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NO_PROXY` applies only to it."""
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    assert settings().proxy == "http://p:1"
    assert settings(extra={"proxy": "http://p:2"}).proxy == "http://p:2"
    assert settings(host="http://h").proxy is None
    monkeypatch.setenv("NO_PROXY", "app.polytomic.com")
    assert settings().proxy is None
    assert settings(extra={"proxy": "http://p:2"}).proxy == "http://p:2"


@pytest.mark.parametrize("value", ["none", "None", " NONE ", "false", "False", False])
def test_no_proxy_is_used_when_the_connection_contains_none(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    """The proxy of the environment is ignored, even if it is invalid."""
    for proxy in ("http://p:1", "nonsense://p"):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        found = settings(extra={"proxy": value})
        assert (found.proxy, found.no_proxy) == (None, True)


def test_blank_proxy_does_not_disable_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty field or a URL is not the same as `none`."""
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    for extra in ({}, {"proxy": ""}, {"proxy": None}, {"proxy": "http://p:2"}):
        assert settings(extra=extra).no_proxy is False


def test_socks_proxy_in_all_proxy_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the connection itself such a URL is an error."""
    monkeypatch.setenv("ALL_PROXY", "socks5://p:1080")
    assert settings().proxy is None
    assert settings(extra={"proxy": "http://p:1"}).proxy == "http://p:1"
    with pytest.raises(ValueError, match="proxy must be the URL of an HTTP proxy"):
        settings(extra={"proxy": "socks5://p:1080"})


def test_ca_bundle_of_the_environment_is_used_without_one_in_the_connection(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Unless verification is disabled. Plain HTTP needs no bundle."""
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    assert settings().ca_bundle == str(bundle)
    assert settings(extra={"verify": certifi.where()}).ca_bundle == certifi.where()
    assert settings(extra={"verify": False}).ca_bundle is None
    bundle.unlink()
    assert settings(host="http://h").ca_bundle is None
    with pytest.raises(ValueError, match="REQUESTS_CA_BUNDLE"):
        settings()


# --- arbitrary values

TEXT = st.none() | st.text() | st.sampled_from(["http://", "https://h/", "h:1", "[::1]", f"http://a:{KEY}@h", KEY])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
EXTRA = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["api_version", "timeout", "verify", "proxy", "max_retries", "ui_url", "other"], VALUES)
)


@given(
    host=TEXT,
    schema=TEXT,
    login=TEXT,
    port=st.none() | st.integers() | st.text(max_size=5),
    extra=EXTRA.map(json.dumps) | st.none() | st.text(),
)
@example(host="http://\u212b", schema=None, login=None, port=None, extra=None)
@example(host=None, schema=None, login=None, port=None, extra='{"timeout": 1e999}')
@example(host=None, schema=None, login=None, port=None, extra='{"proxy": "http://\\ud800"}')
@example(host="\ud800", schema="\ud800", login="\ud800", port=None, extra="\ud800")
def test_any_connection_results_in_settings_or_a_value_error(
    host: Any, schema: Any, login: Any, port: Any, extra: Any
) -> None:
    """It never raises another exception, and the error never contains the key."""
    fields = {"host": host, "schema": schema, "login": login, "port": port, "extra": extra}
    conn = SimpleNamespace(conn_id="c", conn_type="polytomic", password=KEY, **fields)
    try:
        found = settings_from_connection(conn)
    except ValueError as error:
        assert KEY not in str(error)
        return
    assert found.base_url.startswith(("https://", "http://"))
    assert found.base_url.isascii()
    assert 0 < found.timeout <= 86400


@given(password=st.none() | st.text())
def test_any_key_is_rejected_or_fits_into_a_header(password: str | None) -> None:
    """A valid key has the same encoding in all HTTP libraries."""
    try:
        found = settings_from_connection(SimpleNamespace(**attributes({"password": password})))
    except ValueError:
        return
    assert found.key.isprintable()
    assert found.key.isascii()
