"""Entry of the worker: `python -m modelfile.worker` reads one job from standard input and reports on standard output.

It ends with its job, or when whoever started it closes its input.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from typing import BinaryIO

from modelfile import worker_protocol
from modelfile.convert import ConvertError, UnsupportedType
from modelfile.worker.errors import WorkError
from modelfile.worker.reporter import Reporter
from modelfile.worker_protocol import Convert, ConvertAdapter, Derive, Failed, Finished, Job, Quantize, Verify

_NICENESS = 10  # answers that are being written come first
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Do one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would be as large as a model
    os.nice(_NICENESS)
    reporter = Reporter(_own_output())
    job = worker_protocol.decode_job(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        _do(job, reporter)
    except (ConvertError, WorkError) as error:
        reporter.send(Failed(str(error), isinstance(error, UnsupportedType)))
    else:
        reporter.send(Finished())


def _do(job: Job, reporter: Reporter) -> None:
    """What is slow to import is imported for the jobs that need it."""
    match job:
        case Quantize() | Verify():
            from modelfile.worker import llamacpp

            if isinstance(job, Quantize):
                llamacpp.quantize(job, reporter.progress)
            else:
                llamacpp.verify(job)
        case Convert() | ConvertAdapter():
            from modelfile.worker import conversion

            conversion.run(job, reporter.progress)
        case Derive():
            from modelfile.worker import derivation

            derivation.run(job, reporter.progress)


def _own_output() -> BinaryIO:
    """Standard output for reports only: whatever a library prints goes to standard error."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output


def _end_with(parent: BinaryIO) -> None:
    """End at once when the other end of the pipe is closed: on systems that send no signal then."""
    parent.read()
    os._exit(1)


if __name__ == "__main__":
    main()
