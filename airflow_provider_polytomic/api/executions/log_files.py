"""The log files of an execution, read from the signed URLs that they are behind.

Such a URL is a secret: whoever has it can read the file. It goes to its own host and nowhere else, and is in no error.
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

    :ivar name: a name to keep it under, the same each time: its number, and what it is called where it is stored.
    :ivar chunks: what is in it, to be read once. Raises a ``PolytomicError`` where it cannot be read to its end.
    """

    name: str
    chunks: Iterator[bytes] = field(repr=False)


def iter_log_files(client: Client, call: Call[Any], max_bytes: int) -> Iterator[LogFile]:
    """One file after the other; all of them may hold ``max_bytes``.

    :param call: what gives their URLs, for either kind of execution.
    """
    left = max_bytes

    def chunks(number: int, url: str) -> Iterator[bytes]:
        nonlocal left
        for chunk in client.stream(url):
            if not isinstance(chunk, bytes):
                raise _read_error(call.request, number, chunk)
            left -= len(chunk)
            if left < 0:
                too_much = f"log file {number}: there is more to read than the {max_bytes} bytes of max_bytes"
                raise PolytomicResponseError(call.request, Response(200), too_much)
            yield chunk

    number = 0
    while True:
        urls = client.call(call).urls or []  # anew for each file: they expire
        if number >= len(urls):
            return
        url = urls[number]
        number += 1
        yield LogFile(_file_name(number, url), chunks(number, url))


def _file_name(number: int, url: str) -> str:
    called = unquote(url.partition("?")[0]).rpartition("/")[2]
    return f"{number}-{re.sub('[^A-Za-z0-9._-]', '_', called)[-100:]}"


def _read_error(request: Request, number: int, answer: SendResult) -> PolytomicError:
    if isinstance(answer, Response):
        return PolytomicResponseError(request, answer, f"log file {number} cannot be read from where it is stored")
    return PolytomicUnreachableError(request, f"log file {number}: {answer.reason}")
