"""Runs jobs on weights in a worker process, which may run for hours, be killed, or crash on a broken file."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress

from modelfile import worker_protocol
from modelfile.crashes import CRASHES, advice, processor
from modelfile.worker_protocol import Failed, Finished, Job, Progress

_LONGEST_LINE = 1 << 20


class JobFailed(Exception):
    """A job failed; the text is for the user."""


class JobUnsupported(JobFailed):
    """The job's files are valid but not supported."""


async def run_job(job: Job, environ: Mapping[str, str], progress: Callable[[int, int], None]) -> None:
    """Run a job in a worker process with the environment `environ`.

    `progress` receives (completed, total). Raises JobFailed or JobUnsupported. Cancellation kills the process.
    """
    async with _started(environ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(worker_protocol.encode(job) + b"\n")
        while line := await process.stdout.readline():
            match worker_protocol.decode_report(line):
                case Progress(completed, total):
                    progress(completed, total)
                case Failed(message, unsupported):
                    raise JobUnsupported(message) if unsupported else JobFailed(message)
                case Finished():
                    return
        raise JobFailed(f"the process that worked on the weights has unexpectedly stopped: {await _end(process)}")


@asynccontextmanager
async def _started(environ: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker that waits for its job; killed with its forks at the end of the context."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "modelfile.worker"),  # -P: never import from where we were started
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        start_new_session=True,
    )
    try:
        with _forks_ending_with(process):
            yield process
    finally:
        if process.returncode is None:
            _kill_group(process)
            await process.wait()


@contextmanager
def _forks_ending_with(process: asyncio.subprocess.Process) -> Iterator[None]:
    """Kill the forks of a process once it ends: they would keep its pipes open."""
    if not hasattr(os, "pidfd_open"):  # macOS
        yield
        return
    loop = asyncio.get_running_loop()
    try:
        end = os.pidfd_open(process.pid)
    except OSError:  # it has ended already, or the kernel is older than 5.3
        yield
        return

    def bury() -> None:
        loop.remove_reader(end)
        _kill_group(process)

    loop.add_reader(end, bury)
    try:
        yield
    finally:
        loop.remove_reader(end)
        os.close(end)


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the group is gone; on macOS, a zombie
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> str:
    code = await process.wait()
    if code >= 0:
        return f"exit status {code}"
    meaning = signal.strsignal(-code) or f"signal {-code}"
    return f"{meaning} on {processor()}: {advice(-code)}" if -code in CRASHES else meaning
