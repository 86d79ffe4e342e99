"""Requests of plans: paths, queries, JSON bodies and idempotency keys, and their transmission by both transports."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polytomic.api.plan import Request, Response, build_path, build_query
from airflow_provider_polytomic.api.settings import Settings

from .conftest import Send
from .servers import Server

TEMPLATE = "/api/bulk/syncs/{sync_id}/executions/{execution_id}/cancel"
UNUSUAL_TEXTS = [
    "248df4b7-aa70-47b8-a036-33ac447e668d",
    "a/b",
    "a//b/../c",
    "/",
    "...",
    "%2e%2e",
    "%2F",
    "..%2F..",
    "a?b=c&d",
    "a#b",
    "a b",
    "a+b",
    "a;b=c",
    "a:b@c",
    "~a!$'()*,",
    "[a]{b}",
    "a\\b",
    "käse",
    "同步",
    "🦆",
    "e\u0301",
    "\u202e",
]


@pytest.mark.parametrize("wrong", ["", ".", "..", " ", "\t", " .. ", "a\nb", "a\r", "\0", "a\x7f", "\ud800"])
def test_build_path_rejects_an_id_that_is_empty_or_a_dot_segment_or_has_control_characters(wrong: str) -> None:
    """Such an id would address another resource or break the request line."""
    with pytest.raises(ValueError):
        build_path(TEMPLATE, sync_id="sync", execution_id=wrong)


@pytest.mark.parametrize("wrong", [None, 5, b"bytes", ["list"]])
def test_build_path_rejects_an_id_that_is_not_text(wrong: object) -> None:
    """The error names the argument; the value is not converted to text."""
    with pytest.raises(ValueError, match="execution_id must be text"):
        build_path(TEMPLATE, sync_id="sync", execution_id=wrong)  # type: ignore[arg-type]


@given(st.text())
def test_build_path_fills_an_id_into_one_segment_or_rejects_it(text: str) -> None:
    """The path has as many segments as the template, and none that a library resolves."""
    try:
        filled = build_path(TEMPLATE, sync_id="sync", execution_id=text)
    except ValueError:
        return
    *before, segment, last = filled.split("/")
    assert (before, last) == (["", "api", "bulk", "syncs", "sync", "executions"], "cancel")
    assert unquote(segment) == text
    assert segment not in ("", ".", "..")
    assert segment.isascii()


@pytest.mark.parametrize("text", UNUSUAL_TEXTS)
def test_path_parameter_reaches_the_server_unchanged(send: Send, text: str) -> None:
    """The libraries do not split an unusual id, resolve it, or encode it twice."""
    where = build_path(TEMPLATE, sync_id=text, execution_id="execution")
    with Server() as server:
        send(Settings(base_url=server.url, key="key"), Request("POST", where))
        (received,) = server.requests
    assert unquote(received.target.split("/")[4]) == text
    assert received.target.count("/") == TEMPLATE.count("/")
    assert "?" not in received.target


@pytest.mark.parametrize("text", [*UNUSUAL_TEXTS, "", "++//==", "+/+=", "a\nb"])
def test_query_parameter_reaches_the_server_unchanged(send: Send, text: str) -> None:
    """Values such as page tokens are encoded exactly once."""
    with Server() as server:
        send(
            Settings(base_url=server.url, key="key"),
            Request("GET", "/api/bulk/syncs", build_query(limit=50, page_token=text)),
        )
        (received,) = server.requests
    parts = urlsplit(received.target)
    assert parts.path == "/api/bulk/syncs"
    assert parse_qsl(parts.query, keep_blank_values=True) == [("limit", "50"), ("page_token", text)]


def test_build_query_follows_the_conventions_of_the_api() -> None:
    """None is omitted, booleans are JSON, a list repeats its name, a mapping uses brackets, and the order is kept."""
    wanted = {"table": "a b", "columns": ["c", "d"], "schema": None}
    assert build_query(b=None, active=True, all=False, sync_id=["x", None, "y"], limit=5, params=wanted, none={}) == (
        ("active", "true"),
        ("all", "false"),
        ("sync_id", "x"),
        ("sync_id", "y"),
        ("limit", "5"),
        ("params[table]", "a b"),
        ("params[columns]", "c"),
        ("params[columns]", "d"),
    )


def test_request_body_is_json_or_none() -> None:
    """An empty object is a body; None is no body."""
    assert Request("POST", "/").body is None
    assert Request("POST", "/", json={}).body == b"{}"
    assert json.loads(Request("POST", "/", json={"name": "käse", "n": [1, None]}).body or b"") == {
        "name": "käse",
        "n": [1, None],
    }


@pytest.mark.parametrize("key", ["12345678", "a" * 255, "Az09_-__"])
def test_request_accepts_idempotency_keys_that_the_api_allows(key: str) -> None:
    """A key has 8 to 255 letters, digits, underscores and hyphens."""
    assert Request("POST", "/", idempotency_key=key).idempotency_key == key


@pytest.mark.parametrize("key", ["", "1234567", "a" * 256, "with space", "new\nlines", "sälzburg"])
def test_request_rejects_idempotency_keys_that_the_api_does_not_allow(key: str) -> None:
    """The error is raised before anything is sent."""
    with pytest.raises(ValueError, match="idempotency_key must be"):
        Request("POST", "/", idempotency_key=key)


def test_requests_and_responses_compare_by_value() -> None:
    """Tests can compare the steps of a plan."""
    assert Request("GET", "/a", (("b", "c"),)) == Request("GET", "/a", (("b", "c"),))
    assert Response(200, {}, b"") == Response(200)
    assert Response(200) != Response(201)
