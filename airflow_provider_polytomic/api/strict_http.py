"""Reads the HTTP responses of a worker: in place of the lax parser of the standard library, which ``requests`` uses."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from http.client import HTTPMessage, HTTPResponse, RemoteDisconnected
from typing import Any

from .responses import MAX_FIELDS, MAX_HEAD, InvalidResponseError, read_headers

READ_SIZE = 65536  # bytes, at most, of one read of the socket
_STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([0-9]{3})(?: (.*))?", re.DOTALL)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t -~]*)?")
_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


@contextmanager
def response_deadline(deadline: float) -> Iterator[None]:
    """Let responses that begin within this block end before ``deadline``, on the monotonic clock.

    The timeout of a socket bounds each read, and a server that sends byte by byte makes any number of them.
    """
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


class StrictHTTPResponse(HTTPResponse):
    """A response whose head and length are checked. What ``urllib3`` reads of it has no chunks left."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._connection = sock

    def begin(self) -> None:
        if self.headers is not None:
            return
        source = _Source(self.fp, self._connection)
        while True:
            version, status, reason, fields = _read_head(source)
            headers = read_headers(version, status, fields)
            if status >= 200:  # others announce the response
                break
        chunked = any(name.lower() == b"transfer-encoding" for name, _ in fields)
        length = headers.get("content-length")
        if status in (204, 304):
            body = _Body(source, 0)
        elif chunked:
            body = _Body(source, 0, chunked=True)
        else:
            body = _Body(source, None if length is None else int(length))
        self.fp = body
        self.code = self.status = status
        self.version = 10 * version[0] + version[1]
        self.reason = reason.decode("utf-8", "backslashreplace").strip()
        self.headers = self.msg = HTTPMessage()
        for name, value in headers.items():
            self.headers[name] = value
        self.chunked, self.length = False, None
        options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
        keeps_open = "close" not in options if version == (1, 1) else "keep-alive" in options
        self.will_close = not keeps_open or body.ends_with_connection


Head = tuple[tuple[int, int], int, bytes, list[tuple[bytes, bytes]]]


def _read_head(source: _Source) -> Head:
    """Version, status, reason and fields of the next response."""
    while not (line := source.line().lstrip(b"\r")):  # some servers send an empty line too many
        pass
    match = _STATUS_LINE.fullmatch(line)
    if not match or b"\r" in line or len(line) > MAX_HEAD:
        raise InvalidResponseError("status line")
    major, minor, status, reason = match.groups()
    fields: list[tuple[bytes, bytes]] = []
    size = 0
    while line := source.line():
        size += len(line)
        if size > 2 * MAX_HEAD or len(fields) > MAX_FIELDS:
            raise InvalidResponseError("too many headers")
        if line[:1] in (b" ", b"\t") and fields:  # folded: a continuation
            name, value = fields.pop()
            fields.append((name, value + line))
            continue
        name, colon, value = line.partition(b":")
        if not colon:
            raise InvalidResponseError("header field")
        fields.append((name, value))
    return (int(major), int(minor)), int(status), reason or b"", fields


class _Source:
    """The bytes of one connection, in the order in which they come."""

    def __init__(self, fp: Any, connection: socket.socket) -> None:
        self.fp = fp
        self._connection = connection
        self._deadline = _deadline.get()
        self._data = b""  # of the last read
        self._at = 0  # how much of it has been asked for

    def some(self, most: int) -> bytes:
        """At least one byte and at most ``most``; nothing at the end of the connection."""
        if self._at == len(self._data):
            self._data, self._at = self._read(), 0
        start, self._at = self._at, min(self._at + most, len(self._data))
        return self._data[start : self._at]  # the same object if it is all of it

    def line(self, *, strict: bool = False) -> bytes:
        """The next line without its end, which is CR LF or, if not ``strict``, LF alone."""
        while (end := self._data.find(b"\n", self._at)) < 0:
            if len(self._data) - self._at > MAX_HEAD:
                raise InvalidResponseError("line too long")
            more = self._read()
            if not more:
                raise RemoteDisconnected("in the head of the response")
            self._data, self._at = self._data[self._at :] + more, 0
        line = self._data[self._at : end]
        self._at = end + 1
        if line.endswith(b"\r"):
            return line[:-1]
        if strict:
            raise InvalidResponseError("line end")
        return line

    def check_end(self) -> None:
        """Nothing may follow a response. If it is another response, the connection is not used again."""
        rest = self._data[self._at :].lstrip(b"\r\n")
        if not rest:
            return
        if not b"HTTP/".startswith(rest[:5]):
            raise InvalidResponseError("bytes after the end")
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _read(self) -> bytes:
        if time.monotonic() > self._deadline:
            raise TimeoutError
        data: bytes = self.fp.read1(READ_SIZE)
        return data


class _Body:
    """The file that holds the body of one response: no byte more or less than its head announces."""

    def __init__(self, source: _Source, length: int | None, *, chunked: bool = False) -> None:
        self._source = source
        self._left = length  # of the body or of the chunk; None: whatever comes until the connection ends
        self._chunked = chunked
        self._first = True
        if length == 0 and not chunked:
            self._source.check_end()

    @property
    def ends_with_connection(self) -> bool:
        return self._left is None

    def read(self, most: int = READ_SIZE) -> bytes:
        if self._left == 0 and self._chunked:
            self._begin_chunk()
        if self._left == 0 or most == 0:
            return b""
        data = self._source.some(most if self._left is None else min(most, self._left))
        if self._left is None:
            return data
        if not data:
            raise ConnectionAbortedError
        self._left -= len(data)
        if not self._left and not self._chunked:
            self._source.check_end()
        return data

    def _begin_chunk(self) -> None:
        if not self._first and self._source.line():
            raise InvalidResponseError("chunk")
        self._first = False
        match = _CHUNK_SIZE.fullmatch(self._source.line(strict=True))
        if not match:
            raise InvalidResponseError("chunk size")
        self._left = int(match[1], 16)
        if self._left == 0:
            self._chunked = False
            size = 0
            while line := self._source.line(strict=True):  # trailers
                size += len(line)
                if size > MAX_HEAD or b":" not in line:
                    raise InvalidResponseError("trailer")
            self._source.check_end()

    def flush(self) -> None:
        """Nothing is written, but ``http.client`` flushes what it closes."""

    def close(self) -> None:
        self._source.fp.close()
