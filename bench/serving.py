"""The server under test: a process on a free port, with a temporary store."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from bench.processes import ServerProcesses

PROJECT = Path(__file__).parent.parent
POLL = 0.01  # seconds
START_LIMIT = 60.0  # seconds
STOP_LIMIT = 20.0  # seconds


class LocalServer:
    """`pronk serve` with its models in `store`; a context manager, which stops it.

    It does not inherit the environment, so all settings are defaults, except those in `environ`. What it logs goes to
    `log`, or nowhere. `start_seconds` is the time from the start of the process to the first answer of /api/version.
    """

    def __init__(self, store: Path, log: Path | None = None, /, **environ: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = {"HOME": str(store), "OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(store)}
        environment |= environ
        self.log = log
        started = time.perf_counter()
        with Path(log or os.devnull).open("wb") as output:
            command = [sys.executable, "-m", "cli.main", "serve"]
            self._process = psutil.Popen(command, cwd=PROJECT, env=environment, stderr=output)
        self._wait_for_answer(started + START_LIMIT)
        self.start_seconds = time.perf_counter() - started
        self.processes = ServerProcesses(self._process)

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_LIMIT)
        except psutil.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_for_answer(self, deadline: float) -> None:
        with httpx.Client() as client:
            while time.perf_counter() < deadline:
                if self._process.poll() is not None:
                    break
                try:
                    client.get(f"{self.url}/api/version").raise_for_status()
                    return
                except httpx.TransportError:
                    time.sleep(POLL)
        self._process.kill()
        raise RuntimeError("the server under test did not start: run `pronk serve` to see why")


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
