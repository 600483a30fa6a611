"""Installs llama-cpp-python as pyproject.toml wants it, and says how far its compilation is.

pip says nothing for the ten minutes that llama.cpp takes to compile. This shows the step that the build is at: in one
line that changes on a terminal, else in a line each half minute. The whole output goes to a log, whose end is shown
if it fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections import deque
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
LOG = Path(sys.prefix) / "llama-cpp-python.log"
NAME = "llama-cpp-python"
TAIL = 30  # lines of the log that are shown after a failure
COMPILERS = "On Debian and Ubuntu: apt-get install build-essential cmake"
SLOW = 30.0  # seconds between two lines where the output is no terminal
STEP = re.compile(r"\s*\[\s*(\d+/\d+|\d+%)\]")  # Ninja counts steps, make gives a share


def requirement(project: Path) -> str:
    """What pyproject.toml asks for, with its version. The engine is installed first, so it must be named alone."""
    dependencies = tomllib.loads(project.read_text())["project"]["dependencies"]
    return next(str(entry) for entry in dependencies if str(entry).startswith(NAME))


class Progress:
    """Where a build is. Fed by one thread, shown by another; both only exchange whole values."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._started = time.monotonic()
        self._step = ""
        self.interval = 1.0 if self._terminal else SLOW

    def feed(self, line: str) -> None:
        """Take note of a line of the build's output."""
        if found := STEP.match(line):
            self._step = found[1]

    def show(self) -> None:
        """Tell the time and the step."""
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        doing = f"compiling llama.cpp, step {self._step}" if self._step else "preparing"
        text = f"  {minutes:2d}:{seconds:02d}  {doing}"
        self._out.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._out.flush()

    def clear(self) -> None:
        """Leave an empty line to whoever writes next."""
        if self._terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()


def install(command: list[str], log: Path, progress: Progress) -> int:
    """Run a build, its output to `log`; returns its exit code."""
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as build,
    ):
        assert build.stdout is not None
        reader = threading.Thread(target=_read, args=(build.stdout, file, progress))
        reader.start()
        reader.join(progress.interval)
        while reader.is_alive():
            progress.show()
            reader.join(progress.interval)
    progress.clear()
    return build.returncode


def _read(output: IO[bytes], log: IO[str], progress: Progress) -> None:
    for raw in output:
        line = raw.decode(errors="replace")
        log.write(line)
        progress.feed(line)


def explain(log: Path) -> str:
    """What to tell after a failure."""
    with log.open(encoding="utf-8") as file:
        tail = "".join(deque(file, TAIL))
    compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    hint = "" if compiler else f"No C++ compiler was found. {COMPILERS}\n"
    return f"{tail}\n{NAME} could not be installed; the whole output is in {log}\n{hint}"


def main() -> int:
    """Install; returns the exit code."""
    wanted = requirement(ROOT / "pyproject.toml")
    print(f"Installing {wanted}. The first time it is compiled: about 10 minutes on 2 cores.", flush=True)
    command = [sys.executable, "-m", "pip", "install", "-v", "--disable-pip-version-check", wanted]
    try:
        code = install(command, LOG, Progress(sys.stdout))
    except KeyboardInterrupt:
        return 130
    if code:
        sys.stderr.write(explain(LOG))
    return code


if __name__ == "__main__":
    sys.exit(main())
