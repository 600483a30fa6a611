"""A real server in a process of its own, for the tests that talk to it as a user does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120  # seconds that a start or a stop may take on a machine that is busy with other things
GREEDY = {"temperature": 0, "repeat_penalty": 1.0, "seed": 1}
"""Options with which the bundled model always gives the same text."""
LOOPBACK: dict[str, Any] = {"trust_env": False, "verify": False}
"""How httpx talks to a server on this machine: without proxies, and without certificates, which take 25 ms to load."""
ENVIRON: dict[str, str] = {}
"""What servers and engines start with besides this process's environment."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: its process, where it listens, and the folder of its models."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    store: Path

    def runners(self) -> list[psutil.Process]:
        """Its child processes: those that have a model loaded or wait for one, and those that do other work."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def serving(
    store: Path,
    /,
    started_by: Sequence[str] = (),
    *,
    module: str = "server.main",
    port: int = 0,
    new: bool = False,
    **environ: str,
) -> Iterator[Served]:
    """A server on this store, by default on a free port; it must stop cleanly at the end, unless the test has ended it.

    `module` is what runs it, `started_by` a command that its own is handed to. A `new` store may get the bundled models
    at the start; others only get what a test puts there.
    """
    if not new:
        (store / "manifests").mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    own = {"OLLAMA_HOST": f"127.0.0.1:{port}", "OLLAMA_MODELS": str(store)}
    own |= {"PRONK_API_KEYS_FILE": str(store.parent / "api_keys.json")}
    env = ENVIRON | os.environ | own | environ
    log = store.parent / f"server-{port}.log"
    with log.open("wb") as output:
        command = [*started_by, sys.executable, "-m", module]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=output)
    served = Served(process, f"http://127.0.0.1:{port}", log, store)
    try:
        _await_start(served)
        yield served
        if process.poll() is None:
            process.terminate()
            assert process.wait(PATIENCE) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE)


def _await_start(served: Served) -> None:
    deadline = time.monotonic() + PATIENCE
    while served.process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(f"{served.url}/api/version", **LOOPBACK)
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"the server did not start:\n{served.log.read_text()}")
