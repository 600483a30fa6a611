"""R22: answers of a real Ollama, asked again, and the list of differences that are allowed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tests.faults.measure import Counts, Line, kept
from tests.golden.allowed import ALLOWED, MOST
from tests.serving import ROOT

_ALL = ("tests/golden",)
_SOME = ("tests/golden/test_recorded.py", "tests/golden/test_shown.py", "tests/golden/test_allowed.py")
_SHOWN = 3  # names of answers that differ


def recorded(folder: Path, counts: Counts) -> Iterator[Line]:
    """R22, as far as no Ollama is needed: clients are tried by `make clients`."""
    report = folder / "report.xml"
    asked = _SOME if counts.quick else _ALL
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *asked]
    subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    cases = list(ElementTree.parse(report).iter("testcase"))
    skipped = [case for case in cases if case.find("skipped") is not None]
    wrong = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    names = "".join(f"; {case.get('name')}" for case in wrong[:_SHOWN])
    told = f"{len(wrong)} of {len(cases) - len(skipped)}" + (f", {len(skipped)} not tried" if skipped else "") + names
    goal = "answers, models and files as a real Ollama has them: none differs beyond the list"
    yield kept("R22", goal, told, bool(cases) and not wrong)
    goal = f"entries on the list of differences, each with its reason (tests/golden/allowed.py) ≤ {MOST}"
    yield kept("R22", goal, str(len(ALLOWED)), len(ALLOWED) <= MOST)
