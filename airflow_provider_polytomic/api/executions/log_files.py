"""Reads the log files of an execution from their signed URLs.

A signed URL is a secret, because it grants access to the file. It is sent to its own host only, and no error contains
it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..call import Call
from ..errors import PolytomicError, PolytomicResponseError, PolytomicUnreachableError
from ..plan import Request, Response, SendResult

if TYPE_CHECKING:
    from ..client import Client


@dataclass(frozen=True)
class LogFile:
    """One log file.

    :ivar name: a stable file name: the file's number, and its name in the storage.
    :ivar chunks: the content, to be iterated once. Raises a ``PolytomicError`` when it cannot be read completely.
    """

    name: str
    chunks: Iterator[bytes] = field(repr=False)


def iter_log_files(client: Client, call: Call[Any], max_bytes: int) -> Iterator[LogFile]:
    """Iterate over log files.

    :param call: the call that lists their URLs, for either kind of sync.
    :param max_bytes: limit of the size of all files together.
    :raises PolytomicResponseError: the files are larger, or one cannot be read. Raised while iterating over chunks.
    """
    left = max_bytes

    def chunks(number: int, url: str) -> Iterator[bytes]:
        nonlocal left
        for chunk in client.stream(url):
            if not isinstance(chunk, bytes):
                raise _read_error(call.request, number, chunk)
            left -= len(chunk)
            if left < 0:
                excess = f"log file {number} exceeds the limit: there is more than the {max_bytes} bytes of max_bytes"
                raise PolytomicResponseError(call.request, Response(200), excess)
            yield chunk

    number = 0
    while True:
        urls = client.call(call).urls or []  # list again for each file, because URLs expire
        if number >= len(urls):
            return
        url = urls[number]
        number += 1
        yield LogFile(_file_name(number, url), chunks(number, url))


def _file_name(number: int, url: str) -> str:
    stored_name = unquote(url.partition("?")[0]).rpartition("/")[2]
    return f"{number}-{re.sub('[^A-Za-z0-9._-]', '_', stored_name)[-100:]}"


def _read_error(request: Request, number: int, response: SendResult) -> PolytomicError:
    if isinstance(response, Response):
        return PolytomicResponseError(request, response, f"log file {number} cannot be read from its storage")
    return PolytomicUnreachableError(request, f"log file {number}: {response.reason}")
