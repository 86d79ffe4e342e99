"""What both transports require of an HTTP response, and how its body is decoded.

The HTTP libraries parse the head. These rules are checked for both, from what the libraries report, so that a task
behaves the same in a worker and in the triggerer:

- The head: a status from 200, at most 99 header fields, names that are tokens, values without NUL. Interim responses
  are skipped. A field that is repeated is joined with commas. Bytes that are not UTF-8 are shown as escapes.
- The length: one ``Content-Length`` of digits, or ``Transfer-Encoding: chunked``, or neither; never both.
- The body: ``Content-Encoding`` is a list of ``gzip``, ``x-gzip``, ``deflate`` (with or without the zlib wrapper) and
  ``identity``, each complete and with nothing behind it. No other coding is offered or accepted.

The parsers still differ on broken HTTP. The worker's also accepts bytes after the end of a body, an odd status line or
chunk size, and a head that ends with the connection; the triggerer's also accepts an empty line before the status line,
and HTTP/2.0. In both, a connection on which something follows a response is not used again.
``tests/api/test_http_cases.py`` lists all differences.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from io import BytesIO

from ..plan import BODY_TOO_LARGE, Response, SendResult, TransportFailure
from ..settings import is_too_large

MAX_HEADER_LINE = 64 * 1024  # bytes, as in http.client
MAX_FIELDS = 99  # as in http.client, which counts the empty line too
MAX_CODINGS = 2  # one by the server, one by a proxy
MAX_GZIP_MEMBERS = 10  # each of them copies what follows
SLICE = 16 * 1024  # bytes that go into the decompressor, or come out, at a time
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FOLD = re.compile(rb"\r?\n[ \t]+")  # urllib3 1.26 does not remove it
_LENGTH = re.compile(rb"[0-9]{1,18}")
_GZIP, _ZLIB, _RAW = 31, 15, -15  # the wbits of zlib


class InvalidResponseError(HTTPException):
    """A response that breaks the rules of HTTP, or those above."""


class UndecodableBodyError(ValueError):
    """A body that does not match its ``Content-Encoding``."""


class BodyTooLargeError(Exception):
    """A body that decodes to more than is accepted."""


def read_headers(status: int, fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the header fields of a response: names in lower case, without ``Transfer-Encoding``.

    :raises InvalidResponseError: the head breaks a rule.
    """
    if status < 200:  # only a 101: other interim responses were skipped
        raise InvalidResponseError("status line")
    headers: dict[str, bytes] = {}
    for count, (name, value) in enumerate(fields, 1):
        if count > MAX_FIELDS:
            raise InvalidResponseError("too many headers")
        if not _TOKEN.fullmatch(name) or b"\0" in value:
            raise InvalidResponseError("header field")
        key, value = name.decode("ascii").lower(), _FOLD.sub(b" ", value.strip(b" \t"))
        headers[key] = headers[key] + b", " + value if key in headers else value
    length = headers.get("content-length")
    coding = headers.pop("transfer-encoding", None)
    if length is not None and (coding is not None or not _LENGTH.fullmatch(length)):
        raise InvalidResponseError("Content-Length")
    if coding is not None and coding.lower() != b"chunked":
        raise InvalidResponseError("Transfer-Encoding")
    return {name: value.decode("utf-8", "backslashreplace") for name, value in headers.items()}


def build_response(
    status: int, headers: Mapping[str, str], raw: bytes, max_size: int, secrets: tuple[str, ...]
) -> SendResult:
    """Build a response from a complete body, or a failure if the body is not acceptable.

    :param raw: the body as received.
    :param max_size: of the decoded body, in bytes.
    :param secrets: texts that no message may quote.
    """
    try:
        body = decode_body(raw, headers, max_size)
    except UndecodableBodyError:
        return TransportFailure("the response body cannot be decoded", status=status)
    except BodyTooLargeError:
        return TransportFailure(BODY_TOO_LARGE, status=status)
    if is_too_large(body, max_size):
        return TransportFailure(BODY_TOO_LARGE, status=status)
    return Response(status, headers, body, secrets)


def decode_body(body: bytes, headers: Mapping[str, str], max_size: int) -> bytes:
    """Remove the content codings of a body. Returns the same object if it has none.

    :raises UndecodableBodyError: the body does not match ``Content-Encoding``.
    :raises BodyTooLargeError: the body has more than ``max_size`` bytes after a step.
    """
    codings = [coding.strip().lower() for coding in headers.get("content-encoding", "").split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    if not body or not codings:
        return body
    if len(codings) > MAX_CODINGS:
        raise UndecodableBodyError
    for coding in reversed(codings):
        if coding in ("gzip", "x-gzip"):
            body = _inflate(body, _GZIP, max_size)
        elif coding == "deflate":
            body = _inflate(body, _ZLIB if _has_zlib_header(body) else _RAW, max_size)
        else:
            raise UndecodableBodyError
    return body


def _has_zlib_header(body: bytes) -> bool:
    return body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _inflate(packed: bytes, form: int, max_size: int) -> bytes:
    unpacked = BytesIO()
    for _ in range(MAX_GZIP_MEMBERS if form == _GZIP else 1):
        packed = packed[_inflate_member(packed, form, unpacked, max_size) :]
        if not packed:
            return unpacked.getvalue()
    raise UndecodableBodyError


def _inflate_member(packed: bytes, form: int, unpacked: BytesIO, max_size: int) -> int:
    """Decompress one stream into ``unpacked``, and return its compressed length."""
    stream = zlib.decompressobj(form)
    for start in range(0, len(packed), SLICE):
        piece = packed[start : start + SLICE]
        end, more = start + len(piece), True
        while more:
            try:
                data = stream.decompress(piece, SLICE)
            except zlib.error:
                raise UndecodableBodyError from None
            if unpacked.write(data) and unpacked.tell() > max_size:
                raise BodyTooLargeError
            if stream.eof:
                return end - len(stream.unused_data)
            piece = stream.unconsumed_tail
            more = len(data) == SLICE
    raise UndecodableBodyError
