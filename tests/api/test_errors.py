"""What an answer that is no success becomes: a typed error that says what a person needs, and no secret."""

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


def api(status: int, **body: Any) -> Response:
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
def test_each_status_has_its_type(status: int, kind: type[PolytomicApiError]) -> None:
    """The API's own errors say method, path, status, message, key and request id, in the text and as attributes."""
    error = error_from_response(GET, api(status))
    assert type(error) is kind
    assert isinstance(error, PolytomicApiError)
    assert (error.method, error.path, error.status_code) == ("GET", "/api/bulk/syncs/s", status)
    assert (error.message, error.key, error.request_id) == ("what is wrong", "some_key", "r-1")
    assert str(error).startswith(f"GET /api/bulk/syncs/s: HTTP {status}: what is wrong [some_key] (request id r-1)")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_some_errors_say_what_to_do(status: int) -> None:
    """Where it is nearly always the same."""
    assert " - check the " in str(error_from_response(GET, api(status)))


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
def test_gateways_have_their_own_words(status: int, kind: type[PolytomicError], body: bytes) -> None:
    """What a gateway writes is not the API's word, unless the status alone says it all."""
    if body == PAGE and status in (401, 403):
        kind = PolytomicResponseError
    error = error_from_response(GET, Response(status, {}, body))
    assert type(error) is kind
    assert str(error).startswith(f"GET /api/bulk/syncs/s: HTTP {status}: ")
    assert str(error).isprintable()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
