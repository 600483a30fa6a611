"""Runs jobs on weights in a worker process, which may run for hours, be killed, or crash on a broken file."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from modelfile import worker_protocol
from modelfile.crashes import CRASHES, advice, processor
from modelfile.operating_system import kill_group, when_ended
from modelfile.watchdog import PATIENCE, killed_if_stopped
from modelfile.worker_protocol import Failed, Finished, Job, Progress

_LONGEST_LINE = 1 << 20


class JobFailed(Exception):
    """A job failed; the text is for the user."""


class JobUnsupported(JobFailed):
    """The job's files are valid but not supported."""


async def run_job(
    job: Job, environ: Mapping[str, str], progress: Callable[[int, int], None], watchdog: float = PATIENCE
) -> None:
    """Run a job in a worker process with the environment `environ`.

    `progress` receives (completed, total). Raises JobFailed or JobUnsupported. Cancellation kills the process, and so
    does a signal that stops it for `watchdog` seconds.
    """
    async with _started(environ, watchdog) as process:
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
async def _started(environ: Mapping[str, str], watchdog: float) -> AsyncIterator[asyncio.subprocess.Process]:
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
        # What it has forked would keep the pipes open, and us waiting.
        with when_ended(process, lambda: kill_group(process.pid)):
            async with killed_if_stopped(process.pid, watchdog, lambda: kill_group(process.pid)):
                yield process
    finally:
        if process.returncode is None:
            kill_group(process.pid)
            await process.wait()


async def _end(process: asyncio.subprocess.Process) -> str:
    code = await process.wait()
    if code >= 0:
        return f"exit status {code}"
    meaning = signal.strsignal(-code) or f"signal {-code}"
    return f"{meaning} on {processor()}: {advice(-code)}" if -code in CRASHES else meaning
