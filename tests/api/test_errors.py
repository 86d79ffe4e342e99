"""The errors that failed requests become: their types, messages and attributes, and the secrets that they conceal."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polytomic.api import errors
from airflow_provider_polytomic.api.call import decode
from airflow_provider_polytomic.api.client import Client
from airflow_provider_polytomic.api.endpoints import bulk_syncs
from airflow_provider_polytomic.api.errors import (
    PolytomicApiError,
    PolytomicAuthError,
    PolytomicConflictError,
    PolytomicError,
    PolytomicLookupError,
    PolytomicNotFoundError,
    PolytomicRateLimitError,
    PolytomicResponseError,
    PolytomicServerError,
    PolytomicSyncError,
    PolytomicTimeoutError,
    PolytomicUnreachableError,
    PolytomicValidationError,
    add_context,
    error_from_payload,
    error_from_response,
)
from airflow_provider_polytomic.api.models import BulkSyncExecution
from airflow_provider_polytomic.api.plan import Request, Response, SendResult, TransportFailure
from airflow_provider_polytomic.api.settings import Settings
from airflow_provider_polytomic.api.text import printable, redact

from .conftest import Send
from .servers import Server, http

GET = Request("GET", "/api/bulk/syncs/s")
PAGE = b"<!DOCTYPE html>\n<html><head><title>502 Bad\nGateway</title></head><body>nginx</body></html>"
KEY = 'k3y"with\\all<&>of/it+=='
LOGIN = "organization"
BASIC = base64.b64encode(f"{LOGIN}:{KEY}".encode()).decode()


def api_response(status: int, **body: Any) -> Response:
    body = {"status": status, "message": "what is wrong", "key": "some_key", "metadata": {}} | body
    return Response(status, {"x-request-id": "r-1"}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, PolytomicValidationError),
        (401, PolytomicAuthError),
        (402, PolytomicApiError),
        (403, PolytomicAuthError),
        (404, PolytomicNotFoundError),
        (405, PolytomicApiError),
        (408, PolytomicServerError),
        (409, PolytomicConflictError),
        (410, PolytomicNotFoundError),
        (422, PolytomicValidationError),
        (429, PolytomicRateLimitError),
        (500, PolytomicServerError),
        (502, PolytomicServerError),
        (503, PolytomicServerError),
        (504, PolytomicServerError),
        (599, PolytomicServerError),
    ],
)
def test_api_error_has_the_type_of_its_status(status: int, kind: type[PolytomicApiError]) -> None:
    """Method, path, status, message, key and request id are in the text and in attributes."""
    error = error_from_response(GET, api_response(status))
    assert type(error) is kind
    assert isinstance(error, PolytomicApiError)
    assert (error.method, error.path, error.status_code) == ("GET", "/api/bulk/syncs/s", status)
    assert (error.message, error.key, error.request_id) == ("what is wrong", "some_key", "r-1")
    assert str(error).startswith(f"GET /api/bulk/syncs/s: HTTP {status}: what is wrong [some_key] (request id r-1)")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_api_error_suggests_what_to_check_when_the_cause_is_usually_the_same(status: int) -> None:
    """This applies to rejected credentials and missing resources."""
    assert " - check the " in str(error_from_response(GET, api_response(status)))


@pytest.mark.parametrize(
    "body", [PAGE, b"", b"   ", b"upstream connect error", b"{", b"[]", b"null", b"7", b"\xff\x00"]
)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, PolytomicAuthError),
        (403, PolytomicAuthError),
        (408, PolytomicServerError),
        (418, PolytomicResponseError),
        (429, PolytomicRateLimitError),
        (500, PolytomicResponseError),
        (502, PolytomicResponseError),
        (503, PolytomicResponseError),
        (504, PolytomicResponseError),
    ],
)
def test_gateway_response_is_a_response_error_unless_the_status_is_conclusive(
    status: int, kind: type[PolytomicError], body: bytes
) -> None:
    """A 401, 403, 408 or 429 has the same meaning from a gateway as from the API."""
    if body == PAGE and status in (401, 403):
        kind = PolytomicResponseError
    error = error_from_response(GET, Response(status, {}, body))
    assert type(error) is kind
    assert str(error).startswith(f"GET /api/bulk/syncs/s: HTTP {status}: ")
    assert str(error).isprintable()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
def test_html_page_is_a_response_error_when_the_status_is_a_client_error(status: int) -> None:
    """An HTML page indicates a wrong host or a proxy; other text may come from the API."""
    assert type(error_from_response(GET, Response(status, {}, PAGE))) is PolytomicResponseError
    plain = error_from_response(GET, Response(status, {}, b"404 page not found"))
    assert isinstance(plain, PolytomicApiError)
    assert plain.message == "404 page not found"


@pytest.mark.parametrize(
    ("body", "description"),
    [
        (PAGE, "an HTML page, '502 Bad Gateway'"),
        (b"<html><body>hello</body></html>", "an HTML page"),
        (b"", "an empty body"),
        (b"a\r\n\r\nb\x00\x1b[31mc", "a b [31mc"),
        (b"x" * 5000, "x" * 200 + "…"),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}" * 2),
    ],
)
def test_non_api_response_is_described_in_one_line(body: bytes, description: str) -> None:
    """A page is described by its title, other text by its beginning, without control characters."""
    assert str(error_from_response(GET, Response(502, {}, body))).endswith(
        f"not a response of the Polytomic API: {description}"
    )


@pytest.mark.parametrize(
    "body",
    [
        {"message": None},
        {"message": ""},
        {"message": {"deep": [1, 2]}},
        {"message": 7},
        {"key": ["a"]},
        {"key": "only"},
        {"message": "m" * 10_000, "key": "k" * 10_000},
    ],
)
def test_api_error_tolerates_fields_of_unexpected_types(body: dict[str, Any]) -> None:
    """Unexpected, missing and huge fields affect the text alone, and the text stays bounded."""
    error = error_from_response(GET, Response(409, {}, json.dumps(body).encode()))
    assert type(error) is PolytomicConflictError
    assert len(str(error)) < 1500


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_redirect_error_names_the_target_and_what_to_fix(status: int) -> None:
    """Redirects are not followed; the message says which host to enter in the connection."""
    error = error_from_response(GET, Response(status, {"location": "https://eu.polytomic.com/api/me?state=secret"}))
    assert type(error) is PolytomicResponseError
    assert error.status_code == status
    assert "redirects to 'https://eu.polytomic.com/api/me?***'" in str(error)
    assert "correct `host` of the Polytomic connection" in str(error)


def test_redirect_error_says_so_when_there_is_no_location() -> None:
    """The target is shown as nowhere."""
    assert "redirects to 'nowhere'" in str(error_from_response(GET, Response(302)))


def test_unreachable_error_contains_the_reason_of_the_transport() -> None:
    """Method, path and reason are in the text and in attributes."""
    error = error_from_response(GET, TransportFailure("the connection to h was refused", sent=False))
    assert type(error) is PolytomicUnreachableError
    assert str(error) == "GET /api/bulk/syncs/s: no response: the connection to h was refused"
    assert (error.method, error.path, error.reason) == (
        "GET",
        "/api/bulk/syncs/s",
        "the connection to h was refused",
    )


def test_incomplete_response_is_a_response_error_with_its_status() -> None:
    """The status arrived, but the body did not."""
    error = error_from_response(GET, TransportFailure("it broke", status=503))
    assert type(error) is PolytomicResponseError
    assert (error.status_code, str(error)) == (503, "GET /api/bulk/syncs/s: HTTP 503: it broke")


@pytest.mark.parametrize("name", ["x-request-id", "x-polytomic-request-id", "cf-ray"])
def test_request_id_is_read_from_the_usual_headers(name: str) -> None:
    """The id is bounded and printable."""
    error = error_from_response(GET, Response(409, {name: "r-\x1b\udcff" + "1" * 500}, b'{"message": "no"}'))
    assert isinstance(error, PolytomicApiError)
    assert error.request_id is not None
    assert error.request_id.isprintable()
    assert len(error.request_id) <= 101


@given(st.integers(300, 999), st.binary(max_size=200), st.dictionaries(st.text(), st.text(), max_size=2))
def test_any_response_becomes_a_polytomic_error(status: int, body: bytes, headers: dict[str, str]) -> None:
    """The text is printable and bounded for any status, body and headers."""
    error = error_from_response(GET, Response(status, headers, body))
    assert isinstance(error, PolytomicError)
    assert str(error).isprintable()
    assert len(str(error)) < 1500


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_body_becomes_a_polytomic_error(body: Any) -> None:
    """No JSON value breaks the formatting of the error."""
    assert isinstance(error_from_response(GET, Response(409, {}, json.dumps(body).encode())), PolytomicError)


# secrets


def echoing_responses(secret: str) -> dict[str, Response]:
    """Return one response of each kind, all of which contain a secret."""
    body = json.dumps({"message": f"not valid: {secret}", "key": secret}).encode()
    return {
        "message": Response(401, {}, body),
        "server error": Response(500, {"x-request-id": secret}, body),
        "non-API JSON": Response(418, {}, json.dumps({"headers": {"authorization": secret}}).encode()),
        "text": Response(502, {}, f"GET / Authorization: {secret}".encode()),
        "page": Response(502, {}, f"<html><title>{html.escape(secret)}</title>".encode()),
        "redirect": Response(302, {"location": f"https://h/{secret}"}),
        "page with status 200": Response(200, {}, f"<html><title>{secret}</title>".encode()),
        "non-API JSON with status 200": Response(200, {}, json.dumps({"authorization": secret}).encode()),
        "text with status 200": Response(200, {}, f"{' ' * 1990}Authorization: {secret}".encode()),
    }


@pytest.mark.parametrize("secret", [KEY, BASIC], ids=["key", "basic"])
@pytest.mark.parametrize("name", echoing_responses(""))
def test_error_conceals_credentials_that_a_server_echoes(send: Send, name: str, secret: str) -> None:
    """Text, repr and attributes of the error are free of the key in any of its encodings."""
    echo = echoing_responses(secret)[name]
    headers = [f"{header}: {value}" for header, value in echo.headers.items()]
    with Server([http(echo.status, echo.body, *headers)]) as server:
        (result,) = send(Settings(base_url=server.url, key=KEY, login=LOGIN), GET)
    with pytest.raises(PolytomicError) as caught:
        decode(bulk_syncs.get("s"), result)
    shown = [str(caught.value), repr(caught.value), repr(caught.value.__dict__)]
    for form in (secret, html.escape(secret), json.dumps(secret)[1:-1], "k3y"):
        assert not any(form in text for text in shown), shown
    assert "***" in shown[0]


def test_error_conceals_the_proxy_password_that_a_proxy_echoes(send: Send) -> None:
    """Both the plain and the percent-encoded form are concealed."""
    with Server([http(502, b"user me, password p@ss-word (p%40ss-word)")]) as proxy:
        url = proxy.url.replace("://", "://me:p%40ss-word@")
        (result,) = send(Settings(base_url="http://polytomic.invalid", key=KEY, proxy=url), GET)
    assert str(error_from_response(GET, result)).endswith("user me, password *** (***)")


def test_redact_conceals_the_longest_secret_first() -> None:
    """No remainder is left of a secret that contains another one."""
    assert redact("apple, pp", ["pp", "apple"]) == "***, ***"


def test_repr_of_settings_and_client_contains_no_secret() -> None:
    """This includes the login and the proxy password."""
    settings = Settings(key=KEY, login=LOGIN, proxy="http://me:pass-word@proxy")
    for shown in (repr(settings), str(settings), repr(Client(settings))):
        assert not any(secret in shown for secret in ("k3y", BASIC, "pass-word", LOGIN))


def test_printable_removes_the_query_of_urls() -> None:
    """The query of a signed URL grants access to the file."""
    text = "see https://s3.example/log.json?X-Amz-Signature=abc&X=1, or http://h/p?q"
    assert printable(text, 200) == "see https://s3.example/log.json?*** or http://h/p?***"


# serialization between processes


EXECUTION = BulkSyncExecution.model_validate({"id": "e", "status": "failed", "schemas": [{"schema": "a"}], "new": 1})
ALL = [
    error_from_response(GET, api_response(status)) for status in (400, 401, 402, 404, 409, 429, 500)
] + [
    error_from_response(GET, TransportFailure("refused")),
    error_from_response(GET, Response(302, {"location": "/"})),
    PolytomicLookupError("none is named so"),
    PolytomicSyncError("it failed", EXECUTION),
    PolytomicSyncError("it failed", {"status": "failed"}),
    PolytomicTimeoutError("too late", still_running=True),
]  # fmt: skip


def test_serialization_tests_cover_all_error_types() -> None:
    """The list above contains an error of each type."""
    defined = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PolytomicError)}
    assert defined - {PolytomicError} == {type(error) for error in ALL}


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_error_is_equal_after_pickling_and_copying(error: PolytomicError) -> None:
    """Type, text and attributes are preserved."""
    for restored in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(restored) is type(error)
        assert (str(restored), restored.args, restored.__dict__) == (str(error), error.args, error.__dict__)


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_error_from_payload_restores_type_and_text(error: PolytomicError) -> None:
    """Name and message are enough to raise an error of the same type in another process."""
    restored = error_from_payload(type(error).__name__, str(error))
    assert (type(restored), str(restored)) == (type(error), str(error))


@pytest.mark.parametrize("name", ["KeyError", "Response", "json", ""])
def test_error_from_payload_returns_the_base_class_when_the_name_is_unknown(name: str) -> None:
    """The name is in the text; no other object of the module can be created by its name."""
    assert str(error_from_payload(name, "what")) == f"{name}: what"
    assert type(error_from_payload(name, "what")) is PolytomicError


def test_add_context_extends_the_text_of_the_same_error() -> None:
    """The error object is returned, not a copy."""
    error = error_from_response(GET, api_response(409))
    assert add_context(error, "and so on") is error
    assert str(error).endswith("; and so on")


def test_decode_raises_the_api_error_of_a_failed_response() -> None:
    """The body of a failed response is not parsed as data."""
    result: SendResult = api_response(404)
    with pytest.raises(PolytomicNotFoundError, match="what is wrong"):
        decode(bulk_syncs.get("s"), result)
