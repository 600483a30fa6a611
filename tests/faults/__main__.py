"""`python -m tests.faults`: tries real servers with faults and load, prints goals and what was measured.

The exit code is 1 if a run breaks, or if something is lost or left over that never may be. Times only are told: they
depend on the machine, and a goal for them that is not reached says NO.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from bench.machine import describe
from bench.table import markdown
from tests.faults.bodies import input_limits
from tests.faults.cancellation import cancellation, handles
from tests.faults.isolation import crash_isolation, parent_death
from tests.faults.leaks import leaks
from tests.faults.measure import FULL, QUICK, Counts, Line
from tests.faults.overhead import overhead
from tests.faults.pictures import pictures_beside_text
from tests.faults.pressure import back_pressure, control_plane
from tests.faults.recorded import recorded
from tests.faults.states import killed_writes
from tests.faults.stopping import starting_and_stopping
from tests.faults.streaming import streaming
from tests.faults.turns import turns

Run = Callable[[Path, Counts], Iterator[Line]]
RUNS: dict[str, Run] = {
    "R1": crash_isolation,
    "R2": parent_death,
    "R3": cancellation,
    "R4": back_pressure,
    "R5": control_plane,
    "R6": leaks,
    "R7": handles,
    "R14": input_limits,
    "R17": starting_and_stopping,
    "R18": turns,
    "R21": streaming,
    "R22": recorded,
    "R23": overhead,
    "R25": pictures_beside_text,
    "R26": killed_writes,
}
HEAD = ("", "goal", "measured", "reached")


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _parser().parse_args()
    counts = QUICK if options.quick else FULL
    started = time.monotonic()
    lines: list[Line] = []
    took: dict[str, float] = {}
    report = ""
    for number in options.only or RUNS:
        begun = time.monotonic()
        lines += _run(number, RUNS[number], counts)
        took[number] = time.monotonic() - begun
        _say(f"{number}: took {took[number]:.0f} s")
        report = _report(lines, counts, took)
        if options.write:  # after each, for half an hour is long
            options.write.write_text(f"{_PREFACE}\n{report}\n", encoding="utf-8")
    print(report)
    _say(f"all of it took {time.monotonic() - started:.0f} s")
    broken = [line for line in lines if line.broken]
    _say(_verdict(broken))
    return int(bool(broken))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults and load, and what they cost.")
    parser.add_argument("--quick", action="store_true", help="three minutes: a look, not a measurement")
    parser.add_argument("--only", action="append", choices=list(RUNS), help="this one; may be given several times")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the table to a file")
    return parser


def _run(number: str, run: Run, counts: Counts) -> list[Line]:
    """The lines of one run. One that breaks is a line too, and the others go on."""
    lines: list[Line] = []
    _say(f"{number}: begins")
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        try:
            for line in run(Path(folder), counts):
                _say(f"{line.number}: {line.goal}: {line.measured}: {_reached(line)}")
                lines.append(line)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever broke it, the others are tried
            traceback.print_exc()
            lines.append(
                Line(number, "the run comes to its end", f"{type(error).__name__}: {error}", False, broken=True)
            )
    return lines


def _report(lines: list[Line], counts: Counts, took: Mapping[str, float]) -> str:
    machine = "; ".join(f"{name}: {value}" for name, value in describe().items())
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    kind = "A quick look: counts are smaller than the goals ask for" if counts.quick else "A full run"
    rows = [(line.number, line.goal, line.measured, _reached(line)) for line in lines]
    minutes = f"{kind}; {sum(took.values()) / 60:.1f} minutes; load average at its end {load}."
    seconds = ", ".join(f"{number} {each:.0f}" for number, each in took.items())
    return f"{machine}.\n\n{minutes}\nSeconds: {seconds}.\n\n{markdown([HEAD, *rows])}"


def _verdict(broken: list[Line]) -> str:
    if not broken:
        return "exit code 0: nothing was lost or left over; a NO is a time that this machine did not reach"
    which = "; ".join(f"{line.number}: {line.goal}: {line.measured}" for line in broken)
    return f"exit code 1: something was lost or left over, or a run broke: {which}"


def _reached(line: Line) -> str:
    return "yes" if line.reached else "NO"


def _say(text: str) -> None:
    print(f"faults: {text}", file=sys.stderr, flush=True)


_PREFACE = """\
# Faults and load

What `make faults` has measured: real servers on loopback, whose processes are killed, whose clients leave, do not read,
are too many, cut their requests anywhere, or show pictures beside text. The models have 4 million parameters or fewer.
`make faults QUICK=1` is a look of three minutes.
"""


if __name__ == "__main__":
    sys.exit(main())
