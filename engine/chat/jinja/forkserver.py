"""Starts the processes that render chat templates and talks to them. Lives on the server's event loop, never blocks it.

Here is how they live and die; what they are given to do is said in `engine.chat.jinja.service`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from engine.chat.jinja.messages import ENDED, FORK, FORK_SLOW, KILL, LARGEST, ORDER
from engine.errors import EngineError
from engine.loading.process import start_child
from engine.messages import FRAME_HEADER

DOES_NOT_START = "what renders chat templates does not start"
MODULE = "engine.chat.jinja.worker"
MAX_FRAME = 5 * LARGEST  # bytes; four for a character, and some
_AT_ONCE = 1 << 18  # bytes
_START_GRACE = 60.0  # seconds
_EXIT_GRACE = 2.0


class Worker:
    """A forked process that renders. `received` is called with each frame's body that it sends.

    What is sent to one that has ended is lost: its end is told by the fork server.
    """

    def __init__(self, number: int, connection: socket.socket, received: Callable[[Worker, bytes], None]) -> None:
        self.number = number
        self._connection = connection
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._unsent = memoryview(b"")
        self._buffer = bytearray()
        connection.setblocking(False)
        self._loop.add_reader(connection, self._read)

    def send(self, frame: bytes) -> None:
        """Send one frame; the one before must have been answered."""
        self._unsent = memoryview(frame)
        self._write()

    def close(self) -> None:
        """Let it go: it ends when it has nothing to do. Safe to call twice."""
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)
            self._connection.close()

    def _write(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._connection, self._write)
        else:
            self._loop.remove_writer(self._connection)

    def _read(self) -> None:
        try:
            data = self._connection.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._connection)
            return
        self._buffer += data
        if len(self._buffer) < FRAME_HEADER.size:
            return
        (size,) = FRAME_HEADER.unpack_from(self._buffer)
        if size > MAX_FRAME:
            body = b""  # which is no message
        elif len(self._buffer) < FRAME_HEADER.size + size:
            return
        else:
            body = bytes(memoryview(self._buffer)[FRAME_HEADER.size : FRAME_HEADER.size + size])
        self._buffer = bytearray()
        self._received(self, body)


class ForkServer:
    """The process that forks the workers. `ended` is told each one's end and exit status, `lost` that of this one."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        orders: socket.socket,
        ended: Callable[[int, int], None],
        lost: Callable[[ForkServer], None],
    ) -> None:
        self._process = process
        self._orders = orders
        self._ended = ended
        self._lost = lost
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(orders, self._read)

    @classmethod
    async def start(
        cls, environ: Mapping[str, str], ended: Callable[[int, int], None], lost: Callable[[ForkServer], None]
    ) -> ForkServer:
        """Start one and wait until it can fork. Raises OSError or EngineError if it does not come to that.

        `environ` is the server's environment, of which only what a child needs is passed on.
        """
        process, ours = await start_child(MODULE, environ)
        server = cls(process, ours, ended, lost)
        try:
            async with asyncio.timeout(_START_GRACE):
                await server._ready
        except BaseException:
            await server.close()
            raise
        return server

    @property
    def pid(self) -> int:
        """Its process id, and that of the group that all workers are in too."""
        return self._process.pid

    def fork(self, received: Callable[[Worker, bytes], None], *, slow: bool = False) -> Worker:
        """A new worker, which may be told what to do at once. `slow`: others go first where they need the processor."""
        ours, theirs = socket.socketpair()
        number = next(self._numbers)
        with theirs:
            self._order(FORK_SLOW if slow else FORK, number, theirs)
        return Worker(number, ours, received)

    def kill(self, worker: Worker) -> None:
        """End a worker that takes too long; its end is told as any other."""
        self._order(KILL, worker.number)

    def kill_all(self) -> None:
        """SIGKILL for this process and all workers; does nothing if it has been reaped."""
        if self._process.returncode is None:  # afterwards the number may be somebody else's
            with suppress(ProcessLookupError, PermissionError):  # nobody is left; a zombie, as macOS says it
                os.killpg(self.pid, signal.SIGKILL)

    async def close(self) -> None:
        """End it and all workers, and wait for that. Nothing is told any more."""
        self._loop.remove_reader(self._orders)
        self._orders.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _EXIT_GRACE)
        self.kill_all()
        await self._process.wait()

    def _order(self, order: bytes, number: int, connection: socket.socket | None = None) -> None:
        with suppress(OSError):  # it has ended, which is told; or it is stopped, which is seen
            socket.send_fds(self._orders, [ORDER.pack(order, number)], [connection.fileno()] if connection else [])

    def _read(self) -> None:
        try:
            data = self._orders.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._orders)
            if self._ready.done():
                self._lost(self)
            else:
                self._ready.set_exception(EngineError(DOES_NOT_START))
            return
        self._buffer += data
        while len(self._buffer) >= ENDED.size:
            number, status = ENDED.unpack_from(self._buffer)
            self._buffer = self._buffer[ENDED.size :]
            if number:
                self._ended(number, status)
            else:
                self._ready.set_result(None)
