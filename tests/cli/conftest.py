"""The command in a process of its own, against a real server with the bundled model."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.forks import Forks, forking
from tests.cli.terminal import Terminal
from tests.serving import PATIENCE, ROOT, Served

COMMAND = [sys.executable, "-m", "cli.main"]


@contextmanager
def handled_by(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server that answers as `handler` does; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Pronk:
    """Calls `pronk` in an environment of its own; `home` is its user's folder, `folder` where it is called.

    `forks` runs commands that are the same whatever the environment was while they were imported.
    """

    home: Path
    environ: dict[str, str]
    forks: Forks
    folder: Path = ROOT

    def __call__(self, *args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """The result of one command whose input and output are pipes."""
        return self.forks.run(args, self.folder, self.environ | environ, stdin)

    def from_scratch(self, *args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """As a call, but in a new process that imports what it needs in this environment."""
        return subprocess.run(
            [*COMMAND, *args],
            cwd=self.folder,
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=PATIENCE,
            check=False,
        )

    def start(self, *args: str, **environ: str) -> subprocess.Popen[str]:
        """One command that runs on while the test goes on."""
        return subprocess.Popen(
            [*COMMAND, *args], cwd=self.folder, env=self.environ | environ, stderr=subprocess.PIPE, text=True
        )

    def succeed(self, *args: str, stdin: str = "") -> str:
        """Standard output of a command that must succeed."""
        result = self(*args, stdin=stdin)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def fail(self, *args: str, **environ: str) -> str:
        """What a command that must fail says on standard error; nothing may come on standard output."""
        result = self(*args, **environ)
        assert (result.returncode, result.stdout) == (1, ""), result.stderr
        return result.stderr


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with forking() as forks:
        yield forks


def _pronk(home: Path, url: str, forks: Forks) -> Pronk:
    own = {"HOME": str(home), "OLLAMA_HOST": url, "TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    return Pronk(home, os.environ | own, forks)


@pytest.fixture
def pronk(server: Served, tmp_path: Path, forks: Forks) -> Pronk:
    """The command as a user of the running server has it."""
    return _pronk(tmp_path, server.url, forks)


@pytest.fixture
def alone(tmp_path: Path, forks: Forks) -> Pronk:
    """The command where no server runs: nothing listens on port 1."""
    return _pronk(tmp_path, "http://127.0.0.1:1", forks)


@pytest.fixture
def terminal(pronk: Pronk) -> Iterator[Terminal]:
    """`pronk run tinychat` at a terminal, without thinking and chance: short answers that are always the same."""
    with Terminal([*COMMAND, "run", "tinychat", "--think=false"], pronk.environ) as terminal:
        terminal.expect(">>> ")
        terminal.say("/set parameter temperature 0")
        yield terminal
