"""Reports to whoever started the worker."""

from __future__ import annotations

import time
from typing import BinaryIO

from modelfile import worker_protocol
from modelfile.worker_protocol import Progress, Report

_PAUSE = 0.06  # seconds between two reports of progress


class Reporter:
    """Writes reports, at once. One thread at a time."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._next = 0.0

    def send(self, report: Report) -> None:
        """Write one report."""
        self._output.write(worker_protocol.encode(report) + b"\n")
        self._output.flush()

    def progress(self, completed: int, total: int) -> None:
        """Tell how much is done, unless that was told a moment ago."""
        now = time.monotonic()
        if now >= self._next or completed == total:
            self._next = now + _PAUSE
            self.send(Progress(completed, total))
