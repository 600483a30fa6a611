"""`python -m bench`: measures, reports progress on standard error, prints a table on standard output."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

import httpx
import msgspec

from bench import table
from bench.against import compare_servers
from bench.api import Api, CannotCreate
from bench.client import BadAnswer
from bench.compare import compare
from bench.figures import Figure
from bench.machine import describe
from bench.models import CACHE, prepare, provide
from bench.serving import LocalServer
from bench.workload import FULL, QUICK


def main() -> int:
    """Run the benchmark; returns the exit code."""
    options = _parser().parse_args()
    # Like Ctrl-C, so that the server under test and the bare loop are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    _say("making the models, where they are missing")
    prepare()
    try:
        with tempfile.TemporaryDirectory(prefix="store-", dir=CACHE) as folder:
            figures = _measure(Path(folder), options)
    except (BadAnswer, CannotCreate, httpx.HTTPError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    _say(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    _report(figures, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What Pronk costs on top of llama.cpp.")
    parser.add_argument("--against", metavar="URL", help="compare with this Ollama-compatible server instead")
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a measurement")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures of every round")
    return parser


def _measure(store: Path, options: argparse.Namespace) -> list[Figure]:
    with LocalServer(store) as server:
        provide(Api(server.url))
    rounds = QUICK if options.quick else FULL
    figures = []
    for figure in compare_servers(store, options.against, rounds) if options.against else compare(store, rounds):
        _say(f"{figure.name}: {table.number(figure.value)} {figure.unit}")
        figures.append(figure)
    return figures


def _report(figures: list[Figure], options: argparse.Namespace) -> None:
    machine = describe()
    rows = table.server_rows(figures) if options.against else table.goal_rows(figures)
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    print(table.markdown(rows) if options.markdown else table.plain(rows))
    if options.json:
        options.json.write_bytes(msgspec.json.encode({"machine": machine, "figures": figures}))


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
