"""Entry point `python -m modelfile.worker`: reads one job from standard input, reports on standard output.

Ends with its job, or when its parent closes the input.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from modelfile import worker_protocol
from modelfile.backends import gpu_backends
from modelfile.containment import compile_modules, contain
from modelfile.operating_system import prepare_child
from modelfile.worker_protocol import Derive, Job, Quantize, Verify

_NICENESS = 10  # inference has priority
_ROOM = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run one job."""
    prepare_child()
    os.nice(_NICENESS)
    output = _own_output()
    compile_modules(_ROOM / "worker", _ROOM / "convert")
    if not (line := sys.stdin.buffer.readline()):
        return  # the parent is gone
    job = worker_protocol.decode_job(line)
    contain(_folders(job), gpu=isinstance(job, Quantize | Verify) and bool(gpu_backends()))

    from modelfile.worker.jobs import run  # deferred: libraries start threads, which are to be contained

    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    run(job, output)


def _folders(job: Job) -> Iterator[Path]:
    """Where a job writes."""
    if isinstance(job, Derive):
        yield Path(job.folder)
    elif not isinstance(job, Verify):
        yield Path(job.target).parent


def _own_output() -> BinaryIO:
    """A copy of standard output for reports; whatever libraries print goes to standard error."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output


def _end_with(parent: BinaryIO) -> None:
    """Exit once the parent closes the pipe, on systems without a parent-death signal."""
    parent.read()
    os._exit(1)


if __name__ == "__main__":
    main()
