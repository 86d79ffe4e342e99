"""``python -m airflow_provider_polytomic.sandbox``: a local Polytomic to develop against."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from .app import Sandbox
from .seed import BulkSyncSpec, ModelSyncSpec, default_seed
from .seed_reader import SeedError
from .server import HOST, Server


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        sandbox = Sandbox(options.seed, speed=options.speed, deliver_to=options.deliver_to)
    except SeedError as error:
        print(f"Invalid seed: {error}", file=sys.stderr)
        return 2
    # Before the first line is printed: its reader may send a signal at once.
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = Server(sandbox, options.port)
    except OSError as error:
        print(f"Cannot listen on {HOST}:{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    # In one write: a reader of only the first line may close the pipe after it.
    first = f"Polytomic sandbox at {server.url}, API key: {sandbox.key}"
    print("\n".join([first, *sandbox.describe()]), flush=True)
    stop.wait()
    server.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    seed = default_seed()
    syncs: list[BulkSyncSpec | ModelSyncSpec] = [*seed.bulk_syncs, *seed.model_syncs]
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_polytomic.sandbox",
        epilog="Syncs of the default seed: " + ", ".join(f"{sync.name} ({sync.id})" for sync in syncs) + ".",
        description="A local Polytomic to develop against. It listens on 127.0.0.1 and moves no data.",
    )
    parser.add_argument(
        "--port", type=_port, default=8765, help="port to listen on; 0 picks a free one (default: %(default)s)"
    )
    parser.add_argument("--seed", metavar="FILE", help="YAML or JSON file with connections, syncs and their outcomes")
    parser.add_argument(
        "--speed", type=_speed, default=1.0, metavar="N", help="run executions N times faster (default: 1)"
    )
    parser.add_argument(
        "--deliver-to", metavar="FILE.sqlite", help="write made-up rows of completed bulk syncs to a SQLite file"
    )
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("must be 0 to 65535")
    return port


def _speed(text: str) -> float:
    speed = float(text)
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0")
    return speed


if __name__ == "__main__":
    sys.exit(main())
