"""The jobs of the weights worker, and how they report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from modelfile import worker_protocol
from modelfile.convert import ConvertError, UnsupportedType, convert, convert_adapter
from modelfile.worker_protocol import (
    Convert,
    ConvertAdapter,
    Derive,
    Failed,
    Finished,
    Job,
    JobError,
    Progress,
    Quantize,
    Report,
    Verify,
)
from registry.gguf import GGUFError, read_header


def run(job: Job, output: BinaryIO) -> None:
    """Run a job, and report on `output` how it goes and ends."""
    reporter = Reporter(output)
    try:
        _do(job, reporter)
    except (ConvertError, JobError) as error:
        reporter.send(Failed(str(error), isinstance(error, UnsupportedType)))
    else:
        reporter.send(Finished())


def _do(job: Job, reporter: Reporter) -> None:
    """Run a job; slow imports only for the jobs that need them."""
    match job:
        case Quantize() | Verify():
            from modelfile.worker import llamacpp

            if isinstance(job, Quantize):
                llamacpp.quantize(job, reporter.progress)
            else:
                llamacpp.verify(job)
        case Convert() | ConvertAdapter():
            _convert(job, reporter.progress)
        case Derive():
            from modelfile.worker import derivation

            derivation.run(job, reporter.progress)


_PAUSE = 0.06  # seconds between two reports of progress


class Reporter:
    """Writes reports, unbuffered. One thread at a time."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._next = 0.0

    def send(self, report: Report) -> None:
        """Write one report."""
        self._output.write(worker_protocol.encode(report) + b"\n")
        self._output.flush()

    def progress(self, completed: int, total: int) -> None:
        """Report progress, at most every `_PAUSE` seconds."""
        now = time.monotonic()
        if now >= self._next or completed == total:
            self._next = now + _PAUSE
            self.send(Progress(completed, total))


def _convert(job: Convert | ConvertAdapter, progress: Callable[[int, int], None]) -> None:
    """Convert safetensors to the job's target. Raises ConvertError and leaves no file."""
    files = {name: Path(path) for name, path in job.files.items()}
    if isinstance(job, Convert):
        convert(files, Path(job.target), progress)
        return
    try:
        base = read_header(Path(job.base)).metadata
    except GGUFError as error:
        raise ConvertError(f"the base model: {error}") from None
    convert_adapter(files, base, Path(job.target), progress)
