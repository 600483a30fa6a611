"""The CNCF's registry, as Debian packages it, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.outside import needs

PROGRAM = "docker-registry"
PATIENCE = 60  # seconds that a start may take on a machine that is busy with other things
_CONFIG = """\
version: 0.1
log:
  level: error
storage:
  filesystem:
    rootdirectory: {folder}
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
  secret: secret
"""


@dataclass(frozen=True, slots=True)
class CNCFRegistry:
    """A running registry: where it listens, and where it keeps its files."""

    host: str
    folder: Path


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def cncf_registry(folder: Path) -> Iterator[CNCFRegistry]:
    """A registry that keeps its files in a folder. Ends the test where it is not installed."""
    [program] = needs(PROGRAM)
    port = free_port()
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(folder=folder / "data", port=port), encoding="utf-8")
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, "serve", str(config)], stdout=output, stderr=output)
    try:
        _await_start(process, port, log)
        yield CNCFRegistry(f"127.0.0.1:{port}", folder / "data")
    finally:
        process.kill()
        process.wait(PATIENCE)


def _await_start(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"the registry did not start:\n{log.read_text()}")
