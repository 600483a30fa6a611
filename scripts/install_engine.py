"""Installs llama-cpp-python as pyproject.toml requires it, shows the progress of its compilation, and tests the result.

pip is silent for the ten minutes that llama.cpp takes to compile. This shows the current step, on a terminal in one
line, else in a line each half minute. The whole output goes to a log, whose end is shown after a failure.

An installed library may still crash at its first prompt: compiled for another processor (a wheel in pip's cache, a
copied environment), or miscompiled. So the engine's self-test decides, and a rejected build is repeated with the next
safer flags of `build_flags.py`. Only a build for this processor with pip's own flags stays in pip's cache.

  --rebuild   compile even if there is one already, without pip's cache
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

if __name__ == "__main__":  # run as a file, so the project's folder is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts import build_flags
from scripts.build_flags import Attempt, Facts

ROOT = Path(__file__).resolve().parents[1]
LOG = Path(sys.prefix) / "llama-cpp-python.log"
NAME = "llama-cpp-python"
SELF_TEST = ROOT / "engine" / "selftest.py"
TAIL = 30  # lines of the log to show after a failure
COMPILERS = "On Debian and Ubuntu: apt-get install build-essential cmake"
SLOW = 30.0  # seconds between two lines if the output is no terminal
BUILT = re.compile(r"\s*Building wheel for llama[-_]cpp[-_]python")
STEP = re.compile(r"\s*\[\s*(\d+/\d+|\d+%)\]")  # Ninja's or make's


def requirement(project: Path) -> str:
    """The engine's requirement in pyproject.toml. It is installed first, on its own."""
    dependencies = tomllib.loads(project.read_text())["project"]["dependencies"]
    return next(str(entry) for entry in dependencies if str(entry).startswith(NAME))


class Progress:
    """The progress of a build. Fed by one thread, shown by another."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._started = time.monotonic()
        self._step = ""
        self.built = False  # compiled, not taken from a cache
        self.interval = 1.0 if self._terminal else SLOW

    def feed(self, line: str) -> None:
        """Parse a line of the build's output."""
        if match := STEP.match(line):
            self._step = match[1]
        elif BUILT.match(line):
            self.built = True

    def show(self) -> None:
        """Print the time and the step."""
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        doing = f"compiling llama.cpp, step {self._step}" if self._step else "preparing"
        text = f"  {minutes:2d}:{seconds:02d}  {doing}"
        self._out.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._out.flush()

    def clear(self) -> None:
        """Clear the line."""
        if self._terminal:
            self._out.write("\r\x1b[K")
            self._out.flush()


def install(command: Sequence[str], log: Path, progress: Progress, environ: Mapping[str, str] | None = None) -> int:
    """Run a build and append its output to `log`; returns its exit code."""
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ) as build,
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
    """The message after a failure."""
    with log.open(encoding="utf-8") as file:
        tail = "".join(deque(file, TAIL))
    compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    hint = "" if compiler else f"No C++ compiler was found. {COMPILERS}\n"
    return f"{tail}\n{NAME} could not be installed; the whole output is in {log}\n{hint}"


