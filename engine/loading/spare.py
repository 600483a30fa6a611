"""A process that has started before a load needs it: importing the library takes longer than most loads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from engine.loading.process import RunnerProcess
from registry.logfields import fields

HELLO_TIMEOUT = 10.0  # seconds
log = logging.getLogger("pronk.engine")


class SpareProcess:
    """Starts processes for loads, one of them ahead. Owned by the event loop.

    `watchdog` is the patience with each of them, in seconds. `greeted` is called with a process that has told what the
    library does on this machine, before it is given out; one that does not tell within `hello_timeout` seconds is given
    out all the same: if it hangs, its load will notice. `keep_states`: processes can have states kept on disk.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        watchdog: float,
        hello_timeout: float,
        greeted: Callable[[RunnerProcess], None],
    ) -> None:
        self.keep_states = False
        self._environ = environ
        self._watchdog = watchdog
        self._hello_timeout = min(hello_timeout, HELLO_TIMEOUT)
        self._greeted = greeted
        self._process: asyncio.Task[RunnerProcess] | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self._closed = False

    def prepare(self) -> None:
        """Start a process ahead if there is none."""
        if self._process is None and not self._closed:
            self._process = asyncio.create_task(self._spawn())

    async def take(self) -> RunnerProcess:
        """The process that has started, or a fresh one; the caller ends it. Raises OSError."""
        process = await self._taken()
        async with _closed_if_cancelled(process, self._close_later):
            if process.usable:
                await self._await_hello(process)
        # Something may have ended or stopped it while it had nothing to do.
        return process if process.usable else await self.replace(process)

    async def replace(self, process: RunnerProcess) -> RunnerProcess:
        """A fresh process instead of one that is of no use. Raises OSError."""
        ending = process.ending or "it is stopped"
        log.warning("process replaced before its load: %s", ending, extra=fields(pid=process.pid))
        self._close_later(process)
        fresh = await self._spawn()
        async with _closed_if_cancelled(fresh, self._close_later):
            fresh.model = process.model
            await self._await_hello(fresh)
        return fresh

    async def close(self) -> None:
        """End the process that has started, and wait for those that were of no use."""
        self._closed = True
        if self._process is not None:
            await _close_started(self._process)
        await asyncio.gather(*self._closings)

    async def _taken(self) -> RunnerProcess:
        self.prepare()
        task, self._process = self._process, None
        assert task is not None
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._process is None:
                self._process = task
            else:  # another load has one by now
                self._in_background(_close_started(task))
            raise

    async def _spawn(self) -> RunnerProcess:
        return await RunnerProcess.spawn(self._environ, self._watchdog, keeps_states=self.keep_states)

    async def _await_hello(self, process: RunnerProcess) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(process.greeted.wait(), self._hello_timeout)
            self._greeted(process)

    def _close_later(self, process: RunnerProcess) -> None:
        self._in_background(process.close())

    def _in_background(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(closing)
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)


async def _close_started(task: asyncio.Task[RunnerProcess]) -> None:
    with suppress(OSError):
        await (await task).close()


@asynccontextmanager
async def _closed_if_cancelled(process: RunnerProcess, close: Callable[[RunnerProcess], None]) -> AsyncIterator[None]:
    """While the context lasts, nobody else knows of the process."""
    try:
        yield
    except asyncio.CancelledError:
        close(process)
        raise
