"""`python -m tests.fuzz [TARGET]`: tries inputs until so many were tried, time is up, or one is dealt with badly.

Without a target, requests are made of the OpenAPI document and sent to a real server.

What fails is a traceback and the input in a file. The seed that is printed makes the same inputs again.
"""

from __future__ import annotations

import argparse
import resource
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.fuzz.http import HTTP, fuzz_http
from tests.fuzz.targets import targets
from tests.fuzz.trials import Target, Trial

_MEMORY = Path("/dev/shm")
_REQUESTS = 20_000
_INPUTS = 100_000
_MINUTES = 15.0  # of requests
_LONGEST = 2.0  # seconds of CPU time that one input may take
_REPORT_EVERY = 30.0  # seconds


def main() -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args()
    if options.target == HTTP:
        sys.exit(fuzz_http(options.inputs or _REQUESTS, options.minutes or _MINUTES, options.seed))
    signal.signal(signal.SIGPROF, _too_slow)
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        known = targets(Path(folder))
        if options.target not in known:
            sys.exit(f"targets are {', '.join((HTTP, *known))}")
        _run(options, known[options.target])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Tries broken inputs.")
    parser.add_argument("target", nargs="?", default=HTTP)
    parser.add_argument("--inputs", type=int, metavar="N", help="20,000 requests, 100,000 of anything else")
    parser.add_argument("--minutes", type=float, default=0, metavar="M", help="15 of requests, 10 of anything else")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), metavar="S")
    return parser


def _run(options: argparse.Namespace, target: Target) -> None:
    random = Random(options.seed)
    inputs = options.inputs or _INPUTS
    started = reported = time.monotonic()
    tried = 0
    while tried < inputs and (now := time.monotonic()) < started + 60 * (options.minutes or 10):
        _try(target(random), options.target)
        tried += 1
        if now > reported + _REPORT_EVERY:
            reported = now
            print(f"{tried:,} inputs", file=sys.stderr)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    seconds = time.monotonic() - started
    print(f"{options.target}: {tried:,} inputs, seed {options.seed}, {seconds:.0f} s, {memory} MiB at most, no fault")


def _try(trial: Trial, name: str) -> None:
    with _kept(trial, Path(f"fault-{name}.txt")):
        signal.setitimer(signal.ITIMER_PROF, _LONGEST)
        trial.run()
        signal.setitimer(signal.ITIMER_PROF, 0)


@contextmanager
def _kept(trial: Trial, path: Path) -> Iterator[None]:
    """Write the input to a file if it does not pass."""
    passed = False
    try:
        yield
        passed = True
    finally:
        if not passed:
            path.write_text(f"{trial.given!r}\n", errors="backslashreplace")
            print(f"the input is in {path}", file=sys.stderr)


def _too_slow(signal_: int, frame: object) -> None:
    raise TimeoutError(f"more than {_LONGEST} s of CPU time")


main()
