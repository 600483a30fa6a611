"""`python -m bench`: measures, reports progress on standard error, prints a table on standard output."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec

from bench import picture, table
from bench.against import compare_servers
from bench.api import Api, CannotCreate
from bench.client import BadAnswer
from bench.compare import compare
from bench.figures import OURS, Figure
from bench.machine import describe
from bench.models import CACHE, MODELS, Q8_0, SIGHT, TINYCHAT, prepare, provide
from bench.servers import Server, UnknownServer, find_servers
from bench.serving import LocalServer
from bench.workload import FULL, QUICK


def main() -> int:
    """Run the benchmark; returns the exit code."""
    options = _parser().parse_args()
    # Like Ctrl-C, so that the server under test and the bare loop are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        others = find_servers(options.against)
        figures = _measure(others, quick=options.quick)
    except (BadAnswer, CannotCreate, UnknownServer, httpx.HTTPError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    _say(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    _report(figures, others, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What Pronk costs on top of llama.cpp.")
    parser.add_argument(
        "--against",
        metavar="URL",
        nargs="+",
        default=[],
        help="compare with these servers instead: Ollama-compatible ones, llama-server",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds and little traffic: a look, not a measurement")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures of every round")
    parser.add_argument("--picture", metavar="FILE", type=Path, default=CACHE / "benchmarks.svg", help="draw it there")
    return parser


def _measure(others: Sequence[Server], *, quick: bool) -> list[Figure]:
    models, rounds = ((Q8_0, TINYCHAT, SIGHT), QUICK) if quick else (MODELS, FULL)
    _say("making the models, where they are missing")
    prepare(models)
    figures = []
    with tempfile.TemporaryDirectory(prefix="store-", dir=CACHE) as folder:
        store = Path(folder)
        with LocalServer(store) as server:
            provide(Api(server.url), models)
        for figure in compare_servers(store, others, models, rounds) if others else compare(store, models, rounds):
            side, phase = (f" ({word})" if word else "" for word in (figure.side, figure.phase))
            _say(f"{figure.name}{phase}{side}: {table.number(figure.value)} {figure.unit}")
            figures.append(figure)
    return figures


def _report(figures: list[Figure], others: Sequence[Server], options: argparse.Namespace) -> None:
    machine = describe() | {f"{other.label} at {other.url}": other.version for other in others}
    rows = table.server_rows(figures) if others else table.goal_rows(figures)
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    print(table.markdown(rows) if options.markdown else table.plain(rows))
    if options.json:
        options.json.write_bytes(msgspec.json.encode({"machine": machine, "figures": figures}))
    panels = picture.panels(figures, OURS)
    options.picture.write_text(
        picture.draw(panels, f"{machine['processor']}, cores: {machine['cores']}"), encoding="utf-8"
    )
    _say(f"the picture is {options.picture}")


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
