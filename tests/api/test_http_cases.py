"""Unusual and malformed HTTP: one table of raw responses with the result in both transports."""

from __future__ import annotations

import gzip
import random
import zlib
from dataclasses import dataclass, replace

import pytest

from airflow_provider_polytomic.api.plan import Request, Response, TransportFailure
from airflow_provider_polytomic.api.settings import Settings
from airflow_provider_polytomic.api.transport.responses import (
    MAX_CODINGS,
    MAX_FIELDS,
    MAX_GZIP_MEMBERS,
    MAX_HEADER_LINE,
    BodyTooLargeError,
    UndecodableBodyError,
    decode_body,
)

from .conftest import Send, send_with_requests
from .servers import Reply, Server

GET = Request("GET", "/api/me")
BODY = b'{"a": 1}'
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKS = b"8\r\n" + BODY + b"\r\n0\r\n\r\n"
GZIP = gzip.compress(BODY)
ZLIB = zlib.compress(BODY)
RAW_DEFLATE = ZLIB[2:-4]
NOT_HTTP = "the response of {host} is not HTTP"
NO_ANSWER = "{host} closed the connection without a response"
HALF = "{host} closed the connection in the middle of the response"
UNPACKED = "the response body cannot be decoded"


@dataclass
class Case:
    """What a server sends before it closes the connection, and the expected result."""

    sent: bytes
    status: int = 200
    headers: dict[str, str] | None = None  # besides Content-Length; None: not compared
    body: bytes = BODY
    unreachable: str | None = None  # the reason; "*" for any, where it depends on how the bytes are cut into packets
    in_worker: Case | None = None  # the result in a worker, if it differs
    why: str = ""  # the reason why the results differ