def test_a_page_is_no_refusal(status: int) -> None:
    """An HTML page with one of these tells of a wrong host or a proxy, not of the sync; other text may be the API's."""
    assert type(error_from_response(GET, Response(status, {}, PAGE))) is PolytomicResponseError
    plain = error_from_response(GET, Response(status, {}, b"404 page not found"))
    assert isinstance(plain, PolytomicApiError)
    assert plain.message == "404 page not found"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (PAGE, "an HTML page, '502 Bad Gateway'"),
        (b"<html><body>hello</body></html>", "an HTML page"),
        (b"", "an empty body"),
        (b"a\r\n\r\nb\x00\x1b[31mc", "a b [31mc"),
        (b"x" * 5000, "x" * 200 + "…"),
        (b"\xff\xfe", "\N{REPLACEMENT CHARACTER}" * 2),
    ],
)
def test_a_foreign_answer_is_told_in_one_line(body: bytes, told: str) -> None:
    """A page by its title, anything else by its start, without control characters."""
    assert str(error_from_response(GET, Response(502, {}, body))).endswith(
        f"not an answer of the Polytomic API: {told}"
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
def test_odd_errors_of_the_api(body: dict[str, Any]) -> None:
    """Fields of other types than documented, missing or huge ones change nothing but the words."""
    error = error_from_response(GET, Response(409, {}, json.dumps(body).encode()))
    assert type(error) is PolytomicConflictError
    assert len(str(error)) < 1500


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_a_redirect_says_where_it_points_and_what_to_mend(status: int) -> None:
    """It is never followed; the reader learns which host to write into the connection."""
    error = error_from_response(GET, Response(status, {"location": "https://eu.polytomic.com/api/me?state=secret"}))
    assert type(error) is PolytomicResponseError
    assert error.status_code == status
    assert "redirects to 'https://eu.polytomic.com/api/me?***'" in str(error)
    assert "mend `host` of the Polytomic connection" in str(error)


def test_a_redirect_to_nowhere() -> None:
    """Without a location it says so."""
    assert "redirects to 'nowhere'" in str(error_from_response(GET, Response(302)))


def test_no_answer() -> None:
    """What the transport said is told, with method and path."""
    error = error_from_response(GET, TransportFailure("the connection to h was refused", sent=False))
    assert type(error) is PolytomicUnreachableError
    assert str(error) == "GET /api/bulk/syncs/s: no answer: the connection to h was refused"
    assert (error.method, error.path, error.reason) == (
        "GET",
        "/api/bulk/syncs/s",
        "the connection to h was refused",
    )


def test_half_an_answer() -> None:
    """An answer that broke off is one that is not the API's, with its status."""
    error = error_from_response(GET, TransportFailure("it broke", status=503))
    assert type(error) is PolytomicResponseError
    assert (error.status_code, str(error)) == (503, "GET /api/bulk/syncs/s: HTTP 503: it broke")


@pytest.mark.parametrize("name", ["x-request-id", "x-polytomic-request-id", "cf-ray"])
def test_request_ids(name: str) -> None:
    """The usual headers are known; what they hold is bounded and printable."""
    error = error_from_response(GET, Response(409, {name: "r-\x1b\udcff" + "1" * 500}, b'{"message": "no"}'))
    assert isinstance(error, PolytomicApiError)
    assert error.request_id is not None
    assert error.request_id.isprintable()
    assert len(error.request_id) <= 101


@given(st.integers(300, 999), st.binary(max_size=200), st.dictionaries(st.text(), st.text(), max_size=2))
def test_whatever_comes_is_an_error_of_ours(status: int, body: bytes, headers: dict[str, str]) -> None:
    """No answer breaks the code that tells of it."""
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
def test_any_json_is_an_error_of_ours(body: Any) -> None:
    """Nor does any JSON."""
    assert isinstance(error_from_response(GET, Response(409, {}, json.dumps(body).encode())), PolytomicError)


# secrets


def answers_that_echo(secret: str) -> dict[str, Response]:
    said = json.dumps({"message": f"not valid: {secret}", "key": secret}).encode()
    return {
        "message": Response(401, {}, said),
        "server error": Response(500, {"x-request-id": secret}, said),
        "JSON of somebody": Response(418, {}, json.dumps({"headers": {"authorization": secret}}).encode()),
        "text": Response(502, {}, f"GET / Authorization: {secret}".encode()),
        "page": Response(502, {}, f"<html><title>{html.escape(secret)}</title>".encode()),
        "redirect": Response(302, {"location": f"https://h/{secret}"}),
        "a 200 that is a page": Response(200, {}, f"<html><title>{secret}</title>".encode()),
        "a 200 that is somebody's JSON": Response(200, {}, json.dumps({"authorization": secret}).encode()),
        "a 200 that is text": Response(200, {}, f"{' ' * 1990}Authorization: {secret}".encode()),
    }


@pytest.mark.parametrize("secret", [KEY, BASIC], ids=["key", "login and key"])
@pytest.mark.parametrize("name", answers_that_echo(""))
def test_no_key_in_any_message(send: Send, name: str, secret: str) -> None:
    """A server that echoes the credentials, in whatever way, does not put them into an error."""
    echo = answers_that_echo(secret)[name]
    headers = [f"{header}: {value}" for header, value in echo.headers.items()]
    with Server([http(echo.status, echo.body, *headers)]) as server:
        (answer,) = send(Settings(base_url=server.url, key=KEY, login=LOGIN), GET)
    with pytest.raises(PolytomicError) as caught:
        decode(bulk_syncs.get("s"), answer)
    shown = [str(caught.value), repr(caught.value), repr(caught.value.__dict__)]
    for form in (secret, html.escape(secret), json.dumps(secret)[1:-1], "k3y"):
        assert not any(form in text for text in shown), shown
    assert "***" in shown[0]


def test_no_proxy_password_in_a_message(send: Send) -> None:
    """Nor does a proxy's error page put the proxy's password there."""
    with Server([http(502, b"user me, password p@ss-word (p%40ss-word)")]) as proxy:
        url = proxy.url.replace("://", "://me:p%40ss-word@")
        (answer,) = send(Settings(base_url="http://polytomic.invalid", key=KEY, proxy=url), GET)
    assert str(error_from_response(GET, answer)).endswith("user me, password *** (***)")


def test_the_longest_secret_is_concealed_first() -> None:
    """Nothing is left of one that holds another one."""
    assert redact("apple, pp", ["pp", "apple"]) == "***, ***"


def test_no_key_in_what_a_client_shows() -> None:
    """Neither settings nor client show a secret when they are printed."""
    settings = Settings(key=KEY, login=LOGIN, proxy="http://me:pass-word@proxy")
    for shown in (repr(settings), str(settings), repr(Client(settings))):
        assert not any(secret in shown for secret in ("k3y", BASIC, "pass-word", LOGIN))


def test_a_signed_url_loses_its_signature() -> None:
    """Whoever has the whole of it can read the log."""
    text = "see https://s3.example/log.json?X-Amz-Signature=abc&X=1, or http://h/p?q"
    assert printable(text, 200) == "see https://s3.example/log.json?*** or http://h/p?***"


# errors travel between processes


EXECUTION = BulkSyncExecution.model_validate({"id": "e", "status": "failed", "schemas": [{"schema": "a"}], "new": 1})
ALL = [
    error_from_response(GET, api(status)) for status in (400, 401, 402, 404, 409, 429, 500)
] + [
    error_from_response(GET, TransportFailure("refused")),
    error_from_response(GET, Response(302, {"location": "/"})),
    PolytomicLookupError("none is named so"),
    PolytomicSyncError("it failed", EXECUTION),
    PolytomicSyncError("it failed", {"status": "failed"}),
    PolytomicTimeoutError("too late", still_running=True),
]  # fmt: skip


def test_all_types_are_tried() -> None:
    """The list above has each type of error."""
    ours = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PolytomicError)}
    assert ours - {PolytomicError} == {type(error) for error in ALL}


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_errors_survive_being_pickled(error: PolytomicError) -> None:
    """Type, text and attributes are the same on the other side."""
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(same) is type(error)
        assert (str(same), same.args, same.__dict__) == (str(error), error.args, error.__dict__)


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_errors_can_be_revived(error: PolytomicError) -> None:
    """Name and message are enough to raise an error of the same type in another process."""
    same = error_from_payload(type(error).__name__, str(error))
    assert (type(same), str(same)) == (type(error), str(error))


@pytest.mark.parametrize("name", ["KeyError", "Response", "json", ""])
def test_what_is_not_ours_is_revived_as_the_base(name: str) -> None:
    """With its name in the text; nothing else of the module can be made by a name."""
    assert str(error_from_payload(name, "what")) == f"{name}: what"
    assert type(error_from_payload(name, "what")) is PolytomicError


def test_an_error_can_say_more() -> None:
    """It stays the same error."""
    error = error_from_response(GET, api(409))
    assert add_context(error, "and so on") is error
    assert str(error).endswith("; and so on")


def test_an_answer_of_another_kind_is_never_parsed() -> None:
    """Where data was due, an error of the API is raised as such."""
    answer: SendResult = api(404)
    with pytest.raises(PolytomicNotFoundError, match="what is wrong"):
        decode(bulk_syncs.get("s"), answer)
