"""What tests need from outside Python: programs, packages, rights.

Where one cannot be had its tests are skipped, and the reason is told. Where the environment variable CI is set they
fail: there nothing may go untested in silence.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def needs(*programs: str) -> list[str]:
    """The paths of programs. Skips or fails the test where one of them is not installed."""
    paths = [shutil.which(program) for program in programs]
    absent = [program for program, path in zip(programs, paths, strict=True) if path is None]
    if absent:
        missing(f"{', '.join(absent)} cannot be found; scripts/install-test-packages installs it where it can")
    return [path for path in paths if path is not None]


def if_installed(*programs: str) -> list[str]:
    """As `needs`, for services that begin to run when they are installed: no test installs them, so CI skips too."""
    paths = [shutil.which(program) for program in programs]
    absent = [program for program, path in zip(programs, paths, strict=True) if path is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} cannot be found, and is not installed for tests: it would begin to serve")
    return [path for path in paths if path is not None]


def missing(reason: str) -> NoReturn:
    """End the test because something from outside is not there: skipped, but failed in CI."""
    if in_ci():
        pytest.fail(f"{reason} (CI is set, so this is not skipped)", pytrace=False)
    pytest.skip(reason)


def in_ci() -> bool:
    """Whether this is a run that has to test everything."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
