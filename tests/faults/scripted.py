"""The server, as `python -m server.main`, whose models' processes are `tests.faults.scripted_runner`."""

from __future__ import annotations

import sys
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from socket import socket

from engine.loading import process
from engine.spawn import start_child
from server.main import run
from server.settings import Settings


async def _start_scripted(_: str, environ: Mapping[str, str], further: Sequence[int] = ()) -> tuple[Process, socket]:
    return await start_child("tests.faults.scripted_runner", environ, further)


if __name__ == "__main__":
    process.start_child = _start_scripted
    sys.exit(run(Settings.from_env()))