class Installer:
    """Installs `requirement` for the interpreter `python`, the output of all builds to `log`.

    `environ` says how pip and compilers are to work.
    """

    def __init__(self, requirement: str, facts: Facts, environ: Mapping[str, str], python: str, log: Path) -> None:
        self._requirement = requirement
        self._facts = facts
        self._environ = environ
        self._python = python
        self._log = log

    def run(self, *, rebuild: bool) -> int:
        """Install and test, with as many attempts as needed; returns the exit code."""
        attempts = build_flags.attempts(self._facts)
        # The flags of a cached wheel are unknown, so with CMAKE_ARGS a new one is built.
        cached = not rebuild and not self._facts.cmake_args
        fault: str | None = None
        if not rebuild and self._installed() == self._requirement:
            if (fault := self._fault()) is None:
                return 0
            _say(f"What is installed was not made for this machine: {fault}.")
        elif cached:
            _say(f"Installing {self._requirement}. The first time it is compiled: about 10 minutes on 2 cores.")
            code, built = self._pip(attempts[0])
            if code or (fault := self._fault(built=built, taken=not built)) is None:
                return code
            if built:
                _say(f"It is not right: {fault}.")
                del attempts[0]
            else:
                _say(f"The one in pip's cache was not made for this machine: {fault}.")
        if fault:
            self._forget_cached()
        return self._compile(attempts, fault, cached=cached)

    def _compile(self, attempts: list[Attempt], fault: str | None, *, cached: bool) -> int:
        """Compile until the self-test passes. `fault`: the problem so far; `cached`: pip may cache the first build."""
        first = build_flags.attempts(self._facts)[0]
        for attempt in attempts:
            again = "again " if fault else ""
            _say(f"Compiling llama.cpp {again}{attempt.what}: about 10 minutes on 2 cores.")
            keep = cached and attempt == first
            code, _ = self._pip(attempt, *(() if keep else ("--no-cache-dir",)), "--no-binary", NAME, *self._over())
            if code or (fault := self._fault(built=True)) is None:
                return code
            _say(f"It is not right: {fault}.")
            self._forget_cached()
        sys.stderr.write(f"{NAME} is right with no flags known to us; the output of all builds is in {self._log}\n")
        return 1

    def _pip(self, attempt: Attempt, *options: str) -> tuple[int, bool]:
        """Run pip; returns its exit code and whether it compiled."""
        command = [
            self._python,
            "-m",
            "pip",
            "install",
            "-v",
            "--disable-pip-version-check",
            *options,
            self._requirement,
        ]
        progress = Progress(sys.stdout)
        code = install(command, self._log, progress, {**self._environ, "CMAKE_ARGS": attempt.cmake_args})
        if code:
            sys.stderr.write(explain(self._log))
        return code, progress.built

    def _fault(self, *, built: bool = False, taken: bool = False) -> str | None:
        """What is wrong with the installed engine, or None. `built`: just compiled; `taken`: from a cache."""
        if not SELF_TEST.exists():
            _say("Not proved: the self-test is not at hand.")  # a layer of an image that has no more than this script
            return None
        from engine import selftest

        result = selftest.run(python=self._python, environ=self._environ)
        if result.outcome is selftest.Outcome.FAILED and not taken:
            # It may need something that no flags provide, such as a GPU driver.
            _say(f"Not proved: {result.sentence}; {selftest.remedy()}.")
            return None
        unused = (
            build_flags.unused(self._facts, result.features) if taken and result.ok and self._facts.compiler else []
        )
        if result.ok and not unused:
            _say(f"{result.sentence[0].upper()}{result.sentence[1:]}.")
            return None
        return f"it makes no use of {', '.join(unused)}" if unused else result.sentence

    def _installed(self) -> str:
        """The installed engine as a requirement; empty without one."""
        command = [self._python, "-c", f"from importlib.metadata import version; print(version({NAME!r}))"]
        query = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=False)
        return f"{NAME}=={query.stdout.strip()}" if query.returncode == 0 else ""

    def _over(self) -> Sequence[str]:
        return ("--force-reinstall", "--no-deps") if self._installed() else ()

    def _forget_cached(self) -> None:
        """Remove the engine from pip's cache, if it is there."""
        command = [self._python, "-m", "pip", "cache", "remove", NAME.replace("-", "_")]
        subprocess.run(command, env=self._environ, capture_output=True, check=False)


def main() -> int:
    """Install; returns the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rebuild", action="store_true", help="compile even if there is one, without pip's cache")
    rebuild = parser.parse_args().rebuild
    LOG.unlink(missing_ok=True)
    try:
        engine = requirement(ROOT / "pyproject.toml")
        return Installer(engine, build_flags.look(os.environ), os.environ, sys.executable, LOG).run(rebuild=rebuild)
    except KeyboardInterrupt:
        return 130


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
