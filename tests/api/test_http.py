"""Paths, queries and bodies: what is asked for is what arrives."""

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
STRANGE = [
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
def test_ids_that_would_mean_something_else_are_refused(wrong: str) -> None:
    """An empty id, a dot segment or a control character never becomes a path: it might be another resource's."""
    with pytest.raises(ValueError):
        build_path(TEMPLATE, sync_id="sync", execution_id=wrong)


@pytest.mark.parametrize("wrong", [None, 5, b"bytes", ["list"]])
def test_ids_are_text(wrong: object) -> None:
    """Anything else is a mistake that is named, not text that happens to look like an id."""
    with pytest.raises(ValueError, match="execution_id must be text"):
        build_path(TEMPLATE, sync_id="sync", execution_id=wrong)  # type: ignore[arg-type]


@given(st.text())
def test_an_id_is_one_segment_or_refused(text: str) -> None:
    """Whatever an id is, the path has as many segments as the template, and none that a library resolves."""
    try:
        filled = build_path(TEMPLATE, sync_id="sync", execution_id=text)
    except ValueError:
        return
    *before, segment, last = filled.split("/")
    assert (before, last) == (["", "api", "bulk", "syncs", "sync", "executions"], "cancel")
    assert unquote(segment) == text
    assert segment not in ("", ".", "..")
    assert segment.isascii()


@pytest.mark.parametrize("text", STRANGE)
def test_an_id_arrives_as_it_is(send: Send, text: str) -> None:
    """Neither library takes a strange id apart, resolves it, or encodes it twice."""
    where = build_path(TEMPLATE, sync_id=text, execution_id="execution")
    with Server() as server:
        send(Settings(base_url=server.url, key="key"), Request("POST", where))
        (received,) = server.requests
    assert unquote(received.target.split("/")[4]) == text
    assert received.target.count("/") == TEMPLATE.count("/")
    assert "?" not in received.target


@pytest.mark.parametrize("text", [*STRANGE, "", "++//==", "+/+=", "a\nb"])
def test_a_parameter_arrives_as_it_is(send: Send, text: str) -> None:
    """So does the value of a parameter, a page token for instance."""
    with Server() as server:
        send(
            Settings(base_url=server.url, key="key"),
            Request("GET", "/api/bulk/syncs", build_query(limit=50, page_token=text)),
        )
        (received,) = server.requests
    parts = urlsplit(received.target)
    assert parts.path == "/api/bulk/syncs"
    assert parse_qsl(parts.query, keep_blank_values=True) == [("limit", "50"), ("page_token", text)]


def test_queries() -> None:
    """None is left out, booleans are as in JSON, a list repeats its name, a mapping has brackets, order stays."""
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


def test_a_body_is_json_or_nothing() -> None:
    """An empty object is a body; None is none."""
    assert Request("POST", "/").body is None
    assert Request("POST", "/", json={}).body == b"{}"
    assert json.loads(Request("POST", "/", json={"name": "käse", "n": [1, None]}).body or b"") == {
        "name": "käse",
        "n": [1, None],
    }


@pytest.mark.parametrize("key", ["12345678", "a" * 255, "Az09_-__"])
def test_idempotency_keys(key: str) -> None:
    """8 to 255 letters, digits, underscores and hyphens, as the API wants them."""
    assert Request("POST", "/", idempotency_key=key).idempotency_key == key


@pytest.mark.parametrize("key", ["", "1234567", "a" * 256, "with space", "new\nlines", "sälzburg"])
def test_idempotency_keys_that_the_api_would_refuse(key: str) -> None:
    """They are refused before anything is sent."""
    with pytest.raises(ValueError, match="idempotency_key must be"):
        Request("POST", "/", idempotency_key=key)


def test_requests_and_answers_are_values() -> None:
    """Equal ones are equal: a plan's steps can be compared."""
    assert Request("GET", "/a", (("b", "c"),)) == Request("GET", "/a", (("b", "c"),))
    assert Response(200, {}, b"") == Response(200)
    assert Response(200) != Response(201)
