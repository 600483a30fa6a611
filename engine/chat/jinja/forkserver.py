"""Starts the fork server and its workers, and talks to them. Lives on the server's event loop and never blocks it.

This module knows how the processes live and die; `engine.chat.jinja.service` gives them work.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

from engine.chat.jinja.messages import ENDED, FORK, FORK_SLOW, KILL, LARGEST, ORDER, REPORT, STARTED
from engine.errors import EngineError
from engine.messages import FRAME_HEADER
from engine.spawn import start_child
from modelfile.operating_system import kill_group
from modelfile.watchdog import killed_if_stopped

DOES_NOT_START = "chat template renderer failed to start"
MODULE = "engine.chat.jinja.worker"
MAX_FRAME = 5 * LARGEST  # bytes: four per character, and some
_CHUNK = 1 << 18  # bytes read at once
_START_GRACE = 60.0  # seconds
_EXIT_GRACE = 2.0


class Worker:
    """A forked process that renders. `on_reply` is called with the body of each frame that it sends.

    What is sent to a worker that has ended is lost; the fork server reports its end.
    """

    def __init__(self, number: int, connection: socket.socket, on_reply: Callable[[Worker, bytes], None]) -> None:
        self.number = number
        self._connection = connection
        self._on_reply = on_reply
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
        """Close the socket: the worker ends once it is idle. May be called twice."""
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
            data = self._connection.recv(_CHUNK)
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
            body = b""  # no valid message: the service kills the worker
        elif len(self._buffer) < FRAME_HEADER.size + size:
            return
        else:
            body = bytes(memoryview(self._buffer)[FRAME_HEADER.size : FRAME_HEADER.size + size])
        self._buffer = bytearray()
        self._on_reply(self, body)


class ForkServer:
    """The process that forks the workers.

    `on_exit` is called with the number and exit code (or minus the signal) of each worker that ends, `on_lost` when the
    fork server itself has ended.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        orders: socket.socket,
        on_exit: Callable[[int, int], None],
        on_lost: Callable[[ForkServer], None],
    ) -> None:
        self._process = process
        self._orders = orders
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._numbers = itertools.count(1)
        self._pids: dict[int, int] = {}  # of workers that run, by number
        self._buffer = b""
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(orders, self._read)

    @classmethod
    async def start(
        cls,
        environ: Mapping[str, str],
        on_exit: Callable[[int, int], None],
        on_lost: Callable[[ForkServer], None],
        watchdog: float,
    ) -> ForkServer:
        """Start one and wait until it can fork. Raises OSError or EngineError.

        `environ` is the server's environment; a child gets only what it needs of it. It is killed if a signal stops it
        meanwhile for `watchdog` seconds.
        """
        process, ours = await start_child(MODULE, environ)
        server = cls(process, ours, on_exit, on_lost)
        try:
            async with asyncio.timeout(_START_GRACE), killed_if_stopped(process.pid, watchdog, server.kill_all):
                await server._ready
        except BaseException:
            await server.close()
            raise
        return server

    @property
    def pid(self) -> int:
        """Its process id, which is also the process group of all workers."""
        return self._process.pid

    def pid_of(self, worker: Worker) -> int | None:
        """A worker's process id, while it is known to run."""
        return self._pids.get(worker.number)

    def fork(self, on_reply: Callable[[Worker, bytes], None], *, slow: bool = False) -> Worker:
        """A new worker, which may be sent a frame at once. `slow`: it runs at a lower priority."""
        ours, theirs = socket.socketpair()
        number = next(self._numbers)
        with theirs:
            self._order(FORK_SLOW if slow else FORK, number, theirs)
        return Worker(number, ours, on_reply)

    def kill(self, worker: Worker) -> None:
        """SIGKILL for a worker; `on_exit` reports its end as any other."""
        self._order(KILL, worker.number)

    def kill_all(self) -> None:
        """SIGKILL for the fork server and all workers; nothing happens if it has been reaped."""
        if self._process.returncode is None:  # afterwards the pid may be another process's
            kill_group(self.pid)

    async def close(self) -> None:
        """End it and all workers and wait for that; no callback is called any more."""
        self._loop.remove_reader(self._orders)
        self._orders.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _EXIT_GRACE)
        self.kill_all()
        await self._process.wait()

    def _order(self, order: bytes, number: int, connection: socket.socket | None = None) -> None:
        with suppress(OSError):  # it has ended, which is reported; or it hangs, which a timer notices
            socket.send_fds(self._orders, [ORDER.pack(order, number)], [connection.fileno()] if connection else [])

    def _read(self) -> None:
        try:
            data = self._orders.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._orders)
            if self._ready.done():
                self._on_lost(self)
            else:
                self._ready.set_exception(EngineError(DOES_NOT_START))
            return
        self._buffer += data
        while len(self._buffer) >= REPORT.size:
            what, number, value = REPORT.unpack_from(self._buffer)
            self._buffer = self._buffer[REPORT.size :]
            if what == STARTED:
                self._pids[number] = value
            elif what == ENDED:
                self._pids.pop(number, None)
                self._on_exit(number, value)
            else:
                self._ready.set_result(None)
