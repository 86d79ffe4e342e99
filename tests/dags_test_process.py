"""Runs `airflow dags test` several times in one process, because loading Airflow takes longer than running a DAG.

Each line of the input is a JSON object with ``arguments`` (of the command) and ``env`` (which stays set). Each line of
the output is the exit code as JSON. What Airflow prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

from airflow.__main__ import main


def run(arguments: list[str]) -> Any:
    sys.argv = ["airflow", *arguments]
    try:
        main()
    except SystemExit as end:
        print(end, file=sys.stderr)
        return end.code or 0
    except Exception:  # noqa: BLE001  the next DAG does not depend on it
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        request = json.loads(line)
        os.environ.update(request["env"])
        print(json.dumps(run(request["arguments"])), file=replies)
