"""Runs `pronk` in forks of a process that has imported it: the imports take half a second of CPU time for each command.

`python -m tests.cli.forks FD` takes commands from a socket, one after the other.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.serving import PATIENCE, ROOT

_NUMBER = 4  # bytes


class Forks:
    """The process that forks, seen from the tests."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours

    def run(
        self, args: tuple[str, ...], folder: Path, environ: Mapping[str, str], stdin: str
    ) -> subprocess.CompletedProcess[str]:
        """The result of one command in this folder and environment, whose input and output are pipes."""
        command = json.dumps([args, str(folder), dict(environ)]).encode()
        (theirs_in, ours_in), (ours_out, theirs_out), (ours_err, theirs_err) = os.pipe(), os.pipe(), os.pipe()
        theirs = [theirs_in, theirs_out, theirs_err]
        socket.send_fds(self._socket, [len(command).to_bytes(_NUMBER)], theirs)
        self._socket.sendall(command)
        for descriptor in theirs:
            os.close(descriptor)
        with ThreadPoolExecutor(3) as pool:
            pool.submit(_write, ours_in, stdin)
            out, err = pool.submit(_read, ours_out), pool.submit(_read, ours_err)
        code = os.waitstatus_to_exitcode(int.from_bytes(self._socket.recv(_NUMBER, socket.MSG_WAITALL)))
        return subprocess.CompletedProcess(args, code, out.result(), err.result())


@contextmanager
def forking() -> Iterator[Forks]:
    """The process that forks, ended at the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE)
        command = [sys.executable, "-m", "tests.cli.forks", str(theirs.fileno())]
        null = subprocess.DEVNULL
        with subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], stdin=null, stdout=null) as process:
            theirs.close()
            yield Forks(ours)
            ours.close()
            process.wait(PATIENCE)


def _read(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(descriptor: int, text: str) -> None:
    with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)


def _serve(commands: socket.socket) -> None:
    for module in pkgutil.iter_modules(importlib.import_module("cli").__path__, "cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()  # so that the end of a fork need not look at all that
    while True:
        size, theirs, _, _ = socket.recv_fds(commands, _NUMBER, 3)
        if not size:
            return
        args, folder, environ = json.loads(commands.recv(int.from_bytes(size), socket.MSG_WAITALL))
        child = os.fork()
        if child == 0:
            commands.close()
            _become(args, folder, environ, theirs)
            return
        for descriptor in theirs:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        commands.sendall(status.to_bytes(_NUMBER))


def _become(args: list[str], folder: str, environ: dict[str, str], theirs: list[int]) -> None:
    """Run a command as if this process had been started for it; ends in SystemExit, or is killed when it hangs."""
    signal.alarm(PATIENCE)
    for number, descriptor in enumerate(theirs):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv[1:] = args
    importlib.import_module("cli.main").main()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as commands:
        _serve(commands)
