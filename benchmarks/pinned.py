"""Where processes run: what is measured on one CPU, what it talks to on another."""

from __future__ import annotations

import os

MEASURED_CPU, SERVER_CPU = 0, 1


def pin(which: int) -> None:
    """Keep this process on one of the CPUs that it may use; on a machine with only one, nothing can be kept apart."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) > 1:
        os.sched_setaffinity(0, {cpus[which]})
