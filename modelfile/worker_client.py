"""Runs jobs on weights in a worker process, which may run for hours, be killed, or crash on a broken file."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from modelfile import worker_protocol
from modelfile.crashes import CRASHES, advice, processor
from modelfile.operating_system import kill_group, when_ended
from modelfile.watchdog import PATIENCE, watch_worker
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
    does the watchdog if it hangs: `watchdog` are the seconds of `modelfile.watchdog.watch_worker`.
    """
    async with _started(environ) as process, _watched(process, watchdog) as watch:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(worker_protocol.encode(job) + b"\n")
        while line := await process.stdout.readline():
            watch.heard = True
            match worker_protocol.decode_report(line):
                case Progress(completed, total):
                    progress(completed, total)
                case Failed(message, unsupported):
                    raise JobUnsupported(message) if unsupported else JobFailed(message)
                case Finished():
                    return
        end = await _end(process)
        raise JobFailed(f"the process that worked on the weights has unexpectedly stopped: {watch.reason or end}")


@dataclass(slots=True)
class _Watch:
    """Whether a process has reported anything since the last look, and why it was killed."""

    heard: bool = False
    reason: str = ""

    def take_heard(self) -> bool:
        """The same, from now on False."""
        heard, self.heard = self.heard, False
        return heard


@asynccontextmanager
async def _watched(process: asyncio.subprocess.Process, patience: float) -> AsyncIterator[_Watch]:
    """Kills a process that hangs while the context lasts."""
    watch = _Watch()

    async def kill_if_it_hangs() -> None:
        seconds = await watch_worker(process.pid, patience, watch.take_heard)
        watch.reason = f"it gave no sign of life for {seconds:g} s"
        kill_group(process.pid)

    if math.isinf(patience):
        yield watch
        return
    watching = asyncio.create_task(kill_if_it_hangs())
    try:
        yield watch
    finally:
        watching.cancel()


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
        # What it has forked would keep the pipes open, and us waiting.
        with when_ended(process, lambda: kill_group(process.pid)):
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