def head_bytes(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def ok_response(*lines: str, body: bytes = BODY) -> bytes:
    """Return a complete response with additional header lines."""
    return head_bytes("HTTP/1.1 200 OK", LENGTH, *lines) + body


def encoded_response(coding: str, body: bytes) -> bytes:
    return head_bytes("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", f"Content-Encoding: {coding}") + body


def chunked_response(body: bytes, *lines: str, coding: str = "chunked") -> bytes:
    return head_bytes("HTTP/1.1 200 OK", f"Transfer-Encoding: {coding}", *lines) + body


def failure(sent: bytes, reason: str = NOT_HTTP) -> Case:
    return Case(sent, unreachable=reason)


def differing(case: Case, in_worker: Case, why: str) -> Case:
    return replace(case, in_worker=in_worker, why=why)


def lax(case: Case, why: str) -> Case:
    """Return a case that fails in the triggerer and is accepted in a worker."""
    return differing(case, Case(case.sent), why)


REST = "http.client reads as much as was announced; what follows is dropped with the connection"
STATUS_LINE = "http.client splits the status line at any space, and accepts any HTTP/1.x"
CUT = "to http.client the end of the connection also ends the head"
CHUNK_SIZE = "urllib3 reads the size with int()"
SKIPPED = "the email parser, which http.client uses, skips the field"


INTERIM = {
    **{
        f"interim {status}": Case(head_bytes(f"HTTP/1.1 {status} X") + ok_response()) for status in (100, 102, 103, 199)
    },
    "interim with headers": Case(head_bytes("HTTP/1.1 103 X", "Link: </a>", "Content-Length: 5") + ok_response()),
    "interim 50 times": Case(head_bytes("HTTP/1.1 102 X") * 50 + ok_response()),
    "interim and nothing more": failure(head_bytes("HTTP/1.1 102 X"), NO_ANSWER),
    "interim that is broken": failure(head_bytes("HTTP/1.1 102 X", "nonsense") + ok_response()),
    "interim and response, twice": Case((head_bytes("HTTP/1.1 103 X") + ok_response()) * 2),
    "switching protocols": failure(head_bytes("HTTP/1.1 101 X", "Upgrade: x", "Connection: upgrade")),
}
HEAD_SIZES = {
    "header of 16 KiB": Case(ok_response("X: " + "a" * 16384), headers={"x": "a" * 16384}),
    "header of the largest size": Case(ok_response("X: " + "a" * (MAX_HEADER_LINE - 100))),
    "header too large": failure(ok_response("X: " + "a" * (MAX_HEADER_LINE + 100))),
    "headers that are large together": Case(ok_response(*(f"X-{number}: {'a' * 7000}" for number in range(20)))),
    "name of a header too large": failure(ok_response("X" * MAX_HEADER_LINE + ": a")),
    "reason too large": failure(head_bytes("HTTP/1.1 200 " + "x" * (MAX_HEADER_LINE + 1), LENGTH) + BODY),
    "as many headers as may be": Case(ok_response(*(f"X-{number}: a" for number in range(MAX_FIELDS - 1)))),
    "too many headers": failure(ok_response(*(f"X-{number}: a" for number in range(MAX_FIELDS)))),
    "far too many headers": failure(ok_response(*(f"X-{number}: a" for number in range(9999)))),
}
CODINGS = {
    **{
        name: Case(encoded_response(name, GZIP), headers={"content-encoding": name})
        for name in ("gzip", "x-gzip", "GZip")
    },
    "deflate": Case(encoded_response("deflate", ZLIB)),
    "deflate without zlib": Case(encoded_response("deflate", RAW_DEFLATE)),
    "gzip twice": Case(encoded_response("gzip, gzip", gzip.compress(GZIP))),
    "gzip twice in two headers": Case(encoded_response("gzip\r\nContent-Encoding: gzip", gzip.compress(GZIP))),
    "deflate, then gzip": Case(encoded_response("deflate, gzip", gzip.compress(ZLIB))),
    "gzip, identity": Case(encoded_response("gzip, identity", GZIP)),
    "identity": Case(encoded_response("identity", BODY)),
    "no coding": Case(encoded_response("", BODY)),
    "gzip of two members": Case(encoded_response("gzip", GZIP + GZIP), body=BODY * 2),
    "gzip of nothing": Case(encoded_response("gzip", b""), body=b""),
    "three codings": failure(encoded_response("gzip, gzip, gzip", gzip.compress(gzip.compress(GZIP))), UNPACKED),
    "br": failure(encoded_response("br", b"\x8b\x03\x80" + BODY + b"\x03"), UNPACKED),
    "unknown coding": failure(encoded_response("foo", BODY), UNPACKED),
    "not gzip": failure(encoded_response("gzip", BODY), UNPACKED),
    "not deflate": failure(encoded_response("deflate", b"\xff" * 9), UNPACKED),
    "gzip cut off": failure(encoded_response("gzip", GZIP[:-9]), UNPACKED),
    "gzip without its checksum": failure(encoded_response("gzip", GZIP[:-8]), UNPACKED),
    "gzip with a wrong checksum": failure(encoded_response("gzip", GZIP[:-8] + bytes(8)), UNPACKED),
    "gzip and more": failure(encoded_response("gzip", GZIP + b"garbage"), UNPACKED),
    "gzip and zeros": failure(encoded_response("gzip", GZIP + bytes(9)), UNPACKED),
    "deflate cut off": failure(encoded_response("deflate", ZLIB[:-5]), UNPACKED),
    "deflate and more": failure(encoded_response("deflate", ZLIB + b"garbage"), UNPACKED),
}
LENGTHS = {
    "length with zeros": Case(head_bytes("HTTP/1.1 200 OK", "Content-Length: 008") + BODY),
    "no length": Case(head_bytes("HTTP/1.1 200 OK") + BODY),
    "length of nothing": Case(head_bytes("HTTP/1.1 200 OK", "Content-Length: 0"), body=b""),
    "length repeated": failure(ok_response(LENGTH)),
    "length repeated in one header": failure(head_bytes("HTTP/1.1 200 OK", "Content-Length: 8, 8") + BODY),
    "lengths that differ": failure(ok_response("Content-Length: 3")),
    **{
        f"length {value!r}": failure(head_bytes("HTTP/1.1 200 OK", f"Content-Length: {value}") + BODY)
        for value in ("+8", "-8", "x", "", "0_8", "9" * 23, "8 8")
    },
    "length and chunks": failure(chunked_response(CHUNKS, LENGTH)),
    "other length and chunks": failure(chunked_response(CHUNKS, "Content-Length: 3")),
    "length without a body": failure(head_bytes("HTTP/1.1 200 OK", LENGTH), HALF),
    "204": Case(head_bytes("HTTP/1.1 204 No"), 204, body=b""),
    "304 with the length of what was not sent": Case(head_bytes("HTTP/1.1 304 No", LENGTH), 304, body=b""),
    **{
        f"{status} with a body": differing(
            failure(head_bytes(f"HTTP/1.1 {status} No", LENGTH) + BODY), Case(b"", status, body=b""), REST
        )
        for status in (204, 304)
    },
    "204 with chunks": differing(
        failure(head_bytes("HTTP/1.1 204 No", "Transfer-Encoding: chunked") + b"0\r\n\r\n"),
        Case(b"", 204, body=b""),
        REST,
    ),
    "length, and chunks behind a broken header": failure(
        ok_response("nonsense", "Transfer-Encoding: chunked", body=CHUNKS)
    ),
    "length, and chunks behind a bare CR": failure(ok_response("X: a\rTransfer-Encoding: chunked", body=CHUNKS)),
    "205 with a body": Case(head_bytes("HTTP/1.1 205 No", LENGTH) + BODY, 205),
    "more than its length": lax(failure(ok_response(body=BODY + b"garbage")), REST),
    "more than its length, of a closed connection": lax(
        failure(ok_response("Connection: close", body=BODY + b"garbage")), REST
    ),
    "an empty line too many": Case(ok_response(body=BODY + b"\r\n")),
    "a second response": Case(ok_response(body=BODY + head_bytes("HTTP/1.1 500 No", "Content-Length: 0"))),
}
CHUNKED = {
    "chunks": Case(chunked_response(CHUNKS), headers={}),
    "Chunks": Case(chunked_response(CHUNKS, coding="Chunked")),
    "chunks of HTTP/1.0": Case(head_bytes("HTTP/1.0 200 OK", "Transfer-Encoding: chunked") + CHUNKS),
    "chunks with trailers": Case(chunked_response(b"8\r\n" + BODY + b"\r\n0\r\nX-T: 1\r\n\r\n"), headers={}),
    "chunks with extensions": Case(chunked_response(b"8;a=b\r\n" + BODY + b"\r\n0\r\n\r\n")),
    "chunks with spaces": Case(chunked_response(b"8  \r\n" + BODY + b"\r\n0\r\n\r\n")),
    "many chunks": Case(chunked_response(b"1\r\nx\r\n" * 9999 + b"0\r\n\r\n"), body=b"x" * 9999),
    **{
        f"transfer coding {coding}": failure(chunked_response(CHUNKS, coding=coding))
        for coding in ("gzip, chunked", "gzip", "identity", "chunked, chunked", "chunked\r\nTransfer-Encoding: chunked")
    },
    **{
        f"chunk size {size}": failure(chunked_response(size.encode() + b"\r\n" + BODY + b"\r\n0\r\n\r\n"), "*")
        for size in ("zz", "-1", "5", "", "f" * 17)
    },
    **{
        f"chunk size {size.decode()}": lax(failure(chunked_response(size + CHUNKS[1:]), "*"), CHUNK_SIZE)
        for size in (b"0x8", b"+8")
    },
    "chunks with bare LF": failure(chunked_response(CHUNKS.replace(b"\r", b"")), "*"),
    "chunks without the last line": lax(
        failure(chunked_response(CHUNKS[:-2]), HALF), "to urllib3 the last chunk is the end"
    ),
    "chunks without the last chunk": differing(
        failure(chunked_response(CHUNKS[:-5]), HALF), failure(b"", "*"), "the words are those of urllib3"
    ),
    "chunk without an end": failure(chunked_response(b"10\r\n" + BODY), HALF),
    "chunks and more": lax(failure(chunked_response(CHUNKS + b"garbage"), "*"), REST),
}
STATUS_LINES = {
    **{
        line: Case(head_bytes(line, LENGTH) + BODY)
        for line in ("HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 200 OK", "HTTP/1.1 200 caf\xe9", "HTTP/0.9 200 OK")
    },
    **{line: Case(head_bytes(line, LENGTH) + BODY, int(line[9:12])) for line in ("HTTP/1.1 600 X", "HTTP/1.1 999 X")},
    **{
        line: failure(head_bytes(line, LENGTH) + BODY)
        for line in (
            *("HTTP/2 200 OK", "HTTP/1 200 OK", "ICY 200 OK", "http/1.1 200 OK"),
            *("HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 abc OK", "HTTP/1.1 000 OK"),
        )
    },
    **{
        line: lax(failure(head_bytes(line, LENGTH) + BODY), STATUS_LINE)
        for line in (
            *("HTTP/1.2 200 OK", "HTTP/1.10 200 OK", " HTTP/1.1 200 OK", "HTTP/1.1  200 OK", "HTTP/1.1\t200 OK"),
            "HTTP/1.1 +200 OK",
        )
    },
    **{
        line: differing(Case(head_bytes(line, LENGTH) + BODY), failure(b""), why)
        for line, why in (
            ("\r\nHTTP/1.1 200 OK", "aiohttp skips empty lines"),
            ("HTTP/2.0 200 OK", "aiohttp accepts any known version"),
        )
    },
    "line ends without CR": Case(ok_response().replace(b"\r", b"")),
    "cut off in the status line": differing(failure(b"HTTP/1.1 200", NO_ANSWER), Case(b"", body=b""), CUT),
    "cut off in a header": differing(failure(b"HTTP/1.1 200 OK\r\nContent-Le", NO_ANSWER), failure(b""), CUT),
    "cut off after a header": differing(failure(b"HTTP/1.1 200 OK\r\nX: y\r\n", NO_ANSWER), Case(b"", body=b""), CUT),
    "an empty line only": differing(failure(b"\r\n", NO_ANSWER), failure(b""), "aiohttp skips empty lines"),
}
HEADERS = {
    "upper case": Case(head_bytes("HTTP/1.1 200 OK", "CONTENT-LENGTH: 8", "X-UP: V") + BODY, headers={"x-up": "V"}),
    "spaces around a value": Case(ok_response("X:  1 \t"), headers={"x": "1"}),
    "empty value": Case(ok_response("X:"), headers={"x": ""}),
    "folded": differing(
        Case(ok_response("X: a", "  b"), headers={"x": "a  b"}),
        Case(b"", headers={"x": "a b"}),
        "workers keep one space",
    ),
    "repeated": Case(ok_response("X: 1", "Y: 2", "x: 3"), headers={"x": "1, 3", "y": "2"}),
    "repeated Retry-After": Case(ok_response("Retry-After: 1", "Retry-After: 2"), headers={"retry-after": "1, 2"}),
    "UTF-8": Case(ok_response("X: caf\xc3\xa9"), headers={"x": "caf\xe9"}),
    "Latin-1": Case(ok_response("X: caf\xe9"), headers={"x": "caf\\xe9"}),
    "control character": Case(ok_response("X: a\x01b"), headers={"x": "a\x01b"}),
    "BOM": Case(
        head_bytes("HTTP/1.1 200 OK", "Content-Length: 11") + b"\xef\xbb\xbf" + BODY, body=b"\xef\xbb\xbf" + BODY
    ),
    "charset": Case(ok_response("Content-Type: application/json; charset=utf-16")),
    "broken content type": Case(ok_response("Content-Type: ;;;=x")),
    "broken cookie": Case(ok_response("Set-Cookie: \xe9=;;;a")),
    "location that is no URL": Case(head_bytes("HTTP/1.1 301 X", "Location: http://[::1", LENGTH) + BODY, 301),
    "two locations": Case(head_bytes("HTTP/1.1 301 X", "Location: /a", "Location: /b", LENGTH) + BODY, 301),
    "upgrade offered": Case(ok_response("Connection: Upgrade", "Upgrade: h2c")),
    **{
        f"header {line!r}": failure(ok_response(line))
        for line in ("nonsense", "X : y", "X Y: z", "X\xe9: y", "X(: y", "X: a\0b", "X: a\rb")
    },
    "header without a name": lax(failure(ok_response(": x")), SKIPPED),
    "folded without a header before": lax(failure(head_bytes("HTTP/1.1 200 OK", "  b", LENGTH) + BODY), SKIPPED),
}
CASES = INTERIM | HEAD_SIZES | CODINGS | LENGTHS | CHUNKED | STATUS_LINES | HEADERS


@pytest.mark.parametrize("name", CASES)
def test_raw_response_has_the_result_of_the_table_in_both_transports(send: Send, name: str) -> None:
    """The response, or the reason of the failure, is the same unless the table has another result for workers."""
    case = CASES[name]
    expected = case.in_worker if send is send_with_requests and case.in_worker else case
    with Server([Reply(case.sent, then="close")]) as server:
        (result,) = send(Settings(base_url=server.url, key="k", timeout=60.0), GET)
    if expected.unreachable is not None:
        assert isinstance(result, TransportFailure)
        assert expected.unreachable in ("*", result.reason.replace(server.host, "{host}"))
        assert result.sent
        return
    assert isinstance(result, Response), result
    assert (result.status, result.body) == (expected.status, expected.body)
    if expected.headers is not None:
        shown = {name: value for name, value in result.headers.items() if name not in ("content-length", "connection")}
        assert shown == expected.headers


AMBIGUOUS = [
    *("a second response", "an empty line too many", "more than its length", "chunks and more"),
    *("length and chunks", "other length and chunks", "lengths that differ", "length repeated"),
    *("204 with a body", "304 with a body", "204 with chunks", "chunk size +8", "interim and response, twice"),
    *("length, and chunks behind a broken header", "length, and chunks behind a bare CR"),
]


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_bytes_after_a_response_are_not_the_response_of_the_next_request(send: Send, name: str) -> None:
    """Whether or not the first response is accepted, the next request gets its own response."""
    next_response = head_bytes("HTTP/1.1 418 Own", "Content-Length: 0")
    with Server([Reply(CASES[name].sent), Reply(next_response)]) as server:
        _, second = send(Settings(base_url=server.url, key="k", timeout=60.0), GET, GET)
    assert second.status == 418


# decoding of bodies


@pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, gzip", "deflate, gzip"])
def test_decode_body_raises_when_the_decoded_body_exceeds_the_limit(coding: str) -> None:
    """A body of exactly the limit is decoded, for every coding."""
    for size, accepted in ((100_000, True), (100_001, False)):
        body = bytes(size)
        for step in coding.split(", "):
            body = (gzip if step == "gzip" else zlib).compress(body)  # type: ignore[attr-defined]
        try:
            assert decode_body(body, {"content-encoding": coding}, 100_000) == bytes(size)
        except BodyTooLargeError:
            assert not accepted
        else:
            assert accepted


def test_decode_body_returns_the_same_object_when_there_is_no_coding() -> None:
    """A large body is not copied."""
    body = bytes(1000)
    assert decode_body(body, {}, 10**6) is body


def test_decode_body_limits_gzip_members_and_codings() -> None:
    """Each member copies the remainder, so a body of tiny members would take minutes."""
    assert decode_body(GZIP * MAX_GZIP_MEMBERS, {"content-encoding": "gzip"}, 10**6) == BODY * MAX_GZIP_MEMBERS
    with pytest.raises(UndecodableBodyError):
        decode_body(GZIP * (MAX_GZIP_MEMBERS + 1), {"content-encoding": "gzip"}, 10**6)
    with pytest.raises(UndecodableBodyError):
        decode_body(BODY, {"content-encoding": ", ".join(["gzip"] * (MAX_CODINGS + 1))}, 10**6)


# mutated responses

PIECES = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b"0", b"8", b"-", b"\xff", b"204", b"103"]
PIECES += [b"HTTP/1.1 "]
PIECES += [LENGTH.encode() + b"\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"0\r\n\r\n"]


def mutate_response(rng: random.Random) -> bytes:
    whole = [case.sent for name, case in CASES.items() if len(case.sent) < 1000 and name != "a second response"]
    sent = rng.choice(whole)
    for _ in range(rng.choice([1, 1, 2, 3])):
        start = rng.randrange(len(sent) + 1)
        end = min(len(sent), start + rng.randrange(5))
        new = rng.choice([b"", rng.choice(PIECES), bytes([rng.randrange(256)]), sent[start:end] * 2])
        sent = sent[:start] + new + sent[end:]
    return sent


def test_mutated_response_gives_a_response_or_a_failure_without_a_timeout(send: Send) -> None:
    """No exception, and no waiting for more once the server has closed the connection."""
    rng = random.Random(20261128)
    with Server() as server:
        for _ in range(200):
            sent = mutate_response(rng)
            server.script = [Reply(sent, then="close")]
            (result,) = send(Settings(base_url=server.url, key="k", timeout=60.0), GET)
            assert isinstance(result, Response) or "did not respond" not in result.reason, sent
