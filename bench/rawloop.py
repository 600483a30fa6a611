"""The bare loop as a side of the comparison, in its own process, idle while others are measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from bench.run import Run
from engine.spawn import child_environment


class RawLoop:
    """A `Side`: the bare loop over one GGUF for up to `n_seq` prompts at once. A context manager, which ends it.

    Its environment is that of a server's child, so that threads of both wait in the same way.
    """

    def __init__(self, gguf: Path, n_threads: int, n_seq: int) -> None:
        command = [sys.executable, "-m", "bench.worker", str(gguf), str(n_threads), str(n_seq)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment({})
        )

    def __enter__(self) -> RawLoop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(self, prompts: Sequence[str], n_tokens: int) -> Run:
        """One run in the other process. Raises RuntimeError if that has ended; its output says why."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode((list(prompts), n_tokens)) + b"\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the bare loop has ended with {self._process.wait()}")
        return msgspec.json.decode(line, type=Run)
