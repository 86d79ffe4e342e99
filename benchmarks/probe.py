"""What all processes that are measured have in common. It imports nothing that is not Python's own."""

from __future__ import annotations

import gc
import json
import os
import ssl
import sys
import time
from typing import Any

from .pinned import MEASURED_CPU, pin


def begin() -> dict[str, Any]:
    """Go to where measurements are made, and read what is to be measured."""
    pin(MEASURED_CPU)
    spec: dict[str, Any] = json.loads(sys.argv[1])
    return spec


def report(result: dict[str, Any]) -> None:
    """The last line of the output is what was measured."""
    sys.stdout.flush()
    print("\n" + json.dumps(result), flush=True)


def memory() -> int:
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class TlsContexts:
    """Counts the contexts that are made from now on: each loads all certificates, which takes some 20 ms."""

    def __init__(self) -> None:
        self.made = 0
        make = ssl.SSLContext.__new__

        def counted(cls: type[ssl.SSLContext], *args: Any, **kwargs: Any) -> ssl.SSLContext:
            self.made += 1
            return make(cls, *args, **kwargs)

        ssl.SSLContext.__new__ = counted  # type: ignore[method-assign]


class Collections:
    """Notes how long the longest garbage collection takes from now on: nothing else happens meanwhile."""

    def __init__(self) -> None:
        self.longest = self._began = 0.0
        gc.callbacks.append(self._felt)

    def _felt(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.monotonic()
        else:
            self.longest = max(self.longest, time.monotonic() - self._began)
